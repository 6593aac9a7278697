//! A sample of the destination's keys, taken before DataSync starts: from a few pages that are far apart.
//!
//! If the source has none of its keys, it is not the tree that was copied there.

use std::collections::BTreeSet;

use crate::destination::error::S3Error;
use crate::destination::list::PageStart;
use crate::key::{RelativeKey, SourcePath};
use crate::source::presence::Presence;
use crate::sync::context::Context;
use crate::sync::guard::{LimitShare, MaxDelete};

/// With fewer keys, a sample proves nothing.
const LEAST_KEYS: usize = 100;
const SAMPLE_KEYS: usize = 200;
/// How many pages the sample may cost.
const MOST_PAGES: usize = 5;

/// The keys in scope of a few pages of the listing.
#[derive(Debug)]
pub(super) struct KeySample {
    keys: Vec<RelativeKey>,
    /// Whether these are all keys in scope.
    is_complete: bool,
}

/// What the source has of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SampledKeys {
    /// The keys of the pages.
    listed: usize,
    /// The keys that were looked up in the source.
    pub(super) sampled: usize,
    /// Those of them that the source does not have.
    absent: usize,
    is_complete: bool,
}

impl KeySample {
    /// Lists the first page, and then what follows the directories on the path of its last key.
    ///
    /// # Errors
    /// Returns an error if S3 does not list the destination.
    pub(super) async fn take(context: &Context) -> Result<Self, S3Error> {
        let mut keys = BTreeSet::new();
        let (mut last, mut depth) = (RelativeKey::default(), 1);
        let mut start = PageStart::After(RelativeKey::default());
        let mut is_complete = false;
        for number in 0..MOST_PAGES {
            let page = context.destination.page(&start).await?;
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
            let in_scope = |key: &RelativeKey| SourcePath::of(key).is_some() && context.filter.admits(key.as_str());
            keys.extend(page.objects.into_iter().map(|object| object.key).filter(in_scope));
            match behind(&last, depth) {
                Some(next) if !is_complete => start = PageStart::After(next),
                _ => break,
            }
        }
        Ok(Self { keys: keys.into_iter().collect(), is_complete })
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
        let step = listed.div_ceil(SAMPLE_KEYS).max(1);
        let sample: Vec<RelativeKey> = self.keys.into_iter().step_by(step).collect();
        let sampled = sample.len();
        let presences = context.source.presences(sample).await;
        let absent = presences.iter().filter(|presence| **presence == Presence::Absent).count();
        SampledKeys { listed, sampled, absent, is_complete: self.is_complete }
    }
}

impl SampledKeys {
    /// Whether the source has none of the keys, which are enough to prove something.
    pub(super) const fn are_of_another_tree(self) -> bool {
        self.listed >= LEAST_KEYS && self.absent == self.sampled
    }

    /// Whether the sample shows that deletes of all orphans would have been within the limit.
    pub(super) fn allow_deletes(self, limit: MaxDelete) -> bool {
        let orphans = (self.absent * self.listed).div_ceil(self.sampled.max(1));
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.is_complete && count(orphans) <= limit.of(count(self.listed), LimitShare::Whole)
    }
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
        let sampled = SampledKeys { listed: 1000, sampled: 200, absent: 20, is_complete: true };
        assert!(sampled.allow_deletes(MaxDelete::Default), "about 100 of 1000");
        assert!(!SampledKeys { absent: 21, ..sampled }.allow_deletes(MaxDelete::Default));
        assert!(!sampled.allow_deletes(MaxDelete::Count(99)));
        assert!(!SampledKeys { is_complete: false, ..sampled }.allow_deletes(MaxDelete::Default));
        let empty = SampledKeys { listed: 0, sampled: 0, absent: 0, is_complete: true };
        assert!(empty.allow_deletes(MaxDelete::Count(0)) && !empty.are_of_another_tree());
    }
}
