//! The options of a walk.

use std::sync::Arc;
use std::time::Duration;

use crate::filter::Filter;
use crate::source::mount_points::MountPoints;
use crate::source::timeout::CallTimeout;
use crate::source::tree_range::TreeRange;

/// How to walk.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// Threads that call the file system in parallel; at least 1.
    pub walkers: usize,
    /// How many entries may be known before the walk emits them; one job of at most 64 names may come on top.
    pub look_ahead_entries: usize,
    /// How many entries the walk emits together.
    pub batch_entries: usize,
    /// After this long without a response, a part of the tree is unknown.
    pub source_timeout: Duration,
    /// Each time this much passes without a response, a warning names the path.
    pub warn_after: Duration,
    /// What to do about symbolic links.
    pub links: Links,
    /// The longest relative key, in bytes.
    pub max_key_bytes: usize,
    /// Which keys belong to the sync.
    pub filter: Arc<Filter>,
    /// The mount points inside the source.
    pub mount_points: Arc<MountPoints>,
    /// The part of the tree to walk.
    pub tree_range: Arc<TreeRange>,
    /// Whether to stat no file whose kind the directory shows.
    pub names_only: bool,
    /// Whether to skip names that DataSync reserves.
    pub skip_reserved: bool,
}

/// What to do about symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link is copied as its target.
    Follow,
    /// Links are skipped.
    Skip,
    /// A link is copied as a link.
    Keep,
}

impl WalkOptions {
    pub(in crate::source) const fn call_timeout(&self) -> CallTimeout {
        CallTimeout { warn_after: self.warn_after, timeout: self.source_timeout }
    }

    #[cfg(test)]
    pub(in crate::source) fn for_tests() -> Self {
        Self {
            walkers: 1,
            look_ahead_entries: 1,
            batch_entries: 1,
            source_timeout: Duration::from_mins(1),
            warn_after: Duration::from_mins(1),
            links: Links::Follow,
            max_key_bytes: 1024,
            filter: Arc::default(),
            mount_points: Arc::default(),
            tree_range: Arc::default(),
            names_only: false,
            skip_reserved: true,
        }
    }
}
