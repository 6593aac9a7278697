//! What the run asks and checks before DataSync works: the task, the options, the mounted folder.
//!
//! A run that cannot describe the task uses the description that the state remembers. Without one, it syncs directly only
//! with explicit filters: otherwise it would publish what the task excludes. In both cases it deletes nothing.

use std::path::Path;

use super::super::error::CommandError;
use super::difference::Differences;
use crate::cli::{Command, Deletes, Invocation, Policy, RunCommand};
use crate::config::SyncConfig;
use crate::datasync::attempt::Attempt;
use crate::datasync::attempt::verdict::{AttemptVerdict, VerdictKind};
use crate::datasync::defaults;
use crate::datasync::error::ServiceError;
use crate::datasync::mount::{MountEvidence, of_mount};
use crate::datasync::remembered::{RememberedTask, TaskFile};
use crate::datasync::{DataSync, Filters, Patience, Request, Task, TaskArn};
use crate::filter::Filter;
use crate::location::Location;
use crate::recorded_options::RecordedOptions;
use crate::session::state_at;
use crate::shutdown::Shutdown;
use crate::state::State;

/// What a run knows of its task.
pub(super) struct Known {
    pub(super) datasync: DataSync,
    /// A failed attempt if DataSync did not describe the task.
    pub(super) task: Result<Task, Attempt>,
    /// The earlier description that applies then, if there is one.
    remembered: Option<Task>,
}

impl Known {
    /// The task as DataSync described it now or, if it did not, earlier.
    pub(super) fn description(&self) -> Result<&Task, &Attempt> {
        match (&self.task, &self.remembered) {
            (Ok(task), _) | (Err(_), Some(task)) => Ok(task),
            (Err(attempt), None) => Err(attempt),
        }
    }

    /// The destination of the task, if this program cannot write to it: the run then only runs the task.
    pub(super) fn foreign_destination(&self) -> Option<Location> {
        let uri = self.description().ok()?.destination_uri.as_deref()?;
        let why = uri.parse::<Location>().err()?;
        Some(Location::foreign(uri, &why))
    }

    /// Stores the description for runs that cannot describe the task.
    pub(super) async fn remember(&self, state: Option<&State>) {
        if let (Ok(task), Some(state)) = (&self.task, state) {
            TaskFile::new(state, self.datasync.task_arn()).store(task).await;
        }
    }
}

/// The options that say which files the task copies.
const FILTERS: [&str; 3] = ["include", "exclude", "from_manifest"];

pub(super) fn run_command(invocation: &Invocation) -> Option<&RunCommand> {
    if let Command::Run(command) = &invocation.cli.command { Some(command) } else { None }
}

/// Describes the task, if the command line names one.
pub(super) async fn describe(invocation: &Invocation, shutdown: &Shutdown) -> Result<Option<Known>, CommandError> {
    let Some(command) = run_command(invocation) else {
        return Ok(None);
    };
    let Some(arn) = command.datasync.task_arn.clone() else {
        return if command.datasync.policy == Policy::DirectOnly && command.destination.is_some() {
            Ok(None)
        } else {
            Err(CommandError::usage(
                "name the DataSync task with --task-arn, or a destination and --policy direct-only",
            ))
        };
    };
    if command.datasync.no_filters && has_filters(&invocation.options) {
        return Err(CommandError::usage(
            "--no-filters contradicts --include, --exclude and --from-manifest: pass only one of them",
        ));
    }
    let limits = &command.how.limits;
    let patience = Patience::new(limits.outage_timeout, limits.retries);
    let datasync = DataSync::connect(arn, patience, shutdown.clone()).await?;
    let can_do_without = command.destination.is_some() || command.state.state.is_some();
    let describing = if can_do_without { datasync.clone() } else { datasync.patiently() };
    let missing = match describing.describe_task().await {
        Ok(task) => return Ok(Some(Known { datasync, task: Ok(task), remembered: None })),
        Err(missing) => missing,
    };
    let (mut attempt, other_kind) = (Attempt::failed(&missing.error), missing.other_kind);
    let earlier = remembered(invocation, command, datasync.task_arn(), shutdown).await?;
    let remembered = earlier.and_then(|earlier| earlier.completing(missing));
    if let Some(RememberedTask { since, .. }) = &remembered {
        let since = humantime::format_rfc3339_seconds(*since);
        tracing::warn!(%since, "DataSync did not describe the task: using the description that the state remembers");
        let evidence = &attempt.verdict.evidence;
        attempt.verdict.evidence = format!("{evidence}. Used the description that the state remembers since {since}");
    } else if let Some(other_kind) = other_kind {
        return Err(CommandError::fatal(format!("{}: started nothing", other_kind.what())));
    }
    Ok(Some(Known { datasync, task: Err(attempt), remembered: remembered.map(|earlier| earlier.task) }))
}

fn has_filters(options: &RecordedOptions) -> bool {
    FILTERS.iter().filter_map(|name| options.get(name)).any(|value| !value.is_empty())
}

