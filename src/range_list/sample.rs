//! A sample of ascending keys at even distances. It splits all of them into parts of about the same size, in memory that
//! does not grow with their number.
//!
//! The sample keeps every `stride`-th key. When it has too many keys, it drops every second one and doubles the stride.
//! So the distances stay even, and the size of a part is off by one stride at most.

use super::RangeList;
use crate::key::RelativeKey;

/// The keys that the sample keeps for each part, at least: the size of a part is off by a sixteenth at most.
const KEYS_PER_PART: usize = 16;
/// The keys that the sample keeps in all, at least: small trees are split exactly.
const LEAST_KEYS: usize = 2048;

#[derive(Debug)]
pub(crate) struct Sample {
    parts: usize,
    stride: u64,
    count: u64,
    /// The keys number `stride`, `2 * stride`, …, counted from 1.
    keys: Vec<RelativeKey>,
    last: RelativeKey,
}

impl Sample {
    /// A sample that will be split into up to `parts` parts.
    pub(crate) fn new(parts: usize) -> Self {
        Self { parts, stride: 1, count: 0, keys: Vec::new(), last: RelativeKey::default() }
    }

    /// Returns the number of keys that were pushed.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    fn wanted_keys(&self) -> usize {
        LEAST_KEYS.max(KEYS_PER_PART * self.parts)
    }

    /// Adds the next key.
    pub(crate) fn push(&mut self, key: &RelativeKey) {
        self.count += 1;
        self.last.clone_from(key);
        if !self.count.is_multiple_of(self.stride) {
            return;
        }
        self.keys.push(key.clone());
        if self.keys.len() >= 2 * self.wanted_keys() {
            let mut number = 0_usize;
            self.keys.retain(|_| {
                number += 1;
                number.is_multiple_of(2)
            });
            self.stride *= 2;
        }
    }

    /// Splits the keys into parts of about the same size; into fewer parts if there are fewer keys.
    pub(crate) fn split(&self) -> RangeList {
        let parts = u64::try_from(self.parts).unwrap_or(u64::MAX);
        let mut ends: Vec<(RelativeKey, u64)> = Vec::new();
        for part in 1..parts {
            let wanted = (u128::from(self.count) * u128::from(part) / u128::from(parts)).try_into().unwrap_or(u64::MAX);
            let nearest = (wanted + self.stride / 2) / self.stride;
            let key = usize::try_from(nearest).ok().and_then(|nearest| self.keys.get(nearest.checked_sub(1)?));
            let up_to = nearest * self.stride;
            if let Some(key) = key.filter(|key| **key != self.last)
                && ends.last().is_none_or(|(_, before)| *before < up_to)
            {
                ends.push((key.clone(), up_to));
            }
        }
        RangeList::split_after(ends, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(count: usize, parts: usize) -> Vec<u64> {
        let mut sample = Sample::new(parts);
        let keys: Vec<RelativeKey> = (0..count).map(|number| RelativeKey::new(format!("k{number:07}"))).collect();
        for key in &keys {
            sample.push(key);
        }
        assert!(sample.keys.len() < 2 * sample.wanted_keys());
        let list = sample.split();
        let contained =
            |range: &super::super::ListedRange| keys.iter().filter(|key| range.keys.contains(key.as_bytes())).count();
        for range in list.ranges() {
            assert_eq!(u64::try_from(contained(range)).unwrap(), range.entries, "{range:?}");
        }
        list.ranges().iter().map(|range| range.entries).collect()
    }

    #[test]
    fn parts_have_about_the_same_size_and_exact_counts() {
        for (count, parts) in [(100, 4), (1000, 7), (20_000, 3), (30_000, 200), (5000, 1)] {
            let sizes = sizes(count, parts);
            assert_eq!(sizes.len(), parts);
            let wanted = count / parts;
            let most = u64::try_from(wanted + wanted / 8 + 1).unwrap();
            assert!(sizes.iter().all(|size| *size <= most), "{count} in {parts}: {sizes:?}");
        }
    }

    #[test]
    fn fewer_keys_than_parts_give_one_part_for_each_key() {
        assert_eq!(sizes(0, 4), [0]);
        assert_eq!(sizes(1, 4), [1]);
        assert_eq!(sizes(3, 8), [1, 1, 1]);
        assert_eq!(sizes(4, 4), [1, 1, 1, 1]);
    }
}
