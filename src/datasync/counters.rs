//! The counters of an execution: its progress, and what DataSync itself counts as failed or as not done.

use aws_sdk_datasync::operation::describe_task_execution::DescribeTaskExecutionOutput;
use aws_sdk_datasync::types::{
    TaskExecutionFilesFailedDetail, TaskExecutionFilesListedDetail, TaskExecutionFoldersFailedDetail, TaskMode,
    VerifyMode,
};

use crate::counted::counted;

/// The counters that show how far an execution came.
///
/// `FilesSkipped` and `FoldersSkipped` are not among them: the API does not document what DataSync counts as skipped, and
/// what `OverwriteMode=NEVER` keeps is skipped as intended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    files: Counted,
    /// Always 0 in Basic mode, which counts folders as files.
    folders: Counted,
    /// What DataSync found at the source; only Enhanced mode counts it.
    listed_at_source: Option<i64>,
    /// Whether the execution had to verify each file that it transferred.
    verifies_each: bool,
}

/// The counters of files, or of folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    to_transfer: i64,
    transferred: i64,
    verified: i64,
    to_delete: i64,
    deleted: i64,
    /// In any phase.
    failed: i64,
    /// In the verification.
    failed_to_verify: i64,
}

impl Counters {
    pub(super) fn new(described: &DescribeTaskExecutionOutput) -> Self {
        let (files_failed, folders_failed) = (described.files_failed(), described.folders_failed());
        let files = Counted {
            to_transfer: described.estimated_files_to_transfer(),
            transferred: described.files_transferred(),
            verified: described.files_verified(),
            to_delete: described.estimated_files_to_delete(),
            deleted: described.files_deleted(),
            failed: files_failed
                .map_or(0, |failed| failed.prepare() + failed.transfer() + failed.verify() + failed.delete()),
            failed_to_verify: files_failed.map_or(0, TaskExecutionFilesFailedDetail::verify),
        };
        let folders = Counted {
            to_transfer: described.estimated_folders_to_transfer().unwrap_or_default(),
            transferred: described.folders_transferred().unwrap_or_default(),
            verified: described.folders_verified().unwrap_or_default(),
            to_delete: described.estimated_folders_to_delete().unwrap_or_default(),
            deleted: described.folders_deleted().unwrap_or_default(),
            failed: folders_failed.map_or(0, |failed| {
                failed.list() + failed.prepare() + failed.transfer() + failed.verify() + failed.delete()
            }),
            failed_to_verify: folders_failed.map_or(0, TaskExecutionFoldersFailedDetail::verify),
        };
        let verifies_each = match described.options().and_then(|options| options.verify_mode()) {
            Some(VerifyMode::PointInTimeConsistent) => true,
            // In Basic mode, DataSync does not verify each transferred folder, and counts folders as files.
            Some(VerifyMode::OnlyFilesTransferred) => described.task_mode() != Some(&TaskMode::Basic),
            _ => false,
        };
        let counts_listed = described.task_mode() == Some(&TaskMode::Enhanced);
        let listed_at_source =
            described.files_listed().filter(|_| counts_listed).map(TaskExecutionFilesListedDetail::at_source);
        Self { files, folders, listed_at_source, verifies_each }
    }

    /// What DataSync counts as failed, human-readable; `None` if it counts nothing.
    pub(crate) fn failed(&self) -> Option<String> {
        let nonzero = |count: i64| u64::try_from(count).ok().filter(|count| *count > 0);
        let files = nonzero(self.files.failed).map(|count| counted(count, "file", "files"));
        let folders = nonzero(self.folders.failed).map(|count| counted(count, "folder", "folders"));
        let failed: Vec<String> = files.into_iter().chain(folders).collect();
        (!failed.is_empty()).then(|| format!("{} failed", failed.join(" and ")))
    }

    /// Whether DataSync counts something whose verification failed.
    pub(super) const fn failed_to_verify(&self) -> bool {
        self.files.failed_to_verify > 0 || self.folders.failed_to_verify > 0
    }

    /// How many files and folders the execution deleted.
    pub(crate) fn deleted(&self) -> u64 {
        u64::try_from(self.files.deleted + self.folders.deleted).unwrap_or_default()
    }

    /// Whether DataSync counts that it found nothing at the source.
    pub(super) fn listed_nothing(&self) -> bool {
        self.listed_at_source == Some(0)
    }

    /// Whether the execution transferred no file. Of an empty folder of the source, it may still have transferred the
    /// folder itself.
    pub(super) const fn transferred_no_file(&self) -> bool {
        self.files.transferred == 0
    }

