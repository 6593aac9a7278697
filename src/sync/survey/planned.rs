//! The survey of a reviewed plan: a line counts only if its file and its object are still what the plan says.
//!
//! A plan line holds for one state of both sides. The run stats the file and sends a HEAD for the object, besides the
//! condition of the write itself. So it refuses a changed line by name before it reads gigabytes for it, and does so on
//! servers without conditional writes too. The run carries out the other lines: uploads first, then deletes, each
//! re-checked.

use std::io;

use futures::StreamExt;

use super::Step;
use crate::destination::error::{ErrorKind, S3Error};
use crate::object::Object;
use crate::source::entry::{EntryKind, FileEntry, Found};
use crate::source::presence::Presence;
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::fatal::Fatal;
use crate::sync::guard::Guard;
use crate::sync::job::{Job, SourceFile};
use crate::sync::plan_file::{Action, PlanFile, PlanLine};
use crate::sync::tally::Tally;

/// The result of re-checking a line on both sides.
enum Checked {
    /// The line still holds, for a file.
    File(Job),
    /// The line still holds, for an object to be deleted.
    Orphan(Object),
    /// The object to be deleted no longer exists.
    Gone,
    /// The file or the object has changed.
    Refused(PlanLine, String),
    /// S3 did not say what the object is.
    Failed(PlanLine, S3Error),
}

pub(super) async fn survey(
    context: &Context,
    plan: &PlanFile,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    tally.source_is_empty = source_is_empty(context).await;
    let lines = plan.lines().map_err(Fatal::ReadPlan)?;
    let lines = lines.filter(|line| !line.as_ref().is_ok_and(|line| line.action == Action::Keep));
    let checks = lines.map(|line| async move { io::Result::Ok(check(context, line?).await) });
    let mut checked = std::pin::pin!(futures::stream::iter(checks).buffered(context.destination.max_requests()));
    loop {
        let next = tokio::select! {
            next = checked.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some(checked) = next else {
            return Ok(());
        };
        match checked.map_err(Fatal::ReadPlan)? {
            Checked::File(job) => {
                let stat = job.file().entry.stat;
                tally.saw(stat.kind);
                tally.bytes.source += stat.size_bytes;
                tally.counts.objects += u64::from(job.object().is_some());
                take(Step::Do(job), tally).await?;
            }
            Checked::Orphan(object) => {
                tally.counts.objects += 1;
                take(Step::Orphan(object), tally).await?;
            }
            Checked::Gone => {}
            Checked::Refused(line, what) => refuse(line, &what, tally),
            Checked::Failed(_, error) if error.kind == ErrorKind::Interrupted => return Ok(()),
            Checked::Failed(_, error) if error.kind == ErrorKind::Unusable => {
                return Err(Fatal::destination(&context.destination, error));
            }
            Checked::Failed(line, error) => {
                tally.saw(EntryKind::File);
                tally.absent_uploads_failed += u64::from(line.etag.is_none());
                tally.failed(Failure::of_request(line.key, &error));
            }
        }
        context.progress.show(|| tally.line());
    }
}

/// A plan counts only its own lines, so the walk has to show whether the source has any entry at all.
async fn source_is_empty(context: &Context) -> bool {
    match context.source.walk() {
        Ok(mut walk) => walk.recv().await.is_none_or(|entries| entries.is_empty()),
        Err(_) => true,
    }
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

async fn check(context: &Context, line: PlanLine) -> Checked {
    let Some(key) = context.destination.prefix().relative(&line.key) else {
        return Checked::Refused(line, "the destination changed, and no longer includes this key".to_owned());
    };
    let object = match context.destination.object(&key).await {
        Ok(object) => object,
        Err(error) => return Checked::Failed(line, error),
    };
    if line.action == Action::Delete {
        return check_delete(context, line, object).await;
    }
    if object.as_ref().map(|object| object.etag.text()) != line.etag {
        return Checked::Refused(line, "the object has changed".to_owned());
    }
    let entry = match context.source.stat_named(&key).await.found {
        Found::File(entry) | Found::Symlink(entry) | Found::Directory(entry) => entry,
        Found::Failed(_, problem) => {
            return Checked::Refused(line, format!("the file has changed ({})", problem.message));
        }
        Found::Special
        | Found::Named(_)
        | Found::Skipped(..)
        | Found::Filtered(_)
        | Found::Nameless(..)
        | Found::Unknown { .. } => {
            return Checked::Refused(line, "the file no longer exists, or something else took its place".to_owned());
        }
    };
    if !is_as_planned(&entry, &line) {
        return Checked::Refused(line, "the file has changed".to_owned());
    }
    let file = SourceFile { key, entry };
    Checked::File(match (line.action, object) {
        (Action::RewriteMetadata, Some(object)) => Job::CompareMetadata { file, object },
        (_, object) => Job::Upload { file, object, reason: line.reason },
    })
}

async fn check_delete(context: &Context, line: PlanLine, object: Option<Object>) -> Checked {
    let Some(object) = object else {
        tracing::info!(key = %line.key, "already deleted");
        return Checked::Gone;
    };
    if Some(object.etag.text()) != line.etag {
        return Checked::Refused(line, "the object has changed".to_owned());
    }
    match context.source.presences(vec![object.key.clone()]).await.first() {
        Some(Presence::Absent) => Checked::Orphan(object),
        Some(Presence::Unknown(problem)) => {
            let what = format!("cannot see whether the file is still gone ({}), which changed", problem.message);
            Checked::Refused(line, what)
        }
        Some(Presence::Present) | None => Checked::Refused(line, "the file is there again".to_owned()),
    }
}

fn is_as_planned(file: &FileEntry, line: &PlanLine) -> bool {
    file.stat.size_bytes == line.size
        && Some(file.stat.mtime.0) == line.source_mtime_ns
        && Some(file.stat.ctime.0) == line.source_ctime_ns
}
