//! The verification of an execution: whether DataSync found content that differs from the source.

use aws_sdk_datasync::types::{PhaseStatus, TaskExecutionResultDetail};

use super::counters::Counters;

/// What an execution that has ended shows of its verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    /// It found content that differs, or did not finish.
    Failed,
    /// It succeeded, or the execution ended before it.
    NotFailed,
    /// The result does not show it.
    #[default]
    Unknown,
}

impl Verification {
    /// The error code and the detail only show a failure: their words may be parts of a file name.
    pub(super) fn new(result: Option<&TaskExecutionResultDetail>, counters: &Counters) -> Self {
        let Some(result) = result else {
            return if counters.failed_to_verify() { Self::Failed } else { Self::Unknown };
        };
        let code = result.error_code().unwrap_or_default().to_ascii_lowercase();
        let detail = result.error_detail().unwrap_or_default().to_ascii_lowercase();
        // A report of skipped files begins with the words "Transfer and verification completed".
        let detail = detail.replace("verification completed", "");
        let names_verification =
            ["verif", "mismatch", "checksum"].iter().any(|word| code.contains(word) || detail.contains(word));
        if counters.failed_to_verify() || names_verification || result.verify_status() == Some(&PhaseStatus::Error) {
            return Self::Failed;
        }
        match result.verify_status() {
            Some(PhaseStatus::Success | PhaseStatus::Pending) => Self::NotFailed,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_datasync::types::builders::TaskExecutionResultDetailBuilder;

    use super::*;

    #[test]
    fn a_failed_verification_is_seen_by_status_code_or_detail() {
        let of =
            |result: TaskExecutionResultDetailBuilder| Verification::new(Some(&result.build()), &Counters::default());
        let result = TaskExecutionResultDetail::builder;
        let skipped =
            "Transfer and verification completed. Selected files transferred except for files skipped due to errors.";
        for (expected, result) in [
            (Verification::Failed, result().verify_status(PhaseStatus::Error)),
            (Verification::Failed, result().error_code("VerificationFailed")),
            (Verification::Failed, result().error_detail("1 file does not match: Checksum differs")),
            (Verification::Failed, result().error_detail(format!("{skipped} Verification detected mismatches"))),
            (Verification::NotFailed, result().verify_status(PhaseStatus::Success).error_detail(skipped)),
            (Verification::NotFailed, result().verify_status(PhaseStatus::Pending).error_code("OpNotSupp")),
            (Verification::Unknown, result().transfer_status(PhaseStatus::Error).error_code("OpNotSupp")),
            (Verification::Unknown, result().error_detail("1 file does not match its source")),
            (Verification::Unknown, result()),
        ] {
            assert_eq!(of(result.clone()), expected, "{result:?}");
        }
        assert_eq!(Verification::new(None, &Counters::default()), Verification::Unknown);
    }
}
