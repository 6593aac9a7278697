//! The request limit: how many requests may be in flight. The run learns it from S3's responses.
//!
//! The limit grows by one for each limit's worth of successful responses, up to `--concurrency`. It shrinks by a third
//! if S3 throttles or does not respond, at most once in [`ONE_CUT`], so that many refusals in one moment count as one.
//! The limit never falls below one, so the queue cannot stop.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Refusals within this time are one event.
const ONE_CUT: Duration = Duration::from_millis(500);
/// Where an adaptive limit begins.
const FIRST_LIMIT: usize = 32;

/// The request limit. Fair: who waits longest goes first.
#[derive(Debug)]
pub(super) struct RequestLimit {
    most: usize,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits to be withdrawn when they come back.
    debt: usize,
    answers_since_growth: usize,
    last_cut: Option<Instant>,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct RequestPermit<'a> {
    limit: &'a RequestLimit,
    permit: Option<SemaphorePermit<'a>>,
}

impl RequestLimit {
    /// At most `most` requests at once.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        let limit = most.clamp(1, FIRST_LIMIT);
        let state = State { limit, debt: 0, answers_since_growth: 0, last_cut: None };
        Self { most: most.max(1), permits: Semaphore::new(limit), state: Mutex::new(state) }
    }

    /// The most that the limit ever grows to.
    #[must_use]
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Waits for the right to send a request.
    pub(super) async fn acquire(&self) -> RequestPermit<'_> {
        // The semaphore is never closed.
        RequestPermit { limit: self, permit: self.permits.acquire().await.ok() }
    }

    /// S3 answered well: a limit's worth of such answers raises the limit by one.
    pub(super) fn on_success(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answers_since_growth += 1;
        if state.answers_since_growth >= state.limit && state.limit < self.most {
            state.answers_since_growth = 0;
            state.limit += 1;
            if state.debt > 0 {
                state.debt -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }

    /// S3 asked for fewer requests.
    pub(super) fn on_throttled(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_cut.is_some_and(|last| now.saturating_duration_since(last) < ONE_CUT) {
            return;
        }
        state.last_cut = Some(now);
        state.answers_since_growth = 0;
        let cut = (state.limit / 3).max(1).min(state.limit - 1);
        state.limit -= cut;
        state.debt += cut - self.permits.forget_permits(cut);
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
    async fn the_limit_shrinks_when_throttled_and_never_to_nothing() {
        let limit = RequestLimit::new(64);
        let mut now = Instant::now();
        assert_eq!(limit.current(), 32);
        limit.on_throttled(now);
        limit.on_throttled(now);
        assert_eq!(limit.current(), 22, "two refusals of one moment are one cut");
        for _ in 0..50 {
            now += ONE_CUT;
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
    async fn a_cut_while_all_permits_are_out_is_made_good_when_they_come_back() {
        let limit = RequestLimit::new(3);
        let held = [limit.acquire().await, limit.acquire().await, limit.acquire().await];
        limit.on_throttled(Instant::now());
        drop(held);
        assert_eq!((limit.current(), limit.permits.available_permits()), (2, 2));
    }
}
