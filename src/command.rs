//! The commands: each sets up what it needs, does its work, and ends with a report and an exit code.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use crate::cli::{
    ApplyCommand, Command, Compare, Invocation, PlanCommand, ReportCommand, StateArgs, SyncArgs, SyncCommand,
    VerifyCommand,
};
use crate::config::SyncConfig;
use crate::destination::headers::HeaderRule;
use crate::exit_code::ExitCode;
use crate::location::LocationError;
use crate::progress::Progress;
use crate::recorded_options::RecordedOptions;
use crate::report::{CommandName, Report, Subject};
use crate::result_file::ResultFile;
use crate::result_place::{ResultPlace, ResultPlaces};
use crate::session::{Access, Control, Opened, Session};
use crate::shutdown::Shutdown;
use crate::sync::changes::Changes;
use crate::sync::inspect::plan::PlanSink;
use crate::sync::inspect::verify::VerifyOptions;
use crate::sync::plan_file::{PlanFile, PlanHeader};
use crate::sync::setup::Doubt;

mod error;
mod merge;
mod places;
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
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            tracing::error!(%error, "cannot handle signals");
            return ExitCode::Fatal;
        }
    };
    let control = Control { shutdown, progress: progress.clone() };
    if matches!(invocation.cli.command, Command::Run(_)) {
        return Box::pin(run::run(invocation, control)).await;
    }
    let Invocation { cli, header_rules, options, given, .. } = invocation;
    let inputs = Inputs { config: cli.global.config, header_rules, options };
    let done = match cli.command {
        // Handled above: `run` parses its arguments twice.
        Command::Run(_) => Ok(ExitCode::Usage),
        Command::Sync(command) if command.dry_run => {
            let command = PlanCommand {
                output: None,
                all: false,
                json: false,
                exit_code: false,
                state: command.state.state,
                options: command.options,
            };
            Box::pin(run_plan(command, inputs, control)).await
        }
        Command::Sync(command) => Box::pin(run_sync(*command, inputs, control)).await,
        Command::Apply(command) => Box::pin(run_apply(*command, &given, inputs, control)).await,
        Command::Verify(command) => Box::pin(run_verify(*command, inputs, control)).await,
        Command::Ranges(command) => Box::pin(ranges::run(*command, inputs, control)).await,
        Command::Report(command) => match *command {
            ReportCommand::Merge(command) => Box::pin(merge::run(command, inputs, control)).await,
        },
        Command::Plan(command) => Box::pin(run_plan(*command, inputs, control)).await,
        #[cfg(feature = "demo")]
        Command::Demo => tokio::select! {
            code = crate::demo::run() => Ok(code),
            () = control.shutdown.requested() => Ok(control.exit_code_of_stop()),
        },
    };
    done.unwrap_or_else(|error| {
        progress.finish();
        error.log()
    })
}

/// What a command is given besides its own arguments.
struct Inputs {
    /// The config file.
    config: Option<PathBuf>,
    header_rules: Vec<HeaderRule>,
    options: RecordedOptions,
}

async fn run_sync(command: SyncCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    let mut places = places::of_sync(&command.options, inputs.config.as_deref());
    let changes = places::changes(&mut places, command.changes.as_deref())?;
    let work = Work::Sync(changes);
    run_work(CommandName::Sync, command.options, &command.state, inputs, places, work, control).await
}

async fn run_plan(command: PlanCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    let mut places = places::of_sync(&command.options, inputs.config.as_deref());
    let sink = match &command.output {
        Some(path) => {
            let place = places.result("--output", path)?;
            let options = match &command.state {
                // `apply` may start in another folder.
                Some(state) => inputs.options.clone().with("state", state.absolute().to_string()),
                None => inputs.options.clone(),
            };
            let destination = command.options.destination.to_string();
            let header = PlanHeader::new(&command.options.source, destination, options, inputs.header_rules.clone());
            PlanSink::create(&place, &header).map_err(|error| cannot_write("plan", &place, error))?
        }
        None => PlanSink::stdout(!command.json && std::io::stdout().is_terminal()),
    };
    let work = Work::Plan { sink, all: command.all, exit_code: command.exit_code };
    let state = StateArgs { state: command.state, ..StateArgs::default() };
    run_work(CommandName::Plan, command.options, &state, inputs, places, work, control).await
}

