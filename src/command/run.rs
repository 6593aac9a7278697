//! `efs2s3 run`: the task tells what to do, DataSync does it, and where it does not, the direct sync.
//!
//! ```text
//! describe the task -> its settings become the options' defaults
//!   -> the mounted folder is another one than the task's: refuse
//!   -> DataSync, unless the breaker is open or the policy says otherwise
//!        succeeded                -> done (with --audit: compare all the same)
//!        partial                  -> compare, what DataSync just wrote by its content: repair
//!        anything else, and ended -> sync directly
//!        anything else            -> sync directly, and delete nothing
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

mod key_sample;
mod prepare;

use super::{Control, Stop, Work, cannot_write, conclude, do_work, state, without_work};
use crate::cli::{Command, Invocation, Policy, RunCommand};
use crate::config::SyncConfig;
use crate::datasync::attempt::verdict::VerdictKind;
use crate::datasync::attempt::{Limits, attempt};
use crate::datasync::breaker::{BreakerFile, BreakerRules};
use crate::exit_code::ExitCode;
use crate::progress::Progress;
use crate::report::{Report, ReportSink, Route, Subject};
use crate::shutdown::Shutdown;
use crate::state::State;
use crate::sync::changes::Changes;
use crate::sync::decide::Suspect;
use crate::sync::tally::Guard;
use crate::time::EpochNanos;
use prepare::{Known, check_folder, configure, describe, run_command, with_task_settings};

/// What the direct sync is to do after DataSync.
enum Direct {
    Nothing,
    /// The policy forbids it; DataSync did not succeed for this reason.
    Refused(String),
    Sync {
        suspect: Option<Suspect>,
        guard: Option<Guard>,
    },
}

/// Runs the command to its end.
pub(super) async fn run(invocation: Invocation, progress: &Progress) -> ExitCode {
    let Some(command) = run_command(&invocation) else {
        return ExitCode::Usage;
    };
    let mut subject = Subject {
        command: "run",
        source: command.source.display().to_string(),
        destination: command.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
        keys: None,
        started: SystemTime::now(),
        route: Route::Direct,
        datasync: None,
    };
    let report_path = command.report.clone();
    let sink = match report_path.as_deref().map(ReportSink::open).transpose() {
        Ok(sink) => sink,
        Err(error) => return cannot_write("report", report_path.as_deref(), &error),
    };
    let changes = match command.changes.as_deref().map(Changes::create).transpose() {
        Ok(changes) => changes.unwrap_or_default(),
        Err(error) => return cannot_write("changes file", command.changes.as_deref(), &error),
    };
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            tracing::error!(%error, "signals cannot be listened for");
            return ExitCode::Fatal;
        }
    };
    let report = match Box::pin(go(invocation, &mut subject, changes, Control { shutdown: &shutdown, progress })).await
    {
        Ok(report) => report,
        // Nothing has been done: wrong words need no report.
        Err(Stop { message, exit_code: ExitCode::Usage }) => {
            tracing::error!("{message}");
            return ExitCode::Usage;
        }
        Err(Stop { message, exit_code }) => without_work(&subject, None, Some(message), exit_code),
    };
    progress.finish();
    conclude(&report, sink, report_path.as_deref())
}

async fn go(
    invocation: Invocation,
    subject: &mut Subject,
    changes: Changes,
    control: Control<'_>,
) -> Result<Report, Stop> {
    let shutdown = control.shutdown;
    let known = tokio::select! {
        known = describe(&invocation) => known?,
        () = shutdown.requested() => {
            let exit_code = shutdown.exit_code().unwrap_or(ExitCode::Interrupted);
            return Ok(without_work(subject, None, None, exit_code));
        }
    };
    let invocation = with_task_settings(invocation, known.as_ref())?;
    let header_rules = invocation.header_rules.clone();
    let Command::Run(mut command) = invocation.cli.command else {
        return Err(Stop::usage("no run command"));
    };
    let (plan, state_args) = (Plan::new(&command), std::mem::take(&mut command.state));
    let config = configure(*command, header_rules, known.as_ref())?;
    subject.destination = config.scope().destination.to_string();
    let state = state::open(state_args.state.as_ref(), &plan.source, &config).await?;
    let lease = state::lease(state.as_ref(), &state_args, &config, shutdown).await?;
    let (requests, scope) = (config.requests(), config.scope().clone());
    let mut worked = Box::pin(work(&plan, config, known.as_ref(), state.as_ref(), changes, subject, control)).await;
    if let (Some(lease), Some(state)) = (lease, &state) {
        state::conclude(lease, state, &scope, worked.as_mut().ok(), &requests).await;
    }
    worked
}

