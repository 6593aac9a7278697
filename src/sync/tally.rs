//! The tally: what happened, added up as it happens. Report and exit code are derived from it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::destination::error::{ErrorKind, S3Error};
use crate::key::ObjectKey;
use crate::source::entry::{EntryKind, Problem, SkipReason};
use crate::sync::guard::Guard;
use crate::sync::verdict::FileError;

/// How many entries of a list a report holds.
pub const LIST_LIMIT: usize = 1000;

/// How many of everything.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Regular files, followed links to files included.
    pub files: u64,
    /// Directories that count as entries of their own.
    pub directories: u64,
    /// Symbolic links that were not followed.
    pub symlinks: u64,
    /// Devices, sockets and FIFOs.
    pub special_skipped: u64,
    /// Entries that the filters leave out.
    pub filtered: u64,
    /// Objects listed.
    pub objects: u64,
    /// Files whose object is as it should be.
    pub unchanged: u64,
    /// Files uploaded.
    pub uploaded: u64,
    /// Objects whose metadata alone was written.
    pub metadata_rewritten: u64,
    /// Entries left out for a reason that is no failure.
    pub skipped: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Objects that would have been deleted if no guard had objected.
    pub deletes_withheld: u64,
    /// Deletes that S3 refused.
    pub deletes_failed: u64,
    /// Entries of the source that failed.
    pub failed: u64,
}

/// How many bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ByteCounts {
    /// The size of all files together.
    pub source: u64,
    /// The size of what was uploaded.
    pub uploaded: u64,
    /// What was read only to be compared.
    pub read_for_compare: u64,
    /// The content of objects that was received: of those that were compared by reading them, and of the state.
    pub downloaded: u64,
}

/// How long the steps took; they overlap, but for the deletes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Seconds {
    /// All of the run.
    pub total: f64,
    /// The DataSync execution.
    pub datasync: f64,
    /// Walking, listing and comparing.
    pub walk: f64,
    /// From the first file that was begun to the last that was done.
    pub transfer: f64,
    /// Deleting.
    pub delete: f64,
}

/// An entry or object that failed, and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// The key.
    pub key: ObjectKey,
    /// The operation that failed: a system call, or S3's name of a request.
    pub operation: String,
    /// What kind of failure, for machines.
    pub kind: String,
    /// What happened and what to do, for people.
    pub message: String,
    /// S3's name for the request.
    pub request_id: Option<String>,
}

/// Deletes that a guard withheld.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Withheld {
    /// The guard's name.
    pub guard: Cow<'static, str>,
    /// How many deletes.
    pub count: u64,
    /// The first of their keys.
    pub keys: Vec<ObjectKey>,
    /// What happened, and what to pass to allow them.
    pub message: String,
    /// Whether this is normal life: nothing for anybody to do.
    #[serde(skip)]
    pub is_normal: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Tally {
    /// The counts.
    pub counts: Counts,
    /// The bytes.
    pub bytes: ByteCounts,
    /// How many entries were skipped for which reason.
    pub skipped_because: BTreeMap<SkipReason, u64>,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// How many failures there were.
    pub failures_count: u64,
    /// Deletes that did not happen.
    pub withheld: Vec<Withheld>,
    /// Directories of which something could not be seen.
    pub unknown_directories: u64,
    /// Whether the source has no entry at all; known once the survey has ended.
    pub source_is_empty: bool,
    /// Uploads to keys without an object that failed at the destination.
    pub absent_uploads_failed: u64,
}

impl Tally {
    /// An entry of the source that is accounted for by exactly one of the methods below.
    pub fn saw(&mut self, kind: EntryKind) {
        match kind {
            EntryKind::File => self.counts.files += 1,
            EntryKind::Directory => self.counts.directories += 1,
            EntryKind::Symlink => self.counts.symlinks += 1,
            EntryKind::Special => self.counts.special_skipped += 1,
        }
    }

    /// Records the end of the walk; `saw_beyond` is whether the source has entries outside the run's key range.
    pub(super) fn end_of_walk(&mut self, saw_beyond: bool) {
        let Counts { files, directories, symlinks, special_skipped, .. } = self.counts;
        self.source_is_empty = !saw_beyond && files + directories + symlinks + special_skipped == 0;
    }

    /// An entry was left out.
    pub fn skipped(&mut self, reason: SkipReason) {
        self.counts.skipped += 1;
        *self.skipped_because.entry(reason).or_default() += 1;
    }

    /// An entry failed.
    pub fn failed(&mut self, failure: Failure) {
        self.counts.failed += 1;
        self.list_failure(failure);
    }

    /// A delete failed.
    pub fn delete_failed(&mut self, failure: Failure) {
        self.counts.deletes_failed += 1;
        self.list_failure(failure);
    }

    fn list_failure(&mut self, failure: Failure) {
        let Failure { key, operation, kind, message, request_id } = &failure;
        tracing::warn!(%key, operation, kind, request_id, "{message}");
        self.failures_count += 1;
        if self.failures.len() < LIST_LIMIT {
            self.failures.push(failure);
        }
    }

