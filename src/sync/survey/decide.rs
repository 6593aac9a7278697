//! The decision about one key. A pure function of values.
//!
//! The first row that applies decides:
//!
//! | file | object | condition | decision |
//! |---|---|---|---|
//! | present | | younger than `--min-age`, or changed in the next 24 hours by the host's clock | skip |
//! | present | absent | | upload |
//! | present | present | the sizes differ | upload |
//! | present | present | `auto`, `metadata`: both as in the index row | keep (compare metadata with `metadata`, if no run has seen the metadata, and if the mode stores metadata and the row is of another mode) |
//! | present | present | `auto`, `metadata`: the file as in the row, the object written later with the same MD5 ETag | compare metadata; keep if the mode stores none |
//! | present | present | `auto`, `metadata`: either of them as in the row, or the object has the row's content | compare content |
//! | present | present | `auto`, `metadata`: the row says that a write was not proven | compare content |
//! | present | present | `size-only` | keep |
//! | present | present | `mtime`: mtime after LastModified | upload |
//! | present | present | `mtime`: otherwise | keep |
//! | present | present | `checksum` | compare content |
//! | present | present | `auto`, `metadata`: LastModified is in the future | compare content |
//! | present | present | `auto`, `metadata`: mtime or effective ctime not before LastModified minus the margin | compare content |
//! | present | present | `auto`, `metadata`: a link, what is behind one, or a directory, and the index is of another mode | compare content |
//! | present | present | `auto`, `metadata`: a followed link whose text is as long as the file, and the ETag may be that of the text | compare content |
//! | present | present | `metadata` | compare metadata, and content if the mtime differs |
//! | present | present | `auto`: a link that is copied as a link | keep if the ETag is that of its text, or if the file behind it has another size; otherwise compare content |
//! | present | present | `auto` | keep |
//! | absent | present | `--delete`, not filtered, not reserved, a possible path | delete |
//! | absent | present | otherwise | keep |
//!
//! With `--overwrite never`, an upload over an object and a comparison become a skip.
//!
//! If the mode stores metadata, equal content is not enough: the run also compares the object's metadata, and rewrites it
//! if it differs. What DataSync wrote in this run, or in an execution that did not succeed, is suspect. The run compares it
//! as with `metadata`, because DataSync may have read the file before its last change. It compares the content if the file
//! changed since the execution started, if the verification of an execution failed, or if no stored mtime shows what
//! DataSync read. A row counts for a suspect object only if a run compared them: dates alone prove nothing about it. If the
//! content is suspect, the run must have compared or written the content.
//!
//! The run always subtracts the margin, so a wrong clock costs a comparison and never a missed change. S3 truncates
//! LastModified to the second, which only makes the object older.

use std::time::Duration;

use crate::filter::Filter;
use crate::filter::reserved::is_reserved;
use crate::index::row::{Row, RowMetadata, Written};
use crate::key::{RelativeKey, SourcePath};
use crate::object::{ETagForm, Object};
use crate::source::entry::{EntryKind, FileEntry, SkipReason};
use crate::sync::clocks::Clocks;
use crate::sync::reason::Reason;
use crate::sync::rules::{CompareBy, Rules, Suspect};

/// What is to be done about a file whose key has an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep the object.
    Keep(Reason),
    /// Compare the contents: keep if they are equal, upload if they differ.
    Compare,
    /// Compare the text of the link with the ETag, and the contents only if the other mode may have written the object.
    CompareLink,
    /// Compare the metadata, and the contents only if the mtime differs.
    CompareMetadata,
    /// Compare the metadata alone: the index shows that the contents are equal.
    CompareOnlyMetadata,
    /// Upload the file.
    Upload(Reason),
    /// Leave the file for another run.
    Skip(SkipReason),
}

/// What is to be done about an object without a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrphanDecision {
    /// Delete the object, if no guard withholds it.
    Delete,
    /// Keep the object: this run must not delete it.
    Keep,
    /// Keep the object: no file can have this name, so the run cannot know where the object comes from.
    KeepImpossible,
}

/// How far a file system's clock may be ahead of the host's. A later ctime was stamped by a clock that was wrong.
const MOST_AHEAD: Duration = Duration::from_hours(24);

