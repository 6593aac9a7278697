//! The tally: what happened, counted as it happens. The report and the exit code are derived from it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::counted::counted;
use crate::key::ObjectKey;
use crate::source::entry::{EntryKind, SkipReason};
use crate::source::read_directories::ReadDirectories;
use crate::source::unseen::Unseen;
use crate::sync::counts::{ByteCounts, Counts};
use crate::sync::failure::Failure;
use crate::sync::guard::Guard;
use crate::sync::unpublished::Unpublished;

/// How many entries of a list a report holds.
pub(crate) const LIST_LIMIT: usize = 1000;
/// How many failures of one kind are warnings: a denied prefix can fail a million keys.
const LOGGED_OF_A_KIND: u64 = 10;

/// Deletes that a guard withheld.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Withheld {
    pub(crate) guard: Cow<'static, str>,
    pub(crate) count: u64,
    /// The first of their keys.
    pub(crate) keys: Vec<ObjectKey>,
    /// What happened, and which option allows the deletes.
    pub(crate) message: String,
    /// Whether it is normal for this guard to withhold deletes.
    #[serde(skip)]
    pub(crate) is_normal: bool,
    /// Whether this guard withholds the same deletes in each run, whatever the source shows.
    #[serde(skip)]
    is_lasting: bool,
}

impl Withheld {
    /// The entry of a guard, still without deletes.
    fn by(guard: &Guard) -> Self {
        Self {
            guard: Cow::Borrowed(guard.name()),
            count: 0,
            keys: Vec::new(),
            message: guard.message(),
            is_normal: guard.is_normal(),
            is_lasting: guard.is_lasting(),
        }
    }

    /// The message with the number of deletes before it, as the log and the report have it.
    fn numbered_message(&self) -> String {
        Self::number(&self.guard, self.count) + &self.message
    }

    /// A run without `--delete` counts the objects of the guard `unknown` too.
    fn number(guard: &str, count: u64) -> String {
        if count == 0 {
            String::new()
        } else if guard == Guard::Unknown.name() {
            format!("kept {}: ", counted(count, "object", "objects"))
        } else {
            format!("withheld {}: ", counted(count, "delete", "deletes"))
        }
    }

    /// The entry of a report.
    pub(crate) fn reported(self) -> Self {
        Self { message: self.numbered_message(), ..self }
    }

    /// Adds to the entry of a report what the same guard withheld in another run. Returns `None` if there are too many.
    pub(crate) fn add(&mut self, other: Self) -> Option<()> {
        let count = self.count.checked_add(other.count)?;
        if let Some(reason) = self.message.strip_prefix(&Self::number(&self.guard, self.count)) {
            self.message = Self::number(&self.guard, count) + reason;
        }
        self.count = count;
        self.keys.extend(other.keys);
        self.keys.truncate(LIST_LIMIT);
        Some(())
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) bytes: ByteCounts,
    /// How many entries were skipped for which reason.
    pub(crate) skipped_because: BTreeMap<SkipReason, u64>,
    /// The first failures.
    pub(crate) failures: Vec<Failure>,
    pub(crate) failures_count: u64,
    /// How many failures there were of each operation and kind.
    pub(crate) failures_logged: BTreeMap<(String, String), u64>,
    pub(crate) withheld: Vec<Withheld>,
    /// Directories that the walk could not read to their end.
    pub(crate) unknown_directories: u64,
    /// Why changes are missing in the changes file.
    pub(crate) lost_changes: Option<String>,
    /// Files without an object that could not be published for a reason in the source.
    pub(crate) unpublished: Unpublished,
    /// The directories that the walk read.
    pub(crate) read_directories: Arc<ReadDirectories>,
    /// What came to its name after the walk had read the directory there, if the run has looked for it.
    pub(crate) unseen: Option<Unseen>,
    /// How much of it a plan or verification could not compare.
    pub(crate) not_surveyed: u64,
    /// What the survey has seen of the source's content.
    pub(crate) content: SourceContent,
    /// Whether the filters admit anything of the source besides directories.
    pub(crate) admits_any: bool,
    /// Listed objects that belong to the sync: admitted by the filters, not reserved, inside the key range.
    pub(crate) objects_in_scope: u64,
    /// Files that count as unchanged, although the run decided about them again.
    pub(crate) reopened: u64,
    /// Objects whose file vanished, or lies in a directory that vanished or failed by itself.
    pub(crate) lost_files: u64,
    /// Uploads to keys without an object that failed at the destination.
    pub(crate) absent_uploads_failed: u64,
}

