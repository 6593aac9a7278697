//! Points in time, as file systems and S3 give them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch; negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochNanos(pub i128);

impl EpochNanos {
    /// The time that long before this one.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)))
    }

    /// The time that long after this one.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)))
    }

    /// Returns the time from `earlier` to this time; `None` if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let nanos = u128::try_from(self.0.checked_sub(earlier.0)?).ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
    }

    /// The time now, by the host's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

/// A time before 1970 becomes 1970: clocks show none.
impl From<SystemTime> for EpochNanos {
    fn from(time: SystemTime) -> Self {
        Self(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}
