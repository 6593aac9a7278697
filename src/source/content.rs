//! Content: what shows that the source holds something to copy, and is not an empty mount point.

use std::sync::Arc;

use super::Source;
use super::entry::{Entry, EntryKind, Found, Problem};
use super::tree_range::TreeRange;
use super::walk::{self, WalkOptions};
use crate::filter::reserved::is_reserved_name;
use crate::key::RelativeKey;

/// How far the walk up to the first content reads ahead.
const FEW_ENTRIES: usize = 64;

impl Entry {
    /// Whether this entry is a file or a followed link that is part of the sync. A file that failed by itself counts,
    /// because it exists. A directory, a link that is copied as a link and a special file do not: an empty mount point
    /// may hold them. What a file system creates by itself does not count either.
    pub(crate) fn is_content(&self) -> bool {
        let is_file = match &self.found {
            Found::File(_) | Found::Named(EntryKind::File) => true,
            // A manifest may name what does not exist.
            Found::Failed(EntryKind::File, problem) => !matches!(problem.kind, "not_found" | "is_a_directory"),
            Found::Failed(..)
            | Found::Named(_)
            | Found::Symlink(_)
            | Found::Directory(_)
            | Found::Special
            | Found::Skipped(..)
            | Found::Filtered(_)
            | Found::Nameless(..)
            | Found::Unknown(..)
            | Found::Unread { .. } => false,
        };
        is_file && !self.key.as_str().split('/').any(is_of_the_file_system)
    }
}

/// Whether a file system or a snapshot creates this name without a user.
fn is_of_the_file_system(name: &str) -> bool {
    name == "lost+found" || is_reserved_name(name)
}

/// Whether a source has content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Some,
    None,
    /// The walk found none, and could not read these directories.
    Unknown(Unread),
}

/// Directories that the walk could not read; none if it could not even start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) directories: u64,
    /// The first of them, and why.
    pub(crate) first: Option<(RelativeKey, Problem)>,
}

impl Unread {
    fn add(&mut self, directory: RelativeKey, problem: Problem) {
        self.directories += 1;
        self.first.get_or_insert((directory, problem));
    }
}

impl Source {
    /// Returns whether the whole source, and not only the run's key range, has content. The walk of its names ends at the
    /// first content, and reads little ahead.
    pub(crate) async fn content(&self) -> Content {
        let options = WalkOptions {
            tree_range: Arc::new(TreeRange::default()),
            names_only: true,
            look_ahead_entries: FEW_ENTRIES,
            batch_entries: 1,
            ..self.walk.clone()
        };
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let Ok(mut walk) = walk::start(root, options, operations, Arc::default()) else {
            return Content::Unknown(Unread::default());
        };
        let mut unread = Unread::default();
        while let Some(entries) = walk.recv().await {
            if entries.iter().any(Entry::is_content) {
                return Content::Some;
            }
            for entry in entries {
                match entry.found {
                    Found::Unread { below, problem } => unread.add(RelativeKey::new(below), problem),
                    Found::Failed(EntryKind::Directory, problem) => unread.add(entry.key, problem),
                    Found::File(_)
                    | Found::Symlink(_)
                    | Found::Directory(_)
                    | Found::Special
                    | Found::Named(_)
                    | Found::Skipped(..)
                    | Found::Filtered(_)
                    | Found::Failed(..)
                    | Found::Nameless(..)
                    | Found::Unknown(..) => {}
                }
            }
        }
        if unread.directories == 0 { Content::None } else { Content::Unknown(unread) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::entry::{Nameless, Problem, SkipReason};

    fn is_content(key: &str, found: Found) -> bool {
        Entry::new(key, found).is_content()
    }

    #[test]
    fn only_a_file_of_the_sync_is_content() {
        let problem = || Problem { operation: "stat", kind: "other", message: String::new() };
        for key in ["a", "d/a", "lost+found.txt", "a/lost+found-2/b", ".nfs", "snapshot/a"] {
            assert!(is_content(key, Found::Named(EntryKind::File)), "{key}");
            assert!(is_content(key, Found::Failed(EntryKind::File, problem())), "{key}");
        }
        for key in ["lost+found", "lost+found/#12", "d/lost+found/d/a", ".snapshot/hourly/a", "h.snapshot", ".zfs/a"] {
            assert!(!is_content(key, Found::Named(EntryKind::File)), "{key}");
        }
        for found in [
            Found::Failed(EntryKind::File, Problem { kind: "not_found", ..problem() }),
            Found::Special,
            Found::Named(EntryKind::Directory),
            Found::Named(EntryKind::Symlink),
            Found::Filtered(EntryKind::File),
            Found::Failed(EntryKind::Directory, problem()),
            Found::Nameless(EntryKind::File, Nameless::Failed(problem(), Box::default())),
            Found::Skipped(EntryKind::Symlink, SkipReason::BrokenLink),
            Found::Skipped(EntryKind::File, SkipReason::NfsLeftover),
        ] {
            assert!(!is_content("a", found.clone()), "{found:?}");
        }
    }
}
