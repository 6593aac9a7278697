//! A request that failed, and what that means for the request, the key and the run.

use std::time::Duration;
use std::{fmt, io};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::{RequestId, RequestIdExt};

use super::idle_timeout::Stalled;
use super::operation::Operation;
use super::proof::{BARE, IN_ITS_PLACE};
use crate::aws::Service;
use crate::aws::causes::causes;
pub(crate) use crate::aws::error_kind::{Concern, ErrorKind};
use crate::aws::error_response::{ErrorForm, ErrorResponse};
use crate::aws::service_message::service_message;

/// A request that failed, temporarily or permanently.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request")]
pub(crate) struct S3Error {
    pub(crate) operation: Operation,
    pub(crate) kind: ErrorKind,
    /// S3's error code, if the response contains one: `SlowDown`, `NoSuchBucket`, …
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// The HTTP status of the response, if there was one for this request alone.
    pub(crate) status: Option<u16>,
    /// S3's ID of the request: AWS support asks for it.
    pub(crate) request_id: Option<String>,
    /// The bucket's region, if the response names it.
    pub(crate) region: Option<Box<str>>,
    /// Whether something between this program and S3 has responded.
    pub(crate) is_foreign: bool,
    /// Whether that response has neither a body nor a request ID: the server may be one that sends such responses.
    pub(crate) is_bare: bool,
    /// Whether there was a connection to the server.
    pub(crate) is_connected: bool,
    /// Whether the run stopped waiting for a response, or for its rest.
    pub(crate) is_stalled: bool,
    /// Whether S3 may have carried out the request, or an earlier attempt of it.
    pub(crate) may_have_effect: bool,
    /// Why the run no longer retries a request that may succeed another time.
    pub(crate) given_up: Option<Box<GivenUp>>,
}

/// Why the run gives up a request that failed for a transient reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// No request of the operation has succeeded for this long.
    Outage(Duration),
    /// This request has failed for this long while others of the operation succeeded.
    Alone(Duration),
    /// S3 has refused it inside accepted requests for this long, as the delete of one of many keys.
    Inside(Duration),
    /// It was retried as often as the user allows.
    Retries(u32),
}

