//! The environment as the AWS SDK sees it.
//!
//! 1. An `AWS_…` variable that is set to an empty value counts as not set. The SDK would take the empty value for a
//!    region, a profile, a URL or a file, where the AWS CLI and a task definition mean nothing by it.
//! 2. The variables of the SDK's retries are hidden. This program retries requests itself, and a value that the SDK does
//!    not know would end the process.

use std::collections::HashMap;
use std::ffi::OsString;

use aws_types::os_shim_internal::Env;

/// The variables of the SDK's retries.
pub(super) const RETRY_VARIABLES: [&str; 3] = ["AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS", "AWS_NEW_RETRIES_2026"];

/// Returns the environment for the SDK.
pub(super) fn environment() -> Env {
    Env::from(visible(std::env::vars_os()))
}

/// Returns the variables that the SDK may see.
fn visible(variables: impl IntoIterator<Item = (OsString, OsString)>) -> HashMap<String, String> {
    let text =
        variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, value)| {
        let is_empty = name.starts_with("AWS_") && value.is_empty();
        !is_empty && !RETRY_VARIABLES.contains(&name.as_str())
    })
    .collect()
}

/// Returns the value of an environment variable that is not empty.
pub(crate) fn set_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_settings_and_retry_settings_are_hidden() {
        let given = [
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_PROFILE", ""),
            ("AWS_RETRY_MODE", "legacy"),
            ("AWS_MAX_ATTEMPTS", "0"),
            ("AWS_NEW_RETRIES_2026", "true"),
            ("HOME", ""),
        ];
        let mut seen: Vec<_> = visible(given.map(|(name, value)| (name.into(), value.into()))).into_iter().collect();
        seen.sort();
        let seen: Vec<_> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(seen, [("AWS_DEFAULT_REGION", "eu-west-1"), ("HOME", "")]);
    }
}
