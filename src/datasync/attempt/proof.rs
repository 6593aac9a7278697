//! The proof of a success: why the success of an execution does not show that the destination matches the source.

use super::Followed;
use crate::datasync::{ExecutionOptions, Request, Task};

/// A reason why a comparison must follow the success of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// The execution was already running: it may have listed the source before the last change.
    Attached,
    /// This run has options that a start cannot pass on, `--name value`.
    OtherSettings(Vec<String>),
    /// This run started the execution with filters of its own, and DataSync shows none.
    UnseenFilters,
    /// The execution has other options than this run requires, `NAME=VALUE`.
    OtherOptions(Vec<String>),
    /// DataSync did not show the options of the execution.
    UnknownOptions,
    /// The execution has another manifest than the task.
    OtherManifest,
    /// The execution was to delete nothing, and may have deleted.
    IgnoredOverride {
        /// How many files and folders DataSync counted as deleted.
        deleted: i64,
    },
}

impl Unproven {
    pub(super) const fn is_ignored_override(&self) -> bool {
        matches!(self, Self::IgnoredOverride { .. })
    }
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attached => {
                f.write_str("it was already running, and may have listed the source before the last change")
            }
            Self::OtherSettings(options) => {
                write!(f, "DataSync does not apply these options of this run: {}", options.join(", "))
            }
            Self::UnseenFilters => f.write_str("DataSync does not show the filters that this run passed on"),
            Self::OtherOptions(options) => {
                write!(f, "it had other options than this run requires: {}", options.join(", "))
            }
            Self::UnknownOptions => f.write_str("DataSync did not show its options"),
            Self::OtherManifest => f.write_str("it had another manifest than the task"),
            Self::IgnoredOverride { deleted } => {
                write!(f, "it ignored PreserveDeletedFiles=PRESERVE and deleted {deleted} objects without guards")
            }
        }
    }
}

/// Returns why the success of this execution does not show that the destination matches.
pub(super) fn unproven(followed: &Followed, task: &Task, request: &Request) -> Vec<Unproven> {
    let mut reasons = Vec::new();
    if followed.attached {
        reasons.push(Unproven::Attached);
    }
    if !request.beyond.is_empty() {
        reasons.push(Unproven::OtherSettings(request.beyond.clone()));
    }
    let Some(last) = &followed.last else {
        return reasons;
    };
    if followed.has_own_filters && last.filters.is_empty() {
        reasons.push(Unproven::UnseenFilters);
    }
    // An own execution was to delete nothing by its start, or by the task; another client's by the options that it shows.
    let shown = last.options.as_ref().map(ExecutionOptions::delete);
    let was_to_delete = followed.may_delete.or(shown).unwrap_or(true);
    if !was_to_delete && (last.deleted > 0 || shown == Some(true)) {
        reasons.push(Unproven::IgnoredOverride { deleted: last.deleted });
    }
    match (&task.options, request.options(task), &last.options) {
        (Some(task), Some(required), Some(options)) => {
            // Deletes despite the start are a reason of their own, and those of another client are the task's.
            let own_deletes = followed.may_delete == Some(false);
            let required = required.with_deletes_of(if own_deletes { options } else { task });
            let differences = options.differences(&required);
            if !differences.is_empty() {
                reasons.push(Unproven::OtherOptions(differences));
            }
        }
        (None, ..) | (_, None, _) | (.., None) => reasons.push(Unproven::UnknownOptions),
    }
    if last.manifest != task.settings.manifest {
        reasons.push(Unproven::OtherManifest);
    }
    reasons
}
