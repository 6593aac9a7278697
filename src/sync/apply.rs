//! Applying a reviewed plan: line by line, each only if its file and its object are still what the plan says.
//!
//! A plan line holds for one state of both sides. The run stats the file and sends a HEAD for the object, besides the
//! condition of the write itself. So it refuses a changed line by name before it reads gigabytes for it, and does so on
//! servers without conditional writes too. The run carries out the other lines: uploads first, then
//! deletes, each re-checked.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use futures::StreamExt;

use super::context::Context;
use super::decide::Decision;
use super::guard::{DeleteRules, MaxDelete};
use super::plan::{Action, PlanHeader, PlanLine};
use super::settle::Job;
use super::survey::Step;
use super::tally::{Failure, Guard, Tally};
use super::{Fatal, Setup};
use crate::destination::error::{ErrorKind, S3Error};
use crate::object::Object;
use crate::source::entry::{EntryKind, FileEntry, Found};
use crate::source::presence::Presence;

/// A plan in a file, of which every line can be read.
#[derive(Clone, Debug)]
pub struct PlanFile {
    path: PathBuf,
    header: PlanHeader,
}

/// Why a file is no plan that can be applied.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It cannot be read.
    #[error("the plan {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It does not begin as a plan does.
    #[error("{0} is no plan that can be applied: make one with efs2s3 plan -o FILE")]
    NoHeader(String),
    /// It was written by a newer program.
    #[error("the plan {0} is of another version: make it anew with this program")]
    OtherVersion(String),
    /// A line is none.
    #[error("line {line} of {path} is no line of a plan ({source}): make the plan anew")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl PlanFile {
    /// Opens a plan, and looks at each of its lines: half of it is never carried out because the other half is damaged.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, PlanError> {
        let shown = path.display().to_string();
        let unreadable = |source| PlanError::Read { path: shown.clone(), source };
        let mut lines = BufReader::new(File::open(path).map_err(unreadable)?).lines();
        let first = lines.next().transpose().map_err(unreadable)?.unwrap_or_default();
        let header: PlanHeader = serde_json::from_str(&first).map_err(|_| PlanError::NoHeader(shown.clone()))?;
        if !header.is_known() {
            return Err(PlanError::OtherVersion(shown));
        }
        for (line, number) in lines.zip(2..) {
            serde_json::from_str::<PlanLine>(&line.map_err(unreadable)?).map_err(|source| PlanError::Line {
                path: shown.clone(),
                line: number,
                source,
            })?;
        }
        Ok(Self { path: path.to_owned(), header })
    }

    /// What the plan was made from.
    #[must_use]
    pub const fn header(&self) -> &PlanHeader {
        &self.header
    }

    fn lines(&self) -> io::Result<impl Iterator<Item = io::Result<PlanLine>> + use<>> {
        let lines = BufReader::new(File::open(&self.path)?).lines().skip(1);
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

impl Setup {
    /// Makes this sync carry out a plan, and do nothing else.
    pub async fn carry_out(&mut self, plan: PlanFile) {
        let may_be_empty = self.delete_rules.allow_empty_source;
        let objection = if may_be_empty || !self.source_is_empty().await {
            None
        } else {
            let message = "the source is empty, as it looks when it is not mounted: all deletes withheld. Mount it, and \
                           apply the plan again";
            Some(Guard { name: "empty_source", message: message.to_owned(), is_normal: false })
        };
        // Directories were looked at, and the number allowed, when the plan was made.
        let max_delete = MaxDelete::Count(u64::MAX);
        self.delete_rules = DeleteRules { max_delete, allow_empty_source: true, ignore_errors: true, objection };
        self.planned = Some(plan);
    }

    async fn source_is_empty(&self) -> bool {
        match self.context.source.walk() {
            Ok(mut walk) => walk.recv().await.is_none_or(|entries| entries.is_empty()),
            Err(_) => true,
        }
    }
}

/// What a look at both sides makes of a line.
enum Checked {
    /// It holds: a file to be uploaded, or its metadata to be written.
    File(Job),
    /// It holds: an object to be deleted.
    Orphan(Object),
    /// Somebody else deleted the object.
    Gone,
    /// File or object have changed.
    Refused(PlanLine, String),
    /// S3 could not be asked.
    Failed(PlanLine, S3Error),
}

/// Looks at each line of the plan once more; brings what holds before `take`.
///
/// # Errors
/// Where the plan cannot be read any more, S3 not be used, and where `take` says so.
pub(super) async fn survey_planned(
    setup: &Setup,
    plan: &PlanFile,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let context = &setup.context;
    let unreadable = |error: io::Error| Fatal::unreadable_plan(&error);
    let lines = plan.lines().map_err(unreadable)?;
    let lines = lines.filter(|line| !line.as_ref().is_ok_and(|line| line.action == Action::Keep));
    let checks = lines.map(|line| async move { io::Result::Ok(check(context, line?).await) });
    let mut checked = std::pin::pin!(futures::stream::iter(checks).buffered(context.destination.most_requests()));
    loop {
        let next = tokio::select! {
            next = checked.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some(checked) = next else {
            return Ok(());
        };
        match checked.map_err(unreadable)? {
            Checked::File(job) => {
                tally.saw(job.file.stat.kind);
                tally.bytes.source += job.file.stat.size_bytes;
                tally.counts.objects += u64::from(job.object.is_some());
                take(Step::File(job), tally).await?;
            }
            Checked::Orphan(object) => {
                tally.counts.objects += 1;
                take(Step::Orphan(object), tally).await?;
            }
            Checked::Gone => {}
            Checked::Refused(line, what) => refuse(line, &what, tally),
            Checked::Failed(_, error) if error.kind == ErrorKind::Interrupted => return Ok(()),
            Checked::Failed(_, error) if error.kind == ErrorKind::Unusable => {
                return Err(Fatal::destination(&context.destination, &error));
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

fn refuse(line: PlanLine, what: &str, tally: &mut Tally) {
    if line.action == Action::Delete {
        tracing::warn!(key = %line.key, "{what} since the plan was made: not deleted");
        let message = "file or object changed since the plan was made: these objects stay, make a new plan".to_owned();
        return tally.withheld(&Guard { name: "changed_since_plan", message, is_normal: false }, &line.key);
    }
    tally.saw(EntryKind::File);
    // It may be the new name of a file whose old name would go.
    tally.absent_uploads_failed += u64::from(line.etag.is_none());
    tally.failed(Failure::changed_since_plan(line.key, what));
}

async fn check(context: &Context, line: PlanLine) -> Checked {
    let Some(key) = context.destination.prefix().relative(&line.key) else {
        return Checked::Refused(line, "it is not below the destination, which changed".to_owned());
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
    let file = match context.source.named(&key).await.found {
        Found::File(file) | Found::Symlink(file) | Found::Directory(file) => file,
        Found::Failed(_, problem) => {
            return Checked::Refused(line, format!("the file has changed ({})", problem.message));
        }
        Found::Special
        | Found::Named(_)
        | Found::Skipped(..)
        | Found::Filtered(_)
        | Found::Nameless(..)
        | Found::Unknown { .. } => {
            return Checked::Refused(line, "the file is gone, or something else is in its place".to_owned());
        }
    };
    if !is_as_planned(&file, &line) {
        return Checked::Refused(line, "the file has changed".to_owned());
    }
    let decision =
        if line.action == Action::Upload { Decision::Upload(line.reason) } else { Decision::CompareMetadata };
    Checked::File(Job { key, file, object, decision })
}

async fn check_delete(context: &Context, line: PlanLine, object: Option<Object>) -> Checked {
    let Some(object) = object else {
        tracing::info!(key = %line.key, "deleted already");
        return Checked::Gone;
    };
    if Some(object.etag.text()) != line.etag {
        return Checked::Refused(line, "the object has changed".to_owned());
    }
    match context.source.presences(vec![object.key.clone()]).await.first() {
        Some(Presence::Gone) => Checked::Orphan(object),
        Some(Presence::Unknown(problem)) => {
            let what = format!("whether the file is still gone cannot be seen ({}), which changed", problem.message);
            Checked::Refused(line, what)
        }
        Some(Presence::There) | None => Checked::Refused(line, "the file has come back".to_owned()),
    }
}

fn is_as_planned(file: &FileEntry, line: &PlanLine) -> bool {
    file.stat.size_bytes == line.size
        && Some(file.stat.mtime.0) == line.source_mtime_ns
        && Some(file.stat.ctime.0) == line.source_ctime_ns
}
