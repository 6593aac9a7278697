//! A tree range: the part of the walk inside a key range.

use super::entry::{Entry, Found};
use crate::key_range::KeyRange;

/// The part of the tree that a walk emits.
#[derive(Debug, Default)]
pub struct TreeRange {
    keys: KeyRange,
}

impl TreeRange {
    pub(crate) const fn of(keys: KeyRange) -> Self {
        Self { keys }
    }

    pub(crate) const fn keys(&self) -> &KeyRange {
        &self.keys
    }

    /// Whether the walk emits an entry: its key is in the range, or it covers keys that are.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.keys.contains(entry.key.as_bytes())
            // It has no key; `may_take` has already tested its name.
            || matches!(entry.found, Found::Nameless(..))
            || self.has_covered(entry)
    }

    fn has_covered(&self, entry: &Entry) -> bool {
        let coverage = entry.found.coverage(&entry.key);
        let below = coverage.and_then(|coverage| coverage.below);
        below.is_some_and(|below| self.keys.may_contain_below(below.as_bytes()))
    }

    /// Whether keys below a directory may be in the range.
    pub(super) fn reaches(&self, directory: &str) -> bool {
        self.keys.may_contain_below(directory.as_bytes())
    }

    /// Whether `path` may be in the range as a file, or as a directory with what is below it.
    pub(super) fn may_take(&self, path: &[u8], is_file: bool, is_directory: bool) -> bool {
        let below = || self.keys.may_contain_below(&[path, b"/"].concat());
        self.keys.is_all() || is_file && self.keys.contains(path) || is_directory && below()
    }
}
