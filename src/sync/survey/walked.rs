//! The survey of the whole tree: walk, list, merge and decide.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::decide::{OrphanDecision, decide_orphan};
use super::entry::step_of_entry;
use super::listing::Listing;
use super::merge::{Merge, Pair};
use super::range;
use super::{Step, is_own};
use crate::destination::error::{ErrorKind, S3Error};
use crate::source::entry::{Cover, Entry, Found};
use crate::sync::context::Context;
use crate::sync::fatal::Fatal;
use crate::sync::guard::Guard;
use crate::sync::tally::Tally;

pub(super) async fn survey(
    context: &Arc<Context>,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let is_whole = each_pair(context, tally, async |pair, tally| match step(context, pair, tally).await {
        Some(step) => take(step, tally).await,
        None => Ok(()),
    });
    if is_whole.await?
        && let Some(index) = &context.memory.index
    {
        index.remove_remaining().await;
    }
    Ok(())
}

/// Calls `each` with each pair, in key order. Returns whether these were all; if not, a stop was requested.
pub(super) async fn each_pair(
    context: &Arc<Context>,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Pair, &mut Tally) -> Result<(), Fatal>,
) -> Result<bool, Fatal> {
    let unusable = |error: S3Error| Fatal::destination(&context.destination, error);
    let opened = tokio::select! {
        opened = Listing::open(Arc::clone(context)) => opened,
        () = context.shutdown.requested() => return Ok(false),
    };
    let listing = match opened {
        Err(error) if error.kind == ErrorKind::Interrupted => return Ok(false),
        opened => Arc::new(opened.map_err(unusable)?),
    };
    let tree = context.source.tree_range();
    let ranges = range::split(
        context.source.walk(Some(Arc::clone(&tally.read_directories)))?,
        tree.keys(),
        context.rules.preserve.is_some(),
    );
    let mut listed = listing.ranges(ranges, context.list_concurrency);
    let mut merge = Merge::default();
    loop {
        let next = tokio::select! {
            next = listed.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some((mut pages, entries)) = next else {
            return Ok(!context.shutdown.is_requested());
        };
        let mut pairs = merge.pairs(entries);
        loop {
            let page = tokio::select! {
                page = pages.next_page() => page,
                () = context.shutdown.requested() => return Ok(false),
            };
            let is_last = match page {
                Err(error) if error.kind == ErrorKind::Interrupted => return Ok(false),
                Err(error) => return Err(unusable(error)),
                Ok(Some(objects)) => {
                    tally.counts.objects += u64::try_from(objects.len()).unwrap_or(u64::MAX);
                    let in_scope = objects.iter().filter(|object| is_own(context, &object.key));
                    tally.objects_in_scope += u64::try_from(in_scope.count()).unwrap_or(u64::MAX);
                    pairs.add(objects);
                    false
                }
                Ok(None) => {
                    pairs.complete();
                    true
                }
            };
            // Before anything below a mount is uploaded: the next run must know the mount, even if this one is killed.
            context.record_mounts(&BTreeSet::new()).await;
            for pair in pairs.by_ref() {
                each(pair?, tally).await?;
            }
            context.progress.show(|| tally.line());
            if is_last {
                break;
            }
        }
    }
}

/// Counts a pair, and returns what is left to be done about it.
async fn step(context: &Context, pair: Pair, tally: &mut Tally) -> Option<Step> {
    let row = match (&context.memory.index, pair.key()) {
        (Some(index), Some(key)) => index.take_row(key).await,
        _ => None,
    };
    count_covered(context, &pair, tally);
    match pair {
        Pair::Entry(entry, object) => step_of_entry(context, entry, object, row.as_ref(), tally),
        Pair::Covered(..) => None,
        // Its row stays until the object is deleted: another file may come to its key that the dates do not show.
        Pair::Orphan(object) => match decide_orphan(&object.key, &context.rules, &context.filter) {
            OrphanDecision::Delete => match context.memory.inner.of_object(&object.key) {
                None => Some(Step::Orphan(object)),
                Some(inner) => {
                    tally.withheld(&Guard::other_destination(inner), &context.key(&object.key));
                    None
                }
            },
            OrphanDecision::Keep => None,
            OrphanDecision::KeepImpossible => {
                tally.withheld(&Guard::ImpossiblePath, &context.key(&object.key));
                None
            }
        },
    }
}

/// Counts an object for which the run cannot say whether it is an orphan.
fn count_covered(context: &Context, pair: &Pair, tally: &mut Tally) {
    let cover = match pair {
        Pair::Entry(Entry { found: Found::Failed(..), .. }, _) | Pair::Entry(_, None) | Pair::Orphan(_) => None,
        Pair::Entry(entry, Some(_)) => entry.found.coverage(&entry.key).map(|coverage| coverage.cover),
        Pair::Covered(_, cover) => Some(*cover),
    };
    let Some(key) = pair.key().filter(|key| is_own(context, key)) else {
        return;
    };
    match cover {
        Some(Cover::Unknown) => tally.withheld(&Guard::Unknown, &context.key(key)),
        Some(Cover::Failed) => tally.lost_files += 1,
        // The failure of the directory counts already.
        Some(Cover::Unread | Cover::OutOfScope) | None => {}
    }
}
