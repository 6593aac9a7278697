//! An execution of a task: its status, its counters and its result.

use std::time::{SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;

use super::Task;
use super::arn::ExecutionArn;
use super::counters::{self, Counters};
use super::error::ServiceError;
use super::filters::Filters;
use super::options::ExecutionOptions;
use super::task::manifest_url;
use super::verification::Verification;
use crate::counted::counted;

use aws_sdk_datasync::operation::describe_task_execution::DescribeTaskExecutionOutput;
use aws_sdk_datasync::types::{PhaseStatus, TaskExecutionResultDetail, TaskExecutionStatus};

/// The name of the status of an execution that waits for another one of its task.
const QUEUED: &str = "QUEUED";

/// The error codes of a cancelled execution, in either spelling. DataSync does not document its codes.
const CANCEL_CODES: [&str; 6] =
    ["Cancelled", "Canceled", "TaskCancelled", "TaskCanceled", "TaskExecutionCancelled", "TaskExecutionCanceled"];

/// The status of an execution. A status of another name means that the execution is still running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `QUEUED`, `LAUNCHING`: no work has started.
    Queued,
    /// `PREPARING`: DataSync compares the two sides.
    Preparing,
    /// `TRANSFERRING`, `VERIFYING`: counters change.
    Transferring,
    /// `CANCELLING`: a client cancelled the execution, which is still running.
    Cancelling,
    /// A status of another name: still running.
    Other,
    /// `SUCCESS`
    Succeeded,
    /// `ERROR`, also of a cancelled execution.
    Failed,
}

impl Status {
    /// Whether this status is final.
    pub(crate) const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            QUEUED | "LAUNCHING" | "LAUNCHED" | "INITIALIZING" => Self::Queued,
            "PREPARING" => Self::Preparing,
            "TRANSFERRING" | "VERIFYING" => Self::Transferring,
            "CANCELLING" => Self::Cancelling,
            "SUCCESS" => Self::Succeeded,
            "ERROR" => Self::Failed,
            _ => Self::Other,
        }
    }
}

/// The state of an execution in one response, which names this execution and a status.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    pub(crate) arn: ExecutionArn,
    /// The status, as far as it matters here.
    pub status: Status,
    /// DataSync's name of the status.
    pub(crate) status_name: String,
    /// Every counter: while DataSync transfers or verifies files, one of them changes.
    pub(crate) counters: Vec<i64>,
    /// The progress in files and bytes, human-readable.
    pub(crate) progress: String,
    pub(crate) started: Option<SystemTime>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_detail: Option<String>,
    /// The phases of the result that ended in error: `preparing`, `transferring`, `verifying`.
    pub(crate) failed_phases: Vec<&'static str>,
    /// The filters of this execution, if the response contains any.
    pub(crate) filters: Filters,
    /// The options of this execution, if the response contains them.
    pub(crate) options: Option<ExecutionOptions>,
    /// The manifest of this execution, as [`manifest_url`] writes it.
    pub(crate) manifest: Option<String>,
    /// What the counters show of a result.
    pub(crate) counted: Counters,
    /// What the result shows of the verification.
    pub(super) verification: Verification,
}

impl Execution {
    /// Reads the response to `DescribeTaskExecution` about the execution `arn`.
    ///
    /// # Errors
    /// Returns an error if the response is about another execution, or has no status.
    pub(super) fn new(described: &DescribeTaskExecutionOutput, arn: &ExecutionArn) -> Result<Self, ServiceError> {
        let missing = |what| ServiceError::incomplete("DescribeTaskExecution", what);
        if described.task_execution_arn() != Some(arn.as_str()) {
            return Err(missing("this TaskExecutionArn"));
        }
        let status_name = described.status().map(TaskExecutionStatus::as_str).filter(|name| !name.is_empty());
        let status_name = status_name.ok_or_else(|| missing("a Status"))?.to_owned();
        let result = described.result();
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let counters = Counters::new(described);
        let bytes = u64::try_from(described.bytes_written()).unwrap_or_default();
        Ok(Self {
            arn: arn.clone(),
            status: Status::named(&status_name),
            counters: counters::values(described),
            progress: format!(
                "{} of {} transferred ({}), {} deleted",
                described.files_transferred(),
                counted(u64::try_from(described.estimated_files_to_transfer()).unwrap_or_default(), "file", "files"),
                ByteSize(bytes).display().iec(),
                described.files_deleted(),
            ),
            started: described.start_time().and_then(|time| SystemTime::try_from(*time).ok()),
            error_code: result.and_then(|result| text(result.error_code())),
            error_detail: result.and_then(|result| text(result.error_detail())),
            failed_phases: result.map(failed_phases).unwrap_or_default(),
            verification: Verification::new(result, &counters),
            counted: counters,
            filters: Filters::new(described.includes(), described.excludes()),
            options: described.options().map(ExecutionOptions::new),
            manifest: described.manifest_config().and_then(manifest_url),
            status_name,
        })
    }

