//! The history of the task's executions, as far as a run knows it: the latest one, since when objects are suspect, and
//! the failures in a row.

use std::sync::Arc;
use std::time::SystemTime;

use super::prepare::Known;
use crate::cli::{DataSyncArgs, Policy};
use crate::datasync::attempt::verdict::VerdictKind;
use crate::datasync::attempt::{Attempt, unwanted_writes};
use crate::datasync::breaker::{Breaker, BreakerFile, BreakerRules};
use crate::datasync::late_writes::LateWrites;
use crate::datasync::own_cancel::OwnCancel;
use crate::datasync::{Beside, ExecutionArn, Latest, OtherExecutions, Request, StillRunning, Task};
use crate::session::Session;
use crate::shutdown::Shutdown;
use crate::sync::guard::Guard;
use crate::sync::rules::Suspect;
use crate::sync::setup::Doubt;
use crate::time::EpochNanos;

/// The history of the executions before this run's own attempt, and then with it.
#[derive(Debug)]
pub(super) struct History<'a> {
    /// A failed attempt if DataSync did not describe the task.
    task: Result<&'a Task, &'a Attempt>,
    /// What this run requires of an execution; unknown without a description of the task.
    request: Option<&'a Request>,
    pub(super) latest: Latest,
    late_writes: LateWrites<'a>,
    own_cancel: OwnCancel<'a>,
    breaker: Breaker,
    breaker_file: BreakerFile<'a>,
    loaded: SystemTime,
    /// The execution that may still be running after this run's attempt.
    left_running: Option<ExecutionArn>,
}

impl<'a> History<'a> {
    /// Loads what the state remembers, and describes the latest execution.
    pub(super) async fn load(
        known: &'a Known,
        request: Option<&'a Request>,
        session: &'a Session,
        shutdown: &Shutdown,
    ) -> Self {
        let loaded = SystemTime::now();
        let (state, destination) = (session.state(), session.destination());
        let task = known.task.as_ref();
        let mut late_writes = LateWrites::load(state, destination, Some(known.datasync.task_arn())).await;
        let mut latest = Latest::None;
        if let Ok(task) = task {
            tokio::select! {
                described = known.datasync.writing_now(task.latest_execution.as_ref()) => latest = described,
                // The attempt and the direct sync stop by themselves.
                () = shutdown.requested() => {}
            }
            late_writes.saw(&latest, task).await;
        } else {
            late_writes.saw_no_task();
        }
        let breaker_file = BreakerFile::new(state, destination);
        let breaker = breaker_file.load().await;
        let own_cancel = OwnCancel::load(state, destination).await;
        let latest = latest.cancelled_by_run(own_cancel.execution());
        Self { task, request, latest, late_writes, own_cancel, breaker, breaker_file, loaded, left_running: None }
    }

    /// Whether the run must not try DataSync, because the last executions failed.
    pub(super) fn breaker_is_open(&self, args: &DataSyncArgs) -> bool {
        let rules = BreakerRules { failures: args.breaker_failures, cooldown: args.breaker_cooldown };
        let is_open = args.policy == Policy::DatasyncFirst && self.breaker.is_open(rules, SystemTime::now());
        if is_open {
            let failures = self.breaker.failures();
            tracing::warn!(failures, "the last executions failed: syncing directly until the cooldown is over");
        }
        is_open
    }

    /// Records how this run's attempt ended.
    pub(super) async fn add(&mut self, attempt: &Attempt) {
        // The breaker counts executions: a task that cannot be described has none.
        let Ok(task) = self.task else {
            return;
        };
        self.left_running = attempt.still_running.as_ref().and_then(|running| running.arn.clone());
        self.late_writes.saw_attempt(attempt, task).await;
        let (kind, before) = (attempt.verdict.kind, self.breaker.clone());
        self.own_cancel.set(attempt.cancelled()).await;
        if matches!(kind, VerdictKind::Succeeded | VerdictKind::Partial) {
            self.breaker.succeeded();
        } else if !matches!(kind, VerdictKind::Cancelled | VerdictKind::Interrupted) {
            self.breaker.failed(SystemTime::now());
        }
        if kind != VerdictKind::Interrupted || self.breaker != before {
            self.breaker_file.store(&self.breaker).await;
        }
    }

