//! A plan in a file: a header with the source, the destination and the options, and a line for each key.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::new_files::NewFiles;
use super::reason::Reason;
use crate::destination::headers::HeaderRule;
use crate::key::ObjectKey;
use crate::open_files::when_one_is_free;
use crate::recorded_options::RecordedOptions;

/// The version of the plan's lines.
const PLAN: u32 = 1;

/// One line of a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PlanLine {
    pub(crate) action: Action,
    pub(crate) key: ObjectKey,
    pub(crate) reason: Reason,
    /// The size of the file; of the object, for a delete.
    pub(crate) size: u64,
    /// The ETag of the object that is there now.
    pub(crate) etag: Option<String>,
    pub(crate) source_mtime_ns: Option<i128>,
    pub(crate) source_ctime_ns: Option<i128>,
    /// Of a delete: how many new files of this size the plan uploads. One of them may be the new name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) new_files_of_size: Option<u64>,
}

/// What the run would do at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Upload,
    /// Rewrite the object's metadata; its content stays.
    RewriteMetadata,
    Delete,
    Keep,
}

/// The first line of a plan in a file: what it was made from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanHeader {
    plan: u32,
    /// The source, by its whole path.
    pub source: String,
    /// The destination.
    pub destination: String,
    /// The options in force.
    pub options: RecordedOptions,
    /// The config file's header rules.
    #[serde(default)]
    pub headers: Vec<HeaderRule>,
    created: String,
}

/// A plan in a file whose lines are all valid.
#[derive(Clone, Debug)]
pub struct PlanFile {
    path: PathBuf,
    header: PlanHeader,
    objects: u64,
    /// The number of the first line that deletes.
    first_delete: Option<u64>,
    /// Those of the lines that are left in the file.
    new_files: NewFiles,
}

/// Why a file is not a plan that `apply` can carry out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum PlanError {
    #[error("cannot read the plan {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("the plan {0} is not a regular file: write the plan to a file first")]
    NotAFile(String),
    #[error("{0} is not a plan that can be applied: make one with efs2s3 plan -o FILE")]
    NoHeader(String),
    #[error("the plan {0} has another version: make a new plan with this program")]
    OtherVersion(String),
    #[error("line {line} of {path} is not a plan line ({source}): make a new plan")]
    Line { path: String, line: u64, source: serde_json::Error },
    #[error("line {line} of {path} repeats the key {key}: remove one of the lines, or make a new plan")]
    Repeated { path: String, line: u64, key: String },
}

impl PlanFile {
    /// Opens a plan and checks each of its lines, so that a run never carries out half a plan because the rest is damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a plan.
    pub fn open(path: &Path) -> Result<Self, PlanError> {
        let shown = path.display().to_string();
        let unreadable = |source| PlanError::Read { path: shown.clone(), source };
        // A plan is read twice, which a pipe cannot be.
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(PlanError::NotAFile(shown));
        }
        let mut lines = BufReader::new(when_one_is_free(|| File::open(path)).map_err(unreadable)?).lines();
        let first = lines.next().transpose().map_err(unreadable)?.unwrap_or_default();
        let header: PlanHeader = serde_json::from_str(&first).map_err(|_| PlanError::NoHeader(shown.clone()))?;
        if !header.is_known() {
            return Err(PlanError::OtherVersion(shown));
        }
        let (mut objects, mut first_delete, mut new_files) = (0, None, NewFiles::default());
        // Hashes, because a plan can have millions of lines.
        let (mut keys, hasher) = (HashSet::new(), RandomState::new());
        for (line, number) in lines.zip(2..) {
            let line: PlanLine = serde_json::from_str(&line.map_err(unreadable)?)
                .map_err(|source| PlanError::Line { path: shown.clone(), line: number, source })?;
            if line.action != Action::Keep && !keys.insert(hasher.hash_one(line.key.as_str())) {
                return Err(PlanError::Repeated { path: shown, line: number, key: line.key.as_str().to_owned() });
            }
            objects += u64::from(line.etag.is_some());
            match (line.action, &line.etag) {
                (Action::Delete, _) => first_delete = first_delete.or(Some(number)),
                (Action::Upload, None) => new_files.add(&line.key, line.size),
                _ => {}
            }
        }
        Ok(Self { path: path.to_owned(), header, objects, first_delete, new_files })
    }

    /// How many lines name an object that existed when the plan was made. Each was in scope.
    pub(crate) const fn objects(&self) -> u64 {
        self.objects
    }

    /// The number of the first line that deletes an object.
    pub(crate) const fn first_delete(&self) -> Option<u64> {
        self.first_delete
    }

    /// Whether the plan was made with more uploads of new files of the size of this delete than are left in the file.
    pub(crate) fn lacks_new_file(&self, line: &PlanLine) -> bool {
        line.new_files_of_size > self.new_files.of_size(line.size)
    }

    /// What the plan was made from.
    #[must_use]
    pub const fn header(&self) -> &PlanHeader {
        &self.header
    }

    /// The lines, in order.
    pub(crate) fn lines(&self) -> io::Result<impl Iterator<Item = io::Result<PlanLine>> + use<>> {
        let lines = BufReader::new(when_one_is_free(|| File::open(&self.path))?).lines().skip(1);
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

impl PlanHeader {
    /// For a plan made now.
    pub(crate) fn new(source: &Path, destination: String, options: RecordedOptions, headers: Vec<HeaderRule>) -> Self {
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned()).display().to_string();
        let created = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Self { plan: PLAN, source, destination, options, headers, created }
    }

    /// Whether this program understands the plan.
    const fn is_known(&self) -> bool {
        self.plan == PLAN
    }
}

impl std::fmt::Display for PlanLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = match self.action {
            Action::Upload => "upload ",
            Action::RewriteMetadata => "rewrite",
            Action::Delete => "delete ",
            Action::Keep => "keep   ",
        };
        let size = bytesize::ByteSize(self.size).display().iec();
        write!(f, "{action}  {}  ({}, {size})", self.key.as_str().escape_debug(), self.reason)
    }
}
