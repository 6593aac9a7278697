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

mod proof;
mod section;
pub mod verdict;
mod watch;

use super::error::{ServiceError, ServiceErrorKind};
use super::execution::Compared;
use super::{
    DataSync, Execution, ExecutionArn, ExecutionOptions, Filters, Latest, OwnDeletes, Request, Status, StillRunning,
    Task,
};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
pub(crate) use proof::Unproven;
use proof::unproven;
pub use section::DataSyncSection;
use verdict::{AttemptVerdict, VerdictKind};
use watch::Watch;

/// The pause before the first poll of an execution. Each later pause is twice as long, up to the poll interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long each stage of an execution may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageLimits {
    /// Between two polls.
    pub(crate) poll_interval: Duration,
    /// QUEUED and LAUNCHING together.
    pub(crate) queue: Duration,
    /// PREPARING.
    pub(crate) prepare: Duration,
    /// Without a changed counter, or without a response.
    pub(crate) stall: Duration,
    /// In total.
    pub(crate) total: Duration,
    /// From the cancel to the end.
    pub(crate) cancel: Duration,
}

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

/// An execution that the attempt started or attached to.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Followed {
    arn: ExecutionArn,
    /// Whether the execution was already running.
    attached: bool,
    /// Whether the execution may delete, by what its start asked for; unknown of another client's.
    may_delete: Option<bool>,
    /// Whether this run started it with filters that differ from the task's.
    has_own_filters: bool,
    /// When this run asked for the execution, if it did.
    requested: Option<SystemTime>,
    /// When the execution started, as early as is known.
    since: Option<SystemTime>,
    /// The last response to a poll.
    last: Option<Execution>,
    /// Whether a poll showed CANCELLING before this run requested a cancel.
    cancelled_by_another: bool,
    /// Whether DataSync accepted this run's request to cancel it, or may have.
    cancelled: bool,
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

    /// What the execution may have written that this run does not allow; `None` if that cannot be.
    pub(crate) fn unwanted_writes(&self) -> Option<String> {
        let unwanted = self.unproven.iter().filter(|reason| reason.is_unwanted_write());
        self.execution.as_ref().and_then(|followed| named(&followed.arn, unwanted))
    }

    /// Whether the execution may have deleted what no guard has seen.
    pub(crate) fn may_have_deleted(&self) -> bool {
        self.unproven.iter().any(Unproven::is_unguarded_delete)
    }

    /// Whether the execution may have deleted although it was to delete nothing.
    pub(crate) fn ignored_override(&self) -> bool {
        self.unproven.iter().any(Unproven::is_ignored_override)
    }

    /// How many objects the execution deleted, that no guard has seen.
    pub(crate) fn deleted_without_guards(&self) -> u64 {
        let last = self.execution.as_ref().and_then(|followed| followed.last.as_ref());
        let deleted = last.filter(|_| self.may_have_deleted()).map_or(0, |last| last.counted.deleted());
        u64::try_from(deleted).unwrap_or_default()
    }

    /// Why an execution may have deleted, or may still delete, what no guard has seen; `None` if that cannot be.
    /// `beyond`: why the guards would not have allowed what the execution deleted, if that is so.
    pub(crate) fn unguarded_deletes(&self, beyond: Option<&str>) -> Option<String> {
        let reason = self.unproven.iter().find(|reason| reason.is_unguarded_delete());
        let arn = self.execution.as_ref().map(|followed| &followed.arn);
        let deleted = reason.zip(arn).zip(beyond).map(|((reason, arn), beyond)| {
            format!("execution {arn}: {reason}; {beyond}. Look for missing objects (bucket versions, CloudTrail)")
        });
        deleted.or_else(|| self.still_running.as_ref().and_then(StillRunning::unguarded_deletes))
    }
}

