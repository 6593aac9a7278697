//! The upload of one file: whole, as it was at one moment, or not at all.
//!
//! 1. What changes while it is read is not published: size, times and inode are looked at before and after.
//! 2. What changes after that, while S3 answers, is uploaded again: the path is looked at once more at the end.
//! 3. A file that changed a moment ago may be in the middle of a write that its times do not show, because Linux stamps a
//!    write when it begins: it gets time to settle. So does one whose size changed and whose times did not: a truncation
//!    shows its size before its times, for milliseconds.
//! 4. A file that never settles is failed by name after [`TRIES`], and the object that was there stays.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use super::context::Context;
use super::decide::Reason;
use super::settle::Job;
use super::tally::Failure;
use crate::destination::Expected;
use crate::destination::checksum;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::headers::ObjectHeaders;
use crate::destination::multipart::{MultipartUpload, Part, StoredPart, part_size};
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::source::entry::{FileEntry, Problem, SkipReason, Stat};
use crate::source::read::{OpenFile, ReadError};
use crate::time::EpochNanos;
use crate::uploads::Sending;

/// How often a file that changes is tried.
const TRIES: usize = 3;
/// How old the last change must be. Two seconds are the decision's margin, and LastModified is cut to the second.
pub const SETTLED: Duration = Duration::from_secs(3);
/// How many parts of one file are read ahead of their requests, at most.
const PARTS_AT_ONCE: usize = 64;

/// How long parts may take once the run is asked to stop; then there is time left to abort their upload.
const PARTS_GRACE: Duration = Duration::from_secs(10);

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// Its object is as it should be; and what the file was when that was seen.
    Unchanged(Reason, Stat),
    /// Uploaded, and why.
    Uploaded(Reason, Stored),
    /// The metadata was rewritten.
    Rewritten(Stored),
    /// Left out.
    Skipped(SkipReason),
    /// Failed in the source.
    SourceFailed(Failure),
    /// Failed at the destination.
    DestinationFailed(S3Error),
}

/// An object that was written a moment ago, and the file that it is equal to.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The object's ETag.
    pub etag: ETag,
    /// What the file was when it was read.
    pub stat: Stat,
}

/// Why a try came to nothing.
enum Trouble {
    Read(ReadError),
    Send(S3Error),
    Interrupted,
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<S3Error> for Trouble {
    fn from(error: S3Error) -> Self {
        if error.kind == ErrorKind::Interrupted { Self::Interrupted } else { Self::Send(error) }
    }
}

/// Uploads a file over what is expected at its key; `stored` is what the object there is stored with, where that stays.
pub async fn upload(
    context: &Context,
    job: &Job,
    mut expected: Expected,
    reason: Reason,
    stored: Option<ObjectHeaders>,
) -> Outcome {
    let key = &job.key;
    for _ in 0..TRIES {
        match publish(context, job, &mut expected, stored.as_ref()).await {
            Ok(stored) => return Outcome::Uploaded(reason, stored),
            Err(Trouble::Read(ReadError::Changed)) => {}
            Err(Trouble::Read(ReadError::Vanished)) => return Outcome::Skipped(SkipReason::Vanished),
            Err(Trouble::Read(ReadError::Problem(problem))) => {
                return Outcome::SourceFailed(Failure::of_source(context.key(key), problem));
            }
            Err(Trouble::Interrupted) => return Outcome::Skipped(SkipReason::Interrupted),
            Err(Trouble::Send(error)) => return Outcome::DestinationFailed(error),
        }
    }
    Outcome::SourceFailed(Failure::of_source(context.key(key), Problem::never_settled(TRIES)))
}

/// One try: settle, read, send, and look whether all that still holds.
async fn publish(
    context: &Context,
    job: &Job,
    expected: &mut Expected,
    stored: Option<&ObjectHeaders>,
) -> Result<Stored, Trouble> {
    let Job { key, file: entry, object, .. } = job;
    let file = open_settled(context, key, entry).await?;
    let headers = match stored {
        Some(stored) => context.rewritten(stored.clone(), file.stat()).await,
        None => context.headers(key, file.stat(), object.as_ref()).await,
    };
    let size = file.stat().size_bytes;
    let etag = if size < context.multipart_threshold {
        send_whole(context, key, &file, &headers, expected).await?
    } else {
        send_in_parts(context, key, &file, &headers, expected).await?
    };
    *expected = Expected::Present(etag.clone());
    match context.source.look(key, entry).await {
        Ok(now) if !now.is_same_content(file.stat()) => Err(ReadError::Changed.into()),
        // Gone since: its object is for the next run.
        Ok(_) | Err(ReadError::Vanished) => Ok(Stored { etag, stat: *file.stat() }),
        Err(error) => Err(error.into()),
    }
}

/// Opens the file once its last change is old enough.
async fn open_settled(context: &Context, key: &RelativeKey, entry: &FileEntry) -> Result<OpenFile, Trouble> {
    let file = context.source.open_file(key, entry).await?;
    let is_another = !file.stat().is_same_content(&entry.stat);
    let Some(wait) = settles_in(file.stat(), EpochNanos::now()).or(is_another.then_some(SETTLED)) else {
        return Ok(file);
    };
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = context.shutdown.requested() => return Err(Trouble::Interrupted),
    }
    file.check_unchanged().await?;
    Ok(file)
}

