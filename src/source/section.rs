//! A section: the part of the tree whose keys lie in a range. Of the rest a walk notes only that there is some.

use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{Entry, Found};
use crate::key_range::KeyRange;

/// The part of the tree that a walk is for.
#[derive(Debug, Default)]
pub struct Section {
    keys: KeyRange,
    saw_beyond: AtomicBool,
}

impl Section {
    /// What lies in a range of keys.
    #[must_use]
    pub fn of(keys: KeyRange) -> Self {
        Self { keys, saw_beyond: AtomicBool::new(false) }
    }

    /// The range.
    #[must_use]
    pub const fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// Whether anything was seen outside: then the tree is not empty, whatever the section holds.
    #[must_use]
    pub fn saw_beyond(&self) -> bool {
        self.saw_beyond.load(Ordering::Relaxed)
    }

    /// Whether an entry lies within, or answers for keys that do.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.note(
            self.keys.contains(entry.key.as_bytes())
                // Its key is made up; its name was looked at by its bytes.
                || matches!(entry.found, Found::Nameless(..))
                || entry.found.covers(&entry.key).is_some_and(|below| self.keys.may_contain_below(below.as_bytes())),
        )
    }

    /// Whether a directory's content may lie within.
    pub(super) fn reaches(&self, directory: &str) -> bool {
        self.note(self.keys.may_contain_below(directory.as_bytes()))
    }

    /// Whether what has this path and one of these endings (`/` for a directory) may lie within, or something below it.
    pub(super) fn may_take(&self, path: &[u8], is_file: bool, is_directory: bool) -> bool {
        let below = || self.keys.may_contain_below(&[path, b"/"].concat());
        self.note(self.keys.is_all() || is_file && self.keys.contains(path) || is_directory && below())
    }

    fn note(&self, lies_within: bool) -> bool {
        if !lies_within {
            self.saw_beyond.store(true, Ordering::Relaxed);
        }
        lies_within
    }
}
