//! Reading a file whole or in pieces, and looking at it again: what changed meanwhile is seen. Of a link its target's name
//! is read, and of a directory nothing.
//!
//! 1. A file may change while it is read. Size, times and inode before and after tell; on NFS a stat may be answered from
//!    a cache that is a minute old, so these go to the server (`AT_STATX_FORCE_SYNC`).
//! 2. The path may lead elsewhere by now: to a link out of the tree, to a FIFO whose opening waits for ever.
//! 3. A read on a hard mount whose server is away never returns and cannot be interrupted: it is waited for so long, and
//!    then left behind on its thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Source;
use super::entry::{EntryKind, FileEntry, Problem, Stat};
use super::operations::{LastLink, LinksOnTheWay, Operations};
use crate::key::RelativeKey;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It is gone, or something else is in its place.
    Vanished,
    /// It is not what it was: another size, time or inode.
    Changed,
    /// It could not be read.
    Problem(Problem),
}

/// A file, link or directory opened for reading, and what it was then.
#[derive(Clone, Debug)]
pub struct OpenFile {
    handle: Arc<Handle>,
    operations: Arc<Operations>,
    stat: Stat,
    key: RelativeKey,
    patience: SourcePatience,
}

/// What is held open.
#[derive(Debug)]
enum Handle {
    File(File),
    Directory(OwnedFd),
    /// A link cannot be opened: the directory it is in, its name there, and what it says.
    Link(OwnedFd, Box<[u8]>, Bytes),
}

/// How long a call on the source is waited for.
#[derive(Clone, Copy, Debug)]
pub struct SourcePatience {
    /// After this long a warning names the path, and again each time it passes.
    pub warn_after: Duration,
    /// After this long it is given up.
    pub timeout: Duration,
}

impl Source {
    /// Opens a file, link or directory that the walk found.
    ///
    /// # Errors
    /// [`ReadError::Vanished`] where there is nothing of its kind any more.
    pub async fn open_file(&self, key: &RelativeKey, entry: &FileEntry) -> Result<OpenFile, ReadError> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let (path, patience) = (path_of(key.as_str()).to_owned(), self.patience());
        let (kind, links) =
            (entry.stat.kind, if entry.through_link { LinksOnTheWay::Any } else { LinksOnTheWay::None });
        let (handle, stat) = blocking(patience, "open", key.as_str(), move || {
            let handle = Handle::open(&operations, root.fd(), &path, kind, links)?;
            let stat = handle.stat(&operations)?;
            Ok((handle, stat))
        })
        .await?;
        // A FIFO, a directory: something else has the name by now.
        if stat.kind != kind {
            return Err(ReadError::Vanished);
        }
        Ok(OpenFile {
            handle: Arc::new(handle),
            operations: Arc::clone(&self.operations),
            stat,
            key: key.clone(),
            patience,
        })
    }

    /// Looks at a path afresh.
    ///
    /// # Errors
    /// [`ReadError::Vanished`] where nothing is there any more.
    pub async fn look(&self, key: &RelativeKey, entry: &FileEntry) -> Result<Stat, ReadError> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let (path, through_link) = (path_of(key.as_str()).to_owned(), entry.through_link);
        blocking(self.patience(), "stat", key.as_str(), move || {
            let last = if through_link { LastLink::Follow } else { LastLink::Keep };
            operations.fresh_stat(root.fd(), path.as_bytes(), last)
        })
        .await
    }
}

