//! An open file: read as a whole or in pieces, and statted again, so that the run notices each change. The content of a
//! link is its target's name; a directory has none.
//!
//! 1. A file may change during the read. Size, times and inode before and after show this. On NFS a stat may come from a
//!    cache that is a minute old, so these stats go to the server (`AT_STATX_FORCE_SYNC`).
//! 2. The path may lead elsewhere by now: to a link out of the tree, or to a FIFO whose open waits forever.
//! 3. The source itself may be replaced: its link turned, or another directory or file system put in its place. What was
//!    opened is no longer part of the source then.
//! 4. On NFS, another client may replace or remove the file that is open (`ESTALE`). The path leads to the new file.
//! 5. A read on a hard mount whose server is down never returns: `source/timeout`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, FileEntry, Problem, Stat};
use super::operations::{AllowedLinks, LastLink, Operations};
use super::place::{CallError, Place};
use super::root::Root;
use super::stale::looked_up;
use super::timeout::CallTimeout;
use crate::key::{RelativeKey, SourcePath};

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The path no longer exists, or is now of another kind.
    Vanished,
    /// The file has another size, time or inode now: open the path again.
    Changed,
    /// The file server no longer has the open file, because another client replaced or removed it: open the path again.
    Stale,
    /// The read failed.
    Problem(Problem),
}

/// A file, link or directory opened for reading, with its stat at that time.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    root: Arc<Root>,
    handle: Arc<Handle>,
    operations: Arc<Operations>,
    stat: Stat,
    key: RelativeKey,
    place: Place,
    timeout: CallTimeout,
}

#[derive(Debug)]
enum Handle {
    File(File),
    Directory(OwnedFd),
    /// A link cannot be opened: its directory, its name there, and its target.
    Link(OwnedFd, Box<[u8]>, Bytes),
}

impl Source {
    /// Opens a file, link or directory that the walk found.
    pub(crate) async fn open_file(&self, key: &RelativeKey, entry: &FileEntry) -> Result<OpenFile, ReadError> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let (path, timeout) = (SourcePath::of(key).ok_or(ReadError::Vanished)?, self.call_timeout());
        let (kind, links) = (entry.stat.kind, entry.allowed_links());
        let place = Place::new(path.without_slash(), kind, links);
        let opened_at = place.clone();
        let (handle, stat, is_in_place) = call(timeout, "open", key, move || {
            let (handle, stat) = opened_at.call(&operations, root.fd(), || {
                looked_up(|| {
                    let handle = Handle::open(&operations, root.fd(), path.without_slash(), kind, links)?;
                    let stat = handle.stat(&operations)?;
                    Ok((handle, stat))
                })
            })?;
            Ok((handle, stat, root.is_in_place(&operations)))
        })
        .await?;
        if !is_in_place {
            return Err(ReadError::Problem(Problem::source_replaced()));
        }
        // A FIFO or a directory has replaced it.
        if stat.kind != kind {
            return Err(ReadError::Vanished);
        }
        let operations = Arc::clone(&self.operations);
        let root = Arc::clone(&self.root);
        Ok(OpenFile { root, handle: Arc::new(handle), operations, stat, key: key.clone(), place, timeout })
    }

    /// Returns the size of the file to which a link leads that is copied as a link; `None` if it leads to no file.
    pub(crate) async fn size_behind(&self, link: &RelativeKey) -> Option<u64> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let path = SourcePath::of(link)?;
        let stat = call(self.call_timeout(), "stat", link, move || {
            let stat = operations.fresh_stat(root.fd(), path.without_slash().as_bytes(), LastLink::Follow);
            stat.map_err(CallError::Failed)
        });
        stat.await.ok().filter(|stat| stat.kind == EntryKind::File).map(|stat| stat.size_bytes)
    }

    /// Stats a path again, past all caches.
    pub(crate) async fn re_stat(&self, key: &RelativeKey, entry: &FileEntry) -> Result<Stat, ReadError> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let path = SourcePath::of(key).ok_or(ReadError::Vanished)?;
        let last = if entry.through_link { LastLink::Follow } else { LastLink::Keep };
        let place = Place::new(path.without_slash(), entry.stat.kind, entry.allowed_links());
        let (stat, is_in_place) = call(self.call_timeout(), "stat", key, move || {
            let stat = || operations.fresh_stat(root.fd(), path.without_slash().as_bytes(), last);
            let stat = place.call(&operations, root.fd(), stat)?;
            Ok((stat, root.is_in_place(&operations)))
        })
        .await?;
        if is_in_place { Ok(stat) } else { Err(ReadError::Problem(Problem::source_replaced())) }
    }
}

