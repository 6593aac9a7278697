//! Deleting orphans: the last step of a run, guarded, and re-checked key by key.
//!
//! First the guards that need the result of the whole run ([`withhold`](mod@withhold)). Two more check each delete that
//! they allow:
//!
//! - `still_gone` withholds the delete if a lookup finds the file, `unknown` if what is there is out of sight by now,
//!   `still_gone_unknown` if the lookup fails. Each attempt of a request follows a lookup of its own;
//! - `still_the_same` withholds it if the object changed after the listing. S3 checks this itself, by the ETag that goes
//!   with each key.

use std::collections::HashSet;
use std::io;

use tokio::time::Instant;
use tracing::{Instrument, Span};

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
use crate::destination::Admission;
use crate::destination::delete::{DeleteForm, DeleteOutcome, DeleteRequest, DeleteTarget, fits_a_batch};
use crate::destination::error::{ErrorKind, S3Error};
use crate::key::RelativeKey;
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
    let mut deletes = Deletes {
        context,
        outlook: Outlook::new(context.destination.outage_timeout()),
        only_alone: false,
        fatal: None,
    };
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
    if context.memory.is_of_first_run() {
        let (orphans, objects) = (orphans.count(), tally.objects_in_scope);
        tracing::warn!(
            orphans,
            objects,
            "the state has no record of this destination, which already has objects: the run cannot know what the source \
             held before. The guards `unknown` (for a file system that is not mounted inside the source) and \
             `other_destination` do not help in this run. --max-delete still limits the deletes"
        );
    }
    let guards = RunGuards::ask(context, &orphans, tally, rules).await;
    let mut remaining = orphans.count();
    let result = async {
        for batch in orphans.batches()? {
            let batch = batch?;
            remaining = remaining.saturating_sub(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            let mut allowed = Vec::with_capacity(batch.len());
            let have_left = guards.have_left(context, &batch).await;
            for (target, has_left) in batch.into_iter().zip(have_left) {
                match guards.of(&target, has_left) {
                    Some(guard) => tally.withheld(&guard, &context.key(&target.key)),
                    None => allowed.push(target),
                }
            }
            if context.shutdown.is_requested() {
                withhold(context, &allowed, &Guard::Interrupted, tally);
            } else if !allowed.is_empty() {
                each(allowed, tally).await;
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

/// Returns the targets for which a fresh lookup finds nothing in the source. Counts the others as withheld.
pub(crate) async fn still_gone(context: &Context, targets: Vec<DeleteTarget>, tally: &mut Tally) -> Vec<DeleteTarget> {
    let mut gone = Vec::with_capacity(targets.len());
    for (target, guard) in looked_up(context, targets).await {
        match guard {
            None => gone.push(target),
            Some(guard) => tally.withheld(&guard, &context.key(&target.key)),
        }
    }
    gone
}

/// Looks the targets up in the source: each one with the guard that withholds its delete now.
async fn looked_up(context: &Context, targets: Vec<DeleteTarget>) -> Vec<(DeleteTarget, Option<Guard>)> {
    let presences = context.source.presences(targets.iter().map(|target| target.key.clone()).collect()).await;
    let guards = presences.into_iter().map(|presence| match presence {
        Presence::Absent => None,
        Presence::Present => Some(Guard::StillGone),
        Presence::Unknown => Some(Guard::Unknown),
        Presence::Failed(problem) => Some(Guard::StillGoneUnknown { problem: problem.message }),
    });
    targets.into_iter().zip(guards).collect()
}

fn withhold(context: &Context, targets: &[DeleteTarget], guard: &Guard, tally: &mut Tally) {
    for target in targets {
        tally.withheld(guard, &context.key(&target.key));
    }
}

/// The keys of a request for which an attempt may have had an effect that no response shows.
type InDoubt = HashSet<RelativeKey>;

/// Waits before the targets that failed, of as many as had been sent, are sent again.
///
/// # Errors
/// Returns each target with its error if the run gives them up.
async fn retry_some(
    context: &Context,
    request: &mut DeleteRequest<'_>,
    sent: usize,
    failed: Vec<(DeleteTarget, S3Error)>,
) -> Result<Vec<DeleteTarget>, Vec<(DeleteTarget, S3Error)>> {
    let Some((target, last)) = failed.last() else {
        return Ok(Vec::new());
    };
    tracing::debug!(key = %context.key(&target.key), keys = failed.len(), error = %last, "S3 did not delete these keys");
    match request.retry_some(failed.len(), sent, last).await {
        Ok(()) => Ok(failed.into_iter().map(|(target, _)| target).collect()),
        Err(error) => {
            let of_target = |own| match &error.given_up {
                Some(given_up) => S3Error { given_up: Some(given_up.clone()), ..own },
                None => error.clone(),
            };
            Err(failed.into_iter().map(|(target, own)| (target, of_target(own))).collect())
        }
    }
}

/// The deletes of a run.
struct Deletes<'a> {
    context: &'a Context,
    outlook: Outlook,
    /// Whether the server has no `DeleteObjects`.
    only_alone: bool,
    /// The error after which no other delete can succeed.
    fatal: Option<S3Error>,
}

impl Deletes<'_> {
    async fn delete_batch(&mut self, batch: Vec<DeleteTarget>, tally: &mut Tally) {
        let (together, mut alone): (Vec<DeleteTarget>, Vec<DeleteTarget>) =
            batch.into_iter().partition(|target| !self.only_alone && fits_a_batch(&self.context.key(&target.key)));
        let span = self.span_of(&together);
        alone.extend(self.delete(DeleteForm::Together, together, tally).instrument(span).await);
        for target in alone {
            let span = self.span_of(std::slice::from_ref(&target));
            self.delete(DeleteForm::Alone, vec![target], tally).instrument(span).await;
        }
    }

    /// The span of a request: each line of a retry has its first key, and how many there are.
    fn span_of(&self, targets: &[DeleteTarget]) -> Span {
        let first = targets.first().map(|target| tracing::field::display(self.context.key(&target.key)));
        tracing::debug_span!("delete", key = first, keys = targets.len())
    }

    /// Deletes the targets with one request. Returns them if the server does not have this request.
    async fn delete(
        &mut self,
        form: DeleteForm,
        mut targets: Vec<DeleteTarget>,
        tally: &mut Tally,
    ) -> Vec<DeleteTarget> {
        let (context, started) = (self.context, Instant::now());
        let mut request = context.destination.delete_request(form);
        let mut in_doubt = InDoubt::default();
        while !targets.is_empty() && !self.withholds(&targets, &in_doubt, form, tally) {
            let given_up = match self.attempt(&mut request, &mut targets, &mut in_doubt, tally).await {
                Err(error) if form == DeleteForm::Together && error.kind == ErrorKind::NotImplemented => {
                    self.only_alone = true;
                    return targets;
                }
                Err(error) => match request.retry(error).await {
                    Ok(()) => Vec::new(),
                    Err(error) => targets.drain(..).map(|target| (target, error.clone())).collect(),
                },
                Ok(outcomes) => {
                    let sent = targets.len();
                    let failed = self.settle(std::mem::take(&mut targets), outcomes, started, tally);
                    match retry_some(context, &mut request, sent, failed).await {
                        Ok(again) => {
                            targets = again;
                            Vec::new()
                        }
                        Err(given_up) => given_up,
                    }
                }
            };
            for (target, error) in given_up {
                if error.kind == ErrorKind::Interrupted && in_doubt.contains(&target.key) {
                    self.account_stopped(&target, form, tally);
                } else {
                    self.account(&target, DeleteOutcome::Failed(error), started, tally);
                }
            }
        }
        Vec::new()
    }

    /// Sends one attempt once it is admitted, with those of the targets that are still gone then: a file may come back
    /// while the request waits.
    async fn attempt(
        &self,
        request: &mut DeleteRequest<'_>,
        targets: &mut Vec<DeleteTarget>,
        in_doubt: &mut InDoubt,
        tally: &mut Tally,
    ) -> Result<Vec<DeleteOutcome>, S3Error> {
        let admission = request.admit().await?;
        let mut back = Vec::new();
        for (target, guard) in looked_up(self.context, std::mem::take(targets)).await {
            match guard {
                None => targets.push(target),
                Some(Guard::StillGone) if in_doubt.contains(&target.key) => back.push(target),
                Some(guard) => tally.withheld(&guard, &self.context.key(&target.key)),
            }
        }
        if self.withholds(targets, in_doubt, request.form(), tally) {
            targets.clear();
        }
        let sent = if targets.is_empty() {
            // It may be the only one, and a HEAD may follow.
            drop(admission);
            Ok(Vec::new())
        } else {
            self.send(request, admission, targets, in_doubt).await
        };
        for target in back {
            self.account_back(&target, request.form(), tally).await;
        }
        sent
    }

    /// Sends one attempt. Each target that S3 may have deleted has its line then, whatever becomes of the next attempt.
    async fn send<'a>(
        &self,
        request: &mut DeleteRequest<'a>,
        admission: Admission<'a>,
        targets: &[DeleteTarget],
        in_doubt: &mut InDoubt,
    ) -> Result<Vec<DeleteOutcome>, S3Error> {
        let keys = targets.iter().map(|target| self.context.key(&target.key));
        let intents = self.context.changes.intend_deletes(keys).await;
        let sent = request.send(admission, targets).await;
        for (number, (target, intent)) in targets.iter().zip(intents).enumerate() {
            let may_have_effect = match &sent {
                Ok(outcomes) => outcomes.get(number).is_none_or(DeleteOutcome::may_have_effect),
                Err(error) => error.may_have_effect,
            };
            if may_have_effect {
                in_doubt.insert(target.key.clone());
                drop(intent);
            } else {
                intent.changed_nothing();
            }
        }
        sent
    }

    /// Accounts the outcomes. Returns the targets that can be retried, each with its error.
    fn settle(
        &mut self,
        targets: Vec<DeleteTarget>,
        outcomes: Vec<DeleteOutcome>,
        started: Instant,
        tally: &mut Tally,
    ) -> Vec<(DeleteTarget, S3Error)> {
        let mut failed = Vec::new();
        for (target, outcome) in targets.into_iter().zip(outcomes) {
            match outcome {
                DeleteOutcome::Failed(error) if error.kind.is_retryable() && error.code.is_some() => {
                    failed.push((target, error));
                }
                outcome @ (DeleteOutcome::Deleted | DeleteOutcome::Changed | DeleteOutcome::Failed(_)) => {
                    self.account(&target, outcome, started, tally);
                }
            }
        }
        failed
    }

    /// Accounts a delete whose file is back after an attempt that may have deleted the object. The run has not published
    /// the file.
    async fn account_back(&self, target: &DeleteTarget, form: DeleteForm, tally: &mut Tally) {
        let key = self.context.key(&target.key);
        let effect = if self.context.destination.has_no_object(&target.key).await {
            self.context.record_deleted(&target.key);
            drop(self.context.changes.intend_deletes(std::iter::once(key.clone())).await);
            "S3 has already deleted the object"
        } else {
            "S3 may still delete the object, because an attempt ended without a usable response"
        };
        let message = format!("the file exists again, but {effect}: run again to upload the file");
        let error = S3Error::local(form.operation(), ErrorKind::Transient, message);
        tally.delete_failed(Failure::of_request(key, &error));
    }

    /// Accounts a delete that S3 may have carried out, and that the run does not repeat because it ends.
    fn account_stopped(&self, target: &DeleteTarget, form: DeleteForm, tally: &mut Tally) {
        let message = "the run ended after an attempt without a usable response: S3 may have deleted the object";
        let error = S3Error::local(form.operation(), ErrorKind::Transient, message);
        tally.delete_failed(Failure::of_request(self.context.key(&target.key), &error));
    }

    /// Withholds the deletes if the run ends. Those that S3 may have carried out have failed.
    fn withholds(&self, targets: &[DeleteTarget], in_doubt: &InDoubt, form: DeleteForm, tally: &mut Tally) -> bool {
        let guard = match &self.fatal {
            Some(error) => Guard::Listing { error: self.context.destination.explain(error) },
            None if self.context.shutdown.is_requested() => Guard::Interrupted,
            None => return false,
        };
        for target in targets {
            if in_doubt.contains(&target.key) {
                self.account_stopped(target, form, tally);
            } else {
                tally.withheld(&guard, &self.context.key(&target.key));
            }
        }
        true
    }

    fn account(&mut self, target: &DeleteTarget, outcome: DeleteOutcome, started: Instant, tally: &mut Tally) {
        let key = self.context.key(&target.key);
        match outcome {
            DeleteOutcome::Deleted => {
                self.outlook.succeeded();
                tally.counts.deleted += 1;
                self.context.record_deleted(&target.key);
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