/// Returns what the state remembers of the task.
async fn remembered(
    invocation: &Invocation,
    command: &RunCommand,
    arn: &TaskArn,
    shutdown: &Shutdown,
) -> Result<Option<RememberedTask>, CommandError> {
    let Some(place) = &command.state.state else {
        return Ok(None);
    };
    // The destination is not known yet. The state needs only the settings of the connection.
    let options = invocation.options.clone().without(&FILTERS);
    let source = command.source.display().to_string();
    let args = options.sync_args(&source, "s3://unknown").map_err(CommandError::usage)?;
    let config = SyncConfig::new(args, Vec::new()).map_err(CommandError::usage)?.in_region(arn.region());
    let state = state_at(place, &config, shutdown.clone()).await.map_err(CommandError::fatal)?;
    Ok(TaskFile::new(&state, arn).load().await)
}

/// Checks that a run that knows nothing of the task has a destination and, to sync directly, explicit filters.
fn require_options(invocation: &Invocation, attempt: &Attempt) -> Result<(), CommandError> {
    let Some(command) = run_command(invocation) else {
        return Ok(());
    };
    let needs_filters = command.datasync.policy != Policy::DatasyncOnly
        && !command.datasync.no_filters
        && !has_filters(&invocation.options);
    let mut missing = Vec::new();
    if command.destination.is_none() {
        missing.push("pass s3://bucket/prefix or set EFS2S3_DESTINATION");
    }
    if needs_filters {
        missing
            .push("pass the task's filters as --include, --exclude or --from-manifest, or --no-filters if it has none");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let AttemptVerdict { kind, evidence, error } = &attempt.verdict;
    let hint = if error.as_ref().is_some_and(ServiceError::is_of_credentials) {
        "renew the credentials, or "
    } else if *kind == VerdictKind::AccessDenied {
        "allow datasync:DescribeTask and datasync:DescribeLocation*, or "
    } else if *kind == VerdictKind::UnknownTask {
        "check --task-arn, or "
    } else {
        ""
    };
    Err(CommandError::fatal(format!(
        "{}. Without the description of the task, the run does not know what the task copies, and wrote nothing: \
         {hint}{}",
        evidence.trim_end_matches('.'),
        missing.join(", and ")
    )))
}

/// Returns the command with the task's settings as defaults, and what the run requires of an execution of a known task.
/// Warns about each option that differs from the task's.
///
/// # Errors
/// Returns an error if nothing is known of the task and the options do not say what to copy, if the task's settings cannot
/// be used, or if the options ask for what no execution of this task does.
pub(super) fn with_task_settings(
    invocation: Invocation,
    known: Option<&Known>,
) -> Result<(Invocation, Option<Request>), CommandError> {
    let Some(known) = known else {
        return Ok((invocation, None));
    };
    let task = match known.description() {
        Ok(task) => task,
        Err(attempt) => {
            require_options(&invocation, attempt)?;
            tracing::warn!("DataSync did not describe the task: using the options alone, and deleting nothing");
            return Ok((invocation, None));
        }
    };
    for option in &task.settings.unsupported {
        tracing::warn!(option, "the direct sync does not support this task option, and ignores it if DataSync fails");
    }
    let of_task = defaults::of_task(task);
    if run_command(&invocation).is_some_and(|command| command.datasync.no_filters) && has_filters(&of_task) {
        tracing::warn!("the task has filters: the run ignores --no-filters");
    }
    let unusable = |why: &str| {
        CommandError::fatal(format!("cannot use the settings of the task {}: {why}", known.datasync.task_arn()))
    };
    // The command line is valid without the task's settings.
    let invocation = invocation.with_defaults(of_task).map_err(|error| unusable(&one_line(&error.to_string())))?;
    let Some(command) = run_command(&invocation) else {
        return Ok((invocation, None));
    };
    let Filters { include, exclude } = task.settings.filters();
    let in_force =
        |filter: Option<String>, name| filter.filter(|filter| invocation.options.get(name).as_ref() == Some(filter));
    let (include, exclude) = (in_force(include, "include"), in_force(exclude, "exclude"));
    if let Err(error) = Filter::new(include.as_deref(), exclude.as_deref()) {
        return Err(unusable(&error.to_string()));
    }
    let differences = Differences::new(command, &invocation.options, !invocation.header_rules.is_empty(), task);
    if let Some(why) = differences.refusal(command.datasync.policy) {
        return Err(CommandError::usage(why));
    }
    differences.log();
    if command.datasync.deletes == Deletes::Datasync && task.settings.delete && command.how.delete.delete {
        tracing::warn!("--deletes datasync: DataSync deletes objects itself, and no guard checks its deletes");
    }
    Ok((invocation, Some(differences.into_request())))
}

/// The first line of an error of the command line.
fn one_line(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Checks that the source is the folder that the task copies, as far as the mount table shows it.
pub(super) fn check_folder(source: &Path, task: &Task) -> Result<(), CommandError> {
    match of_mount(source, &task.source) {
        MountEvidence::Same => Ok(()),
        MountEvidence::Hidden(why) => {
            tracing::warn!("cannot determine whether --source is the folder that the task copies: {why}");
            Ok(())
        }
        MountEvidence::Other(what) => Err(CommandError::fatal(format!(
            "--source is not the folder that the task copies: {what}. Started and wrote nothing; mount the task's folder"
        ))),
    }
}
