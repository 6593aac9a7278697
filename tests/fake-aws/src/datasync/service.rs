//! The DataSync service: one task with its locations and executions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::execution::{EffectiveOptions, Execution, Script};
use super::service_fault::ServiceFault;

const ACCOUNT: &str = "123456789012";

/// What the service does when a client cancels an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The execution ends with ERROR.
    Works,
    /// The execution is CANCELLING for this time more.
    Late(Duration),
    /// The service responds with success, but the execution continues.
    Ignored,
    /// The service responds with an error.
    Refused,
}

/// What an execution does, by its options.
pub type Work = Box<dyn FnMut(&EffectiveOptions) + Send>;

/// Changes a response.
pub type Falsify = Box<dyn FnMut(&mut Value) + Send>;

/// The task, its executions, the faults and the log.
#[allow(clippy::struct_excessive_bools, reason = "each is a behaviour of its own")]
pub struct Service {
    /// The URI of the source location.
    pub source_uri: String,
    /// The URI of the destination location.
    pub destination_uri: String,
    /// The storage class of the destination location.
    pub storage_class: String,
    /// The options of the task.
    pub options: BTreeMap<&'static str, Value>,
    /// The include filter.
    pub include: Option<String>,
    /// The exclude filter.
    pub exclude: Option<String>,
    /// The manifest, as `ManifestConfig`.
    pub manifest: Option<Value>,
    /// The script of executions that start from now on.
    pub script: Script,
    /// The script of an execution whose start is queued behind one that is running; without it, such a start is refused.
    pub script_of_queued: Option<Script>,
    /// The error code and detail of executions that end with ERROR.
    pub error: (String, String),
    /// Whether the counters of an execution increase over time.
    pub counters_move: bool,
    /// Whether the counters of an execution are 0, as if it had nothing to do.
    pub counters_are_zero: bool,
    /// An include filter of the executions that replaces the one of the task.
    pub execution_include: Option<String>,
    /// Options of the executions of other clients that replace those of the task.
    pub execution_options: BTreeMap<&'static str, Value>,
    /// A manifest of the executions of other clients that replaces the one of the task, as `ManifestConfig`.
    pub execution_manifest: Option<Value>,
    /// Whether a start ignores `OverrideOptions`, `Includes` and `Excludes`.
    pub ignores_override: bool,
    /// How long before its request an execution has started, by its `StartTime`.
    pub started_before: Duration,
    /// Whether the descriptions of executions have no `StartTime`.
    pub hides_start_time: bool,
    /// What the service does when a client cancels an execution.
    pub cancel: Cancel,
    /// Runs once for each execution that reaches SUCCESS, or ERROR if `copies_before_error`, with its options.
    pub on_success: Option<Work>,
    /// Whether `on_success` also runs for executions that end with ERROR.
    pub copies_before_error: bool,
    /// Whether another client starts an execution just before the next `StartTaskExecution`.
    pub other_client_starts_first: bool,
    /// The faults: an operation, the number of its requests that fail, and how they fail.
    pub faults: Vec<(&'static str, u32, ServiceFault)>,
    /// A fault of an operation after its first requests: the operation, the number of requests that succeed, and how
    /// the others fail.
    pub late_fault: Option<(&'static str, u32, ServiceFault)>,
    /// Changes each response of an operation, as if another server had sent it.
    pub falsify: Option<(&'static str, Falsify)>,
    pub(super) log: Vec<(String, Value)>,
    task_arn: String,
    location_prefix: String,
    executions: Vec<Execution>,
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
            script_of_queued: None,
            error: (String::new(), String::new()),
            counters_move: true,
            counters_are_zero: false,
            execution_include: None,
            execution_options: BTreeMap::new(),
            execution_manifest: None,
            ignores_override: false,
            started_before: Duration::ZERO,
            hides_start_time: false,
            cancel: Cancel::Works,
            on_success: None,
            copies_before_error: false,
            other_client_starts_first: false,
            faults: Vec::new(),
            late_fault: None,
            falsify: None,
            log: Vec::new(),
            task_arn: format!("{arn}:task/task-0123456789abcdef0"),
            location_prefix: format!("{arn}:location/loc-"),
            executions: Vec::new(),
        }
    }

    pub(super) fn task_arn(&self) -> &str {
        &self.task_arn
    }

    /// Starts an execution of another client.
    pub(super) fn start_execution(&mut self) -> String {
        let overriding = json!(self.execution_options);
        let manifest = self.execution_manifest.clone().or_else(|| self.manifest.clone());
        let include = self.execution_include.clone().or_else(|| self.include.clone());
        let exclude = self.exclude.clone();
        self.start(&overriding, (include, exclude), manifest)
    }

    /// The filter of a start, which replaces the one of the task.
    fn filter_of_start(&self, body: &Value, name: &str, of_task: Option<&String>) -> Option<String> {
        match body.get(name).and_then(Value::as_array) {
            Some(rules) if !self.ignores_override => {
                rules.first().and_then(|rule| rule["Value"].as_str()).map(str::to_owned)
            }
            _ => of_task.cloned(),
        }
    }

    fn start(
        &mut self,
        overriding: &Value,
        (include, exclude): (Option<String>, Option<String>),
        manifest: Option<Value>,
    ) -> String {
        let mut options: BTreeMap<String, Value> =
            self.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let overriding = overriding.as_object().into_iter().flatten();
        options.extend(overriding.map(|(name, value)| (name.clone(), value.clone())));
        let arn = format!("{}/execution/exec-{:017x}", self.task_arn, self.executions.len() + 1);
        let options = EffectiveOptions { options, include, exclude };
        self.executions.push(Execution::start(arn.clone(), self.script.clone(), options, manifest));
        arn
    }

    pub(super) fn respond(&mut self, operation: &str, body: &Value) -> Result<Value, ServiceFault> {
        self.log.push((operation.to_owned(), body.clone()));
        if operation == "StartTaskExecution" && std::mem::take(&mut self.other_client_starts_first) {
            self.start_execution();
        }
        if let Some((failing, successes, fault)) = &mut self.late_fault
            && *failing == operation
        {
            if *successes == 0 {
                return Err(fault.clone());
            }
            *successes -= 1;
        }
        if let Some((_, count, fault)) =
            self.faults.iter_mut().find(|(failing, count, _)| *failing == operation && *count > 0)
        {
            *count -= 1;
            return Err(fault.clone());
        }
        self.finish_executions();
        let mut response = self.respond_honestly(operation, body)?;
        if let Some((falsified, falsify)) = &mut self.falsify
            && *falsified == operation
        {
            falsify(&mut response);
        }
        Ok(response)
    }

    fn respond_honestly(&mut self, operation: &str, body: &Value) -> Result<Value, ServiceFault> {
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
            "StartTaskExecution" if self.running().is_some() && self.script_of_queued.is_none() => Err(invalid(
                "Unable to queue the task execution for task. The task already has an execution with the same configuration running.",
            )),
            "StartTaskExecution" => {
                if self.running().is_some()
                    && let Some(script) = self.script_of_queued.take()
                {
                    self.script = script;
                }
                let overriding = if self.ignores_override { &Value::Null } else { &body["OverrideOptions"] };
                let include = self.filter_of_start(body, "Includes", self.include.as_ref());
                let include = self.execution_include.clone().or(include);
                let exclude = self.filter_of_start(body, "Excludes", self.exclude.as_ref());
                let manifest = body.get("ManifestConfig").cloned().or_else(|| self.manifest.clone());
                Ok(json!({ "TaskExecutionArn": self.start(overriding, (include, exclude), manifest) }))
            }
            "DescribeTaskExecution" => self.describe_execution(&text("TaskExecutionArn")),
            "CancelTaskExecution" => self.cancel(&text("TaskExecutionArn")),
            "ListTaskExecutions" => {
                let listed = self.executions.iter();
                let listed =
                    listed.map(|execution| json!({ "TaskExecutionArn": execution.arn, "Status": execution.status() }));
                Ok(json!({ "TaskExecutions": listed.collect::<Vec<_>>() }))
            }
            _ => Err(invalid(format!("{operation}: the server does not implement it for this location"))),
        }
    }

