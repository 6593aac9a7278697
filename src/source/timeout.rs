//! The timeout of a call on the source: a read on a hard mount whose server is down never returns, and nothing can
//! interrupt it. The run stops waiting for such a call and leaves its thread behind.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::entry::Problem;

/// How long the run waits for a call on the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallTimeout {
    /// Each time this much passes, a warning names the path.
    pub(crate) warn_after: Duration,
    /// After this long the run stops waiting.
    pub(crate) timeout: Duration,
}

impl CallTimeout {
    /// Runs a call that may never return on a thread of its own.
    pub(super) async fn run<T: Send + 'static>(
        self,
        operation: &'static str,
        path: &str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let task = tokio::task::spawn_blocking(call);
        self.wait_for(operation, path, task).await.ok_or_else(|| Problem::timed_out(operation, self.timeout))
    }

    /// Waits for a call that runs on a thread; `None` after the timeout.
    pub(super) async fn wait_for<T>(self, operation: &'static str, path: &str, mut task: JoinHandle<T>) -> Option<T> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let until = deadline.min(Instant::now() + self.warn_after);
            match tokio::time::timeout_at(until, &mut task).await {
                Ok(Ok(done)) => return Some(done),
                Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                Err(_) if until == deadline => return None,
                Err(_) => tracing::warn!(path, operation, "the file system does not respond; still waiting"),
            }
        }
    }
}
