//! `run`: an execution of the DataSync task, from its start or from where it is found, to a verdict.
//!
//! ```text
//! an execution runs already -> attach to it                           otherwise -> start one
//! look at it again and again (watch), until it ends or a time-out tells that it will not
//! it has not ended -> cancel it, and wait for its end
//! ```
//!
//! What follows from the verdict is the command's business: [`crate::command`].

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub mod verdict;
mod watch;

use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{DataSync, Execution, Status, Task};
use crate::progress::Progress;
use crate::report::DataSyncPart;
use crate::shutdown::Shutdown;
use verdict::{Verdict, VerdictKind};
use watch::Watch;

/// The first look at an execution comes after this, and each later one after twice the time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How long each stage of an execution may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Between two looks, at most.
    pub poll_interval: Duration,
    /// QUEUED and LAUNCHING together.
    pub queue: Duration,
    /// PREPARING.
    pub prepare: Duration,
    /// Without a counter that moves, or without an answer.
    pub stall: Duration,
    /// In all.
    pub total: Duration,
    /// From the cancel to the end.
    pub cancel: Duration,
}

/// What came of an attempt to let DataSync do it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The verdict.
    pub verdict: Verdict,
    /// The execution, as far as it was seen.
    pub execution: Option<Followed>,
    /// Whether an execution may be writing to the destination still.
    pub may_still_run: bool,
    /// How long it took.
    pub took: Duration,
}

/// An execution that was followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its ARN.
    pub arn: String,
    /// Whether it ran already.
    pub attached: bool,
    /// When it began, or when it was found.
    pub since: SystemTime,
    /// What was last heard of it.
    pub last: Option<Execution>,
}

impl Attempt {
    /// One that ended before an execution was known.
    #[must_use]
    pub fn in_vain(error: &ServiceError) -> Self {
        // Of a task that is not there nothing can run; otherwise nobody knows.
        let may_still_run = error.kind != ServiceErrorKind::Unknown;
        Self { verdict: Verdict::of_error(error), execution: None, may_still_run, took: Duration::ZERO }
    }

    /// For the report.
    #[must_use]
    pub fn part(&self) -> DataSyncPart {
        let last = self.execution.as_ref().and_then(|followed| followed.last.as_ref());
        let told = |of: fn(&Execution) -> Option<&String>, or: &Option<String>| {
            last.and_then(of).cloned().or_else(|| or.clone())
        };
        DataSyncPart {
            execution_arn: self.execution.as_ref().map(|followed| followed.arn.clone()),
            attached: self.execution.as_ref().is_some_and(|followed| followed.attached),
            status: last.map(|execution| execution.status_name.clone()),
            error_code: told(|execution| execution.error_code.as_ref(), &self.verdict.code),
            error_detail: told(|execution| execution.error_detail.as_ref(), &self.verdict.detail),
            verdict: self.verdict.kind.name().into(),
            evidence: self.verdict.evidence.clone(),
            seconds: self.took.as_secs_f64(),
        }
    }
}

