//! The commands: each sets up what it needs, does its work, and ends with a report and an exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::cli::{
    ApplyCommand, Command, Compare, Invocation, PlanCommand, ReportCommand, StateArgs, SyncArgs, SyncCommand,
    VerifyCommand,
};
use crate::config::SyncConfig;
use crate::destination::headers::HeaderRule;
use crate::exit_code::ExitCode;
use crate::progress::Progress;
use crate::recorded_options::RecordedOptions;
use crate::report::{CommandName, Report, Subject};
use crate::result_file::ResultFile;
use crate::session::{Access, Control, Opened, Session};
use crate::shutdown::Shutdown;
use crate::sync::changes::Changes;
use crate::sync::inspect::plan::PlanSink;
use crate::sync::inspect::verify::VerifyOptions;
use crate::sync::plan_file::{PlanFile, PlanHeader};
use crate::sync::setup::Doubt;

mod error;
mod merge;
mod ranges;
mod run;

use error::CommandError;

/// The work of a command, and where its results go besides the report.
enum Work {
    Sync(Changes),
    Apply(Box<PlanFile>, Changes),
    Plan { sink: PlanSink, all: bool, exit_code: bool },
    Verify(VerifyOptions),
}

impl Work {
    /// Whether the work writes to the destination.
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
        // Handled above: `run` parses its arguments twice.
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
    let changes = match open_changes(command.changes.as_deref()) {
        Ok(changes) => changes,
        Err(error) => return error.log(),
    };
    run_work(CommandName::Sync, command.options, &command.state, rules, Work::Sync(changes), progress).await
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
        None => PlanSink::stdout(!command.json && std::io::stdout().is_terminal()),
    };
    let work = Work::Plan { sink, all: command.all, exit_code: command.exit_code };
    let state = StateArgs { state: command.state, ..StateArgs::default() };
    run_work(CommandName::Plan, command.options, &state, rules, work, progress).await
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
    let changes = match open_changes(command.changes.as_deref()) {
        Ok(changes) => changes,
        Err(error) => return error.log(),
    };
    let rules = headers.clone();
    run_work(CommandName::Apply, args, &command.state, rules, Work::Apply(Box::new(plan), changes), progress).await
}

async fn run_verify(command: VerifyCommand, rules: Vec<HeaderRule>, progress: &Progress) -> ExitCode {
    if !matches!(command.options.how.compare.compare, Compare::Auto | Compare::Checksum) {
        tracing::error!("verify compares the content of everything: remove --compare");
        return ExitCode::Usage;
    }
    let json = command.json || !std::io::stdout().is_terminal();
    let work = Work::Verify(VerifyOptions { read: command.read, json });
    run_work(CommandName::Verify, command.options, &StateArgs::default(), rules, work, progress).await
}

/// What these commands share: the report can be written, and the options are valid, before the work starts.
async fn run_work(
    command: CommandName,
    args: SyncArgs,
    state: &StateArgs,
    rules: Vec<HeaderRule>,
    work: Work,
    progress: &Progress,
) -> ExitCode {
    let subject = Subject::new(command, &args.source, &args.destination.to_string());
    let report = args.report.clone();
    let config = match SyncConfig::new(args, rules) {
        Ok(config) if matches!(work, Work::Verify(_)) => config.verifying(),
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
    };
    with_report(subject, report, progress, async |subject, control| {
        let access = if work.writes() { Access::Write } else { Access::Read };
        let session = match Box::pin(Session::open(config, state, access, subject.clone(), control)).await? {
            Opened::Ready(session) => session,
            Opened::NothingToDo(why) => return Ok(Ended::NothingToDo(why)),
            Opened::Failed(report) => return Ok(Ended::Report(report)),
        };
        Ok(Ended::Report(Box::new(match work {
            Work::Sync(changes) => session.sync(changes, Doubt::default()).await,
            Work::Apply(plan, changes) => session.apply(*plan, changes).await,
            Work::Plan { sink, all, exit_code } => session.plan(sink, all, exit_code).await,
            Work::Verify(options) => session.verify(options).await,
        })))
    })
    .await
}

/// How the work of a command ended.
enum Ended {
    Report(Box<Report>),
    NothingToDo(String),
}

/// Does work that can be stopped by a signal, and writes its report.
async fn with_report(
    mut subject: Subject,
    path: Option<PathBuf>,
    progress: &Progress,
    work: impl AsyncFnOnce(&mut Subject, Control) -> Result<Ended, CommandError>,
) -> ExitCode {
    let file = match path.as_deref().map(ResultFile::create_or_stdout).transpose() {
        Ok(file) => file,
        Err(error) => return cannot_write("report", path.as_deref(), &error),
    };
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            tracing::error!(%error, "cannot handle signals");
            return ExitCode::Fatal;
        }
    };
    let control = Control { shutdown, progress: progress.clone() };
    let report = match Box::pin(work(&mut subject, control)).await {
        Ok(Ended::Report(report)) => *report,
        Ok(Ended::NothingToDo(why)) => {
            tracing::info!("nothing to do: {why}");
            return ExitCode::Success;
        }
        // A usage error needs no report: the run has done nothing.
        Err(error) if error.exit_code() == ExitCode::Usage => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
        Err(error) => Report::without_work(&subject, Some(error.to_string()), error.exit_code()),
    };
    progress.finish();
    conclude(&report, file, path.as_deref())
}

/// Logs how the run ended, and writes the report.
fn conclude(report: &Report, file: Option<ResultFile>, path: Option<&Path>) -> ExitCode {
    if let Some(error) = report.error() {
        tracing::error!("{error}");
    }
    tracing::info!("{}", report.summary());
    match file.map(|file| report.write_to(file)) {
        Some(Err(error)) => cannot_write("report", path, &error),
        Some(Ok(())) | None => report.exit_code(),
    }
}

/// Creates the changes file, if the command line names one.
fn open_changes(path: Option<&Path>) -> Result<Changes, CommandError> {
    let Some(path) = path else {
        return Ok(Changes::default());
    };
    let place = format!("cannot write the changes file to {}", path.display());
    Changes::create(path).map_err(|error| CommandError::fatal(error).at(place))
}

fn cannot_write(what: &str, path: Option<&Path>, error: &std::io::Error) -> ExitCode {
    let path = path.unwrap_or(Path::new("-")).display();
    tracing::error!("cannot write the {what} to {path}: {error}");
    ExitCode::Fatal
}
