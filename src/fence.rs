//! Fence: whether this run may still write. It opens no longer than the run's lease is valid.
//!
//! The fence is apart from the lease, because `destination` checks it before each write, and the lease itself is stored
//! through `destination`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// Until when a run may write. Without a lease (the default) there is no limit. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    write_until: Arc<Mutex<Option<Instant>>>,
}

impl Fence {
    /// Allows writes before `until`, and none from then on.
    pub(crate) fn open_until(&self, until: Instant) {
        *self.write_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Whether this run may send a write now.
    pub(crate) fn may_write(&self) -> bool {
        let until = *self.write_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() < until)
    }
}
