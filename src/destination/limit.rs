//! The request limit: how many requests may be in flight, and how many may be sent in a second. The run learns both from
//! S3's responses.
//!
//! The number in flight grows by one for each limit's worth of successful responses, up to `--concurrency`. It shrinks by
//! a third if S3 does not respond, at most once in [`REDUCTION_INTERVAL`], so many failures in one moment count as one. It
//! never falls below one, so the queue cannot stop. If S3 throttles, the [`Pace`] decreases.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::operation::Operation;
use super::pace::{Pace, Shown, Slot};

/// All failures within this time reduce the limit once.
const REDUCTION_INTERVAL: Duration = Duration::from_millis(500);
/// The limit at the start of a run, unless `--concurrency` is lower.
const FIRST_LIMIT: usize = 32;

/// The request limit. Fair: the request that has waited longest is next.
#[derive(Debug)]
pub(super) struct RequestLimit {
    max: usize,
    permits: Semaphore,
    state: Mutex<LimitState>,
    reads: Queue,
    writes: Queue,
}

/// The requests that wait for their pace. The first one waits for its slot, and the others for the first one.
#[derive(Debug)]
struct Queue {
    first: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
}

impl Queue {
    fn new() -> Self {
        Self { first: tokio::sync::Mutex::new(()), pace: Mutex::new(Pace::new()) }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// The pace that the response is for.
    slot: Option<(&'a Queue, Slot)>,
}

impl RequestLimit {
    /// Returns a limit that grows to at most `max` requests in flight.
    pub(super) fn new(max: usize) -> Self {
        let limit = max.clamp(1, FIRST_LIMIT);
        let state = LimitState { limit, debt: 0, successes_since_growth: 0, last_reduction: None };
        Self {
            max: max.max(1),
            permits: Semaphore::new(limit),
            state: Mutex::new(state),
            reads: Queue::new(),
            writes: Queue::new(),
        }
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self, operation: Operation) -> RequestPermit<'_> {
        // `acquire` of a semaphore fails only if it is closed, which never happens.
        let Some(queue) = self.queue(operation) else {
            return RequestPermit { limit: self, permit: self.permits.acquire().await.ok(), slot: None };
        };
        let _first = queue.first.lock().await;
        let slot = queue.pace().slot(Instant::now());
        let mut permit = RequestPermit { limit: self, permit: None, slot: Some((queue, slot)) };
        // A sleep that is over when it begins would still last until the next tick of the timer: a millisecond.
        if slot.at > Instant::now() {
            tokio::time::sleep_until(slot.at).await;
        }
        permit.permit = self.permits.acquire().await.ok();
        permit.slot = Some((queue, slot.sent_at(Instant::now())));
        permit
    }

    /// The queue of an operation. An abort, which cleans up, waits in none.
    fn queue(&self, operation: Operation) -> Option<&Queue> {
        if operation == Operation::AbortMultipartUpload {
            None
        } else if operation.writes() {
            Some(&self.writes)
        } else {
            Some(&self.reads)
        }
    }

    /// Reduces the pace of an operation that S3 throttles inside a successful response.
    pub(super) fn throttled_inside(&self, operation: Operation) {
        if let Some(queue) = self.queue(operation) {
            queue.pace().refused(Instant::now());
        }
    }

    /// Counts a successful response.
    fn on_success(&self) {
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

    /// Reduces the limit, because S3 does not respond.
    fn on_unreachable(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_reduction.is_some_and(|last| now - last < REDUCTION_INTERVAL) {
            return;
        }
        state.last_reduction = Some(now);
        state.successes_since_growth = 0;
        let reduction = (state.limit / 3).max(1).min(state.limit - 1);
        state.limit -= reduction;
        state.debt += reduction - self.permits.forget_permits(reduction);
    }
}

impl RequestPermit<'_> {
    /// Learns from a successful response.
    pub(super) fn succeeded(&mut self) {
        self.limit.on_success();
        self.end(Shown::Accepted);
    }

    /// Learns that S3 throttles.
    pub(super) fn throttled(&mut self) {
        self.end(Shown::Refused);
    }

    /// Learns that S3 does not respond.
    pub(super) fn unreachable(&self) {
        self.limit.on_unreachable(Instant::now());
    }

    fn end(&mut self, shown: Shown) {
        if let Some((queue, slot)) = self.slot.take() {
            queue.pace().ended(slot, shown, Instant::now());
        }
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.end(Shown::Nothing);
        let mut state = self.limit.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.debt > 0
            && let Some(permit) = self.permit.take()
        {
            state.debt -= 1;
            permit.forget();
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
    async fn the_limit_shrinks_without_responses_and_stays_above_zero() {
        let limit = RequestLimit::new(64);
        let mut now = Instant::now();
        assert_eq!(limit.current(), 32);
        limit.on_unreachable(now);
        limit.on_unreachable(now);
        assert_eq!(limit.current(), 22, "two refusals at the same moment reduce the limit once");
        for _ in 0..50 {
            now += REDUCTION_INTERVAL;
            limit.on_unreachable(now);
        }
        assert_eq!(limit.current(), 1);
        let _one = limit.acquire(Operation::Put).await;
        assert_eq!(limit.permits.available_permits(), 0);
    }

    #[tokio::test]
    async fn the_limit_recovers_when_the_server_does() {
        let limit = RequestLimit::new(8);
        let held = limit.acquire(Operation::Put).await;
        limit.on_unreachable(Instant::now());
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
        let held = [
            limit.acquire(Operation::Put).await,
            limit.acquire(Operation::Put).await,
            limit.acquire(Operation::Put).await,
        ];
        limit.on_unreachable(Instant::now());
        drop(held);
        assert_eq!((limit.current(), limit.permits.available_permits()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_writes_wait_and_reads_do_not() {
        let limit = RequestLimit::new(8);
        limit.acquire(Operation::Put).await.throttled();
        let begin = Instant::now();
        for _ in 0..3 {
            limit.acquire(Operation::Put).await.succeeded();
        }
        assert!(begin.elapsed() > Duration::from_millis(80), "{:?}", begin.elapsed());
        let begin = Instant::now();
        for operation in [Operation::List, Operation::Head, Operation::AbortMultipartUpload] {
            limit.acquire(operation).await.succeeded();
        }
        assert!(begin.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_before_a_refusal() {
        let limit = RequestLimit::new(64);
        // Between two ticks of the timer.
        tokio::time::advance(Duration::from_micros(500)).await;
        let begin = Instant::now();
        for operation in [Operation::Put, Operation::List, Operation::UploadPart].repeat(100) {
            limit.acquire(operation).await.succeeded();
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_stops_waiting_leaves_the_queue() {
        let limit = RequestLimit::new(1);
        let held = limit.acquire(Operation::Put).await;
        let waiting = limit.acquire(Operation::Put);
        assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
        drop(held);
        let _next = limit.acquire(Operation::Put).await;
    }
}
