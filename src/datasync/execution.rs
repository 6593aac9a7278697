//! An execution of a task: its status, its counters, and what came of it.

use std::time::SystemTime;

use bytesize::ByteSize;

use super::task::{TaskSettings, patterns};

use aws_sdk_datasync::operation::describe_task_execution::DescribeTaskExecutionOutput;
use aws_sdk_datasync::types::TaskExecutionFilesListedDetail;

/// How an execution stands. A status that this program does not know means that it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `QUEUED`, `LAUNCHING`: nothing has begun.
    Waiting,
    /// `PREPARING`: the two sides are being compared.
    Preparing,
    /// `TRANSFERRING`, `VERIFYING`: counters should move.
    Moving,
    /// `CANCELLING`, or any other: under way.
    UnderWay,
    /// `SUCCESS`
    Succeeded,
    /// `ERROR`, which a cancelled execution ends in too.
    Failed,
}

impl Status {
    /// Whether it will not change any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    fn named(name: &str) -> Self {
        match name {
            "QUEUED" | "LAUNCHING" | "LAUNCHED" | "INITIALIZING" => Self::Waiting,
            "PREPARING" => Self::Preparing,
            "TRANSFERRING" | "VERIFYING" => Self::Moving,
            "SUCCESS" => Self::Succeeded,
            "ERROR" => Self::Failed,
            _ => Self::UnderWay,
        }
    }
}

/// An execution, as one answer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// How it stands.
    pub status: Status,
    /// DataSync's word for that.
    pub status_name: String,
    /// Every counter: while files are transferred or verified, one of them moves.
    pub counters: Vec<i64>,
    /// How far it is, for people.
    pub line: String,
    /// When it began, where that is told.
    pub started: Option<SystemTime>,
    /// What went wrong, by DataSync's name.
    pub error_code: Option<String>,
    /// What went wrong, in DataSync's words.
    pub error_detail: Option<String>,
    /// The include and exclude patterns that it was started with, where that is told.
    pub filters: (Option<String>, Option<String>),
    /// How many files failed by themselves, where that is told (Enhanced mode).
    pub files_failed: i64,
}

impl Execution {
    pub(super) fn new(described: &DescribeTaskExecutionOutput) -> Self {
        let status_name = described.status().map_or("UNKNOWN", |status| status.as_str()).to_owned();
        let result = described.result();
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let failed = described.files_failed();
        let listed = described.files_listed();
        let bytes = u64::try_from(described.bytes_written()).unwrap_or_default();
        Self {
            status: Status::named(&status_name),
            counters: vec![
                described.estimated_files_to_transfer(),
                described.estimated_bytes_to_transfer(),
                described.estimated_files_to_delete(),
                described.files_transferred(),
                described.bytes_written(),
                described.bytes_transferred(),
                described.files_deleted(),
                described.files_skipped(),
                described.files_verified(),
                described.files_prepared(),
                described.folders_transferred().unwrap_or_default(),
                described.folders_verified().unwrap_or_default(),
                described.folders_deleted().unwrap_or_default(),
                described.folders_skipped().unwrap_or_default(),
                described.folders_prepared().unwrap_or_default(),
                listed.map_or(0, TaskExecutionFilesListedDetail::at_source),
                listed.map_or(0, TaskExecutionFilesListedDetail::at_destination_for_delete),
            ],
            line: format!(
                "{} of {} files transferred ({}), {} deleted",
                described.files_transferred(),
                described.estimated_files_to_transfer(),
                ByteSize(bytes).display().iec(),
                described.files_deleted(),
            ),
            started: described.start_time().and_then(|time| SystemTime::try_from(*time).ok()),
            error_code: result.and_then(|result| text(result.error_code())),
            error_detail: result.and_then(|result| text(result.error_detail())),
            files_failed: failed
                .map_or(0, |failed| failed.prepare() + failed.transfer() + failed.verify() + failed.delete()),
            filters: (patterns(described.includes()), patterns(described.excludes())),
            status_name,
        }
    }

    /// Whether it was started by somebody with other filters than the task's, and so looks at other files.
    #[must_use]
    pub fn has_other_filters_than(&self, settings: &TaskSettings) -> bool {
        let (include, exclude) = &self.filters;
        let is_told = include.is_some() || exclude.is_some();
        is_told && (*include != settings.include || *exclude != settings.exclude)
    }

    /// Whether somebody cancelled it: DataSync calls that an error.
    #[must_use]
    pub fn was_cancelled(&self) -> bool {
        let said = [&self.error_code, &self.error_detail].into_iter().flatten();
        self.status == Status::Failed && said.into_iter().any(|text| text.to_lowercase().contains("cancel"))
    }

    /// Whether it went to its end and left some files out or wrong.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        let detail = self.error_detail.as_deref().unwrap_or_default().to_lowercase();
        let said =
            ["verification detected mismatches", "except for files skipped", "transfer and verification completed"];
        self.status.is_terminal() && (self.files_failed > 0 || said.iter().any(|words| detail.contains(words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_nobody_knows_is_under_way() {
        for (name, status) in [
            ("QUEUED", Status::Waiting),
            ("LAUNCHING", Status::Waiting),
            ("LAUNCHED", Status::Waiting),
            ("PREPARING", Status::Preparing),
            ("TRANSFERRING", Status::Moving),
            ("VERIFYING", Status::Moving),
            ("CANCELLING", Status::UnderWay),
            ("FROBNICATING", Status::UnderWay),
            ("SUCCESS", Status::Succeeded),
            ("ERROR", Status::Failed),
        ] {
            assert_eq!(Status::named(name), status, "{name}");
        }
    }

    #[test]
    fn what_went_to_its_end_and_left_files_out_is_partial() {
        let execution = |status_name: &str, detail: Option<&str>, files_failed| Execution {
            status: Status::named(status_name),
            status_name: status_name.to_owned(),
            counters: Vec::new(),
            line: String::new(),
            started: None,
            error_code: None,
            error_detail: detail.map(str::to_owned),
            filters: (None, None),
            files_failed,
        };
        let mismatches = "Transfer and verification completed. Verification detected mismatches. Files with mismatches are listed in Cloud Watch Logs";
        let skipped =
            "Transfer and verification completed. Selected files transferred except for files skipped due to errors.";
        for detail in [mismatches, skipped] {
            assert!(
                execution("ERROR", Some(detail), 0).is_partial() && execution("SUCCESS", Some(detail), 0).is_partial()
            );
            assert!(!execution("TRANSFERRING", Some(detail), 0).is_partial());
        }
        assert!(execution("SUCCESS", None, 3).is_partial());
        assert!(!execution("SUCCESS", None, 0).is_partial());
        assert!(!execution("ERROR", Some("Task failed to access location loc-0"), 0).is_partial());
    }
}