/// What a survey has seen of the source's content: files and followed links that are part of the sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourceContent {
    /// None so far, or none that matters: there are no objects beside it, or an empty source is allowed.
    #[default]
    Unseen,
    /// At least one file or followed link.
    Seen,
    /// There is none, and there should be: the run knows of `objects` in scope.
    Missing { objects: u64 },
}

impl Tally {
    /// Counts an entry of the source. Exactly one of the methods below counts what becomes of it.
    pub(crate) fn saw(&mut self, kind: EntryKind) {
        match kind {
            EntryKind::File => self.counts.files += 1,
            EntryKind::Directory => self.counts.directories += 1,
            EntryKind::Symlink => self.counts.symlinks += 1,
            EntryKind::Special => self.counts.special_skipped += 1,
        }
    }

    /// Returns the guard that applies if the source is empty and should not be.
    pub(crate) const fn empty_source(&self) -> Option<Guard> {
        match self.content {
            SourceContent::Missing { objects } => Some(Guard::EmptySource { objects }),
            SourceContent::Unseen | SourceContent::Seen => None,
        }
    }

    /// Records that the source has no content although the run knows of `objects` in scope: the run is incomplete, even
    /// if there is nothing to delete.
    pub(super) fn content_is_missing(&mut self, objects: u64) {
        self.content = SourceContent::Missing { objects };
        self.withheld.push(Withheld::by(&Guard::EmptySource { objects }));
    }

    /// Leaves the files that were decided about again to their last outcome.
    pub(crate) fn close_reopened(&mut self) {
        self.counts.unchanged = self.counts.unchanged.saturating_sub(std::mem::take(&mut self.reopened));
    }

    pub(crate) fn skipped(&mut self, reason: SkipReason) {
        self.counts.skipped += 1;
        *self.skipped_because.entry(reason).or_default() += 1;
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        self.counts.failed += 1;
        self.list_failure(failure);
    }

    pub(crate) fn delete_failed(&mut self, failure: Failure) {
        self.counts.deletes_failed += 1;
        self.list_failure(failure);
    }

    fn list_failure(&mut self, failure: Failure) {
        let Failure { key, operation, kind, message, request_id } = &failure;
        let logged = self.failures_logged.entry((operation.clone(), kind.clone())).or_default();
        *logged += 1;
        if *logged <= LOGGED_OF_A_KIND {
            tracing::warn!(%key, operation, kind, request_id, "{message}");
        } else {
            tracing::debug!(%key, operation, kind, request_id, "{message}");
        }
        if *logged == LOGGED_OF_A_KIND {
            tracing::warn!(
                operation,
                kind,
                "further failures of this kind are logged at the level debug; the report lists the first {LIST_LIMIT} failures"
            );
        }
        self.failures_count += 1;
        if self.failures.len() < LIST_LIMIT {
            self.failures.push(failure);
        }
    }

    /// A guard withheld the delete of `key`.
    pub(crate) fn withheld(&mut self, guard: &Guard, key: &ObjectKey) {
        self.withheld_many(guard, 1);
        if let Some(withheld) = self.withheld.iter_mut().find(|withheld| withheld.guard == guard.name())
            && withheld.keys.len() < LIST_LIMIT
        {
            withheld.keys.push(key.clone());
        }
    }

    /// A guard withheld deletes whose keys the run does not have.
    pub(crate) fn withheld_many(&mut self, guard: &Guard, count: u64) {
        if count == 0 {
            return;
        }
        self.counts.deletes_withheld += count;
        match self.withheld.iter_mut().find(|withheld| withheld.guard == guard.name()) {
            Some(withheld) => {
                withheld.count += count;
                withheld.is_normal &= guard.is_normal();
            }
            None => self.withheld.push(Withheld { count, ..Withheld::by(guard) }),
        }
    }

