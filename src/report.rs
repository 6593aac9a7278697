//! The report: what a run did, in numbers that add up, and why. JSON with stable names, versioned by `schema`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::datasync::DataSyncSection;
use crate::destination::operation::Requests;
use crate::exit_code::ExitCode;
use crate::key_range::KeyRange;
use crate::range_list::RangeOfList;
use crate::source::entry::SkipReason;
use crate::sync::counts::{ByteCounts, Counts, Seconds};
use crate::sync::failure::Failure;
use crate::sync::tally::Withheld;
use crate::time::unique_id;

mod cost;
mod ending;
mod inspection;
mod merge;
mod merged_run;
mod settings;
mod source_operations;
mod subject;
mod summary;

pub(crate) use ending::Ending;
pub(crate) use inspection::InspectionCounts;
pub(crate) use merge::{MergeError, NamedReport};
pub(crate) use subject::Route;
pub use subject::{CommandName, Subject};

use cost::{efs_read_cost_usd, request_cost_usd};
use merged_run::MergedRun;
use settings::RunSettings;
use source_operations::SourceOperations;

/// The version of the report's names and meanings.
const SCHEMA: u32 = 1;

/// A report.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    schema: u32,
    run_id: String,
    version: Cow<'static, str>,
    command: CommandName,
    route: Route,
    started: String,
    finished: String,
    source: String,
    /// `None` in the report of an older version.
    #[serde(default)]
    source_path: Option<String>,
    destination: String,
    /// `None` if the run was for all keys.
    #[serde(default)]
    keys: Option<KeyRange>,
    /// `None` if the run was not over a range of a range list.
    #[serde(default)]
    range: Option<RangeOfList>,
    #[serde(flatten)]
    settings: RunSettings,
    /// Only in a merged report: the runs that it adds up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<MergedRun>,
    counts: Counts,
    skipped_because: BTreeMap<SkipReason, u64>,
    bytes: ByteCounts,
    requests: BTreeMap<Cow<'static, str>, u64>,
    source_operations: SourceOperations,
    estimated_request_cost_usd: f64,
    estimated_efs_read_cost_usd: f64,
    seconds: Seconds,
    datasync: Option<DataSyncSection>,
    peak_memory_bytes: Option<u64>,
    withheld_because: Vec<Withheld>,
    failures_count: u64,
    failures: Vec<Failure>,
    error: Option<String>,
    #[serde(serialize_with = "as_number", deserialize_with = "from_number")]
    exit_code: ExitCode,
}

impl Report {
    /// Derives the report of a run that could not start its work.
    pub(crate) fn without_work(subject: &Subject, error: Option<String>, exit_code: ExitCode) -> Self {
        Self::new(subject, Ending::without_work(error, exit_code))
    }

    /// Derives the report of a run that ends now.
    pub(crate) fn new(subject: &Subject, ending: Ending<'_>) -> Self {
        let Ending { mut tally, inspection, requests, operations, mut seconds, error, exit_code } = ending;
        if let Some(counts) = inspection {
            counts.fill_in(&mut tally.counts, &mut tally.bytes);
        }
        let finished = SystemTime::now();
        seconds.total = finished.duration_since(subject.started).unwrap_or_default().as_secs_f64();
        seconds.datasync = subject.datasync.as_ref().map_or(0.0, |datasync| datasync.seconds);
        let source_operations = operations.map(SourceOperations::read).unwrap_or_default();
        Self {
            schema: SCHEMA,
            run_id: unique_id(subject.started),
            version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            command: subject.command,
            route: subject.route,
            started: humantime::format_rfc3339_millis(subject.started).to_string(),
            finished: humantime::format_rfc3339_millis(finished).to_string(),
            source: subject.source.clone(),
            source_path: subject.source_path.clone(),
            destination: subject.destination.clone(),
            keys: subject.keys.clone(),
            range: subject.range_of_list.clone(),
            settings: subject.settings.clone(),
            merged: Vec::new(),
            estimated_request_cost_usd: requests.map_or(0.0, request_cost_usd),
            estimated_efs_read_cost_usd: efs_read_cost_usd(source_operations, &tally.bytes),
            source_operations,
            requests: requests.map(Requests::by_name).unwrap_or_default(),
            seconds: seconds.rounded(),
            datasync: subject.datasync.clone(),
            peak_memory_bytes: peak_memory_bytes(),
            counts: tally.counts,
            skipped_because: tally.skipped_because,
            bytes: ByteCounts { downloaded: requests.map_or(0, Requests::downloaded_bytes), ..tally.bytes },
            withheld_because: tally.withheld.into_iter().map(Withheld::reported).collect(),
            failures_count: tally.failures_count,
            failures: tally.failures,
            error,
            exit_code,
        }
    }

    /// Counts the requests and the time up to now again: a run releases its lease after it made the report.
    pub(crate) fn count_until_now(&mut self, subject: &Subject, requests: &Requests) {
        let finished = SystemTime::now();
        let total = finished.duration_since(subject.started).unwrap_or_default().as_secs_f64();
        self.finished = humantime::format_rfc3339_millis(finished).to_string();
        self.seconds = Seconds { total, ..self.seconds }.rounded();
        self.estimated_request_cost_usd = request_cost_usd(requests);
        self.requests = requests.by_name();
        self.bytes.downloaded = requests.downloaded_bytes();
    }

    /// A name that sorts by time. Two runs never have the same name.
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings, numbers and maps by name always serialize.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`Report::json`] wrote.
    ///
    /// # Errors
    /// Returns an error if the text is not a report.
    pub(crate) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Returns the schema that a text names, if it is an object with one, as each report is.
    pub(crate) fn schema_of(text: &[u8]) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_slice(text).ok()?;
        value.get("schema")?.as_u64()
    }

    /// Records why the run stopped, if the report names no other error.
    pub(crate) fn stopped_because(&mut self, why: &str) {
        self.error.get_or_insert_with(|| why.to_owned());
    }

    /// What ended the run early, or leaves it incomplete.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The exit code of the run.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        self.exit_code
    }
}

/// Returns the most memory that this process ever held (Linux: `VmHWM`).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_number<S: Serializer>(code: &ExitCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(code.code())
}

fn from_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ExitCode, D::Error> {
    let number = u8::deserialize(deserializer)?;
    ExitCode::from_code(number).ok_or_else(|| D::Error::custom(format!("there is no exit code {number}")))
}
