//! Why DataSync did not do what it was asked: sorted by what to do about it.

use std::error::Error;
use std::fmt;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// An error of DataSync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// What kind of trouble.
    pub kind: ServiceErrorKind,
    /// The service's name for it.
    pub code: Option<String>,
    /// What it says.
    pub message: String,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceErrorKind {
    /// These credentials may not do that, or are none.
    Denied,
    /// There is no such task or execution.
    Unknown,
    /// The request is refused as it is.
    Refused,
    /// Too many requests, for longer than it was waited.
    Throttled,
    /// The service itself has trouble.
    Unavailable,
    /// No answer at all: no route, no name, no connection.
    Unreachable,
}

impl ServiceError {
    pub(super) fn nameless_execution() -> Self {
        let message = "the answer to StartTaskExecution names no execution".to_owned();
        Self { kind: ServiceErrorKind::Unavailable, code: None, message }
    }

    /// Nothing, where the question made no sense to the service: a location of another kind.
    pub(super) fn unless_refused<T>(self) -> Result<Option<T>, Self> {
        match self.kind {
            ServiceErrorKind::Refused | ServiceErrorKind::Unknown => Ok(None),
            ServiceErrorKind::Denied
            | ServiceErrorKind::Throttled
            | ServiceErrorKind::Unavailable
            | ServiceErrorKind::Unreachable => Err(self),
        }
    }
}

impl<E> From<SdkError<E, Response>> for ServiceError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, Response>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let message = match error.message() {
            Some(message) => message.to_owned(),
            None => root_cause(&error),
        };
        let kind = match (&error, code.as_deref(), status) {
            (SdkError::ServiceError(_), Some(code), Some(status)) => kind_of(code, status, &message),
            (_, _, Some(500..)) => ServiceErrorKind::Unavailable,
            _ if message.contains("credential") => ServiceErrorKind::Denied,
            _ => ServiceErrorKind::Unreachable,
        };
        Self { kind, code, message }
    }
}

fn kind_of(code: &str, status: u16, message: &str) -> ServiceErrorKind {
    match code {
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "OptInRequired" => ServiceErrorKind::Denied,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            ServiceErrorKind::Throttled
        }
        "ResourceNotFoundException" => ServiceErrorKind::Unknown,
        // DataSync has no error of its own for this.
        "InvalidRequestException" if message.contains("not found") || message.contains("does not exist") => {
            ServiceErrorKind::Unknown
        }
        _ if status >= 500 => ServiceErrorKind::Unavailable,
        _ => ServiceErrorKind::Refused,
    }
}

/// The innermost words: the SDK's outer ones say only that a dispatch failed.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for ServiceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_to_do_about_them() {
        for (code, status, message, kind) in [
            ("AccessDeniedException", 400, "not authorized", ServiceErrorKind::Denied),
            ("ExpiredTokenException", 400, "expired", ServiceErrorKind::Denied),
            ("ThrottlingException", 400, "Rate exceeded", ServiceErrorKind::Throttled),
            ("InternalException", 500, "oops", ServiceErrorKind::Unavailable),
            ("ServiceUnavailable", 503, "", ServiceErrorKind::Unavailable),
            ("InvalidRequestException", 400, "Task arn:… is not found.", ServiceErrorKind::Unknown),
            ("InvalidRequestException", 400, "Unable to queue the task execution", ServiceErrorKind::Refused),
        ] {
            assert_eq!(kind_of(code, status, message), kind, "{code} {message}");
        }
    }
}
