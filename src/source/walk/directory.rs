//! A directory of the walk: its key, what it lends to all below it, and the directories it lies in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::Walk;
use super::budget::Hold;
use crate::source::entry::Stat;
use crate::source::operations::LinksOnTheWay;
use crate::time::EpochNanos;

/// More directories than this are not held open between their chunks; their entries are then looked up from the root.
const MOST_HELD_OPEN: usize = 128;

/// A directory, known but not necessarily read.
#[derive(Debug)]
pub(super) struct Directory {
    /// Ends in `/`, but for the root, where it is empty.
    pub(super) key: String,
    /// None for the root.
    parent: Option<Arc<Directory>>,
    inode: (u64, u64),
    /// The latest time at which it, or a directory or link above it, was put in its place.
    pub(super) lent: Option<EpochNanos>,
    /// Whether its path has a followed link in it.
    pub(super) through_link: bool,
    /// Whether its own name is a followed link.
    is_link: bool,
}

impl Directory {
    pub(super) fn root(stat: &Stat) -> Self {
        Self {
            key: String::new(),
            parent: None,
            inode: stat.inode,
            lent: moved_at(stat),
            through_link: false,
            is_link: false,
        }
    }

    /// The directory of `key` in `parent`; `way` is when the way there was laid, where a link stands for it.
    pub(super) fn below(parent: &Arc<Self>, key: String, stat: &Stat, way: Option<EpochNanos>) -> Self {
        Self {
            key,
            parent: Some(Arc::clone(parent)),
            inode: stat.inode,
            lent: parent.lent.max(moved_at(stat)).max(way),
            through_link: parent.through_link || way.is_some(),
            is_link: way.is_some(),
        }
    }

    /// Whether this is the directory of that inode, or lies in it.
    pub(super) fn lies_in(&self, inode: (u64, u64)) -> bool {
        std::iter::successors(Some(self), |directory| directory.parent.as_deref())
            .any(|directory| directory.inode == inode)
    }

    /// What it is called, seen from the root.
    pub(super) fn path(&self) -> &[u8] {
        let path = self.key.strip_suffix('/').unwrap_or(&self.key);
        if path.is_empty() { b"." } else { path.as_bytes() }
    }

    pub(super) fn open(&self, walk: &Walk) -> Result<OpenDirectory, Errno> {
        let links = match (self.through_link, self.is_link) {
            (_, true) => LinksOnTheWay::Any,
            (true, false) => LinksOnTheWay::NotLast,
            (false, false) => LinksOnTheWay::None,
        };
        let open = || walk.operations.open_directory(walk.root.fd(), self.path(), links);
        let fd = match open() {
            Err(Errno::STALE) => open()?,
            result => result?,
        };
        Ok(OpenDirectory { fd, _hold: Hold::new(&walk.directories_open, 1) })
    }
}

/// When a directory was itself moved, or given another mode or owner: a change of its content sets both its times.
pub(super) fn moved_at(stat: &Stat) -> Option<EpochNanos> {
    (stat.ctime > stat.mtime).then_some(stat.ctime)
}

/// A directory held open.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    fd: OwnedFd,
    _hold: Hold,
}

impl OpenDirectory {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Keeps it open for later, unless too many are.
    pub(super) fn kept(self, walk: &Walk) -> Option<Self> {
        (walk.directories_open.now() <= MOST_HELD_OPEN).then_some(self)
    }
}
