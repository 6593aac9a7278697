//! The limit of what a run waits for its state after a stop request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::StateError;
use crate::shutdown::{STOP_GRACE, Shutdown};

/// How long all requests to the state together may take after a stop request. A scheduler kills a run that does not end.
const STATE_GRACE: Duration = STOP_GRACE.saturating_mul(2);

/// What is left of [`STATE_GRACE`].
#[derive(Debug)]
pub(super) struct StopLimit {
    shutdown: Shutdown,
    left: Mutex<Duration>,
}

impl StopLimit {
    pub(super) const fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, left: Mutex::new(STATE_GRACE) }
    }

    /// Waits for the end of a request; after a stop request only while time is left.
    pub(super) async fn wait<T>(&self, request: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
        let started = Instant::now();
        let result = tokio::select! {
            biased;
            result = request => result,
            () = self.used_up() => Err(StateError::Stopped),
        };
        if let Some(stopped_for) = self.shutdown.stopped_for() {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = left.saturating_sub(started.elapsed().min(stopped_for));
        }
        result
    }

    async fn used_up(&self) {
        self.shutdown.stop_requested().await;
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(left).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[tokio::test(start_paused = true)]
    async fn all_requests_after_a_stop_request_share_one_limit() {
        let shutdown = Shutdown::default();
        let limit = StopLimit::new(shutdown.clone());
        let takes = async |time| {
            let request = async {
                tokio::time::sleep(time).await;
                Ok(())
            };
            limit.wait(request).await
        };
        shutdown.wind_down();
        takes(10 * STATE_GRACE).await.unwrap();
        shutdown.request(ExitCode::Terminated);
        takes(STATE_GRACE / 2).await.unwrap();
        let started = Instant::now();
        for _ in 0..5 {
            assert!(matches!(takes(10 * STATE_GRACE).await, Err(StateError::Stopped)));
        }
        assert_eq!(started.elapsed(), STATE_GRACE / 2);
    }
}
