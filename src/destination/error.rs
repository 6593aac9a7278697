//! A request that failed, and what that means for the request, the key and the run.

use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};

use super::idle_timeout::Stalled;
use super::operation::Operation;
use super::proof::IN_ITS_PLACE;

/// A request that failed, temporarily or permanently.
#[derive(Clone, Debug)]
pub(crate) struct S3Error {
    pub(crate) operation: Operation,
    pub(crate) kind: ErrorKind,
    /// S3's error code, if the response contains one: `SlowDown`, `NoSuchBucket`, …
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// S3's ID of the request: AWS support asks for it.
    pub(crate) request_id: Option<String>,
    /// The bucket's region, if the response names it.
    pub(crate) region: Option<String>,
}

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ErrorKind {
    /// S3 asks for fewer requests: 503 `SlowDown`, 429.
    Throttled,
    /// A retry may succeed: another 5xx, a timeout in S3, a broken response, content that S3 did not receive as sent.
    Transient,
    /// No connection, or no response.
    Unreachable,
    /// The request's own condition failed: another writer changed the object.
    Precondition,
    /// The object or upload does not exist.
    NotFound,
    /// The server does not support this request, or one of its headers.
    NotImplemented,
    /// The credentials do not allow the request.
    Denied,
    /// The bucket, the credentials or the settings are unusable: every other request would fail too.
    Unusable,
    /// S3 refuses the request for its content: a 400 that concerns this key.
    Refused,
    /// A shutdown was requested while the request waited.
    Interrupted,
}

impl ErrorKind {
    /// Whether a retry may succeed.
    pub(crate) const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient | Self::Unreachable)
    }

    /// Returns the kind's name in the report.
    pub(crate) const fn name(self) -> &'static str {
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

    /// Of a body that breaks off or stalls.
    pub(super) fn of_body(operation: Operation, error: &(dyn std::error::Error + 'static)) -> Self {
        match Stalled::cause_of(error) {
            Some(stalled) => Self::local(operation, ErrorKind::Unreachable, stalled.to_string()),
            None => Self::local(operation, ErrorKind::Transient, error.to_string()),
        }
    }

    pub(super) fn from_sdk<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let response = error.raw_response();
        let status = response.map(|response| response.status().as_u16());
        let region = response.and_then(|response| response.headers().get("x-amz-bucket-region")).map(str::to_owned);
        let code = error.code().map(str::to_owned);
        if let Some(stalled) = Stalled::cause_of(error) {
            return Self::local(operation, ErrorKind::Unreachable, stalled.to_string());
        }
        let kind = kind_of(error, code.as_deref(), status);
        let message = match (&code, error.message(), status) {
            (Some(code), Some(text), _) if text != code => format!("{code}: {text}"),
            (Some(code), _, _) => code.clone(),
            (None, _, Some(status)) if status >= 400 => format!("HTTP status {status}"),
            (None, _, Some(status)) if status >= 300 => format!("HTTP status {status}: {IN_ITS_PLACE}"),
            (None, _, Some(_)) => format!("cannot read the response as a response of S3 ({})", root_causes(error)),
            (None, _, None) => root_causes(error),
        };
        let request_id = error.request_id().or_else(|| error.extended_request_id()).map(str::to_owned);
        // Some causes of the SDK have several lines.
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
            Some(error) if !failure.is_user() && !is_permanent(&root_causes(error)) => ErrorKind::Unreachable,
            _ => ErrorKind::Unusable,
        },
        SdkError::ResponseError(_) | SdkError::ServiceError(_) | _ => {
            kind_of_response(code.unwrap_or_default(), status.unwrap_or_default())
        }
    }
}

/// Missing credentials, a missing region and an invalid endpoint look like a failed connection, but no retry can help.
fn is_permanent(causes: &str) -> bool {
    ["credential", "region must be set", "valid URI"].iter().any(|part| causes.contains(part))
}

fn kind_of_response(code: &str, status: u16) -> ErrorKind {
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
        // Their status blames the client, but a bad connection or a wrong clock causes each of them.
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
        // Below 400: an unreadable response, for example from a proxy, or a truncated one.
        408 | 409 | 500.. | ..=399 => ErrorKind::Transient,
        400..=499 => ErrorKind::Refused,
    }
}

/// Returns the inner messages of an error: the SDK's outer message only says that a dispatch failed.
fn root_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !messages.last().is_some_and(|last| last.contains(&text)) {
            messages.push(text);
        }
        next = error.source();
    }
    messages.iter().skip(usize::from(messages.len() > 1)).cloned().collect::<Vec<_>>().join(": ")
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
