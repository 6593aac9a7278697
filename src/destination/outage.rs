//! Outages: when the run gives up a request that fails for a transient reason. By time, never by a count that passes in
//! seconds (`DESIGN.md#own-retries`).
//!
//! | the request fails | the run gives it up |
//! |---|---|
//! | while no request of its operation succeeds | once that lasts for the outage timeout |
//! | and the server has never responded, not even to a connection | after half of the outage timeout |
//! | alone: others of its operation succeed, and S3 does not throttle | after half of the outage timeout |
//! | alone, like another one that was given up | after [`RETRIES_ALONE`] retries |
//! | because its credentials have expired | after [`RETRIES_EXPIRED`] retries, each with the newest credentials |
//! | in any way, and the user limits the retries | after that many retries, if not earlier |
//!
//! The time counts at the start of an attempt: one that started earlier, and ended later, is followed by another one.
//! Otherwise one slow attempt could be the only one.
//!
//! While an outage is older than the outage timeout, a request that cannot be sent immediately fails unsent. So a
//! server that fails everything does not hold up a run for each of its files.
//!
//! An outage is logged once it has lasted for [`VISIBLE_AFTER`], and once more when it ends. A pace handles most refusals
//! before that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{ErrorKind, GivenUp, S3Error, shown};
use super::operation::Operation;

/// How often a request is retried that fails alone, once the run has given up another one of its operation.
const RETRIES_ALONE: u32 = 5;
/// How often a request is retried whose credentials have expired. Each attempt asks for new ones.
const RETRIES_EXPIRED: u32 = 3;
/// An endless outage timeout.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// The failure of an attempt that starts this long after the last failure belongs to another outage.
const APART: Duration = Duration::from_secs(90);

/// An outage that lasts this long is logged.
const VISIBLE_AFTER: Duration = Duration::from_secs(5);

/// The outages of a server, by operation.
#[derive(Debug)]
pub(super) struct Outages {
    bucket: String,
    timeout: Duration,
    /// The most retries of a request, if the user limits them.
    most_retries: Option<u32>,
    seen: Mutex<Seen>,
}

/// What the requests so far have shown.
#[derive(Debug, Default)]
struct Seen {
    has_responded: bool,
    operations: HashMap<Operation, Health>,
}

/// Whether requests of an operation succeed.
#[derive(Debug, Default)]
struct Health {
    last_success: Option<Instant>,
    outage: Option<Outage>,
    /// When the outage started that the log shows.
    logged: Option<Instant>,
    /// Whether the run has given up a request that failed alone.
    has_failed_alone: bool,
    /// How often a request that succeeded had been silent before.
    silences: u32,
}

/// Failures without a success between them.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last: Instant,
    error: S3Error,
}

/// The attempts of one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    pub(super) operation: Operation,
    /// When the first attempt started or last moved a byte, or when a part of the request last succeeded.
    pub(super) since: Instant,
    /// When the last attempt started, or was given up unsent.
    pub(super) started: Instant,
    pub(super) retries: u32,
    /// How many attempts ended without a response.
    pub(super) silences: u32,
    /// The error of the last attempt.
    pub(super) last: Option<S3Error>,
    /// Whether the log shows that the request fails inside responses with status 200.
    is_logged: bool,
}

impl Attempts {
    pub(crate) fn of(operation: Operation) -> Self {
        let now = Instant::now();
        Self { operation, since: now, started: now, retries: 0, silences: 0, last: None, is_logged: false }
    }

    /// Records that the next attempt starts.
    pub(super) fn starts_again(&mut self) {
        self.retries += 1;
        self.started = Instant::now();
    }

    /// Records that a part of the request has succeeded.
    pub(super) fn progressed(&mut self) {
        self.since = Instant::now();
    }
}

