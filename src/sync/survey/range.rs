//! A listing range: a part of the walk, and the part of the destination that it is compared with.
//!
//! The keys of the walk are the bounds, so many requests list any shape of tree in parallel, and no state is needed. A
//! range has as many keys as fill whole pages of a listing: if source and destination agree, no page is read twice. The
//! first ranges are short, so that small trees are listed in parallel too. Later ranges are three pages long: a range that
//! needs an extra page costs a third more at most, and little memory.

use std::collections::VecDeque;

use futures::Stream;
use tokio::sync::mpsc::Receiver;

use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::object::Object;
use crate::source::entry::{Entry, Found};

/// The most keys in a page of a listing (S3 API reference, "ListObjectsV2").
const PAGE_KEYS: usize = 1000;
/// The most pages in a range.
pub(super) const LONGEST_PAGES: usize = 3;
/// Entries without an object take memory too.
const MOST_ENTRIES: usize = 4 * LONGEST_PAGES * PAGE_KEYS;

/// The keys of one listing range.
#[derive(Clone, Debug)]
pub(super) struct ListingRange {
    /// The position among the ranges, from 0.
    pub(super) index: usize,
    /// Every key of the range is after this one; the root for the first range.
    pub(super) after: RelativeKey,
    /// No key of the range is after this one. The last range has no such bound, unless the run's key range has one.
    pub(super) up_to: Option<RelativeKey>,
}

/// A listing range, and what the walk found in it.
#[derive(Debug)]
pub(super) struct RangeEntries {
    pub(super) range: ListingRange,
    pub(super) entries: Vec<Entry>,
}

impl ListingRange {
    pub(super) fn contains(&self, key: &RelativeKey) -> bool {
        *key > self.after && self.up_to.as_ref().is_none_or(|bound| key <= bound)
    }

    /// Whether the last of these objects is at the upper bound: then the range has no more objects.
    pub(super) fn ends_with(&self, objects: &[Object]) -> bool {
        objects.last().is_some_and(|last| self.up_to.as_ref() == Some(&last.key))
    }

    /// How many keys the range should have: 1, 1, 2, 3, 3, … pages.
    fn length(&self) -> usize {
        PAGE_KEYS * self.index.clamp(1, LONGEST_PAGES)
    }
}

/// Splits the walk over a key range into listing ranges; `with_directories` if directories are objects too.
pub(super) fn split(
    walk: Receiver<Vec<Entry>>,
    keys: &KeyRange,
    with_directories: bool,
) -> impl Stream<Item = RangeEntries> + use<> {
    let next = Some(RangeEntries::new(0, keys.after().clone()));
    let last = keys.to().cloned();
    let splitter = Splitter { walk, with_directories, waiting: VecDeque::new(), next, stored: 0, last };
    futures::stream::unfold(splitter, |mut splitter| async { splitter.next().await.map(|range| (range, splitter)) })
}

struct Splitter {
    walk: Receiver<Vec<Entry>>,
    with_directories: bool,
    waiting: VecDeque<Entry>,
    /// The range being filled; `None` after the last.
    next: Option<RangeEntries>,
    /// How many entries in it have an object.
    stored: usize,
    /// The upper bound of the last range.
    last: Option<RelativeKey>,
}

impl RangeEntries {
    fn new(index: usize, after: RelativeKey) -> Self {
        let range = ListingRange { index, after, up_to: None };
        Self { range, entries: Vec::new() }
    }
}

