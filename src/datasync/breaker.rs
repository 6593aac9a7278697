//! The circuit breaker: after some executions in a row that did not succeed, DataSync is left alone for a while.
//!
//! What it remembers is keyed by the destination, so one state serves many. What cannot be read is reported, counts as
//! nothing remembered, and is written anew.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::location::Location;
use crate::scope::Scope;
use crate::state::{Expected, State};

const SCHEMA: u32 = 1;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerRules {
    /// So many failures in a row open it.
    pub failures: u32,
    /// So long after the last of them DataSync is tried again.
    pub cooldown: Duration,
}

/// What the breaker remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    last_failure: Option<SystemTime>,
}

/// Where it remembers it, if anywhere.
#[derive(Debug)]
pub struct BreakerMemory<'a> {
    state: Option<&'a State>,
    destination: String,
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Record {
    schema: u32,
    destination: String,
    failures_in_a_row: u32,
    last_failure: Option<String>,
}

impl Breaker {
    /// Whether DataSync is to be left alone now.
    #[must_use]
    pub fn is_open(&self, rules: BreakerRules, now: SystemTime) -> bool {
        self.failures >= rules.failures
            && self.last_failure.is_some_and(|last| {
                // A failure that is yet to come is a clock's fault; it does not keep the breaker open for ever.
                now.duration_since(last).is_ok_and(|since| since < rules.cooldown)
            })
    }

    /// How many failures in a row there were.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// DataSync did its work.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It did not.
    pub fn failed(&mut self, now: SystemTime) {
        *self = Self { failures: self.failures.saturating_add(1), last_failure: Some(now) };
    }
}

impl<'a> BreakerMemory<'a> {
    /// For one destination.
    #[must_use]
    pub fn new(state: Option<&'a State>, destination: &Location) -> Self {
        Self {
            state,
            destination: destination.to_string(),
            name: Scope::whole(destination.clone()).file_name("breaker.json"),
        }
    }

    /// What is remembered.
    pub async fn load(&self) -> Breaker {
        let Some(state) = self.state else {
            return Breaker::default();
        };
        match state.look(&self.name).await {
            Ok(None) => Breaker::default(),
            Ok(Some(found)) => self.read(&found.content).unwrap_or_else(|wrong| {
                tracing::warn!(name = self.name, "the breaker's state {wrong}: it is begun anew");
                Breaker::default()
            }),
            Err(error) => {
                tracing::warn!(%error, "the breaker's state cannot be read: as if nothing were remembered");
                Breaker::default()
            }
        }
    }

    /// Remembers.
    pub async fn store(&self, breaker: &Breaker) {
        let Some(state) = self.state else {
            return;
        };
        let record = Record {
            schema: SCHEMA,
            destination: self.destination.clone(),
            failures_in_a_row: breaker.failures,
            last_failure: breaker.last_failure.map(|time| humantime::format_rfc3339_millis(time).to_string()),
        };
        let content = serde_json::to_vec_pretty(&record).unwrap_or_default();
        if let Err(error) = state.replace(&self.name, Bytes::from(content), &Expected::Anything).await {
            tracing::warn!(%error, "the breaker's state cannot be written: the next run does not know of this one");
        }
    }

    fn read(&self, content: &[u8]) -> Result<Breaker, String> {
        let record: Record = serde_json::from_slice(content).map_err(|error| format!("is damaged ({error})"))?;
        if record.schema != SCHEMA || record.destination != self.destination {
            return Err("is of another program or destination".to_owned());
        }
        let last = record.last_failure.map(|time| humantime::parse_rfc3339(&time)).transpose();
        let last_failure = last.map_err(|error| format!("is damaged ({error})"))?;
        Ok(Breaker { failures: record.failures_in_a_row, last_failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BreakerRules = BreakerRules { failures: 2, cooldown: Duration::from_mins(1) };

    #[test]
    fn it_opens_after_failures_in_a_row_and_tries_once_after_the_cooldown() {
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
        assert!(!breaker.is_open(RULES, start - Duration::from_secs(1)), "a clock that was put back");
        breaker.succeeded();
        assert!(!breaker.is_open(RULES, after(61)));
    }

    #[tokio::test]
    async fn it_remembers_by_destination_and_what_is_damaged_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::Folder(folder.path().to_owned());
        let memory = |url: &str| BreakerMemory::new(Some(&state), &url.parse().unwrap());
        let mut breaker = Breaker::default();
        breaker.failed(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_000_000_123));
        memory("s3://site/www").store(&breaker).await;
        assert_eq!(memory("s3://site/www").load().await, breaker);
        assert_eq!(memory("s3://site/ww-w").load().await, Breaker::default());
        let name = memory("s3://site/www").name;
        assert!(name.starts_with("site-www-") && name.contains("breaker"), "{name}");
        for damaged in ["", "{", "{\"schema\":2}", "{\"schema\":1,\"destination\":\"s3://x\",\"failures_in_a_row\":9}"]
        {
            std::fs::write(folder.path().join(&name), damaged).unwrap();
            assert_eq!(memory("s3://site/www").load().await, Breaker::default());
        }
        memory("s3://site/www").store(&breaker).await;
        assert_eq!(memory("s3://site/www").load().await, breaker);
    }
}
