//! Rewriting the metadata of one object whose content is equal to the file's.
//!
//! The run writes the metadata that the file had when the contents were equal. A file that changes after that moment is
//! uploaded. An object that S3 cannot copy (archived, or larger than 5 GB) is uploaded too, with all the headers and tags
//! that it had. A copy in parts would be a second path for a rare case: chmod on a file over 5 GB. The size and the
//! server's refusal both decide.

use super::sent_file::SentFile;
use super::upload::{Upload, settles_in};
use crate::destination::copy::Copied;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::head::HeadResponse;
use crate::destination::headers::ObjectHeaders;
use crate::destination::put::ExpectedObject;
use crate::index::row::Written;
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::source::entry::SkipReason;
use crate::source::read::ReadError;
use crate::sync::context::Context;
use crate::sync::job::Job;
use crate::sync::plan_file::Action;
use crate::sync::reason::Reason;
use crate::sync::verdict::{FileError, Outcome, Rewrite, StepError, Stored, Write};
use crate::time::EpochNanos;

/// How a rewrite ended.
#[allow(clippy::large_enum_variant, reason = "one for each rewrite, and never stored")]
pub(super) enum Rewritten {
    /// With this outcome.
    Done(Outcome),
    /// The file has to be uploaded.
    UploadInstead(Box<Upload>),
}

/// Rewrites an object's metadata.
pub(super) async fn rewrite(context: &Context, job: &Job, to_rewrite: Rewrite) -> Rewritten {
    let Rewrite { headers: HeadResponse { etag, size_bytes, stored, hides_metadata, .. }, stat } = to_rewrite;
    let upload = |expected, written| {
        Rewritten::UploadInstead(Box::new(Upload { expected, reason: Reason::Content, headers: None, written }))
    };
    if stat.has_content() && settles_in(&stat, stat.seen_at).is_some() {
        return upload(job.expected(), None);
    }
    if hides_metadata {
        return Rewritten::Done(Outcome::Failed(FileError::Destination(S3Error::of_lost_metadata()), None));
    }
    let headers = context.rewritten(stored, &stat).await;
    let started = EpochNanos::now();
    let rewritten = if context.destination.copies(size_bytes) {
        context.record_sending(&job.file().key);
        let source = SentFile { context, file: job.file(), stat: &stat };
        let headers = context.destination.write_headers(headers.clone());
        let changed = context.key(&job.file().key);
        let intent = context.changes.intend_write(changed, Action::RewriteMetadata, Reason::Metadata, None).await;
        match intent.end(context.destination.rewrite(&job.file().key, &headers, &etag, &source).await) {
            Ok(copied) => Some(copied),
            Err(error) if error.kind == ErrorKind::Outdated => return upload(job.expected(), None),
            Err(error) if error.cannot_copy() => None,
            Err(error) if error.is_without_object() => return upload_as_new(),
            Err(error) => return failed(error),
        }
    } else {
        None
    };
    let Some(Copied { proof, last_modified }) = rewritten else {
        return upload_with_all(context, &job.file().key, etag, headers).await;
    };
    let expected = ExpectedObject::Present(proof.etag().clone());
    let dated = last_modified
        .map_or_else(|| Written::between(started, EpochNanos::now(), context.clocks().margin()), Written::copied);
    let written = Write::Rewrite(Stored { proof, dated, stat });
    match context.source.re_stat(&job.file().key, &job.file().entry).await {
        Ok(now) if !now.is_same_content(&stat) => upload(expected, Some(written)),
        // If the file no longer exists, the next run deletes its object.
        Ok(_) | Err(ReadError::Vanished | ReadError::Changed) => Rewritten::Done(written.outcome()),
        Err(error) => {
            let outcome = StepError::from(error).outcome(Some(&written));
            outcome.map_or_else(|| upload(expected, Some(written)), Rewritten::Done)
        }
    }
}

/// Has the file uploaded with everything that S3 stores with the object.
async fn upload_with_all(context: &Context, key: &RelativeKey, etag: ETag, mut headers: ObjectHeaders) -> Rewritten {
    headers.tags = match context.destination.tags(key).await {
        Ok(tags) => tags,
        Err(error) if error.is_without_object() => return upload_as_new(),
        Err(error) => return failed(error),
    };
    let (expected, headers) = (ExpectedObject::Present(etag), Some(headers));
    Rewritten::UploadInstead(Box::new(Upload { expected, reason: Reason::Metadata, headers, written: None }))
}

/// Has the file uploaded to an absent key: another writer has deleted the object since the comparison.
fn upload_as_new() -> Rewritten {
    let (expected, reason) = (ExpectedObject::Absent, Reason::Absent);
    Rewritten::UploadInstead(Box::new(Upload { expected, reason, headers: None, written: None }))
}

fn failed(error: S3Error) -> Rewritten {
    Rewritten::Done(if error.kind == ErrorKind::Interrupted {
        Outcome::Skipped(SkipReason::Interrupted)
    } else {
        Outcome::Failed(FileError::Destination(error), None)
    })
}
