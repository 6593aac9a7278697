//! Sizes: those of files that no object can hold, because an orphan of the same size may be their old name.
//!
//! A name that is not UTF-8 or a path that is too long cannot be a key, so the walk does not read such a directory. Only if
//! there are orphans, the run learns the sizes in it: below it, it follows no link to a directory, and stops at the first
//! size that it cannot learn. All sizes count then.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use tokio::sync::mpsc;
use walkdir::{DirEntry, WalkDir};

use super::Source;
use super::entry::{EntryKind, Problem, Stat};
use super::operations::{LastLink, Operations};
use super::root::Root;
use super::walk::Links;
use crate::time::EpochNanos;

/// More distinct sizes than this count as all sizes.
const MOST_SIZES: usize = 100_000;
/// Paths of more bytes than this together count as a size that cannot be learned.
const MOST_PLACE_BYTES: usize = 4 << 20;
/// Entries that wait for the receiver.
const AHEAD: usize = 1_000;
/// The names that one `getdents64` returns, and what each takes besides its bytes.
const BUFFER_BYTES: usize = 32 << 10;
const NAME_BYTES: usize = 24;

/// Some sizes, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    These(BTreeSet<u64>),
    /// All of them, for this reason.
    All(String),
}

impl Default for Sizes {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Sizes {
    pub(crate) fn add(&mut self, size: u64) {
        if let Self::These(sizes) = self {
            sizes.insert(size);
            if sizes.len() > MOST_SIZES {
                self.all("there are too many different sizes");
            }
        }
    }

    pub(crate) fn all(&mut self, why: impl Into<String>) {
        *self = Self::All(why.into());
    }

    pub(crate) fn has(&self, size: u64) -> bool {
        match self {
            Self::These(sizes) => sizes.contains(&size),
            Self::All(_) => true,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::These(sizes) if sizes.is_empty())
    }
}

/// Places of the source whose sizes are to be learned: paths relative to the root, which need not be UTF-8.
#[derive(Debug, Default)]
pub(crate) struct Places {
    paths: Vec<Box<[u8]>>,
    bytes: usize,
    has_more: bool,
}

impl Places {
    pub(crate) fn add(&mut self, path: &[u8]) {
        self.bytes += path.len();
        if self.bytes > MOST_PLACE_BYTES {
            self.has_more = true;
        } else {
            self.paths.push(path.strip_suffix(b"/").unwrap_or(path).into());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.has_more
    }
}

/// What the scan found at one entry: the size of the object that would hold it, if one would, and its mtime.
type Scanned = Result<Option<(u64, EpochNanos)>, String>;

impl Source {
    /// Adds the sizes of all files in these places. Returns the latest mtime of a file among them.
    pub(crate) async fn learn_sizes(&self, places: Places, sizes: &mut Sizes) -> Option<EpochNanos> {
        let mut latest = None;
        if places.has_more {
            sizes.all("too many names cannot be keys");
            return latest;
        }
        let (sender, mut scanned) = mpsc::channel(AHEAD);
        let scan = Scan {
            root: Arc::clone(&self.root),
            operations: Arc::clone(&self.operations),
            links: self.walk.links,
            sender,
        };
        // A call that never returns leaves its thread behind; a scan whose receiver is dropped ends.
        drop(tokio::task::spawn_blocking(move || scan.places(&places.paths)));
        let timeout = self.call_timeout().timeout;
        while let Sizes::These(_) = sizes {
            match tokio::time::timeout(timeout, scanned.recv()).await {
                Ok(Some(Ok(Some((size, mtime))))) => {
                    sizes.add(size);
                    latest = latest.max(Some(mtime));
                }
                Ok(Some(Ok(None))) => {}
                Ok(Some(Err(why))) => sizes.all(why),
                Ok(None) => return latest,
                Err(_) => sizes.all(Problem::timed_out("stat", timeout).message),
            }
        }
        latest
    }
}

struct Scan {
    root: Arc<Root>,
    operations: Arc<Operations>,
    links: Links,
    sender: mpsc::Sender<Scanned>,
}

/// The scan ends: the receiver needs no more.
struct Enough;

impl Scan {
    fn places(&self, paths: &[Box<[u8]>]) {
        for path in paths {
            if self.place(path).is_err() {
                return;
            }
        }
    }

