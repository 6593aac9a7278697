//! The verdict on an attempt, and its evidence.

use std::borrow::Cow;
use std::time::Duration;

use super::proof::Unproven;
use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{Execution, ExecutionArn, Status};

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptVerdict {
    pub(crate) kind: VerdictKind,
    /// Why, human-readable.
    pub(crate) evidence: String,
    /// The error of the failed request, if the verdict follows from one.
    pub(crate) error: Option<ServiceError>,
}

/// The kinds of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// The execution succeeded.
    Succeeded,
    /// The execution finished, but skipped some files or left them wrong.
    Partial,
    /// The execution failed.
    Failed,
    /// DataSync refused to start an execution.
    Refused,
    /// DataSync denied access.
    AccessDenied,
    /// DataSync does not know the task.
    UnknownTask,
    /// DataSync throttled the requests.
    Throttled,
    /// DataSync responds with server errors.
    Unavailable,
    /// No connection to DataSync.
    Unreachable,
    /// The execution was QUEUED or LAUNCHING for too long.
    QueuedTooLong,
    /// The execution was PREPARING for too long.
    PreparedTooLong,
    /// No counter changed for too long.
    Stalled,
    /// The execution took too long in total.
    TimedOut,
    /// Another client cancelled the execution.
    Cancelled,
    /// The run was asked to stop; the execution continues.
    Interrupted,
}

impl VerdictKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Refused,
        Self::AccessDenied,
        Self::UnknownTask,
        Self::Throttled,
        Self::Unavailable,
        Self::Unreachable,
        Self::QueuedTooLong,
        Self::PreparedTooLong,
        Self::Stalled,
        Self::TimedOut,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The name in the report.
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
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

