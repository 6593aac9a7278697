//! The followed execution: the one that an attempt started or attached to, with what is known of it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::datasync::execution::Compared;
use crate::datasync::{Execution, ExecutionArn, ExecutionOptions, Filters, Status, StillRunning, Task};

/// Who started an execution, as far as the run knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartedBy {
    Run,
    /// Another client or an earlier run.
    Another,
    /// A start of this run had no response, and the execution was found afterwards.
    Unknown,
}

/// An execution that the attempt started or attached to.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Followed {
    pub(super) arn: ExecutionArn,
    pub(super) started_by: StartedBy,
    /// Whether the execution may delete, by what its start asked for; unknown of another client's.
    pub(super) may_delete: Option<bool>,
    /// Whether this run started it with filters that differ from the task's.
    pub(super) has_own_filters: bool,
    /// When this run asked for the execution, if it did.
    pub(super) requested: Option<SystemTime>,
    /// When the execution started, as early as is known.
    pub(super) since: Option<SystemTime>,
    /// The last response to a poll.
    pub(super) last: Option<Execution>,
    /// Whether a poll showed CANCELLING before this run requested a cancel.
    pub(super) cancelled_by_another: bool,
    /// Whether DataSync accepted this run's request to cancel it, or may have.
    pub(super) cancelled: bool,
}

impl fmt::Display for StartedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "this run started it",
            Self::Another => "another client started it",
            Self::Unknown => "this run or another client started it (a start of this run had no response)",
        })
    }
}

impl Followed {
    /// An execution that the run did not start, or whose start had no response.
    pub(super) fn attached(last: Execution, started_by: StartedBy) -> Self {
        Self {
            arn: last.arn.clone(),
            started_by,
            may_delete: None,
            has_own_filters: false,
            requested: None,
            since: last.started,
            cancelled_by_another: last.status == Status::Cancelling,
            cancelled: false,
            last: Some(last),
        }
    }

    /// Whether the run has found the execution running.
    pub(super) fn is_attached(&self) -> bool {
        self.started_by != StartedBy::Run
    }

    /// This execution, if its end is not confirmed.
    pub(super) fn still_running(&self) -> Option<StillRunning> {
        let (arn, deletes, shown) = (Some(self.arn.clone()), self.may_delete(), self.last.clone().map(Box::new));
        (!self.has_ended()).then_some(StillRunning { arn, deletes, cancelled: self.cancelled, shown })
    }

    /// Whether another client cancelled the execution: a poll has shown that, whatever error code the end has.
    pub(super) fn was_cancelled_by_another(&self) -> bool {
        self.cancelled_by_another && !self.last.as_ref().is_some_and(|last| last.status == Status::Succeeded)
    }

    /// When the execution started. If DataSync did not say, every object may be one that it wrote.
    pub(crate) fn since(&self) -> SystemTime {
        self.since.unwrap_or(UNIX_EPOCH)
    }

    /// The filters of the execution; none if they are unknown.
    pub(in crate::datasync) fn filters(&self, task: &Task) -> Filters {
        let shown = self.last.as_ref().map(|last| last.filters.clone()).filter(|shown| !shown.is_empty());
        let is_as_task = !self.is_attached() && !self.has_own_filters;
        shown.unwrap_or_else(|| if is_as_task { task.settings.filters() } else { Filters::default() })
    }

    /// What the success of the execution shows.
    pub(in crate::datasync) fn compared(&self, task: &Task) -> Compared {
        let is_unseen = self.has_own_filters && self.last.as_ref().is_none_or(|last| last.filters.is_empty());
        let last = self.last.as_ref().filter(|_| !is_unseen);
        last.map_or(Compared::Nothing, |last| last.compared(task))
    }

    /// Since when objects may have wrong content.
    pub(in crate::datasync) fn content_suspect_since(&self) -> Option<SystemTime> {
        self.last.as_ref().and_then(Execution::content_suspect_since)
    }

    pub(super) fn saw(&mut self, execution: Execution) {
        self.since = [self.since, execution.started].into_iter().flatten().min();
        self.last = Some(execution);
    }

    /// Whether the execution may delete: by its options as DataSync shows them, or else as its start asked for.
    pub(super) fn may_delete(&self) -> bool {
        let options = self.last.as_ref().and_then(|last| last.options.as_ref());
        options.map(ExecutionOptions::delete).or(self.may_delete).unwrap_or(true)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.status.is_terminal())
    }
}
