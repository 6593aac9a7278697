//! An error of a request to DataSync, with the class that the attempt decides by. `aws/classifier` gives its kind.

use std::error::Error;
use std::fmt;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::aws::NoCredentials;
use crate::aws::Service;
use crate::aws::causes::causes;
use crate::aws::error_kind::ErrorKind;
use crate::aws::error_response::ErrorForm;
use crate::aws::service_message::service_message;

/// An error of a request to DataSync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// The class of the error.
    pub kind: ServiceErrorKind,
    /// DataSync's error code, if there was a response.
    pub code: Option<String>,
    /// DataSync's error message, or the cause why there was no response.
    pub message: String,
}

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceErrorKind {
    /// The credentials do not allow the request.
    Denied,
    /// DataSync does not accept the credentials.
    Credentials,
    /// There are no valid credentials: no request was sent.
    NoCredentials,
    /// The task does not exist.
    UnknownTask,
    /// The execution does not exist.
    UnknownExecution,
    /// DataSync refuses the request: a retry cannot help.
    Refused,
    /// DataSync throttled every attempt.
    Throttled,
    /// DataSync responded with a server error.
    Unavailable,
    /// The settings allow no request, such as a certificate that is not trusted: nothing was sent.
    Settings,
    /// No response: no route, no DNS name, no connection.
    Unreachable,
    /// The run was asked to stop, and did not wait for the response.
    Stopped,
}

impl ServiceErrorKind {
    /// Whether a later attempt may succeed without a change of the settings.
    pub(super) const fn is_transient(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::Unreachable => true,
            Self::Denied
            | Self::Credentials
            | Self::NoCredentials
            | Self::UnknownTask
            | Self::UnknownExecution
            | Self::Refused
            | Self::Settings
            | Self::Stopped => false,
        }
    }

    /// Whether a start with this error started nothing, although an earlier try of the same request may have been lost.
    pub(super) const fn shows_that_nothing_started(self) -> bool {
        match self {
            Self::Denied
            | Self::Credentials
            | Self::NoCredentials
            | Self::UnknownTask
            | Self::UnknownExecution
            | Self::Settings => true,
            Self::Refused | Self::Throttled | Self::Unavailable | Self::Unreachable | Self::Stopped => false,
        }
    }
}

impl ServiceError {
    /// The run was asked to stop before DataSync responded.
    pub(super) fn stopped() -> Self {
        let message = "stop requested: did not wait for DataSync's response".to_owned();
        Self { kind: ServiceErrorKind::Stopped, code: None, message }
    }

    /// Whether the request failed for want of credentials that DataSync accepts.
    pub(crate) const fn is_of_credentials(&self) -> bool {
        matches!(self.kind, ServiceErrorKind::Credentials | ServiceErrorKind::NoCredentials)
    }

    /// There are no credentials for the request.
    #[expect(clippy::needless_pass_by_value, reason = "it is made from the error, as by `From`")]
    pub(super) fn without_credentials(error: NoCredentials) -> Self {
        Self { kind: ServiceErrorKind::NoCredentials, code: None, message: error.to_string() }
    }

    /// A response that lacks something that it must contain, or is about something else.
    pub(super) fn incomplete(operation: &str, what: &str) -> Self {
        let message = format!("the response to {operation} does not contain {what}");
        Self { kind: ServiceErrorKind::Unavailable, code: None, message }
    }

    /// Whether a start with this error may have started an execution: the response was lost, or a server failed while it
    /// worked. One that is unavailable (503) does not start to work.
    pub(super) fn may_have_started(&self) -> bool {
        match self.kind {
            ServiceErrorKind::Unreachable | ServiceErrorKind::Stopped => true,
            ServiceErrorKind::Unavailable => {
                !self.code.as_ref().is_some_and(|code| code.starts_with("ServiceUnavailable"))
            }
            ServiceErrorKind::Denied
            | ServiceErrorKind::Credentials
            | ServiceErrorKind::NoCredentials
            | ServiceErrorKind::UnknownTask
            | ServiceErrorKind::UnknownExecution
            | ServiceErrorKind::Refused
            | ServiceErrorKind::Throttled
            | ServiceErrorKind::Settings => false,
        }
    }