    /// What an execution that succeeded did not do of what it was to do, human-readable.
    pub(crate) fn not_done(&self) -> Vec<String> {
        let mut not_done = Vec::new();
        for (of_kind, one, many) in [(&self.files, "file", "files"), (&self.folders, "folder", "folders")] {
            let Counted { to_transfer, transferred, verified, to_delete, deleted, .. } = *of_kind;
            let mut compare = |verb: &str, count: i64, expected: i64| {
                if count < expected {
                    let expected = counted(u64::try_from(expected).unwrap_or_default(), one, many);
                    not_done.push(format!("it {verb} {count} of {expected}"));
                }
            };
            compare("transferred", transferred, to_transfer);
            compare("deleted", deleted, to_delete);
            // DataSync does not verify each folder.
            if self.verifies_each && many == "files" {
                compare("verified", verified, transferred);
            }
        }
        not_done
    }
}

/// Every counter: while DataSync transfers or verifies files, one of them changes.
pub(super) fn values(described: &DescribeTaskExecutionOutput) -> Vec<i64> {
    let listed = described.files_listed();
    vec![
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
    ]
}

#[cfg(test)]
mod tests {
    use aws_sdk_datasync::operation::describe_task_execution::builders::DescribeTaskExecutionOutputBuilder;
    use aws_sdk_datasync::types::Options;

    use super::*;

    fn counters(
        change: impl FnOnce(DescribeTaskExecutionOutputBuilder) -> DescribeTaskExecutionOutputBuilder,
    ) -> Counters {
        Counters::new(&change(DescribeTaskExecutionOutput::builder()).build())
    }

    #[test]
    fn each_counter_of_failures_counts() {
        let files = TaskExecutionFilesFailedDetail::builder;
        let folders = TaskExecutionFoldersFailedDetail::builder;
        for failed in [files().prepare(2), files().transfer(2), files().verify(2), files().delete(2)] {
            let failed = counters(|described| described.files_failed(failed.build())).failed();
            assert_eq!(failed.as_deref(), Some("2 files failed"));
        }
        let in_phases =
            [folders().list(3), folders().prepare(3), folders().transfer(3), folders().verify(3), folders().delete(3)];
        for failed in in_phases {
            let failed = counters(|described| described.folders_failed(failed.build())).failed();
            assert_eq!(failed.as_deref(), Some("3 folders failed"));
        }
        let both = |described: DescribeTaskExecutionOutputBuilder| {
            described.files_failed(files().verify(1).build()).folders_failed(folders().list(1).build())
        };
        assert_eq!(counters(both).failed().as_deref(), Some("1 file and 1 folder failed"));
        assert!(counters(both).failed_to_verify());
        assert_eq!(counters(|described| described).failed(), None);
    }

    #[test]
    fn a_counter_below_its_estimate_is_not_done() {
        let described = |described: DescribeTaskExecutionOutputBuilder| {
            let described = described.estimated_files_to_transfer(4).files_transferred(3);
            let described = described.estimated_files_to_delete(7).files_deleted(2);
            let described = described.estimated_folders_to_transfer(3).folders_transferred(1);
            described.estimated_folders_to_delete(2).folders_deleted(0)
        };
        let expected = [
            "it transferred 3 of 4 files",
            "it deleted 2 of 7 files",
            "it transferred 1 of 3 folders",
            "it deleted 0 of 2 folders",
        ];
        assert_eq!(counters(described).not_done(), expected);
        let more = counters(|described| described.estimated_files_to_transfer(3).files_transferred(4).files_skipped(9));
        assert_eq!(more.not_done(), Vec::<String>::new());
    }

    #[test]
    fn only_enhanced_mode_counts_what_it_listed() {
        let listed_nothing = |mode: Option<TaskMode>, at_source| {
            let listed = TaskExecutionFilesListedDetail::builder().at_source(at_source).build();
            counters(|described| described.set_task_mode(mode).files_listed(listed)).listed_nothing()
        };
        assert!(listed_nothing(Some(TaskMode::Enhanced), 0) && !listed_nothing(Some(TaskMode::Enhanced), 1));
        assert!(!listed_nothing(Some(TaskMode::Basic), 0) && !listed_nothing(None, 0));
        assert!(!counters(|described| described.task_mode(TaskMode::Enhanced)).listed_nothing());
    }

    #[test]
    fn files_without_verification_are_not_done_if_the_mode_verifies_each() {
        let not_done = |verify: VerifyMode, mode: TaskMode| {
            let options = Options::builder().verify_mode(verify).build();
            let described = |described: DescribeTaskExecutionOutputBuilder| {
                described.options(options).task_mode(mode).files_transferred(8).files_verified(3).folders_transferred(2)
            };
            counters(described).not_done()
        };
        let expected = ["it verified 3 of 8 files"];
        assert_eq!(not_done(VerifyMode::PointInTimeConsistent, TaskMode::Basic), expected);
        assert_eq!(not_done(VerifyMode::OnlyFilesTransferred, TaskMode::Enhanced), expected);
        assert_eq!(not_done(VerifyMode::OnlyFilesTransferred, TaskMode::Basic), Vec::<String>::new());
        assert_eq!(not_done(VerifyMode::None, TaskMode::Enhanced), Vec::<String>::new());
    }
}