/// What an execution that is running now may write that a run with this request does not allow.
pub(crate) fn unwanted_writes(running: &Execution, request: &Request, task: &Task) -> Option<String> {
    named(&running.arn, proof::unwanted_writes(running, request, task, false).iter())
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
    if followed.attached {
        tracing::info!(execution = %followed.arn, "attached to an execution that was already running");
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
        tracing::warn!("DataSync: {}: cancelling the execution", verdict.evidence);
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

/// Why there is no execution to follow.
struct NotStarted {
    verdict: AttemptVerdict,
    /// The execution that may be running nevertheless.
    still_running: Option<StillRunning>,
}

async fn attach_or_start(
    datasync: &DataSync,
    task: &Task,
    latest: &Latest,
    request: &Request,
    limits: StageLimits,
    shutdown: &Shutdown,
) -> Result<Followed, NotStarted> {
    let not_started = |verdict, still_running| NotStarted { verdict, still_running };
    if shutdown.is_requested() {
        return Err(not_started(AttemptVerdict::stopped_before_start(), latest.still_running(task)));
    }
    if let Latest::CancelledByRun(ending) = latest {
        tracing::info!(execution = %ending.arn, "waiting for the end of an execution that an earlier run cancelled");
        let mut ending = Followed::attached(ending.clone());
        wait_for_end(datasync, &mut ending, limits, shutdown).await;
        if !ending.has_ended() {
            let verdict = if shutdown.is_requested() {
                AttemptVerdict::stopped_before_start()
            } else {
                AttemptVerdict::still_cancelling(limits.cancel)
            };
            return Err(not_started(verdict, latest.still_running(task)));
        }
    } else {
        match latest.clone().running() {
            Ok(Some(running)) => return Ok(Followed::attached(running)),
            Ok(None) => {}
            Err(error) => return Err(not_started(AttemptVerdict::of_error(&error), latest.still_running(task))),
        }
    }
    let since = Some(SystemTime::now());
    let may_delete = request.allows_deletes(task);
    let filters = request.other_filters(task);
    let error = match Box::pin(datasync.start_with(request.overrides(task).as_ref(), filters)).await {
        // The execution that had ended before the start.
        Ok(arn) if task.latest_execution.as_ref() == Some(&arn) => {
            ServiceError::incomplete("StartTaskExecution", "a new execution")
        }
        Ok(arn) => {
            let (may_delete, has_own_filters) = (Some(may_delete), filters.is_some());
            return Ok(Followed {
                arn,
                attached: false,
                may_delete,
                has_own_filters,
                requested: since,
                since,
                last: None,
                cancelled_by_another: false,
                cancelled: false,
            });
        }
        Err(error) => error,
    };
    let unseen = StillRunning::unseen(None, may_delete);
    if shutdown.is_requested() {
        return Err(if error.kind.shows_that_nothing_started() {
            not_started(AttemptVerdict::stopped_before_start(), None)
        } else {
            not_started(AttemptVerdict::stopped_during_start(), Some(unseen))
        });
    }
    // Another caller may have started an execution in the meantime, or the response to this start was lost.
    let found = match datasync.latest_execution().await {
        Ok(Some(new)) if task.latest_execution.as_ref() != Some(&new) => {
            match datasync.describe_execution(&new).await {
                Ok(new) => datasync.first_in_queue(new).await.map(Some),
                Err(error) => Err(error),
            }
        }
        Ok(latest) => datasync.writing_now(latest.as_ref()).await.running(),
        Err(error) => Err(error),
    };
    match found {
        Ok(Some(running)) => Ok(Followed::attached(running)),
        Ok(None) => {
            let unseen = error.may_have_started().then_some(unseen);
            Err(not_started(AttemptVerdict::of_error(&error), unseen))
        }
        Err(_) if shutdown.is_requested() => Err(not_started(AttemptVerdict::stopped_during_start(), Some(unseen))),
        Err(_) => Err(not_started(AttemptVerdict::of_error(&error), Some(unseen))),
    }
}

async fn poll_until_verdict(
    datasync: &DataSync,
    followed: &mut Followed,
    limits: StageLimits,
    shutdown: &Shutdown,
    progress: &Progress,
) -> AttemptVerdict {
    let mut watch = Watch::new(limits, Instant::now());
    let mut pause = FIRST_PAUSE.min(limits.poll_interval);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.requested() => return AttemptVerdict::interrupted(&followed.arn),
        }
        pause = pause.saturating_mul(2).min(limits.poll_interval);
        let polled = tokio::select! {
            polled = datasync.describe_execution(&followed.arn) => polled,
            () = shutdown.requested() => return AttemptVerdict::interrupted(&followed.arn),
        };
        let verdict = match polled {
            Ok(execution) => {
                progress.show(|| format!("DataSync: {}, {}", execution.status_name, execution.progress));
                let verdict = watch.polled(&execution, Instant::now());
                if execution.is_queued()
                    && !followed.attached
                    && followed.last.is_none()
                    && let Some(first) = ahead_of(datasync, &execution).await
                {
                    *followed = Followed::attached(first);
                    watch = Watch::new(limits, Instant::now());
                    continue;
                }
                followed.cancelled_by_another |= execution.status == Status::Cancelling;
                followed.saw(execution);
                verdict
            }
            Err(error) => {
                tracing::warn!(%error, "cannot poll the execution");
                watch.poll_failed(&error, Instant::now())
            }
        };
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
}

/// The execution that this run's own is queued behind, if there is one: another client started it first.
async fn ahead_of(datasync: &DataSync, own: &Execution) -> Option<Execution> {
    match datasync.first_in_queue(own.clone()).await {
        Ok(first) if first.arn == own.arn => None,
        Ok(first) => {
            tracing::warn!(execution = %first.arn, queued = %own.arn, "another execution is running first: following that one");
            Some(first)
        }
        Err(error) => {
            tracing::warn!(%error, "cannot list the executions: another one may be running first");
            None
        }
    }
}

/// DataSync's response to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    /// DataSync cancels the execution, or may do so: the response was lost.
    Accepted,
    /// DataSync does not cancel the execution.
    Refused,
}

