//! The source: a directory tree on EFS or any other file system, which is only read.
//!
//! The only home of calls to the file system below the source directory.

use crate::key::RelativeKey;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

pub mod entry;
pub mod operations;
pub mod presence;
mod problem;
pub mod read;
pub mod root;
pub mod section;
pub mod walk;

use entry::{Entry, EntryKind, Found};
use operations::Operations;
use read::{ReadError, SourcePatience};
use root::{Root, RootError};
use section::Section;
use walk::{WalkError, WalkOptions};

/// An opened source.
#[derive(Debug)]
pub struct Source {
    root: Arc<Root>,
    operations: Arc<Operations>,
    walk: WalkOptions,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Its file system does not answer.
    #[error("the source {path} gives no answer for {seconds} s: check that its file system's server can be reached")]
    Silent {
        /// The path as given.
        path: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// `--require-mount`.
    #[error("the source {path} is not a mount point, and --require-mount asks for one: nothing was read or written")]
    NotMounted {
        /// The path as given.
        path: String,
    },
    /// `--sentinel`.
    #[error(
        "the sentinel {sentinel} is not in the source {path}: nothing was read or written. Is the right file system mounted?"
    )]
    NoSentinel {
        /// The path as given.
        path: String,
        /// The sentinel as given.
        sentinel: String,
    },
}

/// What a source must be like before anything is done with it.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// It is a mount point.
    pub mount: bool,
    /// This file is in it.
    pub sentinel: Option<std::path::PathBuf>,
}

impl Source {
    /// Opens the directory and checks what is required of it.
    ///
    /// # Errors
    /// Where it cannot be opened, or is not as required.
    pub async fn open(path: &Path, requirements: Requirements, walk: WalkOptions) -> Result<Self, SourceError> {
        let patience = SourcePatience { warn_after: walk.warn_after, timeout: walk.source_timeout };
        let shown = path.display().to_string();
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_as_required(&path, &requirements));
        let root = match read::wait_for(patience, "open", &shown, opened).await {
            Some(root) => root?,
            None => return Err(SourceError::Silent { path: shown, seconds: patience.timeout.as_secs() }),
        };
        Ok(Self { root: Arc::new(root), operations: Arc::default(), walk })
    }

    /// Walks the tree; batches of entries come in the order of their keys. Dropping the receiver ends the walk.
    ///
    /// # Errors
    /// Where the system gives no threads for it.
    pub fn walk(&self) -> Result<Receiver<Vec<Entry>>, WalkError> {
        walk::start(Arc::clone(&self.root), self.walk.clone(), Arc::clone(&self.operations), Arc::default())
    }

    /// What stands at a path that somebody else named, as the walk would find it.
    pub async fn named(&self, key: &RelativeKey) -> Entry {
        let (root, operations, options) = (Arc::clone(&self.root), Arc::clone(&self.operations), self.walk.clone());
        let name = key.clone();
        let look = move || Ok(walk::named::named(&root, &operations, &options, name.as_str()));
        let found = match read::blocking(self.patience(), "stat", key.as_str(), look).await {
            Ok(found) => found,
            Err(ReadError::Problem(problem)) => Found::Failed(EntryKind::File, problem),
            // `blocking` reports these of calls that fail, and this one cannot.
            Err(ReadError::Vanished | ReadError::Changed) => {
                Found::Failed(EntryKind::File, entry::Problem::named_and_missing())
            }
        };
        Entry { key: key.clone(), found }
    }

    /// The part of the tree that is walked.
    #[must_use]
    pub fn section(&self) -> &Section {
        &self.walk.section
    }

    fn patience(&self) -> SourcePatience {
        SourcePatience { warn_after: self.walk.warn_after, timeout: self.walk.source_timeout }
    }

    /// What the file system was asked so far.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.operations
    }
}

fn open_as_required(path: &Path, requirements: &Requirements) -> Result<Root, SourceError> {
    let root = Root::open(path)?;
    let shown = || path.display().to_string();
    if requirements.mount && !root.is_mount_point() {
        return Err(SourceError::NotMounted { path: shown() });
    }
    match &requirements.sentinel {
        Some(sentinel) if !root.holds(sentinel) => {
            Err(SourceError::NoSentinel { path: shown(), sentinel: sentinel.display().to_string() })
        }
        _ => Ok(root),
    }
}