    /// Whether DataSync refused the request: it does so if a location is of another kind.
    pub(super) fn is_refused(&self) -> bool {
        self.kind == ServiceErrorKind::Refused
    }

    /// The same error of a request about an execution.
    pub(super) fn of_execution(self) -> Self {
        match self.kind {
            ServiceErrorKind::UnknownTask => Self { kind: ServiceErrorKind::UnknownExecution, ..self },
            ServiceErrorKind::Denied
            | ServiceErrorKind::Credentials
            | ServiceErrorKind::NoCredentials
            | ServiceErrorKind::UnknownExecution
            | ServiceErrorKind::Refused
            | ServiceErrorKind::Throttled
            | ServiceErrorKind::Unavailable
            | ServiceErrorKind::Unreachable
            | ServiceErrorKind::Settings
            | ServiceErrorKind::Stopped => self,
        }
    }
}

impl<E> From<SdkError<E, Response>> for ServiceError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, Response>) -> Self {
        let code = error.code().map(str::to_owned);
        let message = match error.message() {
            Some(message) => service_message(message),
            None => root_cause(&error),
        };
        let kind = ErrorKind::of(Service::DataSync, ErrorForm::Document, &error);
        let lacks_credentials = kind == ErrorKind::Settings && message.contains("credential");
        let kind = if lacks_credentials { ServiceErrorKind::NoCredentials } else { kind.into() };
        Self { kind, code, message }
    }
}

impl From<ErrorKind> for ServiceErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Expired | ErrorKind::Credentials => Self::Credentials,
            ErrorKind::NotFound => Self::UnknownTask,
            ErrorKind::Throttled => Self::Throttled,
            ErrorKind::Transient => Self::Unavailable,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Settings => Self::Settings,
            ErrorKind::Precondition
            | ErrorKind::NotImplemented
            | ErrorKind::Unusable
            | ErrorKind::Refused
            | ErrorKind::Outdated => Self::Refused,
            ErrorKind::Interrupted => Self::Stopped,
        }
    }
}

/// Returns the innermost message: the SDK's outer messages state only that a dispatch failed.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).pop().unwrap_or_else(|| "cannot read the response as a response of DataSync".to_owned())
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
    use crate::aws::error_response::ErrorResponse;

    #[test]
    fn a_request_that_the_settings_do_not_allow_was_not_sent() {
        let kind = ServiceErrorKind::from(ErrorKind::Settings);
        let error = ServiceError { kind, code: None, message: String::new() };
        assert!(!kind.is_transient() && kind.shows_that_nothing_started() && !error.may_have_started());
    }

    #[test]
    fn each_error_code_has_its_kind() {
        for (code, status, message, kind) in [
            ("AccessDeniedException", 400, "not authorized", ServiceErrorKind::Denied),
            ("ExpiredTokenException", 400, "expired", ServiceErrorKind::Credentials),
            ("ThrottlingException", 400, "Rate exceeded", ServiceErrorKind::Throttled),
            ("InternalException", 500, "oops", ServiceErrorKind::Unavailable),
            ("ServiceUnavailable", 503, "", ServiceErrorKind::Unavailable),
            ("InvalidRequestException", 400, "Task arn:… is not found.", ServiceErrorKind::UnknownTask),
            ("InvalidRequestException", 400, "Unable to queue the task execution", ServiceErrorKind::Refused),
        ] {
            let found = ErrorKind::of_response(Service::DataSync, &ErrorResponse::with_code(status, code, message));
            assert_eq!(ServiceErrorKind::from(found), kind, "{code} {message}");
        }
    }
}
