//! An execution of the task: its status follows a script.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// How long a cancelled execution stays CANCELLING.
const CANCELLING: Duration = Duration::from_millis(300);
/// The counters of an execution (DataSync API reference, `DescribeTaskExecution`).
const COUNTERS: [&str; 9] = [
    "EstimatedFilesToTransfer",
    "EstimatedBytesToTransfer",
    "EstimatedFilesToDelete",
    "FilesTransferred",
    "BytesWritten",
    "BytesTransferred",
    "FilesDeleted",
    "FilesSkipped",
    "FilesVerified",
];

/// The statuses of an execution in order, each with its duration. The last one stays.
pub type Script = Vec<(&'static str, Duration)>;

/// The options and filters of an execution: those of the task, with what its start overrode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectiveOptions {
    pub(super) options: BTreeMap<String, Value>,
    /// The include filter.
    pub include: Option<String>,
    /// The exclude filter.
    pub exclude: Option<String>,
}

impl EffectiveOptions {
    /// Whether the option has this value.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.options.get(name).and_then(Value::as_str) == Some(value)
    }
}

/// An execution.
pub(super) struct Execution {
    pub(super) arn: String,
    started: Instant,
    /// The time of the start in seconds since 1970.
    pub(super) started_at: f64,
    script: Script,
    pub(super) options: EffectiveOptions,
    pub(super) manifest: Option<Value>,
    pub(super) cancelled: Option<Instant>,
    /// Whether `on_success` has run for this execution.
    pub(super) done: bool,
}

impl Execution {
    pub(super) fn start(arn: String, script: Script, options: EffectiveOptions, manifest: Option<Value>) -> Self {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { arn, started: Instant::now(), started_at, script, options, manifest, cancelled: None, done: false }
    }

    /// Returns the counters: all are the milliseconds since the start, or constant unless `moving`. Deletes are only
    /// counted if the options allow them.
    pub(super) fn counters(&self, moving: bool) -> impl Iterator<Item = (String, Value)> {
        let count = if moving { u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX) } else { 7 };
        let deletes = self.options.has("PreserveDeletedFiles", "REMOVE");
        COUNTERS.iter().map(move |name| {
            let count = if deletes || !name.contains("Delete") { count } else { 0 };
            ((*name).to_owned(), count.into())
        })
    }

    pub(super) fn status(&self) -> &'static str {
        if let Some(cancelled) = self.cancelled {
            return if cancelled + CANCELLING > Instant::now() { "CANCELLING" } else { "ERROR" };
        }
        let mut passed = self.started.elapsed();
        let mut now = "SUCCESS";
        for (status, duration) in &self.script {
            now = status;
            match passed.checked_sub(*duration) {
                Some(rest) => passed = rest,
                None => break,
            }
        }
        now
    }
}
