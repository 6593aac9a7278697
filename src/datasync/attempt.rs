//! An attempt: one try to let DataSync do the work, from the start of an execution to a verdict.
//!
//! ```text
//! an execution is already running -> attach to it                     otherwise -> start one
//! poll it (watch) until it ends or exceeds a limit
//! it has not ended -> cancel it, and wait for its end
//! it succeeded -> does that show that the destination matches? (proof)
//! ```
//!
//! The caller decides what follows from the verdict.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

mod cancel;
mod followed;
mod limits;
mod poll;
mod proof;
mod section;
mod start;
pub mod verdict;
mod watch;

use super::error::{ServiceError, ServiceErrorKind};
use super::{DataSync, Execution, ExecutionArn, Latest, OwnDeletes, Request, Status, StillRunning, Task};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use cancel::{Cancel, cancel};
pub(crate) use followed::Followed;
use followed::StartedBy;
pub(crate) use limits::StageLimits;
use poll::poll_until_verdict;
pub(crate) use proof::Unproven;
use proof::unproven;
pub use section::DataSyncSection;
use start::{NotStarted, attach_or_start};
use verdict::{AttemptVerdict, VerdictKind};

/// The result of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) verdict: AttemptVerdict,
    /// Why a success does not show that the destination matches; empty if it does.
    pub(crate) unproven: Vec<Unproven>,
    pub(crate) execution: Option<Followed>,
    /// The execution that may still be writing to the destination.
    pub(crate) still_running: Option<StillRunning>,
    took: Duration,
}

impl Attempt {
    /// An attempt that failed because DataSync did not describe the task.
    pub(crate) fn failed(error: &ServiceError) -> Self {
        // A task that does not exist has no execution; after any other error this is unknown.
        let may_run = error.kind != ServiceErrorKind::UnknownTask;
        let still_running = may_run.then(|| StillRunning::unseen(None, false));
        Self { still_running, ..Self::without_execution(AttemptVerdict::of_error(error)) }
    }

    /// An attempt that a stop request ended before it started an execution.
    pub(crate) fn stopped_before_start() -> Self {
        Self::without_execution(AttemptVerdict::stopped_before_start())
    }

    fn without_execution(verdict: AttemptVerdict) -> Self {
        Self { verdict, unproven: Vec::new(), execution: None, still_running: None, took: Duration::ZERO }
    }

    /// The execution whose end a poll confirmed.
    pub(crate) fn ended(&self) -> Option<&ExecutionArn> {
        self.execution.as_ref().filter(|followed| followed.has_ended()).map(|followed| &followed.arn)
    }

    /// The execution that a run asked DataSync to cancel, and whose end it did not see.
    pub(crate) fn cancelled(&self) -> Option<&ExecutionArn> {
        self.still_running.as_ref().filter(|running| running.cancelled)?.arn.as_ref()
    }

    /// When the first write of an execution of this attempt may have been, if there was one.
    pub(crate) fn may_have_written_since(&self) -> Option<SystemTime> {
        let started = SystemTime::now().checked_sub(self.took).unwrap_or(UNIX_EPOCH);
        let unseen = self.still_running.as_ref().map(|_| started);
        self.execution.as_ref().map(Followed::since).or(unseen)
    }

    /// Whether the execution succeeded and copied no file, because it found none or because the destination may already
    /// have them. `has_none`: whether the destination is known to have had no file of the source before.
    pub(crate) fn copied_no_file(&self, has_none: bool) -> bool {
        let last = self.execution.as_ref().and_then(|followed| followed.last.as_ref());
        self.verdict.kind == VerdictKind::Succeeded
            && last.is_some_and(|Execution { counted, .. }| {
                counted.listed_nothing() || has_none && counted.transferred_no_file()
            })
    }

    /// What the execution may have written that this run does not allow; `None` if that cannot be.
    pub(crate) fn unwanted_writes(&self) -> Option<String> {
        let unwanted = self.unproven.iter().filter(|reason| reason.is_unwanted_write());
        self.execution.as_ref().and_then(|followed| named(&followed.arn, unwanted))
    }

    /// Whether the execution may have deleted what no guard has seen.
    pub(crate) fn may_have_deleted(&self) -> bool {
        self.unproven.iter().any(|reason| reason.unguarded_deletes().is_some())
    }

    /// Whether the execution may have deleted although it was to delete nothing.
    pub(crate) fn ignored_override(&self) -> bool {
        self.unproven.iter().any(Unproven::is_ignored_override)
    }

