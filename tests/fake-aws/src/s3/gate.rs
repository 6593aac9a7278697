//! A gate: holds requests until enough of them wait at the same time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Holds requests until `count` of them wait at the same time. From then on it lets every request pass.
#[derive(Debug)]
pub struct Gate {
    pub(super) count: usize,
    pub(super) limit: Duration,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    waiting: usize,
    open: bool,
}

impl Gate {
    pub(super) fn new(count: usize, limit: Duration) -> Self {
        Self { count, limit, progress: watch::Sender::default() }
    }

    /// Waits until the gate opens. Returns the highest number of requests that waited with this one as an error if that
    /// takes longer than the limit.
    pub(super) async fn pass(&self) -> Result<(), usize> {
        let mut most = 0;
        self.progress.send_modify(|progress| {
            progress.waiting += 1;
            progress.open |= progress.waiting >= self.count;
        });
        let mut progress = self.progress.subscribe();
        let opens = progress.wait_for(|progress| {
            most = most.max(progress.waiting);
            progress.open
        });
        let opened = timeout(self.limit, opens).await.is_ok();
        self.progress.send_modify(|progress| progress.waiting -= 1);
        if opened { Ok(()) } else { Err(most) }
    }
}
