//! An execution of the task: its status follows a script.

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

/// An execution.
pub(super) struct Execution {
    pub(super) arn: String,
    started: Instant,
    /// The time of the start in seconds since 1970.
    pub(super) started_at: f64,
    script: Script,
    pub(super) cancelled: Option<Instant>,
    /// Whether `on_success` has run for this execution.
    pub(super) done: bool,
}

impl Execution {
    pub(super) fn start(arn: String, script: Script) -> Self {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { arn, started: Instant::now(), started_at, script, cancelled: None, done: false }
    }

    /// Returns the counters: all are the milliseconds since the start, or constant unless `moving`.
    pub(super) fn counters(&self, moving: bool) -> impl Iterator<Item = (String, Value)> {
        let count = if moving { u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX) } else { 7 };
        COUNTERS.iter().map(move |name| ((*name).to_owned(), count.into()))
    }

    pub(super) fn status(&self) -> &'static str {
        if let Some(cancelled) = self.cancelled {
            return if cancelled.elapsed() < CANCELLING { "CANCELLING" } else { "ERROR" };
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
