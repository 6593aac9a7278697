//! The plan: what a sync would do, a line for each key in key order, deletes last. It writes nothing at the destination.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Finding, Inspected, inspect};
use crate::destination::delete::DeleteTarget;
use crate::result_file::ResultFile;
use crate::sync::context::Context;
use crate::sync::delete::for_each_batch;
use crate::sync::fatal::Fatal;
use crate::sync::plan_file::{Action, PlanHeader, PlanLine};
use crate::sync::reason::Reason;
use crate::sync::survey::Input;
use crate::sync::tally::Tally;

/// Where the lines go.
#[derive(Debug)]
pub(crate) enum PlanSink {
    /// A file with a header. It appears when the plan is complete.
    File(BufWriter<ResultFile>),
    /// Stdout, as JSON lines.
    Json,
    /// Stdout, human-readable.
    Text,
    /// Stdout whose reader has closed it.
    Closed,
}

impl PlanSink {
    /// Creates a file that starts with a header.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(crate) fn create(path: &Path, header: &PlanHeader) -> io::Result<Self> {
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
    mut sink: PlanSink,
    all: bool,
    tally: &mut Tally,
    planned: &mut PlanCounts,
) -> Result<(), Fatal> {
    let mut writer = PlanWriter { sink: &mut sink, context, all, planned };
    let orphans = inspect(context, input, false, tally, |inspected, tally| writer.file(&inspected, tally)).await?;
    if context.shutdown.is_requested() {
        // Half a plan is not a plan: the file does not appear.
        return Ok(());
    }
    let mut written = Ok(());
    for_each_batch(context, orphans, &context.delete_rules, tally, async |batch, _| {
        writer.planned.deletes += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if written.is_ok() {
            written = batch.iter().try_for_each(|target| writer.delete(target));
        }
    })
    .await;
    written?;
    sink.finish().map_err(Fatal::WritePlan)
}

struct PlanWriter<'a> {
    sink: &'a mut PlanSink,
    context: &'a Context,
    all: bool,
    planned: &'a mut PlanCounts,
}

impl PlanWriter<'_> {
    fn file(&mut self, inspected: &Inspected, tally: &mut Tally) -> Result<(), Fatal> {
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
        self.write(&PlanLine {
            action,
            key: self.context.key(&inspected.file.key),
            reason,
            size: stat.size_bytes,
            etag: inspected.object.as_ref().map(|object| object.etag.text()),
            source_mtime_ns: Some(stat.mtime.0),
            source_ctime_ns: Some(stat.ctime.0),
        })
    }

    fn delete(&mut self, target: &DeleteTarget) -> Result<(), Fatal> {
        self.write(&PlanLine {
            action: Action::Delete,
            key: self.context.key(&target.key),
            reason: Reason::Orphan,
            size: target.size_bytes,
            etag: Some(target.etag.text()),
            source_mtime_ns: None,
            source_ctime_ns: None,
        })
    }

    fn write(&mut self, line: &PlanLine) -> Result<(), Fatal> {
        self.sink.write(line).map_err(Fatal::WritePlan)
    }
}