    /// Whether this execution waits for the end of another one of its task.
    pub(super) fn is_queued(&self) -> bool {
        self.status_name == QUEUED
    }

    /// Whether this execution has filters that differ from these.
    pub(crate) fn has_other_filters_than(&self, filters: &Filters) -> bool {
        !self.filters.is_empty() && !self.filters.are_equal_in_effect(filters)
    }

    /// What the success of this execution shows of the objects that its filters admit. An execution compares sizes and
    /// mtimes, and so repairs no wrong content; a manifest and `OverwriteMode=NEVER` keep it from more.
    pub(super) fn compared(&self, task: &Task) -> Compared {
        let (Some(options), Some(of_task)) = (&self.options, &task.options) else {
            return Compared::Nothing;
        };
        let is_complete = self.status == Status::Succeeded
            && !self.is_partial()
            && self.counted.not_done().is_empty()
            && !self.counted.listed_nothing()
            && task.settings.stores_mtime()
            && options.differences(&of_task.with_deletes_of(options)).is_empty()
            && !options.overwrites_never()
            && self.manifest.is_none()
            && task.settings.manifest.is_none();
        match (is_complete, options.verifies_all()) {
            (false, _) => Compared::Nothing,
            (true, false) => Compared::SizesAndTimes,
            (true, true) => Compared::Content,
        }
    }

    /// Since when objects may have wrong content, by the result of this execution. A verification of everything may have
    /// found what an earlier execution wrote.
    pub(super) fn content_suspect_since(&self) -> Option<SystemTime> {
        let started = self.started.unwrap_or(UNIX_EPOCH);
        let verifies_only_transferred = self.options.as_ref().is_some_and(ExecutionOptions::verifies_only_transferred);
        let has_failed = self.status == Status::Failed && !self.was_cancelled();
        match self.verification {
            _ if !has_failed && !self.is_partial() => None,
            Verification::Failed if verifies_only_transferred => Some(started),
            Verification::Failed => Some(UNIX_EPOCH),
            Verification::Unknown => Some(started),
            Verification::NotFailed => self.is_partial().then_some(started),
        }
    }

    /// Whether the execution was cancelled: it then ends in `ERROR`. Only the whole error code decides. Another code, and
    /// the detail, may contain any words, such as the name of a file.
    pub(crate) fn was_cancelled(&self) -> bool {
        let code = self.error_code.as_deref().unwrap_or_default();
        self.status == Status::Failed && CANCEL_CODES.iter().any(|cancelled| code.eq_ignore_ascii_case(cancelled))
    }

    /// Whether the execution finished, but skipped some files or left them wrong. An error beside `SUCCESS` shows it too.
    pub(crate) fn is_partial(&self) -> bool {
        let detail = self.error_detail.as_deref().unwrap_or_default().to_lowercase();
        let partial =
            ["verification detected mismatches", "except for files skipped", "transfer and verification completed"];
        let has_error = self.error_code.is_some() || self.error_detail.is_some() || !self.failed_phases.is_empty();
        self.status.is_terminal()
            && (self.counted.failed().is_some()
                || self.status == Status::Succeeded && has_error
                || partial.iter().any(|text| detail.contains(text)))
    }
}

/// What the success of an execution shows of the objects that its filters admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Nothing that lasts: it has compared only some of them, or replaced none.
    Nothing,
    /// Their size and mtime are those of the files.
    SizesAndTimes,
    /// Their content is that of the files: DataSync has verified everything.
    Content,
}

/// Returns the phases whose status is `ERROR`.
fn failed_phases(result: &TaskExecutionResultDetail) -> Vec<&'static str> {
    let phases = [
        ("preparing", result.prepare_status()),
        ("transferring", result.transfer_status()),
        ("verifying", result.verify_status()),
    ];
    let failed = phases.into_iter().filter(|(_, status)| *status == Some(&PhaseStatus::Error));
    failed.map(|(name, _)| name).collect()
}

