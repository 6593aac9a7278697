//! The start: attaches to the execution that is running, or starts one.

use std::time::SystemTime;

use tokio::time::Instant;

use super::cancel::wait_for_end;
use super::followed::{Followed, StartedBy};
use super::limits::StageLimits;
use super::verdict::AttemptVerdict;
use crate::datasync::error::ServiceError;
use crate::datasync::{DataSync, Execution, Latest, Request, StillRunning, Task};
use crate::shutdown::Shutdown;

/// Why there is no execution to follow.
pub(super) struct NotStarted {
    pub(super) verdict: AttemptVerdict,
    /// The execution that may be running nevertheless.
    pub(super) still_running: Option<StillRunning>,
}

/// Attaches to the execution of the task that is running, or starts one.
pub(super) async fn attach_or_start(
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
        let mut ending = Followed::attached(ending.clone(), StartedBy::Another);
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
            Ok(Some(running)) => return Ok(Followed::attached(running, StartedBy::Another)),
            Ok(None) => {}
            Err(error) => return Err(not_started(AttemptVerdict::of_error(&error), latest.still_running(task))),
        }
    }
    let since = Some(SystemTime::now());
    let may_delete = request.allows_deletes(task);
    let filters = request.other_filters(task);
    let mut may_have_started = false;
    let unseen = || StillRunning::unseen(None, may_delete);
    let (first, mut retries) = (Instant::now(), 0);
    loop {
        // Another run may have started an execution if this run's lease has expired.
        if !datasync.may_start().await {
            return Err(if may_have_started {
                not_started(AttemptVerdict::stopped_during_start(), Some(unseen()))
            } else {
                not_started(AttemptVerdict::stopped_before_start(), None)
            });
        }
        let error = match Box::pin(datasync.start_with(request.overrides(task).as_ref(), filters)).await {
            // The execution that had ended before the start.
            Ok(arn) if task.latest_execution.as_ref() == Some(&arn) => {
                ServiceError::incomplete("StartTaskExecution", "a new execution")
            }
            Ok(arn) => {
                let (may_delete, has_own_filters) = (Some(may_delete), filters.is_some());
                return Ok(Followed {
                    arn,
                    started_by: StartedBy::Run,
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
        let retry = datasync.retries(&error, first, retries).await;
        if shutdown.is_requested() {
            return Err(if !may_have_started && error.kind.shows_that_nothing_started() {
                not_started(AttemptVerdict::stopped_before_start(), None)
            } else {
                not_started(AttemptVerdict::stopped_during_start(), Some(unseen()))
            });
        }
        may_have_started |= error.may_have_started();
        if retry && !may_have_started {
            retries += 1;
            continue;
        }
        // Another caller may have started an execution in the meantime, or the response to a start was lost: another start
        // could start a second execution.
        match started_since(datasync, task).await {
            Ok(Some(running)) => {
                let is_new = task.latest_execution.as_ref() != Some(&running.arn);
                let by = if may_have_started && is_new { StartedBy::Unknown } else { StartedBy::Another };
                return Ok(Followed::attached(running, by));
            }
            Ok(None) if retry => retries += 1,
            Ok(None) => {
                return Err(not_started(AttemptVerdict::of_error(&error), may_have_started.then(unseen)));
            }
            Err(_) if shutdown.is_requested() => {
                return Err(not_started(AttemptVerdict::stopped_during_start(), Some(unseen())));
            }
            Err(_) => return Err(not_started(AttemptVerdict::of_error(&error), Some(unseen()))),
        }
    }
}

/// Returns the execution of the task that runs now, or that a start whose response was lost has started.
async fn started_since(datasync: &DataSync, task: &Task) -> Result<Option<Execution>, ServiceError> {
    match datasync.latest_execution().await? {
        Some(new) if task.latest_execution.as_ref() != Some(&new) => {
            let new = datasync.describe_execution(&new).await?;
            datasync.first_in_queue(new).await.map(Some)
        }
        latest => datasync.writing_now(latest.as_ref()).await.running(),
    }
}