/// Cancels the execution, and waits for its end.
async fn cancel(datasync: &DataSync, followed: &mut Followed, limits: StageLimits, shutdown: &Shutdown) -> Cancel {
    let response = match datasync.cancel(&followed.arn).await {
        Ok(()) => Cancel::Accepted,
        Err(error) => {
            tracing::warn!(%error, "cannot cancel the execution: waiting for its end");
            match error.kind {
                ServiceErrorKind::Unavailable | ServiceErrorKind::Unreachable | ServiceErrorKind::Stopped => {
                    Cancel::Accepted
                }
                ServiceErrorKind::Denied
                | ServiceErrorKind::Credentials
                | ServiceErrorKind::UnknownTask
                | ServiceErrorKind::UnknownExecution
                | ServiceErrorKind::Refused
                | ServiceErrorKind::Throttled => Cancel::Refused,
            }
        }
    };
    followed.cancelled = response == Cancel::Accepted;
    wait_for_end(datasync, followed, limits, shutdown).await;
    response
}

/// Waits for the end of an execution that is being cancelled.
async fn wait_for_end(datasync: &DataSync, followed: &mut Followed, limits: StageLimits, shutdown: &Shutdown) {
    let deadline = Instant::now() + limits.cancel;
    while Instant::now() < deadline && !shutdown.is_requested() {
        match datasync.describe_execution(&followed.arn).await {
            Ok(execution) => followed.saw(execution),
            // Waiting cannot change that, and it does not show how the execution ended.
            Err(error) if error.kind == ServiceErrorKind::UnknownExecution => break,
            Err(_) => {}
        }
        if followed.has_ended() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(FIRST_PAUSE.min(limits.poll_interval)) => {}
            () = shutdown.requested() => break,
        }
    }
}

impl Followed {
    /// An execution that was already running.
    fn attached(last: Execution) -> Self {
        Self {
            arn: last.arn.clone(),
            attached: true,
            may_delete: None,
            has_own_filters: false,
            requested: None,
            since: last.started,
            cancelled_by_another: last.status == Status::Cancelling,
            cancelled: false,
            last: Some(last),
        }
    }

    /// This execution, if its end is not confirmed.
    fn still_running(&self) -> Option<StillRunning> {
        let (arn, deletes, shown) = (Some(self.arn.clone()), self.may_delete(), self.last.clone().map(Box::new));
        (!self.has_ended()).then_some(StillRunning { arn, deletes, cancelled: self.cancelled, shown })
    }

    /// Whether another client cancelled the execution: a poll has shown that, whatever error code the end has.
    fn was_cancelled_by_another(&self) -> bool {
        self.cancelled_by_another && !self.last.as_ref().is_some_and(|last| last.status == Status::Succeeded)
    }

    /// When the execution started. If DataSync did not say, every object may be one that it wrote.
    pub(crate) fn since(&self) -> SystemTime {
        self.since.unwrap_or(UNIX_EPOCH)
    }

    /// The filters of the execution; none if they are unknown.
    pub(super) fn filters(&self, task: &Task) -> Filters {
        let shown = self.last.as_ref().map(|last| last.filters.clone()).filter(|shown| !shown.is_empty());
        let is_as_task = !self.attached && !self.has_own_filters;
        shown.unwrap_or_else(|| if is_as_task { task.settings.filters() } else { Filters::default() })
    }

    /// What the success of the execution shows.
    pub(super) fn compared(&self, task: &Task) -> Compared {
        let is_unseen = self.has_own_filters && self.last.as_ref().is_none_or(|last| last.filters.is_empty());
        let last = self.last.as_ref().filter(|_| !is_unseen);
        last.map_or(Compared::Nothing, |last| last.compared(task))
    }

    /// Since when objects may have wrong content.
    pub(super) fn content_suspect_since(&self) -> Option<SystemTime> {
        self.last.as_ref().and_then(Execution::content_suspect_since)
    }

    fn saw(&mut self, execution: Execution) {
        self.since = [self.since, execution.started].into_iter().flatten().min();
        self.last = Some(execution);
    }

    /// Whether the execution may delete: by its options as DataSync shows them, or else as its start asked for.
    fn may_delete(&self) -> bool {
        let options = self.last.as_ref().and_then(|last| last.options.as_ref());
        options.map(ExecutionOptions::delete).or(self.may_delete).unwrap_or(true)
    }

    fn has_ended(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.status.is_terminal())
    }
}
