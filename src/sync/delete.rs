//! Deleting orphans: the last step of a run, guarded, and re-checked key by key.
//!
//! First the guards that need the result of the whole run ([`withhold`](mod@withhold)). Two more check each delete that
//! they allow:
//!
//! - `still_gone` withholds the delete if a fresh lookup finds the file, `unknown` if what is there is out of sight by now,
//!   `still_gone_unknown` if the lookup fails;
//! - `still_the_same` withholds it if the object changed after the listing. S3 checks this itself, by the ETag that goes
//!   with each key.

use std::io;

use tokio::time::Instant;

pub(crate) mod orphan;
mod withhold;

use orphan::{Orphans, spill_guard};
use withhold::RunGuards;

use super::context::Context;
use super::failure::Failure;
use super::fatal::Fatal;
use super::guard::Guard;
use super::outlook::Outlook;
use super::rules::DeleteRules;
use super::tally::Tally;
use crate::destination::delete::{DeleteOutcome, DeleteTarget, fits_a_batch};
use crate::destination::error::{ErrorKind, S3Error};
use crate::source::presence::Presence;

/// Deletes the orphans that no guard withholds.
///
/// # Errors
/// Returns an error if the outcomes so far show that no other delete can succeed. The rest is then withheld.
pub(crate) async fn delete_orphans(
    context: &Context,
    orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
) -> Result<(), Fatal> {
    let mut deletes = Deletes { context, outlook: Outlook::new(context.destination.outage_timeout()), fatal: None };
    for_each_batch(context, orphans, rules, tally, async |batch, tally| deletes.delete_batch(batch, tally).await).await;
    match deletes.fatal {
        Some(error) => Err(Fatal::destination(&context.destination, error)),
        None => Ok(()),
    }
}

/// Calls `each` with the orphans that no guard withholds, in batches and in order. Counts the others as withheld.
pub(crate) async fn for_each_batch(
    context: &Context,
    mut orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Vec<DeleteTarget>, &mut Tally),
) {
    if orphans.count() == 0 {
        return;
    }
    let guards = RunGuards::ask(context, &orphans, tally, rules).await;
    let mut remaining = orphans.count();
    let result = async {
        for batch in orphans.batches()? {
            let batch = batch?;
            remaining = remaining.saturating_sub(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            let mut allowed = Vec::with_capacity(batch.len());
            for target in batch {
                match guards.of(&target) {
                    Some(guard) => tally.withheld(&guard, &context.key(&target.key)),
                    None => allowed.push(target),
                }
            }
            if context.shutdown.is_requested() {
                withhold(context, &allowed, &Guard::Interrupted, tally);
            } else if !allowed.is_empty() {
                let gone = still_gone(context, allowed, tally).await;
                each(gone, tally).await;
            }
        }
        if remaining == 0 {
            Ok(())
        } else {
            Err(io::Error::other("the temporary file holds fewer orphans than the run found"))
        }
    };
    // Orphans whose names the temporary file did not give back are withheld too.
    if let Err(error) = result.await {
        tally.withheld_many(&spill_guard(&error), remaining);
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

fn withhold(context: &Context, targets: &[DeleteTarget], guard: &Guard, tally: &mut Tally) {
    for target in targets {
        tally.withheld(guard, &context.key(&target.key));
    }
}

/// The deletes of a run.
struct Deletes<'a> {
    context: &'a Context,
    outlook: Outlook,
    /// The error after which no other delete can succeed.
    fatal: Option<S3Error>,
}

impl Deletes<'_> {
    async fn delete_batch(&mut self, batch: Vec<DeleteTarget>, tally: &mut Tally) {
        let (together, alone): (Vec<DeleteTarget>, Vec<DeleteTarget>) =
            batch.into_iter().partition(|target| fits_a_batch(&self.context.key(&target.key)));
        let started = Instant::now();
        if !together.is_empty() && !self.withholds(&together, tally) {
            let outcomes = self.context.destination.delete_batch(&together).await;
            for (target, outcome) in together.iter().zip(outcomes) {
                self.account(target, outcome, started, tally);
            }
        }
        for target in &alone {
            if !self.withholds(std::slice::from_ref(target), tally) {
                let outcome = self.context.destination.delete_one(target).await;
                self.account(target, outcome, started, tally);
            }
        }
    }

    /// Withholds the deletes if the run ends.
    fn withholds(&self, targets: &[DeleteTarget], tally: &mut Tally) -> bool {
        let guard = match &self.fatal {
            Some(error) => Guard::Listing { error: self.context.destination.explain(error) },
            None if self.context.shutdown.is_requested() => Guard::Interrupted,
            None => return false,
        };
        withhold(self.context, targets, &guard, tally);
        true
    }

    fn account(&mut self, target: &DeleteTarget, outcome: DeleteOutcome, started: Instant, tally: &mut Tally) {
        let key = self.context.key(&target.key);
        match outcome {
            DeleteOutcome::Deleted => {
                self.outlook.succeeded();
                tally.counts.deleted += 1;
                self.context.record_deleted(&target.key);
                self.context.changes.note_delete(key);
            }
            DeleteOutcome::Changed => tally.withheld(&Guard::StillTheSame, &key),
            DeleteOutcome::Failed(error) if error.kind == ErrorKind::Interrupted => {
                tally.withheld(&Guard::Interrupted, &key);
            }
            DeleteOutcome::Failed(error) => {
                tally.delete_failed(Failure::of_request(key, &error));
                if self.fatal.is_none() && self.outlook.failed(&target.key, &error, started) {
                    self.fatal = Some(error);
                }
            }
        }
        self.context.progress.show(|| tally.line());
    }
}