    /// Runs `on_success` for the executions that have ended since the last request.
    pub(super) fn finish_executions(&mut self) {
        for execution in &mut self.executions {
            let status = execution.status();
            let works = status == "SUCCESS" || status == "ERROR" && self.copies_before_error;
            if works
                && execution.cancelled.is_none()
                && !std::mem::replace(&mut execution.done, true)
                && let Some(work) = &mut self.on_success
            {
                work(&execution.options);
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

    fn describe_execution(&self, arn: &str) -> Result<Value, ServiceFault> {
        let execution = self.executions.iter().find(|execution| execution.arn == arn).ok_or_else(unknown_execution)?;
        let status = execution.status();
        let (code, detail) = match (status, execution.cancelled) {
            ("ERROR", Some(_)) => ("Cancelled", "Task execution was cancelled."),
            ("ERROR", None) => (self.error.0.as_str(), self.error.1.as_str()),
            // An execution that succeeds can have an error detail.
            ("SUCCESS", _) if self.error.0.is_empty() => ("", self.error.1.as_str()),
            _ => ("", ""),
        };
        let mut response = json!({
            "TaskExecutionArn": execution.arn,
            "Status": status,
            "Options": execution.options.options,
            "Includes": rule(execution.options.include.as_ref()),
            "Excludes": rule(execution.options.exclude.as_ref()),
            "Result": { "ErrorCode": code, "ErrorDetail": detail, "TotalDuration": 1 },
        });
        if let Some(fields) = response.as_object_mut() {
            fields.extend(
                execution
                    .counters(self.counters_move)
                    .map(|(name, count)| (name, if self.counters_are_zero { 0.into() } else { count })),
            );
            if !self.hides_start_time {
                let started_at = execution.started_at - self.started_before.as_secs_f64();
                fields.insert("StartTime".to_owned(), started_at.into());
            }
            if let Some(manifest) = &execution.manifest {
                fields.insert("ManifestConfig".to_owned(), manifest.clone());
            }
        }
        Ok(response)
    }

    fn cancel(&mut self, arn: &str) -> Result<Value, ServiceFault> {
        let how = self.cancel;
        let execution =
            self.executions.iter_mut().find(|execution| execution.arn == arn).ok_or_else(unknown_execution)?;
        match how {
            Cancel::Works => execution.cancelled = Some(Instant::now()),
            Cancel::Late(time) => execution.cancelled = Some(Instant::now() + time),
            Cancel::Ignored => {}
            Cancel::Refused => return Err(invalid("The task execution cannot be cancelled.")),
        }
        Ok(json!({}))
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

fn invalid(message: impl Into<String>) -> ServiceFault {
    ServiceFault::error(400, "InvalidRequestException", message)
}

fn unknown_execution() -> ServiceFault {
    invalid("Task execution is not found.")
}
