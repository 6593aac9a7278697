//! Patience: how long a request to DataSync is retried after transient errors. By time, like a request to S3
//! (`DESIGN.md#own-retries`).
//!
//! | request | retried for |
//! |---|---|
//! | a description at the start, if the run can do nothing without it | the outage timeout |
//! | any other before an execution runs, and the start of one: the direct sync is there if it fails | half of it |
//! | a poll or a cancel: the next poll is the retry | half of it, at most [`BRIEF`] |

use std::time::Duration;

use super::error::ServiceErrorKind;

/// How long a poll is retried. The limits of the stage bound how long polls may fail.
const BRIEF: Duration = Duration::from_secs(10);
/// The longest pause before the first retry. It doubles with each retry. Each pause is random between half of the longest
/// and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long a request is retried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    outage_timeout: Duration,
    most_retries: Option<u32>,
    limit: Duration,
}

impl Patience {
    /// The patience of a run that can sync without DataSync: half of this time, or this many retries.
    #[must_use]
    pub fn new(outage_timeout: Duration, most_retries: Option<u32>) -> Self {
        Self { outage_timeout, most_retries, limit: outage_timeout / 2 }
    }

    /// That of a run that can do nothing without the response.
    pub(super) fn long(self) -> Self {
        Self { limit: self.outage_timeout, ..self }
    }

    pub(super) fn brief(self) -> Self {
        Self { limit: self.limit.min(BRIEF), ..self }
    }

    pub(super) fn once(self) -> Self {
        Self { most_retries: Some(0), ..self }
    }

    /// Returns the pause before the next attempt of a request that has failed for this time; `None` if the run gives it up.
    pub(super) fn pause(&self, error: ServiceErrorKind, failing: Duration, retries: u32) -> Option<Duration> {
        let gives_up =
            !error.is_transient() || failing >= self.limit || self.most_retries.is_some_and(|most| retries >= most);
        let longest = FIRST_PAUSE.saturating_mul(1 << retries.min(16)).min(MAX_PAUSE);
        (!gives_up).then(|| longest.mul_f64(fastrand::f64().midpoint(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn gives_up(patience: Patience, failing: Duration, retries: u32) -> bool {
        patience.pause(ServiceErrorKind::Throttled, failing, retries).is_none()
    }

    #[test]
    fn the_time_decides_and_not_the_number_of_attempts() {
        let half = Patience::new(MINUTE, None);
        assert!(!gives_up(half, 29 * SECOND, 1000) && gives_up(half, 30 * SECOND, 0));
        assert!(!gives_up(half.long(), 59 * SECOND, 1000) && gives_up(half.long(), MINUTE, 0));
        assert!(!gives_up(half.brief(), 9 * SECOND, 1000) && gives_up(half.brief(), 10 * SECOND, 0));
        assert!(gives_up(Patience::new(4 * SECOND, None).brief(), 2 * SECOND, 0));
    }

    #[test]
    fn permanent_errors_and_a_limit_of_retries_end_it() {
        let patience = Patience::new(MINUTE, Some(2));
        assert!(!gives_up(patience, SECOND, 1) && gives_up(patience, SECOND, 2));
        assert!(gives_up(patience.once(), Duration::ZERO, 0));
        for permanent in [ServiceErrorKind::Denied, ServiceErrorKind::Refused, ServiceErrorKind::Stopped] {
            assert_eq!(Patience::new(MINUTE, None).pause(permanent, Duration::ZERO, 0), None);
        }
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let pause = |retries| {
            let pause = Patience::new(MINUTE, None).pause(ServiceErrorKind::Unavailable, SECOND, retries);
            pause.unwrap()
        };
        assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pause(0)));
        assert!((MAX_PAUSE / 2..=MAX_PAUSE).contains(&pause(99)));
    }
}