/// Returns why a file is left for the next run, if it is. A ctime in the future is of a clock that is ahead of the host's,
/// so the age counts as 0. Past [`MOST_AHEAD`], the ctime shows nothing about the age: to wait for it could take years.
pub(super) fn skip(file: &FileEntry, rules: &Rules, clocks: Clocks) -> Option<SkipReason> {
    let ctime = file.stat.ctime;
    let age = match clocks.now.since(ctime) {
        Some(age) => age,
        None if ctime > clocks.now.plus(MOST_AHEAD) => return None,
        None => Duration::ZERO,
    };
    (age < rules.min_age).then_some(SkipReason::TooYoung)
}

/// Decides about a file whose key has an object; `row` is what the index recorded of them.
#[must_use]
pub fn decide(file: &FileEntry, object: &Object, row: Option<&Row>, rules: &Rules, clocks: Clocks) -> Decision {
    if let Some(reason) = skip(file, rules, clocks) {
        return Decision::Skip(reason);
    }
    let decision = decide_by_comparison(file, object, row, rules, clocks);
    if rules.overwrite || matches!(decision, Decision::Keep(_)) {
        decision
    } else {
        Decision::Skip(SkipReason::NotOverwritten)
    }
}

fn decide_by_comparison(
    file: &FileEntry,
    object: &Object,
    row: Option<&Row>,
    rules: &Rules,
    clocks: Clocks,
) -> Decision {
    if file.stat.size_bytes != object.size_bytes {
        return Decision::Upload(Reason::Size);
    }
    let margin = clocks.margin();
    let file_changed = file.stat.mtime.max(file.effective_ctime);
    let suspect = rules.suspect.of(object.last_modified, file_changed, margin);
    let row = row.filter(|row| row.written == Written::Unproven || shows_equal(row.metadata, suspect));
    if let Some(decision) = row.and_then(|row| decide_by_row(file, object, row, rules)) {
        return decision;
    }
    match rules.compare_by {
        CompareBy::Size => Decision::Keep(Reason::SameSize),
        CompareBy::Mtime if file.stat.mtime > object.last_modified => Decision::Upload(Reason::Newer),
        CompareBy::Mtime => Decision::Keep(Reason::Older),
        CompareBy::Content => Decision::Compare,
        CompareBy::TimesOrContent | CompareBy::Metadata => {
            // A suspect object holds the file as it was at some time since the start of the execution.
            let read_at = suspect.since().map_or(object.last_modified, |since| since.min(object.last_modified));
            let settled_before = read_at.minus(margin);
            // The plain mode compares the content instead of metadata.
            let without_mtime = rules.preserve.is_some_and(|preserve| !preserve.mtime);
            let is_of_other_mode = rules.mode_changed && may_be_of_other_kind(file);
            let content_may_differ = suspect.content.is_some() || !suspect.is_empty() && without_mtime
                || is_of_other_mode
                || may_hold_link_text(file, object)
                // The date of an object from the future does not show when the object was written.
                || object.last_modified > clocks.latest
                || file.stat.mtime >= settled_before
                || file.effective_ctime >= settled_before;
            if content_may_differ {
                Decision::Compare
            } else if !suspect.is_empty() || rules.compare_by == CompareBy::Metadata {
                Decision::CompareMetadata
            } else if file.stat.kind == EntryKind::Symlink {
                Decision::CompareLink
            } else {
                Decision::Keep(Reason::Older)
            }
        }
    }
}

/// Whether a row with this evidence shows that an object that is suspect for these reasons is equal.
fn shows_equal(evidence: RowMetadata, suspect: Suspect) -> bool {
    match evidence {
        RowMetadata::SeenWithContent => true,
        RowMetadata::Seen => suspect.content.is_none(),
        RowMetadata::Unseen | RowMetadata::OfOtherMode => suspect.is_empty(),
    }
}

/// Whether an object at this key can hold something else in the other mode, such as the path of a link.
fn may_be_of_other_kind(file: &FileEntry) -> bool {
    file.through_link || file.stat.kind != EntryKind::File
}

