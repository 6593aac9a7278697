//! A directory reader: reads one directory, in short steps, so that a huge directory does not delay the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::classifier::{Classifier, Item};
use super::context::WalkContext;
use super::directory::{Directory, OpenDirectory};
use super::gauge::Hold;
use crate::source::entry::Problem;
use crate::source::names::{KindHint, Name, Names};
use crate::source::operations::LastLink;
use crate::source::place::CallError;
use crate::source::stale::LOOKUPS;

const BUFFER_BYTES: usize = 32 * 1024;
/// About how many names one step reads.
const STEP_NAMES: usize = 8 * 1024;
/// How many names one step stats, if the sort needs their kind.
const STEP_STATS: usize = 256;

/// The directory to read.
#[derive(Debug)]
pub(super) enum Target {
    /// The root, not yet statted.
    Root,
    Directory(Arc<Directory>),
}

/// The names of a directory, in the order of their keys.
#[derive(Debug)]
pub(super) struct DirectoryNames {
    pub(super) directory: Arc<Directory>,
    pub(super) names: Names,
    /// What the sort needed to know, by the number of the name.
    early_items: Mutex<HashMap<u32, Item>>,
    /// Held open for the stats, unless too many are.
    open: Option<OpenDirectory>,
    _hold: Hold,
}

/// Why a directory has no names.
#[derive(Debug)]
pub(super) enum DirectoryFailure {
    /// It no longer exists, or is now of another kind.
    Vanished,
    /// Its path is longer than any key.
    TooLong(Problem),
    /// The walk could not see all of it.
    Problem(Problem),
}

/// The result of a step.
#[derive(Debug)]
pub(super) enum ReadStep {
    More(DirectoryReader),
    Done(Result<DirectoryNames, DirectoryFailure>),
}

/// A directory that the walk is reading.
#[derive(Debug)]
pub(super) struct DirectoryReader {
    target: Target,
    open: Option<OpenDirectory>,
    names: Names,
    hold: Hold,
    /// Once all names are read: those to stat before the sort.
    ambiguous: Option<std::vec::IntoIter<usize>>,
    early_items: HashMap<u32, Item>,
    /// How many times the walk has opened it from its path, with this time.
    lookups: usize,
}

impl DirectoryReader {
    pub(super) fn new(walk: &WalkContext, target: Target) -> Self {
        Self {
            target,
            open: None,
            names: Names::default(),
            hold: Hold::new(&walk.names_held, 0),
            ambiguous: None,
            early_items: HashMap::new(),
            lookups: 1,
        }
    }

    pub(super) fn step(mut self, walk: &WalkContext) -> ReadStep {
        let directory = match self.directory(walk) {
            Ok(directory) => directory,
            Err(errno) => return ReadStep::Done(Err(DirectoryFailure::Problem(Problem::of("stat", errno)))),
        };
        match self.read_or_stat(walk, &directory) {
            Ok(false) => ReadStep::More(self),
            Ok(true) => ReadStep::Done(Ok(self.sorted(walk, directory))),
            Err((operation, errno)) => match directory.error(walk, errno) {
                // Another client replaced the directory: its path leads to the new one.
                CallError::Failed(Errno::STALE) if self.lookups < LOOKUPS => self.again(walk, directory),
                // It is there although a call did not find it.
                CallError::NotFound(_) if self.lookups == 1 => self.again(walk, directory),
                error @ (CallError::Gone | CallError::OtherKind | CallError::NotFound(_) | CallError::Failed(_)) => {
                    ReadStep::Done(Err(DirectoryFailure::of(operation, error, &directory.key)))
                }
            },
        }
    }

    /// Reads the directory from the start.
    fn again(self, walk: &WalkContext, directory: Arc<Directory>) -> ReadStep {
        ReadStep::More(Self { lookups: self.lookups + 1, ..Self::new(walk, Target::Directory(directory)) })
    }

