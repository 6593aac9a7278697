//! A request that failed, and what that means for the request, the key and the run.

use std::{fmt, io};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};

use super::idle_timeout::Stalled;
use super::operation::Operation;
use super::proof::IN_ITS_PLACE;
use crate::aws::error_kind::Service;
pub(crate) use crate::aws::error_kind::{Concern, ErrorKind};

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
    /// Whether there was a connection to the server.
    pub(crate) is_connected: bool,
    /// Whether the run stopped waiting for a response, or for its rest.
    pub(crate) is_stalled: bool,
    /// Whether S3 may have carried out the request, or an earlier attempt of it.
    pub(crate) may_have_effect: bool,
}

impl S3Error {
    pub(crate) fn local(operation: Operation, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            operation,
            kind,
            code: None,
            message: message.into(),
            request_id: None,
            region: None,
            is_connected: true,
            is_stalled: false,
            may_have_effect: false,
        }
    }

    /// The error of a request that was sent, and for which nothing shows that S3 refused it.
    pub(super) fn in_doubt(self) -> Self {
        Self { may_have_effect: true, ..self }
    }

    /// The error of a request that was not sent.
    pub(super) fn unsent(self) -> Self {
        Self { may_have_effect: false, ..self }
    }

    /// The error of a request that follows another one for the same key.
    pub(super) fn after(self, may_have_effect: bool) -> Self {
        Self { may_have_effect: self.may_have_effect || may_have_effect, ..self }
    }

    /// What the error concerns.
    pub(crate) fn concern(&self) -> Concern {
        self.kind.concern(self.operation == Operation::List)
    }

    /// Of one key of a request for many.
    pub(super) fn of_code(operation: Operation, code: &str, message: &str) -> Self {
        let error = Self::local(
            operation,
            ErrorKind::of_response(Service::S3, 400, code, message),
            format!("{code}: {message}"),
        );
        let may_have_effect = !is_refusal(400, error.kind);
        Self { code: Some(code.to_owned()), may_have_effect, ..error }
    }

    /// Of a request without a response, or of a response that stalls.
    pub(super) fn stalled(operation: Operation, stalled: Stalled) -> Self {
        Self { is_stalled: true, ..Self::local(operation, ErrorKind::Unreachable, stalled.to_string()).in_doubt() }
    }

    /// Of a body that breaks off or stalls.
    pub(super) fn of_body(operation: Operation, error: &(dyn std::error::Error + 'static)) -> Self {
        match Stalled::cause_of(error) {
            Some(stalled) => Self::stalled(operation, stalled),
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
            return Self::stalled(operation, stalled);
        }
        let kind = ErrorKind::of(Service::S3, error);
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
        let is_connected = response.is_some() || !cannot_connect(error);
        // A response without a code of S3 may be of something that has passed the request on.
        let is_refused = code.is_some() && status.is_some_and(|status| is_refusal(status, kind));
        let may_have_effect = is_connected && !is_refused && kind != ErrorKind::Settings;
        Self { operation, kind, code, message, request_id, region, is_connected, is_stalled: false, may_have_effect }
    }
}

/// Whether an error code of S3 shows that S3 did not carry out the request.
const fn is_refusal(status: u16, kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Transient | ErrorKind::Unreachable | ErrorKind::Interrupted => false,
        ErrorKind::Throttled | ErrorKind::NotImplemented => true,
        ErrorKind::Expired
        | ErrorKind::Precondition
        | ErrorKind::NotFound
        | ErrorKind::Denied
        | ErrorKind::Credentials
        | ErrorKind::Unusable
        | ErrorKind::Settings
        | ErrorKind::Refused
        | ErrorKind::Outdated => status >= 400 && status < 500,
    }
}

/// Whether the server has no address, or accepts no connection.
fn cannot_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    let refuses = |error: &(dyn std::error::Error + 'static)| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(
            kind,
            Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
        ) || error.to_string().contains("lookup address")
    };
    std::iter::successors(Some(error), |error| error.source()).any(refuses)
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
