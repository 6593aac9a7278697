//! The guards: everything that can withhold a delete. `still_gone` and `still_the_same` are named after the check that
//! failed, the others after the trouble.
//!
//! Absence must be proven. The message of a guard says why it withholds deletes, and which option or action allows them.
//! The tally puts their number before it.

use std::str::FromStr;

use crate::counted::counted;
use crate::served::InnerDestination;

/// The message of the guard of a task whose present settings are unknown, or other ones.
const TASK_UNKNOWN: &str = "\
    DataSync did not describe the task, or the task has other settings than when the run started, so this run \
    cannot know what the task excludes and whether it deletes now: read `datasync.evidence`, and run again once \
    DataSync describes the task. To delete without DataSync, run efs2s3 sync --delete with the task's filters";

/// A guard that withholds deletes, with the numbers that its message gives.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the message shows what each number is")]
pub enum Guard {
    /// The run ended with this error before its deletes, or between them: in the walk, the listing, the uploads or the
    /// deletes.
    Listing { error: String },
    /// The run was asked to stop before these deletes.
    Interrupted,
    /// DataSync did not describe the task, so the run does not know what the task excludes.
    TaskUnknown,
    /// This DataSync execution may still be running.
    DatasyncMayStillRun { execution: String },
    /// The walk could not read some directories, and an unreadable directory looks like a deleted one.
    Walk { directories: u64 },
    /// A broken or looping link, or a missing mount, hides whether the source has a file for this object.
    Unknown,
    /// Uploads of new files failed at the destination: one of them may be the new name of a deleted file.
    /// Of a reviewed plan, no later run has the same deletes.
    Uploads { failed: u64, of_plan: bool },
    /// A file has no object at its new key, and this object has its size: it may be the file's old name. If the size cannot
    /// be learned, every orphan may be.
    MayBeRenamed { new_name: NewName, unknown_size: Option<String> },
    /// The source has no content, as a directory on which nothing is mounted. It applies without deletes too. `objects`
    /// are those in scope that the run knows of.
    EmptySource { objects: u64 },
    /// There are more deletes than `--max-delete` allows.
    Limit { deletes: u64, before: u64, objects: u64, allowed: MaxDelete, share: LimitShare },
    /// The object belongs to a destination inside this one, which runs with the same state write to.
    OtherDestination { destination: String, marker: String },
    /// The temporary file that holds the list of deletes failed.
    Spill { error: String },
    /// No file can have this name.
    ImpossiblePath,
    /// The file or the object of this line has changed since the plan was made.
    ChangedSincePlan,
    /// The file exists again.
    StillGone,
    /// The re-check could not see whether the file is still gone.
    StillGoneUnknown { problem: String },
    /// Another writer changed the object after it was listed.
    StillTheSame,
}

impl Guard {
    /// The guard of the objects of a destination inside this one.
    pub(crate) fn other_destination(inner: &InnerDestination) -> Self {
        Self::OtherDestination { destination: inner.to_string(), marker: inner.marker() }
    }

    /// One of each.
    pub const ALL: [Self; 17] = [
        Self::Listing { error: String::new() },
        Self::Interrupted,
        Self::TaskUnknown,
        Self::DatasyncMayStillRun { execution: String::new() },
        Self::Walk { directories: 0 },
        Self::Unknown,
        Self::Uploads { failed: 0, of_plan: false },
        Self::MayBeRenamed { new_name: NewName::Unpublished, unknown_size: None },
        Self::EmptySource { objects: 0 },
        Self::Limit { deletes: 0, before: 0, objects: 0, allowed: MaxDelete::Default, share: LimitShare::Whole },
        Self::OtherDestination { destination: String::new(), marker: String::new() },
        Self::Spill { error: String::new() },
        Self::ImpossiblePath,
        Self::ChangedSincePlan,
        Self::StillGone,
        Self::StillGoneUnknown { problem: String::new() },
        Self::StillTheSame,
    ];

