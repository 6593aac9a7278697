//! S3's clock, as the Date headers of its answers show it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the Date headers told: S3's clock is ahead of the host's by something between two bounds, in seconds.
///
/// An answer dated `d` was written within the second that begins at `d`, and between the request's departure `t0` and the
/// answer's arrival `t1`. So the offset lies between `d - t1` and `d + 1 - t0`, and each answer narrows that down.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    bounds: Option<(f64, f64)>,
    /// The distance by bounds that later answers excluded: a clock was set meanwhile.
    past: f64,
}

impl ServerClock {
    pub(super) fn observe(&self, date: SystemTime, sent: SystemTime, received: SystemTime) {
        let (low, high) = (seconds(date) - seconds(received), seconds(date) + 1.0 - seconds(sent));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bounds = Some(match seen.bounds {
            Some((l, h)) if l.max(low) <= h.min(high) => (l.max(low), h.min(high)),
            Some(excluded) => {
                seen.past = seen.past.max(distance(excluded));
                (low, high)
            }
            None => (low, high),
        });
    }

    /// How far the two clocks may be apart; an offset that the headers cannot tell from none counts as none.
    #[must_use]
    pub(super) fn difference(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = seen.bounds.map_or(0.0, distance).max(seen.past);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

fn distance((low, high): (f64, f64)) -> f64 {
    if low > 0.0 || high < 0.0 { low.abs().max(high.abs()) } else { 0.0 }
}

fn seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn less_than_the_resolution_of_the_header_counts_as_none() {
        let clock = ServerClock::default();
        clock.observe(at(1000.0), at(1000.2), at(1000.3));
        clock.observe(at(1000.0), at(1000.9), at(1001.05));
        assert_eq!(clock.difference(), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_hours_off_is_known_to_the_second() {
        for hours in [-3.0, 3.0] {
            let clock = ServerClock::default();
            let offset = hours * 3600.0;
            for tenth in 0..10 {
                let host = 100_000.0 + f64::from(tenth) / 10.0;
                clock.observe(at((host + offset).floor()), at(host - 0.01), at(host + 0.01));
            }
            let difference = clock.difference().as_secs_f64();
            assert!((10_800.0..10_800.2).contains(&difference), "{difference}");
        }
    }

    #[test]
    fn a_clock_that_is_set_in_mid_run_keeps_the_margin_wide() {
        let clock = ServerClock::default();
        clock.observe(at(1000.0), at(1000.0), at(1000.1));
        clock.observe(at(1500.0), at(1001.0), at(1001.1));
        clock.observe(at(1002.0), at(1002.0), at(1002.1));
        assert!(clock.difference() >= Duration::from_secs(498));
    }
}
