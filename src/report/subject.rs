//! The subject of a report: which run it is, and what is known before the work.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::datasync::DataSyncSection;
use crate::key_range::KeyRange;

/// The commands that write a report.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the commands")]
pub enum CommandName {
    Run,
    Sync,
    Plan,
    Apply,
    Verify,
}

/// The run that a report describes.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) command: CommandName,
    /// As given.
    pub(crate) source: String,
    /// As given.
    pub(crate) destination: String,
    /// `None` if the run is for all keys.
    pub(crate) keys: Option<KeyRange>,
    pub(crate) started: SystemTime,
    pub(crate) route: Route,
    /// The result of the attempt with DataSync, if there was one.
    pub(crate) datasync: Option<DataSyncSection>,
}

impl Subject {
    /// A run that starts now.
    #[must_use]
    pub fn new(command: CommandName, source: &Path, destination: &str) -> Self {
        Self {
            command,
            source: source.display().to_string(),
            destination: destination.to_owned(),
            keys: None,
            started: SystemTime::now(),
            route: Route::Direct,
            datasync: None,
        }
    }
}

/// Which service did the work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Route {
    /// The direct sync, because of the command, the policy or an open breaker.
    Direct,
    Datasync,
    /// The direct sync, because DataSync did not succeed.
    Fallback,
}
