//! A sample of the destination's keys, taken before DataSync starts: from a few pages that are far apart.
//!
//! If the source has none of its keys, it is not the tree that was copied there.

use std::collections::BTreeSet;

use crate::counted::counted;
use crate::destination::error::S3Error;
use crate::destination::list::PageStart;
use crate::key::{RelativeKey, SourcePath};
use crate::served::InnerDestinations;
use crate::source::presence::Presence;
use crate::sync::context::Context;
use crate::sync::guard::{LimitShare, MaxDelete};

/// With fewer keys, a sample proves nothing.
const LEAST_KEYS: usize = 100;
const SAMPLE_KEYS: usize = 200;
/// How many pages the sample may cost.
const MOST_PAGES: usize = 5;

/// The keys of one page of the listing.
#[derive(Debug)]
struct SampledPage {
    /// The page starts after this key.
    after: RelativeKey,
    /// The keys in scope.
    keys: Vec<RelativeKey>,
    /// The keys that are not this run's: its filters leave them out, or another destination has them.
    others: Vec<RelativeKey>,
}

/// The keys in scope of a few pages of the listing.
#[derive(Debug)]
pub(super) struct KeySample {
    keys: Vec<RelativeKey>,
    pages: Vec<SampledPage>,
    /// Whether these are all keys in scope.
    is_complete: bool,
}

/// What the source has of a sample.
#[derive(Debug, Default)]
pub(super) struct SampledKeys {
    pages: Vec<SampledPage>,
    /// The keys of the pages.
    listed: usize,
    /// The keys that were looked up in the source.
    pub(super) sampled: usize,
    /// Those of them that the source does not have.
    absent: usize,
    /// Those of them that the source has, without directories.
    files: usize,
    is_complete: bool,
}

/// The sampled keys that the destination does not have any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// All of them.
    keys: usize,
    /// Those that are not proven to be orphans.
    of_files: usize,
    /// The keys that are not this run's.
    others: usize,
}

impl KeySample {
    /// Lists the first page, and then what follows the directories on the path of its last key.
    ///
    /// # Errors
    /// Returns an error if S3 does not list the destination.
    pub(super) async fn take(context: &Context, inner: &InnerDestinations) -> Result<Self, S3Error> {
        let (mut keys, mut pages) = (BTreeSet::new(), Vec::new());
        let (mut last, mut depth) = (RelativeKey::default(), 1);
        let mut start = PageStart::After(RelativeKey::default());
        let mut is_complete = false;
        for number in 0..MOST_PAGES {
            let page = context.destination.page(&start).await?;
            let after = start.lower_bound().clone();
            is_complete = number == 0 && page.next.is_none();
            match (page.objects.last(), page.next) {
                (Some(object), Some(_)) => last = object.key.clone(),
                (None, Some(next)) => {
                    start = next;
                    continue;
                }
                // The end of the listing: continue inside the directory that was passed over.
                (_, None) => depth += 1,
            }
            let in_scope = |key: &RelativeKey| {
                SourcePath::of(key).is_some() && context.filter.admits(key.as_str()) && inner.of_object(key).is_none()
            };
            let (listed, others): (Vec<_>, Vec<_>) =
                page.objects.into_iter().map(|object| object.key).partition(in_scope);
            keys.extend(listed.iter().cloned());
            pages.push(SampledPage { after, keys: listed, others });
            match behind(&last, depth) {
                Some(next) if !is_complete => start = PageStart::After(next),
                _ => break,
            }
        }
        Ok(Self { keys: keys.into_iter().collect(), pages, is_complete })
    }

    /// How many keys in scope the destination has, at least.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.keys.len()).unwrap_or(u64::MAX)
    }

    /// Whether the destination is known to have no key in scope.
    pub(super) const fn is_empty(&self) -> bool {
        self.is_complete && self.keys.is_empty()
    }

    /// Looks up evenly spread keys of the sample in the source.
    pub(super) async fn look_up(self, context: &Context) -> SampledKeys {
        let listed = self.keys.len();
        let LookedUp { sampled, absent, files } = look_up(self.keys, context).await;
        SampledKeys { pages: self.pages, listed, sampled, absent, files, is_complete: self.is_complete }
    }
}

/// What a lookup of keys in the source showed.
struct LookedUp {
    sampled: usize,
    absent: usize,
    files: usize,
}

/// Looks up evenly spread keys in the source.
async fn look_up(keys: Vec<RelativeKey>, context: &Context) -> LookedUp {
    let step = keys.len().div_ceil(SAMPLE_KEYS).max(1);
    let sample: Vec<RelativeKey> = keys.into_iter().step_by(step).collect();
    let sampled = sample.len();
    let are_files: Vec<bool> = sample.iter().map(|key| !key.as_str().ends_with('/')).collect();
    let presences = context.source.presences(sample).await;
    let is_absent = |presence: &Presence| *presence == Presence::Absent;
    LookedUp {
        sampled,
        absent: presences.iter().filter(|presence| is_absent(presence)).count(),
        files: presences.iter().zip(are_files).filter(|(presence, is_file)| *is_file && !is_absent(presence)).count(),
    }
}

