//! A sample of ascending keys at even distances: from it all of them are cut into parts of about the same size, however
//! many there are, in memory that does not grow with them.
//!
//! Every `stride`-th key is kept. Where they become too many, every second is dropped and the stride doubles, so the
//! distances stay even, and each part is off by one stride at most.

use super::Cut;
use crate::key::RelativeKey;

/// So many keys are kept for each part, at least: a part is then off by a sixteenth at most.
const KEYS_A_PART: usize = 16;
/// So many in all: small trees are cut exactly.
const LEAST_KEYS: usize = 2048;

/// A sample of keys that came in ascending order.
#[derive(Debug)]
pub struct Sample {
    parts: usize,
    stride: u64,
    count: u64,
    /// The key number `stride`, `2 * stride`, …, counted from 1.
    keys: Vec<RelativeKey>,
    last: RelativeKey,
}

impl Sample {
    /// For a cut into so many parts.
    #[must_use]
    pub fn new(parts: usize) -> Self {
        Self { parts, stride: 1, count: 0, keys: Vec::new(), last: RelativeKey::default() }
    }

    /// How many keys there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    fn wanted_keys(&self) -> usize {
        LEAST_KEYS.max(KEYS_A_PART * self.parts)
    }

    /// Takes the next key.
    pub fn push(&mut self, key: &RelativeKey) {
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

    /// Cuts them into parts of about the same size; into fewer where there are fewer keys.
    #[must_use]
    pub fn cut(&self) -> Cut {
        let parts = u64::try_from(self.parts).unwrap_or(u64::MAX);
        let mut behind: Vec<(RelativeKey, u64)> = Vec::new();
        for part in 1..parts {
            let wanted = (u128::from(self.count) * u128::from(part) / u128::from(parts)).try_into().unwrap_or(u64::MAX);
            let nearest = (wanted + self.stride / 2) / self.stride;
            let key = usize::try_from(nearest).ok().and_then(|nearest| self.keys.get(nearest.checked_sub(1)?));
            let up_to = nearest * self.stride;
            if let Some(key) = key.filter(|key| **key != self.last)
                && behind.last().is_none_or(|(_, before)| *before < up_to)
            {
                behind.push((key.clone(), up_to));
            }
        }
        Cut::behind(behind, self.count)
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
        let cut = sample.cut();
        let held = |range: &super::super::CutRange| keys.iter().filter(|key| range.keys.holds(key.as_bytes())).count();
        for range in cut.ranges() {
            assert_eq!(u64::try_from(held(range)).unwrap(), range.entries, "{range:?}");
        }
        cut.ranges().iter().map(|range| range.entries).collect()
    }

    #[test]
    fn parts_are_of_about_the_same_size_and_their_entries_are_counted_exactly() {
        for (count, parts) in [(100, 4), (1000, 7), (20_000, 3), (30_000, 200), (5000, 1)] {
            let sizes = sizes(count, parts);
            assert_eq!(sizes.len(), parts);
            let wanted = count / parts;
            let most = u64::try_from(wanted + wanted / 8 + 1).unwrap();
            assert!(sizes.iter().all(|size| *size <= most), "{count} in {parts}: {sizes:?}");
        }
    }

    #[test]
    fn of_fewer_keys_than_parts_each_is_a_part() {
        assert_eq!(sizes(0, 4), [0]);
        assert_eq!(sizes(1, 4), [1]);
        assert_eq!(sizes(3, 8), [1, 1, 1]);
        assert_eq!(sizes(4, 4), [1, 1, 1, 1]);
    }
}
