//! The seen files: fingerprints of the youngest files that a walk saw, so that they are not taken for renamed ones.
//!
//! When a run reads a directory again, the times of a file alone do not show whether the walk has seen the file. A file
//! with the key, inode, ctime and size that the walk saw is the same file. The youngest files are recorded, because only
//! a file that is younger than a change of its directory can be unseen.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::entry::Stat;
use crate::time::EpochNanos;

/// How many files are recorded: about a megabyte.
const MOST: usize = 1 << 15;

/// The youngest files, each by its ctime and its fingerprint.
#[derive(Debug, Default)]
pub(super) struct SeenFiles {
    youngest: BinaryHeap<Reverse<(EpochNanos, u64)>>,
    hasher: RandomState,
}

/// The fingerprints of the seen files.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl SeenFiles {
    /// Adds a file that the walk saw at this key.
    pub(super) fn add(&mut self, key: &str, stat: &Stat) {
        if self.youngest.len() >= MOST {
            match self.youngest.peek() {
                Some(Reverse((oldest, _))) if *oldest < stat.ctime => drop(self.youngest.pop()),
                _ => return,
            }
        }
        self.youngest.push(Reverse((stat.ctime, fingerprint(&self.hasher, key, stat))));
    }

    pub(super) fn into_fingerprints(self) -> Fingerprints {
        let seen = self.youngest.into_iter().map(|Reverse((_, fingerprint))| fingerprint).collect();
        Fingerprints { seen, hasher: self.hasher }
    }
}

impl Fingerprints {
    /// Whether the walk saw this file at this key, and it has not changed since.
    pub(super) fn include(&self, key: &str, stat: &Stat) -> bool {
        self.seen.contains(&fingerprint(&self.hasher, key, stat))
    }
}

fn fingerprint(hasher: &RandomState, key: &str, stat: &Stat) -> u64 {
    hasher.hash_one((key, stat.inode, stat.ctime.0, stat.size_bytes))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::source::operations::{LastLink, Operations};

    #[test]
    fn the_youngest_files_are_recorded_in_bounded_memory() {
        let here = std::fs::File::open(".").unwrap();
        let any = Operations::default().stat(here.as_fd(), b".", LastLink::Keep).unwrap();
        let stat = |at: usize| Stat { ctime: EpochNanos(i128::try_from(at % 1_000_003).unwrap()), ..any };
        let mut files = SeenFiles::default();
        // In no order of their times.
        let all = || (0..2 * MOST).map(|number| number * 7_919);
        for number in all() {
            files.add(&number.to_string(), &stat(number));
        }
        let mut times: Vec<EpochNanos> = all().map(|number| stat(number).ctime).collect();
        times.sort_unstable();
        let fingerprints = files.into_fingerprints();
        for number in all() {
            let is_young = stat(number).ctime >= times[MOST];
            assert_eq!(fingerprints.include(&number.to_string(), &stat(number)), is_young);
        }
        let young = all().find(|number| stat(*number).ctime >= times[MOST]).unwrap();
        let (key, seen) = (young.to_string(), stat(young));
        for other in [
            Stat { inode: (seen.inode.0, seen.inode.1 + 1), ..seen },
            Stat { ctime: EpochNanos(seen.ctime.0 + 1), ..seen },
            Stat { size_bytes: seen.size_bytes + 1, ..seen },
        ] {
            assert!(!fingerprints.include(&key, &other));
        }
        assert!(!fingerprints.include("another", &seen));
    }
}