/// The latest execution of the task, if it runs still.
///
/// # Errors
/// Where DataSync does not tell.
pub async fn running_execution(
    datasync: &DataSync,
    latest: Option<&str>,
) -> Result<Option<(String, Execution)>, ServiceError> {
    let Some(arn) = latest else {
        return Ok(None);
    };
    match datasync.describe_execution(arn).await {
        Ok(execution) => Ok((!execution.status.is_terminal()).then(|| (arn.to_owned(), execution))),
        Err(error) if error.kind == ServiceErrorKind::Unknown => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets DataSync do it, and watches.
pub async fn attempt(
    datasync: &DataSync,
    task: &Task,
    limits: Limits,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Attempt {
    let begun = Instant::now();
    let mut followed = match attach_or_start(datasync, task).await {
        Ok(followed) => followed,
        Err(Unstarted { error, may_still_run }) => {
            return Attempt { took: begun.elapsed(), may_still_run, ..Attempt::in_vain(&error) };
        }
    };
    if followed.attached {
        tracing::info!(execution = followed.arn, "an execution runs already: watching it");
    } else {
        tracing::info!(execution = followed.arn, "execution started");
    }
    let mut verdict = watch(datasync, &mut followed, limits, shutdown, progress).await;
    let last = followed.last.as_ref();
    if verdict.kind == VerdictKind::Succeeded && last.is_some_and(|last| last.has_other_filters_than(&task.settings)) {
        verdict = Verdict::of_other_files();
    }
    let mut may_still_run = !followed.has_ended();
    if may_still_run && verdict.kind != VerdictKind::Interrupted {
        tracing::warn!("DataSync: {}: cancelling the execution", verdict.evidence);
        may_still_run = !cancel(datasync, &mut followed, limits, shutdown).await;
        if followed.last.as_ref().is_some_and(|last| last.status == Status::Succeeded) {
            verdict = Verdict::of_ended(followed.last.as_ref());
        }
        if shutdown.is_requested() {
            verdict = Verdict::interrupted();
        }
    }
    Attempt { verdict, may_still_run, execution: Some(followed), took: begun.elapsed() }
}

/// Why there is no execution to follow.
struct Unstarted {
    error: ServiceError,
    /// Whether one may run all the same.
    may_still_run: bool,
}

async fn attach_or_start(datasync: &DataSync, task: &Task) -> Result<Followed, Unstarted> {
    let attached = |(arn, last): (String, Execution)| Followed {
        arn,
        attached: true,
        since: last.started.unwrap_or_else(SystemTime::now),
        last: Some(last),
    };
    match running_execution(datasync, task.latest_execution.as_deref()).await {
        Ok(Some(running)) => return Ok(attached(running)),
        Ok(None) => {}
        Err(error) => return Err(Unstarted { error, may_still_run: true }),
    }
    let since = SystemTime::now();
    let error = match datasync.start().await {
        Ok(arn) => return Ok(Followed { arn, attached: false, since, last: None }),
        Err(error) => error,
    };
    // Somebody else may have started one since; or this start was carried out, and its answer lost.
    let looked = match datasync.latest_execution().await {
        Ok(Some(new)) if task.latest_execution.as_ref() != Some(&new) => {
            datasync.describe_execution(&new).await.map(|execution| Some((new, execution)))
        }
        Ok(latest) => running_execution(datasync, latest.as_deref()).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(Some(running)) => Ok(attached(running)),
        Ok(None) => Err(Unstarted { error, may_still_run: false }),
        Err(_) => Err(Unstarted { error, may_still_run: true }),
    }
}

async fn watch(
    datasync: &DataSync,
    followed: &mut Followed,
    limits: Limits,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Verdict {
    let mut watch = Watch::new(limits, Instant::now());
    let mut pause = FIRST_LOOK.min(limits.poll_interval);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.requested() => return Verdict::interrupted(),
        }
        pause = pause.saturating_mul(2).min(limits.poll_interval);
        let looked = tokio::select! {
            looked = datasync.describe_execution(&followed.arn) => looked,
            () = shutdown.requested() => return Verdict::interrupted(),
        };
        let verdict = match looked {
            Ok(execution) => {
                progress.show(|| format!("DataSync: {}, {}", execution.status_name, execution.line));
                let verdict = watch.hear(&execution, Instant::now());
                if !followed.attached {
                    followed.since = execution.started.unwrap_or(followed.since).min(followed.since);
                }
                followed.last = Some(execution);
                verdict
            }
            Err(error) => {
                tracing::warn!(%error, "the execution cannot be looked at; still watching");
                watch.miss(&error, Instant::now())
            }
        };
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
}

/// Cancels the execution; true if it was seen to have ended.
async fn cancel(datasync: &DataSync, followed: &mut Followed, limits: Limits, shutdown: &Shutdown) -> bool {
    if let Err(error) = datasync.cancel(&followed.arn).await {
        tracing::warn!(%error, "the execution cannot be cancelled; waiting for its end all the same");
    }
    let deadline = Instant::now() + limits.cancel;
    while Instant::now() < deadline {
        if let Ok(execution) = datasync.describe_execution(&followed.arn).await {
            followed.last = Some(execution);
        }
        if followed.has_ended() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(FIRST_LOOK.min(limits.poll_interval)) => {}
            () = shutdown.requested() => return false,
        }
    }
    false
}

impl Followed {
    fn has_ended(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.status.is_terminal())
    }
}
