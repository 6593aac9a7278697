//! The plan: what a sync would do, a line for each key in key order, deletes last. It writes nothing at the destination.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::result_lines::ResultLines;
use super::{Finding, InspectOptions, Inspected, inspect};
use crate::destination::delete::DeleteTarget;
use crate::result_file::ResultFile;
use crate::result_place::ResultPlace;
use crate::sync::context::Context;
use crate::sync::delete::{for_each_batch, still_gone};
use crate::sync::fatal::Fatal;
use crate::sync::new_files::NewFiles;
use crate::sync::plan_file::{Action, PlanHeader, PlanLine};
use crate::sync::reason::Reason;
use crate::sync::survey::Input;
use crate::sync::tally::Tally;

/// Where the lines go: JSON lines to a file or to stdout, or human-readable lines to stdout.
#[derive(Debug)]
pub(crate) struct PlanSink {
    file: BufWriter<ResultFile>,
    /// The first line, if it is not written yet.
    header: Option<String>,
    human_readable: bool,
}

impl PlanSink {
    /// Creates a file that starts with a header. It appears when the plan is complete.
    pub(crate) fn create(place: &ResultPlace, header: &PlanHeader) -> io::Result<Self> {
        let mut file = BufWriter::new(ResultFile::create(place)?);
        let header = serde_json::to_string(header)?;
        // Before the first request, because the disk may be full. A pipe may have no reader yet.
        let is_pipe = !matches!(file.get_ref(), ResultFile::Whole(..));
        if !is_pipe {
            writeln!(file, "{header}")?;
            file.flush()?;
        }
        Ok(Self { file, header: is_pipe.then_some(header), human_readable: false })
    }

    pub(crate) fn stdout(human_readable: bool) -> Self {
        Self { file: ResultLines::stdout(), header: None, human_readable }
    }
}

/// What a sync would do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PlanCounts {
    pub(crate) uploads: u64,
    pub(crate) upload_bytes: u64,
    /// Objects whose metadata alone would be written.
    pub(crate) rewrites: u64,
    pub(crate) deletes: u64,
}

impl PlanCounts {
    pub(crate) const fn is_empty(&self) -> bool {
        self.uploads + self.rewrites + self.deletes == 0
    }
}

/// Writes the plan, and counts what a sync would do. `all` adds a line for each object that a sync would keep.
///
/// # Errors
/// Returns an error if a side cannot be trusted, or if the plan cannot be written.
pub(crate) async fn plan(
    context: &Arc<Context>,
    input: &Input,
    sink: PlanSink,
    all: bool,
    tally: &mut Tally,
    planned: &mut PlanCounts,
) -> Result<(), Fatal> {
    let PlanSink { file, header, human_readable } = sink;
    let mut lines =
        ResultLines::start(file, context.progress.clone(), context.shutdown.clone()).map_err(Fatal::WritePlan)?;
    if let Some(header) = header {
        lines.write(header).await.map_err(Fatal::WritePlan)?;
    }
    let mut writer = PlanWriter { lines, human_readable, context, all, planned, new_files: NewFiles::default() };
    let options = InspectOptions { read_objects: false, list_kept: all };
    let each = async |inspected, tally: &mut Tally| writer.file(&inspected, tally).await;
    let orphans = inspect(context, input, options, tally, each).await?;
    if context.shutdown.is_requested() {
        // Half a plan is not a plan: the file does not appear.
        return writer.lines.end().await.map_err(Fatal::WritePlan);
    }
    let mut written = Ok(());
    for_each_batch(context, orphans, &context.delete_rules, tally, async |batch, tally| {
        let batch = still_gone(context, batch, tally).await;
        writer.planned.deletes += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        for target in &batch {
            if written.is_ok() {
                written = writer.delete(target).await;
            }
        }
    })
    .await;
    written?;
    writer.lines.publish().await.map_err(Fatal::WritePlan)
}

struct PlanWriter<'a> {
    lines: ResultLines,
    human_readable: bool,
    context: &'a Context,
    all: bool,
    planned: &'a mut PlanCounts,
    new_files: NewFiles,
}

impl PlanWriter<'_> {
    async fn file(&mut self, inspected: &Inspected, tally: &mut Tally) -> Result<(), Fatal> {
        let (action, reason) = match inspected.finding {
            Finding::Upload(reason) => {
                self.planned.uploads += 1;
                self.planned.upload_bytes += inspected.file.entry.stat.size_bytes;
                (Action::Upload, reason)
            }
            Finding::Rewrite => {
                self.planned.rewrites += 1;
                (Action::RewriteMetadata, Reason::Metadata)
            }
            Finding::Equal(reason) => {
                tally.counts.unchanged += 1;
                if !self.all {
                    return Ok(());
                }
                (Action::Keep, reason)
            }
        };
        let stat = &inspected.file.entry.stat;
        let key = self.context.key(&inspected.file.key);
        if inspected.object.is_none() {
            self.new_files.add(&key, stat.size_bytes);
        }
        self.write(PlanLine {
            action,
            key,
            reason,
            size: stat.size_bytes,
            etag: inspected.object.as_ref().map(|object| object.etag.text()),
            source_mtime_ns: Some(stat.mtime.0),
            source_ctime_ns: Some(stat.ctime.0),
            new_files_of_size: None,
        })
        .await
    }

    async fn delete(&mut self, target: &DeleteTarget) -> Result<(), Fatal> {
        self.write(PlanLine {
            action: Action::Delete,
            key: self.context.key(&target.key),
            reason: Reason::Orphan,
            size: target.size_bytes,
            etag: Some(target.etag.text()),
            source_mtime_ns: None,
            source_ctime_ns: None,
            new_files_of_size: self.new_files.of_size(target.size_bytes),
        })
        .await
    }

    async fn write(&mut self, line: PlanLine) -> Result<(), Fatal> {
        let text = if self.human_readable {
            line.to_string()
        } else {
            serde_json::to_string(&line).map_err(|error| Fatal::WritePlan(error.into()))?
        };
        self.lines.write(text).await.map_err(Fatal::WritePlan)
    }
}
