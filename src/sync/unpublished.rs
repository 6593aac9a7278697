//! Unpublished files: those with a key that has no object, which the run could not publish for a reason in the source. Each
//! may be the new name of an orphan of the same size, whose object is then the only copy of the content.
//!
//! A directory does not count, because its object has no content.

use crate::source::Source;
use crate::source::entry::{EntryKind, Stat};
use crate::source::sizes::{Places, Sizes};
use crate::source::unseen::Unseen;
use crate::sync::guard::{Guard, NewName};
use crate::time::EpochNanos;

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

    /// Learns the sizes, and returns which orphans may be old names of these files or of those that the walk did not see.
    pub(crate) async fn learn(&mut self, source: &Source, unseen: &Unseen) -> RenamedSizes {
        let places = std::mem::take(&mut self.places);
        if !places.is_empty() {
            source.learn_sizes(places, &mut self.sizes).await;
        }
        RenamedSizes {
            unpublished: self.sizes.clone(),
            unseen: unseen.sizes.clone(),
            changed: unseen
                .latest_mtime
                .zip(unseen.walk_started)
                .map(|(latest_mtime, walk_started)| Changed { latest_mtime, walk_started }),
            not_checked: unseen.error.clone(),
        }
    }
}

/// Files that the walk did not see, whose content may be newer than an orphan: the size of its object shows nothing then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed {
    pub(crate) latest_mtime: EpochNanos,
    /// When the walk started, by the host's clock.
    pub(crate) walk_started: EpochNanos,
}

/// The sizes of orphans that may be old names.
#[derive(Debug, Default)]
pub(crate) struct RenamedSizes {
    unpublished: Sizes,
    unseen: Sizes,
    pub(crate) changed: Option<Changed>,
    /// Why the run could not learn what the walk did not see: each orphan may be an old name.
    not_checked: Option<String>,
}

impl RenamedSizes {
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(sizes: [u64; N]) -> Self {
        Self { unpublished: Sizes::These(sizes.into()), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unpublished.is_empty() && self.unseen.is_empty() && self.not_checked.is_none()
    }

    /// Returns the guard that withholds the delete of an object of this size, if it may be an old name. The object of a
    /// directory has no content that could be lost.
    pub(crate) fn guard(&self, key: &str, size: u64) -> Option<Guard> {
        if let Some(error) = &self.not_checked {
            let new_name = NewName::NotChecked;
            return Some(Guard::MayBeRenamed { new_name, unknown_size: Some(error.clone()) });
        }
        let guard = |new_name, sizes: &Sizes| match sizes {
            Sizes::All(why) => Some(Guard::MayBeRenamed { new_name, unknown_size: Some(why.clone()) }),
            Sizes::These(_) if size == 0 && key.ends_with('/') => None,
            sizes @ Sizes::These(_) => sizes.has(size).then_some(Guard::MayBeRenamed { new_name, unknown_size: None }),
        };
        // Of both, the one that makes the run incomplete.
        guard(NewName::Unseen, &self.unseen).or_else(|| guard(NewName::Unpublished, &self.unpublished))
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
        let renamed =
            |unpublished: &Sizes| RenamedSizes { unpublished: unpublished.clone(), ..RenamedSizes::default() };
        let mut sizes = Sizes::default();
        assert!(renamed(&sizes).is_empty());
        sizes.add(7);
        sizes.add(0);
        let some = renamed(&sizes);
        assert!(withheld(&some, "a", 7) && withheld(&some, "empty", 0));
        assert!(!withheld(&some, "a", 6) && !withheld(&some, "d/", 0), "the object of a directory has no content");
        sizes.all("hidden");
        let all = renamed(&sizes);
        assert!(withheld(&all, "a", 6) && withheld(&all, "d/", 0));
        assert!(all.guard("a", 6).unwrap().message().contains("hidden"));

        let mut unseen = Sizes::default();
        unseen.add(7);
        let both = RenamedSizes { unseen, ..some };
        assert!(!both.guard("a", 7).unwrap().is_normal() && both.guard("empty", 0).unwrap().is_normal());
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
