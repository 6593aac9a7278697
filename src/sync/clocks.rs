//! The clocks: what a run knows about S3's clock and the host's, and what it decided before it knew more.
//!
//! An object that is dated after the Date header shows that the clocks differ more than the header said
//! (`DESIGN.md#objects-from-the-future`). It can be on a late page, when the run has already kept files because their
//! times were older than their objects by more than the smaller margin. [`KeptByTimes`] records how close the closest of
//! them was. If the margin has passed that at the end, the survey reads both sides again for those files.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::key::RelativeKey;
use crate::time::EpochNanos;

/// EFS stamps file times with a clock of its own, which a client cannot measure.
const UNKNOWN_CLOCK: Duration = Duration::from_secs(2);

/// What is known of the clocks when a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// How far S3's clock and the host's may be apart.
    pub difference: Duration,
    /// The time now, by the host's clock.
    pub now: EpochNanos,
    /// The latest time that S3's clock can show now.
    pub latest: EpochNanos,
}

impl Clocks {
    /// How far two times must be apart to show which of them is earlier.
    #[must_use]
    pub const fn margin(self) -> Duration {
        self.difference.saturating_add(UNKNOWN_CLOCK)
    }
}

/// The files that the run has kept because their times are older than their objects.
#[derive(Debug, Default)]
pub(crate) struct KeptByTimes(Mutex<Vec<MarginInUse>>);

/// A margin, and the files that were kept by it.
#[derive(Debug)]
struct MarginInUse {
    /// The first of them in key order. The next margin starts at its own first key.
    from: RelativeKey,
    margin: Duration,
    /// The shortest time from the last change of a file to its object.
    closest: Duration,
}

impl KeptByTimes {
    /// Records that the margin did not reach the time from the last change of a file to its object. Keys ascend from
    /// call to call.
    pub(crate) fn note(&self, key: &RelativeKey, distance: Duration, margin: Duration) {
        let mut margins = self.margins();
        match margins.last_mut() {
            Some(last) if margin <= last.margin => last.closest = last.closest.min(distance),
            Some(_) | None => margins.push(MarginInUse { from: key.clone(), margin, closest: distance }),
        }
    }

    /// Whether a file was kept that this margin would not keep.
    pub(crate) fn includes_less_than(&self, margin: Duration) -> bool {
        self.margins().iter().any(|used| used.closest <= margin)
    }

    /// Whether the run kept the file with this key and distance.
    pub(crate) fn has_kept(&self, key: &RelativeKey, distance: Duration) -> bool {
        let margins = self.margins();
        let next = margins.partition_point(|used| used.from <= *key);
        next.checked_sub(1).and_then(|last| margins.get(last)).is_some_and(|used| distance > used.margin)
    }

    fn margins(&self) -> MutexGuard<'_, Vec<MarginInUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_smaller_margin_kept_are_known() {
        let (kept, seconds) = (KeptByTimes::default(), Duration::from_secs);
        let key = |name: &str| RelativeKey::new(name);
        kept.note(&key("b"), seconds(100), seconds(2));
        kept.note(&key("c"), seconds(50), seconds(2));
        assert!(!kept.includes_less_than(seconds(49)) && kept.includes_less_than(seconds(50)));
        kept.note(&key("e"), seconds(70), seconds(60));
        assert!(kept.has_kept(&key("b"), seconds(3)) && kept.has_kept(&key("d"), seconds(3)));
        assert!(!kept.has_kept(&key("d"), seconds(2)), "compared, with any margin");
        assert!(!kept.has_kept(&key("e"), seconds(60)) && !kept.has_kept(&key("a"), seconds(3)));
    }
}
