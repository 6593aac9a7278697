//! The mount points inside the source: places where another file system is mounted, now or in an earlier run.
//!
//! A file system that is not mounted leaves an empty directory, or none: all its files look deleted. A walk notices each
//! mount by the stats that it needs anyway. With a state, the next run knows them, and what lies at or below one that is
//! missing is [`Unknown::MissingMount`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryKind, Found, Stat, Unknown};

/// The most mount points that a run remembers: links to directories of another file system count too.
const MOST: usize = 10_000;

/// One mount point.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MountPoint {
    /// How many mounts lie between it and the directory above it: 1, or more on the path of a followed link.
    pub(crate) mounts: u32,
    /// Whether any part of its path is a followed link. A run that follows no links ignores such a mount point.
    pub(crate) through_link: bool,
    /// The length of the path of the first followed link, in bytes. Missing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_link: Option<usize>,
}

/// What the last part of a path is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LastPart {
    /// A file, link or directory on which nothing is mounted.
    Bare,
    /// A directory or file on which something is mounted.
    Mounted,
    /// A followed link that goes down into this many mounts.
    Followed(u32),
}

/// A path that a run went down.
#[derive(Clone, Copy, Debug)]
pub(super) struct DescendedPath {
    last: LastPart,
    through_link: bool,
    first_link: Option<usize>,
}

impl LastPart {
    /// What an entry of a directory on this device is, if it is not a followed link.
    pub(super) fn of(directory_device: u64, stat: &Stat) -> Self {
        if mounts_between(directory_device, stat) > 0 { Self::Mounted } else { Self::Bare }
    }

    /// Whether one of these mounts is missing. If something is mounted here, none is, wherever a link led before.
    const fn lacks(self, known: u32) -> bool {
        match self {
            Self::Bare => known > 0,
            Self::Mounted => false,
            Self::Followed(mounts) => known > mounts,
        }
    }

    const fn mounts(self) -> u32 {
        match self {
            Self::Bare => 0,
            Self::Mounted => 1,
            Self::Followed(mounts) => mounts,
        }
    }
}

impl DescendedPath {
    pub(super) const fn new(last: LastPart, first_link: Option<usize>) -> Self {
        Self { last, through_link: first_link.is_some(), first_link }
    }

    /// One of which only this is known: which part of it is a link is not.
    pub(super) const fn behind(last: LastPart, through_link: bool) -> Self {
        Self { last, through_link, first_link: None }
    }

    const fn mount_point(self) -> MountPoint {
        let Self { last, through_link, first_link } = self;
        MountPoint { mounts: last.mounts(), through_link, first_link }
    }
}

impl MountPoint {
    /// The path of the first followed link on the path of this mount point, if it is known.
    pub(super) fn first_link<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.first_link.and_then(|end| path.get(..end))
    }
}

/// Why a remembered mount point is not part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The followed link to it was removed.
    LinkRemoved,
    /// It is missing, and the run allows that.
    MissingAllowed,
}

/// Mount points by their paths relative to the source, without a `/` at the end.
pub(crate) type MountPointsByPath = BTreeMap<String, MountPoint>;

/// What a run knows about the mount points inside its source.
#[derive(Debug, Default)]
pub struct MountPoints {
    /// Whether the run forgets mounts that are missing at its start.
    pub(super) allow_missing: bool,
    /// Those of earlier runs that concern this run.
    pub(super) remembered: MountPointsByPath,
    /// Those among them whose path did not even exist at the start, in the order of their keys.
    pub(super) absent: Vec<String>,
    /// Those that were not part of the source at the start, if the run covers all that was below them.
    pub(super) gone: BTreeMap<String, Gone>,
    seen: RwLock<MountPointsByPath>,
}

impl MountPoints {
    pub(crate) fn new(allow_missing: bool) -> Self {
        Self { allow_missing, ..Self::default() }
    }

    /// With one mount point of an earlier run.
    pub(super) fn with(path: &str, remembered: MountPoint) -> Self {
        Self { remembered: BTreeMap::from([(path.to_owned(), remembered)]), ..Self::default() }
    }

    /// Notes what a path leads to. Returns whether a mount that was there in an earlier run, or earlier in this run, is
    /// missing.
    pub(super) fn is_missing(&self, path: &str, here: DescendedPath) -> bool {
        if here.last.lacks(self.known(path)) {
            return true;
        }
        let here = here.mount_point();
        if here.mounts > 0 {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            if seen.len() < MOST {
                seen.insert(path.to_owned(), here);
            }
        }
        false
    }

    /// How many mounts are known on the last part of this path.
    fn known(&self, path: &str) -> u32 {
        let remembered = self.remembered.get(path).map_or(0, |known| known.mounts);
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        remembered.max(seen.get(path).map_or(0, |seen| seen.mounts))
    }

    /// The known mount point that is the nearest at or above this path.
    pub(super) fn nearest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let above = path.rmatch_indices('/').filter_map(|(end, _)| path.get(..end));
        std::iter::once(path).chain(above).find(|path| self.known(path) > 0)
    }

    /// Entries that stand for the mount points that do not exist, in the order of their keys.
    pub(super) fn absent_entries(&self) -> impl DoubleEndedIterator<Item = Entry> {
        let found = || Found::Unknown(EntryKind::Directory, Unknown::MissingMount { hides_files: false });
        self.absent.iter().map(move |path| Entry::new(path.as_str(), found()))
    }

    /// What this run saw so far.
    pub(crate) fn found(&self) -> MountPointsByPath {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a run that deletes forgets if it ends without a guard.
    pub(crate) fn forgettable(&self) -> BTreeSet<String> {
        self.gone.keys().cloned().collect()
    }

    /// What is missing although the run allows it, in the order of the paths.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &str> {
        self.gone.iter().filter(|(_, why)| **why == Gone::MissingAllowed).map(|(path, _)| path.as_str())
    }
}

/// How many mounts lie between a directory and what is found in it: none or one. An automount that is not triggered yet
/// counts as mounted. On an overlay file system, only directories have the device of the mount.
pub(super) fn mounts_between(directory_device: u64, stat: &Stat) -> u32 {
    let is_other_device = stat.kind == EntryKind::Directory && stat.inode.0 != directory_device;
    u32::from(stat.is_mount_point || is_other_device)
}
