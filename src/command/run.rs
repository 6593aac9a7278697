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

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Work, cannot_write, conclude, do_work, without_work};
use crate::cli::file::Invocation;
use crate::cli::{Command, Policy, RunCommand, SyncArgs};
use crate::config::SyncConfig;
use crate::datasync::error::ServiceErrorKind;
use crate::datasync::{DataSync, SourceOfTask, Task};
use crate::destination::headers::HeaderRule;
use crate::exit_code::ExitCode;
use crate::progress::Progress;
use crate::report::{Report, ReportSink, Route, Subject};
use crate::run::breaker::{BreakerMemory, BreakerRules};
use crate::run::evidence::{MountEvidence, none_of_the_keys_is_there, of_mount};
use crate::run::verdict::VerdictKind;
use crate::run::{Attempt, Limits, attempt, derive, running_execution};
use crate::shutdown::Shutdown;
use crate::source::entry::EpochNanos;
use crate::state::{State, StateLocation};
use crate::sync::changes::Changes;
use crate::sync::decide::Suspect;
use crate::sync::tally::Guard;

/// Why a run cannot go on, and with which code it ends.
struct Stop {
    message: String,
    exit_code: ExitCode,
}

impl Stop {
    fn fatal(message: impl Display) -> Self {
        Self { message: message.to_string(), exit_code: ExitCode::Fatal }
    }

    fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), exit_code: ExitCode::Usage }
    }
}

