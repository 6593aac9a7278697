//! The direct sync: makes the destination match the source.
//!
//! ```text
//! survey                      read both sides in key order (survey/named, survey/planned: for a manifest, a plan)
//!   source/walk                 walk the source
//!   survey/range                split the walk into ranges
//!   survey/listing              list each range of the destination, many in parallel
//!   survey/merge                merge the two ordered streams
//!   survey/walked               take the next pair; pass on an orphan
//!   survey/entry                count an entry of the source, and make a job of the decision
//!   survey/decide               decide about one key: pure functions
//! transfer                    carry out jobs, many in parallel
//!   transfer/carry_out          carry out one job
//!   transfer/compare            compare what the job asks to compare
//!   transfer/upload, rewrite    write what differs
//!   transfer/sending            send an open file
//! delete/orphan               keep orphans on disk until the end of the run
//! unpublished                 remember the sizes of files that could not be published
//! delete/withhold             ask the guards of the whole run, and those of each size
//! delete                      look up each orphan before each attempt, and delete it
//! ```
//!
//! The requests are in `destination` and the system calls in `source`; both name their methods at their head.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) mod budget;
pub mod changes;
pub mod clocks;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod delete;
pub(crate) mod dialect;
pub(crate) mod failure;
pub(crate) mod fatal;
pub mod guard;
pub(crate) mod inspect;
pub(crate) mod job;
pub(crate) mod manifest_object;
pub(crate) mod memory;
pub(crate) mod new_files;
pub(crate) mod other_writer;
pub(crate) mod outlook;
pub mod plan_file;
pub(crate) mod reason;
pub mod rules;
pub mod setup;
pub mod survey;
pub(crate) mod tally;
pub(crate) mod transfer;
pub(crate) mod unpublished;
pub(crate) mod verdict;

use context::Context;
use counts::Seconds;
use delete::delete_orphans;
use delete::orphan::Orphans;
use fatal::Fatal;
use guard::Guard;
use survey::{Input, Step, survey};
use tally::Tally;
use transfer::Transfers;

use crate::exit_code::ExitCode;
use crate::index::Removals;

/// How long a run that ends early may take to write the index, after the grace time of files in flight.
const INDEX_GRACE: Duration = Duration::from_secs(5);

/// Makes the destination match the source, and counts what happened.
///
/// # Errors
/// Returns an error if the run could not continue to its end. The tally has what was done until then.
pub(crate) async fn sync(
    context: &Arc<Context>,
    input: &Input,
    tally: &mut Tally,
    seconds: &mut Seconds,
) -> Result<(), Fatal> {
    let start = Instant::now();
    let mut transfers = Transfers::new(Arc::clone(context));
    let mut orphans = Orphans::default();

    let surveyed = survey(context, input, tally, async |step, tally| match step {
        Step::Do(job) => transfers.start(job, tally).await,
        Step::Keep(_) => {
            tally.counts.unchanged += 1;
            Ok(())
        }
        Step::Orphan(object) => {
            orphans.push(&object);
            Ok(())
        }
    })
    .await;
    seconds.walk = start.elapsed().as_secs_f64();

    let mut transferred = match surveyed {
        Ok(()) => transfers.finish(tally).await,
        Err(fatal) => Err(fatal),
    };
    abort_unfinished_uploads(context, input, transferred.is_ok()).await;
    if transferred.is_err() {
        // Requests that wait for the request limit need not fail one by one.
        context.shutdown.wind_down();
    }
    if context.shutdown.is_requested() {
        transfers.stop(tally).await;
    }
    tally.close_reopened();
    seconds.transfer = transfers.seconds();

    match &transferred {
        Ok(()) if !context.shutdown.is_requested() => {
            let start = Instant::now();
            let rules = match input {
                Input::Plan(_) => context.delete_rules.clone().of_plan(),
                Input::Walk | Input::Manifest(_) => context.delete_rules.clone(),
            };
            transferred = delete_orphans(context, orphans, &rules, tally).await;
            seconds.delete = start.elapsed().as_secs_f64();
        }
        Ok(()) => tally.withheld_many(&Guard::Interrupted, orphans.count()),
        Err(fatal) => tally.withheld_many(&Guard::Listing { error: fatal.to_string() }, orphans.count()),
    }
    let forgotten = forgotten_mounts(context, input, tally, transferred.is_ok());
    context.record_mounts(&forgotten).await;
    tally.lost_changes = context.changes.finish();
    write_index(context, if tally.empty_source().is_none() { Removals::Apply } else { Removals::Ignore }).await;
    transferred
}

/// Returns the mount points that the run may forget at its end: only with their objects. A source without content, and each
/// delete that was withheld or failed, may be the work of a file system that is not mounted.
fn forgotten_mounts(context: &Context, input: &Input, tally: &Tally, succeeded: bool) -> BTreeSet<String> {
    let saw_all = matches!(input, Input::Walk) && succeeded && !context.shutdown.is_requested();
    let mount_points = context.source.mount_points();
    if saw_all && !context.rules.delete {
        for path in mount_points.allowed() {
            tracing::warn!(
                path,
                "--allow-missing-mounts has no effect on the record without --delete: the mount stays recorded"
            );
        }
    }
    if saw_all && context.rules.delete && tally.deletes_are_settled() {
        mount_points.forgettable()
    } else {
        BTreeSet::new()
    }
}

/// Aborts the multipart uploads of earlier runs that this run did not resume. A run over a few named files leaves them to
/// the next run over all files.
async fn abort_unfinished_uploads(context: &Context, input: &Input, succeeded: bool) {
    let saw_all = matches!(input, Input::Walk) && succeeded && !context.shutdown.is_requested();
    if let Some(uploads) = context.memory.uploads.as_ref().filter(|_| saw_all) {
        uploads.abort_unfinished(&context.destination).await;
    }
}

/// Writes what this run recorded, also if the run stops early or fails: without the rows of its uploads, the next run
/// would have to compare them by their times. A run that lost its lease writes nothing.
async fn write_index(context: &Context, removals: Removals) {
    let (Some(index), Some(state)) = (&context.memory.index, &context.memory.state) else {
        return;
    };
    let shutdown = &context.shutdown;
    if !context.may_write().await || shutdown.exit_code() == Some(ExitCode::LeaseHeld) {
        return;
    }
    let writing = index.write(state, removals);
    if !shutdown.is_requested() {
        writing.await;
    } else if tokio::time::timeout(INDEX_GRACE, writing).await.is_err() {
        tracing::warn!("cannot write the index in the time left: the next run compares without what this run recorded");
    }
}