    /// Logs which guards withheld deletes, once the numbers are final.
    pub(crate) fn log_withheld(&self) {
        for withheld in &self.withheld {
            let Withheld { guard, count, keys, is_normal, .. } = withheld;
            let (first, message) = (keys.first().map(ObjectKey::as_str), withheld.numbered_message());
            // The exit code is 3 if a file failed that may be the new name.
            let may_be_failed = guard == "may_be_renamed" && self.counts.failed > 0;
            if *is_normal && !may_be_failed {
                tracing::info!(%guard, deletes = count, first, "{message}");
            } else {
                tracing::warn!(%guard, deletes = count, first, "{message}");
            }
        }
    }

    /// How many deletes this guard withheld.
    pub(crate) fn withheld_by(&self, guard: &Guard) -> u64 {
        self.withheld.iter().filter(|withheld| withheld.guard == guard.name()).map(|withheld| withheld.count).sum()
    }

    /// The progress line.
    pub(crate) fn line(&self) -> String {
        let Counts { files, unchanged, uploaded, deleted, failed, deletes_failed, .. } = self.counts;
        let bytes = ByteSize(self.bytes.uploaded).display().iec();
        let failed = failed + deletes_failed;
        let files = counted(files, "file", "files");
        format!(
            "{files} seen, {unchanged} unchanged, {uploaded} uploaded ({bytes}), {deleted} deleted, {failed} failed"
        )
    }

    /// Whether the run compared each entry that is part of the sync, and left none that differs.
    pub(crate) fn left_no_difference(&self) -> bool {
        !self.is_incomplete()
            && self.skipped_because.keys().all(|reason| match reason {
                SkipReason::Vanished | SkipReason::NfsLeftover | SkipReason::ReservedPath => true,
                SkipReason::BrokenLink
                | SkipReason::LinkLoop
                | SkipReason::MissingMount
                | SkipReason::LinkNotFollowed
                | SkipReason::TooYoung
                | SkipReason::NotOverwritten
                | SkipReason::Interrupted => false,
            })
    }

    /// Whether the source had content, and no delete failed or was withheld for a reason that the source may cause.
    pub(crate) fn deletes_are_settled(&self) -> bool {
        self.empty_source().is_none()
            && self.counts.deletes_failed == 0
            && self.withheld.iter().all(|withheld| withheld.is_lasting)
    }

    /// Whether the run is incomplete (exit code 3).
    pub(crate) fn is_incomplete(&self) -> bool {
        self.counts.failed > 0
            || self.lost_changes.is_some()
            || self.not_surveyed > 0
            || self.counts.deletes_failed > 0
            || self.withheld.iter().any(|withheld| !withheld.is_normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_starts_with_the_number_of_deletes() {
        let of = |guard: &Guard, count| {
            let mut tally = Tally::default();
            tally.withheld_many(guard, count);
            tally.withheld.pop().unwrap().reported()
        };
        for guard in Guard::ALL {
            // A run without deletes keeps these objects too.
            let is_kept = matches!(guard, Guard::Unknown);
            let (one, three) =
                if is_kept { ("kept 1 object", "kept 3 objects") } else { ("withheld 1 delete", "withheld 3 deletes") };
            let mut entry = of(&guard, 1);
            assert_eq!(entry.message, format!("{one}: {}", guard.message()));
            entry.add(of(&guard, 2));
            assert_eq!(entry.message, format!("{three}: {}", guard.message()));
        }
        let mut tally = Tally::default();
        tally.content_is_missing(7);
        assert!(tally.withheld.pop().unwrap().reported().message.starts_with("the source has no file"));
    }

    #[test]
    fn an_empty_source_is_incomplete_without_deletes_and_has_one_entry_with_them() {
        let mut tally = Tally::default();
        assert!(!tally.is_incomplete() && tally.empty_source().is_none());
        tally.content_is_missing(7);
        assert!(tally.is_incomplete());
        let guard = tally.empty_source().unwrap();
        assert!(guard.message().contains("7 objects"), "{}", guard.message());
        tally.withheld(&guard, &ObjectKey::new("a"));
        assert_eq!((tally.withheld.len(), tally.withheld[0].count, tally.withheld[0].keys.len()), (1, 1, 1));
    }
}
