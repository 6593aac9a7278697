//! Unpublished files: those with a key that has no object, which the run could not publish for a reason in the source. Each
//! may be the new name of an orphan of the same size, whose object is then the only copy of the content.
//!
//! A directory does not count, because its object has no content.

use crate::source::Source;
use crate::source::entry::{EntryKind, Stat};
use crate::source::sizes::{Places, Sizes};
use crate::sync::guard::Guard;

/// The unpublished files of a run.
#[derive(Debug, Default)]
pub(crate) struct Unpublished {
    sizes: Sizes,
    /// Files and directories whose sizes the run learns only if there are orphans.
    places: Places,
}

impl Unpublished {
    /// Adds a file by its stat.
    pub(crate) fn add(&mut self, stat: &Stat) {
        if stat.kind != EntryKind::Directory {
            self.sizes.add(stat.size_bytes);
        }
    }

    /// Adds a size that a file had at some time during the run.
    pub(crate) fn add_size(&mut self, size: u64) {
        self.sizes.add(size);
    }

    /// Adds a path that the walk did not stat: of a file, or of a directory with all files below it.
    pub(crate) fn add_place(&mut self, path: &[u8]) {
        self.places.add(path);
    }

    /// Learns the sizes, and returns which orphans may be old names.
    pub(crate) async fn learn(&mut self, source: &Source) -> RenamedSizes {
        let places = std::mem::take(&mut self.places);
        if !places.is_empty() {
            source.learn_sizes(places, &mut self.sizes).await;
        }
        RenamedSizes(self.sizes.clone())
    }
}

/// The sizes of orphans that may be the old names of unpublished files.
#[derive(Debug, Default)]
pub(crate) struct RenamedSizes(Sizes);

impl RenamedSizes {
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(sizes: [u64; N]) -> Self {
        Self(Sizes::These(sizes.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the guard that withholds the delete of an object of this size, if it may be an old name. The object of a
    /// directory has no content that could be lost.
    pub(crate) fn guard(&self, key: &str, size: u64) -> Option<Guard> {
        match &self.0 {
            Sizes::All(why) => Some(Guard::MayBeRenamed { unknown_size: Some(why.clone()) }),
            Sizes::These(_) if size == 0 && key.ends_with('/') => None,
            sizes @ Sizes::These(_) => sizes.has(size).then_some(Guard::MayBeRenamed { unknown_size: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(sizes: &RenamedSizes, key: &str, size: u64) -> bool {
        sizes.guard(key, size).is_some()
    }

    #[test]
    fn only_an_orphan_of_exactly_the_size_may_be_the_old_name() {
        let mut sizes = Sizes::default();
        assert!(RenamedSizes(sizes.clone()).is_empty());
        sizes.add(7);
        sizes.add(0);
        let some = RenamedSizes(sizes.clone());
        assert!(withheld(&some, "a", 7) && withheld(&some, "empty", 0));
        assert!(!withheld(&some, "a", 6) && !withheld(&some, "d/", 0), "the object of a directory has no content");
        sizes.all("hidden");
        let all = RenamedSizes(sizes);
        assert!(withheld(&all, "a", 6) && withheld(&all, "d/", 0));
        assert!(all.guard("a", 6).unwrap().message().contains("hidden"));
    }

    #[test]
    fn too_many_sizes_are_all_sizes() {
        let mut sizes = Sizes::default();
        (0..100_000).for_each(|size| sizes.add(2 * size));
        assert!(!sizes.has(1));
        sizes.add(1_000_001);
        assert!(sizes.has(1));
    }
}
