//! Deleting orphans: last, guarded, and looked at once more.
//!
//! Where the guards of the whole run ([`super::guard`]) have nothing against it, two more look at each delete:
//!
//! 5. *`still_gone`*: looked at afresh, the source still has nothing of this name;
//! 6. *`still_the_same`*: the object is still the one that was listed.
//!
//! These two are normal life and no reason for exit code 3.

use std::io;

use super::changes::{Change, Changes};
use super::context::Context;
use super::guard::{DeleteRules, objection};
use super::orphan::{Orphans, spill_guard};
use super::tally::{Failure, Guard, Tally};
use crate::destination::delete::{Deleted, Doomed, fits_a_batch};
use crate::source::presence::Presence;

/// Deletes the orphans, if no guard objects.
pub async fn delete_orphans(
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

/// Brings the orphans that no guard objects to before `each`, in batches and in order; tallies the others as withheld.
pub async fn for_each_batch(
    context: &Context,
    mut orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Vec<Doomed>, &mut Tally),
) {
    let guard = objection(orphans.count(), tally, rules).or_else(|| orphans.spill_guard());
    if let Some(guard) = &guard {
        tracing::warn!("{}", guard.message);
    }
    let mut to_come = orphans.count();
    let result = async {
        for batch in orphans.batches()? {
            let batch = batch?;
            to_come = to_come.saturating_sub(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            if let Some(guard) = &guard {
                for doomed in &batch {
                    tally.withheld(guard, &context.key(&doomed.key));
                }
            } else {
                let gone = still_gone(context, batch, tally).await;
                each(gone, tally).await;
            }
        }
        io::Result::Ok(())
    };
    let lost = result.await.err().map(|error| spill_guard(&error, to_come));
    // What could not be remembered or read back by name is withheld all the same.
    if let (Some(guard), 1..) = (lost.or(guard), to_come) {
        tally.withheld_many(&guard, to_come);
    }
}

/// Guard 5: those of which the source, looked at afresh, has nothing.
async fn still_gone(context: &Context, batch: Vec<Doomed>, tally: &mut Tally) -> Vec<Doomed> {
    let presences = context.source.presences(batch.iter().map(|doomed| doomed.key.clone()).collect()).await;
    let mut gone = Vec::with_capacity(batch.len());
    for (doomed, presence) in batch.into_iter().zip(presences) {
        let guard = match presence {
            Presence::Gone => {
                gone.push(doomed);
                continue;
            }
            Presence::There => Guard {
                name: "still_gone",
                message: "the file is there again: its object stays".to_owned(),
                is_normal: true,
            },
            Presence::Unknown(problem) => Guard {
                name: "still_gone_unknown",
                message: format!("whether the file is still gone cannot be seen: {}", problem.message),
                is_normal: false,
            },
        };
        tally.withheld(&guard, &context.key(&doomed.key));
    }
    gone
}

/// Deletes a batch; guard 6 is S3's own, by the ETag that goes with each key.
async fn delete_batch(context: &Context, batch: Vec<Doomed>, tally: &mut Tally, changes: &mut Changes) {
    if context.shutdown.is_requested() {
        let message = "the run was asked to stop before these deletes: the next run does them".to_owned();
        let guard = Guard { name: "interrupted", message, is_normal: false };
        return batch.iter().for_each(|doomed| tally.withheld(&guard, &context.key(&doomed.key)));
    }
    let (together, alone): (Vec<Doomed>, Vec<Doomed>) =
        batch.into_iter().partition(|doomed| fits_a_batch(&context.key(&doomed.key)));
    let outcomes = if together.is_empty() { Vec::new() } else { context.destination.delete_batch(&together).await };
    for (doomed, outcome) in together.iter().zip(outcomes) {
        account(context, doomed, outcome, tally, changes);
    }
    for doomed in &alone {
        let outcome = context.destination.delete_one(doomed).await;
        account(context, doomed, outcome, tally, changes);
    }
}

fn account(context: &Context, doomed: &Doomed, outcome: Deleted, tally: &mut Tally, changes: &mut Changes) {
    let key = context.key(&doomed.key);
    match outcome {
        Deleted::Yes => {
            tally.counts.deleted += 1;
            changes.note(&Change::delete(key));
        }
        Deleted::Changed => {
            let message = "somebody else wrote the object since it was listed: it stays".to_owned();
            tally.withheld(&Guard { name: "still_the_same", message, is_normal: true }, &key);
        }
        Deleted::Failed(error) => tally.delete_failed(Failure::of_request(key, &error)),
    }
    context.progress.show(|| tally.line());
}
