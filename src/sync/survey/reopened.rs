//! The survey of reopened decisions: the files that a smaller margin kept, read on both sides again
//! (`DESIGN.md#objects-from-the-future`).

use std::sync::Arc;

use super::Step;
use super::decide::{Decision, decide, distance};
use super::merge::Pair;
use super::walked::each_pair;
use crate::source::entry::{Entry, Found};
use crate::sync::context::Context;
use crate::sync::fatal::Fatal;
use crate::sync::job::{Job, SourceFile};
use crate::sync::tally::Tally;

/// Calls `take` with a comparison of each file that the run has kept and would no longer keep.
pub(super) async fn survey(
    context: &Arc<Context>,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let (shutdown, margin) = (&context.shutdown, context.clocks().margin());
    if shutdown.is_requested() || !context.kept_by_times.includes_less_than(margin) {
        return Ok(());
    }
    tracing::warn!("surveying again: a later page showed that the clocks differ by more than the run had assumed");
    // The entries have been counted.
    let mut counted = Tally::default();
    let pairs = each_pair(context, &mut counted, async |pair, _| match reopened(context, pair) {
        Some(job) => {
            tally.reopened += 1;
            if let Some(index) = &context.memory.index {
                index.remove(&job.file().key);
            }
            take(Step::Do(job), tally).await
        }
        None => Ok(()),
    });
    pairs.await.map(|_| ())
}

/// Returns the comparison of a pair that the run has kept by its times, and would now compare.
fn reopened(context: &Context, pair: Pair) -> Option<Job> {
    let Pair::Entry(Entry { key, found: Found::File(entry) | Found::Symlink(entry) | Found::Directory(entry) }, object) =
        pair
    else {
        return None;
    };
    let (file, object) = (SourceFile { key, entry }, object?);
    if !context.kept_by_times.has_kept(&file.key, distance(&file.entry, &object)?) {
        return None;
    }
    match decide(&file.entry, &object, None, &context.rules, context.clocks()) {
        Decision::Compare => Some(Job::Compare { file, object }),
        Decision::CompareMetadata => Some(Job::CompareMetadata { file, object }),
        Decision::CompareOnlyMetadata => Some(Job::CompareOnlyMetadata { file, object }),
        // The text of a link was compared, whatever the dates showed.
        Decision::CompareLink | Decision::Keep(_) | Decision::Upload(_) | Decision::Skip(_) => None,
    }
}
