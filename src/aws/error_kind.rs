//! The kind of an error: what an error of an AWS service means, what it concerns, and whether a retry may help.
//!
//! `aws/classifier` finds the kind.

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ErrorKind {
    /// The service asks for fewer requests.
    Throttled,
    /// A retry may succeed: another 5xx, a timeout in the service, a broken response, content that did not arrive as sent.
    Transient,
    /// No connection, or no response.
    Unreachable,
    /// The credentials have expired. A retry may have new ones.
    Expired,
    /// The request's own condition failed: another writer changed the object.
    Precondition,
    /// The object, upload, task or execution does not exist.
    NotFound,
    /// The server does not support this request, or one of its headers.
    NotImplemented,
    /// The credentials do not allow the request.
    Denied,
    /// The service does not accept the credentials.
    Credentials,
    /// The bucket is unusable: every other request would fail too.
    Unusable,
    /// The settings allow no request.
    Settings,
    /// The service refuses the request for its content.
    Refused,
    /// The file changed while the request waited: what the request holds is sent no more.
    Outdated,
    /// A shutdown was requested while the request waited.
    Interrupted,
}

/// What an error concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// This moment: another attempt may succeed.
    Transient,
    /// This key, task or execution.
    Key,
    /// Possibly every key with the same prefix.
    Prefix,
    /// The whole bucket, or all requests to the service.
    Bucket,
    /// The settings of the run.
    Usage,
    /// Nothing: the run was asked to stop.
    Stop,
}

impl ErrorKind {
    /// What the error concerns. `of_all` is whether the request was about the bucket, not about a key.
    pub(crate) const fn concern(self, of_all: bool) -> Concern {
        match self {
            Self::Throttled | Self::Transient | Self::Unreachable | Self::Expired => Concern::Transient,
            Self::Precondition | Self::NotFound | Self::NotImplemented | Self::Refused | Self::Outdated => Concern::Key,
            Self::Denied if of_all => Concern::Bucket,
            Self::Denied => Concern::Prefix,
            Self::Credentials | Self::Unusable => Concern::Bucket,
            Self::Settings => Concern::Usage,
            Self::Interrupted => Concern::Stop,
        }
    }

    /// Whether a retry may succeed.
    pub(crate) const fn is_retryable(self) -> bool {
        matches!(self.concern(false), Concern::Transient)
    }

    /// Whether every other request would fail too. Expired credentials count once the run has given up.
    pub(crate) const fn ends_the_run(self) -> bool {
        matches!(self, Self::Expired) || matches!(self.concern(false), Concern::Bucket | Concern::Usage)
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
            Self::Expired | Self::Credentials | Self::Unusable | Self::Settings => "unusable",
            Self::Refused => "refused",
            Self::Outdated => "outdated",
            Self::Interrupted => "interrupted",
        }
    }
}