async fn run_apply(
    command: ApplyCommand,
    given: &RecordedOptions,
    inputs: Inputs,
    control: Control,
) -> Result<ExitCode, CommandError> {
    let plan = PlanFile::open(&command.plan).map_err(CommandError::usage)?;
    let PlanHeader { source, destination, options, headers, .. } = plan.header();
    // A key of the plan belongs to the encryption of the plan.
    let of_plan = if given.values("sse").is_some() { &["sse_kms_key_id"][..] } else { &[] };
    let options = options.clone().without(of_plan).overridden_by(given);
    let state = state_of_plan(&options, command.state)?;
    let args = match options.sync_args(source, destination) {
        Ok(args) => SyncArgs { report: command.report, ..args },
        Err(error) => {
            let error = error.to_string();
            return Err(CommandError::usage(error.trim_end()).at("the plan's options"));
        }
    };
    if let (false, Some(line)) = (args.how.delete.delete, plan.first_delete()) {
        return Err(CommandError::usage(format!(
            "line {line} of {} deletes an object, and the plan was made without --delete: make a plan with --delete",
            command.plan.display()
        )));
    }
    let mut places = places::of_sync(&args, inputs.config.as_deref());
    places.reads("the plan", &command.plan);
    let changes = places::changes(&mut places, command.changes.as_deref())?;
    let inputs = Inputs { header_rules: headers.clone(), options, config: inputs.config };
    let work = Work::Apply(Box::new(plan), changes);
    run_work(CommandName::Apply, args, &state, inputs, places, work, control).await
}

/// Returns the state that the command line names, or else the one that the plan was made with: without it, the next run
/// would not know what `apply` wrote, and `apply` not which mounts are missing.
fn state_of_plan(options: &RecordedOptions, args: StateArgs) -> Result<StateArgs, CommandError> {
    let recorded = options.get("state").map(|place| place.parse()).transpose();
    let recorded = recorded.map_err(|error: LocationError| CommandError::usage(error).at("the plan's --state"))?;
    Ok(StateArgs { state: recorded.or(args.state), ..args })
}

async fn run_verify(command: VerifyCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    if !matches!(command.options.how.compare.compare, Compare::Auto | Compare::Checksum) {
        return Err(CommandError::usage("verify compares the content of everything: remove --compare"));
    }
    let places = places::of_sync(&command.options, inputs.config.as_deref());
    let json = command.json || !std::io::stdout().is_terminal();
    let work = Work::Verify(VerifyOptions { read: command.read, json });
    let state = StateArgs { state: command.state, ..StateArgs::default() };
    run_work(CommandName::Verify, command.options, &state, inputs, places, work, control).await
}

/// What these commands share: the report can be written, and the options are valid, before the work starts.
async fn run_work(
    command: CommandName,
    args: SyncArgs,
    state: &StateArgs,
    inputs: Inputs,
    mut places: ResultPlaces,
    work: Work,
    control: Control,
) -> Result<ExitCode, CommandError> {
    let mut subject = Subject::new(command, &args.source, &args.destination.to_string());
    subject.record_options(&inputs.options, inputs.header_rules.clone());
    let report = places::report(&mut places, args.report.as_deref())?;
    let config = config_of(args, inputs.header_rules, &control).await?;
    let config = if matches!(work, Work::Verify(_)) { config.verifying() } else { config };
    with_report(subject, report, control, async |subject, control| {
        let access = if work.writes() { Access::Write } else { Access::Read };
        let session = match Box::pin(Session::open(config, state, access, subject.clone(), control)).await? {
            Opened::Ready(session) => session,
            Opened::NothingToDo(why) => return Ok(Ended::NothingToDo(why)),
            Opened::Failed(report) => return Ok(Ended::Report(report)),
        };
        Ok(Ended::Report(Box::new(match work {
            Work::Sync(changes) => Box::pin(session.sync(changes, Doubt::default())).await,
            Work::Apply(plan, changes) => Box::pin(session.apply(*plan, changes)).await,
            Work::Plan { sink, all, exit_code } => Box::pin(session.plan(sink, all, exit_code)).await,
            Work::Verify(options) => Box::pin(session.verify(options)).await,
        })))
    })
    .await
}