    /// A guard withheld the delete of `key`.
    pub fn withheld(&mut self, guard: &Guard, key: &ObjectKey) {
        self.withheld_many(guard, 1);
        if let Some(withheld) = self.withheld.iter_mut().find(|withheld| withheld.guard == guard.name())
            && withheld.keys.len() < LIST_LIMIT
        {
            withheld.keys.push(key.clone());
        }
    }

    /// A guard withheld deletes whose keys are not at hand.
    pub fn withheld_many(&mut self, guard: &Guard, count: u64) {
        if count == 0 {
            return;
        }
        self.counts.deletes_withheld += count;
        match self.withheld.iter_mut().find(|withheld| withheld.guard == guard.name()) {
            Some(withheld) => withheld.count += count,
            None => self.withheld.push(Withheld {
                guard: Cow::Borrowed(guard.name()),
                count,
                keys: Vec::new(),
                message: guard.message(),
                is_normal: guard.is_normal(),
            }),
        }
    }

    /// How far a run is, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let Counts { files, unchanged, uploaded, deleted, failed, deletes_failed, .. } = self.counts;
        let bytes = ByteSize(self.bytes.uploaded).display().iec_short();
        let failed = failed + deletes_failed;
        format!(
            "{files} files seen, {unchanged} unchanged, {uploaded} uploaded ({bytes}), {deleted} deleted, {failed} failed"
        )
    }

    /// Whether something is left that somebody should look at.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.counts.failed > 0
            || self.counts.deletes_failed > 0
            || self.withheld.iter().any(|withheld| !withheld.is_normal)
    }
}

impl Counts {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.symlinks += other.symlinks;
        self.special_skipped += other.special_skipped;
        self.filtered += other.filtered;
        self.objects += other.objects;
        self.unchanged += other.unchanged;
        self.uploaded += other.uploaded;
        self.metadata_rewritten += other.metadata_rewritten;
        self.skipped += other.skipped;
        self.deleted += other.deleted;
        self.deletes_withheld += other.deletes_withheld;
        self.deletes_failed += other.deletes_failed;
        self.failed += other.failed;
    }
}

impl ByteCounts {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.source += other.source;
        self.uploaded += other.uploaded;
        self.read_for_compare += other.read_for_compare;
        self.downloaded += other.downloaded;
    }
}

impl Seconds {
    /// Of each step the longer time: runs that share the work go on side by side.
    pub const fn take_longer(&mut self, other: &Self) {
        self.total = self.total.max(other.total);
        self.datasync = self.datasync.max(other.datasync);
        self.walk = self.walk.max(other.walk);
        self.transfer = self.transfer.max(other.transfer);
        self.delete = self.delete.max(other.delete);
    }

    /// To the millisecond.
    #[must_use]
    pub fn rounded(self) -> Self {
        let round = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        Self {
            total: round(self.total),
            datasync: round(self.datasync),
            walk: round(self.walk),
            transfer: round(self.transfer),
            delete: round(self.delete),
        }
    }
}

impl Failure {
    /// Of a place in the source.
    #[must_use]
    pub fn of_source(key: ObjectKey, problem: Problem) -> Self {
        Self {
            key,
            operation: problem.operation.to_owned(),
            kind: problem.kind.to_owned(),
            message: problem.message,
            request_id: None,
        }
    }

    pub(super) fn of_file(key: ObjectKey, error: FileError) -> Self {
        match error {
            FileError::Source(problem) => Self::of_source(key, problem),
            FileError::Destination(error) => Self::of_request(key, &error),
        }
    }

    /// Of a file that could not be verified.
    #[must_use]
    pub fn unverifiable(key: ObjectKey) -> Self {
        let message = "the ETag and the stored checksum of this object cannot show whether its content is the file's: pass --read to download the object";
        Self {
            key,
            operation: "compare".to_owned(),
            kind: "unverifiable".to_owned(),
            message: message.to_owned(),
            request_id: None,
        }
    }

    /// Of a line of a plan that does not hold any more.
    #[must_use]
    pub fn changed_since_plan(key: ObjectKey, what: &str) -> Self {
        Self {
            key,
            operation: "apply".to_owned(),
            kind: "changed_since_plan".to_owned(),
            message: format!("{what} since the plan was made: kept the object, make a new plan"),
            request_id: None,
        }
    }

    /// Of a request.
    #[must_use]
    pub fn of_request(key: ObjectKey, error: &S3Error) -> Self {
        let message = if error.kind == ErrorKind::Precondition {
            "another writer changed this object during the run: kept the object, and the next run compares it again"
                .to_owned()
        } else {
            error.message.clone()
        };
        Self {
            key,
            operation: error.operation.name().to_owned(),
            kind: error.kind.name().to_owned(),
            message,
            request_id: error.request_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_files_is_not_an_empty_source_if_there_are_entries_beyond_it() {
        let mut tally = Tally::default();
        tally.end_of_walk(true);
        assert!(!tally.source_is_empty);
        tally.end_of_walk(false);
        assert!(tally.source_is_empty);
        tally.saw(EntryKind::Special);
        tally.end_of_walk(false);
        assert!(!tally.source_is_empty);
    }
}
