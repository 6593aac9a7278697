//! The start: attaches to the execution that is running, or starts one.

use std::time::SystemTime;

use super::cancel::wait_for_end;
use super::followed::Followed;
use super::limits::StageLimits;
use super::verdict::AttemptVerdict;
use crate::datasync::error::ServiceError;
use crate::datasync::{DataSync, Latest, Request, StillRunning, Task};
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