    /// The name in the report.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Listing { .. } => "listing",
            Self::Interrupted => "interrupted",
            Self::TaskUnknown => "task_unknown",
            Self::DatasyncMayStillRun { .. } => "datasync_may_still_run",
            Self::Walk { .. } => "walk",
            Self::Unknown => "unknown",
            Self::Uploads { .. } => "uploads",
            Self::MayBeRenamed { .. } => "may_be_renamed",
            Self::EmptySource { .. } => "empty_source",
            Self::Limit { .. } => "limit",
            Self::OtherDestination { .. } => "other_destination",
            Self::Spill { .. } => "spill",
            Self::ImpossiblePath => "impossible_path",
            Self::ChangedSincePlan => "changed_since_plan",
            Self::StillGone => "still_gone",
            Self::StillGoneUnknown { .. } => "still_gone_unknown",
            Self::StillTheSame => "still_the_same",
        }
    }

    /// Whether it is normal for this guard to withhold deletes: it causes no exit code 3.
    pub(crate) const fn is_normal(&self) -> bool {
        match self {
            // A file that failed causes exit code 3 itself, and a young one does not.
            Self::MayBeRenamed { new_name: NewName::Unpublished, .. }
            | Self::ImpossiblePath
            | Self::StillGone
            | Self::StillTheSame => true,
            Self::Listing { .. }
            | Self::Interrupted
            | Self::TaskUnknown
            | Self::DatasyncMayStillRun { .. }
            | Self::Walk { .. }
            | Self::MayBeRenamed {
                new_name: NewName::Unseen | NewName::UnseenAndChanged | NewName::NotChecked | NewName::NotInPlan,
                ..
            }
            | Self::Unknown
            | Self::Uploads { .. }
            | Self::EmptySource { .. }
            | Self::Limit { .. }
            | Self::OtherDestination { .. }
            | Self::Spill { .. }
            | Self::ChangedSincePlan
            | Self::StillGoneUnknown { .. } => false,
        }
    }

    /// Whether it withholds the same deletes in each run, whatever the source shows.
    pub(crate) const fn is_lasting(&self) -> bool {
        matches!(self, Self::OtherDestination { .. } | Self::ImpossiblePath)
    }

    /// What happened, and which option or action allows the deletes.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Listing { error } => {
                format!("the run ended before them ({error}): remove the cause, and run again")
            }
            Self::Interrupted => {
                "the run was asked to stop before them: the next run, or the same plan again, does them".to_owned()
            }
            Self::TaskUnknown => TASK_UNKNOWN.to_owned(),
            Self::DatasyncMayStillRun { execution } => format!(
                "DataSync may still be running {execution}, which may still write, and whose filters this run may not know. \
                 Wait for its end, or cancel it in the console: the next run deletes once it has ended"
            ),
            Self::Walk { directories } => format!(
                "the walk could not read {}, and an unreadable directory looks like a deleted one (read `failures`). \
                 Make it readable, or pass --ignore-errors to keep only what is below it",
                counted(*directories, "directory", "directories")
            ),
            Self::Unknown => {
                "what belongs there is unknown. If a link at or above a key leads nowhere or in a circle, repair \
                 or remove the link. If the log names a file system that an earlier run found mounted, mount it, or pass \
                 --allow-missing-mounts if it will not be mounted there again"
                    .to_owned()
            }
            Self::Uploads { failed, of_plan } => format!(
                "{} could not be uploaded, and may be the new name of a deleted file (read `failures`). {}",
                counted(*failed, "new file", "new files"),
                if *of_plan { "Make a new plan" } else { "The next run deletes, once the uploads succeed" }
            ),
            Self::MayBeRenamed { new_name, unknown_size } => new_name.message(unknown_size.as_deref()),
            Self::EmptySource { objects } => {
                let beside = match objects {
                    0 => "earlier runs, the manifest or the plan name some".to_owned(),
                    objects => format!("the destination has {} in scope", counted(*objects, "object", "objects")),
                };
                let limit = match objects {
                    0 => String::new(),
                    // Above one page of a listing, the number may be that of a sample.
                    1..1000 => format!(" and --max-delete {objects}"),
                    _ => " and --max-delete N".to_owned(),
                };
                format!(
                    "the source has no file that is part of the sync, as if it were not mounted, \
                     but {beside}. Mount it and run again, or pass --allow-empty-source{limit} if it is meant to be empty"
                )
            }
            Self::Limit { deletes, before, objects, allowed, share } => {
                let of_datasync = match before {
                    0 => String::new(),
                    before => format!(" after DataSync deleted {before}"),
                };
                format!(
                    "the run would delete {deletes} of {} in scope{of_datasync}, {}. Pass --max-delete {} to \
                     allow them",
                    counted(*objects, "object", "objects"),
                    allowed.exceeded(*share),
                    deletes + before
                )
            }
            Self::OtherDestination { destination, marker } => format!(
                "these objects belong to {destination}, which runs with the same state write to: kept them. Exclude its \
                 keys here (--exclude). If that destination is retired, remove {marker} from the state"
            ),
            Self::Spill { error } => format!(
                "cannot keep their list in the temporary folder ({error}). Free some space \
                 there, or set TMPDIR to another folder"
            ),
            Self::ImpossiblePath => {
                "no file can have such a name, so the run cannot know where the object comes from: kept the object"
                    .to_owned()
            }
            Self::ChangedSincePlan => {
                "the file or the object changed since the plan was made: kept the object, make a new plan".to_owned()
            }
            Self::StillGone => "the file exists again: kept its object".to_owned(),
            Self::StillGoneUnknown { problem } => {
                format!("cannot see whether the file is still gone: {problem}")
            }
            Self::StillTheSame => "another writer changed the object after it was listed: kept the object".to_owned(),
        }
    }
}

/// Why the file that may be an orphan's new name has no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewName {
    /// The run could not publish it for a reason in the source, and counts it as failed or too young.
    Unpublished,
    /// The walk did not see it.
    Unseen,
    /// The walk did not see it, and its content may be newer than the object.
    UnseenAndChanged,
    /// The run could not look for files that the walk did not see.
    NotChecked,
    /// The line that uploads it was removed from the plan.
    NotInPlan,
}

