//! The plan: what a sync would do, a line for each key, in the order of the keys, the deletes last. Nothing is written.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::context::Context;
use super::decide::Reason;
use super::delete::for_each_batch;
use super::inspect::{Inspected, inspect};
use super::settle::{Compared, Job, settle_comparison};
use super::tally::Tally;
use super::upload::Outcome;
use super::{Fatal, Setup};
use crate::destination::delete::Doomed;
use crate::destination::headers::HeaderRule;
use crate::key::ObjectKey;
use crate::recorded_options::RecordedOptions;
use crate::result_file::ResultFile;

/// The version of the plan's lines.
const PLAN: u32 = 1;

/// One line of a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanLine {
    /// What would be done.
    pub action: Action,
    /// The key.
    pub key: ObjectKey,
    /// Why.
    pub reason: Reason,
    /// The size of the file; of the object, for a delete.
    pub size: u64,
    /// The ETag of the object that is there now.
    pub etag: Option<String>,
    /// The file's mtime.
    pub source_mtime_ns: Option<i128>,
    /// The file's ctime.
    pub source_ctime_ns: Option<i128>,
}

/// What would be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Upload the file.
    Upload,
    /// Rewrite the object's metadata; its content stays.
    RewriteMetadata,
    /// Delete the object.
    Delete,
    /// Leave it as it is.
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

/// Where the lines go.
#[derive(Debug)]
pub enum PlanSink {
    /// A file, with a header; it appears when the plan is whole.
    File(BufWriter<ResultFile>),
    /// Stdout, as lines of JSON.
    Json,
    /// Stdout, for people.
    Text,
    /// Stdout that nobody reads any more.
    Closed,
}

impl PlanHeader {
    /// For a plan made now.
    #[must_use]
    pub fn new(source: &Path, destination: String, options: RecordedOptions, headers: Vec<HeaderRule>) -> Self {
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned()).display().to_string();
        let created = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Self { plan: PLAN, source, destination, options, headers, created }
    }

    /// Whether this program knows what it means.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.plan == PLAN
    }
}

impl PlanSink {
    /// A file that begins with a header.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn create(path: &Path, header: &PlanHeader) -> io::Result<Self> {
        let mut file = BufWriter::new(ResultFile::create(path)?);
        serde_json::to_writer(&mut file, header)?;
        file.write_all(b"\n")?;
        file.flush()?;
        Ok(Self::File(file))
    }

    fn write(&mut self, line: &PlanLine) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = match self {
            Self::File(file) => {
                serde_json::to_writer(&mut *file, line)?;
                return file.write_all(b"\n");
            }
            Self::Json => {
                serde_json::to_writer(&mut stdout, line).map_err(io::Error::from).and_then(|()| stdout.write_all(b"\n"))
            }
            Self::Text => writeln!(stdout, "{line}"),
            Self::Closed => Ok(()),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                *self = Self::Closed;
                Ok(())
            }
            other => other,
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner()?.publish(),
            Self::Json | Self::Text | Self::Closed => Ok(()),
        }
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

/// Writes the plan; true if it holds anything to do.
///
/// # Errors
/// Where a side cannot be trusted, or the plan cannot be written.
pub async fn plan(setup: &Setup, mut sink: PlanSink, all: bool, tally: &mut Tally) -> Result<bool, Fatal> {
    let context = &setup.context;
    let mut writer = Writer { sink: &mut sink, context, all, differences: false };
    let compare = async |context: Arc<Context>, job: Job| {
        let (compared, read_bytes) = settle_comparison(&context, &job).await;
        Inspected { job, compared, read_bytes }
    };
    let orphans = inspect(setup, tally, compare, |inspected, tally| writer.file(inspected, tally)).await?;
    if context.shutdown.is_requested() {
        // Half a plan is none: the file does not appear.
        return Ok(false);
    }
    let mut written = Ok(());
    for_each_batch(context, orphans, &setup.delete_rules, tally, async |batch, tally| {
        tally.counts.deleted += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if written.is_ok() {
            written = batch.iter().try_for_each(|doomed| writer.delete(doomed));
        }
    })
    .await;
    written?;
    let differences = writer.differences;
    sink.finish().map_err(|error| Fatal::plan(&error))?;
    Ok(differences)
}

struct Writer<'a> {
    sink: &'a mut PlanSink,
    context: &'a Context,
    all: bool,
    differences: bool,
}

impl Writer<'_> {
    fn file(&mut self, Inspected { job, compared, .. }: Inspected, tally: &mut Tally) -> Result<(), Fatal> {
        match compared {
            Compared::Upload(reason) => {
                tally.counts.uploaded += 1;
                tally.bytes.uploaded += job.file.stat.size_bytes;
                self.differences = true;
                self.line(Action::Upload, &job, reason)
            }
            Compared::Rewrite(_) => {
                tally.counts.metadata_rewritten += 1;
                self.differences = true;
                self.line(Action::RewriteMetadata, &job, Reason::Metadata)
            }
            Compared::Done(Outcome::Unchanged(reason, _)) => {
                tally.counts.unchanged += 1;
                if self.all { self.line(Action::Keep, &job, reason) } else { Ok(()) }
            }
            // Accounted for by the inspection; nothing is written by a plan.
            Compared::Done(_) => Ok(()),
        }
    }

    fn line(&mut self, action: Action, job: &Job, reason: Reason) -> Result<(), Fatal> {
        self.write(&PlanLine {
            action,
            key: self.context.key(&job.key),
            reason,
            size: job.file.stat.size_bytes,
            etag: job.object.as_ref().map(|object| object.etag.text()),
            source_mtime_ns: Some(job.file.stat.mtime.0),
            source_ctime_ns: Some(job.file.stat.ctime.0),
        })
    }

    fn delete(&mut self, doomed: &Doomed) -> Result<(), Fatal> {
        self.differences = true;
        self.write(&PlanLine {
            action: Action::Delete,
            key: self.context.key(&doomed.key),
            reason: Reason::Orphan,
            size: doomed.size_bytes,
            etag: Some(doomed.etag.text()),
            source_mtime_ns: None,
            source_ctime_ns: None,
        })
    }

    fn write(&mut self, line: &PlanLine) -> Result<(), Fatal> {
        self.sink.write(line).map_err(|error| Fatal::plan(&error))
    }
}