impl Splitter {
    async fn next(&mut self) -> Option<RangeEntries> {
        let mut filled = self.next.take()?;
        loop {
            while let Some(entry) = self.waiting.pop_front() {
                let full = self.stored >= filled.range.length() || filled.entries.len() >= MOST_ENTRIES;
                // This entry shows that the range is not the last one. Its upper bound must be a key.
                let bound = filled.entries.last().filter(|last| full && !matches!(last.found, Found::Nameless(..)));
                if let Some(bound) = bound.map(|last| last.key.clone()) {
                    self.waiting.push_front(entry);
                    self.next = Some(RangeEntries::new(filled.range.index + 1, bound.clone()));
                    self.stored = 0;
                    filled.range.up_to = Some(bound);
                    // Many ranges wait: a vector that grew by doubling would take a third more memory.
                    filled.entries.shrink_to_fit();
                    return Some(filled);
                }
                let is_stored = matches!(entry.found, Found::File(_) | Found::Symlink(_))
                    || self.with_directories && matches!(entry.found, Found::Directory(_));
                self.stored += usize::from(is_stored);
                filled.entries.push(entry);
            }
            let Some(batch) = self.walk.recv().await else {
                filled.range.up_to = self.last.take();
                return Some(filled);
            };
            self.waiting = batch.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::source::entry::{EntryKind, FileEntry, Nameless, Problem, Stat};
    use crate::time::EpochNanos;

    fn file(number: usize) -> Entry {
        let time = EpochNanos(0);
        let stat = Stat {
            kind: EntryKind::File,
            size_bytes: 1,
            mtime: time,
            ctime: time,
            atime: EpochNanos(0),
            mode: 0,
            uid: 0,
            gid: 0,
            inode: (0, 0),
            seen_at: EpochNanos(0),
            is_mount_point: false,
        };
        Entry {
            key: RelativeKey::new(format!("f{number:07}")),
            found: Found::File(FileEntry { stat, effective_ctime: time, through_link: false, link_text_md5: None }),
        }
    }

    async fn ranges(entries: Vec<Entry>) -> Vec<RangeEntries> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            for batch in entries.chunks(700) {
                sender.send(batch.to_vec()).await.unwrap();
            }
        });
        split(receiver, &KeyRange::default(), false).collect().await
    }

    #[tokio::test]
    async fn ranges_fill_whole_pages_and_grow() {
        let ranges = ranges((0..10_000).map(file).collect()).await;
        let lengths: Vec<usize> = ranges.iter().map(|range| range.entries.len()).collect();
        assert_eq!(lengths, [1000, 1000, 2000, 3000, 3000]);
    }

    #[tokio::test]
    async fn each_range_begins_where_the_one_before_ends_and_the_last_has_no_end() {
        let ranges = ranges((0..5_000).map(file).collect()).await;
        assert!(ranges[0].range.after.is_root());
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].range.up_to.as_ref(), Some(&pair[1].range.after));
            assert_eq!(pair[0].range.up_to.as_ref(), pair[0].entries.last().map(|entry| &entry.key));
        }
        assert_eq!(ranges.last().unwrap().range.up_to, None);
        let keys: Vec<_> = ranges.iter().flat_map(|range| &range.entries).map(|entry| entry.key.clone()).collect();
        assert_eq!(keys, (0..5_000).map(|number| file(number).key).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_walk_that_ends_with_a_full_range_has_no_empty_one_behind_it() {
        let ranges = ranges((0..1_000).map(file).collect()).await;
        assert_eq!((ranges.len(), ranges[0].range.up_to.as_ref()), (1, None));
    }

    #[tokio::test]
    async fn an_empty_walk_is_one_range_that_holds_all_of_the_destination() {
        let ranges = ranges(Vec::new()).await;
        assert_eq!((ranges.len(), ranges[0].range.after.as_str(), ranges[0].range.up_to.as_ref()), (1, "", None));
    }

    #[tokio::test]
    async fn a_range_never_ends_at_a_name_that_is_no_key() {
        let mut entries: Vec<Entry> = (0..1_001).map(file).collect();
        let problem = Problem { operation: "name", kind: "not_utf8", message: String::new() };
        entries.insert(
            1_000,
            Entry {
                key: RelativeKey::new("f\\xE9"),
                found: Found::Nameless(EntryKind::File, Nameless::Failed(problem, Box::default())),
            },
        );
        entries.push(file(1_001));
        let ranges = ranges(entries).await;
        assert_eq!(ranges[0].range.up_to.as_ref().map(RelativeKey::as_str), Some("f0000999"));
    }
}
