//! Deleting orphans: the last step of a run, guarded, and re-checked key by key.
//!
//! First the guards for the whole run ([`withhold`]). If none of them applies, two more check each delete:
//!
//! - `still_gone` withholds the delete if a fresh lookup finds the file, `unknown` if what is there is out of sight by now,
//!   `still_gone_unknown` if the lookup fails;
//! - `still_the_same` withholds it if the object changed after the listing. S3 checks this itself, by the ETag that goes
//!   with each key.

use std::io;

pub(crate) mod orphan;
mod withhold;

use orphan::{Orphans, spill_guard};
use withhold::guard_of_run;

use super::changes::Changes;
use super::context::Context;
use super::failure::Failure;
use super::guard::Guard;
use super::plan_file::Action;
use super::reason::Reason;
use super::rules::DeleteRules;
use super::tally::Tally;
use crate::destination::delete::{DeleteOutcome, DeleteTarget, fits_a_batch};
use crate::source::presence::Presence;

/// Deletes the orphans that no guard withholds.
pub(crate) async fn delete_orphans(
    context: &Context,
    orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    changes: &mut Changes,
) {
    for_each_batch(context, orphans, rules, tally, async |batch, tally| {
        delete_batch(context, batch, tally, changes).await;
    })
    .await;
}

/// Calls `each` with the orphans that no guard withholds, in batches and in order. Counts the others as withheld.
pub(crate) async fn for_each_batch(
    context: &Context,
    mut orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Vec<DeleteTarget>, &mut Tally),
) {
    let guard = guard_of_run(orphans.count(), tally, rules).or_else(|| orphans.spill_guard());
    if let Some(guard) = &guard {
        tracing::warn!("{}", guard.message());
    }
    let mut remaining = orphans.count();
    let result = async {
        for batch in orphans.batches()? {
            let batch = batch?;
            remaining = remaining.saturating_sub(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            if let Some(guard) = &guard {
                for target in &batch {
                    tally.withheld(guard, &context.key(&target.key));
                }
            } else {
                let gone = still_gone(context, batch, tally).await;
                each(gone, tally).await;
            }
        }
        io::Result::Ok(())
    };
    let lost = result.await.err().map(|error| spill_guard(&error, remaining));
    // Orphans whose names the temporary file did not give back are withheld too.
    if let (Some(guard), 1..) = (lost.or(guard), remaining) {
        tally.withheld_many(&guard, remaining);
    }
}

/// Returns the targets for which a fresh lookup finds nothing in the source.
async fn still_gone(context: &Context, batch: Vec<DeleteTarget>, tally: &mut Tally) -> Vec<DeleteTarget> {
    let presences = context.source.presences(batch.iter().map(|target| target.key.clone()).collect()).await;
    let mut gone = Vec::with_capacity(batch.len());
    for (target, presence) in batch.into_iter().zip(presences) {
        let guard = match presence {
            Presence::Absent => {
                gone.push(target);
                continue;
            }
            Presence::Present => Guard::StillGone,
            Presence::Unknown => Guard::Unknown,
            Presence::Failed(problem) => Guard::StillGoneUnknown { problem: problem.message },
        };
        tally.withheld(&guard, &context.key(&target.key));
    }
    gone
}

async fn delete_batch(context: &Context, batch: Vec<DeleteTarget>, tally: &mut Tally, changes: &mut Changes) {
    if context.shutdown.is_requested() {
        return batch.iter().for_each(|target| tally.withheld(&Guard::Interrupted, &context.key(&target.key)));
    }
    let (together, alone): (Vec<DeleteTarget>, Vec<DeleteTarget>) =
        batch.into_iter().partition(|target| fits_a_batch(&context.key(&target.key)));
    let outcomes = if together.is_empty() { Vec::new() } else { context.destination.delete_batch(&together).await };
    for (target, outcome) in together.iter().zip(outcomes) {
        account(context, target, outcome, tally, changes);
    }
    for target in &alone {
        let outcome = context.destination.delete_one(target).await;
        account(context, target, outcome, tally, changes);
    }
}

fn account(context: &Context, target: &DeleteTarget, outcome: DeleteOutcome, tally: &mut Tally, changes: &mut Changes) {
    let key = context.key(&target.key);
    match outcome {
        DeleteOutcome::Deleted => {
            tally.counts.deleted += 1;
            changes.note(Action::Delete, key, Reason::Orphan, None);
        }
        DeleteOutcome::Changed => tally.withheld(&Guard::StillTheSame, &key),
        DeleteOutcome::Failed(error) => tally.delete_failed(Failure::of_request(key, &error)),
    }
    context.progress.show(|| tally.line());
}
