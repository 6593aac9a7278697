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

    pub(super) const fn add(&mut self, other: Self) {
        self.readdir += other.readdir;
        self.stat += other.stat;
        self.open += other.open;
        self.readlink += other.readlink;
    }

    pub(super) const fn total(self) -> u64 {
        self.readdir + self.stat + self.open + self.readlink
    }
}
