//! A rule: the fault that applies to some of the requests.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::operation::{Operation, Operations};

type KeyMatch = Arc<dyn Fn(&str) -> bool + Send + Sync>;
type TimeMatch = Arc<dyn Fn(Duration) -> bool + Send + Sync>;

/// Applies a fault to the requests that match.
#[derive(Clone)]
pub struct Rule {
    when: When,
    fault: Fault,
    /// The number of matching requests so far, those that are skipped included.
    seen: u64,
    /// When the rule was completed.
    since: Instant,
}

/// The requests that a rule matches.
#[derive(Clone)]
pub struct When {
    operations: Operations,
    key: Option<KeyMatch>,
    time: Option<TimeMatch>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Starts a rule for an operation, an array of operations or [`Operations::all`]. By default it applies once.
    #[must_use]
    pub fn on(operations: impl Into<Operations>) -> When {
        When { operations: operations.into(), key: None, time: None, skip: 0, times: 1 }
    }

    /// Returns the fault if the rule applies to this request, and counts the request.
    pub(super) fn fault_for(&mut self, operation: Operation, place: &str) -> Option<Fault> {
        let When { operations, key, time, skip, times } = &self.when;
        let spent = self.seen >= skip.saturating_add(*times);
        let matching = operations.contain(operation) && key.as_ref().is_none_or(|matches| matches(place));
        let is_time = time.as_ref().is_none_or(|matches| matches(self.since.elapsed()));
        if spent || !matching || !is_time {
            return None;
        }
        self.seen += 1;
        (self.seen > *skip).then(|| self.fault.clone())
    }
}

impl When {
    /// Matches only requests whose key contains this text. A listing matches by its prefix.
    #[must_use]
    pub fn key_contains(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.key_matches(move |key| key.contains(&part))
    }

    /// Matches only requests whose key satisfies this predicate. A listing matches by its prefix.
    #[must_use]
    pub fn key_matches(mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(matches));
        self
    }

    /// Matches only requests at these times, which count from the completion of the rule: an outage, for example.
    #[must_use]
    pub fn during(mut self, matches: impl Fn(Duration) -> bool + Send + Sync + 'static) -> Self {
        self.time = Some(Arc::new(matches));
        self
    }

    /// Skips the first `count` matching requests.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Applies to `count` requests.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Applies to every matching request.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Completes the rule with its fault.
    #[must_use]
    pub fn does(self, fault: Fault) -> Rule {
        Rule { when: self, fault, seen: 0, since: Instant::now() }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("operations", &self.operations)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("when", &self.when)
            .field("fault", &self.fault)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
