//! Time: a point in time as file systems and S3 give it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch; negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochNanos(pub i128);

impl EpochNanos {
    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)))
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)))
    }

    /// Returns the start of the second.
    pub(crate) const fn truncated_to_second(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(1_000_000_000)))
    }

    /// Returns the time from `earlier` to this time; `None` if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Option<Duration> {
        let nanos = u128::try_from(self.0.checked_sub(earlier.0)?).ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
    }

    /// Returns the current time by the host's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

/// A time before 1970 becomes 1970: a clock that shows one is wrong.
impl From<SystemTime> for EpochNanos {
    fn from(time: SystemTime) -> Self {
        Self(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// Returns an ID that sorts by time. Two IDs of the same millisecond differ.
pub(crate) fn unique_id(time: SystemTime) -> String {
    let time: String =
        humantime::format_rfc3339_millis(time).to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{time}-{:08x}", fastrand::u32(..))
}