impl AttemptVerdict {
    /// Returns the evidence as the log shows it, with DataSync as its subject.
    pub(crate) fn logged_evidence(&self) -> Cow<'_, str> {
        let evidence = &self.evidence;
        if evidence.starts_with("DataSync ") { evidence.into() } else { format!("DataSync: {evidence}").into() }
    }

    fn new(kind: VerdictKind, evidence: String) -> Self {
        Self { kind, evidence, error: None }
    }

    /// The verdict on an execution that has ended, and that this run did not cancel.
    pub(super) fn of_ended(execution: &Execution) -> Self {
        let reasons = [execution.error_code.as_deref(), execution.error_detail.as_deref()];
        let reason = reasons.into_iter().flatten().collect::<Vec<_>>().join(": ");
        let reason_or = |default: String| if reason.is_empty() { default } else { reason };
        if execution.was_cancelled() {
            Self::cancelled()
        } else if execution.is_partial() {
            let phases = &execution.failed_phases;
            let of_phases = || format!("the status of {} is ERROR", phases.join(" and "));
            let reason = reason_or(execution.counted.failed().unwrap_or_else(of_phases));
            let evidence = format!("the execution finished with skipped or mismatched files: {reason}");
            Self::new(VerdictKind::Partial, evidence)
        } else if execution.status == Status::Succeeded {
            Self::new(VerdictKind::Succeeded, format!("the execution succeeded: {}", execution.progress))
        } else {
            let reason = reason_or("DataSync gave no reason".to_owned());
            Self::new(VerdictKind::Failed, format!("the execution failed: {reason}"))
        }
    }

    /// The verdict after a request that failed.
    pub(crate) fn of_error(error: &ServiceError) -> Self {
        let (kind, what) = match error.kind {
            ServiceErrorKind::NoCredentials => {
                let evidence = format!("{error}: cannot send requests to DataSync");
                return Self { kind: VerdictKind::AccessDenied, evidence, error: Some(error.clone()) };
            }
            ServiceErrorKind::Denied => (VerdictKind::AccessDenied, "DataSync denied access"),
            ServiceErrorKind::Credentials => {
                (VerdictKind::AccessDenied, "DataSync does not accept the credentials: renew or correct them")
            }
            ServiceErrorKind::UnknownTask => (VerdictKind::UnknownTask, "DataSync has no such task"),
            ServiceErrorKind::UnknownExecution => (VerdictKind::UnknownTask, "DataSync has no such execution"),
            ServiceErrorKind::Refused => (VerdictKind::Refused, "DataSync refused the request"),
            ServiceErrorKind::Throttled => (VerdictKind::Throttled, "DataSync throttled the requests"),
            ServiceErrorKind::Unavailable => (VerdictKind::Unavailable, "DataSync is unavailable"),
            ServiceErrorKind::Unreachable | ServiceErrorKind::Settings => {
                (VerdictKind::Unreachable, "cannot reach DataSync")
            }
            ServiceErrorKind::Stopped => (VerdictKind::Interrupted, "the run did not wait for DataSync"),
        };
        Self { kind, evidence: format!("{what}: {error}"), error: Some(error.clone()) }
    }

    /// The verdict on a success of an execution whose filters are not those of this run.
    pub(super) fn other_filters() -> Self {
        let evidence = "the execution succeeded, but its filters differ from those of this run";
        Self::new(VerdictKind::Partial, evidence.to_owned())
    }

    /// The verdict on an execution that another client cancelled.
    pub(super) fn cancelled() -> Self {
        let evidence = "another client cancelled the execution: this run syncs nothing. The next run starts a new execution; \
                        stop the schedule to prevent that, or pass --policy direct-only to sync without DataSync";
        Self::new(VerdictKind::Cancelled, evidence.to_owned())
    }

    pub(super) fn interrupted(arn: &ExecutionArn) -> Self {
        let evidence = "stop requested while the execution was running: it continues, and the next run attaches to it";
        Self::new(VerdictKind::Interrupted, format!("{evidence}: {arn}"))
    }

    pub(super) fn stopped_before_start() -> Self {
        Self::new(VerdictKind::Interrupted, "stop requested before an execution was started: started none".to_owned())
    }

    pub(super) fn stopped_during_start() -> Self {
        let evidence = "stop requested before DataSync confirmed the start of an execution: one may have started. If it is \
                        running, the next run attaches to it";
        Self::new(VerdictKind::Interrupted, evidence.to_owned())
    }

    pub(super) fn stopped_after_cancel(arn: &ExecutionArn) -> Self {
        let evidence = "stop requested after the run asked DataSync to cancel the execution: it may still be running";
        Self::new(VerdictKind::Interrupted, format!("{evidence}: {arn}"))
    }

    /// The same verdict, with the reasons why it does not show that the destination matches.
    pub(super) fn but(self, reasons: &[Unproven]) -> Self {
        let evidence = reasons.iter().fold(self.evidence, |evidence, reason| format!("{evidence}; {reason}"));
        Self { evidence, ..self }
    }

    /// The same verdict, on an execution whose end DataSync did not confirm within this time after the cancel.
    pub(super) fn without_confirmed_end(self, limit: Duration) -> Self {
        let evidence = format!(
            "{}; DataSync did not confirm the end of the execution (--cancel-timeout {}), which may still be running",
            self.evidence,
            shown(limit)
        );
        Self { evidence, ..self }
    }

    /// Whether the run knows nothing of the execution because it has no valid credentials: it may be healthy.
    pub(super) fn is_blind(&self) -> bool {
        self.error.as_ref().is_some_and(ServiceError::is_of_credentials)
    }

    /// The same verdict, on an execution that the run cannot see and did not cancel.
    pub(super) fn without_cancel(self) -> Self {
        let evidence = format!("{}; the run did not cancel the execution, which may still be running", self.evidence);
        Self { evidence, ..self }
    }

    /// The verdict on an execution that an earlier run cancelled.
    pub(super) fn still_cancelling(limit: Duration) -> Self {
        let evidence = format!(
            "an earlier run cancelled the execution, and DataSync did not confirm its end within {} (--cancel-timeout): \
             it may still be running",
            shown(limit)
        );
        Self::new(VerdictKind::TimedOut, evidence)
    }

    pub(super) fn queued_too_long(status: &str, limit: Duration) -> Self {
        Self::new(VerdictKind::QueuedTooLong, format!("the execution was {status} for {}", shown(limit)))
    }

    pub(super) fn prepared_too_long(limit: Duration) -> Self {
        Self::new(VerdictKind::PreparedTooLong, format!("the execution was PREPARING for {}", shown(limit)))
    }

    pub(super) fn stalled(status: &str, limit: Duration) -> Self {
        let evidence = format!("no counter changed for {} while the execution was {status}", shown(limit));
        Self::new(VerdictKind::Stalled, evidence)
    }

    pub(super) fn timed_out(status: &str, limit: Duration) -> Self {
        Self::new(VerdictKind::TimedOut, format!("the execution was still {status} after {}", shown(limit)))
    }
}

fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}
