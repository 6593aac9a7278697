//! The settings files of the AWS CLI: what is wrong with them, logged once. The SDK ignores a file that it cannot read.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_config::profile;
use aws_types::os_shim_internal::Fs;

use super::causes::causes;
use super::environment::{environment, set_variable};

/// The variables that name the files.
const VARIABLES: [&str; 2] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

/// Logs each file that cannot be used, once for the process.
#[expect(clippy::default_trait_access, reason = "the type is in a crate that this one does not depend on")]
pub(super) async fn log_problems() {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    if LOGGED.swap(true, Ordering::Relaxed) {
        return;
    }
    for variable in VARIABLES {
        if let Some(path) = set_variable(variable)
            && let Err(error) = tokio::fs::metadata(&path).await
            && !path.starts_with('~')
        {
            tracing::warn!("cannot read {path}, which {variable} names ({error}): continuing without that file");
        }
    }
    if let Err(error) = profile::load(&Fs::real(), &environment(), &Default::default(), None).await {
        let why = causes(&error).join(": ");
        tracing::warn!("cannot use the settings files of the AWS CLI ({why}): continuing without them");
    }
}
