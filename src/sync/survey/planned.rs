//! The survey of a reviewed plan: a line counts only if its file and its object are still what the plan says.
//!
//! A plan line holds for one state of both sides. The run stats the file and sends a HEAD for the object, besides the
//! condition of the write itself. So it refuses a changed line by name before it reads gigabytes for it, and does so on
//! servers without conditional writes too. The run carries out the other lines: uploads first, then deletes, each
//! re-checked.

use std::io;

use futures::StreamExt;

use super::Step;
use super::decide::is_in_scope;
use crate::destination::error::{ErrorKind, S3Error};
use crate::index::row::RowMetadata;
use crate::key::SourcePath;
use crate::object::Object;
use crate::served::InnerDestination;
use crate::source::entry::{EntryKind, FileEntry, Found};
use crate::source::presence::Presence;
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::fatal::Fatal;
use crate::sync::guard::{Guard, NewName};
use crate::sync::job::{Job, Kept, SourceFile};
use crate::sync::plan_file::{Action, PlanFile, PlanLine};
use crate::sync::tally::{SourceContent, Tally};
use crate::sync::transfer::compare::compare;
use crate::sync::verdict::Verdict;

/// Why a line is not carried out.
enum Refusal {
    /// The file or the object has changed; this says what.
    Changed(String),
    /// What the source has at the key of a delete is out of sight.
    Unknown,
    /// `plan` did not write the line: no file can have the key, or the plan's options leave it out.
    NotOfThePlan(&'static str),
    /// S3 did not say what the object is.
    Failed(S3Error),
}

pub(super) async fn survey(
    context: &Context,
    plan: &PlanFile,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    tally.objects_in_scope = plan.objects();
    let lines = plan.lines().map_err(Fatal::ReadPlan)?;
    let lines = lines.filter(|line| !line.as_ref().is_ok_and(|line| line.action == Action::Keep));
    let checks = lines.map(|line| async move {
        let line = line?;
        let checked = check(context, &line).await;
        io::Result::Ok((line, checked))
    });
    let mut done = 0_u64;
    let mut checked = std::pin::pin!(futures::stream::iter(checks).buffered(context.destination.max_requests()));
    loop {
        let next = tokio::select! {
            next = checked.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some(checked) = next else {
            log_done(done);
            return Ok(());
        };
        let (line, checked) = checked.map_err(Fatal::ReadPlan)?;
        let key = context.destination.prefix().relative(&line.key);
        if let Some(inner) = key.as_ref().and_then(|key| context.memory.inner.of_object(key)) {
            refuse_other(line, inner, tally);
            continue;
        }
        match checked {
            Ok(Some(Step::Orphan(_))) if plan.lacks_new_file(&line) => {
                let guard = Guard::MayBeRenamed { new_name: NewName::NotInPlan, unknown_size: None };
                tally.withheld(&guard, &line.key);
            }
            Ok(Some(step)) => {
                tally.counts.objects += u64::from(line.etag.is_some());
                done += u64::from(matches!(step, Step::Keep(_)));
                let file = match &step {
                    Step::Do(job) => Some(job.file()),
                    Step::Keep(kept) => Some(&kept.file),
                    Step::Orphan(_) => None,
                };
                if let Some(SourceFile { entry: FileEntry { stat, .. }, .. }) = file {
                    if stat.kind == EntryKind::File {
                        tally.content = SourceContent::Seen;
                    }
                    tally.saw(stat.kind);
                    tally.bytes.source += stat.size_bytes;
                }
                take(step, tally).await?;
            }
            Ok(None) => done += 1,
            Err(Refusal::Unknown) => tally.withheld(&Guard::Unknown, &line.key),
            Err(Refusal::Changed(what)) => refuse(line, &what, tally),
            Err(Refusal::NotOfThePlan(why)) => {
                tally.saw(EntryKind::File);
                tally.failed(Failure::not_of_the_plan(line.key, why));
            }
            Err(Refusal::Failed(error)) if error.kind == ErrorKind::Interrupted => return Ok(()),
            Err(Refusal::Failed(error)) if error.kind.ends_the_run() => {
                return Err(Fatal::destination(&context.destination, error));
            }
            Err(Refusal::Failed(error)) if line.action == Action::Delete => {
                tally.delete_failed(Failure::of_request(line.key, &error));
            }
            Err(Refusal::Failed(error)) => {
                tally.saw(EntryKind::File);
                tally.absent_uploads_failed += u64::from(line.etag.is_none());
                tally.failed(Failure::of_request(line.key, &error));
            }
        }
        context.progress.show(|| tally.line());
    }
}

/// An earlier `apply` carried these lines out.
fn log_done(lines: u64) {
    if lines > 0 {
        tracing::info!(lines, "skipped lines of the plan that are done already");
    }
}

/// Another destination has this key since the plan was made.
fn refuse_other(line: PlanLine, inner: &InnerDestination, tally: &mut Tally) {
    if line.action == Action::Delete {
        return tally.withheld(&Guard::other_destination(inner), &line.key);
    }
    tally.saw(EntryKind::File);
    tally.absent_uploads_failed += u64::from(line.etag.is_none());
    tally.failed(Failure::of_other_destination(line.key, inner));
}

fn refuse(line: PlanLine, what: &str, tally: &mut Tally) {
    if line.action == Action::Delete {
        tracing::warn!(key = %line.key, "{what} since the plan was made: not deleted");
        return tally.withheld(&Guard::ChangedSincePlan, &line.key);
    }
    tally.saw(EntryKind::File);
    // It may be the new name of a file whose old name the plan deletes.
    tally.absent_uploads_failed += u64::from(line.etag.is_none());
    tally.failed(Failure::changed_since_plan(line.key, what));
}

/// Re-checks a line on both sides. Returns `None` if the object to be deleted no longer exists.
async fn check(context: &Context, line: &PlanLine) -> Result<Option<Step>, Refusal> {
    let changed = |what: &str| Err(Refusal::Changed(what.to_owned()));
    let Some(key) = context.destination.prefix().relative(&line.key) else {
        return changed("the destination changed, and no longer includes this key");
    };
    let path = SourcePath::of(&key).ok_or(Refusal::NotOfThePlan("is not a path below the source"))?;
    let is_delete = line.action == Action::Delete;
    // A mode that stores directories has an object for the source itself.
    let is_own_root = key.is_root() && !is_delete;
    let is_in_range = context.source.tree_range().keys().contains(key.as_bytes());
    let is_planned_key = is_own_root || is_in_range && is_in_scope(&key, &context.rules, &context.filter);
    if !is_planned_key {
        return Err(Refusal::NotOfThePlan(
            "is left out by the plan's filters, its key range or DataSync's reserved names",
        ));
    }
    let object = context.destination.object(&key).await.map_err(Refusal::Failed)?;
    if is_delete && object.is_none() {
        return Ok(None);
    }
    let is_planned_object = object.as_ref().map(|object| object.etag.text()) == line.etag;
    if !is_planned_object && (is_delete || object.is_none()) {
        return changed("the object has changed");
    }
    if let (true, Some(object)) = (is_delete, &object) {
        return match context.source.presences(vec![key]).await.first() {
            Some(Presence::Absent) => Ok(Some(Step::Orphan(object.clone()))),
            Some(Presence::Unknown) => Err(Refusal::Unknown),
            Some(Presence::Failed(problem)) => {
                changed(&format!("cannot see whether the file is still gone ({}), which changed", problem.message))
            }
            Some(Presence::Present) | None => changed("the file exists again"),
        };
    }
    let entry = match context.source.stat_named(&path).await.found {
        Found::File(entry) | Found::Symlink(entry) | Found::Directory(entry) => entry,
        Found::Failed(_, problem) if problem.kind == "not_found" => return changed("the file was removed"),
        Found::Failed(_, problem) => return changed(&format!("the file has changed ({})", problem.message)),
        Found::Unknown(..) => {
            return changed("cannot see what is at this path (a broken link, or a missing mount), which changed");
        }
        Found::Special
        | Found::Named(_)
        | Found::Skipped(..)
        | Found::Filtered(_)
        | Found::Nameless(..)
        | Found::Unread { .. } => return changed("the file no longer exists, or something else took its place"),
    };
    if !is_as_planned(&entry, line) {
        return changed("the file has changed");
    }
    let file = SourceFile { key, entry };
    let object = match object {
        Some(object) if !is_planned_object => return done(context, file, object).await,
        object => object,
    };
    Ok(Some(Step::Do(match (line.action, object) {
        (Action::RewriteMetadata, Some(object)) => Job::CompareMetadata { file, object },
        (_, object) => Job::Upload { file, object, reason: line.reason },
    })))
}

/// Keeps an object that already is what the line asks for: an earlier `apply` carried the line out.
async fn done(context: &Context, file: SourceFile, object: Object) -> Result<Option<Step>, Refusal> {
    let job = Job::Compare { file: file.clone(), object: object.clone() };
    let Verdict::Equal(reason, stat) = compare(context, &job).await else {
        return Err(Refusal::Changed("the object has changed".to_owned()));
    };
    context.record_equal(&object, &stat, RowMetadata::SeenWithContent);
    Ok(Some(Step::Keep(Kept { file, object, reason })))
}

fn is_as_planned(file: &FileEntry, line: &PlanLine) -> bool {
    file.stat.size_bytes == line.size
        && Some(file.stat.mtime.0) == line.source_mtime_ns
        && Some(file.stat.ctime.0) == line.source_ctime_ns
}
