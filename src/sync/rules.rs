//! The rules of a run: what its decisions and its deletes depend on besides the file and the object.

use std::time::Duration;

use crate::metadata::Preserve;
use crate::sync::guard::{LimitShare, MaxDelete};
use crate::time::EpochNanos;

/// What a decision depends on besides the file and the object.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How to compare files and objects of the same size.
    pub compare_by: CompareBy,
    /// The run leaves files younger than this for the next run.
    pub min_age: Duration,
    /// Whether to delete orphans.
    pub delete: bool,
    /// Whether to replace objects that differ.
    pub overwrite: bool,
    /// Which attributes of a file the mode stores as metadata; `None` in plain mode.
    pub preserve: Option<Preserve>,
    /// Which objects DataSync may have written late.
    pub suspect: Option<Suspect>,
    /// Whether the index was written in another mode.
    pub mode_changed: bool,
}

/// How a file is compared with an object of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareBy {
    /// By times if they prove that nothing changed, otherwise by content.
    TimesOrContent,
    /// By size alone.
    Size,
    /// By mtime: a file newer than its object differs.
    Mtime,
    /// Always by content.
    Content,
    /// By the stored metadata, and by content if the times cannot prove that it is equal.
    Metadata,
}

/// Objects that DataSync may have written after it had read an older state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Objects written at or after this time are suspect.
    pub since: EpochNanos,
    /// Whether their content may be wrong, and not only older than the file.
    pub content: bool,
    /// Whether only files that changed since then can differ: the execution succeeded after it had read the others.
    pub only_changed: bool,
}

impl Suspect {
    /// What is suspect for either reason.
    pub(crate) fn either(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(Self {
                since: one.since.min(other.since),
                content: one.content || other.content,
                only_changed: one.only_changed && other.only_changed,
            }),
            (one, other) => one.or(other),
        }
    }
}

/// What allows deletes, and how many.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each withholds or allows deletes for a reason of its own")]
pub struct DeleteRules {
    /// How many deletes are allowed.
    pub max_delete: MaxDelete,
    /// Which share of the default number this run has.
    pub limit_share: LimitShare,
    /// Whether an empty source may delete everything.
    pub allow_empty_source: bool,
    /// Whether an unreadable directory withholds only the deletes below it.
    pub ignore_errors: bool,
    /// Whether these are the deletes of a reviewed plan.
    pub of_plan: bool,
    /// Whether the run lacks the description of its DataSync task.
    pub task_unknown: bool,
    /// The DataSync execution that may still be running.
    pub datasync_may_still_run: Option<String>,
}

impl DeleteRules {
    /// The rules for deletes of a reviewed plan: their number and the directories were checked when the plan was made.
    pub(crate) fn of_plan(self) -> Self {
        Self { max_delete: MaxDelete::Count(u64::MAX), ignore_errors: true, of_plan: true, ..self }
    }
}