/// Reads the options, and the files that they name. Such a file may be a pipe, so a stop request does not wait for it.
async fn config_of(
    args: SyncArgs,
    header_rules: Vec<HeaderRule>,
    control: &Control,
) -> Result<SyncConfig, CommandError> {
    let reading = tokio::task::spawn_blocking(|| SyncConfig::new(args, header_rules));
    tokio::select! {
        read = reading => {
            read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(CommandError::usage)
        }
        () = control.shutdown.requested() => Err(CommandError::stopped(control.exit_code_of_stop())),
    }
}

/// How the work of a command ended.
enum Ended {
    Report(Box<Report>),
    NothingToDo(String),
}

/// Does work that can be stopped by a signal, and writes its report.
///
/// # Errors
/// Returns an error if the command cannot be carried out and needs no report, or if the report cannot be written.
async fn with_report(
    mut subject: Subject,
    place: Option<ResultPlace>,
    control: Control,
    work: impl AsyncFnOnce(&mut Subject, Control) -> Result<Ended, CommandError>,
) -> Result<ExitCode, CommandError> {
    let file = match &place {
        Some(place) => Some((place, ResultFile::create(place).map_err(|error| cannot_write("report", place, error))?)),
        None => None,
    };
    let report = match (Box::pin(work(&mut subject, control.clone())).await, control.shutdown.exit_code()) {
        (Ok(Ended::Report(report)), _) => *report,
        (Ok(Ended::NothingToDo(why)), _) => {
            tracing::info!("nothing to do: {why}");
            return Ok(ExitCode::Success);
        }
        // A usage error needs no report: the run has done nothing.
        (Err(error), _) if error.exit_code() == ExitCode::Usage => return Err(error),
        // If the run lost its lease, the error says how.
        (Err(error), None | Some(ExitCode::LeaseHeld)) => {
            Report::without_work(&subject, Some(error.to_string()), error.exit_code())
        }
        // What a signal interrupts fails because of it.
        (Err(_), Some(stopped)) => Report::without_work(&subject, None, stopped),
    };
    control.progress.finish();
    conclude(&report, file, control).await
}

/// Logs how the run ended, and writes the report.
async fn conclude(
    report: &Report,
    file: Option<(&ResultPlace, ResultFile)>,
    control: Control,
) -> Result<ExitCode, CommandError> {
    if let Some(error) = report.error() {
        tracing::error!("{error}");
    }
    tracing::info!("{}", report.summary());
    if let Some((place, file)) = file {
        let at_place =
            |error: CommandError| error.at(format!("cannot write the report to {}", place.given().display()));
        write_result(file, report.json(), &control).await.map_err(at_place)?;
    }
    Ok(report.exit_code())
}

/// Writes a result on a thread, so that a stop request need not wait for a reader that does not read.
async fn write_result(mut file: ResultFile, text: String, control: &Control) -> Result<(), CommandError> {
    let progress = control.progress.clone();
    let writing = tokio::task::spawn_blocking(move || {
        progress.around_results(|| file.write_all(text.as_bytes()).and_then(|()| file.publish()))
    });
    tokio::select! {
        biased;
        written = writing => {
            let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            written.map_err(CommandError::fatal)
        }
        () = control.shutdown.grace_is_over() => Err(CommandError::not_read(control.exit_code_of_stop())),
    }
}

fn cannot_write(what: &str, place: &ResultPlace, error: std::io::Error) -> CommandError {
    CommandError::fatal(error).at(format!("cannot write the {what} to {}", place.given().display()))
}
