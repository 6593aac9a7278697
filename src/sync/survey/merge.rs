//! The merge of two ordered streams: the entries of the walk and the objects of the listing, key by key.
//!
//! Both sides must ascend strictly. A step back is an error before anything is decided from it, because a key that the
//! merge has passed would look like an orphan, or like a file without an object.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::key::RelativeKey;
use crate::object::Object;
use crate::source::entry::{Entry, Found};
use crate::sync::fatal::OutOfOrder;

/// What the two sides have at one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// An entry of the source, and the object at its key if there is one.
    Entry(Entry, Option<Object>),
    /// An object with no entry at its key, and not below a directory that the walk did not read.
    Orphan(Object),
    /// An object below something that the walk did not or could not read: unknown, so not an orphan.
    Covered(Object),
}

/// The merge of one range after another.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    /// The prefix that the last covering entry covers.
    cover: Option<String>,
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
            Self::Orphan(object) | Self::Covered(object) => Some(&object.key),
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
        if let Some(prefix) = entry.found.covers(&entry.key) {
            // Inside a covered subtree the wider cover counts.
            if !self.cover.as_ref().is_some_and(|wider| prefix.starts_with(wider.as_str())) {
                self.cover = Some(prefix.to_owned());
            }
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
            (None, Some(object)) if self.is_covered(&object) => Some(Pair::Covered(object)),
            (None, object) => object.map(Pair::Orphan),
        })
    }

    fn is_covered(&self, object: &Object) -> bool {
        self.cover.as_ref().is_some_and(|prefix| object.key.as_str().starts_with(prefix.as_str()))
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
    use crate::source::entry::{EntryKind, Problem};
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
            Pair::Covered(object) => format!("{}?", object.key),
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
    fn what_lies_below_an_unknown_directory_is_covered_and_no_more() {
        let unknown = |key: &str, below: &str| Entry {
            key: RelativeKey::new(key),
            found: Found::Unknown { below: below.to_owned(), problem: problem() },
        };
        let mut merge = Merge::default();
        let shown = merged(&mut merge, vec![special("c"), unknown("d/", "d/")], &["d", "d-x", "d/", "d/a", "d/b/c"]);
        assert_eq!(shown.unwrap(), "c< d> d-x> d/+ d/a? d/b/c?");
        let shown = merged(&mut merge, vec![special("d0")], &["d/z", "d0", "e"]);
        assert_eq!(shown.unwrap(), "d/z? d0+ e>", "into the next range, and not past the directory");

        let shown = merged(
            &mut Merge::default(),
            vec![special("d/a"), unknown("d/m", "d/")],
            &["d/a", "d/b", "d/m", "d/z", "e"],
        );
        assert_eq!(shown.unwrap(), "d/a+ d/b> d/m+ d/z? e>", "from the place on where it became unknown");
    }

    #[test]
    fn a_filtered_directory_covers_what_is_below_it() {
        let filtered = Entry { key: RelativeKey::new("d/"), found: Found::Filtered(EntryKind::Directory) };
        assert_eq!(merged(&mut Merge::default(), vec![filtered], &["d/a", "e"]).unwrap(), "d/< d/a? e>");
        let filtered = Entry { key: RelativeKey::new("d"), found: Found::Filtered(EntryKind::File) };
        assert_eq!(merged(&mut Merge::default(), vec![filtered], &["d", "d/a"]).unwrap(), "d+ d/a>");
    }

    #[test]
    fn a_name_that_can_be_no_key_takes_part_in_no_comparison() {
        let nameless = Entry { key: RelativeKey::new("caf\\xE9"), found: Found::Nameless(EntryKind::File, problem()) };
        let entries = vec![special("cag"), nameless, special("d")];
        assert_eq!(merged(&mut Merge::default(), entries, &["cag", "d"]).unwrap(), "cag+ caf\\xE9< d+");
    }
}
