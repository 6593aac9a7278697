//! The guards that look at a whole run before anything is deleted: an objection of one withholds every delete.
//!
//! 1. *walk*: every directory could be read (with `--ignore-errors`: those that could not keep what is below them);
//! 2. *uploads*: no upload of a key without an object failed at the destination;
//! 3. *`empty_source`*: the source holds something;
//! 4. *limit*: there are no more than `--max-delete` allows.
//!
//! A listing that failed ends the run before it comes here.

use std::str::FromStr;

use super::tally::{Guard, Tally};

/// How many deletes one run may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxDelete {
    /// More than 100 and more than 10 % of the objects listed are refused.
    Default,
    /// So many objects.
    Count(u64),
    /// So much of the objects listed, in percent.
    Percent(f64),
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

/// What allows deletes, and how many.
#[derive(Clone, Debug)]
pub struct DeleteRules {
    /// The most deletes.
    pub max_delete: MaxDelete,
    /// Whether an empty source may delete everything.
    pub allow_empty_source: bool,
    /// Whether directories that could not be read withhold deletes below themselves alone.
    pub ignore_errors: bool,
    /// What objects to all deletes from the start.
    pub objection: Option<Guard>,
}

/// The first guard that objects to deleting `orphans` objects after a run that tallied like this.
#[must_use]
pub fn objection(orphans: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
    let object = |name, message: String| Some(Guard { name, message, is_normal: false });
    let source_is_empty = !tally.saw_beyond
        && tally.counts.files + tally.counts.directories + tally.counts.symlinks + tally.counts.special_skipped == 0;
    let allowed = most_deletes(rules.max_delete, tally.counts.objects);
    if orphans == 0 {
        None
    } else if let Some(guard) = &rules.objection {
        Some(guard.clone())
    } else if tally.unknown_directories > 0 && !rules.ignore_errors {
        object(
            "walk",
            format!(
                "{} directories could not be read, and an unreadable directory looks like a deleted one: {orphans} deletes withheld. \
             Make them readable, or pass --ignore-errors to keep only what is below them",
                tally.unknown_directories
            ),
        )
    } else if tally.absent_uploads_failed > 0 {
        object(
            "uploads",
            format!(
                "{} new files could not be uploaded, and one of them may be the new name of a file whose old name would go: \
             {orphans} deletes withheld until the uploads succeed",
                tally.absent_uploads_failed
            ),
        )
    } else if source_is_empty && !rules.allow_empty_source {
        object(
            "empty_source",
            format!(
                "the source is empty, as it looks when it is not mounted: {orphans} deletes withheld. Pass --allow-empty-source if it is meant to be empty"
            ),
        )
    } else if orphans > allowed {
        let limit = match rules.max_delete {
            MaxDelete::Default => "more than 100 and more than 10 %".to_owned(),
            MaxDelete::Count(count) => format!("more than {count}"),
            MaxDelete::Percent(percent) => format!("more than {percent} %"),
        };
        object(
            "limit",
            format!(
                "{orphans} of {} objects would be deleted, {limit}: all withheld. Pass --max-delete {orphans} to allow them",
                tally.counts.objects
            ),
        )
    } else {
        None
    }
}

#[allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
fn most_deletes(limit: MaxDelete, objects: u64) -> u64 {
    match limit {
        MaxDelete::Default => (objects / 10).max(100),
        MaxDelete::Count(count) => count,
        MaxDelete::Percent(percent) => (objects as f64 * percent / 100.0).floor() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: DeleteRules = DeleteRules {
        max_delete: MaxDelete::Default,
        allow_empty_source: false,
        ignore_errors: false,
        objection: None,
    };

    fn tally(files: u64, objects: u64) -> Tally {
        let mut tally = Tally::default();
        (tally.counts.files, tally.counts.objects) = (files, objects);
        tally
    }

    fn guard(orphans: u64, tally: &Tally, rules: &DeleteRules) -> Option<&'static str> {
        objection(orphans, tally, rules).map(|guard| guard.name)
    }

    #[test]
    fn a_clean_run_may_delete() {
        assert_eq!(guard(100, &tally(1, 101), &RULES), None);
        assert_eq!(guard(500, &tally(1, 5000), &RULES), None);
    }

    #[test]
    fn a_directory_that_could_not_be_read_withholds_everything() {
        let mut tally = tally(9, 10);
        tally.unknown_directories = 1;
        assert_eq!(guard(1, &tally, &RULES), Some("walk"));
        assert_eq!(guard(1, &tally, &DeleteRules { ignore_errors: true, ..RULES }), None);
    }

    #[test]
    fn a_new_file_that_could_not_be_uploaded_withholds_everything() {
        let mut tally = tally(9, 10);
        tally.absent_uploads_failed = 1;
        assert_eq!(guard(1, &tally, &RULES), Some("uploads"));
        tally.absent_uploads_failed = 0;
        tally.counts.failed = 1;
        assert_eq!(guard(1, &tally, &RULES), None, "a file that failed by itself withholds nothing");
    }

    #[test]
    fn an_empty_source_withholds_everything() {
        assert_eq!(guard(1, &tally(0, 10), &RULES), Some("empty_source"));
        assert_eq!(guard(1, &tally(0, 10), &DeleteRules { allow_empty_source: true, ..RULES }), None);
        assert_eq!(guard(0, &tally(0, 10), &RULES), None);
    }

    #[test]
    fn a_range_without_files_is_no_empty_source_where_there_is_more_of_it() {
        let elsewhere = Tally { saw_beyond: true, ..tally(0, 10) };
        assert_eq!(guard(1, &elsewhere, &RULES), None);
        let many = Tally { saw_beyond: true, ..tally(0, 1000) };
        assert_eq!(guard(1000, &many, &RULES), Some("limit"));
    }

    #[test]
    fn more_than_a_hundred_and_more_than_a_tenth_is_too_much() {
        assert_eq!(guard(101, &tally(1, 1000), &RULES), Some("limit"));
        assert_eq!(guard(100, &tally(1, 100), &RULES), None);
        assert_eq!(guard(501, &tally(1, 5000), &RULES), Some("limit"));
        for (max_delete, most) in [
            (MaxDelete::Count(7), 7),
            (MaxDelete::Percent(2.5), 25),
            (MaxDelete::Count(0), 0),
            (MaxDelete::Percent(100.0), 1000),
        ] {
            let rules = DeleteRules { max_delete, ..RULES };
            assert_eq!(guard(most, &tally(1, 1000), &rules), None);
            assert_eq!(guard(most + 1, &tally(1, 1000), &rules), Some("limit"));
        }
    }

    #[test]
    fn the_message_names_the_flag_and_the_number() {
        let message = objection(150, &tally(251, 401), &RULES).unwrap().message;
        assert!(message.contains("--max-delete 150") && message.contains("401"), "{message}");
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