/// How long until the last change is old enough; `None` if it is.
#[must_use]
pub fn settles_in(stat: &Stat, now: EpochNanos) -> Option<Duration> {
    // A time that is yet to come is a clock's fault: as if it were now.
    let age = now.since(stat.ctime).unwrap_or(Duration::ZERO);
    SETTLED.checked_sub(age).filter(|wait| !wait.is_zero())
}

async fn send_whole(
    context: &Context,
    key: &RelativeKey,
    file: &OpenFile,
    headers: &ObjectHeaders,
    expected: &Expected,
) -> Result<ETag, Trouble> {
    let size = file.stat().size_bytes;
    let _share = context.budget.take(size).await;
    let body = file.read(0, usize::try_from(size).unwrap_or(usize::MAX)).await?;
    file.check_unchanged().await?;
    let digest = checksum::digest(body.clone(), context.destination.checksum()).await;
    Ok(context.destination.put(key, headers, &body, &digest, expected).await?)
}

async fn send_in_parts(
    context: &Context,
    key: &RelativeKey,
    file: &OpenFile,
    headers: &ObjectHeaders,
    expected: &Expected,
) -> Result<ETag, Trouble> {
    let part_bytes = part_size(file.stat().size_bytes, context.part_size);
    let Some(uploads) = &context.memory.uploads else {
        let upload = context.destination.begin_upload(key, headers).await?;
        let (published, _) = send_and_complete(context, file, &upload, part_bytes, &BTreeMap::new(), expected).await;
        return published;
    };
    let sending = Sending::new(file.stat(), part_bytes, headers);
    let begun = uploads.begin(&context.destination, key, headers, sending).await?;
    let (published, is_over) =
        send_and_complete(context, file, &begun.upload, part_bytes, &begun.stored, expected).await;
    if is_over {
        uploads.strike_out(&begun).await;
    }
    published
}

/// Sends the parts and publishes the object, or aborts the upload; also returns whether nothing of it is left open.
async fn send_and_complete(
    context: &Context,
    file: &OpenFile,
    upload: &MultipartUpload<'_>,
    part_bytes: u64,
    stored: &BTreeMap<i32, StoredPart>,
    expected: &Expected,
) -> (Result<ETag, Trouble>, bool) {
    let published = match send_parts(context, file, upload, part_bytes, stored).await {
        Ok(parts) => match file.check_unchanged().await {
            Ok(()) => upload.complete(parts, expected).await.map_err(Trouble::from),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error),
    };
    let is_over = published.is_ok() || upload.abort().await;
    (published, is_over)
}

/// Sends the parts; those that S3 has already are only looked at.
async fn send_parts(
    context: &Context,
    file: &OpenFile,
    upload: &MultipartUpload<'_>,
    part_bytes: u64,
    stored: &BTreeMap<i32, StoredPart>,
) -> Result<Vec<Part>, Trouble> {
    let size = file.stat().size_bytes;
    let at_once = context.destination.most_requests().min(PARTS_AT_ONCE);
    let numbers = 1..=i32::try_from(size.div_ceil(part_bytes).max(1)).unwrap_or(i32::MAX);
    let parts = futures::stream::iter(numbers.zip((0..).map(|index: u64| index * part_bytes)))
        .map(|(number, offset)| async move {
            if context.shutdown.is_requested() {
                return Err(Trouble::Interrupted);
            }
            let length = part_bytes.min(size - offset);
            let _share = context.budget.take(length).await;
            let body = file.read(offset, usize::try_from(length).unwrap_or(usize::MAX)).await?;
            let digest = checksum::digest(body.clone(), context.destination.checksum()).await;
            match stored.get(&number).and_then(|part| part.accept(number, digest)) {
                Some(part) => Ok(part),
                None => Ok(upload.part(number, body, digest).await?),
            }
        })
        .buffer_unordered(at_once)
        .try_collect();
    let out_of_time = async {
        context.shutdown.requested().await;
        tokio::time::sleep(PARTS_GRACE).await;
    };
    tokio::select! {
        parts = parts => parts,
        () = out_of_time => Err(Trouble::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::entry::EntryKind;

    #[test]
    fn a_file_that_changed_a_moment_ago_gets_time_to_settle() {
        let second = 1_000_000_000;
        let changed = EpochNanos(1_000 * second);
        let stat = Stat {
            kind: EntryKind::File,
            size_bytes: 1,
            mtime: EpochNanos(0),
            ctime: changed,
            atime: EpochNanos(0),
            mode: 0,
            uid: 0,
            gid: 0,
            inode: (1, 1),
        };
        let at = |nanos| settles_in(&stat, EpochNanos(changed.0 + nanos));
        assert_eq!(at(0), Some(SETTLED));
        assert_eq!(at(second), Some(Duration::from_secs(2)));
        assert_eq!(at(3 * second), None);
        assert_eq!(at(-3600 * second), Some(SETTLED), "a change that is yet to come waits no longer");
    }
}
