//! The proof of a success: why the success of an execution does not show that the destination matches the source.

use std::time::Duration;

use super::followed::{Followed, StartedBy};
use crate::counted::counted;
use crate::datasync::{Execution, ExecutionOptions, Filters, OwnDeletes, Request, Task};

/// How much later the clock of this machine may be than that of DataSync.
const CLOCK_DIFFERENCE: Duration = Duration::from_mins(1);

/// A reason why a comparison must follow the success of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// The execution may be another client's: it may have listed the source before the last change.
    Attached(StartedBy),
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
    /// The execution did less than it expected, by this counter.
    NotDone(String),
    /// The source has files, and the execution found none there, or copied none of them to a destination that has none.
    FoundNoFiles,
    /// The execution may have overwritten objects that this run keeps with `--overwrite never`.
    Overwrote,
    /// The execution started before this run asked for one.
    StartedEarlier,
    /// The task stores no mtime, and so compares sizes alone.
    SizesAlone,
    /// The execution may not have applied the filters of this run, or the manifest.
    PublishedBeyond {
        by: StartedBy,
        /// Whether DataSync shows that.
        is_shown: bool,
    },
    /// The execution was to delete nothing, and may have deleted.
    IgnoredOverride {
        /// How many files and folders DataSync counted as deleted.
        deleted: u64,
    },
    /// The execution may be another client's and deletes objects itself, and this run asked for no deletes of DataSync.
    UnguardedDeletes {
        by: StartedBy,
        /// How many files and folders DataSync counted as deleted.
        deleted: u64,
    },
}

impl Unproven {
    /// How many objects the execution deleted that no guard has seen, if it may have deleted any.
    pub(super) const fn unguarded_deletes(&self) -> Option<u64> {
        match self {
            Self::IgnoredOverride { deleted } | Self::UnguardedDeletes { deleted, .. } => Some(*deleted),
            Self::Attached(_)
            | Self::OtherSettings(_)
            | Self::UnseenFilters
            | Self::OtherOptions(_)
            | Self::UnknownOptions
            | Self::OtherManifest
            | Self::NotDone(_)
            | Self::FoundNoFiles
            | Self::Overwrote
            | Self::StartedEarlier
            | Self::SizesAlone
            | Self::PublishedBeyond { .. } => None,
        }
    }

    /// Whether the execution may have deleted although it was to delete nothing.
    pub(super) const fn is_ignored_override(&self) -> bool {
        matches!(self, Self::IgnoredOverride { .. })
    }

    /// Whether the execution may have done what this run does not allow, however it ended.
    pub(super) const fn is_violation(&self) -> bool {
        self.unguarded_deletes().is_some() || self.is_unwanted_write()
    }

    /// Whether the execution may have written what this run does not allow.
    pub(super) const fn is_unwanted_write(&self) -> bool {
        matches!(self, Self::PublishedBeyond { .. } | Self::Overwrote)
    }
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attached(by) => {
                match by {
                    StartedBy::Run | StartedBy::Another => f.write_str("it was already running")?,
                    StartedBy::Unknown => by.fmt(f)?,
                }
                f.write_str(", and may have listed the source before the last change")
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
            Self::NotDone(counter) => f.write_str(counter),
            Self::FoundNoFiles => f.write_str(
                "it copied no file, although the mounted source has files that the destination lacked: check that the \
                 task's source location is the folder that is mounted (its subdirectory, its access point)",
            ),
            Self::Overwrote => f.write_str(
                "it does not have OverwriteMode=NEVER: objects that --overwrite never keeps may have been overwritten, look \
                 for them (bucket versions)",
            ),
            Self::StartedEarlier => f.write_str("it started before this run asked for an execution"),
            Self::SizesAlone => f.write_str("the task has Mtime=NONE, with which DataSync compares sizes alone"),
            Self::PublishedBeyond { by, is_shown } => {
                if *is_shown {
                    f.write_str("it did not apply the filters of this run")?;
                } else {
                    write!(f, "{by}, and DataSync shows no filters of it")?;
                }
                f.write_str(": objects that this run excludes may have been published, look for them")
            }
            Self::IgnoredOverride { deleted: 0 } => {
                f.write_str("it ignored PreserveDeletedFiles=PRESERVE, but deleted no object")
            }
            Self::IgnoredOverride { deleted } => {
                let deleted = counted(*deleted, "object", "objects");
                write!(f, "it ignored PreserveDeletedFiles=PRESERVE and deleted {deleted} without guards")
            }
            Self::UnguardedDeletes { by, deleted: 0 } => write!(f, "{by}, but it deleted no object"),
            Self::UnguardedDeletes { by, deleted } => {
                let deleted = counted(*deleted, "object", "objects");
                write!(f, "{by}, and it deleted {deleted} without guards")
            }
        }
    }
}

/// Returns why the success of this execution does not show that the destination matches.
pub(super) fn unproven(followed: &Followed, task: &Task, request: &Request) -> Vec<Unproven> {
    let by = followed.started_by;
    let mut reasons = Vec::new();
    if followed.is_attached() {
        reasons.push(Unproven::Attached(by));
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
    let deleted = last.counted.deleted();
    // An own execution was to delete nothing by its start, or by the task; another client's by the options that it shows.
    let shown = last.options.as_ref().map(ExecutionOptions::delete);
    let was_to_delete = followed.may_delete.or(shown).unwrap_or(true);
    if !was_to_delete && (deleted > 0 || shown == Some(true)) {
        reasons.push(Unproven::IgnoredOverride { deleted });
    } else if followed.is_attached() && request.deletes == OwnDeletes::None && deleted > 0 {
        reasons.push(Unproven::UnguardedDeletes { by, deleted });
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
    reasons.extend(unwanted_writes(last, request, task, by));
    if let (Some(requested), Some(started)) = (followed.requested, last.started)
        && started + CLOCK_DIFFERENCE < requested
    {
        reasons.push(Unproven::StartedEarlier);
    }
    reasons.extend(last.counted.not_done().into_iter().map(Unproven::NotDone));
    if !task.settings.stores_mtime() {
        reasons.push(Unproven::SizesAlone);
    }
    if last.manifest != task.settings.manifest {
        reasons.push(Unproven::OtherManifest);
    }
    reasons
}

/// What an execution may write that a run with this request does not allow, whatever its status is. One that another
/// client started and that shows no filters may have none: the task's may be later, and the API does not document whether
/// an execution shows those of its task.
pub(super) fn unwanted_writes(execution: &Execution, request: &Request, task: &Task, by: StartedBy) -> Vec<Unproven> {
    let is_own = by == StartedBy::Run;
    let (of_task, none) = (task.settings.filters(), Filters::default());
    let shows_filters = !execution.filters.is_empty();
    let own = match (shows_filters, is_own) {
        (true, _) => &execution.filters,
        (false, true) => &of_task,
        (false, false) => &none,
    };
    let manifest = &task.settings.manifest;
    let has_other_manifest = manifest.is_some() && execution.manifest != *manifest;
    let overwrites_never = match &execution.options {
        Some(options) => options.overwrites_never(),
        None => is_own && task.settings.overwrite_never,
    };
    let mut unwanted = Vec::new();
    if has_other_manifest || own.may_admit_more_than(&request.filters) {
        unwanted.push(Unproven::PublishedBeyond { by, is_shown: shows_filters || has_other_manifest });
    }
    if request.overwrite_never && !overwrites_never {
        unwanted.push(Unproven::Overwrote);
    }
    unwanted
}
