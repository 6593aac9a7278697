//! The outlook: whether the failures so far show that nothing else can succeed (`DESIGN.md#refused-keys`).
//!
//! - An error of the bucket, the credentials or the settings ends the run immediately.
//! - A server that does not respond, or that responds to everything with a 5xx, ends the run after the outage timeout
//!   without a success. Throttling never does.
//! - A refused key fails alone, and so do a million of them: a policy can deny one prefix and allow the next. Only at the
//!   end is it known that every key was refused.

use std::time::Duration;

use tokio::time::Instant;

use crate::destination::error::{Concern, ErrorKind, S3Error};
use crate::destination::operation::Operation;
use crate::key::RelativeKey;

/// A server is gone if nothing succeeds for the outage timeout, and at least this many requests in a row fail.
const SERVER_GONE_REQUESTS: u64 = 20;
/// So many refusals show that the refused keys are not single ones.
const MANY: u64 = 10;

/// What the failures so far show.
#[derive(Debug)]
pub(crate) struct Outlook {
    outage_timeout: Duration,
    any_success: bool,
    refused: Refused,
    outage: Option<Outage>,
}

/// Keys that were refused before anything succeeded.
#[derive(Debug, Default)]
struct Refused {
    keys: u64,
    first: Option<(Operation, ErrorKind, Option<String>)>,
    /// Whether all of them were refused for the same reason, and nothing failed for another one.
    differ: bool,
    places: Places,
}

/// Failures in a row without a usable response.
#[derive(Debug)]
struct Outage {
    since: Instant,
    requests: u64,
    places: Places,
}

/// The entries of the prefix that keys are in, as far as it matters: none, one or several.
#[derive(Debug, Default)]
struct Places {
    first: Option<String>,
    several: bool,
}

impl Outlook {
    pub(crate) fn new(outage_timeout: Duration) -> Self {
        Self { outage_timeout, any_success: false, refused: Refused::default(), outage: None }
    }

    /// Records a success.
    pub(crate) fn succeeded(&mut self) {
        self.any_success = true;
        self.outage = None;
    }

    /// Records the failure of a key whose work started at `started`. Returns whether nothing else can succeed.
    pub(crate) fn failed(&mut self, key: &RelativeKey, error: &S3Error, started: Instant) -> bool {
        match error.concern() {
            Concern::Bucket | Concern::Usage => return true,
            // The run has asked for new credentials.
            Concern::Transient if error.kind == ErrorKind::Expired => return true,
            Concern::Stop => return false,
            Concern::Transient if error.kind != ErrorKind::Throttled => {
                self.refused.differ = true;
                return self.in_outage(key, error, started);
            }
            Concern::Key | Concern::Prefix if error.kind != ErrorKind::Precondition => self.refused.add(key, error),
            Concern::Transient | Concern::Key | Concern::Prefix => self.refused.differ = true,
        }
        self.outage = None;
        false
    }

    /// Whether the run, now at its end, had every key refused for the same reason.
    pub(crate) fn all_refused(&self) -> bool {
        let Refused { keys, differ, places, .. } = &self.refused;
        !self.any_success && !differ && *keys >= MANY && places.several
    }

    fn in_outage(&mut self, key: &RelativeKey, error: &S3Error, started: Instant) -> bool {
        let outage =
            self.outage.get_or_insert_with(|| Outage { since: started, requests: 0, places: Places::default() });
        outage.since = outage.since.min(started);
        outage.requests += 1;
        outage.places.add(key);
        // A server that fails everything below one prefix may serve the others.
        let everywhere = error.kind == ErrorKind::Unreachable || outage.places.several;
        everywhere && outage.requests >= SERVER_GONE_REQUESTS && outage.since.elapsed() >= self.outage_timeout
    }
}

impl Refused {
    fn add(&mut self, key: &RelativeKey, error: &S3Error) {
        let this = (error.operation, error.kind, error.code.clone());
        self.differ |= *self.first.get_or_insert_with(|| this.clone()) != this;
        self.keys += 1;
        self.places.add(key);
    }
}

impl Places {
    fn add(&mut self, key: &RelativeKey) {
        let place = key.as_str().split('/').next().unwrap_or_default();
        match &self.first {
            Some(first) => self.several |= first != place,
            None => self.first = Some(place.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn error(kind: ErrorKind) -> S3Error {
        S3Error { code: Some(format!("{kind:?}")), ..S3Error::local(Operation::Put, kind, "") }
    }

    fn fail(outlook: &mut Outlook, keys: std::ops::Range<u64>, folder: &str, kind: ErrorKind) -> bool {
        let started = Instant::now();
        keys.into_iter()
            .any(|number| outlook.failed(&RelativeKey::new(format!("{folder}{number}")), &error(kind), started))
    }

    #[tokio::test(start_paused = true)]
    async fn refused_keys_never_end_the_run_before_its_end() {
        let mut outlook = Outlook::new(MINUTE);
        assert!(!fail(&mut outlook, 0..100_000, "", ErrorKind::Denied));
        assert!(outlook.all_refused(), "every key of the run was refused");
        outlook.succeeded();
        assert!(!outlook.all_refused());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_prefix_is_not_a_refused_bucket() {
        let mut outlook = Outlook::new(MINUTE);
        assert!(!fail(&mut outlook, 0..400, "a/", ErrorKind::Denied));
        assert!(!outlook.all_refused(), "the run wrote nothing elsewhere");
        fail(&mut outlook, 0..1, "z/", ErrorKind::Refused);
        assert!(!outlook.all_refused(), "another error");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_away_ends_the_run_after_the_outage_timeout() {
        let mut outlook = Outlook::new(MINUTE);
        outlook.succeeded();
        assert!(!fail(&mut outlook, 0..1000, "a/", ErrorKind::Unreachable), "not by a count");
        outlook.succeeded();
        let started = Instant::now();
        let gone = |outlook: &mut Outlook, number: u64, kind| {
            outlook.failed(&RelativeKey::new(format!("a/{number}")), &error(kind), started)
        };
        tokio::time::sleep(MINUTE).await;
        assert!((1..SERVER_GONE_REQUESTS).all(|number| !gone(&mut outlook, number, ErrorKind::Unreachable)));
        assert!(gone(&mut outlook, 0, ErrorKind::Unreachable));
        for kind in [ErrorKind::Throttled, ErrorKind::Transient] {
            let mut outlook = Outlook::new(MINUTE);
            assert!((0..1000).all(|number| !gone(&mut outlook, number, kind)), "{kind:?} below one prefix");
        }
        let mut outlook = Outlook::new(MINUTE);
        assert!((1..SERVER_GONE_REQUESTS).all(|number| !gone(&mut outlook, number, ErrorKind::Transient)));
        assert!(outlook.failed(&RelativeKey::new("z"), &error(ErrorKind::Transient), started), "everywhere");
    }
}
