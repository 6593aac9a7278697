//! The time of a stat, as the walk measures it: it decides how many names one job stats.
//!
//! A job stats its names one after the other. On a slow file system long jobs would leave walkers idle: 100 directories
//! have no more than a few long jobs. On a fast one, short jobs would spend most of their time in the scheduler.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// About how long one job lasts.
const JOB_TIME: Duration = Duration::from_millis(1);
/// The most names that one job stats.
const MOST_NAMES: u64 = 64;
/// How many jobs a change of the time takes to show, about.
const MEMORY: u64 = 8;

/// The mean time of a stat, of the last jobs.
#[derive(Debug, Default)]
pub(super) struct StatTime {
    /// 0: not measured yet.
    nanos: AtomicU64,
}

/// The measurement of one job, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Timing<'a> {
    stat_time: &'a StatTime,
    started: Instant,
    stats: u32,
}

impl StatTime {
    /// How many names the next job stats.
    pub(super) fn names_of_a_job(&self) -> usize {
        let names = match self.nanos.load(Ordering::Relaxed) {
            0 => MOST_NAMES,
            nanos => (nanos_of(JOB_TIME) / nanos).clamp(1, MOST_NAMES),
        };
        usize::try_from(names).unwrap_or(1)
    }

    pub(super) fn start(&self) -> Timing<'_> {
        Timing { stat_time: self, started: Instant::now(), stats: 0 }
    }

    /// Two jobs that end at the same time may lose one of their measurements.
    fn measured(&self, time: Duration) {
        let (mean, time) = (self.nanos.load(Ordering::Relaxed), nanos_of(time).max(1));
        let mean = if mean == 0 { time } else { (mean * (MEMORY - 1) + time) / MEMORY };
        self.nanos.store(mean.max(1), Ordering::Relaxed);
    }
}

impl Timing<'_> {
    /// Counts a stat that begins.
    pub(super) const fn count(&mut self) {
        self.stats += 1;
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if self.stats > 0 {
            self.stat_time.measured(self.started.elapsed() / self.stats);
        }
    }
}

fn nanos_of(time: Duration) -> u64 {
    // A stat that hangs ends after the source timeout, which may be days.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(1 << 56)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_long_on_a_fast_file_system_and_short_on_a_slow_one() {
        let stat_time = StatTime::default();
        assert_eq!(stat_time.names_of_a_job(), 64, "not measured yet");
        for (micros, names) in [(2, 64), (100, 10), (1000, 1), (60_000_000, 1), (2, 64)] {
            for _ in 0..200 {
                stat_time.measured(Duration::from_micros(micros));
            }
            assert_eq!(stat_time.names_of_a_job(), names, "{micros}");
        }
        drop(stat_time.start());
        assert_eq!(stat_time.names_of_a_job(), 64, "a job without a stat shows nothing");
    }
}
