//! The subject of a report: which run it is, and what is known before the work.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::settings::RunSettings;
use crate::datasync::DataSyncSection;
use crate::destination::headers::HeaderRule;
use crate::key_range::KeyRange;
use crate::range_list::RangeOfList;
use crate::recorded_options::RecordedOptions;

/// The commands that write a report.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of the commands")]
pub enum CommandName {
    Run,
    Sync,
    Plan,
    Apply,
    Verify,
}

impl CommandName {
    /// The name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Sync => "sync",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Verify => "verify",
        }
    }
}

/// The run that a report describes.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) command: CommandName,
    /// As given.
    pub(crate) source: String,
    /// The whole path of the source; `None` if the working directory is unknown.
    pub(crate) source_path: Option<String>,
    /// As given.
    pub(crate) destination: String,
    /// `None` if the run is for all keys.
    pub(crate) keys: Option<KeyRange>,
    /// `None` if the run is not over a range of a range list.
    pub(crate) range_of_list: Option<RangeOfList>,
    /// What decides what the run writes and deletes.
    pub(crate) settings: RunSettings,
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
            source_path: std::path::absolute(source).ok().map(|path| path.display().to_string()),
            destination: destination.to_owned(),
            keys: None,
            range_of_list: None,
            settings: RunSettings::default(),
            started: SystemTime::now(),
            route: Route::Direct,
            datasync: None,
        }
    }
}

impl Subject {
    /// Records the options in force, and the header rules of the config file.
    pub(crate) fn record_options(&mut self, options: &RecordedOptions, headers: Vec<HeaderRule>) {
        self.settings = RunSettings::new(options, headers);
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
