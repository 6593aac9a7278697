//! A directory of the walk: its key, the ctime that all below it inherit, and its parents.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::context::WalkContext;
use super::gauge::Hold;
use super::link_path::Target;
use crate::open_files::Shares;
use crate::source::entry::{EntryKind, Stat};
use crate::source::later_reads::{LaterReads, names_of};
use crate::source::names::KindHint;
use crate::source::operations::{AllowedLinks, LastLink};
use crate::source::place::{CallError, Place};
use crate::time::EpochNanos;

/// Room for some names.
const BUFFER_BYTES: usize = 4096;

/// A directory, known but not necessarily read.
#[derive(Debug)]
pub(super) struct Directory {
    /// Ends in `/`; empty for the root.
    pub(super) key: String,
    /// None for the root.
    parent: Option<Arc<Directory>>,
    /// From before it was read.
    pub(super) stat: Stat,
    /// The latest time at which it, or a directory or followed link on its path, was put in its place.
    pub(super) inherited_ctime: Option<EpochNanos>,
    /// How many links the system follows on its path.
    pub(super) links: usize,
    /// The length of the path of the first followed link on its path, in bytes.
    first_link: Option<usize>,
    /// Whether its own name is a followed link.
    is_link: bool,
    later_reads: LaterReads,
}

impl Directory {
    /// The root; `inherited` is what it inherits from its own path.
    pub(super) fn root(stat: &Stat, inherited: Option<EpochNanos>) -> Self {
        Self {
            key: String::new(),
            parent: None,
            stat: *stat,
            inherited_ctime: stat.moved_at().max(inherited),
            links: 0,
            first_link: None,
            is_link: false,
            later_reads: LaterReads::default(),
        }
    }

    /// The directory of `key` in `parent`; if its name is a followed link, with what the link leads to.
    pub(super) fn below(parent: &Arc<Self>, key: String, stat: &Stat, target: Option<&Target>) -> Self {
        let link_path_ctime = target.map(|target| target.link_path_ctime);
        let own_link = target.map(|_| key.trim_end_matches('/').len());
        Self {
            key,
            parent: Some(Arc::clone(parent)),
            stat: *stat,
            inherited_ctime: parent.inherited_ctime.max(stat.moved_at()).max(link_path_ctime),
            links: target.map_or(parent.links, |target| target.links),
            first_link: parent.first_link.or(own_link),
            is_link: target.is_some(),
            later_reads: LaterReads::default(),
        }
    }

    /// Whether any part of its path is a followed link.
    pub(super) const fn through_link(&self) -> bool {
        self.links > 0
    }

    /// The length of the path of the first followed link on its path, in bytes.
    pub(super) const fn first_link(&self) -> Option<usize> {
        self.first_link
    }

    /// The device that it lies on.
    pub(super) const fn device(&self) -> u64 {
        self.stat.inode.0
    }

    /// Whether this directory or one of its parents has that inode.
    pub(super) fn lies_in(&self, inode: (u64, u64)) -> bool {
        std::iter::successors(Some(self), |directory| directory.parent.as_deref())
            .any(|directory| directory.stat.inode == inode)
    }

    /// The path relative to the root.
    pub(super) fn path(&self) -> &[u8] {
        let path = self.key.strip_suffix('/').unwrap_or(&self.key);
        if path.is_empty() { b"." } else { path.as_bytes() }
    }

    /// Whether it can be read and has no names.
    pub(super) fn is_empty(&self, walk: &WalkContext) -> bool {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut is_empty = true;
        let read = self.open(walk).and_then(|open| {
            walk.operations.read_names(open.fd(), buffer.spare_capacity_mut(), true, |_, _| is_empty = false)
        });
        read.is_ok() && is_empty
    }

    fn allowed_links(&self) -> AllowedLinks {
        match (self.through_link(), self.is_link) {
            (_, true) => AllowedLinks::Any,
            (true, false) => AllowedLinks::NotLast,
            (false, false) => AllowedLinks::None,
        }
    }

    /// What an error of a call on it shows, after another lookup. The root is never gone: a source that cannot be seen is
    /// not empty.
    pub(super) fn error(&self, walk: &WalkContext, errno: Errno) -> CallError {
        let (Some(path), Some(parent)) = (self.key.strip_suffix('/'), &self.parent) else {
            return CallError::Failed(errno);
        };
        let place = Place::new(path, EntryKind::Directory, self.allowed_links());
        match place.error(&walk.operations, walk.root.fd(), errno) {
            // What a link leads to is not listed under its name.
            CallError::Gone if !self.is_link => {
                let name = path.rsplit_once('/').map_or(path, |(_, name)| name).as_bytes();
                match parent.settle(walk, name, KindHint::Directory, Err(errno)) {
                    Ok(_) => CallError::NotFound(errno),
                    Err(error) => error,
                }
            }
            error @ (CallError::Gone | CallError::OtherKind | CallError::NotFound(_) | CallError::Failed(_)) => error,
        }
    }

    /// Settles what one of its names is whose stat did not find it, or found another kind than the directory listed.
    pub(super) fn settle(
        &self,
        walk: &WalkContext,
        name: &[u8],
        listed: KindHint,
        first: Result<Stat, Errno>,
    ) -> Result<Stat, CallError> {
        let path = [self.key.as_bytes(), name].concat();
        let stat = || walk.operations.fresh_stat(walk.root.fd(), &path, LastLink::Keep);
        let read = || {
            let names = self.open(walk).and_then(|open| names_of(&walk.operations, open.fd()));
            names.map_err(|errno| self.error(walk, errno))
        };
        self.later_reads.settle(name, listed, first, stat, read)
    }

    pub(super) fn open(&self, walk: &WalkContext) -> Result<OpenDirectory, Errno> {
        let fd = walk.operations.open_directory(walk.root.fd(), self.path(), self.allowed_links())?;
        Ok(OpenDirectory { fd, _hold: Hold::new(&walk.directories_open, 1) })
    }
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

    /// Keeps the directory open, unless too many are: then its entries are statted relative to the root.
    pub(super) fn kept(self, walk: &WalkContext) -> Option<Self> {
        (walk.directories_open.now() <= Shares::of_process().directories).then_some(self)
    }
}
