//! Settling one file: comparing where the decision asks for it, and writing what is different.

use std::time::Duration;

use super::compare::{CompareError, Comparison, Finding, compare, read_object};
use super::context::Context;
use super::decide::{Decision, Reason};
use super::rewrite::{Rewrite, rewrite};
use super::tally::Failure;
use super::upload::{Outcome, upload};
use crate::destination::Expected;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::head::Headers;
use crate::key::RelativeKey;
use crate::metadata::{Preserve, StoredMetadata};
use crate::object::Object;
use crate::source::entry::{FileEntry, SkipReason, Stat};
use crate::source::read::ReadError;

/// A file that something may have to be done about.
#[derive(Clone, Debug)]
pub struct Job {
    /// The key below the prefix.
    pub key: RelativeKey,
    /// The file.
    pub file: FileEntry,
    /// The object at its key.
    pub object: Option<Object>,
    /// What was decided.
    pub decision: Decision,
}

/// What a comparison left to be done.
#[derive(Debug)]
pub enum Compared {
    /// Upload, for this reason.
    Upload(Reason),
    /// Rewrite the metadata.
    Rewrite(Box<Rewrite>),
    /// Nothing: this is the outcome.
    Done(Outcome),
}

impl Job {
    /// Whether the file has another size than its object, and by all its times has not changed since that was written: it
    /// may be cut at this very moment.
    #[must_use]
    pub fn has_another_size_and_old_times(&self, margin: Duration) -> bool {
        self.object.as_ref().is_some_and(|object| {
            let before = object.last_modified.minus(margin);
            object.size_bytes != self.file.stat.size_bytes
                && self.file.stat.mtime < before
                && self.file.effective_ctime < before
        })
    }

    /// What may be overwritten at the key.
    #[must_use]
    pub fn expected(&self) -> Expected {
        self.object.as_ref().map_or(Expected::Absent, |object| Expected::Present(object.etag.clone()))
    }
}

/// Does what was decided; also returns how much was read only to compare.
pub async fn settle(context: &Context, job: &Job) -> (Outcome, u64) {
    let (compared, read_bytes) = settle_comparison(context, job).await;
    let outcome = match compared {
        Compared::Upload(reason) => upload(context, job, job.expected(), reason, None).await,
        Compared::Rewrite(to_rewrite) => rewrite(context, job, *to_rewrite).await,
        Compared::Done(outcome) => outcome,
    };
    (outcome, read_bytes)
}

/// The decision, with the two compared where it asks for that; also returns how much was read.
pub async fn settle_comparison(context: &Context, job: &Job) -> (Compared, u64) {
    let object = match (job.decision, &job.object) {
        (Decision::Upload(reason), _) => return (Compared::Upload(reason), 0),
        (Decision::Keep(reason), _) => return (Compared::Done(Outcome::Unchanged(reason, job.file.stat)), 0),
        (Decision::Skip(reason), _) => return (Compared::Done(Outcome::Skipped(reason)), 0),
        (Decision::Compare | Decision::CompareMetadata, None) => return (Compared::Upload(Reason::Absent), 0),
        (Decision::Compare | Decision::CompareMetadata, Some(object)) => object,
    };
    let Some(preserve) = context.preserve else {
        return compare_content(context, job, object, None).await;
    };
    let headers = match context.destination.head(&job.key).await {
        Ok(headers) => headers,
        Err(error) => return (Compared::Done(asked_in_vain(error)), 0),
    };
    if job.decision == Decision::CompareMetadata {
        let stored = StoredMetadata::read(&headers.stored.metadata);
        if stored.matches(&job.file.stat, preserve) {
            return (Compared::Done(Outcome::Unchanged(Reason::SameMetadata, job.file.stat)), 0);
        }
        // The times prove the content, and the mtime is none that DataSync would copy it for.
        if !preserve.mtime || stored.has_mtime_of(&job.file.stat) {
            return (to_rewrite(headers, job.file.stat), 0);
        }
    }
    compare_content(context, job, object, Some((headers, preserve))).await
}

