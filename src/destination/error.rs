//! What S3 answered instead of what was asked for, and what that means for the request, the key and the run.

use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};

use super::operation::Operation;

/// A request that failed, for good or for now.
#[derive(Clone, Debug)]
pub struct S3Error {
    /// The request.
    pub operation: Operation,
    /// What it means.
    pub kind: ErrorKind,
    /// S3's error code, where it gave one: `SlowDown`, `NoSuchBucket`, …
    pub code: Option<String>,
    /// What happened, in words.
    pub message: String,
    /// S3's own name for the request: AWS support asks for it.
    pub request_id: Option<String>,
    /// The bucket's region, where S3 named it.
    pub region: Option<String>,
}

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// S3 asks for fewer requests: 503 `SlowDown`, 429.
    Throttled,
    /// May work another time: other 5xx, a time-out, a broken connection, what was not received as sent.
    Transient,
    /// No connection, or no answer.
    Unreachable,
    /// A condition of ours did not hold: somebody else wrote.
    Precondition,
    /// What was asked for is not there.
    NotFound,
    /// The server does not know this request or a header of it.
    NotImplemented,
    /// This caller may not do that.
    Denied,
    /// Concerns the bucket or the credentials: no other request will do better.
    Unusable,
    /// Refused for what it asks: a 400 about this key.
    Refused,
    /// The run was asked to stop while the request waited.
    Interrupted,
}

impl ErrorKind {
    /// Whether the same request may succeed if sent again.
    #[must_use]
    pub const fn is_worth_retrying(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient | Self::Unreachable)
    }

    /// The kind's name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Unreachable => "unreachable",
            Self::Precondition => "precondition_failed",
            Self::NotFound => "not_found",
            Self::NotImplemented => "not_implemented",
            Self::Denied => "denied",
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }
}

impl S3Error {
    pub(super) fn local(operation: Operation, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { operation, kind, code: None, message: message.into(), request_id: None, region: None }
    }

    pub(super) fn from_sdk<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let response = error.raw_response();
        let status = response.map(|response| response.status().as_u16());
        let region = response.and_then(|response| response.headers().get("x-amz-bucket-region")).map(str::to_owned);
        let code = error.code().map(str::to_owned);
        let kind = kind_of(error, code.as_deref(), status);
        let message = match (&code, error.message(), status) {
            (Some(code), Some(text), _) if text != code => format!("{code}: {text}"),
            (Some(code), _, _) => code.clone(),
            (None, _, Some(status)) if status >= 300 => format!("HTTP status {status}"),
            _ => root_causes(error),
        };
        let request_id = error.request_id().or_else(|| error.extended_request_id()).map(str::to_owned);
        // The SDK writes some causes on several lines.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { operation, kind, code, message, request_id, region }
    }
}

fn kind_of<E>(error: &SdkError<E, HttpResponse>, code: Option<&str>, status: Option<u16>) -> ErrorKind {
    match error {
        SdkError::ConstructionFailure(_) => ErrorKind::Unusable,
        SdkError::TimeoutError(_) => ErrorKind::Unreachable,
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => ErrorKind::Unreachable,
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if !failure.is_user() && !is_for_good(&root_causes(error)) => ErrorKind::Unreachable,
            _ => ErrorKind::Unusable,
        },
        SdkError::ResponseError(_) | SdkError::ServiceError(_) | _ => {
            kind_of_answer(code.unwrap_or_default(), status.unwrap_or_default())
        }
    }
}

/// Credentials that cannot be had, a region that is not set and an endpoint that is no URL look like a connection that
/// failed, and another try does not mend them.
fn is_for_good(causes: &str) -> bool {
    ["credential", "region must be set", "valid URI"].iter().any(|words| causes.contains(words))
}

fn kind_of_answer(code: &str, status: u16) -> ErrorKind {
    match code {
        "SlowDown" | "TooManyRequests" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            ErrorKind::Throttled
        }
        "NoSuchBucket"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "ExpiredToken"
        | "PermanentRedirect"
        | "AllAccessDisabled"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName" => ErrorKind::Unusable,
        "PreconditionFailed" => ErrorKind::Precondition,
        "NotImplemented" => ErrorKind::NotImplemented,
        // Declared as a client's mistake by its status, but each is what a bad connection or clock leaves.
        "RequestTimeout"
        | "BadDigest"
        | "IncompleteBody"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "RequestTimeTooSkewed"
        | "InternalError"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "InvalidPart" => ErrorKind::Transient,
        "NoSuchKey" | "NoSuchUpload" | "NotFound" => ErrorKind::NotFound,
        "AccessDenied" | "SignatureDoesNotMatch" => ErrorKind::Denied,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        301 => ErrorKind::Unusable,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        412 => ErrorKind::Precondition,
        429 | 503 => ErrorKind::Throttled,
        501 => ErrorKind::NotImplemented,
        // Below 400: an answer that cannot be read, a proxy's or one that was cut short.
        408 | 409 | 500.. | ..=399 => ErrorKind::Transient,
        400..=499 => ErrorKind::Refused,
    }
}

/// The innermost words of an error: the SDK's outer ones say only that a dispatch failed.
fn root_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    words.iter().skip(usize::from(words.len() > 1)).cloned().collect::<Vec<_>>().join(": ")
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation.name(), self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for S3Error {}
