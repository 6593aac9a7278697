//! The two kinds of work on the source, and what comes of them: reading a directory, and looking at some of its names.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Walk;
use super::budget::Hold;
use super::look::{Item, escaped};
use super::read::{Listing, NoListing, Reading, Step};
use crate::source::entry::Problem;

/// The most names that one job looks at.
pub(super) const CHUNK_NAMES: usize = 64;

/// The place of a job in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The key of the directory to read, or that of the first name to look at.
    key: Vec<u8>,
    stage: Stage,
}

/// A directory is looked at in its parent before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Look,
    Read,
}

impl Position {
    /// Of the reading of the directory `key`.
    pub(super) fn of_reading(key: &str) -> Self {
        Self { key: key.as_bytes().to_vec(), stage: Stage::Read }
    }

    /// Of the look at the name at `index`; none behind the last.
    pub(super) fn of_look(listing: &Listing, index: usize) -> Option<Self> {
        let name = listing.names.get(index)?;
        let slash: &[u8] = if name.slash { b"/" } else { b"" };
        Some(Self { key: [listing.directory.key.as_bytes(), name.bytes, slash].concat(), stage: Stage::Look })
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The key as people read it.
    pub(super) fn shown(&self) -> String {
        escaped(&self.key)
    }
}

/// Names of a directory that are to be looked at, by their indices.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) listing: Arc<Listing>,
    pub(super) names: Range<usize>,
}

impl Look {
    /// The first names from `index` on, and where they are; none behind the last name.
    pub(super) fn from(listing: &Arc<Listing>, index: usize) -> Option<(Position, Self)> {
        let position = Position::of_look(listing, index)?;
        let names = index..listing.names.len().min(index + CHUNK_NAMES);
        Some((position, Self { listing: Arc::clone(listing), names }))
    }

    /// The same without the first `count` names, if any are left.
    pub(super) fn without(&self, count: usize) -> Option<(Position, Self)> {
        let names = self.names.start + count..self.names.end;
        let position = Position::of_look(&self.listing, names.start).filter(|_| !names.is_empty())?;
        Some((position, Self { listing: Arc::clone(&self.listing), names }))
    }
}

/// What a job has found so far; shared with whoever waits for it, who may stop waiting and take it.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// None once it was taken.
    chunk: Option<Chunk>,
    moved: Instant,
}

impl Progress {
    pub(super) fn new(hold: Hold) -> Self {
        Self(Arc::new(Mutex::new(Inner { chunk: Some(Chunk::new(hold)), moved: Instant::now() })))
    }

    /// Adds an item; false when nobody wants it any more.
    fn add(&self, item: Item) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.moved = Instant::now();
        match &mut inner.chunk {
            Some(chunk) => chunk.items.push_back(item),
            None => return false,
        }
        true
    }

    pub(super) fn take(&self) -> Option<Chunk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).chunk.take()
    }

    /// When the file system last answered.
    pub(super) fn moved(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).moved
    }
}

/// What was found of some names of a directory.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) items: VecDeque<Item>,
    /// Counts the items that are not emitted.
    pub(super) hold: Hold,
    /// Why all behind the items is unknown, if it is.
    pub(super) broken: Option<Problem>,
}

impl Chunk {
    pub(super) fn new(hold: Hold) -> Self {
        Self { items: VecDeque::new(), hold, broken: None }
    }
}

/// Work to do.
#[derive(Debug)]
pub(super) enum Job {
    Read(Box<Reading>),
    Look(Look),
}

/// What a job led to.
#[derive(Debug)]
pub(super) enum Done {
    /// The directory is not read to its end.
    More(Box<Reading>),
    Read(Result<Listing, NoListing>),
    /// What it found is in the progress.
    Looked,
}

impl Job {
    pub(super) fn run(self, walk: &Walk, progress: &Progress) -> Done {
        match self {
            Self::Read(reading) => match reading.step(walk) {
                Step::More(reading) => Done::More(Box::new(reading)),
                Step::Done(result) => Done::Read(result),
            },
            Self::Look(look) => {
                for index in look.names {
                    if let Some(name) = look.listing.names.get(index)
                        && !progress.add(look.listing.look(walk, name))
                    {
                        break;
                    }
                }
                Done::Looked
            }
        }
    }
}

/// What a job that is done waits with for its emission.
#[derive(Debug)]
pub(super) enum Outcome {
    Read(Result<Arc<Listing>, NoListing>),
    Looked(Chunk),
}
