//! The rules of a run: what its decisions and its deletes depend on besides the file and the object.

use std::sync::Arc;
use std::time::Duration;

use crate::metadata::Preserve;
use crate::sync::guard::{Guard, LimitShare, MaxDelete};
use crate::sync::other_writer::OtherWriter;
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
    /// Which objects DataSync may have written late, or wrong.
    pub suspect: Suspect,
    /// Whether the index was written in another mode.
    pub mode_changed: bool,
}

impl Rules {
    /// Whether a run with these rules finds and replaces each suspect object that differs.
    pub(crate) fn find_all_differences(&self) -> bool {
        let finds = match self.compare_by {
            CompareBy::TimesOrContent | CompareBy::Content | CompareBy::Metadata => true,
            CompareBy::Size | CompareBy::Mtime => false,
        };
        finds && self.overwrite
    }
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

/// Since when objects may differ from their files although no date shows it: the earliest time for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspect {
    /// Objects of an execution that may have read a file before its last change.
    pub late: Option<EpochNanos>,
    /// Objects whose content may be wrong, whatever their metadata is.
    pub content: Option<EpochNanos>,
    /// Objects of an execution that succeeded: they differ only if the file changed after the execution had read it.
    pub changed: Option<EpochNanos>,
}

impl Suspect {
    /// Nothing is suspect.
    pub(crate) const NONE: Self = Self { late: None, content: None, changed: None };

    pub(crate) fn late(since: impl Into<EpochNanos>) -> Self {
        Self { late: Some(since.into()), ..Self::default() }
    }

    pub(crate) fn content(since: impl Into<EpochNanos>) -> Self {
        Self { content: Some(since.into()), ..Self::default() }
    }

    pub(crate) fn changed(since: impl Into<EpochNanos>) -> Self {
        Self { changed: Some(since.into()), ..Self::default() }
    }

    /// What is suspect for the reasons of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let earliest = |one: Option<EpochNanos>, other| [one, other].into_iter().flatten().min();
        Self {
            late: earliest(self.late, other.late),
            content: earliest(self.content, other.content),
            changed: earliest(self.changed, other.changed),
        }
    }

    /// The reasons that concern an object that was written at this time, and whose file changed last at this time.
    pub(crate) fn of(self, written: EpochNanos, file_changed: EpochNanos, margin: Duration) -> Self {
        let not_before = |time: EpochNanos| move |since: &EpochNanos| time >= since.minus(margin);
        Self {
            late: self.late.filter(not_before(written)),
            content: self.content.filter(not_before(written)),
            changed: self.changed.filter(not_before(written)).filter(not_before(file_changed)),
        }
    }

    /// The earliest time of all reasons.
    pub(crate) fn since(self) -> Option<EpochNanos> {
        [self.late, self.content, self.changed].into_iter().flatten().min()
    }

    /// Whether nothing is suspect.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::NONE
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
    /// The guard that withholds every delete because of what DataSync left in doubt.
    pub of_doubt: Option<Guard>,
    /// Who may have started to write since the run started.
    pub(crate) other_writer: Option<Arc<dyn OtherWriter>>,
    /// How many objects DataSync has deleted before this run's deletes. They count towards the limit.
    pub already_deleted: u64,
}

impl DeleteRules {
    /// Whether these deletes, with those of DataSync before them, are more than the limit allows. `objects`: how many
    /// objects in scope the destination had when this run listed it.
    pub(crate) fn exceed_limit(&self, deletes: u64, objects: u64) -> bool {
        let before = self.already_deleted;
        deletes.saturating_add(before) > self.max_delete.of(objects.saturating_add(before), self.limit_share)
    }

    /// The rules for deletes of a reviewed plan: their number and the directories were checked when the plan was made.
    pub(crate) fn of_plan(self) -> Self {
        Self { max_delete: MaxDelete::Count(u64::MAX), ignore_errors: true, of_plan: true, ..self }
    }
}