impl OpenFile {
    /// The stat at the time of the open.
    pub(crate) const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Waits for the last change of the file to settle; the stat is then a later one, which shows the same content.
    pub(crate) async fn settled_after(self, wait: Duration) -> Result<Self, ReadError> {
        tokio::time::sleep(wait).await;
        let stat = self.check_unchanged().await?;
        Ok(Self { stat, ..self })
    }

    /// Reads `length` bytes from `offset` on; [`ReadError::Changed`] if the file is shorter by now, [`ReadError::Stale`] if
    /// the file server no longer has it.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> Result<Bytes, ReadError> {
        let handle = match &*self.handle {
            Handle::File(_) => Arc::clone(&self.handle),
            Handle::Directory(_) => return Ok(Bytes::new()),
            Handle::Link(_, _, target) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(target.len());
                let end = start.saturating_add(length).min(target.len());
                return Ok(target.slice(start..end));
            }
        };
        let (root, operations, place) = (Arc::clone(&self.root), Arc::clone(&self.operations), self.place.clone());
        let content = call_on_handle(self.timeout, "read", &self.key, move || {
            let Handle::File(file) = &*handle else {
                return Ok(None);
            };
            place.call(&operations, root.fd(), || {
                let mut content = vec![0; length];
                match file.read_exact_at(&mut content, offset) {
                    Ok(()) => Ok(Some(content)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                }
            })
        })
        .await?;
        content.map(Bytes::from).ok_or(ReadError::Changed)
    }

    /// Stats the open file again, and returns that stat; [`ReadError::Changed`] if its content may have changed since the
    /// open, [`ReadError::Stale`] if the file server no longer has it.
    pub(crate) async fn check_unchanged(&self) -> Result<Stat, ReadError> {
        let (root, handle, operations) =
            (Arc::clone(&self.root), Arc::clone(&self.handle), Arc::clone(&self.operations));
        let place = self.place.clone();
        let stat = move || {
            let stat = place.call(&operations, root.fd(), || handle.stat(&operations))?;
            Ok((stat, root.is_in_place(&operations)))
        };
        let (now, is_in_place) = call_on_handle(self.timeout, "stat", &self.key, stat).await?;
        if !is_in_place {
            return Err(ReadError::Problem(Problem::source_replaced()));
        }
        if self.stat.is_same_content(&now) { Ok(now) } else { Err(ReadError::Changed) }
    }
}

impl Handle {
    fn open(
        operations: &Operations,
        root: BorrowedFd<'_>,
        path: &str,
        kind: EntryKind,
        links: AllowedLinks,
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
                    // The name is no longer a link.
                    Err(Errno::INVAL) => Err(Errno::NOENT),
                    Err(errno) => Err(errno),
                }
            }
        }
    }

    fn stat(&self, operations: &Operations) -> Result<Stat, Errno> {
        match self {
            Self::File(file) => operations.fresh_stat_of(file),
            Self::Directory(directory) => operations.fresh_stat_of(directory),
            Self::Link(parent, name, target) => {
                let stat = operations.fresh_stat(parent.as_fd(), name, LastLink::Keep)?;
                // Some file systems report no size, or another one.
                Ok(Stat { size_bytes: u64::try_from(target.len()).unwrap_or(stat.size_bytes), ..stat })
            }
        }
    }
}

/// Makes a call that looks up the path.
async fn call<T: Send + 'static>(
    timeout: CallTimeout,
    operation: &'static str,
    key: &RelativeKey,
    call: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, ReadError> {
    let done = timeout.run(operation, key.as_str(), call).await.map_err(ReadError::Problem)?;
    done.map_err(|error| error.problem(operation).map_or(ReadError::Vanished, ReadError::Problem))
}

/// Makes a call on an open file.
async fn call_on_handle<T: Send + 'static>(
    timeout: CallTimeout,
    operation: &'static str,
    key: &RelativeKey,
    on_handle: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, ReadError> {
    let done = call(timeout, operation, key, move || match on_handle() {
        Err(CallError::Failed(Errno::STALE)) => Ok(None),
        done => done.map(Some),
    });
    done.await?.ok_or(ReadError::Stale)
}

impl FileEntry {
    /// Which parts of its path may be links.
    const fn allowed_links(&self) -> AllowedLinks {
        if self.through_link { AllowedLinks::Any } else { AllowedLinks::None }
    }
}
