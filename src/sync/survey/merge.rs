//! The merge of two ordered streams: the entries of the walk and the objects of the listing, key by key.
//!
//! Both sides must ascend strictly. A step back is an error before anything is decided from it, because a key that the
//! merge has passed would look like an orphan, or like a file without an object.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::key::RelativeKey;
use crate::object::Object;
use crate::source::entry::{Cover, Coverage, Entry, Found};
use crate::sync::fatal::OutOfOrder;

/// What the two sides have at one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// An entry of the source, and the object at its key if there is one.
    Entry(Entry, Option<Object>),
    /// An object with no entry at its key, and not below a directory that the walk did not read.
    Orphan(Object),
    /// An object below an entry that covers it, so not an orphan.
    Covered(Object, Cover),
}

/// The merge of one range after another.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    /// What the entries so far cover below their keys, without what both sides have passed. Apart from a `/`, each prefix
    /// begins with the one before it, so there are never more of them than a key has characters.
    covers: Vec<(String, Cover)>,
    last_entry: Option<RelativeKey>,
    last_object: Option<RelativeKey>,
}

/// The pairs of one range, as far as its objects have arrived.
#[derive(Debug)]
pub struct Pairs<'m> {
    merge: &'m mut Merge,
    entries: Peekable<IntoIter<Entry>>,
    objects: Peekable<IntoIter<Object>>,
    complete: bool,
}

impl Pair {
    /// The key; `None` for a name that cannot be a key.
    #[must_use]
    pub fn key(&self) -> Option<&RelativeKey> {
        match self {
            Self::Entry(Entry { found: Found::Nameless(..), .. }, _) => None,
            Self::Entry(entry, _) => Some(&entry.key),
            Self::Orphan(object) | Self::Covered(object, _) => Some(&object.key),
        }
    }
}

impl Merge {
    /// The pairs of the next range, in order. Its objects arrive page by page.
    pub fn pairs(&mut self, entries: Vec<Entry>) -> Pairs<'_> {
        let (entries, objects) = (entries.into_iter().peekable(), Vec::new().into_iter().peekable());
        Pairs { merge: self, entries, objects, complete: false }
    }

    fn pass_entry(&mut self, entry: &Entry) -> Result<(), OutOfOrder> {
        ascend(&mut self.last_entry, &entry.key, "walk")?;
        if let Some(Coverage { cover, below: Some(below) }) = entry.found.coverage(&entry.key) {
            let key = entry.key.as_str();
            self.covers.retain(|(below, _)| key < below.as_str() || key.starts_with(below.as_str()));
            self.covers.push((below.into_owned(), cover));
        }
        Ok(())
    }

    fn pair(&mut self, entry: Option<Entry>, object: Option<Object>) -> Result<Option<Pair>, OutOfOrder> {
        if let Some(object) = &object {
            ascend(&mut self.last_object, &object.key, "listing")?;
        }
        if let Some(entry) = &entry {
            self.pass_entry(entry)?;
        }
        Ok(match (entry, object) {
            (Some(entry), object) => Some(Pair::Entry(entry, object)),
            (None, Some(object)) => Some(match self.cover_of(&object.key) {
                Some(cover) => Pair::Covered(object, cover),
                None => Pair::Orphan(object),
            }),
            (None, None) => None,
        })
    }

    fn cover_of(&self, key: &RelativeKey) -> Option<Cover> {
        self.covers.iter().filter(|(below, _)| key.as_str().starts_with(below.as_str())).map(|(_, cover)| *cover).max()
    }
}

fn ascend(last: &mut Option<RelativeKey>, key: &RelativeKey, side: &'static str) -> Result<(), OutOfOrder> {
    match last {
        Some(before) if *before >= *key => Err(OutOfOrder { side, key: key.clone(), before: before.clone() }),
        _ => {
            *last = Some(key.clone());
            Ok(())
        }
    }
}

impl Pairs<'_> {
    /// Adds the next page, once the iterator has no more pairs.
    pub fn add(&mut self, objects: Vec<Object>) {
        debug_assert!(self.objects.peek().is_none() && !self.complete);
        self.objects = objects.into_iter().peekable();
    }

    /// The range has no more objects: its remaining entries have none.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

