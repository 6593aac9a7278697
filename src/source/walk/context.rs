//! The context of a walk: what all its parts share.

use std::sync::Arc;

use super::gauge::Gauge;
use super::options::WalkOptions;
use super::stat_time::StatTime;
use crate::source::operations::Operations;
use crate::source::read_directories::ReadDirectories;
use crate::source::root::Root;

/// What all parts of one walk share.
#[derive(Debug)]
pub(super) struct WalkContext {
    pub(super) root: Arc<Root>,
    pub(super) options: WalkOptions,
    pub(super) operations: Arc<Operations>,
    /// Entries that are known or being statted, and not yet emitted.
    pub(super) entries_ahead: Arc<Gauge>,
    /// Names in directories that are not emitted to their end.
    pub(super) names_held: Arc<Gauge>,
    /// Directories held open for the stats of their entries.
    pub(super) directories_open: Arc<Gauge>,
    pub(super) stat_time: StatTime,
    /// Records the directories that the walk reads.
    pub(super) read: Option<Arc<ReadDirectories>>,
    /// Hides the kinds that directories show, as NFS often does.
    #[cfg(test)]
    pub(super) kinds_unknown: bool,
}

impl WalkContext {
    pub(super) fn new(root: Arc<Root>, options: WalkOptions, operations: Arc<Operations>) -> Self {
        Self {
            root,
            options,
            operations,
            entries_ahead: Arc::default(),
            names_held: Arc::default(),
            directories_open: Arc::default(),
            stat_time: StatTime::default(),
            read: None,
            #[cfg(test)]
            kinds_unknown: false,
        }
    }
}
