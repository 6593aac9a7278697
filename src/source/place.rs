//! A place: a path at which the walk found something, and which a later call may not find any more.
//!
//! One `ENOENT` does not prove that a name is gone: an automount whose server is down lists its directories and cannot open
//! them. So the run looks the name up once more, in its opened directory. If the name is there, the run repeats the call,
//! and the second error counts as what it is: the entry could not be read.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::entry::{EntryKind, Problem};
use super::operations::{AllowedLinks, LastLink, Operations};

/// A path relative to the root, and what the walk found there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Without a `/` at its end.
    path: Box<str>,
    kind: EntryKind,
    links: AllowedLinks,
}

/// Why a call on a place failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// A lookup showed that the name no longer exists, or is now of another kind.
    Gone,
    /// The directory lists the name as of another kind than each stat shows.
    OtherKind,
    /// The name is where it was, and the second call failed too as if it were not.
    NotFound(Errno),
    /// The call failed.
    Failed(Errno),
}

impl Place {
    pub(super) fn new(path: impl Into<Box<str>>, kind: EntryKind, links: AllowedLinks) -> Self {
        Self { path: path.into(), kind, links }
    }

    /// Makes a call on this place, and makes it once more if it fails as if the name were gone, and the name is not.
    pub(super) fn call<T>(
        &self,
        operations: &Operations,
        root: BorrowedFd<'_>,
        call: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, CallError> {
        let called = || call().map_err(|errno| self.error(operations, root, errno));
        match called() {
            Err(CallError::NotFound(_)) => called(),
            result => result,
        }
    }

    /// What an error of a call on this place shows, after another lookup if that is necessary.
    pub(super) fn error(&self, operations: &Operations, root: BorrowedFd<'_>, errno: Errno) -> CallError {
        if !is_absence(errno) {
            return CallError::Failed(errno);
        }
        match self.is_gone(operations, root) {
            Ok(true) => CallError::Gone,
            Ok(false) => CallError::NotFound(errno),
            Err(errno) => CallError::Failed(errno),
        }
    }

    /// Whether the name no longer exists, or is of another kind.
    fn is_gone(&self, operations: &Operations, root: BorrowedFd<'_>) -> Result<bool, Errno> {
        let (above, name) = self.path.rsplit_once('/').unwrap_or((".", &self.path));
        let (links_above, last) = match self.links {
            AllowedLinks::None => (AllowedLinks::None, LastLink::Keep),
            AllowedLinks::NotLast => (AllowedLinks::Any, LastLink::Keep),
            AllowedLinks::Any => (AllowedLinks::Any, LastLink::Follow),
        };
        // Opening the directory fetches its attributes from the server: an NFS client caches that a name is absent.
        let opened = match operations.open_directory(root, above.as_bytes(), links_above) {
            Err(errno) if is_absence(errno) && above != "." => {
                let is_gone = Self::new(above, EntryKind::Directory, links_above).is_gone(operations, root)?;
                return if is_gone { Ok(true) } else { Err(errno) };
            }
            opened => opened?,
        };
        match operations.fresh_stat(opened.as_fd(), name.as_bytes(), last) {
            Ok(stat) => Ok(stat.kind != self.kind),
            Err(errno) if is_absence(errno) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

/// Whether the error says that the path leads nowhere, or to something of another kind.
pub(super) const fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::ISDIR)
}

impl CallError {
    /// The problem, unless the name is gone.
    pub(super) fn problem(self, operation: &'static str) -> Option<Problem> {
        match self {
            Self::Gone => None,
            Self::OtherKind => Some(Problem::listed_as_another_kind(operation)),
            Self::NotFound(errno) => Some(Problem::listed_and_not_found(operation, errno)),
            Self::Failed(errno) => Some(Problem::of(operation, errno)),
        }
    }
}
