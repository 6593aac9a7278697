//! The circuit breaker: after some failed executions in a row, runs do not try DataSync until a cooldown is over.
//!
//! Each destination has its own file in the state. A file that cannot be read counts as absent; the next store rebuilds it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::location::Location;
use crate::state::{DestinationRecord, State};

const SCHEMA: u32 = 1;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerRules {
    /// The failures in a row that open the breaker.
    pub(crate) failures: u32,
    /// How long the breaker stays open after the last failure.
    pub(crate) cooldown: Duration,
}

/// The failures since the last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    last_failure: Option<SystemTime>,
}

/// The breaker's file in the state, for one destination. Without a state there is no file.
#[derive(Debug)]
pub struct BreakerFile<'a>(DestinationRecord<'a>);

#[derive(Deserialize, Serialize)]
struct BreakerRecord {
    failures_in_a_row: u32,
    last_failure: Option<String>,
}

impl Breaker {
    fn of(record: BreakerRecord) -> Result<Self, String> {
        let last = record.last_failure.map(|time| humantime::parse_rfc3339(&time)).transpose();
        let last_failure = last.map_err(|error| format!("is damaged ({error})"))?;
        Ok(Self { failures: record.failures_in_a_row, last_failure })
    }

    /// Whether a run at this time must sync directly.
    pub(crate) fn is_open(&self, rules: BreakerRules, now: SystemTime) -> bool {
        self.failures >= rules.failures
            && self.last_failure.is_some_and(|last| {
                // A failure in the future comes from a wrong clock, and must not keep the breaker open.
                now.duration_since(last).is_ok_and(|since| since < rules.cooldown)
            })
    }

    /// The number of failures in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn failed(&mut self, now: SystemTime) {
        *self = Self { failures: self.failures.saturating_add(1), last_failure: Some(now) };
    }
}

impl<'a> BreakerFile<'a> {
    /// The file for one destination.
    #[must_use]
    pub fn new(state: Option<&'a State>, destination: &Location) -> Self {
        Self(DestinationRecord::new(state, destination, "breaker.json", SCHEMA))
    }

    /// Returns the stored failures, or none if the file is absent or cannot be read.
    pub async fn load(&self) -> Breaker {
        let loaded = match self.0.load().await {
            Ok(None) => Ok(Breaker::default()),
            Ok(Some(record)) => Breaker::of(record),
            Err(wrong) => Err(wrong),
        };
        loaded.unwrap_or_else(|wrong| {
            tracing::warn!(name = self.0.name(), "the breaker's file {wrong}: starting without its failures");
            Breaker::default()
        })
    }

    /// Writes the file.
    pub(crate) async fn store(&self, breaker: &Breaker) {
        let record = BreakerRecord {
            failures_in_a_row: breaker.failures,
            last_failure: breaker.last_failure.map(|time| humantime::format_rfc3339_millis(time).to_string()),
        };
        if let Err(error) = self.0.store(&record).await {
            tracing::warn!(%error, "cannot write the breaker's file: the next run does not count this attempt");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;

    const RULES: BreakerRules = BreakerRules { failures: 2, cooldown: Duration::from_mins(1) };

    #[test]
    fn it_opens_after_failures_in_a_row_and_allows_one_try_after_the_cooldown() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::default();
        breaker.failed(start);
        assert!(!breaker.is_open(RULES, start));
        breaker.succeeded();
        breaker.failed(start);
        assert!(!breaker.is_open(RULES, start), "not in a row");
        breaker.failed(start);
        assert!(breaker.is_open(RULES, after(59)) && !breaker.is_open(RULES, after(60)));
        breaker.failed(after(60));
        assert!(breaker.is_open(RULES, after(119)), "the one try failed");
        assert!(!breaker.is_open(RULES, start - Duration::from_secs(1)), "the clock was set back");
        breaker.succeeded();
        assert!(!breaker.is_open(RULES, after(61)));
    }

    #[tokio::test]
    async fn each_destination_has_its_file_and_a_damaged_file_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let file = |url: &str| BreakerFile::new(Some(&state), &url.parse().unwrap());
        let mut breaker = Breaker::default();
        breaker.failed(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_000_000_123));
        file("s3://site/www").store(&breaker).await;
        assert_eq!(file("s3://site/www").load().await, breaker);
        assert_eq!(file("s3://site/ww-w").load().await, Breaker::default());
        let name = file("s3://site/www").0.name().to_owned();
        assert!(name.starts_with("site-www-") && name.contains("breaker"), "{name}");
        for damaged in ["", "{", "{\"schema\":2}", "{\"schema\":1,\"destination\":\"s3://x\",\"failures_in_a_row\":9}"]
        {
            std::fs::write(folder.path().join(&name), damaged).unwrap();
            assert_eq!(file("s3://site/www").load().await, Breaker::default());
        }
        file("s3://site/www").store(&breaker).await;
        assert_eq!(file("s3://site/www").load().await, breaker);
    }
}