    /// How many objects the execution deleted, that no guard has seen.
    pub(crate) fn deleted_without_guards(&self) -> u64 {
        self.unproven.iter().find_map(Unproven::unguarded_deletes).unwrap_or_default()
    }

    /// Why an execution may have deleted, or may still delete, what no guard has seen; `None` if that cannot be.
    /// `beyond`: why the guards would not have allowed what the execution deleted, if that is so.
    pub(crate) fn unguarded_deletes(&self, beyond: Option<&str>) -> Option<String> {
        let reason = self.unproven.iter().find(|reason| reason.unguarded_deletes().is_some());
        let arn = self.execution.as_ref().map(|followed| &followed.arn);
        let deleted = reason.zip(arn).zip(beyond).map(|((reason, arn), beyond)| {
            format!("execution {arn}: {reason}; {beyond}. Look for missing objects (bucket versions, CloudTrail)")
        });
        deleted.or_else(|| self.still_running.as_ref().and_then(StillRunning::unguarded_deletes))
    }
}

/// What an execution that is running now may write that a run with this request does not allow.
pub(crate) fn unwanted_writes(running: &Execution, request: &Request, task: &Task) -> Option<String> {
    named(&running.arn, proof::unwanted_writes(running, request, task, StartedBy::Another).iter())
}

fn named<'a>(arn: &ExecutionArn, reasons: impl Iterator<Item = &'a Unproven>) -> Option<String> {
    let reasons: Vec<String> = reasons.map(ToString::to_string).collect();
    (!reasons.is_empty()).then(|| format!("execution {arn}: {}", reasons.join("; ")))
}

/// Runs one attempt to its end.
pub(crate) async fn attempt(
    datasync: &DataSync,
    task: &Task,
    latest: &Latest,
    request: &Request,
    limits: StageLimits,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Attempt {
    let started = Instant::now();
    let mut followed = match attach_or_start(datasync, task, latest, request, limits, shutdown).await {
        Ok(followed) => followed,
        Err(NotStarted { verdict, still_running }) => {
            return Attempt { took: started.elapsed(), still_running, ..Attempt::without_execution(verdict) };
        }
    };
    if followed.is_attached() {
        if followed.started_by == StartedBy::Unknown {
            tracing::info!(execution = %followed.arn, "attached to an execution: a start of this run had no response, and may have started it");
        } else {
            tracing::info!(execution = %followed.arn, "attached to an execution that was already running");
        }
        if request.deletes == OwnDeletes::None && followed.may_delete() {
            tracing::warn!("this execution deletes objects itself, without the guards of this program");
        }
    } else {
        tracing::info!(execution = %followed.arn, "started an execution");
    }
    let mut verdict = poll_until_verdict(datasync, &mut followed, limits, shutdown, progress).await;
    if verdict.kind != VerdictKind::Interrupted && followed.was_cancelled_by_another() {
        verdict = AttemptVerdict::cancelled();
    } else if !followed.has_ended() && shutdown.is_requested() {
        verdict = AttemptVerdict::interrupted(&followed.arn);
    } else if !followed.has_ended() && verdict.is_blind() {
        verdict = verdict.without_cancel();
    } else if !followed.has_ended() && verdict.kind != VerdictKind::Interrupted {
        tracing::warn!("{}: cancelling the execution", verdict.logged_evidence());
        let cancel = cancel(datasync, &mut followed, limits, shutdown).await;
        // The execution may have ended before the cancel reached it.
        if let Some(last) = followed.last.as_ref()
            && (last.status == Status::Succeeded
                || last.is_partial() && !last.was_cancelled()
                || cancel == Cancel::Refused && last.was_cancelled())
        {
            verdict = AttemptVerdict::of_ended(last);
        } else if !followed.has_ended() && shutdown.is_requested() {
            verdict = AttemptVerdict::stopped_after_cancel(&followed.arn);
        } else if !followed.has_ended() {
            verdict = verdict.without_confirmed_end(limits.cancel);
        }
    }
    if verdict.kind == VerdictKind::Succeeded
        && followed.last.as_ref().is_some_and(|last| last.has_other_filters_than(&request.filters))
    {
        verdict = AttemptVerdict::other_filters();
    }
    let mut reasons = unproven(&followed, task, request);
    if verdict.kind != VerdictKind::Succeeded {
        // Nothing else took the execution for a success.
        reasons.retain(Unproven::is_violation);
    }
    let verdict = verdict.but(&reasons);
    let still_running = followed.still_running();
    Attempt { verdict, unproven: reasons, still_running, execution: Some(followed), took: started.elapsed() }
}
