//! The polls of an execution, until it ends or exceeds a limit.

use std::time::Duration;

use tokio::time::Instant;

use super::followed::{Followed, StartedBy};
use super::limits::StageLimits;
use super::verdict::AttemptVerdict;
use super::watch::Watch;
use crate::datasync::{DataSync, Execution, Status};
use crate::progress::Progress;
use crate::shutdown::Shutdown;

/// The pause before the first poll of an execution. Each later pause is twice as long, up to the poll interval.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Polls the execution until it ends or exceeds a limit.
pub(super) async fn poll_until_verdict(
    datasync: &DataSync,
    followed: &mut Followed,
    limits: StageLimits,
    shutdown: &Shutdown,
    progress: &Progress,
) -> AttemptVerdict {
    let datasync = &datasync.briefly();
    let mut watch = Watch::new(limits, Instant::now());
    let mut pause = FIRST_PAUSE.min(limits.poll_interval);
    let mut is_failing = false;
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
                is_failing = false;
                progress.show(|| format!("DataSync: {}, {}", execution.status_name, execution.progress));
                let verdict = watch.polled(&execution, Instant::now());
                if execution.is_queued()
                    && !followed.is_attached()
                    && followed.last.is_none()
                    && let Some(first) = ahead_of(datasync, &execution).await
                {
                    *followed = Followed::attached(first, StartedBy::Another);
                    watch = Watch::new(limits, Instant::now());
                    continue;
                }
                followed.cancelled_by_another |= execution.status == Status::Cancelling;
                followed.saw(execution);
                verdict
            }
            Err(error) => {
                let verdict = watch.poll_failed(&error, Instant::now());
                if verdict.is_none() && !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(
                        %error,
                        "cannot poll the execution: polling again until --stall-timeout or --timeout"
                    );
                }
                verdict
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
