//! The guards that check the whole run before it deletes anything. The first one that applies withholds every delete.

use crate::sync::guard::Guard;
use crate::sync::rules::DeleteRules;
use crate::sync::tally::Tally;

/// Returns the first guard that withholds `deletes` deletes of a run with this tally.
pub(super) fn guard_of_run(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
    let objects = tally.objects_in_scope;
    if deletes == 0 {
        None
    } else if rules.task_unknown {
        Some(Guard::TaskUnknown)
    } else if rules.datasync_may_still_run {
        Some(Guard::DatasyncMayStillRun)
    } else if tally.unknown_directories > 0 && !rules.ignore_errors {
        Some(Guard::Walk { directories: tally.unknown_directories, deletes })
    } else if tally.absent_uploads_failed > 0 {
        Some(Guard::Uploads { failed: tally.absent_uploads_failed, deletes })
    } else if tally.source_is_empty && !rules.allow_empty_source {
        Some(Guard::EmptySource { deletes })
    } else if deletes > rules.max_delete.of(objects, rules.limit_share) {
        Some(Guard::Limit { deletes, objects, allowed: rules.max_delete, share: rules.limit_share })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::guard::{LimitShare, MaxDelete};

    const RULES: DeleteRules = DeleteRules {
        max_delete: MaxDelete::Default,
        limit_share: LimitShare::Whole,
        allow_empty_source: false,
        ignore_errors: false,
        task_unknown: false,
        datasync_may_still_run: false,
    };

    fn tally(files: u64, objects: u64) -> Tally {
        let mut tally = Tally { source_is_empty: files == 0, objects_in_scope: objects, ..Tally::default() };
        (tally.counts.files, tally.counts.objects) = (files, 100 * objects);
        tally
    }

    fn guard(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<&'static str> {
        guard_of_run(deletes, tally, rules).map(|guard| guard.name())
    }

    #[test]
    fn a_clean_run_may_delete() {
        assert_eq!(guard(100, &tally(1, 101), &RULES), None);
        assert_eq!(guard(500, &tally(1, 5000), &RULES), None);
    }

    #[test]
    fn an_unreadable_directory_withholds_every_delete() {
        let mut tally = tally(9, 10);
        tally.unknown_directories = 1;
        assert_eq!(guard(1, &tally, &RULES), Some("walk"));
        assert_eq!(guard(1, &tally, &DeleteRules { ignore_errors: true, ..RULES }), None);
    }

    #[test]
    fn a_failed_upload_of_a_new_file_withholds_every_delete() {
        let mut tally = tally(9, 10);
        tally.absent_uploads_failed = 1;
        assert_eq!(guard(1, &tally, &RULES), Some("uploads"));
        tally.absent_uploads_failed = 0;
        tally.counts.failed = 1;
        assert_eq!(guard(1, &tally, &RULES), None, "a file that failed alone withholds nothing");
    }

    #[test]
    fn an_empty_source_withholds_every_delete() {
        assert_eq!(guard(1, &tally(0, 10), &RULES), Some("empty_source"));
        assert_eq!(guard(1, &tally(0, 10), &DeleteRules { allow_empty_source: true, ..RULES }), None);
        assert_eq!(guard(0, &tally(0, 10), &RULES), None);
    }

    #[test]
    fn a_task_that_is_not_described_withholds_every_delete() {
        let rules = DeleteRules { task_unknown: true, datasync_may_still_run: true, ..RULES };
        assert_eq!(guard(1, &tally(9, 10), &rules), Some("task_unknown"));
        assert_eq!(guard(0, &tally(9, 10), &rules), None);
    }

    #[test]
    fn a_running_datasync_execution_withholds_every_delete() {
        let rules = DeleteRules { datasync_may_still_run: true, ..RULES };
        assert_eq!(guard(1, &tally(9, 10), &rules), Some("datasync_may_still_run"));
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
    fn a_run_over_a_range_has_its_share_of_a_hundred_deletes() {
        for (share, most) in [(LimitShare::OneOf(4), 25), (LimitShare::OneOf(1), 100), (LimitShare::OneOf(1000), 10)] {
            let rules = DeleteRules { limit_share: share, ..RULES };
            assert_eq!(guard(most, &tally(1, 100), &rules), None, "{share:?}");
            assert_eq!(guard(most + 1, &tally(1, 101), &rules), Some("limit"), "{share:?}");
        }
        let rules = DeleteRules { limit_share: LimitShare::Unknown, ..RULES };
        assert_eq!(guard(5, &tally(1, 50), &rules), None);
        assert_eq!(guard(6, &tally(1, 50), &rules), Some("limit"), "no share of 100");
        let rules = DeleteRules { max_delete: MaxDelete::Count(60), limit_share: LimitShare::OneOf(4), ..RULES };
        assert_eq!(guard(60, &tally(1, 100), &rules), None, "a number counts for each run");
    }

    #[test]
    fn the_message_names_the_option_and_the_number() {
        let message = guard_of_run(150, &tally(251, 401), &RULES).unwrap().message();
        assert!(message.contains("--max-delete 150") && message.contains("401"), "{message}");
    }
}