/// Whether the object at the key of a followed link may hold the text of the link, as the other mode stores it. The text
/// must be as long as the file, and an ETag that is the MD5 of anything else excludes it.
fn may_hold_link_text(file: &FileEntry, object: &Object) -> bool {
    file.link_text_md5.is_some_and(|text| match object.etag.form() {
        ETagForm::Single(md5) => md5 == text,
        ETagForm::Multipart(..) | ETagForm::Opaque => true,
    })
}

/// Returns the time from the last change of a file to its object, if the object is later.
pub(super) fn distance(file: &FileEntry, object: &Object) -> Option<Duration> {
    object.last_modified.since(file.stat.mtime.max(file.effective_ctime))
}

/// The index row decides if it is about this file or this object.
fn decide_by_row(file: &FileEntry, object: &Object, row: &Row, rules: &Rules) -> Option<Decision> {
    if !matches!(rules.compare_by, CompareBy::TimesOrContent | CompareBy::Metadata) {
        return None;
    }
    if row.written == Written::Unproven {
        return Some(Decision::Compare);
    }
    match (row.fits_file(&file.stat), row.fits_object(object)) {
        // What this mode stores besides the content of a file is unknown; of a link, and behind one, the content too.
        (true, true) if row.metadata == RowMetadata::OfOtherMode && rules.preserve.is_some() => {
            Some(if may_be_of_other_kind(file) { Decision::Compare } else { Decision::CompareOnlyMetadata })
        }
        (true, true) if rules.compare_by == CompareBy::Metadata && row.metadata == RowMetadata::Unseen => {
            Some(Decision::CompareMetadata)
        }
        (true, true) => Some(Decision::Keep(Reason::Remembered)),
        // Another writer replaced the object, and not because the file changed.
        (true, false) if row.has_content_of(object) && object.etag.form() != ETagForm::Opaque => {
            let is_stored = rules.preserve.is_some();
            Some(if is_stored { Decision::CompareOnlyMetadata } else { Decision::Keep(Reason::Remembered) })
        }
        (true, false) | (false, true) => Some(Decision::Compare),
        // The object has the row's content, and the file has changed since: the dates need not show when. Without content,
        // this says nothing.
        (false, false) if object.size_bytes > 0 && row.has_content_of(object) => Some(Decision::Compare),
        (false, false) => None,
    }
}

/// Decides about an object that no entry of the source covers.
pub(super) fn decide_orphan(key: &RelativeKey, rules: &Rules, filter: &Filter) -> OrphanDecision {
    if !rules.delete || !is_in_scope(key, rules, filter) {
        OrphanDecision::Keep
    } else if SourcePath::of(key).is_some() {
        OrphanDecision::Delete
    } else {
        OrphanDecision::KeepImpossible
    }
}

