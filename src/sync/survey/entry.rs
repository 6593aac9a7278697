//! One entry of the source: counted, and decided about if the mode stores it as an object.

use super::Step;
use super::decide::{Decision, decide, distance, skip};
use crate::index::row::Row;
use crate::object::Object;
use crate::source::entry::{Entry, EntryKind, FileEntry, Found, Nameless, Problem, SkipReason, Unknown};
use crate::sync::clocks::Clocks;
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::job::{Job, Kept, SourceFile};
use crate::sync::reason::Reason;
use crate::sync::rules::CompareBy;
use crate::sync::tally::{SourceContent, Tally};

/// Counts an entry, and returns what is left to be done about it.
pub(super) fn step_of_entry(
    context: &Context,
    entry: Entry,
    object: Option<Object>,
    row: Option<&Row>,
    tally: &mut Tally,
) -> Option<Step> {
    if entry.is_content() {
        tally.content = SourceContent::Seen;
    }
    tally.admits_any |= is_admitted(&entry.found);
    let key = entry.key;
    let is_of_another_run = !context.source.tree_range().keys().contains(key.as_bytes());
    match entry.found {
        // A directory is not an object in plain mode. A marker that a console made for it stays.
        Found::Directory(_) if context.rules.preserve.is_none() => None,
        // The walk read this directory only because an include pattern may match below it.
        Found::Directory(_) if !context.filter.admits(key.as_str()) => {
            tally.saw(EntryKind::Directory);
            tally.counts.filtered += 1;
            None
        }
        // The run whose keys include this key counts it. This run only needs to know what it covers.
        Found::Filtered(_) | Found::Failed(..) | Found::Skipped(..) if is_of_another_run => None,
        Found::Unknown(_, unknown) if is_of_another_run && !unknown.hides_files() => None,
        Found::Named(kind) => {
            tally.saw(kind);
            None
        }
        Found::Special => {
            tally.saw(EntryKind::Special);
            None
        }
        Found::Skipped(kind, reason) => {
            tally.saw(kind);
            tally.skipped(reason);
            None
        }
        Found::Filtered(kind) => {
            tally.saw(kind);
            tally.counts.filtered += 1;
            None
        }
        Found::Failed(kind, problem) => {
            tally.saw(kind);
            if object.is_none() {
                tally.unpublished.add_place(key.as_bytes());
            }
            tally.failed(Failure::of_source(context.key(&key), problem));
            None
        }
        Found::Nameless(kind, nameless) => {
            tally.saw(kind);
            match nameless {
                Nameless::Filtered => tally.counts.filtered += 1,
                Nameless::Skipped(reason) => tally.skipped(reason),
                Nameless::Special => {}
                Nameless::Failed(problem, path) => {
                    tally.unpublished.add_place(&path);
                    tally.failed(Failure::of_source(context.key(&key), problem));
                }
            }
            None
        }
        Found::Unknown(kind, unknown) => {
            tally.saw(kind);
            match unknown {
                Unknown::BrokenLink => tally.skipped(SkipReason::BrokenLink),
                Unknown::LinkLoop => tally.skipped(SkipReason::LinkLoop),
                Unknown::MissingMount { hides_files: false } => tally.skipped(SkipReason::MissingMount),
                Unknown::MissingMount { hides_files: true } => {
                    tally.unpublished.add_place(key.as_bytes());
                    tally.failed(Failure::of_source(context.key(&key), Problem::missing_mount()));
                }
                Unknown::TooManyLinks => {
                    tally.failed(Failure::of_source(context.key(&key), Problem::too_many_links()));
                }
            }
            None
        }
        Found::Unread { problem, .. } => {
            tally.unknown_directories += 1;
            tally.saw(EntryKind::Directory);
            tally.failed(Failure::of_source(context.key(&key), problem));
            None
        }
        Found::File(entry) | Found::Symlink(entry) | Found::Directory(entry) => {
            tally.saw(entry.stat.kind);
            tally.bytes.source += entry.stat.size_bytes;
            if let Some(inner) = context.memory.inner.of_entry(&key) {
                if object.is_none() {
                    tally.unpublished.add(&entry.stat);
                }
                tally.failed(Failure::of_other_destination(context.key(&key), inner));
                return None;
            }
            step_of_file(context, SourceFile { key, entry }, object, row, tally)
        }
    }
}

/// Whether an entry shows that the filters admit some of the source. A directory does not: files are what a sync is for.
const fn is_admitted(found: &Found) -> bool {
    match found {
        Found::Filtered(_)
        | Found::Nameless(_, Nameless::Filtered | Nameless::Special)
        | Found::Directory(_)
        | Found::Named(EntryKind::Directory)
        | Found::Special
        | Found::Skipped(_, SkipReason::ReservedPath | SkipReason::NfsLeftover) => false,
        Found::File(_)
        | Found::Symlink(_)
        | Found::Named(_)
        | Found::Nameless(..)
        | Found::Skipped(..)
        | Found::Failed(..)
        | Found::Unknown(..)
        | Found::Unread { .. } => true,
    }
}

fn step_of_file(
    context: &Context,
    file: SourceFile,
    object: Option<Object>,
    row: Option<&Row>,
    tally: &mut Tally,
) -> Option<Step> {
    let (rules, clocks) = (&context.rules, context.clocks());
    let Some(object) = object else {
        if let Some(reason) = skip(&file.entry, rules, clocks) {
            tally.unpublished.add(&file.entry.stat);
            tally.skipped(reason);
            return None;
        }
        return Some(Step::Do(Job::Upload { file, object: None, reason: Reason::Absent }));
    };
    match decide(&file.entry, &object, row, rules, clocks) {
        Decision::Skip(reason) => {
            tally.skipped(reason);
            None
        }
        Decision::Keep(reason) => {
            record_kept(context, &file.entry, &object, row, reason);
            if let (Reason::Older, CompareBy::TimesOrContent) = (reason, rules.compare_by) {
                note_kept_by_times(context, &file, &object, clocks);
            }
            Some(Step::Keep(Kept { file, object, reason }))
        }
        Decision::Upload(reason) => Some(Step::Do(Job::Upload { file, object: Some(object), reason })),
        Decision::Compare => Some(Step::Do(Job::Compare { file, object })),
        Decision::CompareLink => {
            note_kept_by_times(context, &file, &object, clocks);
            Some(Step::Do(Job::CompareLink { file, object }))
        }
        Decision::CompareMetadata => Some(Step::Do(Job::CompareMetadata { file, object })),
        Decision::CompareOnlyMetadata => Some(Step::Do(Job::CompareOnlyMetadata { file, object })),
    }
}

/// Notes how much older than its object the last change of a file is, for a margin that grows later.
fn note_kept_by_times(context: &Context, file: &SourceFile, object: &Object, clocks: Clocks) {
    if let Some(distance) = distance(&file.entry, object) {
        context.kept_by_times.note(&file.key, distance, clocks.margin());
    }
}

/// Records what a decision without a comparison showed. All times of a file prove that it is equal to its object; the
/// mtime alone does not.
fn record_kept(context: &Context, file: &FileEntry, object: &Object, row: Option<&Row>, reason: Reason) {
    match (reason, row) {
        (Reason::Remembered, Some(row)) => context.record_time(row, object),
        (Reason::Older, _) if context.rules.compare_by != CompareBy::Mtime => {
            context.record_older(object, &file.stat);
        }
        _ => {}
    }
}