impl OpenFile {
    /// What the file was when it was opened.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError::Changed`] where the file is shorter by now.
    pub async fn read(&self, offset: u64, length: usize) -> Result<Bytes, ReadError> {
        let file = match &*self.handle {
            Handle::File(_) => Arc::clone(&self.handle),
            Handle::Directory(_) => return Ok(Bytes::new()),
            Handle::Link(_, _, target) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(target.len());
                let end = start.saturating_add(length).min(target.len());
                return Ok(target.slice(start..end));
            }
        };
        let content = blocking(self.patience, "read", self.key.as_str(), move || {
            let mut content = vec![0; length];
            let Handle::File(file) = &*file else {
                return Ok(None);
            };
            match file.read_exact_at(&mut content, offset) {
                Ok(()) => Ok(Some(content)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        })
        .await?;
        content.map(Bytes::from).ok_or(ReadError::Changed)
    }

    /// Whether the open file is still what it was.
    ///
    /// # Errors
    /// [`ReadError::Changed`] where it is not.
    pub async fn check_unchanged(&self) -> Result<(), ReadError> {
        let (handle, operations) = (Arc::clone(&self.handle), Arc::clone(&self.operations));
        let now = blocking(self.patience, "stat", self.key.as_str(), move || handle.stat(&operations)).await?;
        if self.stat.is_same_content(&now) { Ok(()) } else { Err(ReadError::Changed) }
    }
}

impl Handle {
    fn open(
        operations: &Operations,
        root: BorrowedFd<'_>,
        path: &str,
        kind: EntryKind,
        links: LinksOnTheWay,
    ) -> Result<Self, Errno> {
        match kind {
            EntryKind::File | EntryKind::Special => {
                Ok(Self::File(operations.open_file(root, path.as_bytes(), links)?.into()))
            }
            EntryKind::Directory => Ok(Self::Directory(operations.open_directory(root, path.as_bytes(), links)?)),
            EntryKind::Symlink => {
                let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
                let parent = operations.open_directory(root, parent.as_bytes(), links)?;
                match operations.readlink(parent.as_fd(), name.as_bytes()) {
                    Ok(target) => Ok(Self::Link(parent, name.as_bytes().into(), target.into())),
                    // What is said of something that is no link any more.
                    Err(Errno::INVAL) => Err(Errno::NOENT),
                    Err(errno) => Err(errno),
                }
            }
        }
    }

    /// A fresh look at it.
    fn stat(&self, operations: &Operations) -> Result<Stat, Errno> {
        match self {
            Self::File(file) => operations.fresh_stat_of(file),
            Self::Directory(directory) => operations.fresh_stat_of(directory),
            Self::Link(parent, name, target) => {
                let stat = operations.fresh_stat(parent.as_fd(), name, LastLink::Keep)?;
                // Some file systems tell no size, or another one.
                Ok(Stat { size_bytes: u64::try_from(target.len()).unwrap_or(stat.size_bytes), ..stat })
            }
        }
    }
}

/// The path of a key, seen from the root: with a `/` at its end, a link there would be followed.
fn path_of(key: &str) -> &str {
    key.strip_suffix('/').unwrap_or(key)
}

impl Stat {
    /// Whether `other` shows the same file with the same content: inode, size and times. A link cannot be changed, only
    /// replaced, and not every file system tells its size.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        self.inode == other.inode
            && (self.size_bytes == other.size_bytes || self.kind == EntryKind::Symlink)
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }
}

/// Runs a call that may never return on a thread of its own, and waits for it so long.
pub(super) async fn blocking<T: Send + 'static>(
    patience: SourcePatience,
    operation: &'static str,
    path: &str,
    call: impl FnOnce() -> Result<T, Errno> + Send + 'static,
) -> Result<T, ReadError> {
    match wait_for(patience, operation, path, tokio::task::spawn_blocking(call)).await {
        Some(done) => done.map_err(|errno| ReadError::of(operation, errno)),
        None => Err(ReadError::Problem(Problem::timed_out(operation, patience.timeout))),
    }
}

/// Waits for a call on a thread, and says what it waits for; `None` when that has taken too long.
pub(super) async fn wait_for<T>(
    patience: SourcePatience,
    operation: &'static str,
    path: &str,
    mut task: JoinHandle<T>,
) -> Option<T> {
    let given_up = Instant::now() + patience.timeout;
    loop {
        let until = given_up.min(Instant::now() + patience.warn_after);
        match tokio::time::timeout_at(until, &mut task).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) if until == given_up => return None,
            Err(_) => tracing::warn!(path, operation, "the file system gives no answer; still waiting for it"),
        }
    }
}

impl ReadError {
    fn of(operation: &'static str, errno: Errno) -> Self {
        match errno {
            // A link where none was, or a path that leads through one now: not what the walk found.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::ISDIR => Self::Vanished,
            _ => Self::Problem(Problem::of(operation, errno)),
        }
    }
}
