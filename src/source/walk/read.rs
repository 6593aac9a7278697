//! The reading of one directory, in steps, so that none of them is long and a huge directory gives way to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::Walk;
use super::budget::Hold;
use super::directory::{Directory, OpenDirectory};
use super::look::{Item, Looker};
use super::names::{Hint, Name, Names, TooMany};
use crate::source::entry::Problem;
use crate::source::operations::LastLink;

/// The bytes asked for at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// About how many names are read in one step.
const STEP_NAMES: usize = 8 * 1024;
/// How many names are looked at in one step, where their kind is needed to sort them.
const STEP_LOOKS: usize = 256;

/// The directory to read.
#[derive(Debug)]
pub(super) enum Target {
    /// The root, of which nothing is known yet.
    Root,
    Directory(Arc<Directory>),
}

/// A directory that was read: its names, in the order of their keys.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) directory: Arc<Directory>,
    pub(super) names: Names,
    /// What had to be looked at before sorting, by the number of the name.
    early: Mutex<HashMap<u32, Item>>,
    /// Held open for the stats, unless too many are.
    open: Option<OpenDirectory>,
    _hold: Hold,
}

/// Why there is no listing.
#[derive(Debug)]
pub(super) enum NoListing {
    /// It is gone, or something else stands there now.
    Vanished,
    /// No key can be as long as its path.
    TooLong(Problem),
    /// It, or the rest of it, could not be seen.
    Problem(Problem),
}

/// What a step led to.
#[derive(Debug)]
pub(super) enum Step {
    More(Reading),
    Done(Result<Listing, NoListing>),
}

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    target: Target,
    open: Option<OpenDirectory>,
    names: Names,
    hold: Hold,
    /// Once all names are there: those to look at before sorting.
    ambiguous: Option<std::vec::IntoIter<usize>>,
    early: HashMap<u32, Item>,
    retried: bool,
}

impl Reading {
    pub(super) fn new(walk: &Walk, target: Target) -> Self {
        Self {
            target,
            open: None,
            names: Names::default(),
            hold: Hold::new(&walk.names_held, 0),
            ambiguous: None,
            early: HashMap::new(),
            retried: false,
        }
    }

    /// Goes on for a while.
    pub(super) fn step(mut self, walk: &Walk) -> Step {
        let directory = match self.directory(walk) {
            Ok(directory) => directory,
            Err(errno) => return Step::Done(Err(no_listing("stat", errno, ""))),
        };
        match self.names_or_looks(walk, &directory) {
            Ok(false) => Step::More(self),
            Ok(true) => Step::Done(Ok(self.listing(walk, directory))),
            // The directory was replaced on the server: looked up again, it may be a good one.
            Err((_, Errno::STALE)) if !self.retried => {
                Step::More(Self { retried: true, ..Self::new(walk, Target::Directory(directory)) })
            }
            Err((operation, errno)) => Step::Done(Err(no_listing(operation, errno, &directory.key))),
        }
    }

    fn directory(&mut self, walk: &Walk) -> Result<Arc<Directory>, Errno> {
        match &self.target {
            Target::Directory(directory) => Ok(Arc::clone(directory)),
            Target::Root => {
                let stat = || walk.operations.stat(walk.root.fd(), b".", LastLink::Keep);
                let stat = match stat() {
                    Err(Errno::STALE) => stat()?,
                    result => result?,
                };
                let directory = Arc::new(Directory::root(&stat));
                self.target = Target::Directory(Arc::clone(&directory));
                Ok(directory)
            }
        }
    }

    /// True when the names are complete and can be sorted.
    fn names_or_looks(&mut self, walk: &Walk, directory: &Arc<Directory>) -> Result<bool, (&'static str, Errno)> {
        let first = self.open.is_none();
        let open = match self.open.take() {
            Some(open) => open,
            None => directory.open(walk).map_err(|errno| ("open", errno))?,
        };
        let open = self.open.insert(open);
        let looker = Looker { walk, directory, open: Some(open.fd()) };
        let Some(ambiguous) = &mut self.ambiguous else {
            if read_names(walk, open, first, &mut self.names).map_err(|errno| ("readdir", errno))? {
                self.names.retain(|name| looker.may_be_wanted(name));
                self.names.sort_bare();
                let ambiguous = self.names.ambiguous(|name| looker.undecided(name));
                self.ambiguous = Some(ambiguous.into_iter());
            }
            self.hold.set(self.names.len());
            return Ok(self.ambiguous.as_ref().is_some_and(|ambiguous| ambiguous.len() == 0));
        };
        for index in ambiguous.by_ref().take(STEP_LOOKS) {
            if let Some(name) = self.names.get(index) {
                let item = looker.look(name);
                let (number, slash) = (name.number, item.has_slash());
                self.early.insert(number, item);
                self.names.decide(index, slash);
            }
        }
        Ok(ambiguous.len() == 0)
    }

    fn listing(mut self, walk: &Walk, directory: Arc<Directory>) -> Listing {
        self.names.sort_by_key();
        Listing {
            directory,
            names: self.names,
            early: Mutex::new(self.early),
            open: self.open.and_then(|open| open.kept(walk)),
            _hold: self.hold,
        }
    }
}

impl Listing {
    /// What the name is.
    pub(super) fn look(&self, walk: &Walk, name: Name<'_>) -> Item {
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.number);
        early.unwrap_or_else(|| {
            let open = self.open.as_ref().map(OpenDirectory::fd);
            Looker { walk, directory: &self.directory, open }.look(name)
        })
    }
}

/// Reads about [`STEP_NAMES`] names; true at the end of the directory.
fn read_names(walk: &Walk, open: &OpenDirectory, first: bool, names: &mut Names) -> Result<bool, Errno> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let enough = names.len() + STEP_NAMES;
    let mut result = Ok(());
    let mut first = first;
    while names.len() < enough {
        let more = walk.operations.read_names(open.fd(), buffer.spare_capacity_mut(), first, |name, file_type| {
            result = result.and(names.push(name, hint_of(walk, file_type)));
        })?;
        result.map_err(|TooMany| Errno::OVERFLOW)?;
        if !more {
            return Ok(true);
        }
        first = false;
    }
    Ok(false)
}

fn hint_of(walk: &Walk, file_type: FileType) -> Hint {
    #[cfg(test)]
    if walk.kinds_unknown {
        return Hint::Unknown;
    }
    let _ = walk;
    match file_type {
        FileType::RegularFile => Hint::File,
        FileType::Directory => Hint::Directory,
        FileType::Symlink => Hint::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => Hint::Special,
        FileType::Unknown => Hint::Unknown,
    }
}

fn no_listing(operation: &'static str, errno: Errno, key: &str) -> NoListing {
    match errno {
        // The root is never taken for gone: what cannot be seen is not empty.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP if !key.is_empty() => NoListing::Vanished,
        Errno::NAMETOOLONG if !key.is_empty() => NoListing::TooLong(Problem::of(operation, errno)),
        _ => NoListing::Problem(Problem::of(operation, errno)),
    }
}
