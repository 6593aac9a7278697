//! A range: a stretch of the walk, and the part of the destination that it is compared with.
//!
//! The walk's own keys are the bounds, so any shape of tree is listed by many requests at once, and no state is needed.
//! A range holds as many keys as fill whole pages of a listing: where source and destination agree, no page is read
//! twice. The first ranges are short, so that small trees are listed side by side too; later ones are three pages long,
//! so that a range that needs one page more than it should costs a third at most, and memory little.

use std::collections::VecDeque;

use futures::Stream;
use tokio::sync::mpsc::Receiver;

use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::object::Object;
use crate::source::entry::{Entry, Found};

/// The most keys in a page of a listing (S3 API reference, "ListObjectsV2").
const PAGE: usize = 1000;
/// The most pages in a range.
pub const LONGEST_PAGES: usize = 3;
/// Entries that have no object take memory all the same.
const MOST_ENTRIES: usize = 4 * LONGEST_PAGES * PAGE;

/// A stretch of the walk.
#[derive(Debug)]
pub struct Range {
    /// Where it lies.
    pub bounds: Bounds,
    /// What the walk found in it.
    pub entries: Vec<Entry>,
}

/// Where a range lies among the others and among all keys.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// From 0, in order.
    pub index: usize,
    /// Every key of the range is after this one; empty for the first of all keys.
    pub after: RelativeKey,
    /// No key of the range is after this one; the last range has no such bound where the run has none.
    pub up_to: Option<RelativeKey>,
}

impl Bounds {
    /// Whether a key lies within.
    #[must_use]
    pub fn hold(&self, key: &RelativeKey) -> bool {
        *key > self.after && self.up_to.as_ref().is_none_or(|bound| key <= bound)
    }

    /// Whether the last of these objects is at the upper bound: then nothing more can be in the range.
    #[must_use]
    pub fn end_with(&self, objects: &[Object]) -> bool {
        objects.last().is_some_and(|last| self.up_to.as_ref() == Some(&last.key))
    }
}

/// Cuts the walk over a range of keys into ranges; `with_directories` where directories are objects too.
pub fn cut(walk: Receiver<Vec<Entry>>, keys: &KeyRange, with_directories: bool) -> impl Stream<Item = Range> + use<> {
    let next = Some(Range::begin(0, keys.after().clone()));
    let last = keys.to().cloned();
    let cutter = Cutter { walk, with_directories, waiting: VecDeque::new(), next, stored: 0, last };
    futures::stream::unfold(cutter, |mut cutter| async { cutter.cut().await.map(|range| (range, cutter)) })
}

struct Cutter {
    walk: Receiver<Vec<Entry>>,
    with_directories: bool,
    waiting: VecDeque<Entry>,
    /// The range being filled; none after the last.
    next: Option<Range>,
    /// How many entries in it have an object.
    stored: usize,
    /// The upper bound of the last range.
    last: Option<RelativeKey>,
}

impl Range {
    fn begin(index: usize, after: RelativeKey) -> Self {
        Self { bounds: Bounds { index, after, up_to: None }, entries: Vec::new() }
    }

    /// 1, 1, 2, 3, 3, … pages.
    fn length(&self) -> usize {
        PAGE * self.bounds.index.clamp(1, LONGEST_PAGES)
    }
}

impl Cutter {
    async fn cut(&mut self) -> Option<Range> {
        let mut range = self.next.take()?;
        loop {
            while let Some(entry) = self.waiting.pop_front() {
                let full = self.stored >= range.length() || range.entries.len() >= MOST_ENTRIES;
                // An entry behind the range shows that it is not the last one; its upper bound must be a key.
                let bound = range.entries.last().filter(|last| full && !matches!(last.found, Found::Nameless(..)));
                if let Some(bound) = bound.map(|last| last.key.clone()) {
                    self.waiting.push_front(entry);
                    self.next = Some(Range::begin(range.bounds.index + 1, bound.clone()));
                    self.stored = 0;
                    range.bounds.up_to = Some(bound);
                    return Some(range);
                }
                let is_stored = matches!(entry.found, Found::File(_) | Found::Symlink(_))
                    || self.with_directories && matches!(entry.found, Found::Directory(_));
                self.stored += usize::from(is_stored);
                range.entries.push(entry);
            }
            let Some(batch) = self.walk.recv().await else {
                range.bounds.up_to = self.last.take();
                return Some(range);
            };
            self.waiting = batch.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::source::entry::{EntryKind, FileEntry, Problem, Stat};
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
        };
        Entry {
            key: RelativeKey::new(format!("f{number:07}")),
            found: Found::File(FileEntry { stat, effective_ctime: time, through_link: false }),
        }
    }

    async fn ranges(entries: Vec<Entry>) -> Vec<Range> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            for batch in entries.chunks(700) {
                sender.send(batch.to_vec()).await.unwrap();
            }
        });
        cut(receiver, &KeyRange::default(), false).collect().await
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
        assert!(ranges[0].bounds.after.is_root());
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].bounds.up_to.as_ref(), Some(&pair[1].bounds.after));
            assert_eq!(pair[0].bounds.up_to.as_ref(), pair[0].entries.last().map(|entry| &entry.key));
        }
        assert_eq!(ranges.last().unwrap().bounds.up_to, None);
        let keys: Vec<_> = ranges.iter().flat_map(|range| &range.entries).map(|entry| entry.key.clone()).collect();
        assert_eq!(keys, (0..5_000).map(|number| file(number).key).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_walk_that_ends_with_a_full_range_has_no_empty_one_behind_it() {
        let ranges = ranges((0..1_000).map(file).collect()).await;
        assert_eq!((ranges.len(), ranges[0].bounds.up_to.as_ref()), (1, None));
    }

    #[tokio::test]
    async fn an_empty_walk_is_one_range_that_holds_all_of_the_destination() {
        let ranges = ranges(Vec::new()).await;
        assert_eq!((ranges.len(), ranges[0].bounds.after.as_str(), ranges[0].bounds.up_to.as_ref()), (1, "", None));
    }

    #[tokio::test]
    async fn a_range_never_ends_at_a_name_that_is_no_key() {
        let mut entries: Vec<Entry> = (0..1_001).map(file).collect();
        let problem = Problem { operation: "name", kind: "not_utf8", message: String::new() };
        entries
            .insert(1_000, Entry { key: RelativeKey::new("f\\xE9"), found: Found::Nameless(EntryKind::File, problem) });
        entries.push(file(1_001));
        let ranges = ranges(entries).await;
        assert_eq!(ranges[0].bounds.up_to.as_ref().map(RelativeKey::as_str), Some("f0000999"));
    }
}
