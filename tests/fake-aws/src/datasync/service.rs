//! The service behind the protocol: one task, its locations, its executions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const ACCOUNT: &str = "123456789012";
/// Counters of an execution (DataSync API reference).
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
/// How long a cancelled execution is CANCELLING.
const CANCELLING: Duration = Duration::from_millis(300);

/// The states of an execution one after another, each with how long it lasts; the last one stays.
pub type Script = Vec<(&'static str, Duration)>;

/// What a request meets instead of its answer.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// An error of the service.
    Error {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        code: &'static str,
        /// Its words.
        message: String,
    },
    /// The connection ends.
    Reset,
    /// Nothing.
    Silence,
}

impl Trouble {
    /// An error of the service.
    #[must_use]
    pub fn error(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self::Error { status, code, message: message.into() }
    }
}

/// What becomes of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The execution ends in ERROR.
    Works,
    /// It is answered well, and nothing happens.
    Ignored,
    /// It is refused.
    Refused,
}

/// The task, how its executions go, and what was asked so far.
pub struct Service {
    /// The source location's URI.
    pub source_uri: String,
    /// The destination location's URI.
    pub destination_uri: String,
    /// The destination's storage class.
    pub storage_class: String,
    /// The task's options.
    pub options: BTreeMap<&'static str, Value>,
    /// The include filter.
    pub include: Option<String>,
    /// The exclude filter.
    pub exclude: Option<String>,
    /// The manifest, as `ManifestConfig`.
    pub manifest: Option<Value>,
    /// How executions go.
    pub script: Script,
    /// The error of those that end in ERROR: code and detail.
    pub error: (String, String),
    /// Whether counters move while an execution transfers or verifies.
    pub counters_move: bool,
    /// The include filter that somebody starts executions with, instead of the task's.
    pub execution_include: Option<String>,
    /// What becomes of a cancel.
    pub cancel: Cancel,
    /// Done once by each execution that comes to SUCCESS, or to ERROR if `copies_before_error`.
    pub on_success: Option<Box<dyn FnMut() + Send>>,
    /// Whether an execution that ends in ERROR does the work before.
    pub copies_before_error: bool,
    /// Whether somebody else starts an execution just before the next start.
    pub somebody_starts_first: bool,
    /// Trouble for requests of an operation, and how many meet it.
    pub trouble: Vec<(&'static str, u32, Trouble)>,
    /// Trouble for all requests of an operation after so many.
    pub later_trouble: Option<(&'static str, u32, Trouble)>,
    pub(super) log: Vec<(String, Value)>,
    task_arn: String,
    location_prefix: String,
    executions: Vec<Execution>,
}

struct Execution {
    arn: String,
    begun: Instant,
    began_at: f64,
    script: Script,
    cancelled: Option<Instant>,
    done: bool,
}

impl Service {
    pub(super) fn new(partition: &str, region: &str) -> Self {
        let arn = format!("arn:{partition}:datasync:{region}:{ACCOUNT}");
        let options = [
            ("VerifyMode", "ONLY_FILES_TRANSFERRED"),
            ("OverwriteMode", "ALWAYS"),
            ("Atime", "BEST_EFFORT"),
            ("Mtime", "PRESERVE"),
            ("Uid", "INT_VALUE"),
            ("Gid", "INT_VALUE"),
            ("PreserveDeletedFiles", "REMOVE"),
            ("PreserveDevices", "NONE"),
            ("PosixPermissions", "PRESERVE"),
            ("TaskQueueing", "ENABLED"),
            ("LogLevel", "OFF"),
            ("TransferMode", "CHANGED"),
            ("SecurityDescriptorCopyFlags", "NONE"),
            ("ObjectTags", "NONE"),
        ];
        let options = options.into_iter().map(|(name, value)| (name, value.into()));
        Self {
            source_uri: format!("efs://{region}.fs-0123456789abcdef0/"),
            destination_uri: "s3://site/www/".to_owned(),
            storage_class: "STANDARD".to_owned(),
            options: options.chain([("BytesPerSecond", Value::from(-1))]).collect(),
            include: None,
            exclude: None,
            manifest: None,
            script: vec![("SUCCESS", Duration::ZERO)],
            error: (String::new(), String::new()),
            counters_move: true,
            execution_include: None,
            cancel: Cancel::Works,
            on_success: None,
            copies_before_error: false,
            somebody_starts_first: false,
            trouble: Vec::new(),
            later_trouble: None,
            log: Vec::new(),
            task_arn: format!("{arn}:task/task-0123456789abcdef0"),
            location_prefix: format!("{arn}:location/loc-"),
            executions: Vec::new(),
        }
    }

    pub(super) fn task_arn(&self) -> &str {
        &self.task_arn
    }

    pub(super) fn begin(&mut self) -> String {
        let arn = format!("{}/execution/exec-{:017x}", self.task_arn, self.executions.len() + 1);
        let began_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let script = self.script.clone();
        let begun = Instant::now();
        self.executions.push(Execution { arn: arn.clone(), begun, began_at, script, cancelled: None, done: false });
        arn
    }

    pub(super) fn answer(&mut self, operation: &str, body: &Value) -> Result<Value, Trouble> {
        self.log.push((operation.to_owned(), body.clone()));
        if operation == "StartTaskExecution" && std::mem::take(&mut self.somebody_starts_first) {
            self.begin();
        }
        if let Some((troubled, after, trouble)) = &mut self.later_trouble
            && *troubled == operation
        {
            if *after == 0 {
                return Err(trouble.clone());
            }
            *after -= 1;
        }
        if let Some((_, left, trouble)) =
            self.trouble.iter_mut().find(|(troubled, left, _)| *troubled == operation && *left > 0)
        {
            *left -= 1;
            return Err(trouble.clone());
        }
        self.go_on();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if body.get("TaskArn").is_some() && text("TaskArn") != self.task_arn {
            return Err(invalid(format!("Task {} is not found.", text("TaskArn"))));
        }
        match operation {
            "DescribeTask" => Ok(self.describe_task()),
            "DescribeLocationEfs" if self.source_uri.starts_with("efs://") => {
                Ok(json!({ "LocationArn": text("LocationArn"), "LocationUri": self.source_uri }))
            }
            "DescribeLocationS3" if self.destination_uri.starts_with("s3://") => Ok(json!({
                "LocationArn": text("LocationArn"),
                "LocationUri": self.destination_uri,
                "S3StorageClass": self.storage_class,
            })),
            "StartTaskExecution" if self.running().is_some() => Err(invalid(
                "Unable to queue the task execution for task. The task already has an execution with the same configuration running.",
            )),
            "StartTaskExecution" => Ok(json!({ "TaskExecutionArn": self.begin() })),
            "DescribeTaskExecution" => self.describe_execution(&text("TaskExecutionArn")),
            "CancelTaskExecution" => self.cancel(&text("TaskExecutionArn")),
            "ListTaskExecutions" => {
                let listed = self.executions.iter();
                let listed = listed.map(|one| json!({ "TaskExecutionArn": one.arn, "Status": one.status() }));
                Ok(json!({ "TaskExecutions": listed.collect::<Vec<_>>() }))
            }
            _ => Err(invalid(format!("{operation}: not for this location, or not known here"))),
        }
    }

    /// Does the work of the executions that have come to their ends.
    fn go_on(&mut self) {
        for execution in &mut self.executions {
            let status = execution.status();
            let works = status == "SUCCESS" || status == "ERROR" && self.copies_before_error;
            if works
                && execution.cancelled.is_none()
                && !std::mem::replace(&mut execution.done, true)
                && let Some(work) = &mut self.on_success
            {
                work();
            }
        }
    }

    fn running(&self) -> Option<&Execution> {
        self.executions.iter().find(|execution| !matches!(execution.status(), "SUCCESS" | "ERROR"))
    }

    fn describe_task(&self) -> Value {
        let mut task = json!({
            "TaskArn": self.task_arn,
            "Status": if self.running().is_some() { "RUNNING" } else { "AVAILABLE" },
            "Name": "assets",
            "SourceLocationArn": format!("{}0aaaaaaaaaaaaaaaa", self.location_prefix),
            "DestinationLocationArn": format!("{}0bbbbbbbbbbbbbbbb", self.location_prefix),
            "Options": self.options,
            "Includes": rule(self.include.as_ref()),
            "Excludes": rule(self.exclude.as_ref()),
            "TaskMode": "BASIC",
            "CreationTime": 1.7e9,
        });
        if let (Some(fields), Some(latest)) = (task.as_object_mut(), self.executions.last()) {
            fields.insert("CurrentTaskExecutionArn".to_owned(), latest.arn.clone().into());
        }
        if let (Some(fields), Some(manifest)) = (task.as_object_mut(), &self.manifest) {
            fields.insert("ManifestConfig".to_owned(), manifest.clone());
        }
        task
    }

    fn describe_execution(&self, arn: &str) -> Result<Value, Trouble> {
        let execution = self.executions.iter().find(|execution| execution.arn == arn).ok_or_else(unknown_execution)?;
        let status = execution.status();
        let moved = if self.counters_move { execution.begun.elapsed().as_millis() } else { 7 };
        let moved = u64::try_from(moved).unwrap_or(u64::MAX);
        let (code, detail) = match (status, execution.cancelled) {
            ("ERROR", Some(_)) => ("Cancelled", "Task execution was cancelled."),
            ("ERROR", None) => (self.error.0.as_str(), self.error.1.as_str()),
            // It may succeed and yet have something to say.
            ("SUCCESS", _) if self.error.0.is_empty() => ("", self.error.1.as_str()),
            _ => ("", ""),
        };
        let mut answer = json!({
            "TaskExecutionArn": execution.arn,
            "Status": status,
            "Options": self.options,
            "Includes": rule(self.execution_include.as_ref().or(self.include.as_ref())),
            "Excludes": rule(self.exclude.as_ref()),
            "StartTime": execution.began_at,
            "Result": { "ErrorCode": code, "ErrorDetail": detail, "TotalDuration": 1 },
        });
        if let Some(fields) = answer.as_object_mut() {
            fields.extend(COUNTERS.iter().map(|name| ((*name).to_owned(), moved.into())));
        }
        Ok(answer)
    }

    fn cancel(&mut self, arn: &str) -> Result<Value, Trouble> {
        let how = self.cancel;
        let execution =
            self.executions.iter_mut().find(|execution| execution.arn == arn).ok_or_else(unknown_execution)?;
        match how {
            Cancel::Works => execution.cancelled = Some(Instant::now()),
            Cancel::Ignored => {}
            Cancel::Refused => return Err(invalid("The task execution cannot be cancelled.")),
        }
        Ok(json!({}))
    }
}

impl Execution {
    fn status(&self) -> &'static str {
        if let Some(cancelled) = self.cancelled {
            return if cancelled.elapsed() < CANCELLING { "CANCELLING" } else { "ERROR" };
        }
        let mut passed = self.begun.elapsed();
        let mut now = "SUCCESS";
        for (status, lasts) in &self.script {
            now = status;
            match passed.checked_sub(*lasts) {
                Some(rest) => passed = rest,
                None => break,
            }
        }
        now
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("task", &self.task_arn).field("script", &self.script).finish_non_exhaustive()
    }
}

fn rule(filter: Option<&String>) -> Value {
    filter.map_or_else(|| json!([]), |value| json!([{ "FilterType": "SIMPLE_PATTERN", "Value": value }]))
}

fn invalid(message: impl Into<String>) -> Trouble {
    Trouble::error(400, "InvalidRequestException", message)
}

fn unknown_execution() -> Trouble {
    invalid("Task execution is not found.")
}
