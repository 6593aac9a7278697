//! The clocks: what a run knows about S3's clock and the host's.

use std::time::Duration;

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
}

impl Clocks {
    /// How far two times must be apart to show which of them is earlier.
    #[must_use]
    pub const fn margin(self) -> Duration {
        self.difference.saturating_add(UNKNOWN_CLOCK)
    }
}
