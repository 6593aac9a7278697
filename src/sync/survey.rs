//! The survey: both sides walked and listed, put together key by key, and decided. Nothing is written here.
//!
//! `sync` does what comes out of it, `plan` writes it down.

use std::sync::Arc;

use futures::StreamExt;

use super::apply::survey_planned;
use super::decide::{CompareBy, Decision, OrphanDecision, Reason, decide, decide_orphan};
use super::listing::Listing;
use super::merge::{Merge, Pair};
use super::range;
use super::settle::Job;
use super::tally::{Failure, Guard, Tally};
use super::{Fatal, Setup};
use crate::destination::error::{ErrorKind, S3Error};
use crate::index::row::Row;
use crate::manifest::Manifest;
use crate::object::Object;
use crate::source::entry::{Entry, EntryKind, Found};

/// Something that a survey found to be done.
#[derive(Debug)]
pub enum Step {
    /// A file to be uploaded or compared, or to be said to stay.
    File(Job),
    /// An object that no file answers for.
    Orphan(Object),
}

/// Walks, lists, merges and decides; brings each step before `take`, in the order of the keys.
///
/// # Errors
/// Where a side cannot be trusted, and where `take` says so.
pub async fn survey(
    setup: &Setup,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    if let Some(plan) = &setup.planned {
        return survey_planned(setup, plan, tally, take).await;
    }
    if let Some(manifest) = &setup.manifest {
        return survey_named(setup, manifest, tally, take).await;
    }
    let context = &setup.context;
    let unusable = |error: S3Error| Fatal::destination(&context.destination, &error);
    let opened = tokio::select! {
        opened = Listing::open(Arc::clone(context)) => opened,
        () = context.shutdown.requested() => return Ok(()),
    };
    let listing = match opened {
        Err(error) if error.kind == ErrorKind::Interrupted => return Ok(()),
        opened => Arc::new(opened.map_err(unusable)?),
    };
    let ranges = range::cut(context.source.walk()?, context.source.section().keys(), context.preserve.is_some());
    let mut listed = listing.ranges(ranges, setup.list_concurrency);
    let mut merge = Merge::default();
    loop {
        let next = tokio::select! {
            next = listed.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some((mut pages, entries)) = next else {
            tally.saw_beyond = context.source.section().saw_beyond();
            if let Some(index) = context.memory.index.as_ref().filter(|_| !context.shutdown.is_requested()) {
                index.recall_no_more().await;
            }
            return Ok(());
        };
        let mut pairs = merge.pairs(entries);
        loop {
            let page = tokio::select! {
                page = pages.next_page() => page,
                () = context.shutdown.requested() => return Ok(()),
            };
            let is_last = match page {
                Err(error) if error.kind == ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(unusable(error)),
                Ok(Some(objects)) => {
                    tally.counts.objects += u64::try_from(objects.len()).unwrap_or(u64::MAX);
                    pairs.add(objects);
                    false
                }
                Ok(None) => {
                    pairs.complete();
                    true
                }
            };
            for pair in pairs.by_ref() {
                if let Some(step) = step(setup, pair?, tally).await {
                    take(step, tally).await?;
                }
            }
            context.progress.show(|| tally.line());
            if is_last {
                break;
            }
        }
    }
}

/// Looks only at the files that are named, and at the object of each. No object is an orphan then.
async fn survey_named(
    setup: &Setup,
    manifest: &Manifest,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let context = &setup.context;
    let looks = manifest.paths().map(|path| async move {
        let entry = context.source.named(path).await;
        let is_wanted = matches!(entry.found, Found::File(_) | Found::Symlink(_));
        let object = if is_wanted { context.destination.object(path).await } else { Ok(None) };
        (entry, object)
    });
    let mut looked = std::pin::pin!(futures::stream::iter(looks).buffered(context.destination.most_requests()));
    loop {
        let next = tokio::select! {
            next = looked.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some((entry, object)) = next else {
            return Ok(());
        };
        let object = match object {
            Ok(object) => object,
            Err(error) if error.kind == ErrorKind::Unusable => {
                return Err(Fatal::destination(&context.destination, &error));
            }
            Err(error) => {
                tally.saw(EntryKind::File);
                tally.failed(Failure::of_request(context.key(&entry.key), &error));
                continue;
            }
        };
        tally.counts.objects += u64::from(object.is_some());
        if let Some(step) = step_of_entry(setup, entry, object, None, tally) {
            take(step, tally).await?;
        }
        context.progress.show(|| tally.line());
    }
}

/// Accounts for a pair; what is left to be done about it is a step.
async fn step(setup: &Setup, pair: Pair, tally: &mut Tally) -> Option<Step> {
    let remembered = match (&setup.context.memory.index, pair.key()) {
        (Some(index), Some(key)) => index.recall(key).await,
        _ => None,
    };
    if let (Some(index), Some(row), Pair::Orphan(_)) = (&setup.context.memory.index, &remembered, &pair) {
        index.forget(&row.key);
    }
    match pair {
        Pair::Entry(entry, object) => step_of_entry(setup, entry, object, remembered.as_ref(), tally),
        Pair::Covered(_) => None,
        Pair::Orphan(object) => match decide_orphan(object.key.as_str(), &setup.rules, &setup.filter) {
            OrphanDecision::Delete => Some(Step::Orphan(object)),
            OrphanDecision::Leave => None,
            OrphanDecision::LeaveImpossible => {
                let message =
                    "no file can have such a name, so nobody knows where the object comes from: it stays".to_owned();
                tally.withheld(
                    &Guard { name: "impossible_path", message, is_normal: true },
                    &setup.context.key(&object.key),
                );
                None
            }
        },
    }
}

fn step_of_entry(
    setup: &Setup,
    entry: Entry,
    object: Option<Object>,
    remembered: Option<&Row>,
    tally: &mut Tally,
) -> Option<Step> {
    let context = &setup.context;
    let failed = |kind, problem, tally: &mut Tally| {
        tally.saw(kind);
        tally.failed(Failure::of_source(context.key(&entry.key), problem));
    };
    match entry.found {
        // A directory is no object in plain mode; one that a console made for it stays.
        Found::Directory(_) if context.preserve.is_none() => {}
        // Looked into for what is included below it.
        Found::Directory(_) if !setup.filter.admits(entry.key.as_str()) => {
            tally.saw(EntryKind::Directory);
            tally.counts.filtered += 1;
        }
        // Another run looks at it, whose keys hold its own; what lies below it and within is known all the same.
        Found::Filtered(_) | Found::Failed(..) | Found::Skipped(..)
            if !context.source.section().keys().holds(entry.key.as_bytes()) => {}
        Found::Named(kind) => tally.saw(kind),
        Found::Special => tally.saw(EntryKind::Special),
        Found::Skipped(kind, reason) => {
            tally.saw(kind);
            tally.skipped(reason);
        }
        Found::Filtered(kind) => {
            tally.saw(kind);
            tally.counts.filtered += 1;
        }
        Found::Failed(kind, problem) | Found::Nameless(kind, problem) => failed(kind, problem, tally),
        Found::Unknown { problem, .. } => {
            tally.unknown_directories += 1;
            failed(EntryKind::Directory, problem, tally);
        }
        Found::File(file) | Found::Symlink(file) | Found::Directory(file) => {
            tally.saw(file.stat.kind);
            tally.bytes.source += file.stat.size_bytes;
            let decision = decide(&file, object.as_ref(), remembered, &setup.rules, context.clocks());
            // By its times the file is known to be equal; by the mtime alone it is not.
            if let (Decision::Keep(Reason::Older), Some(object)) = (decision, &object)
                && setup.rules.compare_by != CompareBy::Mtime
            {
                context.remember(object, &file.stat, false);
            }
            match decision {
                Decision::Skip(reason) => tally.skipped(reason),
                Decision::Keep(_) if !setup.show_kept => tally.counts.unchanged += 1,
                Decision::Keep(_) | Decision::Compare | Decision::CompareMetadata | Decision::Upload(_) => {
                    return Some(Step::File(Job { key: entry.key, file, object, decision }));
                }
            }
        }
    }
    None
}
