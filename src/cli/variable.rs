//! The environment variable of an argument: `EFS2S3_` and its name, such as `EFS2S3_MAX_DELETE` for `--max-delete`.

use clap::{Arg, Command};

use super::each_command;

/// Gives each argument of each command its variable.
///
/// A variable that is set to nothing counts as not set, so that a template can leave an option out.
pub(super) fn with_variables(command: Command) -> Command {
    each_command(command, &|command| {
        command.mut_args(|argument| match variable(&argument) {
            Some(name) if std::env::var_os(&name).is_none_or(|value| !value.is_empty()) => argument.env(name),
            Some(_) | None => argument,
        })
    })
}

fn variable(argument: &Arg) -> Option<String> {
    match argument.get_id().as_str() {
        // AWS Batch and Kubernetes set these.
        "batch_index" => Some("AWS_BATCH_JOB_ARRAY_INDEX".to_owned()),
        "kubernetes_index" => Some("JOB_COMPLETION_INDEX".to_owned()),
        // A list of files.
        "reports" => None,
        // An argument's name is the option's long name with `_`.
        name => Some(format!("EFS2S3_{}", name.to_uppercase())),
    }
}
