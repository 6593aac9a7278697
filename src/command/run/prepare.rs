//! What the run asks and checks before DataSync works: the task, the options, the mounted folder.

use std::path::Path;

use super::super::error::CommandError;
use super::key_sample::none_is_in_source;
use crate::cli::{Command, Invocation, Policy, RunCommand};
use crate::datasync::attempt::Attempt;
use crate::datasync::defaults;
use crate::datasync::error::ServiceErrorKind;
use crate::datasync::mount::{MountEvidence, of_mount};
use crate::datasync::{DataSync, Task, TaskSource};
use crate::sync::context::Context;

/// What a run knows of its task.
pub(super) struct Known {
    pub(super) datasync: DataSync,
    /// A failed attempt if DataSync did not describe the task.
    pub(super) task: Result<Task, Attempt>,
}

pub(super) fn run_command(invocation: &Invocation) -> Option<&RunCommand> {
    if let Command::Run(command) = &invocation.cli.command { Some(command) } else { None }
}

/// Describes the task, if the command line names one.
pub(super) async fn describe(invocation: &Invocation) -> Result<Option<Known>, CommandError> {
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
    let datasync = DataSync::connect(arn).await.map_err(CommandError::fatal)?;
    let task = match datasync.describe_task().await {
        Ok(task) if task.source == TaskSource::Other => {
            return Err(CommandError::fatal("the task's source is not an EFS location: started nothing"));
        }
        Ok(task) if task.destination_uri.is_none() => {
            return Err(CommandError::fatal("the task's destination is not an S3 location: started nothing"));
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
                return Err(CommandError::fatal(format!(
                    "{evidence}. Without the task no destination is configured: {hint}pass s3://bucket/prefix or set EFS2S3_DESTINATION, with the task's filters and --delete as options"
                )));
            }
            Err(attempt)
        }
    };
    Ok(Some(Known { datasync, task }))
}

/// Returns the command with the task's settings as defaults, and warns about each option that differs from them.
pub(super) fn with_task_settings(invocation: Invocation, known: Option<&Known>) -> Result<Invocation, CommandError> {
    let Some(Known { task: Ok(task), .. }) = known else {
        return Ok(invocation);
    };
    for option in &task.settings.unsupported {
        tracing::warn!(option, "the direct sync does not support this task option, and ignores it if DataSync fails");
    }
    let of_task = defaults::of_task(task);
    let invocation = invocation.with_defaults(of_task.clone()).map_err(CommandError::usage)?;
    for (option, given, task) in defaults::differences(&of_task, &invocation.options) {
        let task = task.as_deref().unwrap_or("unset");
        tracing::warn!(option, given, task, "this option differs from the task's: the direct sync uses this option");
    }
    Ok(invocation)
}

/// Checks that the source is the folder that the task copies, as far as the mount table and the keys can show it.
pub(super) async fn check_folder(source: &Path, task: &Task, context: &Context) -> Result<(), CommandError> {
    match of_mount(source, &task.source) {
        MountEvidence::Same => {}
        MountEvidence::Hidden(why) => {
            tracing::warn!("cannot determine whether --source is the folder that the task copies: {why}");
        }
        MountEvidence::Other(what) => {
            return Err(CommandError::fatal(format!(
                "--source is not the folder that the task copies: {what}. Started and wrote nothing; mount the task's folder"
            )));
        }
    }
    match none_is_in_source(context).await {
        Ok(None) => Ok(()),
        Ok(Some(keys)) => Err(CommandError::fatal(format!(
            "none of {keys} keys of the destination is in the source: it is not the tree that was copied there. \
             Started and wrote nothing; mount the right folder, or run efs2s3 sync if this is intended"
        ))),
        // DataSync may be able to do what this program cannot.
        Err(error) => {
            tracing::warn!("cannot list the destination: {}", context.destination.explain(&error));
            Ok(())
        }
    }
}
