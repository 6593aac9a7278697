//! The source: a directory tree on EFS or any other file system, which is only read.
//!
//! The only home of calls to the file system below the source directory. Its methods: `walk` and `stat_named` here,
//! `open_file` and `re_stat` in `read`, `presences` in `presence`, `content` in `content`,
//! `learn_sizes` in `sizes`, `unseen` in `unseen`, `may_have_left` in `departed`.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use crate::key::SourcePath;

pub(crate) mod content;
pub(crate) mod departed;
pub mod entry;
mod later_reads;
pub(crate) mod mount;
mod mount_check;
pub mod mount_points;
mod names;
pub mod operations;
mod place;
pub(crate) mod presence;
mod problem;
pub(crate) mod read;
pub(crate) mod read_directories;
mod requirements;
mod resolution;
pub mod root;
mod root_path;
mod seen_files;
pub(crate) mod sizes;
pub(crate) mod stale;
mod timeout;
pub(crate) mod tree_range;
pub(crate) mod unseen;
pub mod walk;

use entry::{Entry, EntryKind, Found};
use operations::Operations;
use read_directories::ReadDirectories;
pub(crate) use requirements::Requirements;
use requirements::Unmet;
use root::{Root, RootError};
use timeout::CallTimeout;
use tree_range::TreeRange;
use walk::{WalkError, WalkOptions};

/// An opened source.
#[derive(Debug)]
pub struct Source {
    root: Arc<Root>,
    operations: Arc<Operations>,
    requirements: Arc<Requirements>,
    walk: WalkOptions,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum SourceError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("the source {path} did not respond for {seconds} s: check that its file system's server can be reached")]
    TimedOut { path: String, seconds: u64 },
    #[error("nothing was read or written: {0}")]
    Unmet(#[from] Unmet),
}

impl Source {
    /// Opens the directory and checks the requirements.
    pub(crate) async fn open(path: &Path, requirements: Requirements, walk: WalkOptions) -> Result<Self, SourceError> {
        let limit = walk.call_timeout();
        let shown = path.display().to_string();
        let (path, requirements) = (path.to_owned(), Arc::new(requirements));
        let required = Arc::clone(&requirements);
        let opened = tokio::task::spawn_blocking(move || open_as_required(&path, &required));
        let root = match limit.wait_for("open", &shown, opened).await {
            Some(root) => root?,
            None => return Err(SourceError::TimedOut { path: shown, seconds: limit.timeout.as_secs() }),
        };
        Ok(Self { root: Arc::new(root), operations: Arc::default(), requirements, walk })
    }

    /// Walks the tree; batches of entries come in the order of their keys. Dropping the receiver ends the walk.
    /// With `read`, the walk records the directories that it reads.
    pub(crate) fn walk(&self, read: Option<Arc<ReadDirectories>>) -> Result<Receiver<Vec<Entry>>, WalkError> {
        walk::start_recording(Arc::clone(&self.root), self.walk.clone(), Arc::clone(&self.operations), read)
    }

    /// Stats the path that a manifest or plan names, and returns what the walk would find there.
    pub(crate) async fn stat_named(&self, path: &SourcePath) -> Entry {
        let (root, operations, options) = (Arc::clone(&self.root), Arc::clone(&self.operations), self.walk.clone());
        let named = path.clone();
        let stat = move || walk::named_path::stat(&root, &operations, &options, &named);
        let found = self.call_timeout().run("stat", path.as_str(), stat).await;
        Entry {
            key: path.key().clone(),
            found: found.unwrap_or_else(|problem| Found::Failed(EntryKind::File, problem)),
        }
    }

    /// The part of the tree that is walked.
    pub(crate) fn tree_range(&self) -> &TreeRange {
        &self.walk.tree_range
    }

    fn call_timeout(&self) -> CallTimeout {
        self.walk.call_timeout()
    }

    /// The counts of calls to the file system.
    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }
}

fn open_as_required(path: &Path, requirements: &Requirements) -> Result<Root, SourceError> {
    let root = Root::open(path)?;
    requirements.check(&root)?;
    Ok(root)
}