/// Whether an object belongs to the sync: the filters admit it, and it stands neither for the source itself nor for a name
/// that DataSync reserves.
pub(super) fn is_in_scope(key: &RelativeKey, rules: &Rules, filter: &Filter) -> bool {
    let is_reserved = rules.preserve.is_some() && is_reserved(key.as_str());
    !key.is_root() && !is_reserved && filter.admits(key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RelativeKey;
    use crate::metadata::Preserve;
    use crate::object::{ETag, StorageClass};
    use crate::source::entry::Stat;
    use crate::time::EpochNanos;

    /// As the survey decides: a file without an object is uploaded, unless it is left for the next run.
    fn decide(file: &FileEntry, object: Option<&Object>, row: Option<&Row>, rules: &Rules, clocks: Clocks) -> Decision {
        match object {
            Some(object) => super::decide(file, object, row, rules, clocks),
            None => skip(file, rules, clocks).map_or(Decision::Upload(Reason::Absent), Decision::Skip),
        }
    }

    const SECOND: i128 = 1_000_000_000;
    const WRITTEN: i128 = 1_700_000_000 * SECOND;
    const NOW: EpochNanos = EpochNanos(WRITTEN + 1000 * SECOND);

    fn file(size_bytes: u64, mtime: i128, ctime: i128) -> FileEntry {
        let stat = Stat {
            kind: EntryKind::File,
            size_bytes,
            mtime: EpochNanos(mtime),
            ctime: EpochNanos(ctime),
            atime: EpochNanos(0),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            inode: (1, 1),
            seen_at: NOW,
            is_mount_point: false,
        };
        FileEntry { stat, effective_ctime: EpochNanos(ctime), through_link: false, link_text_md5: None }
    }

    fn object(size_bytes: u64) -> Object {
        Object {
            key: RelativeKey::new("a"),
            size_bytes,
            etag: ETag::new("x"),
            last_modified: EpochNanos(WRITTEN),
            storage_class: StorageClass::Standard,
        }
    }

    fn rules(compare_by: CompareBy) -> Rules {
        Rules {
            compare_by,
            min_age: Duration::ZERO,
            delete: true,
            overwrite: true,
            preserve: None,
            suspect: Suspect::default(),
            mode_changed: false,
        }
    }

    fn clocks(difference: Duration) -> Clocks {
        Clocks { difference, now: NOW, latest: NOW }
    }

    fn auto(file: &FileEntry) -> Decision {
        decide(file, Some(&object(3)), None, &rules(CompareBy::TimesOrContent), clocks(Duration::ZERO))
    }

    const OLD: i128 = WRITTEN - 100 * SECOND;

    #[test]
    fn an_absent_object_is_uploaded_however_it_would_be_compared() {
        for compare in [CompareBy::TimesOrContent, CompareBy::Size, CompareBy::Mtime, CompareBy::Content] {
            let decision = decide(&file(3, OLD, OLD), None, None, &rules(compare), clocks(Duration::ZERO));
            assert_eq!(decision, Decision::Upload(Reason::Absent));
        }
    }

    #[test]
    fn another_size_is_uploaded_however_it_is_compared() {
        for compare in [CompareBy::TimesOrContent, CompareBy::Size, CompareBy::Mtime, CompareBy::Content] {
            for size in [0, 2, 4] {
                let decision =
                    decide(&file(size, OLD, OLD), Some(&object(3)), None, &rules(compare), clocks(Duration::ZERO));
                assert_eq!(decision, Decision::Upload(Reason::Size));
            }
        }
    }

    #[test]
    fn older_by_both_times_is_kept() {
        assert_eq!(auto(&file(3, OLD, OLD)), Decision::Keep(Reason::Older));
    }

    #[test]
    fn newer_by_either_time_is_compared_by_content() {
        assert_eq!(auto(&file(3, WRITTEN + 1, OLD)), Decision::Compare);
        assert_eq!(auto(&file(3, OLD, WRITTEN + 1)), Decision::Compare);
        let mut moved = file(3, OLD, OLD);
        moved.effective_ctime = EpochNanos(WRITTEN + 1);
        assert_eq!(auto(&moved), Decision::Compare, "a directory above it was moved");
    }

    #[test]
    fn two_seconds_before_the_object_are_not_before_it() {
        let edge = WRITTEN - 2 * SECOND;
        assert_eq!(auto(&file(3, edge, OLD)), Decision::Compare);
        assert_eq!(auto(&file(3, OLD, edge)), Decision::Compare);
        assert_eq!(auto(&file(3, edge - 1, edge - 1)), Decision::Keep(Reason::Older));
    }

    #[test]
    fn a_clock_that_is_off_widens_the_margin_in_either_direction() {
        let hour = Duration::from_hours(1);
        let just_outside = WRITTEN - 3602 * SECOND;
        let decided = |time| {
            decide(&file(3, time, time), Some(&object(3)), None, &rules(CompareBy::TimesOrContent), clocks(hour))
        };
        assert_eq!(decided(just_outside), Decision::Compare);
        assert_eq!(decided(just_outside - 1), Decision::Keep(Reason::Older));
    }

    #[test]
    fn size_only_looks_at_no_time() {
        let decision =
            decide(&file(3, NOW.0, NOW.0), Some(&object(3)), None, &rules(CompareBy::Size), clocks(Duration::ZERO));
        assert_eq!(decision, Decision::Keep(Reason::SameSize));
    }

    #[test]
    fn mtime_looks_at_nothing_else() {
        let decided = |mtime| {
            decide(&file(3, mtime, NOW.0), Some(&object(3)), None, &rules(CompareBy::Mtime), clocks(Duration::ZERO))
        };
        assert_eq!(decided(WRITTEN + 1), Decision::Upload(Reason::Newer));
        assert_eq!(decided(WRITTEN), Decision::Keep(Reason::Older));
    }

    #[test]
    fn checksum_compares_whatever_the_times_say() {
        let decision =
            decide(&file(3, OLD, OLD), Some(&object(3)), None, &rules(CompareBy::Content), clocks(Duration::ZERO));
        assert_eq!(decision, Decision::Compare);
    }

    #[test]
    fn a_file_younger_than_asked_for_is_left_for_the_next_run() {
        let rules = Rules { min_age: Duration::from_mins(1), ..rules(CompareBy::TimesOrContent) };
        let decided =
            |age: i128| decide(&file(3, OLD, NOW.0 - age * SECOND), None, None, &rules, clocks(Duration::ZERO));
        assert_eq!(decided(59), Decision::Skip(SkipReason::TooYoung));
        assert_eq!(decided(60), Decision::Upload(Reason::Absent));
        for ahead in [1, 5, 3600, 86_400] {
            assert_eq!(decided(-ahead), Decision::Skip(SkipReason::TooYoung), "the file system's clock is ahead");
        }
        assert_eq!(decided(-86_401), Decision::Upload(Reason::Absent), "a wrong clock shows nothing about the age");
    }

    #[test]
    fn without_min_age_no_file_is_too_young() {
        let decided =
            |ctime: i128| skip(&file(3, OLD, ctime), &rules(CompareBy::TimesOrContent), clocks(Duration::ZERO));
        assert_eq!((decided(NOW.0), decided(NOW.0 + SECOND)), (None, None));
    }

    #[test]
    fn by_metadata_the_metadata_tells_where_the_times_prove_the_content_and_else_the_content() {
        let decided = |time: i128, rules: &Rules| {
            decide(&file(3, time, time), Some(&object(3)), None, rules, clocks(Duration::ZERO))
        };
        let by_metadata = rules(CompareBy::Metadata);
        assert_eq!(decided(OLD, &by_metadata), Decision::CompareMetadata);
        assert_eq!(decided(WRITTEN, &by_metadata), Decision::Compare);
        let since = |time| Rules { suspect: Suspect::late(EpochNanos(time)), ..rules(CompareBy::TimesOrContent) };
        let of_success =
            |since| Rules { suspect: Suspect::changed(EpochNanos(since)), ..rules(CompareBy::TimesOrContent) };
        assert_eq!(decided(OLD, &of_success(WRITTEN)), Decision::Keep(Reason::Older), "the execution read this file");
        assert_eq!(decided(OLD, &of_success(OLD)), Decision::Compare, "the file changed after the start");
        let torn = Rules { suspect: Suspect::content(EpochNanos(WRITTEN)), ..rules(CompareBy::TimesOrContent) };
        assert_eq!(decided(OLD, &torn), Decision::Compare);
        assert_eq!(decided(OLD, &since(WRITTEN)), Decision::CompareMetadata);
        assert_eq!(decided(OLD, &since(WRITTEN + 2 * SECOND)), Decision::CompareMetadata, "the clocks are not one");
        assert_eq!(decided(OLD, &since(WRITTEN + 3 * SECOND)), Decision::Keep(Reason::Older));
        let without_mtime = Some(Preserve { mtime: false, ..Preserve::ALL });
        let no_mtime = Rules { preserve: without_mtime, ..since(WRITTEN) };
        assert_eq!(decided(OLD, &no_mtime), Decision::Compare, "no metadata shows what DataSync read");
    }

    #[test]
    fn a_row_counts_for_a_suspect_object_only_if_a_run_compared_it() {
        let decided = |compared, suspect| {
            let row = Row::of(&object(3), &file(3, OLD, OLD).stat, compared, Duration::ZERO);
            let rules = Rules { preserve: Some(Preserve::ALL), suspect, ..rules(CompareBy::TimesOrContent) };
            decide(&file(3, OLD, OLD), Some(&object(3)), Some(&row), &rules, clocks(Duration::ZERO))
        };
        let (none, suspect) = (Suspect::default(), Suspect::late(EpochNanos(WRITTEN)));
        assert_eq!(decided(RowMetadata::Seen, suspect), Decision::Keep(Reason::Remembered));
        assert_eq!(decided(RowMetadata::Unseen, none), Decision::Keep(Reason::Remembered));
        assert_eq!(decided(RowMetadata::Unseen, suspect), Decision::CompareMetadata);
        let content = Suspect::content(EpochNanos(0)).and(suspect);
        assert_eq!(decided(RowMetadata::Seen, content), Decision::Compare, "no run has compared the content");
        assert_eq!(decided(RowMetadata::SeenWithContent, content), Decision::Keep(Reason::Remembered));
    }

    #[test]
    fn with_overwrite_never_what_is_there_stays_and_what_is_absent_is_uploaded() {
        let never = Rules { overwrite: false, ..rules(CompareBy::TimesOrContent) };
        let there = object(3);
        let decided =
            |size, time, object| decide(&file(size, time, time), object, None, &never, clocks(Duration::ZERO));
        assert_eq!(decided(4, OLD, Some(&there)), Decision::Skip(SkipReason::NotOverwritten));
        assert_eq!(decided(3, WRITTEN, Some(&there)), Decision::Skip(SkipReason::NotOverwritten));
        assert_eq!(decided(3, OLD, Some(&there)), Decision::Keep(Reason::Older));
        assert_eq!(decided(3, OLD, None), Decision::Upload(Reason::Absent));
    }

    #[test]
    fn a_reserved_key_is_no_orphan_where_the_mode_is_datasyncs() {
        let datasync = Rules { preserve: Some(Preserve::ALL), ..rules(CompareBy::TimesOrContent) };
        for key in [".aws-datasync/a", "a/b.snapshot", "a/.zfs/"] {
            assert_eq!(
                decide_orphan(&RelativeKey::new(key), &datasync, &Filter::default()),
                OrphanDecision::Keep,
                "{key}"
            );
            let plain = rules(CompareBy::TimesOrContent);
            assert_eq!(
                decide_orphan(&RelativeKey::new(key), &plain, &Filter::default()),
                OrphanDecision::Delete,
                "{key}"
            );
        }
    }

    #[test]
    fn what_was_sent_and_not_proven_is_compared_whatever_its_dates() {
        let row = Row::unproven(&object(3).key);
        let (old, suspect) = (file(3, OLD, OLD), Suspect::late(EpochNanos(WRITTEN)));
        for (compare_by, suspect, expected) in [
            (CompareBy::TimesOrContent, Suspect::default(), Decision::Compare),
            (CompareBy::TimesOrContent, suspect, Decision::Compare),
            (CompareBy::Metadata, Suspect::default(), Decision::Compare),
            (CompareBy::Size, Suspect::default(), Decision::Keep(Reason::SameSize)),
        ] {
            let rules = Rules { suspect, ..rules(compare_by) };
            let decided = |row| decide(&old, Some(&object(3)), row, &rules, clocks(Duration::ZERO));
            assert_eq!(decided(Some(&row)), expected);
            assert_ne!(decided(None), Decision::Compare, "without a row, the dates would decide");
        }
    }

    #[test]
    fn what_is_remembered_decides_where_it_is_of_this_file_or_of_this_object() {
        let later = WRITTEN + 50 * SECOND;
        let row = Row::of(&object(3), &file(3, OLD, OLD).stat, RowMetadata::Seen, Duration::ZERO);
        let rewritten = Object { last_modified: EpochNanos(later), ..object(3) };
        let replaced = Object { etag: ETag::new("y"), ..rewritten.clone() };
        let decided = |file: &FileEntry, object: &Object, compare_by, preserve| {
            let rules = Rules { preserve, ..rules(compare_by) };
            decide(file, Some(object), Some(&row), &rules, clocks(Duration::ZERO))
        };
        let plain = |file: &FileEntry, object: &Object| decided(file, object, CompareBy::TimesOrContent, None);
        let same = Decision::Keep(Reason::Remembered);
        assert_eq!(plain(&file(3, OLD, OLD), &object(3)), same);
        let mut below_moved = file(3, OLD, OLD);
        below_moved.effective_ctime = NOW;
        assert_eq!(plain(&below_moved, &object(3)), same, "the file's own ctime shows that it is the same file");
        assert_eq!(plain(&file(3, OLD, OLD + 1), &object(3)), Decision::Compare, "the mtime was put back");
        assert_eq!(plain(&file(3, OLD - 1, OLD), &object(3)), Decision::Compare, "however old it is");
        assert_eq!(plain(&file(3, OLD, OLD), &replaced), Decision::Compare, "replaced behind our back");
        assert_eq!(plain(&file(3, OLD + 1, OLD + 1), &replaced), Decision::Keep(Reason::Older), "by DataSync");
        assert_eq!(plain(&file(4, OLD, OLD), &object(3)), Decision::Upload(Reason::Size));
        let unsettled = Row { file: None, ..row.clone() };
        let decided_by = |object: &Object| {
            decide(
                &file(3, OLD, OLD),
                Some(object),
                Some(&unsettled),
                &rules(CompareBy::TimesOrContent),
                clocks(Duration::ZERO),
            )
        };
        assert_eq!(decided_by(&object(3)), Decision::Compare, "the file may have changed since, at the same times");
        assert_eq!(decided_by(&replaced), Decision::Keep(Reason::Older), "the row is about another object");

        let md5 = Object { etag: ETag::new("9e107d9d372bb6826bd81d3542a419d6"), ..object(3) };
        let rewritten_md5 = Object { last_modified: EpochNanos(later), ..md5.clone() };
        let row = Row::of(&md5, &file(3, OLD, OLD).stat, RowMetadata::Seen, Duration::ZERO);
        let decided_md5 = |preserve| {
            let rules = Rules { preserve, ..rules(CompareBy::TimesOrContent) };
            decide(&file(3, OLD, OLD), Some(&rewritten_md5), Some(&row), &rules, clocks(Duration::ZERO))
        };
        assert_eq!(decided_md5(None), same, "the same content, written again");
        assert_eq!(decided_md5(Some(Preserve::ALL)), Decision::CompareOnlyMetadata);
        assert_eq!(
            plain(&file(3, OLD, OLD), &rewritten),
            Decision::Compare,
            "an ETag that shows nothing about the content"
        );

        let metadata = decided(&file(3, OLD, OLD), &object(3), CompareBy::Metadata, Some(Preserve::ALL));
        assert_eq!(metadata, same);
        let unseen = Row { metadata: RowMetadata::Unseen, ..row };
        let rules_of = |compare_by| Rules { preserve: Some(Preserve::ALL), ..rules(compare_by) };
        let by = |compare_by| {
            decide(&file(3, OLD, OLD), Some(&md5), Some(&unseen), &rules_of(compare_by), clocks(Duration::ZERO))
        };
        assert_eq!(
            by(CompareBy::Metadata),
            Decision::CompareMetadata,
            "the option compares metadata that the index row does not hold"
        );
        assert_eq!(by(CompareBy::TimesOrContent), same);
        let of_other_mode = Row { metadata: RowMetadata::OfOtherMode, ..unseen.clone() };
        let in_mode = |preserve| {
            let rules = Rules { preserve, ..rules(CompareBy::TimesOrContent) };
            decide(&file(3, OLD, OLD), Some(&md5), Some(&of_other_mode), &rules, clocks(Duration::ZERO))
        };
        assert_eq!(in_mode(Some(Preserve::ALL)), Decision::CompareOnlyMetadata, "the other mode stored other metadata");
        assert_eq!(in_mode(None), same, "the content of a file is the same in each mode");
        let content = decided(&file(3, OLD, OLD), &object(3), CompareBy::Content, None);
        assert_eq!(content, Decision::Compare, "the option overrides the index row");
        let mtime = decided(&file(3, OLD, OLD + 1), &object(3), CompareBy::Mtime, None);
        assert_eq!(mtime, Decision::Keep(Reason::Older));
    }

    #[test]
    fn a_change_of_mode_compares_links_and_directories_without_a_row() {
        let decided = |mode_changed, entry: &FileEntry| {
            let rules = Rules { mode_changed, ..rules(CompareBy::TimesOrContent) };
            decide(entry, Some(&object(3)), None, &rules, clocks(Duration::ZERO))
        };
        let of_kind = |kind| FileEntry { stat: Stat { kind, ..file(3, OLD, OLD).stat }, ..file(3, OLD, OLD) };
        let behind_link = FileEntry { through_link: true, ..file(3, OLD, OLD) };
        for entry in [of_kind(EntryKind::Symlink), of_kind(EntryKind::Directory), behind_link] {
            assert_eq!(decided(true, &entry), Decision::Compare);
            let is_link = entry.stat.kind == EntryKind::Symlink;
            let otherwise = if is_link { Decision::CompareLink } else { Decision::Keep(Reason::Older) };
            assert_eq!(decided(false, &entry), otherwise);
        }
        assert_eq!(decided(true, &file(3, OLD, OLD)), Decision::Keep(Reason::Older));
    }

    #[test]
    fn an_object_that_may_hold_the_text_of_a_followed_link_is_compared() {
        let text = crate::object::md5_of(b"to");
        let decided = |link_text_md5, etag| {
            let entry = FileEntry { through_link: true, link_text_md5, ..file(3, OLD, OLD) };
            let object = Object { etag, ..object(3) };
            decide(&entry, Some(&object), None, &rules(CompareBy::TimesOrContent), clocks(Duration::ZERO))
        };
        assert_eq!(decided(Some(text), ETag::single(text)), Decision::Compare);
        assert_eq!(decided(Some(text), ETag::new("opaque")), Decision::Compare);
        assert_eq!(decided(Some(text), ETag::single([7; 16])), Decision::Keep(Reason::Older), "of other content");
        assert_eq!(decided(None, ETag::new("opaque")), Decision::Keep(Reason::Older), "of another length");
    }

    #[test]
    fn times_at_the_ends_of_time_are_compared_without_overflow() {
        for time in [i128::MIN, i128::MAX] {
            let extreme = Object { last_modified: EpochNanos(time), ..object(3) };
            let _ = decide(
                &file(3, -time.saturating_neg(), time),
                Some(&extreme),
                None,
                &rules(CompareBy::TimesOrContent),
                Clocks { difference: Duration::MAX, now: EpochNanos(time), latest: EpochNanos(time) },
            );
        }
    }

    #[test]
    fn an_orphan_is_deleted_only_where_that_is_asked_for() {
        let filter = Filter::default();
        let keep = Rules { delete: false, ..rules(CompareBy::TimesOrContent) };
        assert_eq!(
            decide_orphan(&RelativeKey::new("a"), &rules(CompareBy::TimesOrContent), &filter),
            OrphanDecision::Delete
        );
        assert_eq!(decide_orphan(&RelativeKey::new("a"), &keep, &filter), OrphanDecision::Keep);
        assert_eq!(
            decide_orphan(&RelativeKey::new(""), &rules(CompareBy::TimesOrContent), &filter),
            OrphanDecision::Keep
        );
    }

    #[test]
    fn a_key_outside_the_filters_is_no_orphan() {
        let decided = |key, include, exclude| {
            decide_orphan(
                &RelativeKey::new(key),
                &rules(CompareBy::TimesOrContent),
                &Filter::new(include, exclude).unwrap(),
            )
        };
        assert_eq!(decided("a.tmp", None, Some("*.tmp")), OrphanDecision::Keep);
        assert_eq!(decided("b/a", Some("/a*"), None), OrphanDecision::Keep);
        assert_eq!(decided("a/b", Some("/a*"), Some("*.tmp")), OrphanDecision::Delete);
    }

    #[test]
    fn a_key_that_no_path_can_have_is_reported_and_left() {
        for key in ["a//b", "../x", "/abs", ".", "a/./b", "a/..", "a//", "a\0b", "/"] {
            assert_eq!(
                decide_orphan(&RelativeKey::new(key), &rules(CompareBy::TimesOrContent), &Filter::default()),
                OrphanDecision::KeepImpossible,
                "{key:?}"
            );
        }
        for key in ["a/", "a", "a/..b", "...", "a\u{1}"] {
            assert_eq!(
                decide_orphan(&RelativeKey::new(key), &rules(CompareBy::TimesOrContent), &Filter::default()),
                OrphanDecision::Delete,
                "{key:?}"
            );
        }
    }
}
