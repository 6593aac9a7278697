//! The report: what a run did, in numbers that add up, and why. JSON with stable names, versioned by `schema`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytesize::ByteSize;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::datasync::DataSyncSection;
use crate::destination::operation::{Operation, Requests};
use crate::exit_code::ExitCode;
use crate::key_range::KeyRange;
use crate::result_file::ResultFile;
use crate::source::entry::SkipReason;
use crate::source::operations::Operations;
use crate::sync::tally::{ByteCounts, Counts, Failure, Seconds, Tally, Withheld};

mod merge;

pub use merge::{MergeError, Part};

/// The version of the report's names and meanings.
const SCHEMA: u32 = 1;
/// S3's list prices in us-east-1, in dollars a request: `PUT`, `COPY`, `POST`, `LIST`; `GET`, `HEAD`. `DELETE` is free.
const WRITE_USD: f64 = 0.005 / 1000.0;
const READ_USD: f64 = 0.0004 / 1000.0;
/// EFS' list price in us-east-1 for Elastic throughput: dollars a byte read, each operation metered as 4 KiB at least.
const EFS_READ_USD: f64 = 0.03 / 1e9;
const EFS_LEAST_BYTES: f64 = 4096.0;

/// A report.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    schema: u32,
    run_id: String,
    version: Cow<'static, str>,
    command: Cow<'static, str>,
    route: Route,
    started: String,
    finished: String,
    source: String,
    destination: String,
    /// None where the run was for all keys.
    #[serde(default)]
    keys: Option<KeyRange>,
    /// Where it adds up others: what each of them was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<Part>,
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

/// What the file system was asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct SourceOperations {
    readdir: u64,
    stat: u64,
    open: u64,
    readlink: u64,
}

/// What a report is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The command.
    pub command: &'static str,
    /// The source as given.
    pub source: String,
    /// The destination as given.
    pub destination: String,
    /// The range of keys, where it is not all.
    pub keys: Option<KeyRange>,
    /// When the run began.
    pub started: SystemTime,
    /// Which way the work took.
    pub route: Route,
    /// What came of DataSync, where it was asked.
    pub datasync: Option<DataSyncSection>,
}

/// Which way the work took.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// The direct sync, as it was asked for or because the breaker is open.
    Direct,
    /// DataSync.
    Datasync,
    /// The direct sync, because DataSync did not succeed.
    Fallback,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ending<'a> {
    /// What happened.
    pub tally: Tally,
    /// The requests that were sent, where it came to that.
    pub requests: Option<&'a Requests>,
    /// What the file system was asked, where it came to that.
    pub operations: Option<&'a Operations>,
    /// How long the steps took.
    pub seconds: Seconds,
    /// What ended the run early.
    pub error: Option<String>,
    /// The exit code.
    pub exit_code: ExitCode,
}