impl NewName {
    /// The message of the guard. `unknown_size` says why a size is unknown.
    fn message(self, unknown_size: Option<&str>) -> String {
        let size = match unknown_size {
            None => "and has the size of an object without a file".to_owned(),
            Some(why) => format!("and its size is unknown ({why})"),
        };
        match self {
            Self::Unpublished => format!(
                "a file without an object could not be published, {size}: it may be the new name of a deleted file. The \
                 file failed (read `failures`), or is younger than --min-age. The delete waits until a run publishes it"
            ),
            Self::Unseen => format!(
                "a file came to its name after the walk had read the directory there, {size}: it may be the new name of a \
                 deleted file. The next run publishes the file, and deletes its old name"
            ),
            Self::UnseenAndChanged => {
                "a file came to its name after the walk had read the directory there, and its content may be newer than \
                 this object. A directory on the path of this object changed during the walk, so the object may be the \
                 file's old name. Kept the object: the next run publishes the file, and deletes its old name"
                    .to_owned()
            }
            Self::NotInPlan => {
                "the plan no longer has a line that uploads a new file of this object's size: this object may be the \
                 file's old name, and then has its only copy in S3. Kept the object. Apply the plan with that line, or, \
                 to delete the object without it, remove `new_files_of_size` from the object's line"
                    .to_owned()
            }
            Self::NotChecked => format!(
                "kept the object, because it may be the old name of a file that was renamed during the walk: {}",
                unknown_size.unwrap_or_default()
            ),
        }
    }
}

/// How many deletes one run may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxDelete {
    /// The run refuses more than its share of 100 that are also more than 10 % of the objects in scope.
    Default,
    /// Up to this many objects.
    Count(u64),
    /// Up to this share of the objects in scope, in percent.
    Percent(f64),
}

/// Which share of the default 100 deletes a run has: several runs over key ranges may delete 100 together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitShare {
    /// The run is for all keys.
    Whole,
    /// The run is for one of this many key ranges.
    OneOf(u64),
    /// The run is for a key range, and the number of ranges is unknown. Only the 10 % count.
    Unknown,
}

impl LimitShare {
    /// Returns how many of the default 100 deletes the run has.
    const fn deletes(self) -> u64 {
        match self {
            Self::Whole | Self::OneOf(0) => 100,
            Self::OneOf(ranges) => 100 / ranges,
            Self::Unknown => 0,
        }
    }
}

impl MaxDelete {
    /// Returns how many of `objects` objects in scope a run with this share may delete.
    #[must_use]
    #[allow(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub(crate) fn of(self, objects: u64, share: LimitShare) -> u64 {
        match self {
            Self::Default => (objects / 10).max(share.deletes()),
            Self::Count(count) => count,
            Self::Percent(percent) => (objects as f64 * percent / 100.0).floor() as u64,
        }
    }

    /// Says which number was exceeded.
    fn exceeded(self, share: LimitShare) -> String {
        match (self, share) {
            (Self::Default, LimitShare::Whole) => "more than 100 and more than 10 %".to_owned(),
            (Self::Default, LimitShare::OneOf(ranges)) => {
                format!("more than {}, the share of one of {ranges} ranges in 100, and more than 10 %", share.deletes())
            }
            (Self::Default, LimitShare::Unknown) => {
                "more than 10 % (a range that is not from a range list has no share of 100)".to_owned()
            }
            (Self::Count(count), _) => format!("more than {count}"),
            (Self::Percent(percent), _) => format!("more than {percent} %"),
        }
    }
}

impl FromStr for MaxDelete {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let refused = || format!("'{text}' is neither a number of objects (250) nor a share of them (5%)");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| refused())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(refused()) };
        }
        text.parse().map(Self::Count).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_has_each_guard_once() {
        let names: BTreeSet<&str> = Guard::ALL.iter().map(Guard::name).collect();
        assert_eq!(names.len(), Guard::ALL.len());
        for guard in Guard::ALL {
            let position = match guard {
                Guard::Listing { .. } => 0,
                Guard::Interrupted => 1,
                Guard::TaskUnknown => 2,
                Guard::DatasyncMayStillRun { .. } => 3,
                Guard::Walk { .. } => 4,
                Guard::Unknown => 5,
                Guard::Uploads { .. } => 6,
                Guard::MayBeRenamed { .. } => 7,
                Guard::EmptySource { .. } => 8,
                Guard::Limit { .. } => 9,
                Guard::OtherDestination { .. } => 10,
                Guard::Spill { .. } => 11,
                Guard::ImpossiblePath => 12,
                Guard::ChangedSincePlan => 13,
                Guard::StillGone => 14,
                Guard::StillGoneUnknown { .. } => 15,
                Guard::StillTheSame => 16,
            };
            assert_eq!(Guard::ALL[position], guard);
        }
    }

    #[test]
    fn a_limit_of_deletes_is_a_number_or_a_share() {
        assert_eq!("150".parse(), Ok(MaxDelete::Count(150)));
        assert_eq!("5%".parse(), Ok(MaxDelete::Percent(5.0)));
        for text in ["many", "101%", "-1", "-1%", "", "%", "NaN%"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
    }
}
