//! The verdict on an execution, and what it rests on.

use std::time::Duration;

use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{Execution, Status};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub kind: VerdictKind,
    /// What it rests on, for people.
    pub evidence: String,
    /// The error code of the service, where an error of a request is what it rests on.
    pub code: Option<String>,
    /// The words of the service.
    pub detail: Option<String>,
}

/// The kinds of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// All is done.
    Succeeded,
    /// It went to its end and left some files out or wrong.
    Partial,
    /// It failed.
    Failed,
    /// It was not started: the request was refused.
    Refused,
    /// These credentials may not.
    AccessDenied,
    /// There is no such task.
    UnknownTask,
    /// Too many requests, for too long.
    Throttled,
    /// The service has trouble.
    Unavailable,
    /// The service cannot be reached.
    Unreachable,
    /// It did not begin in time.
    QueuedTooLong,
    /// It did not get past comparing in time.
    PreparedTooLong,
    /// It stood still.
    Stalled,
    /// It took too long in all.
    TimedOut,
    /// The watching was ended; the execution goes on.
    Interrupted,
}

impl VerdictKind {
    /// The report's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::AccessDenied => "access_denied",
            Self::UnknownTask => "unknown_task",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
            Self::QueuedTooLong => "queued_too_long",
            Self::PreparedTooLong => "prepared_too_long",
            Self::Stalled => "stalled",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Verdict {
    fn new(kind: VerdictKind, evidence: String) -> Self {
        Self { kind, evidence, code: None, detail: None }
    }

    /// On an execution that has ended.
    #[must_use]
    pub(super) fn of_ended(execution: Option<&Execution>) -> Self {
        let Some(execution) = execution else {
            return Self::new(VerdictKind::Failed, "nothing was heard of the execution".to_owned());
        };
        let said = [execution.error_code.as_deref(), execution.error_detail.as_deref()];
        let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
        match execution.status {
            _ if execution.is_partial() => {
                let failed = execution.files_failed;
                let said = if said.is_empty() { format!("{failed} files failed") } else { said };
                Self::new(VerdictKind::Partial, format!("the execution ended with files left out or wrong: {said}"))
            }
            Status::Succeeded => {
                Self::new(VerdictKind::Succeeded, format!("the execution succeeded: {}", execution.line))
            }
            Status::Failed | Status::Waiting | Status::Preparing | Status::Moving | Status::UnderWay => {
                let said = if said.is_empty() { "no reason is told".to_owned() } else { said };
                Self::new(VerdictKind::Failed, format!("the execution failed: {said}"))
            }
        }
    }

    /// On a request that came to nothing.
    #[must_use]
    pub fn of_error(error: &ServiceError) -> Self {
        let (kind, what) = match error.kind {
            ServiceErrorKind::Denied => (VerdictKind::AccessDenied, "DataSync denies access"),
            ServiceErrorKind::Unknown => (VerdictKind::UnknownTask, "DataSync knows no such task"),
            ServiceErrorKind::Refused => (VerdictKind::Refused, "DataSync refuses"),
            ServiceErrorKind::Throttled => (VerdictKind::Throttled, "DataSync throttles"),
            ServiceErrorKind::Unavailable => (VerdictKind::Unavailable, "DataSync has trouble"),
            ServiceErrorKind::Unreachable => (VerdictKind::Unreachable, "DataSync cannot be reached"),
        };
        let (code, detail) = (error.code.clone(), Some(error.message.clone()));
        Self { kind, evidence: format!("{what}: {error}"), code, detail }
    }

    pub(super) fn of_other_files() -> Self {
        let evidence =
            "the execution that ran already succeeded with other filters than the task's: the rest is compared";
        Self::new(VerdictKind::Partial, evidence.to_owned())
    }

    pub(super) fn interrupted() -> Self {
        let evidence = "asked to stop while watching: the execution goes on, and the next run attaches to it";
        Self::new(VerdictKind::Interrupted, evidence.to_owned())
    }

    pub(super) fn queued_too_long(status: &str, time: Duration) -> Self {
        Self::new(VerdictKind::QueuedTooLong, format!("the execution is {status} for more than {}", shown(time)))
    }

    pub(super) fn prepared_too_long(time: Duration) -> Self {
        Self::new(VerdictKind::PreparedTooLong, format!("the execution is PREPARING for more than {}", shown(time)))
    }

    pub(super) fn stalled(status: &str, time: Duration) -> Self {
        Self::new(VerdictKind::Stalled, format!("stalled: no counter moved for {} while {status}", shown(time)))
    }

    pub(super) fn timed_out(status: &str, time: Duration) -> Self {
        Self::new(VerdictKind::TimedOut, format!("the execution is still {status} after {}", shown(time)))
    }
}

fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}