impl Outages {
    pub(super) fn new(bucket: &str, timeout: Duration, most_retries: Option<u32>) -> Self {
        Self { bucket: bucket.to_owned(), timeout: timeout.min(LONGEST), most_retries, seen: Mutex::default() }
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Records a response that is not an error, after this many silent attempts.
    pub(super) fn succeeded(&self, operation: Operation, silences: u32) {
        let ended = {
            let mut seen = self.seen();
            seen.has_responded = true;
            let health = seen.operations.entry(operation).or_default();
            health.last_success = Some(Instant::now());
            health.silences = health.silences.max(silences);
            health.outage = None;
            health.logged.take()
        };
        if let Some(since) = ended {
            let (operation, time) = (operation.name(), shown(since.elapsed()));
            tracing::info!(bucket = self.bucket, "S3 accepts {operation} again after {time}");
        }
    }

    /// Records that an outage of this operation has ended, as another request shows.
    pub(super) fn ended(&self, operation: Operation) {
        self.seen().operations.entry(operation).or_default().outage = None;
    }

    /// How often requests of this operation were silent before one succeeded: the next one may be as slow.
    pub(super) fn silences(&self, operation: Operation) -> u32 {
        self.seen().operations.get(&operation).map_or(0, |health| health.silences)
    }

    /// Records a failed attempt, whose last byte moved at `moved`. The first attempt fails only from then on: it may have
    /// waited for its turn, and then sent its body over a slow uplink.
    pub(super) fn failed(&self, attempts: &mut Attempts, moved: Instant, error: &S3Error) {
        let now = Instant::now();
        if attempts.retries == 0 {
            attempts.since = attempts.since.max(moved);
        }
        let (limit, is_new) = {
            let mut seen = self.seen();
            seen.has_responded |= error.is_connected;
            if !error.kind.is_retryable() {
                return;
            }
            let limit = self.limit(seen.has_responded || error.is_connected);
            let health = seen.operations.entry(attempts.operation).or_default();
            let last_success = health.last_success;
            let is_apart = |outage: &Outage| attempts.started - outage.last >= APART.max(self.timeout);
            let outage = health.outage.take().filter(|outage| !is_apart(outage));
            let since = outage.map_or(moved.max(last_success.unwrap_or(moved)), |outage| outage.since);
            // Other credentials end the failures of those that have expired.
            let is_visible = error.kind != ErrorKind::Expired && (VISIBLE_AFTER..limit).contains(&(now - since));
            health.outage = Some(Outage { since, last: now, error: error.clone() });
            let is_new = is_visible && health.logged.is_none();
            if is_new {
                health.logged = Some(since);
            }
            (limit, is_new)
        };
        if is_new {
            self.warn(&error.symptom(), "retrying until no request has succeeded for", limit);
        }
    }

    /// How long no request of an operation may succeed.
    fn limit(&self, has_responded: bool) -> Duration {
        if has_responded { self.timeout } else { self.timeout / 2 }
    }

    fn warn(&self, symptom: &str, retrying: &str, limit: Duration) {
        let bucket = &self.bucket;
        if let Some(most) = self.most_retries {
            tracing::warn!(bucket, "{symptom}: retrying each request up to {most} times (--retries)");
            return;
        }
        let (half, time) = (if limit < self.timeout { "half of " } else { "" }, shown(limit));
        tracing::warn!(bucket, "{symptom}: {retrying} {time} ({half}--outage-timeout)");
    }

    /// Returns how long the run still retries a request whose last attempt failed with this error.
    ///
    /// # Errors
    /// Returns why the run gives the request up; `None` if no other attempt can succeed.
    pub(super) fn time_left(&self, attempts: &Attempts, error: &S3Error) -> Result<Duration, Option<GivenUp>> {
        if !error.kind.is_retryable() || error.kind == ErrorKind::Expired && attempts.retries >= RETRIES_EXPIRED {
            return Err(None);
        }
        self.retries_left(attempts).map_err(Some)?;
        let now = Instant::now();
        let mut seen = self.seen();
        let has_responded = seen.has_responded;
        let health = seen.operations.entry(attempts.operation).or_default();
        let failing = now - attempts.since;
        let succeeds_alone = |last: Instant| last > attempts.since && now - last < failing / 2;
        if health.last_success.is_some_and(succeeds_alone) {
            if error.kind == ErrorKind::Throttled {
                return Ok(self.timeout);
            }
            let failing_at_start = attempts.started - attempts.since;
            let gives_up =
                failing_at_start >= self.timeout / 2 || health.has_failed_alone && attempts.retries >= RETRIES_ALONE;
            health.has_failed_alone |= gives_up;
            return if gives_up {
                Err(Some(GivenUp::Alone(failing)))
            } else {
                Ok((self.timeout / 2).saturating_sub(failing))
            };
        }
        let limit = self.limit(has_responded || error.is_connected);
        let since = health.outage.as_ref().map_or(now, |outage| outage.since);
        let lasts = now - since;
        if attempts.started - since >= limit {
            Err(Some(GivenUp::Outage(lasts)))
        } else {
            Ok(limit.saturating_sub(lasts))
        }
    }

    fn retries_left(&self, attempts: &Attempts) -> Result<(), GivenUp> {
        match self.most_retries {
            Some(most) if attempts.retries >= most => Err(GivenUp::Retries(most)),
            _ => Ok(()),
        }
    }

    /// Like [`Self::time_left`], for what fails inside responses with status 200, such as the delete of one of many keys.
    pub(super) fn time_left_inside(&self, attempts: &mut Attempts, error: &S3Error) -> Result<Duration, GivenUp> {
        self.retries_left(attempts)?;
        let limit = if error.kind == ErrorKind::Throttled { self.timeout } else { self.timeout / 2 };
        let failing = attempts.since.elapsed();
        if failing >= limit {
            return Err(GivenUp::Inside(failing));
        }
        if failing >= VISIBLE_AFTER && !attempts.is_logged {
            attempts.is_logged = true;
            self.warn(&error.symptom(), "retrying these keys for up to", limit);
        }
        Ok(limit.saturating_sub(failing))
    }

    /// Returns once the run gives up an operation because none of its requests succeeds: the error of this request's
    /// last attempt, or else what others failed with.
    pub(super) async fn over(&self, attempts: &Attempts) -> S3Error {
        let operation = attempts.operation;
        loop {
            let now = Instant::now();
            let limit = self.limit(self.seen().has_responded);
            let deadline = match self.seen().operations.get(&operation).and_then(|health| health.outage.as_ref()) {
                Some(outage) if now - outage.last < APART.max(self.timeout) => {
                    let deadline = outage.since + limit;
                    if now >= deadline {
                        let error = attempts.last.clone().unwrap_or_else(|| outage.error.of_others());
                        let given_up = Some(Box::new(GivenUp::Outage(now - outage.since)));
                        return S3Error { given_up, ..error };
                    }
                    deadline
                }
                _ => now + limit,
            };
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn error(kind: ErrorKind) -> S3Error {
        S3Error::local(Operation::Put, kind, "")
    }

    /// Lets a request fail each second, until it is given up; `others` succeed every second or not.
    async fn fails_until(outages: &Outages, kind: ErrorKind, others: bool) -> (Duration, u32) {
        let (start, mut attempts) = (Instant::now(), Attempts::of(Operation::Put));
        loop {
            if others {
                outages.succeeded(Operation::Put, 0);
            }
            outages.succeeded(Operation::Head, 0);
            outages.failed(&mut attempts, Instant::now(), &error(kind));
            if outages.time_left(&attempts, &error(kind)).is_err() || start.elapsed() > 10 * MINUTE {
                return (start.elapsed(), attempts.retries);
            }
            tokio::time::sleep(SECOND).await;
            attempts.starts_again();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_without_a_success_is_given_up_after_the_timeout_whatever_else_succeeds() {
        for kind in [ErrorKind::Throttled, ErrorKind::Transient, ErrorKind::Unreachable] {
            let outages = Outages::new("site", MINUTE, None);
            assert_eq!(fails_until(&outages, kind, false).await, (MINUTE, 60), "{kind:?}");
            assert_eq!(fails_until(&outages, kind, false).await.1, 0, "{kind:?}: the outage is known");
            outages.succeeded(Operation::Put, 0);
            assert_eq!(fails_until(&outages, kind, false).await.0, MINUTE, "{kind:?}: another outage");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_lasts_longer_than_the_timeout_is_not_the_only_one() {
        for others in [false, true] {
            let (outages, mut attempts) = (Outages::new("site", MINUTE, None), Attempts::of(Operation::Put));
            let error = error(ErrorKind::Transient);
            for is_followed in [true, false] {
                tokio::time::sleep(2 * MINUTE).await;
                if others {
                    outages.succeeded(Operation::Put, 0);
                }
                let started = attempts.started;
                outages.failed(&mut attempts, started, &error);
                let left = outages.time_left(&attempts, &error);
                assert_eq!(left.ok(), is_followed.then_some(Duration::ZERO), "{others}");
                attempts.starts_again();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_long_after_an_outage_is_another_outage() {
        let outages = Outages::new("site", MINUTE, None);
        fails_until(&outages, ErrorKind::Transient, false).await;
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(fails_until(&outages, ErrorKind::Transient, false).await.0, MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_fails_alone_is_given_up_earlier_and_the_next_one_by_a_count() {
        let outages = Outages::new("site", MINUTE, None);
        assert_eq!(fails_until(&outages, ErrorKind::Transient, true).await.0, MINUTE / 2);
        assert_eq!(fails_until(&outages, ErrorKind::Transient, true).await.1, RETRIES_ALONE);
        assert_eq!(fails_until(&outages, ErrorKind::Transient, false).await.0, MINUTE, "an outage is no such failure");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_request_is_not_given_up_while_others_succeed() {
        let outages = Outages::new("site", MINUTE, None);
        assert!(fails_until(&outages, ErrorKind::Throttled, true).await.0 > 10 * MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_accepted_a_connection_is_given_up_earlier() {
        for (is_connected, limit) in [(false, MINUTE / 2), (true, MINUTE)] {
            let outages = Outages::new("site", MINUTE, None);
            let error = S3Error { is_connected, ..error(ErrorKind::Unreachable) };
            let (start, mut attempts) = (Instant::now(), Attempts::of(Operation::List));
            while !{
                outages.failed(&mut attempts, Instant::now(), &error);
                outages.time_left(&attempts, &error).is_err()
            } {
                tokio::time::sleep(SECOND).await;
                attempts.starts_again();
            }
            assert_eq!(start.elapsed(), limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_fails_after_minutes_on_a_slow_uplink_is_retried() {
        for others in [false, true] {
            let outages = Outages::new("site", MINUTE, None);
            let mut attempts = Attempts::of(Operation::Put);
            tokio::time::sleep(5 * MINUTE).await;
            if others {
                outages.succeeded(Operation::Put, 0);
            }
            tokio::time::sleep(SECOND).await;
            outages.failed(&mut attempts, Instant::now(), &error(ErrorKind::Unreachable));
            assert!(outages.time_left(&attempts, &error(ErrorKind::Unreachable)).is_ok(), "{others}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_retries_comes_first() {
        let outages = Outages::new("site", MINUTE, Some(3));
        for others in [false, true] {
            assert_eq!(fails_until(&outages, ErrorKind::Throttled, others).await.1, 3);
        }
        assert_eq!(fails_until(&outages, ErrorKind::Refused, false).await.1, 0, "not transient");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_left_ends_with_the_outage_timeout() {
        let outages = Outages::new("site", MINUTE, None);
        let (mut attempts, error) = (Attempts::of(Operation::Put), error(ErrorKind::Throttled));
        let start = Instant::now();
        outages.failed(&mut attempts, start, &error);
        assert_eq!(outages.time_left(&attempts, &error), Ok(MINUTE));
        tokio::time::sleep(58 * SECOND).await;
        outages.failed(&mut attempts, start, &error);
        assert_eq!(outages.time_left(&attempts, &error), Ok(2 * SECOND));
        tokio::time::sleep(2 * SECOND).await;
        attempts.starts_again();
        assert_eq!(outages.time_left(&attempts, &error), Err(Some(GivenUp::Outage(MINUTE))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_sent_has_no_request_id_of_another_one() {
        let outages = Outages::new("site", SECOND, None);
        let of = |id: &str| S3Error { request_id: Some(id.to_owned()), ..error(ErrorKind::Throttled) };
        outages.failed(&mut Attempts::of(Operation::Put), Instant::now(), &of("another"));
        let mut attempts = Attempts::of(Operation::Put);
        assert_eq!(outages.over(&attempts).await.request_id, None);
        attempts.last = Some(of("own"));
        assert_eq!(outages.over(&attempts).await.request_id.as_deref(), Some("own"));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_refused_inside_accepted_requests_are_no_outage() {
        let outages = Outages::new("site", MINUTE, None);
        let mut attempts = Attempts::of(Operation::DeleteObjects);
        tokio::time::sleep(MINUTE / 2).await;
        let error = error(ErrorKind::Transient);
        let given_up = outages.time_left_inside(&mut attempts, &error).unwrap_err();
        assert_eq!(given_up, GivenUp::Inside(MINUTE / 2));
        let error = S3Error { operation: Operation::DeleteObjects, given_up: Some(Box::new(given_up)), ..error };
        assert!(error.advice().contains("S3 accepted DeleteObjects, but not this key, for 30s"), "{}", error.advice());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_earlier_for_a_server_that_never_accepted_a_connection() {
        let outages = Outages::new("site", MINUTE, None);
        let start = Instant::now();
        let error = S3Error { is_connected: false, ..error(ErrorKind::Unreachable) };
        outages.failed(&mut Attempts::of(Operation::Put), start, &error);
        outages.over(&Attempts::of(Operation::Put)).await;
        assert_eq!(start.elapsed(), MINUTE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_outage_is_as_old_as_the_timeout() {
        let outages = Outages::new("site", MINUTE, None);
        let start = Instant::now();
        outages.failed(&mut Attempts::of(Operation::Put), start, &error(ErrorKind::Throttled));
        assert_eq!(outages.over(&Attempts::of(Operation::Put)).await.kind, ErrorKind::Throttled);
        assert_eq!(start.elapsed(), MINUTE);
        let none = tokio::time::timeout(10 * MINUTE, outages.over(&Attempts::of(Operation::Head))).await;
        assert!(none.is_err(), "no outage of this operation");
    }
}
