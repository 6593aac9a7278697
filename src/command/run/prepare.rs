//! What is asked and checked before DataSync is set to work: the task, the options, the mounted folder.

use std::path::Path;

use super::super::Stop;
use super::key_sample::none_is_in_source;
use crate::cli::{Command, Invocation, Policy, RangeArgs, RunCommand, SyncArgs};
use crate::config::SyncConfig;
use crate::datasync::attempt::Attempt;
use crate::datasync::defaults;
use crate::datasync::error::ServiceErrorKind;
use crate::datasync::mount::{MountEvidence, of_mount};
use crate::datasync::{DataSync, Task, TaskSource};
use crate::destination::headers::HeaderRule;
use crate::sync::Setup;

/// What a run knows of its task.
pub(super) struct Known {
    pub(super) datasync: DataSync,
    /// A failed attempt if DataSync did not describe the task.
    pub(super) task: Result<Task, Attempt>,
}

pub(super) fn run_command(invocation: &Invocation) -> Option<&RunCommand> {
    if let Command::Run(command) = &invocation.cli.command { Some(command) } else { None }
}

/// Asks DataSync for the task, if one is named.
pub(super) async fn describe(invocation: &Invocation) -> Result<Option<Known>, Stop> {
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
        Ok(task) if task.source == TaskSource::Other => {
            return Err(Stop::fatal("the task's source is no EFS location: nothing was started"));
        }
        Ok(task) if task.destination_uri.is_none() => {
            return Err(Stop::fatal("the task's destination is no S3 location: nothing was started"));
        }
        Ok(task) => Ok(task),
        Err(error) => {
            let attempt = Attempt::failed(&error);
            if command.destination.is_none() {
                let hint = match error.kind {
                    ServiceErrorKind::Denied => "allow datasync:DescribeTask and datasync:DescribeLocation*, or ",
                    ServiceErrorKind::NotFound => "check --task-arn, or ",
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
pub(super) fn with_task_settings(invocation: Invocation, known: Option<&Known>) -> Result<Invocation, Stop> {
    let Some(Known { task: Ok(task), .. }) = known else {
        return Ok(invocation);
    };
    for option in &task.settings.unsupported {
        tracing::warn!(option, "the direct sync does not do this, should it have to take over");
    }
    let of_task = defaults::of_task(task);
    let invocation = invocation.with_defaults(of_task.clone()).map_err(Stop::usage)?;
    for (option, given, task) in defaults::differences(&of_task, &invocation.options) {
        let task = task.as_deref().unwrap_or("unset");
        tracing::warn!(option, given, task, "this option differs from the task's: the direct sync goes by it");
    }
    Ok(invocation)
}

/// What the direct sync is to do.
pub(super) fn configure(
    command: RunCommand,
    rules: Vec<HeaderRule>,
    known: Option<&Known>,
) -> Result<SyncConfig, Stop> {
    let Some(destination) = command.destination else {
        return Err(Stop::fatal("nobody knows where to copy to: name the destination"));
    };
    let range = RangeArgs::default();
    let args = SyncArgs { source: command.source, destination, report: command.report, range, how: command.how };
    let config = SyncConfig::new(args, rules).map_err(Stop::usage)?;
    Ok(match known {
        Some(known) => config.in_region(known.datasync.task_arn().region()),
        None => config,
    })
}

/// Refuses another folder than the task's, as far as that can be known; what cannot be known is said.
pub(super) async fn check_folder(source: &Path, task: &Task, setup: &Setup) -> Result<(), Stop> {
    match of_mount(source, &task.source) {
        MountEvidence::Same => {}
        MountEvidence::Hidden(why) => {
            tracing::warn!("whether --source is the folder that the task copies cannot be told: {why}");
        }
        MountEvidence::Other(what) => {
            return Err(Stop::fatal(format!(
                "--source is not the folder that the task copies: {what}. Nothing was started or written; mount the task's folder"
            )));
        }
    }
    match none_is_in_source(setup).await {
        Ok(None) => Ok(()),
        Ok(Some(keys)) => Err(Stop::fatal(format!(
            "none of {keys} keys of the destination is in the source: it is another tree than the one that was copied there. \
             Nothing was started or written; mount the right folder, or sync by hand if this is meant"
        ))),
        // DataSync may be able to do what this program cannot.
        Err(error) => {
            tracing::warn!("the destination cannot be looked at: {}", setup.context.destination.explain(&error));
            Ok(())
        }
    }
}