    /// Describes the task once more, before a direct sync. Returns what the direct sync must doubt, or nothing if the task
    /// has other settings than those that it would follow.
    pub(super) async fn beside_others(
        &mut self,
        known: &Known,
        doubt: Doubt,
        ended: Option<&ExecutionArn>,
    ) -> Option<Doubt> {
        let Ok(task) = &known.task else {
            return Some(doubt);
        };
        let beside = known.datasync.beside(task, ended).await;
        let guard = beside.guard();
        match beside {
            Beside::OtherSettings => None,
            Beside::Nothing if doubt.guard.is_some() => Some(doubt),
            // The doubt is about this execution already.
            Beside::Execution(running) if doubt.guard.is_some() && self.knows(&running, task) => Some(doubt),
            Beside::Nothing => {
                let (datasync, task) = (known.datasync.clone(), task.clone());
                let others = OtherExecutions { datasync, task, ended: ended.cloned() };
                Some(Doubt { other_writer: Some(Arc::new(others)), ..doubt })
            }
            Beside::Execution(running) => {
                tracing::warn!("an execution of the task may be running: deleting nothing");
                self.late_writes.may_run_since(self.loaded).await;
                Some(Doubt {
                    suspect: doubt.suspect.and(self.late_writes.suspect()),
                    unguarded_deletes: doubt.unguarded_deletes.or_else(|| running.unguarded_deletes()),
                    unwanted_writes: doubt.unwanted_writes.or_else(|| self.unwanted_writes(&running)),
                    guard: doubt.guard.or(guard),
                    ..doubt
                })
            }
        }
    }

    /// Whether the run's doubt is about this execution already, or DataSync does not name it.
    fn knows(&self, running: &StillRunning, task: &Task) -> bool {
        let of_latest = || self.latest.still_running(task).and_then(|latest| latest.arn);
        running.arn.is_none() || running.arn == self.left_running.clone().or_else(of_latest)
    }

    /// What an execution that may still be running may write that this run does not allow.
    fn unwanted_writes(&self, running: &StillRunning) -> Option<String> {
        let (shown, request, task) = (running.shown.as_deref()?, self.request?, self.task.ok()?);
        unwanted_writes(shown, request, task)
    }

    /// Why a success proves too little, if an earlier execution may have left wrong content: DataSync compares no content.
    pub(super) fn suspect_content(&self) -> Option<&'static str> {
        let why = "the verification of an execution failed, and no comparison of the content has followed";
        self.late_writes.suspect().content.map(|_| why)
    }

    /// The latest execution, if it has ended.
    pub(super) fn ended(&self) -> Option<&ExecutionArn> {
        if let Latest::Ended(execution) = &self.latest { Some(&execution.arn) } else { None }
    }

    /// What a direct sync without an attempt must doubt.
    pub(super) fn doubt(&self) -> Doubt {
        let still_running = match self.task {
            Ok(task) => self.latest.still_running(task),
            Err(attempt) => attempt.still_running.clone(),
        };
        Doubt {
            suspect: self.late_writes.suspect(),
            guard: self.guard(still_running.as_ref()),
            unguarded_deletes: still_running.as_ref().and_then(StillRunning::unguarded_deletes),
            unwanted_writes: still_running.as_ref().and_then(|running| self.unwanted_writes(running)),
            ..Doubt::default()
        }
    }

    /// What a direct sync after this attempt must doubt.
    pub(super) fn doubt_after(&self, attempt: &Attempt) -> Doubt {
        let since = attempt.execution.as_ref().map(|followed| EpochNanos::from(followed.since()));
        let written = Suspect { late: since, ..Suspect::default() };
        let guard = self.guard(attempt.still_running.as_ref());
        Doubt { suspect: written.and(self.late_writes.suspect()), guard, ..Doubt::default() }
    }

    /// The guard that withholds every delete beside an execution that may still be running, and without a described task.
    fn guard(&self, still_running: Option<&StillRunning>) -> Option<Guard> {
        if self.task.is_err() { Some(Guard::TaskUnknown) } else { still_running.map(StillRunning::guard) }
    }
}
