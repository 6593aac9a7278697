//! The commands: each sets up what it needs, does its work, and ends with a report and an exit code.

use std::fmt::Display;
use std::io::IsTerminal;
use std::path::Path;
use std::time::SystemTime;

use crate::cli::{
    ApplyCommand, Command, Compare, Invocation, PlanCommand, ReportCommand, StateArgs, SyncArgs, SyncCommand,
    VerifyCommand,
};
use crate::config::SyncConfig;
use crate::destination::headers::HeaderRule;
use crate::exit_code::ExitCode;
use crate::progress::Progress;
use crate::recorded_options::RecordedOptions;
use crate::report::{Ending, Report, ReportSink, Route, Subject};
use crate::shutdown::Shutdown;
use crate::sync::apply::PlanFile;
use crate::sync::changes::Changes;
use crate::sync::plan::{PlanHeader, PlanSink, plan};
use crate::sync::tally::{Seconds, Tally};
use crate::sync::verify::{VerifyOptions, verify};
use crate::sync::{Setup, sync};

mod merge;
mod ranges;
mod run;
mod state;

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

/// Where a command's results go, besides its report.
enum Work {
    Sync(Changes),
    Apply(Box<PlanFile>, Changes),
    Plan { sink: PlanSink, all: bool, exit_code: bool },
    Verify(VerifyOptions),
}

impl Work {
    /// Whether anything is written at the destination.
    const fn writes(&self) -> bool {
        matches!(self, Self::Sync(_) | Self::Apply(..))
    }
}

/// Runs a command to its end.
pub async fn run(invocation: Invocation, progress: &Progress) -> ExitCode {
    if matches!(invocation.cli.command, Command::Run(_)) {
        return Box::pin(run::run(invocation, progress)).await;
    }
    let Invocation { cli, header_rules, options, given, .. } = invocation;
    match cli.command {
        // Taken above: it reads its arguments twice.
        Command::Run(_) => ExitCode::Usage,
        Command::Sync(command) if command.dry_run => {
            let command = PlanCommand {
                output: None,
                all: false,
                json: false,
                exit_code: false,
                state: command.state.state,
                options: command.options,
            };
            Box::pin(run_plan(command, header_rules, options, progress)).await
        }
        Command::Sync(command) => Box::pin(run_sync(*command, header_rules, progress)).await,
        Command::Apply(command) => Box::pin(run_apply(*command, &given, progress)).await,
        Command::Verify(command) => Box::pin(run_verify(*command, header_rules, progress)).await,
        Command::Ranges(command) => ranges::run(*command, &options, progress).await,
        Command::Report(command) => match *command {
            ReportCommand::Merge(command) => merge::run(command, options).await,
        },
        Command::Plan(command) => Box::pin(run_plan(*command, header_rules, options, progress)).await,
        #[cfg(feature = "demo")]
        Command::Demo => crate::demo::run().await,
    }
}

async fn run_sync(command: SyncCommand, rules: Vec<HeaderRule>, progress: &Progress) -> ExitCode {
    let changes = match command.changes.as_deref().map(Changes::create).transpose() {
        Ok(changes) => changes.unwrap_or_default(),
        Err(error) => return cannot_write("changes file", command.changes.as_deref(), &error),
    };
    run_work("sync", command.options, &command.state, rules, Work::Sync(changes), progress).await
}

async fn run_plan(
    command: PlanCommand,
    rules: Vec<HeaderRule>,
    options: RecordedOptions,
    progress: &Progress,
) -> ExitCode {
    let sink = match &command.output {
        Some(path) => {
            let header = PlanHeader::new(
                &command.options.source,
                command.options.destination.to_string(),
                options,
                rules.clone(),
            );
            match PlanSink::create(path, &header) {
                Ok(sink) => sink,
                Err(error) => return cannot_write("plan", Some(path), &error),
            }
        }
        None if command.json || !std::io::stdout().is_terminal() => PlanSink::Json,
        None => PlanSink::Text,
    };
    let work = Work::Plan { sink, all: command.all, exit_code: command.exit_code };
    let state = StateArgs { state: command.state, ..StateArgs::default() };
    run_work("plan", command.options, &state, rules, work, progress).await
}

