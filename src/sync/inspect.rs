//! The inspection: both sides surveyed, and compared where the decision asks for it, many at once. Nothing is written.
//!
//! `plan` says what is to be done about what comes out of it, `verify` what differs.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::orphan::Orphans;
use super::settle::{Compared, Job};
use super::survey::{Step, survey};
use super::tally::{Failure, Tally};
use super::upload::Outcome;
use super::{Fatal, Setup};

/// A file that was compared.
#[derive(Debug)]
pub struct Inspected {
    /// The file, and the object at its key.
    pub job: Job,
    /// What came of the comparison.
    pub compared: Compared,
    /// How much was read for it.
    pub read_bytes: u64,
}

/// Compares all with `compare`, brings each file before `each` in the order of the keys, and returns the orphans.
///
/// # Errors
/// Where a side cannot be trusted, and where `each` says so.
pub async fn inspect<F: Future<Output = Inspected> + Send + 'static>(
    setup: &Setup,
    tally: &mut Tally,
    compare: impl Fn(Arc<Context>, Job) -> F,
    mut each: impl FnMut(Inspected, &mut Tally) -> Result<(), Fatal>,
) -> Result<Orphans, Fatal> {
    let context = &setup.context;
    let mut orphans = Orphans::default();
    let mut comparing = FuturesOrdered::new();
    survey(setup, tally, async |step, tally| {
        match step {
            Step::Orphan(object) => orphans.push(&object),
            Step::File(job) => {
                if comparing.len() >= context.destination.most_requests()
                    && let Some(compared) = comparing.next().await
                {
                    account(context, compared, &mut each, tally)?;
                }
                // On a task of its own, so that it goes on while others are waited for.
                let compared = tokio::spawn(compare(Arc::clone(context), job));
                comparing.push_back(AbortOnDropHandle::new(compared));
            }
        }
        Ok(())
    })
    .await?;
    while let Some(compared) = comparing.next().await {
        account(context, compared, &mut each, tally)?;
    }
    Ok(orphans)
}

fn account(
    context: &Context,
    compared: Result<Inspected, JoinError>,
    each: &mut impl FnMut(Inspected, &mut Tally) -> Result<(), Fatal>,
    tally: &mut Tally,
) -> Result<(), Fatal> {
    let inspected = compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    tally.read_for_compare(inspected.read_bytes);
    match inspected.compared {
        Compared::Done(Outcome::Skipped(reason)) => tally.skipped(reason),
        Compared::Done(Outcome::SourceFailed(failure)) => tally.failed(failure),
        Compared::Done(Outcome::DestinationFailed(error)) => {
            tally.failed(Failure::of_request(context.key(&inspected.job.key), &error));
        }
        Compared::Upload(_) | Compared::Rewrite(_) | Compared::Done(_) => each(inspected, tally)?,
    }
    context.progress.show(|| tally.line());
    Ok(())
}