impl Subject {
    /// A run that starts now.
    #[must_use]
    pub fn new(command: &'static str, source: &Path, destination: &str) -> Self {
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

impl Report {
    /// The report of a run that could not start its work.
    #[must_use]
    pub fn without_work(subject: &Subject, error: Option<String>, exit_code: ExitCode) -> Self {
        let (tally, seconds) = (Tally::default(), Seconds::default());
        Self::new(subject, Ending { tally, requests: None, operations: None, seconds, error, exit_code })
    }

    /// Puts the report together.
    #[must_use]
    pub fn new(subject: &Subject, ending: Ending<'_>) -> Self {
        let Ending { tally, requests, operations, mut seconds, error, exit_code } = ending;
        let finished = SystemTime::now();
        seconds.datasync = subject.datasync.as_ref().map_or(0.0, |datasync| datasync.seconds);
        seconds.total = finished.duration_since(subject.started).unwrap_or_default().as_secs_f64();
        let source_operations = operations.map(SourceOperations::read).unwrap_or_default();
        Self {
            schema: SCHEMA,
            run_id: run_id(subject.started),
            version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            command: Cow::Borrowed(subject.command),
            route: subject.route,
            started: humantime::format_rfc3339_millis(subject.started).to_string(),
            finished: humantime::format_rfc3339_millis(finished).to_string(),
            source: subject.source.clone(),
            destination: subject.destination.clone(),
            keys: subject.keys.clone(),
            merged: Vec::new(),
            estimated_request_cost_usd: requests.map_or(0.0, request_cost_usd),
            estimated_efs_read_cost_usd: source_operations.read_cost_usd(&tally.bytes),
            source_operations,
            requests: requests.map(Requests::by_name).unwrap_or_default(),
            seconds: seconds.rounded(),
            datasync: subject.datasync.clone(),
            peak_memory_bytes: peak_memory_bytes(),
            counts: tally.counts,
            skipped_because: tally.skipped_because,
            bytes: ByteCounts { downloaded: requests.map_or(0, Requests::downloaded_bytes), ..tally.bytes },
            withheld_because: tally.withheld,
            failures_count: tally.failures_count,
            failures: tally.failures,
            error,
            exit_code,
        }
    }

    /// Takes the requests that were sent by now: the lease is given back after all else.
    pub fn count_requests(&mut self, requests: &Requests) {
        self.estimated_request_cost_usd = request_cost_usd(requests);
        self.requests = requests.by_name();
        self.bytes.downloaded = requests.downloaded_bytes();
    }

    /// One line that says what happened.
    #[must_use]
    pub fn summary(&self) -> String {
        if let (Route::Datasync, Some(datasync), 0) = (self.route, &self.datasync, self.counts.objects) {
            let (evidence, exit_code) = (&datasync.evidence, self.exit_code.code());
            return format!("DataSync: {evidence}; {:.1} s, exit {exit_code}", self.seconds.total);
        }
        let Counts { files, unchanged, uploaded, deleted, deletes_withheld, skipped, failed, deletes_failed, .. } =
            self.counts;
        let bytes = ByteSize(self.bytes.uploaded).display().iec();
        let mut text = match &*self.command {
            "plan" => {
                format!("{files} files: {unchanged} unchanged, {uploaded} to upload ({bytes}), {deleted} to delete")
            }
            "verify" => {
                let (different, rewritten) = (uploaded, self.counts.metadata_rewritten);
                let read = ByteSize(self.bytes.read_for_compare).display().iec();
                format!(
                    "{files} files: {unchanged} equal, {different} different or missing, {rewritten} with other metadata, \
                     {deleted} objects without a file; {read} read"
                )
            }
            _ => format!("{files} files: {unchanged} unchanged, {uploaded} uploaded ({bytes}), {deleted} deleted"),
        };
        for (count, what) in [
            (skipped, "skipped"),
            (failed, "failed"),
            (deletes_failed, "deletes failed"),
            (deletes_withheld, "deletes withheld"),
        ] {
            if count > 0 {
                text.extend([", ", &count.to_string(), " ", what]);
            }
        }
        text + &format!(
            "; {} requests, {:.1} s, exit {}",
            self.request_count(),
            self.seconds.total,
            self.exit_code.code()
        )
    }

    /// Which run this is: sorts by time, and no two are alike.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The report as it is written.
    #[must_use]
    pub fn json(&self) -> String {
        // Nothing in it can fail to be written: texts, numbers, and maps by names.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// What ended the run early.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The exit code.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        self.exit_code
    }

    fn request_count(&self) -> u64 {
        self.requests
            .iter()
            .filter(|(name, _)| !matches!(&***name, "retries" | "throttled"))
            .map(|(_, count)| count)
            .sum()
    }
}

impl SourceOperations {
    fn read(operations: &Operations) -> Self {
        Self {
            readdir: operations.readdir.load(Ordering::Relaxed),
            stat: operations.stat.load(Ordering::Relaxed),
            open: operations.open.load(Ordering::Relaxed),
            readlink: operations.readlink.load(Ordering::Relaxed),
        }
    }

    const fn add(&mut self, other: Self) {
        self.readdir += other.readdir;
        self.stat += other.stat;
        self.open += other.open;
        self.readlink += other.readlink;
    }

    fn read_cost_usd(self, bytes: &ByteCounts) -> f64 {
        let operations = float(self.readdir + self.stat + self.open + self.readlink) * EFS_LEAST_BYTES;
        (operations + float(bytes.uploaded + bytes.read_for_compare)) * EFS_READ_USD
    }
}

fn request_cost_usd(requests: &Requests) -> f64 {
    Operation::ALL.iter().fold(0.0, |sum, &operation| {
        let price = match operation {
            Operation::Delete | Operation::DeleteObjects | Operation::AbortMultipartUpload => 0.0,
            Operation::Head | Operation::Get | Operation::GetObjectAttributes | Operation::ListParts => READ_USD,
            Operation::List
            | Operation::ListMultipartUploads
            | Operation::Put
            | Operation::Copy
            | Operation::CreateMultipartUpload
            | Operation::UploadPart
            | Operation::UploadPartCopy
            | Operation::CompleteMultipartUpload => WRITE_USD,
        };
        float(requests.sent(operation)).mul_add(price, sum)
    })
}

#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Sorts by time, and two runs of the same millisecond differ.
fn run_id(started: SystemTime) -> String {
    let time: String =
        humantime::format_rfc3339_millis(started).to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{time}-{:08x}", fastrand::u32(..))
}

/// The most memory that this process ever held (Linux: `VmHWM`).
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

/// Where the report goes.
#[derive(Debug)]
pub enum ReportSink {
    /// Stdout.
    Stdout,
    /// A file.
    File(ResultFile),
}

impl ReportSink {
    /// Prepares to write to `path`; `-` is stdout.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") { Ok(Self::Stdout) } else { ResultFile::create(path).map(Self::File) }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// Where that fails: a disk that filled up meanwhile.
    pub fn write(self, report: &Report) -> io::Result<()> {
        let text = report.json();
        match self {
            Self::Stdout => write_stdout(text.as_bytes()),
            Self::File(mut file) => {
                file.write_all(text.as_bytes())?;
                file.publish()
            }
        }
    }
}

/// Writes a result to stdout; a reader that has gone (`| head`) wants no more, which is no error.
///
/// # Errors
/// Where stdout fails in any other way.
pub fn write_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