/// DataSync and what is left to be done directly, under the lease.
async fn work(
    plan: &Plan,
    config: SyncConfig,
    known: Option<&Known>,
    state: Option<&Arc<State>>,
    changes: Changes,
    subject: &mut Subject,
    control: Control<'_>,
) -> Result<Report, Stop> {
    let Control { shutdown, progress } = control;
    // Source, destination and settings are looked at before DataSync is set to work on them.
    let scope = config.scope().clone();
    let mut setup = config.open(false, shutdown.clone(), progress.clone()).await.map_err(Stop::fatal)?;
    if let Some(Known { task: Ok(task), .. }) = known {
        check_folder(&plan.source, task, &setup).await?;
    }

    let memory = BreakerFile::new(state.map(Arc::as_ref), &scope.destination);
    match through_datasync(plan, known, &memory, subject, control).await {
        Direct::Nothing => {
            let exit_code = shutdown.exit_code().unwrap_or(ExitCode::Success);
            Ok(without_work(subject, Some(&setup), None, exit_code))
        }
        Direct::Refused(evidence) => Ok(without_work(subject, Some(&setup), Some(evidence), ExitCode::Fatal)),
        Direct::Sync { suspect, guard } => {
            setup.doubt(suspect, guard);
            if let Some(state) = state {
                setup.recall(state, &scope, true).await;
            }
            Ok(do_work(&setup, subject, Work::Sync(changes)).await)
        }
    }
}

/// What a command says of DataSync.
struct Plan {
    source: PathBuf,
    policy: Policy,
    audit: bool,
    limits: Limits,
    breaker: BreakerRules,
}

impl Plan {
    fn new(command: &RunCommand) -> Self {
        let args = &command.datasync;
        Self {
            source: command.source.clone(),
            policy: args.policy,
            audit: args.audit,
            limits: Limits {
                poll_interval: args.poll_interval,
                queue: args.queue_timeout,
                prepare: args.prepare_timeout,
                stall: args.stall_timeout,
                total: args.timeout,
                cancel: args.cancel_timeout,
            },
            breaker: BreakerRules { failures: args.breaker_failures, cooldown: args.breaker_cooldown },
        }
    }
}

/// Lets DataSync do it, where that is wanted, and says what is left to be done directly.
async fn through_datasync(
    plan: &Plan,
    known: Option<&Known>,
    memory: &BreakerFile<'_>,
    subject: &mut Subject,
    control: Control<'_>,
) -> Direct {
    let Control { shutdown, progress } = control;
    let Some(Known { datasync, task }) = known else {
        return Direct::Sync { suspect: None, guard: None };
    };
    let mut breaker = memory.load().await;
    let is_open = plan.policy == Policy::DatasyncFirst && breaker.is_open(plan.breaker, SystemTime::now());
    if is_open {
        let failures = breaker.failures();
        tracing::warn!(failures, "the last executions did not succeed: going directly until the cooldown is over");
    }
    if is_open || plan.policy == Policy::DirectOnly {
        let may_run = match task {
            Ok(task) => !matches!(datasync.running_execution(task.latest_execution.as_deref()).await, Ok(None)),
            Err(attempt) => attempt.may_still_run,
        };
        return Direct::Sync { suspect: None, guard: may_run.then(may_still_run) };
    }
    let attempt = match task {
        Ok(task) => attempt(datasync, task, plan.limits, shutdown, progress).await,
        Err(attempt) => attempt.clone(),
    };
    subject.datasync = Some((&attempt).into());
    subject.route = Route::Datasync;
    let kind = attempt.verdict.kind;
    if !matches!(kind, VerdictKind::Succeeded | VerdictKind::Interrupted) {
        tracing::warn!("DataSync: {}", attempt.verdict.evidence);
    }
    if kind == VerdictKind::Interrupted {
        return Direct::Nothing;
    }
    if matches!(kind, VerdictKind::Succeeded | VerdictKind::Partial) {
        breaker.succeeded();
    } else {
        breaker.failed(SystemTime::now());
    }
    memory.store(&breaker).await;
    let since = attempt.execution.as_ref().map(|followed| EpochNanos::from(followed.since));
    let suspect = |content| since.map(|since| Suspect { since, content });
    if kind == VerdictKind::Succeeded {
        let audit = Direct::Sync { suspect: suspect(false), guard: None };
        return if plan.audit { audit } else { Direct::Nothing };
    }
    if plan.policy == Policy::DatasyncOnly {
        return Direct::Refused(attempt.verdict.evidence);
    }
    subject.route = Route::Fallback;
    // What DataSync itself found wrong is compared by its content.
    let suspect = suspect(kind == VerdictKind::Partial);
    Direct::Sync { suspect, guard: attempt.may_still_run.then(may_still_run) }
}

fn may_still_run() -> Guard {
    let message =
        "a DataSync execution may still be running, and what it copies may not be known here yet: deletes are \
                   left to it, or to the next run"
            .to_owned();
    Guard { name: "datasync_may_still_run", message, is_normal: false }
}
