//! Rewriting the metadata of one object whose content equals the file's.
//!
//! The run writes the metadata that the file had when the contents were found equal. A file that changes after that is
//! uploaded. An object that S3 cannot copy (archived, or larger than 5 GB) is uploaded too, with all the headers that
//! it had. A copy in parts would be a second path for a rare case: chmod on a file over 5 GB. The size and the server's
//! refusal both decide.

use super::context::Context;
use super::decide::Reason;
use super::settle::Job;
use super::tally::Failure;
use super::upload::{Outcome, Stored, settles_in, upload};
use crate::destination::Expected;
use crate::destination::copy::LARGEST_COPY_BYTES;
use crate::destination::error::ErrorKind;
use crate::destination::head::Headers;
use crate::object::ETag;
use crate::source::entry::{SkipReason, Stat};
use crate::source::read::ReadError;
use crate::time::EpochNanos;

/// What is to be rewritten.
#[derive(Debug)]
pub struct Rewrite {
    /// The object's headers.
    pub headers: Headers,
    /// The file when its content was found equal.
    pub stat: Stat,
}

/// Rewrites an object's metadata.
pub async fn rewrite(context: &Context, job: &Job, to_rewrite: Rewrite) -> Outcome {
    let Rewrite { headers: Headers { etag, size_bytes, stored, .. }, stat } = to_rewrite;
    if settles_in(&stat, EpochNanos::now()).is_some() {
        return upload(context, job, job.expected(), Reason::Content, None).await;
    }
    let headers = context.rewritten(stored, &stat).await;
    if size_bytes > LARGEST_COPY_BYTES {
        return upload(context, job, Expected::Present(etag), Reason::Metadata, Some(headers)).await;
    }
    let rewritten: ETag = match context.destination.rewrite(&job.key, &headers, &etag).await {
        Ok(etag) => etag,
        Err(error) if error.is_no_copy() => {
            return upload(context, job, Expected::Present(etag), Reason::Metadata, Some(headers)).await;
        }
        Err(error) if error.kind == ErrorKind::Interrupted => return Outcome::Skipped(SkipReason::Interrupted),
        Err(error) => return Outcome::DestinationFailed(error),
    };
    match context.source.look(&job.key, &job.file).await {
        Ok(now) if !now.is_same_content(&stat) => {
            upload(context, job, Expected::Present(rewritten), Reason::Content, None).await
        }
        // Gone since: its object is for the next run.
        Ok(_) | Err(ReadError::Vanished | ReadError::Changed) => Outcome::Rewritten(Stored { etag: rewritten, stat }),
        Err(ReadError::Problem(problem)) => Outcome::SourceFailed(Failure::of_source(context.key(&job.key), problem)),
    }
}
