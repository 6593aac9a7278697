//! The inspection: surveys both sides and compares what the decision asks to compare, in parallel. It writes nothing.
//!
//! `plan` prints what a sync would do, `verify` prints what differs.

use std::sync::Arc;

use futures::future::{Either, ready};
use futures::stream::FuturesOrdered;
use futures::{Stream, StreamExt};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

pub(crate) mod plan;
mod result_lines;
pub(crate) mod verify;

use super::context::Context;
use super::delete::orphan::Orphans;
use super::failure::Failure;
use super::fatal::Fatal;
use super::job::{Job, Kept, SourceFile};
use super::reason::Reason;
use super::survey::{Input, Step, survey};
use super::tally::Tally;
use super::transfer::compare::{compare, compare_by_reading};
use super::verdict::{FileError, Verdict};
use crate::counted::counted;
use crate::object::Object;
use crate::source::entry::SkipReason;

/// A file that was compared with its object.
#[derive(Debug)]
struct Inspected {
    file: SourceFile,
    object: Option<Object>,
    finding: Finding,
}

/// What the comparison found.
#[derive(Clone, Copy, Debug)]
enum Finding {
    /// The object is as it should be.
    Equal(Reason),
    /// A sync would upload the file.
    Upload(Reason),
    /// A sync would rewrite the metadata.
    Rewrite,
}

/// How to inspect.
#[derive(Clone, Copy, Debug)]
struct InspectOptions {
    /// Download objects whose ETag and stored checksum cannot show whether they are equal.
    read_objects: bool,
    /// Call `each` in key order with files that need no comparison too.
    list_kept: bool,
}

/// Calls `each` with each compared file, in key order, and returns the orphans.
///
/// # Errors
/// Returns an error if a side cannot be trusted, and if `each` returns one.
async fn inspect(
    context: &Arc<Context>,
    input: &Input,
    InspectOptions { read_objects, list_kept }: InspectOptions,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Inspected, &mut Tally) -> Result<(), Fatal>,
) -> Result<Orphans, Fatal> {
    let mut orphans = Orphans::default();
    let mut comparing = FuturesOrdered::new();
    survey(context, input, tally, async |step, tally| {
        let compared = match step {
            Step::Orphan(object) => {
                orphans.push(&object);
                return Ok(());
            }
            // Only a listed file waits for its place in the order: the others must not take the place of comparisons.
            Step::Keep(kept) if !list_kept => {
                return account(context, Ok(Compared::Kept(kept)), &mut each, tally).await;
            }
            Step::Keep(kept) => Either::Left(ready(Ok(Compared::Kept(kept)))),
            Step::Do(job) => {
                let context = Arc::clone(context);
                // A task of its own continues while the run waits for others.
                let task = tokio::spawn(async move {
                    let verdict = if read_objects {
                        compare_by_reading(&context, &job).await
                    } else {
                        compare(&context, &job).await
                    };
                    Compared::Job(job, verdict)
                });
                Either::Right(AbortOnDropHandle::new(task))
            }
        };
        if comparing.len() >= context.destination.max_requests()
            && let Some(compared) = next_or_stop(context, &mut comparing).await
        {
            account(context, compared, &mut each, tally).await?;
        }
        comparing.push_back(compared);
        Ok(())
    })
    .await?;
    while let Some(compared) = next_or_stop(context, &mut comparing).await {
        account(context, compared, &mut each, tally).await?;
    }
    // After a stop request, comparisons end where they are.
    (0..comparing.len()).for_each(|_| tally.skipped(SkipReason::Interrupted));
    tally.close_reopened();
    find_unseen(context, tally).await;
    Ok(orphans)
}

/// Counts what came to its name after the walk had read the directory there: no comparison can have seen it.
async fn find_unseen(context: &Context, tally: &mut Tally) {
    let unseen = tokio::select! {
        unseen = context.source.unseen(&tally.read_directories) => unseen,
        () = context.shutdown.requested() => return,
    };
    tally.not_surveyed = unseen.count + u64::from(unseen.error.is_some());
    if let Some(error) = &unseen.error {
        tracing::warn!("cannot compare files that were renamed during the walk: {error}");
    }
    if unseen.count > 0 {
        let came = counted(
            unseen.count,
            "file or directory came to its name after the walk had read the directory there",
            "files or directories came to their names after the walk had read the directories there",
        );
        tracing::warn!("not compared: {came}; run again");
    }
    tally.unseen = Some(unseen);
}

/// The next comparison that ends; `None` if there is none, or if a stop is requested.
async fn next_or_stop<T>(context: &Context, comparing: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    tokio::select! {
        biased;
        () = context.shutdown.requested() => None,
        compared = comparing.next() => compared,
    }
}

#[derive(Debug)]
enum Compared {
    Kept(Kept),
    Job(Job, Verdict),
}

async fn account(
    context: &Context,
    compared: Result<Compared, JoinError>,
    each: &mut impl AsyncFnMut(Inspected, &mut Tally) -> Result<(), Fatal>,
    tally: &mut Tally,
) -> Result<(), Fatal> {
    let compared = compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let (job, verdict) = match compared {
        Compared::Kept(Kept { file, object, reason }) => {
            return each(Inspected { file, object: Some(object), finding: Finding::Equal(reason) }, tally).await;
        }
        Compared::Job(job, verdict) => (job, verdict),
    };
    let finding = match verdict {
        Verdict::Equal(reason, _) => Finding::Equal(reason),
        Verdict::Upload(reason) => Finding::Upload(reason),
        Verdict::Rewrite(_) => Finding::Rewrite,
        Verdict::Skip(reason) => {
            tally.lost_files += u64::from(reason == SkipReason::Vanished && job.object().is_some());
            tally.skipped(reason);
            return Ok(());
        }
        Verdict::Failed(FileError::Destination(error)) if error.kind.ends_the_run() => {
            tally.failed(Failure::of_request(context.key(&job.file().key), &error));
            return Err(Fatal::destination(&context.destination, error));
        }
        Verdict::Failed(error) => {
            tally.failed(Failure::of_file(context.key(&job.file().key), error));
            return Ok(());
        }
    };
    let (file, object) = job.into_parts();
    each(Inspected { file, object, finding }, tally).await?;
    context.progress.show(|| tally.line());
    Ok(())
}