    fn directory(&mut self, walk: &WalkContext) -> Result<Arc<Directory>, Errno> {
        match &self.target {
            Target::Directory(directory) => Ok(Arc::clone(directory)),
            Target::Root => {
                let stat = walk.operations.stat(walk.root.fd(), b".", LastLink::Keep)?;
                let directory = Arc::new(Directory::root(&stat, walk.root.inherited_ctime()));
                self.target = Target::Directory(Arc::clone(&directory));
                Ok(directory)
            }
        }
    }

    /// Returns true if the names are complete and can be sorted.
    fn read_or_stat(&mut self, walk: &WalkContext, directory: &Arc<Directory>) -> Result<bool, (&'static str, Errno)> {
        let first = self.open.is_none();
        let open = match self.open.take() {
            Some(open) => open,
            None => directory.open(walk).map_err(|errno| ("open", errno))?,
        };
        let open = self.open.insert(open);
        let classifier = Classifier { walk, directory, open: Some(open.fd()) };
        let Some(ambiguous) = &mut self.ambiguous else {
            if read_names(walk, open, first, &mut self.names).map_err(|errno| ("readdir", errno))? {
                self.names.retain(|name| classifier.may_be_in_range(name));
                self.names.sort_bare();
                let ambiguous = self.names.ambiguous(|name| classifier.undecided(name));
                self.ambiguous = Some(ambiguous.into_iter());
            }
            self.hold.set(self.names.len());
            return Ok(self.ambiguous.as_ref().is_some_and(|ambiguous| ambiguous.len() == 0));
        };
        for index in ambiguous.by_ref().take(STEP_STATS) {
            if let Some(name) = self.names.get(index) {
                let item = classifier.classify(name);
                let (number, slash) = (name.number, item.has_slash());
                self.early_items.insert(number, item);
                self.names.decide(index, slash);
            }
        }
        Ok(ambiguous.len() == 0)
    }

    fn sorted(mut self, walk: &WalkContext, directory: Arc<Directory>) -> DirectoryNames {
        self.names.sort_by_key();
        DirectoryNames {
            directory,
            names: self.names,
            early_items: Mutex::new(self.early_items),
            open: self.open.and_then(|open| open.kept(walk)),
            _hold: self.hold,
        }
    }
}

impl DirectoryNames {
    pub(super) fn classify(&self, walk: &WalkContext, name: Name<'_>) -> Item {
        let early = self.early_items.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.number);
        early.unwrap_or_else(|| {
            let open = self.open.as_ref().map(OpenDirectory::fd);
            Classifier { walk, directory: &self.directory, open }.classify(name)
        })
    }
}

/// Reads about [`STEP_NAMES`] names; true at the end of the directory.
fn read_names(walk: &WalkContext, open: &OpenDirectory, first: bool, names: &mut Names) -> Result<bool, Errno> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let enough = names.len() + STEP_NAMES;
    let mut result = Ok(());
    let mut first = first;
    while names.len() < enough {
        let more = walk.operations.read_names(open.fd(), buffer.spare_capacity_mut(), first, |name, file_type| {
            result = result.and(names.push(name, hint_of(walk, file_type)));
        })?;
        result?;
        if !more {
            return Ok(true);
        }
        first = false;
    }
    Ok(false)
}

fn hint_of(walk: &WalkContext, file_type: FileType) -> KindHint {
    #[cfg(test)]
    if walk.kinds_unknown {
        return KindHint::Unknown;
    }
    let _ = walk;
    file_type.into()
}

impl DirectoryFailure {
    fn of(operation: &'static str, error: CallError, key: &str) -> Self {
        match error.problem(operation) {
            None => Self::Vanished,
            Some(problem) if error == CallError::Failed(Errno::NAMETOOLONG) && !key.is_empty() => {
                Self::TooLong(problem)
            }
            Some(problem) => Self::Problem(problem),
        }
    }
}
