//! The cancel of an execution, and the wait for its end.

use tokio::time::Instant;

use super::followed::Followed;
use super::limits::StageLimits;
use super::poll::FIRST_PAUSE;
use crate::datasync::DataSync;
use crate::datasync::error::ServiceErrorKind;
use crate::shutdown::Shutdown;

/// DataSync's response to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// DataSync cancels the execution, or may do so: the response was lost.
    Accepted,
    /// DataSync does not cancel the execution.
    Refused,
}

/// Cancels the execution, and waits for its end.
pub(super) async fn cancel(
    datasync: &DataSync,
    followed: &mut Followed,
    limits: StageLimits,
    shutdown: &Shutdown,
) -> Cancel {
    let response = match datasync.briefly().cancel(&followed.arn).await {
        Ok(()) => Cancel::Accepted,
        Err(error) => {
            tracing::warn!(%error, "cannot cancel the execution: waiting for its end");
            match error.kind {
                ServiceErrorKind::Unavailable | ServiceErrorKind::Unreachable | ServiceErrorKind::Stopped => {
                    Cancel::Accepted
                }
                ServiceErrorKind::Denied
                | ServiceErrorKind::Credentials
                | ServiceErrorKind::NoCredentials
                | ServiceErrorKind::UnknownTask
                | ServiceErrorKind::UnknownExecution
                | ServiceErrorKind::Refused
                | ServiceErrorKind::Settings
                | ServiceErrorKind::Throttled => Cancel::Refused,
            }
        }
    };
    followed.cancelled = response == Cancel::Accepted;
    wait_for_end(datasync, followed, limits, shutdown).await;
    response
}

/// Waits for the end of an execution that is being cancelled.
pub(super) async fn wait_for_end(
    datasync: &DataSync,
    followed: &mut Followed,
    limits: StageLimits,
    shutdown: &Shutdown,
) {
    let datasync = datasync.briefly();
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
