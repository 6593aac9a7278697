//! A job of a walker: read a directory, or stat some of its names.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::classifier::{Item, escaped};
use super::context::WalkContext;
use super::directory_reader::{DirectoryFailure, DirectoryNames, DirectoryReader, ReadStep};
use super::gauge::Hold;
use crate::source::entry::Problem;

/// The place of a job in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The key of the directory to read, or that of the first name to stat.
    key: Vec<u8>,
    kind: JobKind,
}

/// Ordered: the walk stats a directory before it reads the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum JobKind {
    Stat,
    Read,
}

impl Position {
    /// The position of the job that reads the directory `key`.
    pub(super) fn of_read(key: &str) -> Self {
        Self { key: key.as_bytes().to_vec(), kind: JobKind::Read }
    }

    /// The position of the job that stats the name at `index`; `None` after the last name.
    pub(super) fn of_stat(directory: &DirectoryNames, index: usize) -> Option<Self> {
        let name = directory.names.get(index)?;
        let slash: &[u8] = if name.slash { b"/" } else { b"" };
        Some(Self { key: [directory.directory.key.as_bytes(), name.bytes, slash].concat(), kind: JobKind::Stat })
    }

    pub(super) fn kind(&self) -> JobKind {
        self.kind
    }

    /// The key, with `\xNN` for each byte that is not UTF-8.
    pub(super) fn shown(&self) -> String {
        escaped(&self.key)
    }
}

/// Some names of a directory to stat, by their indices.
#[derive(Clone, Debug)]
pub(super) struct StatChunk {
    pub(super) directory: Arc<DirectoryNames>,
    pub(super) names: Range<usize>,
}

impl StatChunk {
    /// All names of a directory, with their position; `None` if there are none.
    pub(super) fn all(directory: &Arc<DirectoryNames>) -> Option<(Position, Self)> {
        Self { directory: Arc::clone(directory), names: 0..directory.names.len() }.without(0)
    }

    /// The first `count` names.
    pub(super) fn first(&self, count: usize) -> Self {
        let end = self.names.end.min(self.names.start + count);
        Self { directory: Arc::clone(&self.directory), names: self.names.start..end }
    }

    /// The chunk without its first `count` names; `None` if no name is left.
    pub(super) fn without(&self, count: usize) -> Option<(Position, Self)> {
        let names = self.names.start + count..self.names.end;
        let position = Position::of_stat(&self.directory, names.start).filter(|_| !names.is_empty())?;
        Some((position, Self { directory: Arc::clone(&self.directory), names }))
    }
}

/// The items that a job has found so far. The job shares them with the emitter, which takes them at a timeout.
#[derive(Clone, Debug)]
pub(super) struct SharedItems(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// `None` once taken.
    items: Option<FoundItems>,
    last_response: Instant,
}

impl SharedItems {
    pub(super) fn new(hold: Hold) -> Self {
        Self(Arc::new(Mutex::new(Inner { items: Some(FoundItems::new(hold)), last_response: Instant::now() })))
    }

    /// Adds an item; false if the items were taken.
    fn add(&self, item: Item) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last_response = Instant::now();
        match &mut inner.items {
            Some(items) => items.queue.push_back(item),
            None => return false,
        }
        true
    }

    pub(super) fn take(&self) -> Option<FoundItems> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).items.take()
    }

    /// When the file system last responded to the job.
    pub(super) fn last_response(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last_response
    }
}

/// The items of one chunk, in order.
#[derive(Debug)]
pub(super) struct FoundItems {
    pub(super) queue: VecDeque<Item>,
    /// Counts the items that are not emitted.
    pub(super) hold: Hold,
    /// Why the rest of the directory is unknown, if it is.
    pub(super) rest_unknown: Option<Problem>,
}

impl FoundItems {
    pub(super) fn new(hold: Hold) -> Self {
        Self { queue: VecDeque::new(), hold, rest_unknown: None }
    }
}

#[derive(Debug)]
pub(super) enum WalkerJob {
    Read(Box<DirectoryReader>),
    Stat(StatChunk),
}

/// The result of running a job once.
#[derive(Debug)]
pub(super) enum WalkerResult {
    /// The directory has more names to read.
    More(Box<DirectoryReader>),
    Read(Result<DirectoryNames, DirectoryFailure>),
    /// The shared items have what the job found.
    Stat,
}

impl WalkerJob {
    pub(super) fn run(self, walk: &WalkContext, items: &SharedItems) -> WalkerResult {
        match self {
            Self::Read(reader) => match reader.step(walk) {
                ReadStep::More(reader) => WalkerResult::More(Box::new(reader)),
                ReadStep::Done(result) => WalkerResult::Read(result),
            },
            Self::Stat(chunk) => {
                let mut timing = walk.stat_time.start();
                for index in chunk.names {
                    timing.count();
                    if let Some(name) = chunk.directory.names.get(index)
                        && !items.add(chunk.directory.classify(walk, name))
                    {
                        break;
                    }
                }
                WalkerResult::Stat
            }
        }
    }
}

/// A finished job, whose result waits for the emitter.
#[derive(Debug)]
pub(super) enum FinishedJob {
    Read(Result<Arc<DirectoryNames>, DirectoryFailure>),
    Stat(FoundItems),
}
