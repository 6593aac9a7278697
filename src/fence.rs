//! Fence: whether this run may write now. It is open only while the run's lease is valid.
//!
//! The fence is apart from the lease, because `destination` checks it before each write, and the lease itself is stored
//! through `destination`.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Until when a run may write. Without a lease (the default) there is no limit. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    permission: Arc<watch::Sender<Permission>>,
}

/// Whether the run may write.
#[derive(Clone, Copy, Debug, Default)]
enum Permission {
    #[default]
    Always,
    /// Before this time. Then the lease has expired, and the run waits until it has renewed it.
    Before(Instant),
    /// The lease is lost or released.
    Never,
}

impl Fence {
    /// Allows writes before `until`, and none from then on.
    pub(crate) fn open_until(&self, until: Instant) {
        self.permission.send_replace(Permission::Before(until));
    }

    /// Allows no more writes.
    pub(crate) fn close(&self) {
        self.permission.send_replace(Permission::Never);
    }

    /// Whether this run may send a write now.
    pub(crate) fn may_write(&self) -> bool {
        self.permission.borrow().allows_now()
    }

    /// Waits until this run may write. Returns `false` if it never may again.
    pub(crate) async fn opened(&self) -> bool {
        let mut permission = self.permission.subscribe();
        let decided =
            permission.wait_for(|permission| matches!(permission, Permission::Never) || permission.allows_now());
        decided.await.is_ok_and(|permission| permission.allows_now())
    }
}

impl Permission {
    fn allows_now(self) -> bool {
        match self {
            Self::Always => true,
            Self::Before(until) => Instant::now() < until,
            Self::Never => false,
        }
    }
}
