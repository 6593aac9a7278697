//! The environment variable of an argument: `EFS2S3_` and its name, such as `EFS2S3_MAX_DELETE` for `--max-delete`.
//!
//! A variable with this prefix that no command knows is an error: a misspelled `EFS2S3_EXCLUDE` would publish what it
//! should exclude.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, Command};

use super::{each_command, parser};
use crate::endpoint_url::{EndpointUrl, EndpointUrlError};

const PREFIX: &str = "EFS2S3_";

/// The variables of the Lambda function.
const OF_FUNCTION: [&str; 6] = [
    "EFS2S3_ECS_CLUSTER",
    "EFS2S3_ECS_TASK_DEFINITION",
    "EFS2S3_ECS_SUBNETS",
    "EFS2S3_ECS_SECURITY_GROUPS",
    "EFS2S3_ECS_CONTAINER",
    "EFS2S3_ECS_ASSIGN_PUBLIC_IP",
];

/// The variables of the AWS settings that name an endpoint of this program.
const ENDPOINTS: [&str; 4] =
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DATASYNC", "AWS_ENDPOINT_URL_ECS"];

/// Why the program does not run with its environment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum VariableError {
    #[error(
        "the environment variable {name} is not an option of this program: the nearest one is {nearest}. Rename or unset it"
    )]
    Unknown { name: String, nearest: String },
    #[error("{name}: {source}")]
    Endpoint { name: String, source: EndpointUrlError },
}

/// Checks the variables of this program, whichever command they are for. A variable that is set to nothing counts as not
/// set.
///
/// # Errors
/// Returns an error if a variable with this program's prefix is not an option, or if an endpoint is not valid.
pub fn check_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), VariableError> {
    let known = known();
    let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
    let set: BTreeSet<(String, String)> =
        set.map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect();
    for (name, value) in set {
        if name.starts_with(PREFIX) && !known.contains(&name) {
            let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, &name));
            return Err(VariableError::Unknown { nearest: nearest.cloned().unwrap_or_default(), name });
        }
        if ENDPOINTS.contains(&name.as_str())
            && let Err(source) = value.parse::<EndpointUrl>()
        {
            return Err(VariableError::Endpoint { name, source });
        }
    }
    Ok(())
}

/// Returns the variables of all commands.
fn known() -> BTreeSet<String> {
    fn collect(command: &Command, known: &mut BTreeSet<String>) {
        known.extend(command.get_arguments().filter_map(variable));
        command.get_subcommands().for_each(|inner| collect(inner, known));
    }
    let mut known: BTreeSet<String> = OF_FUNCTION.into_iter().map(str::to_owned).collect();
    collect(&parser(), &mut known);
    known
}

/// Gives each argument of each command its variable.
///
/// A variable that is set to nothing counts as not set, so that a template can leave an option out.
pub(super) fn with_variables(command: Command) -> Command {
    each_command(command, &|command| {
        command.mut_args(|argument| match variable(&argument) {
            Some(name) if std::env::var_os(&name).is_none_or(|value| !value.is_empty()) => {
                let hides_value = holds_secret(&name);
                argument.env(name).hide_env_values(hides_value)
            }
            Some(_) | None => argument,
        })
    })
}

/// Whether the help must not show the value of a variable.
fn holds_secret(name: &str) -> bool {
    name == "EFS2S3_ENDPOINT_URL"
        && std::env::var_os(name).is_some_and(|value| value.to_string_lossy().parse::<EndpointUrl>().is_err())
}

fn variable(argument: &Arg) -> Option<String> {
    match argument.get_id().as_str() {
        // AWS Batch and Kubernetes set these.
        "batch_index" => Some("AWS_BATCH_JOB_ARRAY_INDEX".to_owned()),
        "kubernetes_index" => Some("JOB_COMPLETION_INDEX".to_owned()),
        // A list of files.
        "reports" => None,
        // An argument's name is the option's long name with `_`.
        name => Some(format!("{PREFIX}{}", name.to_uppercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)]) -> Result<(), VariableError> {
        check_variables(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn unknown_variable_is_refused_with_the_nearest_known_one() {
        for (name, nearest) in [
            ("EFS2S3_EXCLUDES", "EFS2S3_EXCLUDE"),
            ("EFS2S3_MAX_DELETES", "EFS2S3_MAX_DELETE"),
            ("EFS2S3_ECS_CLUSTERS", "EFS2S3_ECS_CLUSTER"),
        ] {
            let expected = VariableError::Unknown { name: name.to_owned(), nearest: nearest.to_owned() };
            assert_eq!(check(&[("EFS2S3_DELETE", "1"), (name, "x")]), Err(expected));
        }
        assert!(check(&[("EFS2S3_exclude", "x")]).is_err(), "names are in capitals");
        assert_eq!(check(&[("EFS2S3_EXCLUDES", "")]), Ok(()), "set to nothing");
    }

    #[test]
    fn variables_of_every_command_and_of_the_function_are_known() {
        let of_commands = ["EFS2S3_TASK_ARN", "EFS2S3_COUNT", "EFS2S3_PLAN", "EFS2S3_READ", "EFS2S3_CONFIG"];
        for name in of_commands.into_iter().chain(OF_FUNCTION).chain(["OTHER", "EFS2S3"]) {
            assert_eq!(check(&[(name, "x")]), Ok(()), "{name}");
        }
    }

    #[test]
    fn endpoint_variable_with_a_password_is_refused() {
        for name in ENDPOINTS {
            let error = check(&[(name, "http://user:hunter2@host")]).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
            assert!(check(&[(name, "host:9000")]).is_err());
            assert_eq!(check(&[(name, "")]), Ok(()));
        }
        assert_eq!(check(&[("AWS_ENDPOINT_URL_DYNAMODB", "host:8000")]), Ok(()), "of another program");
    }
}
