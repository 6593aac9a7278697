//! S3's clock, as the Date headers of its responses and the dates of its objects show it.
//!
//! A proxy can write a Date header of its own. If an object is dated after the Date header, the store has another clock,
//! which is ahead by at least that much: the difference grows by it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::EpochNanos;

/// How far S3's clock is ahead of the host's: an offset between two bounds, in seconds.
///
/// S3 wrote a response dated `d` within the second that starts at `d`, after the request was sent (`t0`) and before the
/// response arrived (`t1`). So the offset lies between `d - t1` and `d + 1 - t0`. Each response narrows the bounds.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    offset: Mutex<ClockOffset>,
}

#[derive(Debug, Default)]
struct ClockOffset {
    bounds: Option<(f64, f64)>,
    /// The largest distance by bounds that a later response contradicted: a clock was set meanwhile.
    earlier: f64,
    /// How far an object was dated after the Date header, at most.
    ahead: f64,
}

impl ServerClock {
    pub(super) fn observe(&self, date: SystemTime, sent: SystemTime, received: SystemTime) {
        let (low, high) = (seconds(date) - seconds(received), seconds(date) + 1.0 - seconds(sent));
        let mut offset = self.offset();
        offset.bounds = Some(match offset.bounds {
            Some((l, h)) if l.max(low) <= h.min(high) => (l.max(low), h.min(high)),
            Some(contradicted) => {
                offset.earlier = offset.earlier.max(distance(contradicted));
                (low, high)
            }
            None => (low, high),
        });
    }

    /// Returns the most that the two clocks can differ, or 0 if the headers allow that they are equal.
    pub(super) fn difference(&self) -> Duration {
        let offset = self.offset();
        let seconds = offset.bounds.map_or(0.0, distance).max(offset.earlier) + offset.ahead;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Returns the latest time that the Date header of a response can have now. Without a header: the host's time.
    pub(super) fn latest(&self) -> EpochNanos {
        let high = self.offset().bounds.map_or(0.0, |(_, high)| high);
        let offset = Duration::try_from_secs_f64(high.abs()).unwrap_or(Duration::MAX);
        if high < 0.0 { EpochNanos::now().minus(offset) } else { EpochNanos::now().plus(offset) }
    }

    /// Takes in the date of an object, which is not in the future by the clock that wrote it.
    pub(super) fn observe_object(&self, last_modified: EpochNanos) {
        let Some(ahead) = last_modified.since(self.latest()).filter(|ahead| !ahead.is_zero()) else {
            return;
        };
        let mut offset = self.offset();
        if offset.ahead == 0.0 {
            tracing::warn!(
                ahead = %humantime::format_duration(Duration::from_secs(ahead.as_secs())),
                "an object is dated after the Date header of S3's responses, so another clock dates the objects: comparing \
                 by content where this difference matters"
            );
        }
        offset.ahead = offset.ahead.max(ahead.as_secs_f64());
    }

    fn offset(&self) -> MutexGuard<'_, ClockOffset> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn an_offset_below_the_resolution_of_the_header_counts_as_none() {
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
    fn a_clock_that_is_set_during_the_run_keeps_the_difference_large() {
        let clock = ServerClock::default();
        clock.observe(at(1000.0), at(1000.0), at(1000.1));
        clock.observe(at(1500.0), at(1001.0), at(1001.1));
        clock.observe(at(1002.0), at(1002.0), at(1002.1));
        assert!(clock.difference() >= Duration::from_secs(498));
    }

    #[test]
    fn an_object_from_the_future_widens_the_difference() {
        let clock = ServerClock::default();
        let (sent, hour) = (SystemTime::now(), Duration::from_hours(1));
        clock.observe(sent, sent, sent);
        clock.observe_object(EpochNanos::from(sent).minus(hour));
        assert_eq!(clock.difference(), Duration::ZERO);
        clock.observe_object(EpochNanos::from(sent).plus(hour));
        clock.observe_object(EpochNanos::from(sent).plus(hour / 2));
        let difference = clock.difference();
        assert!(difference <= hour && difference > Duration::from_mins(59), "{difference:?}");
    }
}