impl SampledKeys {
    /// Whether the source has none of the keys, which are enough to prove something.
    pub(super) const fn are_of_another_tree(&self) -> bool {
        self.listed >= LEAST_KEYS && self.absent == self.sampled
    }

    /// Whether the destination is known to have had no file of the source.
    pub(super) const fn have_no_file(&self) -> bool {
        self.is_complete && self.files == 0
    }

    /// Whether the sample shows that deletes of all orphans would have been within the limit.
    pub(super) fn allow_deletes(&self, limit: MaxDelete) -> bool {
        let orphans = (self.absent * self.listed).div_ceil(self.sampled.max(1));
        self.is_complete && count(orphans) <= limit.of(count(self.listed), LimitShare::Whole)
    }

    /// Lists the same pages again, and returns which of their keys are missing.
    ///
    /// # Errors
    /// Returns an error if S3 does not list the destination.
    pub(super) async fn missing(&self, context: &Context) -> Result<Missing, S3Error> {
        let (mut missing, mut others) = (BTreeSet::new(), BTreeSet::new());
        for SampledPage { after, keys, others: of_others } in &self.pages {
            let page = context.destination.page(&PageStart::After(after.clone())).await?;
            // New objects may have moved the last keys to the next page.
            let end = page.next.as_ref().map(|next| next.lower_bound().clone());
            let listed: BTreeSet<RelativeKey> = page.objects.into_iter().map(|object| object.key).collect();
            let is_missing = |key: &&RelativeKey| !listed.contains(*key) && end.as_ref().is_none_or(|end| *key <= end);
            missing.extend(keys.iter().filter(is_missing).cloned());
            others.extend(of_others.iter().filter(is_missing));
        }
        let keys = missing.len();
        let LookedUp { sampled, absent, .. } = look_up(missing.into_iter().collect(), context).await;
        let of_files = ((sampled - absent) * keys).div_ceil(sampled.max(1));
        Ok(Missing { keys, of_files, others: others.len() })
    }

    /// How many objects were deleted, by what is missing or, of a longer listing, by what DataSync counted.
    pub(super) fn deleted(&self, missing: Missing, counted: u64) -> u64 {
        let missing = count(missing.keys + missing.others);
        if self.is_complete { missing } else { missing.max(counted) }
    }

    /// Why the guards would not have allowed these deletes; `None` if they would have.
    pub(super) fn beyond_guards(&self, missing: Missing, limit: MaxDelete) -> Option<String> {
        let Missing { keys, of_files, others } = missing;
        if others > 0 {
            Some(match others {
                1 => "1 object that is missing now is excluded here, or belongs to another destination".to_owned(),
                _ => {
                    format!("{others} objects that are missing now are excluded here, or belong to another destination")
                }
            })
        } else if of_files > 0 {
            Some(match of_files {
                1 => "1 object that it deleted belongs to a file of the source".to_owned(),
                _ => format!("{of_files} objects that it deleted belong to files of the source"),
            })
        } else if count(keys) > limit.of(count(self.listed), LimitShare::Whole) {
            Some(format!("it deleted {}, more than --max-delete allows", counted(count(keys), "object", "objects")))
        } else {
            None
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Returns a key behind everything in the `depth`-th directory on the path of a key: the next page from there on is far
/// away. A key that has no directory is followed by the next page.
fn behind(key: &RelativeKey, depth: usize) -> Option<RelativeKey> {
    let text = key.as_str();
    match text.match_indices('/').nth(depth - 1) {
        // `0` follows `/`.
        Some((slash, _)) => Some(RelativeKey::new(format!("{}0", text.get(..slash)?))),
        None => (depth == 1 && !key.is_root()).then(|| key.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_behind_a_directory_of_the_last_key() {
        let next = |key: &str, depth| behind(&RelativeKey::new(key), depth).map(|key| key.as_str().to_owned());
        assert_eq!(next("2024/01/31/a", 1).as_deref(), Some("20240"));
        assert_eq!(next("2024/01/31/a", 3).as_deref(), Some("2024/01/310"));
        assert_eq!(next("2024/", 1).as_deref(), Some("20240"));
        assert_eq!(next("index.html", 1).as_deref(), Some("index.html"));
        for (key, depth) in [("index.html", 2), ("2024/a", 2), ("", 1)] {
            assert_eq!(next(key, depth), None, "{key}");
        }
    }

    #[test]
    fn only_a_complete_sample_shows_that_deletes_are_allowed() {
        let sampled = |absent, is_complete| {
            let (listed, sampled) = (1000, 200);
            SampledKeys { listed, sampled, absent, is_complete, ..SampledKeys::default() }
        };
        assert!(sampled(20, true).allow_deletes(MaxDelete::Default), "about 100 of 1000");
        assert!(!sampled(21, true).allow_deletes(MaxDelete::Default));
        assert!(!sampled(20, true).allow_deletes(MaxDelete::Count(99)));
        assert!(!sampled(20, false).allow_deletes(MaxDelete::Default));
        let empty = SampledKeys { is_complete: true, ..SampledKeys::default() };
        assert!(empty.allow_deletes(MaxDelete::Count(0)) && !empty.are_of_another_tree());
    }
}
