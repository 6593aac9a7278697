//! The upload of one file: as it was at one moment, or not at all.
//!
//! 1. The run does not publish a file that changes while it is read: it compares size, times and inode before and after.
//! 2. If a file changes while S3 responds, the run uploads it again: it stats the path once more at the end.
//! 3. A file that changed a moment ago may be in the middle of a write that its times do not show, because Linux stamps a
//!    write when the write starts. The run gives the file time to settle. It does the same if the size changed and the
//!    times did not: a truncation shows its size some milliseconds before its times.
//! 4. If another client replaces the file while it is read, the run opens the path again.
//! 5. A file that never settles fails by name after [`ATTEMPTS`]. Its object is then the one that was there, or an earlier
//!    state of the file.

use std::time::Duration;

use super::sending::{Sending, Sent};
use crate::destination::headers::ObjectHeaders;
use crate::destination::put::ExpectedObject;
use crate::index::row::Written;
use crate::source::entry::{Problem, SkipReason, Stat};
use crate::source::read::{OpenFile, ReadError};
use crate::sync::context::Context;
use crate::sync::job::{Job, SourceFile};
use crate::sync::reason::Reason;
use crate::sync::verdict::{Outcome, StepError, Stored, Write};
use crate::time::EpochNanos;

/// How many times the run tries to upload a file that changes.
const ATTEMPTS: usize = 3;
/// How old the last change must be: two seconds are the decision's margin, and S3 truncates LastModified to the second.
pub(super) const SETTLED: Duration = Duration::from_secs(3);

/// How to upload a file.
#[derive(Debug)]
pub(super) struct Upload {
    /// What the upload may replace.
    pub(super) expected: ExpectedObject,
    pub(super) reason: Reason,
    /// The headers to keep, if the upload replaces a rewrite.
    pub(super) headers: Option<ObjectHeaders>,
    /// What the run has written at this key so far.
    pub(super) written: Option<Write>,
}

/// Uploads the file of a job.
pub(super) async fn upload(context: &Context, job: &Job, mut to_upload: Upload) -> Outcome {
    let mut sizes = Vec::new();
    let mut problem = Problem::never_settled(ATTEMPTS);
    for _ in 0..ATTEMPTS {
        match publish(context, job, &mut to_upload, &mut sizes).await {
            Ok(stored) => return Outcome::Uploaded(to_upload.reason, stored),
            Err(error) => {
                let is_stale = matches!(error, StepError::Stale);
                let why = if is_stale { Problem::replaced_in_each_read } else { Problem::never_settled };
                problem = why(ATTEMPTS);
                if let Some(outcome) = error.outcome(to_upload.written.as_ref()) {
                    return outcome;
                }
            }
        }
    }
    if let Ok(last) = context.source.re_stat(&job.file().key, &job.file().entry).await {
        sizes.push(last.size_bytes);
    }
    Outcome::NeverSettled(problem, sizes, to_upload.written)
}

/// One attempt: wait until the file has settled, read it, send it, and check that it has not changed.
async fn publish(
    context: &Context,
    job: &Job,
    to_upload: &mut Upload,
    sizes: &mut Vec<u64>,
) -> Result<Stored, StepError> {
    let file = job.file();
    let open = context.source.open_file(&file.key, &file.entry).await?;
    sizes.push(open.stat().size_bytes);
    let open = settled(context, file, open).await?;
    let headers = if let Some(stored) = &to_upload.headers {
        context.rewritten(stored.clone(), open.stat()).await
    } else {
        // A new object gets the class of new objects.
        let replaced = job.object().filter(|_| to_upload.expected != ExpectedObject::Absent);
        context.headers(&file.key, open.stat(), replaced).await
    };
    let headers = context.destination.write_headers(headers);
    let sending = Sending {
        context,
        file,
        open: &open,
        headers: &headers,
        expected: &to_upload.expected,
        reason: to_upload.reason,
    };
    context.record_sending(&file.key);
    let Sent { proof, started } = sending.send().await?;
    let dated = Written::between(started, EpochNanos::now(), context.clocks().margin());
    to_upload.expected = ExpectedObject::Present(proof.etag().clone());
    let stored = Stored { proof, dated, stat: *open.stat() };
    to_upload.written = Some(Write::Upload(to_upload.reason, stored.clone()));
    match context.source.re_stat(&file.key, &file.entry).await {
        Ok(now) if !now.is_same_content(open.stat()) => Err(StepError::Changed),
        // If the file no longer exists, the next run deletes its object.
        Ok(_) | Err(ReadError::Vanished) => Ok(stored),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the last change of the open file is old enough. A directory need not settle: its object has no content that
/// could be torn, and its metadata is that of one stat.
async fn settled(context: &Context, file: &SourceFile, open: OpenFile) -> Result<OpenFile, StepError> {
    if !open.stat().has_content() {
        return Ok(open);
    }
    let has_changed = !open.stat().is_same_content(&file.entry.stat);
    let Some(wait) = settles_in(open.stat(), open.stat().seen_at).or(has_changed.then_some(SETTLED)) else {
        return Ok(open);
    };
    tokio::select! {
        open = open.settled_after(wait) => Ok(open?),
        () = context.shutdown.requested() => Err(StepError::Skipped(SkipReason::Interrupted)),
    }
}

/// Returns how long it takes from `now` until the last change is old enough; `None` if it is.
pub(super) fn settles_in(stat: &Stat, now: EpochNanos) -> Option<Duration> {
    // A time in the future is a wrong clock: it counts as now.
    let age = now.since(stat.ctime).unwrap_or(Duration::ZERO);
    SETTLED.checked_sub(age).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::entry::{EntryKind, Stat};

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
            seen_at: changed,
            is_mount_point: false,
        };
        let at = |nanos| settles_in(&stat, EpochNanos(changed.0 + nanos));
        assert_eq!(at(0), Some(SETTLED));
        assert_eq!(at(second), Some(Duration::from_secs(2)));
        assert_eq!(at(3 * second), None);
        assert_eq!(at(-3600 * second), Some(SETTLED), "a change that is yet to come waits no longer");
    }
}