impl S3Error {
    pub(crate) fn local(operation: Operation, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            operation,
            kind,
            code: None,
            message: message.into(),
            status: None,
            request_id: None,
            region: None,
            is_foreign: false,
            is_bare: false,
            is_connected: true,
            is_stalled: false,
            may_have_effect: false,
            given_up: None,
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

    /// The error of a request that the run gives up unsent, because others of its operation fail with this error.
    pub(super) fn of_others(&self) -> Self {
        let Self { operation, kind, is_foreign, is_bare, is_connected, .. } = *self;
        let error = Self::local(operation, kind, format!("not sent, because other requests fail: {}", self.message));
        Self { code: self.code.clone(), status: self.status, is_foreign, is_bare, is_connected, ..error }
    }

    /// Whether the object at the key may be the one that this write sent, although the write failed: an earlier attempt
    /// may have had its effect without a response. A HEAD shows it.
    pub(super) fn may_be_own_write(&self) -> bool {
        self.kind == ErrorKind::Precondition || self.kind == ErrorKind::Outdated && self.may_have_effect
    }

    /// What happened, why the run retries it no more, and what to do.
    pub(crate) fn advice(&self) -> String {
        let (name, message) = (self.operation.name(), self.message.trim_end_matches('.'));
        let given_up = match self.given_up.as_deref() {
            Some(GivenUp::Outage(time)) => format!("{message}: S3 accepted no {name} for {}", shown(*time)),
            Some(GivenUp::Alone(time)) => format!("{message}: this request failed for {}", shown(*time)),
            Some(GivenUp::Inside(time)) => {
                format!("{message}: S3 accepted {name}, but not this key, for {}", shown(*time))
            }
            Some(GivenUp::Retries(retries)) => format!("{message}: --retries {retries} allows no other attempt"),
            None => message.to_owned(),
        };
        let is_of_key = self.code.as_deref().is_some_and(|code| code.starts_with("KMS."));
        if self.kind == ErrorKind::Precondition {
            "another writer changed this object during the run: kept the object, and the next run compares it again"
                .to_owned()
        } else if self.is_of_wrong_signature() {
            format!("{message}: {CHECK_THE_SECRET_KEY}")
        } else if self.is_denied_by_s3() {
            let permission = self.operation.permission();
            format!("{message}: allow {permission} in the role, the bucket policy and the policy of the KMS key")
        } else if self.kind == ErrorKind::Refused && is_of_key {
            format!("{message}: check that the KMS key exists, is enabled and is in the bucket's region")
        } else if self.is_of_wrong_clock() {
            format!("{given_up}: {CORRECT_THE_CLOCK}")
        } else if self.given_up.is_some() {
            format!("{given_up}, and the next run tries again")
        } else {
            given_up
        }
    }

    /// What S3 or the network does with requests like this one.
    pub(super) fn symptom(&self) -> String {
        let (name, message) = (self.operation.name(), self.message.trim_end_matches('.'));
        if self.is_bare {
            format!("nothing shows that S3 receives {name} ({message})")
        } else if self.is_foreign {
            format!("{name} does not get through to S3 ({message})")
        } else if self.is_of_wrong_clock() {
            format!("S3 refuses {name} ({message}; {CORRECT_THE_CLOCK})")
        } else if self.kind == ErrorKind::Throttled {
            format!("S3 refuses {name} ({message})")
        } else if self.kind == ErrorKind::Unreachable && !self.is_connected {
            format!("cannot reach S3 for {name} ({message})")
        } else if self.kind == ErrorKind::Unreachable {
            format!("S3 does not respond to {name} ({message})")
        } else {
            format!("S3 does not accept {name} ({message})")
        }
    }

    /// Whether S3 refuses the time that the request was signed at.
    pub(super) fn is_of_wrong_clock(&self) -> bool {
        self.code.as_deref() == Some("RequestTimeTooSkewed")
    }

    /// What the error concerns.
    pub(crate) fn concern(&self) -> Concern {
        self.kind.concern(self.operation == Operation::List)
    }

    /// Whether S3 itself denies the request, to the identity that has signed it.
    pub(crate) fn is_denied_by_s3(&self) -> bool {
        self.kind == ErrorKind::Denied && !self.is_foreign && !self.is_of_wrong_signature()
    }

    /// Whether the signature does not match what S3 received: no permission is missing.
    pub(super) fn is_of_wrong_signature(&self) -> bool {
        self.code.as_deref() == Some("SignatureDoesNotMatch")
    }

    /// How long no request of the operation has succeeded, if the run gave the request up for that.
    pub(crate) fn outage(&self) -> Option<Duration> {
        match self.given_up.as_deref() {
            Some(GivenUp::Outage(time)) => Some(*time),
            Some(GivenUp::Alone(_) | GivenUp::Inside(_) | GivenUp::Retries(_)) | None => None,
        }
    }

    /// The innermost cause of a request without a response.
    pub(super) fn last_cause(&self) -> &str {
        self.message.rsplit(": ").next().unwrap_or(&self.message)
    }

    /// Of one key of a request for many.
    pub(super) fn of_code(operation: Operation, code: &str, message: &str, request_id: Option<&str>) -> Self {
        let error = Self::local(
            operation,
            ErrorKind::of_response(Service::S3, &ErrorResponse::with_code(400, code, message)),
            format!("{code}: {}", service_message(message)),
        );
        let may_have_effect = !is_refusal(400, error.kind);
        Self { code: Some(code.to_owned()), request_id: request_id.map(str::to_owned), may_have_effect, ..error }
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
        let form = if operation == Operation::Head { ErrorForm::Headers } else { ErrorForm::Document };
        let response = ErrorResponse::of(form, error);
        let status = response.map(|response| response.status);
        let region = response.and_then(|response| response.region).map(Box::from);
        let code = response.map_or(error.code(), |response| response.code).map(str::to_owned);
        let is_foreign = response.is_some_and(|response| response.is_foreign());
        let is_bare = is_foreign && response.is_some_and(|response| response.is_bare);
        if let Some(stalled) = Stalled::cause_of(error) {
            return Self::stalled(operation, stalled);
        }
        let kind = ErrorKind::of(Service::S3, form, error);
        let message = match (&code, error.message().map(service_message), status) {
            (Some(code), Some(text), Some(status)) if text != *code => format!("{code} (HTTP {status}): {text}"),
            (Some(code), _, Some(status)) => format!("{code} (HTTP {status})"),
            (Some(code), _, None) => code.clone(),
            (None, _, Some(status)) if is_bare => format!("HTTP status {status}: {BARE}"),
            (None, _, Some(status)) if is_foreign => format!("HTTP status {status}: {IN_ITS_PLACE}"),
            (None, _, Some(status)) if status >= 300 => format!("HTTP status {status}"),
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
        let (is_stalled, given_up) = (false, None);
        Self {
            operation,
            kind,
            code,
            message,
            status,
            request_id,
            region,
            is_foreign,
            is_bare,
            is_connected,
            is_stalled,
            may_have_effect,
            given_up,
        }
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

/// What a wrong clock needs.
pub(super) const CORRECT_THE_CLOCK: &str = "the clock of this host differs too much from S3's: correct it";

/// What a wrong signature needs. A proxy may change what was signed.
pub(super) const CHECK_THE_SECRET_KEY: &str =
    "check AWS_SECRET_ACCESS_KEY or the secret key of the profile, and whether a proxy changes requests";

/// A time as messages show it.
pub(super) fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(if time < Duration::from_secs(1) {
        Duration::from_millis(time.subsec_millis().into())
    } else {
        Duration::from_secs(time.as_secs())
    })
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
    let messages = causes(error);
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
