//! How many operations the run sent to the file system.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::source::operations::Operations;

/// The report's `source_operations`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct SourceOperations {
    readdir: u64,
    stat: u64,
    open: u64,
    readlink: u64,
}

impl SourceOperations {
    pub(super) fn read(operations: &Operations) -> Self {
        Self {
            readdir: operations.readdir.load(Ordering::Relaxed),
            stat: operations.stat.load(Ordering::Relaxed),
            open: operations.open.load(Ordering::Relaxed),
            readlink: operations.readlink.load(Ordering::Relaxed),
        }
    }

    /// Returns these and those of another run together, or `None` if a number is too large.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(Self {
            readdir: self.readdir.checked_add(other.readdir)?,
            stat: self.stat.checked_add(other.stat)?,
            open: self.open.checked_add(other.open)?,
            readlink: self.readlink.checked_add(other.readlink)?,
        })
    }

    pub(super) const fn total(self) -> u64 {
        self.readdir + self.stat + self.open + self.readlink
    }
}
