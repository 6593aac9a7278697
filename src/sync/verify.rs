//! Verifying: whether the destination is what a sync would leave, by the content of everything. A line for each difference.
//!
//! Every file is read. Objects are not: the ETag tells, or the checksum that S3 keeps. Where neither does, as under SSE-KMS
//! without a checksum, the object is read if that is asked for, and else the file has failed to be verified.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::decide::Reason;
use super::inspect::{Inspected, inspect};
use super::settle::{Compared, Job, settle_by_reading, settle_comparison};
use super::tally::{Failure, Tally};
use super::{Fatal, Setup};
use crate::key::ObjectKey;

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// Read objects of which nothing else tells.
    pub read: bool,
    /// Lines for machines, and not for people.
    pub json: bool,
}

/// A difference.
#[derive(Clone, Debug, Serialize)]
pub struct Difference<'a> {
    /// The key.
    pub key: &'a ObjectKey,
    /// What differs: `absent` (there is no object), `size`, `content`, `metadata`, or `orphan` (there is no file).
    pub difference: Reason,
    /// The size of the file; of the object, where there is no file.
    pub size: u64,
    /// The ETag of the object.
    pub etag: Option<String>,
}

/// Writes a line for each difference to stdout; true if there is one.
///
/// # Errors
/// Where a side cannot be trusted, or stdout fails.
pub async fn verify(setup: &Setup, options: VerifyOptions, tally: &mut Tally) -> Result<bool, Fatal> {
    let context = &setup.context;
    let mut lines = Lines { json: options.json, any: false };
    let compare = move |context: Arc<Context>, job: Job| compare(context, job, options.read);
    let file = |inspected, tally: &mut Tally| lines.file(context, inspected, tally);
    let mut orphans = inspect(setup, tally, compare, file).await?;
    let unreadable = |error: io::Error| Fatal::result(&error);
    for batch in orphans.batches().map_err(unreadable)? {
        for doomed in batch.map_err(unreadable)? {
            tally.counts.deleted += 1;
            let (key, etag) = (context.key(&doomed.key), Some(doomed.etag.text()));
            lines.write(&Difference { key: &key, difference: Reason::Orphan, size: doomed.size_bytes, etag })?;
        }
    }
    Ok(lines.any)
}

async fn compare(context: Arc<Context>, job: Job, read: bool) -> Inspected {
    let (compared, read_bytes) =
        if read { settle_by_reading(&context, &job).await } else { settle_comparison(&context, &job).await };
    Inspected { job, compared, read_bytes }
}

struct Lines {
    json: bool,
    any: bool,
}

impl Lines {
    fn file(&mut self, context: &Context, inspected: Inspected, tally: &mut Tally) -> Result<(), Fatal> {
        let Inspected { job, compared, .. } = inspected;
        let key = context.key(&job.key);
        let difference = match compared {
            Compared::Upload(Reason::Unverifiable) => {
                tally.failed(Failure::unverifiable(key));
                return Ok(());
            }
            Compared::Upload(reason) => {
                tally.counts.uploaded += 1;
                reason
            }
            Compared::Rewrite(_) => {
                tally.counts.metadata_rewritten += 1;
                Reason::Metadata
            }
            Compared::Done(_) => {
                tally.counts.unchanged += 1;
                return Ok(());
            }
        };
        let etag = job.object.as_ref().map(|object| object.etag.text());
        self.write(&Difference { key: &key, difference, size: job.file.stat.size_bytes, etag })
    }

    fn write(&mut self, difference: &Difference<'_>) -> Result<(), Fatal> {
        self.any = true;
        let mut line = if self.json {
            serde_json::to_string(difference).unwrap_or_default()
        } else {
            format!("{:<8}  {}", difference.difference.to_string(), difference.key.as_str().escape_debug())
        };
        line.push('\n');
        match io::stdout().lock().write_all(line.as_bytes()) {
            // Nobody reads it any more (`| head`): the exit code still tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Fatal::result(&error)),
        }
    }
}