/// What a run knows of its task.
struct Known {
    datasync: DataSync,
    /// None where DataSync did not tell; the attempt says why.
    task: Result<Task, Attempt>,
}

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
    let report = match Box::pin(go(invocation, &mut subject, changes, &shutdown, progress)).await {
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

fn run_command(invocation: &Invocation) -> Option<&RunCommand> {
    if let Command::Run(command) = &invocation.cli.command { Some(command) } else { None }
}

async fn go(
    invocation: Invocation,
    subject: &mut Subject,
    changes: Changes,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Result<Report, Stop> {
    let known = tokio::select! {
        known = describe(&invocation) => known?,
        () = shutdown.requested() => {
            let exit_code = shutdown.exit_code().unwrap_or(ExitCode::Interrupted);
            return Ok(without_work(subject, None, None, exit_code));
        }
    };
    let invocation = with_task_settings(invocation, known.as_ref())?;
    let header_rules = invocation.header_rules.clone();
    let Command::Run(command) = invocation.cli.command else {
        return Err(Stop::usage("no run command"));
    };
    let plan = Plan::new(&command);
    let (config, state) = configure(*command, header_rules, known.as_ref(), shutdown).await?;
    subject.destination = config.destination().to_string();

    // Source, destination and settings are looked at before DataSync is set to work on them.
    let destination = config.destination().clone();
    let mut setup = config.open(false, shutdown.clone(), progress.clone()).await.map_err(Stop::fatal)?;
    if let Some(Known { task: Ok(task), .. }) = &known {
        check_mount(&plan.source, task)?;
        match none_of_the_keys_is_there(&setup).await {
            Ok(None) => {}
            Ok(Some(keys)) => return Err(Stop::fatal(another_tree(keys, subject))),
            Err(error) => return Err(Stop::fatal(setup.context.destination.explain(&error))),
        }
    }

    let memory = BreakerMemory::new(state.as_ref(), &destination);
    match through_datasync(&plan, known.as_ref(), &memory, subject, shutdown, progress).await {
        Direct::Nothing => {
            let exit_code = shutdown.exit_code().unwrap_or(ExitCode::Success);
            Ok(without_work(subject, Some(&setup), None, exit_code))
        }
        Direct::Refused(evidence) => Ok(without_work(subject, Some(&setup), Some(evidence), ExitCode::Fatal)),
        Direct::Sync { suspect, guard } => {
            setup.doubt(suspect, guard);
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

/// Asks DataSync for the task, if one is named.
async fn describe(invocation: &Invocation) -> Result<Option<Known>, Stop> {
    let Some(command) = run_command(invocation) else {
        return Ok(None);
    };
    let Some(arn) = command.datasync.task_arn.clone() else {
        return if command.datasync.policy == Policy::DirectOnly && command.destination.is_some() {
            Ok(None)
        } else {
            Err(Stop::usage("name the DataSync task with --task-arn, or a destination and --policy direct-only"))
        };
    };
    let datasync = DataSync::connect(arn).await.map_err(Stop::fatal)?;
    let task = match datasync.describe_task().await {
        Ok(task) if task.source == SourceOfTask::Other => {
            return Err(Stop::fatal("the task's source is no EFS location: nothing was started"));
        }
        Ok(task) if task.destination_uri.is_none() => {
            return Err(Stop::fatal("the task's destination is no S3 location: nothing was started"));
        }
        Ok(task) => Ok(task),
        Err(error) => {
            let attempt = Attempt::in_vain(&error);
            if command.destination.is_none() {
                let hint = match error.kind {
                    ServiceErrorKind::Denied => "allow datasync:DescribeTask and datasync:DescribeLocation*, or ",
                    ServiceErrorKind::Unknown => "check --task-arn, or ",
                    ServiceErrorKind::Refused
                    | ServiceErrorKind::Throttled
                    | ServiceErrorKind::Unavailable
                    | ServiceErrorKind::Unreachable => "",
                };
                let evidence = attempt.verdict.evidence;
                return Err(Stop::fatal(format!(
                    "{evidence}. Without the task nobody knows where to copy to: {hint}name the destination (EFS2S3_DESTINATION), with the task's filters and --delete as options"
                )));
            }
            Err(attempt)
        }
    };
    Ok(Some(Known { datasync, task }))
}

/// The command with the task's settings as defaults; what differs from them is said.
fn with_task_settings(invocation: Invocation, known: Option<&Known>) -> Result<Invocation, Stop> {
    let Some(Known { task: Ok(task), .. }) = known else {
        return Ok(invocation);
    };
    for option in &task.settings.unsupported {
        tracing::warn!(option, "the direct sync does not do this, should it have to take over");
    }
    let defaults = derive::defaults(task);
    let invocation = invocation.with_defaults(defaults.clone()).map_err(Stop::usage)?;
    for (option, given, task) in derive::differences(&defaults, &invocation.options) {
        let task = task.as_deref().unwrap_or("unset");
        tracing::warn!(option, given, task, "this option differs from the task's: the direct sync goes by it");
    }
    Ok(invocation)
}

async fn configure(
    command: RunCommand,
    rules: Vec<HeaderRule>,
    known: Option<&Known>,
    shutdown: &Shutdown,
) -> Result<(SyncConfig, Option<State>), Stop> {
    let Some(destination) = command.destination else {
        return Err(Stop::fatal("nobody knows where to copy to: name the destination"));
    };
    let place = command.datasync.state;
    if place.as_ref().is_some_and(|place| place.lies_in(&command.source, &destination)) {
        return Err(Stop::usage(
            "--state lies in the source or the destination, where it would be copied or deleted: name another place",
        ));
    }
    let args = SyncArgs { source: command.source, destination, report: command.report, how: command.how };
    let config = SyncConfig::new(args, rules).map_err(Stop::usage)?;
    let config = match known {
        Some(known) => config.in_region(known.datasync.task_arn().region()),
        None => config,
    };
    let state = match place {
        None => None,
        Some(StateLocation::Folder(folder)) => Some(State::Folder(folder)),
        Some(StateLocation::Prefix(location)) => {
            let home = config.connect_to(&location, shutdown.clone()).await.map_err(Stop::fatal)?;
            Some(State::Prefix(Box::new(home)))
        }
    };
    Ok((config, state))
}

fn check_mount(source: &Path, task: &Task) -> Result<(), Stop> {
    match of_mount(source, &task.source) {
        MountEvidence::Same => Ok(()),
        MountEvidence::Hidden(why) => {
            tracing::warn!("whether --source is the folder that the task copies cannot be told: {why}");
            Ok(())
        }
        MountEvidence::Other(what) => Err(Stop::fatal(format!(
            "--source is not the folder that the task copies: {what}. Nothing was started or written; mount the task's folder"
        ))),
    }
}

fn another_tree(keys: usize, subject: &Subject) -> String {
    format!(
        "none of {keys} keys of {} is in the source: it is another tree than the one that was copied there. Nothing was \
         started or written; mount the right folder, or sync by hand if this is meant",
        subject.destination
    )
}

/// Lets DataSync do it, where that is wanted, and says what is left to be done directly.
async fn through_datasync(
    plan: &Plan,
    known: Option<&Known>,
    memory: &BreakerMemory<'_>,
    subject: &mut Subject,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Direct {
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
            Ok(task) => !matches!(running_execution(datasync, task.latest_execution.as_deref()).await, Ok(None)),
            Err(attempt) => attempt.may_still_run,
        };
        return Direct::Sync { suspect: None, guard: may_run.then(may_still_run) };
    }
    let attempt = match task {
        Ok(task) => attempt(datasync, task, plan.limits, shutdown, progress).await,
        Err(attempt) => attempt.clone(),
    };
    subject.datasync = Some(attempt.part());
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
    let since = attempt.execution.as_ref().map(|followed| epoch(followed.since));
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

fn epoch(time: SystemTime) -> EpochNanos {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    EpochNanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX))
}