    fn place(&self, path: &[u8]) -> Result<(), Enough> {
        match self.operations.fresh_stat(self.root.fd(), path, LastLink::Keep) {
            Err(errno) => self.send(Err(cannot_see(path, &errno.into()))),
            Ok(stat) if stat.kind == EntryKind::Directory || self.leads_to_a_directory(path, &stat) => {
                self.subtree(path)
            }
            Ok(stat) => self.send(self.size_of(path, stat.kind, || Ok((stat.size_bytes, stat.mtime)))),
        }
    }

    /// Whether the place itself is a followed link to a directory.
    fn leads_to_a_directory(&self, path: &[u8], stat: &Stat) -> bool {
        let target = || self.operations.fresh_stat(self.root.fd(), path, LastLink::Follow);
        stat.kind == EntryKind::Symlink
            && self.links == Links::Follow
            && target().is_ok_and(|target| target.kind == EntryKind::Directory)
    }

    fn subtree(&self, path: &[u8]) -> Result<(), Enough> {
        let base = self.base();
        let top = base.join(OsStr::from_bytes(path));
        let mut name_bytes = 0;
        for entry in WalkDir::new(top).follow_links(false) {
            let scanned = match entry {
                Ok(entry) => {
                    self.count_reads(&entry, &mut name_bytes);
                    // The top is a directory, or a link to one.
                    if entry.depth() == 0 { Ok(None) } else { self.entry(&base, &entry) }
                }
                Err(error) => Err(cannot_see(path, &error.into())),
            };
            self.send(scanned)?;
        }
        Ok(())
    }

    /// The root by its open directory: its path may lead elsewhere by now.
    fn base(&self) -> PathBuf {
        let open = PathBuf::from(format!("/proc/self/fd/{}", self.root.fd().as_raw_fd()));
        if open.exists() { open } else { self.root.path().to_owned() }
    }

    /// Counts the calls of the library, which opens and reads each directory.
    fn count_reads(&self, entry: &DirEntry, name_bytes: &mut usize) {
        let Operations { open, readdir, .. } = &*self.operations;
        if entry.file_type().is_dir() || entry.depth() == 0 {
            open.fetch_add(1, Ordering::Relaxed);
            readdir.fetch_add(1, Ordering::Relaxed);
        }
        *name_bytes += entry.file_name().len() + NAME_BYTES;
        if *name_bytes > BUFFER_BYTES {
            *name_bytes = 0;
            readdir.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn entry(&self, base: &Path, entry: &DirEntry) -> Scanned {
        let (kind, path) = (entry.file_type(), entry.path().strip_prefix(base).unwrap_or(entry.path()));
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            EntryKind::Symlink
        } else if kind.is_file() {
            EntryKind::File
        } else {
            EntryKind::Special
        };
        self.size_of(path.as_os_str().as_bytes(), kind, || {
            self.operations.stat.fetch_add(1, Ordering::Relaxed);
            let metadata = entry.metadata()?;
            Ok((metadata.len(), mtime(&metadata)))
        })
    }

    fn size_of(
        &self,
        path: &[u8],
        kind: EntryKind,
        size: impl FnOnce() -> std::io::Result<(u64, EpochNanos)>,
    ) -> Scanned {
        let (root, unseen) = (self.root.fd(), |error: std::io::Error| cannot_see(path, &error));
        match (kind, self.links) {
            // A directory has no content, and a special file is never copied.
            (EntryKind::Directory | EntryKind::Special, _) | (EntryKind::Symlink, Links::Skip) => Ok(None),
            (EntryKind::File, _) => size().map(Some).map_err(unseen),
            (EntryKind::Symlink, Links::Keep) => match self.operations.readlink(root, path) {
                Ok(target) => Ok(u64::try_from(target.len()).ok().map(|size| (size, EpochNanos(0)))),
                Err(errno) => Err(unseen(errno.into())),
            },
            (EntryKind::Symlink, Links::Follow) => match self.operations.fresh_stat(root, path, LastLink::Follow) {
                Ok(target) if target.kind == EntryKind::File => Ok(Some((target.size_bytes, target.mtime))),
                Ok(target) if target.kind == EntryKind::Directory => {
                    Err(format!("'{}' is a link to a directory", String::from_utf8_lossy(path)))
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                Err(errno) => Err(unseen(errno.into())),
            },
        }
    }

    fn send(&self, scanned: Scanned) -> Result<(), Enough> {
        self.sender.blocking_send(scanned).map_err(|_| Enough)
    }
}

fn mtime(metadata: &std::fs::Metadata) -> EpochNanos {
    EpochNanos(i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()))
}

fn cannot_see(path: &[u8], error: &std::io::Error) -> String {
    format!("cannot stat a file in '{}': {error}", String::from_utf8_lossy(path))
}
