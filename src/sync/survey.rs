//! The survey: reads both sides in key order, and passes each step to the caller. It writes nothing. `sync` carries the
//! steps out, `plan` writes them down, `verify` compares everything.

use std::sync::Arc;

mod content;
pub mod decide;
mod entry;
mod listing;
pub mod merge;
mod named;
mod planned;
mod range;
mod reopened;
mod walked;

use super::context::Context;
use super::fatal::Fatal;
use super::job::{Job, Kept};
use super::plan_file::PlanFile;
use super::tally::Tally;
use crate::key::RelativeKey;
use crate::manifest::Manifest;
use crate::object::Object;

/// What a survey reads.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The whole tree, or a key range of it, and the listing.
    Walk,
    /// The named files, and one HEAD for each. No object is an orphan then.
    Manifest(Manifest),
    /// The lines of a reviewed plan, each re-checked on both sides.
    Plan(PlanFile),
}

/// One thing that a survey found.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something is to be done about a file.
    Do(Job),
    /// The object of a file is as it should be.
    Keep(Kept),
    /// The source has no entry for this object, and the walk has read the directories above it.
    Orphan(Object),
}

/// Whether an object belongs to this sync, and to no destination inside this one.
fn is_own(context: &Context, key: &RelativeKey) -> bool {
    decide::is_in_scope(key, &context.rules, &context.filter) && context.memory.inner.of_object(key).is_none()
}

/// Calls `take` with each step, in key order.
///
/// # Errors
/// Returns an error if a side cannot be trusted, and if `take` returns one.
pub(crate) async fn survey(
    context: &Arc<Context>,
    input: &Input,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    match input {
        Input::Walk => {
            Box::pin(walked::survey(context, tally, &mut take)).await?;
            Box::pin(reopened::survey(context, tally, take)).await?;
        }
        Input::Manifest(manifest) => named::survey(context, manifest, tally, take).await?,
        Input::Plan(plan) => planned::survey(context, plan, tally, take).await?,
    }
    content::settle(context, input, tally).await;
    content::warn_of_filters(context, input, tally);
    Ok(())
}
