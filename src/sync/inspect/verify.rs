//! The verification: whether the destination is what a sync would leave, by the content of everything.
//!
//! What it could not compare is never equal: files that failed or that `--min-age` leaves out, objects
//! whose file vanished, and objects at or below something unknown make the result incomplete.
//!
//! It reads every file. It compares objects by their ETag, or by the checksum that S3 stores. If neither can show whether
//! the content is equal, as under SSE-KMS without a checksum, it reads the object with `--read`, and otherwise counts the
//! file as failed.

use std::sync::Arc;

use serde::Serialize;

use super::result_lines::ResultLines;
use super::{Finding, InspectOptions, Inspected, inspect};
use crate::counted::counted;
use crate::key::ObjectKey;
use crate::source::entry::SkipReason;
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::fatal::Fatal;
use crate::sync::guard::Guard;
use crate::sync::reason::Reason;
use crate::sync::survey::Input;
use crate::sync::tally::Tally;

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifyOptions {
    /// Read objects whose ETag and stored checksum cannot show whether they are equal.
    pub(crate) read: bool,
    /// Print JSON lines instead of human-readable ones.
    pub(crate) json: bool,
}

/// A difference.
#[derive(Debug, Serialize)]
struct Difference<'a> {
    key: &'a ObjectKey,
    /// `absent` (there is no object), `size`, `content`, `metadata`, or `orphan` (there is no file).
    #[serde(rename = "difference")]
    reason: Reason,
    /// The size of the file; of the object, if there is no file.
    size: u64,
    etag: Option<String>,
}

/// What differs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VerifyCounts {
    /// Files whose object is missing or has other content.
    pub(crate) differences: u64,
    /// Objects with equal content and other metadata.
    pub(crate) metadata_differences: u64,
    /// Objects without a file.
    pub(crate) orphans: u64,
    /// Files and objects that were not compared, although nothing failed.
    pub(crate) not_compared: u64,
}

impl VerifyCounts {
    pub(crate) const fn is_empty(&self) -> bool {
        self.differences + self.metadata_differences + self.orphans == 0
    }
}

/// Prints a line for each difference, and counts the differences.
///
/// # Errors
/// Returns an error if a side cannot be trusted, or if stdout fails.
pub(crate) async fn verify(
    context: &Arc<Context>,
    input: &Input,
    options: VerifyOptions,
    tally: &mut Tally,
    found: &mut VerifyCounts,
) -> Result<(), Fatal> {
    let stdout = ResultLines::start(ResultLines::stdout(), context.progress.clone(), context.shutdown.clone());
    let mut lines = Lines { json: options.json, found, stdout: stdout.map_err(Fatal::WriteResult)? };
    let file = async |inspected, tally: &mut Tally| lines.file(context, &inspected, tally).await;
    let how = InspectOptions { read_objects: options.read, list_kept: false };
    let mut orphans = inspect(context, input, how, tally, file).await?;
    if context.shutdown.is_requested() {
        return lines.stdout.end().await.map_err(Fatal::WriteResult);
    }
    if let Some(error) = orphans.spool_error() {
        return Err(Fatal::SpoolOrphans(error));
    }
    for batch in orphans.batches().map_err(Fatal::SpoolOrphans)? {
        for target in batch.map_err(Fatal::SpoolOrphans)? {
            // Nothing proves that these files are gone.
            if let Some(guard) = tally.empty_source() {
                tally.withheld(&guard, &context.key(&target.key));
                continue;
            }
            lines.found.orphans += 1;
            let (key, etag) = (context.key(&target.key), Some(target.etag.text()));
            lines.write(&Difference { key: &key, reason: Reason::Orphan, size: target.size_bytes, etag }).await?;
        }
    }
    let Lines { stdout, found, .. } = lines;
    stdout.publish().await.map_err(Fatal::WriteResult)?;
    let too_young = tally.skipped_because.get(&SkipReason::TooYoung).copied().unwrap_or_default();
    let failed_files = tally.counts.failed.saturating_sub(tally.unknown_directories);
    for (count, one, many, what) in [
        (too_young, "file", "files", "younger than --min-age"),
        (tally.lost_files, "object", "objects", "whose file vanished or could not be read"),
        (tally.withheld_by(&Guard::Unknown), "object", "objects", "at or below a broken link or a missing mount"),
        (tally.unknown_directories, "directory", "directories", "that the walk could not read, with everything below"),
        (failed_files, "file", "files", "that failed"),
    ] {
        if count > 0 {
            tracing::warn!("not compared: {} {what}", counted(count, one, many));
        }
    }
    found.not_compared = too_young + tally.lost_files + tally.not_surveyed;
    Ok(())
}

struct Lines<'a> {
    json: bool,
    found: &'a mut VerifyCounts,
    stdout: ResultLines,
}

impl Lines<'_> {
    async fn file(&mut self, context: &Context, inspected: &Inspected, tally: &mut Tally) -> Result<(), Fatal> {
        let key = context.key(&inspected.file.key);
        let reason = match inspected.finding {
            Finding::Upload(Reason::Unverifiable) => {
                tally.failed(Failure::unverifiable(key));
                return Ok(());
            }
            Finding::Upload(reason) => {
                self.found.differences += 1;
                reason
            }
            Finding::Rewrite => {
                self.found.metadata_differences += 1;
                Reason::Metadata
            }
            Finding::Equal(_) => {
                tally.counts.unchanged += 1;
                return Ok(());
            }
        };
        let etag = inspected.object.as_ref().map(|object| object.etag.text());
        self.write(&Difference { key: &key, reason, size: inspected.file.entry.stat.size_bytes, etag }).await
    }

    async fn write(&mut self, difference: &Difference<'_>) -> Result<(), Fatal> {
        let line = if self.json {
            serde_json::to_string(difference).unwrap_or_default()
        } else {
            format!("{:<8}  {}", difference.reason.to_string(), difference.key.as_str().escape_debug())
        };
        self.stdout.write(line).await.map_err(Fatal::WriteResult)
    }
}