/// Returns `None` if it needs the next page to continue.
impl Iterator for Pairs<'_> {
    type Item = Result<Pair, OutOfOrder>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.entries.peek(), self.objects.peek()) {
            // Nothing to compare without a key.
            (Some(Entry { found: Found::Nameless(..), .. }), _) => {
                return self.entries.next().map(|entry| Ok(Pair::Entry(entry, None)));
            }
            (_, None) if !self.complete => return None,
            (Some(entry), Some(object)) => entry.key.cmp(&object.key),
            (_, None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let entry = self.entries.next_if(|_| order != Ordering::Greater);
        let object = self.objects.next_if(|_| order != Ordering::Less);
        self.merge.pair(entry, object).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{ETag, StorageClass};
    use crate::source::entry::{EntryKind, Nameless, Problem, SkipReason, Unknown};
    use crate::time::EpochNanos;

    fn special(key: &str) -> Entry {
        Entry { key: RelativeKey::new(key), found: Found::Special }
    }

    fn object(key: &str) -> Object {
        Object {
            key: RelativeKey::new(key),
            size_bytes: 1,
            etag: ETag::new("x"),
            last_modified: EpochNanos(0),
            storage_class: StorageClass::Standard,
        }
    }

    fn problem() -> Problem {
        Problem { operation: "readdir", kind: "io_error", message: String::new() }
    }

    /// `a+` both sides, `a<` source alone, `a>` destination alone, `a?` covered; the same with pages of any length.
    fn merged(merge: &mut Merge, entries: Vec<Entry>, objects: &[&str]) -> Result<String, OutOfOrder> {
        for page in 1..objects.len() {
            let paged = merged_by_pages(&mut merge.clone(), entries.clone(), objects, page);
            assert_eq!(paged, merged_by_pages(&mut merge.clone(), entries.clone(), objects, objects.len()));
        }
        merged_by_pages(merge, entries, objects, objects.len().max(1))
    }

    fn merged_by_pages(
        merge: &mut Merge,
        entries: Vec<Entry>,
        objects: &[&str],
        page: usize,
    ) -> Result<String, OutOfOrder> {
        let mut range = merge.pairs(entries);
        let mut pairs = Vec::new();
        for page in objects.chunks(page) {
            range.add(page.iter().map(|key| object(key)).collect());
            pairs.extend(range.by_ref().collect::<Result<Vec<_>, _>>()?);
        }
        range.complete();
        pairs.extend(range.collect::<Result<Vec<_>, _>>()?);
        let shown = pairs.iter().map(|pair| match pair {
            Pair::Entry(entry, Some(_)) => format!("{}+", entry.key),
            Pair::Entry(entry, None) => format!("{}<", entry.key),
            Pair::Orphan(object) => format!("{}>", object.key),
            Pair::Covered(object, _) => format!("{}?", object.key),
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_merge_stays_in_step_beside_a_directory_of_a_like_name() {
        let entries = ["a-1", "a.b", "a/x", "a0", "é"].map(special).to_vec();
        let shown = merged(&mut Merge::default(), entries, &["a", "a-1", "a/w", "a/x", "b", "é"]);
        assert_eq!(shown.unwrap(), "a> a-1+ a.b< a/w> a/x+ a0< b> é+");
    }

    #[test]
    fn a_side_that_steps_back_or_repeats_is_an_error() {
        for entries in [["b", "a"], ["a", "a"]] {
            assert!(merged(&mut Merge::default(), entries.map(special).to_vec(), &[]).is_err());
            assert!(merged(&mut Merge::default(), vec![], &entries).is_err());
        }
        let mut merge = Merge::default();
        merged(&mut merge, vec![special("m")], &["m"]).unwrap();
        assert!(merged(&mut merge, vec![special("l")], &[]).is_err(), "from one range to the next too");
        assert!(merged(&mut merge, vec![], &["l"]).is_err());
    }

    #[test]
    fn what_lies_below_an_unread_directory_is_covered_and_no_more() {
        let unread = |key: &str, below: &str| Entry {
            key: RelativeKey::new(key),
            found: Found::Unread { below: below.to_owned(), problem: problem() },
        };
        let mut merge = Merge::default();
        let shown = merged(&mut merge, vec![special("c"), unread("d/", "d/")], &["d", "d-x", "d/", "d/a", "d/b/c"]);
        assert_eq!(shown.unwrap(), "c< d> d-x> d/+ d/a? d/b/c?");
        let shown = merged(&mut merge, vec![special("d0")], &["d/z", "d0", "e"]);
        assert_eq!(shown.unwrap(), "d/z? d0+ e>", "into the next range, and not past the directory");

        let shown = merged(
            &mut Merge::default(),
            vec![special("d/a"), unread("d/m", "d/")],
            &["d/a", "d/b", "d/m", "d/z", "e"],
        );
        assert_eq!(shown.unwrap(), "d/a+ d/b> d/m+ d/z? e>", "from the place on where it became unreadable");
    }

    #[test]
    fn a_filtered_directory_covers_what_is_below_it() {
        let filtered = Entry { key: RelativeKey::new("d/"), found: Found::Filtered(EntryKind::Directory) };
        assert_eq!(merged(&mut Merge::default(), vec![filtered], &["d/a", "e"]).unwrap(), "d/< d/a? e>");
        let filtered = Entry { key: RelativeKey::new("d"), found: Found::Filtered(EntryKind::File) };
        assert_eq!(merged(&mut Merge::default(), vec![filtered], &["d", "d/a"]).unwrap(), "d+ d/a>");
    }

    #[test]
    fn a_broken_link_covers_its_key_and_what_is_below_it() {
        let entry = |key: &str, found| Entry { key: RelativeKey::new(key), found };
        let broken = entry("a", Found::Unknown(EntryKind::Symlink, Unknown::BrokenLink));
        let excluded = entry("a-b/", Found::Filtered(EntryKind::Directory));
        let entries = vec![broken.clone(), excluded, special("a0")];
        let objects = ["a", "a-", "a-b/c", "a-c", "a.txt", "a/", "a/x", "a/y/z", "a0", "b"];
        let shown = merged(&mut Merge::default(), entries, &objects).unwrap();
        assert_eq!(
            shown, "a+ a-> a-b/< a-b/c? a-c> a.txt> a/? a/x? a/y/z? a0+ b>",
            "beside a directory of a like name"
        );

        let mut merge = Merge::default();
        let mut pairs =
            merge.pairs(vec![broken, entry("a/", Found::Skipped(EntryKind::Directory, SkipReason::Vanished))]);
        pairs.add(vec![object("a/x")]);
        pairs.complete();
        let covered = pairs.filter_map(Result::ok).find_map(|pair| match pair {
            Pair::Covered(_, cover) => Some(cover),
            Pair::Entry(..) | Pair::Orphan(_) => None,
        });
        assert_eq!(covered, Some(Cover::Unknown), "of two covers the greater one counts");
    }

    #[test]
    fn covers_that_both_sides_have_passed_take_no_memory() {
        let mut merge = Merge::default();
        let excluded = (0..1000).map(|number| Entry {
            key: RelativeKey::new(format!("d{number:04}/")),
            found: Found::Filtered(EntryKind::Directory),
        });
        let mut pairs = merge.pairs(excluded.collect());
        pairs.complete();
        assert_eq!(pairs.count(), 1000);
        assert_eq!(merge.covers.len(), 1);
    }

    #[test]
    fn a_name_that_can_be_no_key_takes_part_in_no_comparison() {
        let nameless = Entry {
            key: RelativeKey::new("caf\\xE9"),
            found: Found::Nameless(EntryKind::File, Nameless::Failed(problem(), Box::default())),
        };
        let entries = vec![special("cag"), nameless, special("d")];
        assert_eq!(merged(&mut Merge::default(), entries, &["cag", "d"]).unwrap(), "cag+ caf\\xE9< d+");
    }
}