#[cfg(test)]
impl Execution {
    /// An execution with this status and nothing else.
    pub(super) fn showing(status: &str) -> Self {
        let task: super::TaskArn =
            "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0".parse().unwrap();
        let arn = format!("{task}/execution/exec-0123456789abcdef0");
        let described = DescribeTaskExecutionOutput::builder().task_execution_arn(&arn).status(status.into()).build();
        Self::new(&described, &task.execution(&arn).unwrap()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_datasync::types::TaskExecutionFoldersFailedDetail;

    use super::*;

    #[test]
    fn a_response_without_a_status_or_about_another_execution_is_an_error() {
        let arn = Execution::showing("SUCCESS").arn;
        let other = arn.as_str().replace("exec-0", "exec-1");
        let read = |arn_shown: Option<&str>, status: Option<&str>| {
            let described = DescribeTaskExecutionOutput::builder()
                .set_task_execution_arn(arn_shown.map(str::to_owned))
                .set_status(status.map(Into::into));
            Execution::new(&described.build(), &arn)
        };
        assert_eq!(read(Some(arn.as_str()), Some("SUCCESS")).unwrap().status, Status::Succeeded);
        for (arn_shown, status) in [
            (None, None),
            (None, Some("SUCCESS")),
            (Some(other.as_str()), Some("SUCCESS")),
            (Some(arn.as_str()), None),
            (Some(arn.as_str()), Some("")),
        ] {
            assert!(read(arn_shown, status).is_err(), "{arn_shown:?} {status:?}");
        }
    }

    #[test]
    fn an_unknown_status_counts_as_running() {
        for (name, status) in [
            ("QUEUED", Status::Queued),
            ("LAUNCHING", Status::Queued),
            ("LAUNCHED", Status::Queued),
            ("PREPARING", Status::Preparing),
            ("TRANSFERRING", Status::Transferring),
            ("VERIFYING", Status::Transferring),
            ("CANCELLING", Status::Cancelling),
            ("FROBNICATING", Status::Other),
            ("SUCCESS", Status::Succeeded),
            ("ERROR", Status::Failed),
        ] {
            assert_eq!(Status::named(name), status, "{name}");
        }
    }

    #[test]
    fn only_the_error_code_shows_a_cancel() {
        let execution = |status, code: Option<&str>, detail: &str| Execution {
            status,
            error_code: code.map(str::to_owned),
            error_detail: Some(detail.to_owned()),
            ..Execution::showing("ERROR")
        };
        for code in ["Cancelled", "TaskCanceled", "CANCELLED"] {
            assert!(execution(Status::Failed, Some(code), "").was_cancelled(), "{code}");
            assert!(!execution(Status::Succeeded, Some(code), "").was_cancelled(), "{code}");
        }
        let detail = "Failed to open /img/cancelled.png: the request was cancelled";
        for code in [None, Some("FsS3Error"), Some(""), Some("SomethingNotCancelledHere"), Some("CancelledUpstream")] {
            assert!(!execution(Status::Failed, code, detail).was_cancelled(), "{code:?}");
        }
    }

    #[test]
    fn an_execution_with_skipped_or_mismatched_files_is_partial() {
        let execution = |status_name: &str, detail: Option<&str>| Execution {
            error_detail: detail.map(str::to_owned),
            ..Execution::showing(status_name)
        };
        let mismatches = "Transfer and verification completed. Verification detected mismatches. Files with mismatches are listed in Cloud Watch Logs";
        let skipped =
            "Transfer and verification completed. Selected files transferred except for files skipped due to errors.";
        for detail in [mismatches, skipped] {
            assert!(execution("ERROR", Some(detail)).is_partial() && execution("SUCCESS", Some(detail)).is_partial());
            assert!(!execution("TRANSFERRING", Some(detail)).is_partial());
        }
        let failed = TaskExecutionFoldersFailedDetail::builder().list(1).build();
        let described = DescribeTaskExecutionOutput::builder().folders_failed(failed).build();
        let failed = Execution { counted: Counters::new(&described), ..execution("SUCCESS", None) };
        assert!(failed.is_partial());
        assert!(!execution("SUCCESS", None).is_partial());
        assert!(!execution("ERROR", Some("Task failed to access location loc-0")).is_partial());
    }

    #[test]
    fn an_error_beside_a_success_is_partial() {
        let arn = Execution::showing("SUCCESS").arn;
        let is_partial = |status: &str, result: TaskExecutionResultDetail| {
            let described = DescribeTaskExecutionOutput::builder().task_execution_arn(arn.as_str());
            Execution::new(&described.status(status.into()).result(result).build(), &arn).unwrap().is_partial()
        };
        let result = TaskExecutionResultDetail::builder;
        for (what, failed) in [
            ("code", result().error_code("VerificationFailed")),
            ("detail", result().error_detail("2 mismatched files")),
            ("prepare", result().prepare_status(PhaseStatus::Error)),
            ("transfer", result().transfer_status(PhaseStatus::Error)),
            ("verify", result().verify_status(PhaseStatus::Error)),
        ] {
            assert!(is_partial("SUCCESS", failed.clone().build()), "{what}");
            assert!(!is_partial("ERROR", failed.clone().build()), "{what}: the execution failed");
            assert!(!is_partial("VERIFYING", failed.build()), "{what}: the execution is running");
        }
        let success = result().verify_status(PhaseStatus::Success).error_code("").error_detail("");
        assert!(!is_partial("SUCCESS", success.build()));
    }
}