async fn run_apply(command: ApplyCommand, given: &RecordedOptions, progress: &Progress) -> ExitCode {
    let plan = match PlanFile::open(&command.plan) {
        Ok(plan) => plan,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
    };
    let PlanHeader { source, destination, options, headers, .. } = plan.header();
    let args = match options.clone().overridden_by(given).sync_args(source, destination) {
        Ok(args) => SyncArgs { report: command.report, ..args },
        Err(error) => {
            tracing::error!("the plan's options: {}", error.to_string().trim_end());
            return ExitCode::Usage;
        }
    };
    let changes = match command.changes.as_deref().map(Changes::create).transpose() {
        Ok(changes) => changes.unwrap_or_default(),
        Err(error) => return cannot_write("changes file", command.changes.as_deref(), &error),
    };
    let rules = headers.clone();
    run_work("apply", args, &command.state, rules, Work::Apply(Box::new(plan), changes), progress).await
}

async fn run_verify(command: VerifyCommand, rules: Vec<HeaderRule>, progress: &Progress) -> ExitCode {
    if !matches!(command.options.how.compare.compare, Compare::Auto | Compare::Checksum) {
        tracing::error!("verify compares the content of everything: leave --compare out");
        return ExitCode::Usage;
    }
    let json = command.json || !std::io::stdout().is_terminal();
    let work = Work::Verify(VerifyOptions { read: command.read, json });
    run_work("verify", command.options, &StateArgs::default(), rules, work, progress).await
}

/// What the commands have in common: report, source and destination are known to be usable before the work begins.
async fn run_work(
    command: &'static str,
    args: SyncArgs,
    state: &StateArgs,
    rules: Vec<HeaderRule>,
    work: Work,
    progress: &Progress,
) -> ExitCode {
    let mut subject = Subject {
        command,
        source: args.source.display().to_string(),
        destination: args.destination.to_string(),
        keys: None,
        started: SystemTime::now(),
        route: Route::Direct,
        datasync: None,
    };
    let (source, report_path) = (args.source.clone(), args.report.clone());
    let config = match SyncConfig::new(args, rules) {
        Ok(config) if matches!(work, Work::Verify(_)) => config.verifying(),
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
    };
    let report_sink = match report_path.as_deref().map(ReportSink::open).transpose() {
        Ok(sink) => sink,
        Err(error) => return cannot_write("report", report_path.as_deref(), &error),
    };
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            tracing::error!(%error, "signals cannot be listened for");
            return ExitCode::Fatal;
        }
    };
    let control = Control { shutdown: &shutdown, progress };
    let report = match Box::pin(under_lease(config, state, &source, &mut subject, work, control)).await {
        Ok(report) => report,
        Err(Stop { message, exit_code: ExitCode::Usage }) => {
            tracing::error!("{message}");
            return ExitCode::Usage;
        }
        Err(Stop { message, exit_code: ExitCode::Success }) => {
            tracing::info!("{message}");
            return ExitCode::Success;
        }
        Err(Stop { message, exit_code }) => without_work(&subject, None, Some(message), exit_code),
    };
    progress.finish();
    conclude(&report, report_sink, report_path.as_deref())
}

/// How a command is asked to stop, and where it shows how far it is.
#[derive(Clone, Copy)]
struct Control<'a> {
    shutdown: &'a Shutdown,
    progress: &'a Progress,
}