/// Compares the contents and, where the object's headers are given, then its metadata.
async fn compare_content(
    context: &Context,
    job: &Job,
    object: &Object,
    headers: Option<(Headers, Preserve)>,
) -> (Compared, u64) {
    let known = headers.as_ref().map(|(headers, _)| headers);
    match compare(context, &job.key, &job.file, object, known).await {
        Ok(Comparison { finding: Finding::Equal(stat), read_bytes }) => match headers {
            Some((headers, preserve)) if !StoredMetadata::read(&headers.stored.metadata).matches(&stat, preserve) => {
                (to_rewrite(headers, stat), read_bytes)
            }
            _ => (Compared::Done(Outcome::Unchanged(Reason::SameContent, stat)), read_bytes),
        },
        Ok(Comparison { finding: Finding::Different, read_bytes }) => (Compared::Upload(Reason::Content), read_bytes),
        Ok(Comparison { finding: Finding::CannotTell, read_bytes }) => {
            (Compared::Upload(Reason::Unverifiable), read_bytes)
        }
        Err(error) => (compared_in_vain(context, job, error), 0),
    }
}

/// What is left to be done where two contents could not be compared.
fn compared_in_vain(context: &Context, job: &Job, error: CompareError) -> Compared {
    match error {
        CompareError::Ask(error) => Compared::Done(asked_in_vain(error)),
        CompareError::Read(ReadError::Vanished) => Compared::Done(Outcome::Skipped(SkipReason::Vanished)),
        // What changes while it is compared is different; the upload waits until it settles.
        CompareError::Read(ReadError::Changed) => Compared::Upload(Reason::Content),
        CompareError::Read(ReadError::Problem(problem)) => {
            Compared::Done(Outcome::SourceFailed(Failure::of_source(context.key(&job.key), problem)))
        }
    }
}

/// The same as [`settle_comparison`], and where nothing that S3 keeps of the object tells, it is read.
pub async fn settle_by_reading(context: &Context, job: &Job) -> (Compared, u64) {
    let (compared, read_bytes) = settle_comparison(context, job).await;
    if !matches!(compared, Compared::Upload(Reason::Unverifiable)) {
        return (compared, read_bytes);
    }
    let (compared, more_bytes) = match read_object(context, &job.key, &job.file).await {
        Ok(Comparison { finding: Finding::Equal(stat), read_bytes }) => {
            (settle_metadata(context, job, stat).await, read_bytes)
        }
        Ok(Comparison { read_bytes, .. }) => (Compared::Upload(Reason::Content), read_bytes),
        Err(error) => (compared_in_vain(context, job, error), 0),
    };
    (compared, read_bytes + more_bytes)
}

/// Compares the metadata alone, of a file whose content is equal.
async fn settle_metadata(context: &Context, job: &Job, stat: Stat) -> Compared {
    let Some(preserve) = context.preserve else {
        return Compared::Done(Outcome::Unchanged(Reason::SameContent, stat));
    };
    match context.destination.head(&job.key).await {
        Ok(headers) if StoredMetadata::read(&headers.stored.metadata).matches(&stat, preserve) => {
            Compared::Done(Outcome::Unchanged(Reason::SameContent, stat))
        }
        Ok(headers) => to_rewrite(headers, stat),
        Err(error) => Compared::Done(asked_in_vain(error)),
    }
}

fn to_rewrite(headers: Headers, stat: Stat) -> Compared {
    Compared::Rewrite(Box::new(Rewrite { headers, stat }))
}

fn asked_in_vain(error: S3Error) -> Outcome {
    if error.kind == ErrorKind::Interrupted {
        Outcome::Skipped(SkipReason::Interrupted)
    } else {
        Outcome::DestinationFailed(error)
    }
}
