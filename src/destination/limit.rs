//! The request limit: how many requests may be in flight. The run learns it from S3's responses.
//!
//! The limit grows by one for each limit's worth of successful responses, up to `--concurrency`. It shrinks by a third
//! if S3 throttles or does not respond, at most once in [`REDUCTION_INTERVAL`], so many refusals in one moment count as
//! one. The limit never falls below one, so the queue cannot stop.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// All refusals within this time reduce the limit once.
const REDUCTION_INTERVAL: Duration = Duration::from_millis(500);
/// The limit at the start of a run, unless `--concurrency` is lower.
const FIRST_LIMIT: usize = 32;

/// The request limit. Fair: the request that has waited longest is next.
#[derive(Debug)]
pub(super) struct RequestLimit {
    max: usize,
    permits: Semaphore,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    limit: usize,
    /// How many permits to withdraw when they are returned.
    debt: usize,
    successes_since_growth: usize,
    last_reduction: Option<Instant>,
}

/// The permit for one request in flight.
#[derive(Debug)]
pub(super) struct RequestPermit<'a> {
    limit: &'a RequestLimit,
    permit: Option<SemaphorePermit<'a>>,
}

impl RequestLimit {
    /// Returns a limit that grows to at most `max` requests in flight.
    pub(super) fn new(max: usize) -> Self {
        let limit = max.clamp(1, FIRST_LIMIT);
        let state = LimitState { limit, debt: 0, successes_since_growth: 0, last_reduction: None };
        Self { max: max.max(1), permits: Semaphore::new(limit), state: Mutex::new(state) }
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> RequestPermit<'_> {
        // `acquire` fails only if the semaphore is closed, which never happens.
        RequestPermit { limit: self, permit: self.permits.acquire().await.ok() }
    }

    /// Counts a successful response.
    pub(super) fn on_success(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.successes_since_growth += 1;
        if state.successes_since_growth >= state.limit && state.limit < self.max {
            state.successes_since_growth = 0;
            state.limit += 1;
            if state.debt > 0 {
                state.debt -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }

    /// Reduces the limit, because S3 throttles or does not respond.
    pub(super) fn on_throttled(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_reduction.is_some_and(|last| now.saturating_duration_since(last) < REDUCTION_INTERVAL) {
            return;
        }
        state.last_reduction = Some(now);
        state.successes_since_growth = 0;
        let reduction = (state.limit / 3).max(1).min(state.limit - 1);
        state.limit -= reduction;
        state.debt += reduction - self.permits.forget_permits(reduction);
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.debt > 0 {
            state.debt -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl RequestLimit {
        fn current(&self) -> usize {
            self.state.lock().unwrap().limit
        }
    }

    #[tokio::test]
    async fn the_limit_shrinks_when_throttled_and_stays_above_zero() {
        let limit = RequestLimit::new(64);
        let mut now = Instant::now();
        assert_eq!(limit.current(), 32);
        limit.on_throttled(now);
        limit.on_throttled(now);
        assert_eq!(limit.current(), 22, "two refusals at the same moment reduce the limit once");
        for _ in 0..50 {
            now += REDUCTION_INTERVAL;
            limit.on_throttled(now);
        }
        assert_eq!(limit.current(), 1);
        let _one = limit.acquire().await;
        assert_eq!(limit.permits.available_permits(), 0);
    }

    #[tokio::test]
    async fn the_limit_recovers_when_the_server_does() {
        let limit = RequestLimit::new(8);
        let held = limit.acquire().await;
        limit.on_throttled(Instant::now());
        assert_eq!(limit.current(), 6);
        drop(held);
        for _ in 0..100 {
            limit.on_success();
        }
        assert_eq!((limit.current(), limit.permits.available_permits()), (8, 8));
    }

    #[tokio::test]
    async fn a_reduction_withdraws_permits_in_use_when_they_are_returned() {
        let limit = RequestLimit::new(3);
        let held = [limit.acquire().await, limit.acquire().await, limit.acquire().await];
        limit.on_throttled(Instant::now());
        drop(held);
        assert_eq!((limit.current(), limit.permits.available_permits()), (2, 2));
    }
}