async fn under_lease(
    config: SyncConfig,
    args: &StateArgs,
    source: &Path,
    subject: &mut Subject,
    work: Work,
    control: Control<'_>,
) -> Result<Report, Stop> {
    let Control { shutdown, progress } = control;
    let config = config.settle(shutdown).await.map_err(Stop::fatal)?;
    if let Some(why) = config.idle() {
        // Every key is another run's.
        return Err(Stop { message: format!("nothing to do: {why}"), exit_code: ExitCode::Success });
    }
    let state = state::open(args.state.as_ref(), source, &config).await?;
    // A plan writes nothing, and so may be made beside a run.
    let to_lease = state.as_ref().filter(|_| work.writes());
    let lease = state::lease(to_lease, args, &config, shutdown).await?;
    let scope = config.scope().clone();
    subject.keys = Some(scope.keys.clone()).filter(|keys| !keys.is_all());
    let (show_kept, requests) = (matches!(work, Work::Plan { all: true, .. }), config.requests());
    let mut report = match config.open(show_kept, shutdown.clone(), progress.clone()).await {
        Ok(mut setup) => {
            if let Some(state) = &state {
                setup.recall(state, &scope, lease.is_some()).await;
            }
            if let Work::Apply(plan, _) = &work {
                setup.carry_out(plan.as_ref().clone()).await;
            }
            do_work(&setup, subject, work).await
        }
        Err(error) => without_work(subject, None, Some(error.to_string()), ExitCode::Fatal),
    };
    if let (Some(lease), Some(state)) = (lease, &state) {
        state::conclude(lease, state, &scope, Some(&mut report), &requests).await;
    }
    Ok(report)
}

async fn do_work(setup: &Setup, subject: &Subject, work: Work) -> Report {
    let (mut tally, mut seconds, mut differences) = (Tally::default(), Seconds::default(), false);
    let result = match work {
        Work::Sync(changes) | Work::Apply(_, changes) => sync(setup, changes, &mut tally, &mut seconds).await,
        Work::Plan { sink, all, exit_code } => {
            plan(setup, sink, all, &mut tally).await.map(|found| differences = found && exit_code)
        }
        Work::Verify(options) => verify(setup, options, &mut tally).await.map(|found| differences = found),
    };
    let exit_code = match (&result, setup.context.shutdown.exit_code()) {
        (Err(_), _) => ExitCode::Fatal,
        (Ok(()), Some(signal)) => signal,
        // A difference that was found is an answer, whatever could not be looked at.
        (Ok(()), None) if differences && subject.command == "verify" => ExitCode::Differences,
        (Ok(()), None) if tally.is_incomplete() => ExitCode::Incomplete,
        (Ok(()), None) if differences => ExitCode::Differences,
        (Ok(()), None) => ExitCode::Success,
    };
    let ending = Ending {
        tally,
        requests: Some(setup.context.destination.requests()),
        operations: Some(setup.context.source.operations()),
        seconds,
        error: result.err().map(|fatal| fatal.to_string()),
        exit_code,
    };
    Report::new(subject, ending)
}

/// The report of a run that came to no work of its own.
fn without_work(subject: &Subject, setup: Option<&Setup>, error: Option<String>, exit_code: ExitCode) -> Report {
    let (tally, seconds) = (Tally::default(), Seconds::default());
    let requests = setup.map(|setup| setup.context.destination.requests());
    let operations = setup.map(|setup| setup.context.source.operations());
    Report::new(subject, Ending { tally, requests, operations, seconds, error, exit_code })
}

/// Says how it ended, and writes the report.
fn conclude(report: &Report, sink: Option<ReportSink>, path: Option<&Path>) -> ExitCode {
    if let Some(error) = report.error() {
        tracing::error!("{error}");
    }
    tracing::info!("{}", report.summary());
    match sink.map(|sink| sink.write(report)) {
        Some(Err(error)) => cannot_write("report", path, &error),
        Some(Ok(())) | None => report.exit_code(),
    }
}

fn cannot_write(what: &str, path: Option<&Path>, error: &std::io::Error) -> ExitCode {
    let path = path.unwrap_or(Path::new("-")).display();
    tracing::error!("the {what} cannot be written to {path}: {error}");
    ExitCode::Fatal
}
