//! A rule: which requests meet a fault.

use std::fmt;
use std::sync::Arc;

use super::fault::Fault;
use super::operation::{Operation, Operations};

type KeyMatch = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Which requests meet a fault.
#[derive(Clone)]
pub struct Rule {
    when: When,
    fault: Fault,
    seen: u64,
}

/// A rule without its fault yet.
#[derive(Clone)]
pub struct When {
    operations: Operations,
    key: Option<KeyMatch>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Begins a rule for an operation, an array of them, or [`Operations::all`]. It is for the next one request.
    #[must_use]
    pub fn on(operations: impl Into<Operations>) -> When {
        When { operations: operations.into(), key: None, skip: 0, times: 1 }
    }

    /// The fault of a request, if the rule is for it; counts the request.
    pub(super) fn meets(&mut self, operation: Operation, place: &str) -> Option<Fault> {
        let When { operations, key, skip, times } = &self.when;
        let spent = self.seen >= skip.saturating_add(*times);
        let meant = operations.contain(operation) && key.as_ref().is_none_or(|matches| matches(place));
        if spent || !meant {
            return None;
        }
        self.seen += 1;
        (self.seen > *skip).then(|| self.fault.clone())
    }
}

impl When {
    /// Only requests whose key, or prefix for a listing, contains this text.
    #[must_use]
    pub fn key_contains(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.key_matches(move |key| key.contains(&part))
    }

    /// Only requests whose key, or prefix for a listing, satisfies this.
    #[must_use]
    pub fn key_matches(mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(matches));
        self
    }

    /// Lets this many such requests pass first.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Meets this many such requests.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Meets every such request.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// What those requests meet.
    #[must_use]
    pub fn does(self, fault: Fault) -> Rule {
        Rule { when: self, fault, seen: 0 }
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
        f.debug_struct("Rule").field("when", &self.when).field("fault", &self.fault).field("seen", &self.seen).finish()
    }
}
