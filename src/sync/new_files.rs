//! New files: those that a plan uploads to a key without an object. Each may be the new name of an orphan of the same size.

use std::collections::BTreeMap;

use crate::key::ObjectKey;

/// How many sizes are counted. New files of further sizes do not count.
const MOST_SIZES: usize = 100_000;

/// How many new files a plan has of each size.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewFiles(BTreeMap<u64, u64>);

impl NewFiles {
    /// Adds a new file. A directory does not count, because its object has no content.
    pub(crate) fn add(&mut self, key: &ObjectKey, size: u64) {
        if !key.as_str().ends_with('/') && (self.0.len() < MOST_SIZES || self.0.contains_key(&size)) {
            *self.0.entry(size).or_default() += 1;
        }
    }

    /// How many have this size; `None` if there is none.
    pub(crate) fn of_size(&self, size: u64) -> Option<u64> {
        self.0.get(&size).copied()
    }
}
