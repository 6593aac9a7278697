//! The guards that are asked before the first delete, in their order. Some withhold every delete, others those of some
//! objects: the first one that applies to an object counts.

use super::orphan::{Orphans, spill_guard};
use crate::destination::delete::DeleteTarget;
use crate::served::InnerDestinations;
use crate::source::presence::Presence;
use crate::sync::context::Context;
use crate::sync::guard::{Guard, NewName};
use crate::sync::rules::DeleteRules;
use crate::sync::tally::Tally;
use crate::sync::unpublished::RenamedSizes;

/// Whether the file of an orphan may have left its place during the walk, for a name that the walk did not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasLeft {
    No,
    Perhaps,
}

/// The guards of one run.
#[derive(Debug, Default)]
pub(super) struct RunGuards {
    /// Withholds every delete.
    first: Option<Guard>,
    /// Withhold the deletes of objects of these sizes.
    renamed: RenamedSizes,
    /// Withhold the deletes of objects of these destinations.
    inner: InnerDestinations,
    /// Withholds all other deletes.
    last: Option<Guard>,
}

impl RunGuards {
    /// Asks the guards about the orphans of a run with this tally.
    pub(super) async fn ask(context: &Context, orphans: &Orphans, tally: &mut Tally, rules: &DeleteRules) -> Self {
        if let Some(guard) = guard_of_all(orphans.count(), tally, rules).or_else(|| orphans.spill_guard()) {
            return Self::of_all(guard);
        }
        if let Some(other) = rules.other_writer.as_ref().filter(|_| orphans.count() > 0)
            && let Some(guard) = other.guard().await
        {
            return Self::of_all(guard);
        }
        let learn = async {
            let unseen = match tally.unseen.take() {
                Some(unseen) => unseen,
                None => context.source.unseen(&tally.read_directories).await,
            };
            tally.unpublished.learn(&context.source, &unseen).await
        };
        let renamed = tokio::select! {
            renamed = learn => renamed,
            () = context.shutdown.requested() => return Self::of_all(Guard::Interrupted),
        };
        let inner = match &context.memory.state {
            None => InnerDestinations::default(),
            // Another destination may have had its first run since this run started.
            Some(state) => match context.memory.inner.read_again(state).await {
                Ok(inner) => inner,
                Err(error) => {
                    let error = format!("cannot read in the state which destinations it serves: {error}");
                    return Self::of_all(Guard::Listing { error });
                }
            },
        };
        let mut guards = Self { renamed, inner, ..Self::default() };
        match guards.count_withheld(orphans) {
            Ok(withheld) => guards.last = guard_of_rest(orphans.count() - withheld, tally, rules),
            Err(error) => guards.first = Some(spill_guard(&error)),
        }
        guards
    }

    fn of_all(guard: Guard) -> Self {
        Self { first: Some(guard), ..Self::default() }
    }

    /// How many orphans a guard of some objects withholds.
    fn count_withheld(&self, orphans: &Orphans) -> std::io::Result<u64> {
        if self.renamed.is_empty() && self.inner.is_empty() {
            return Ok(0);
        }
        orphans.count_of(|target| self.of_object(target).is_some())
    }

    /// Returns the first guard that withholds this delete.
    pub(super) fn of(&self, target: &DeleteTarget, has_left: HasLeft) -> Option<Guard> {
        let left = || {
            (has_left == HasLeft::Perhaps)
                .then_some(Guard::MayBeRenamed { new_name: NewName::UnseenAndChanged, unknown_size: None })
        };
        self.first.clone().or_else(|| self.of_object(target)).or_else(left).or_else(|| self.last.clone())
    }

    /// Returns for each target whether its file may have left its place during the walk, and may have come to a name that
    /// the walk did not see with other content than the object has.
    pub(super) async fn have_left(&self, context: &Context, batch: &[DeleteTarget]) -> Vec<HasLeft> {
        let mut have_left = vec![HasLeft::No; batch.len()];
        let Some(changed) = self.renamed.changed else { return have_left };
        let margin = context.clocks().margin();
        // The object of a directory has no content.
        let has_content = |target: &DeleteTarget| target.size_bytes > 0 || !target.key.as_str().ends_with('/');
        let is_older =
            |target: &DeleteTarget| has_content(target) && target.last_modified <= changed.latest_mtime.plus(margin);
        let keys = |of: &[(&DeleteTarget, &mut HasLeft)]| of.iter().map(|(target, _)| target.key.clone()).collect();
        let mut older: Vec<_> = batch.iter().zip(&mut have_left).filter(|(target, _)| is_older(target)).collect();
        let left = context.source.may_have_left(keys(&older), changed.walk_started.minus(margin)).await;
        let mut left = left.into_iter();
        older.retain(|_| left.next().unwrap_or(true));
        // A file that is back at its own name has not been renamed: `still_gone` withholds this delete.
        let presences = context.source.presences(keys(&older)).await;
        for ((_, has_left), presence) in older.into_iter().zip(presences) {
            *has_left = if presence == Presence::Present { HasLeft::No } else { HasLeft::Perhaps };
        }
        have_left
    }

    fn of_object(&self, target: &DeleteTarget) -> Option<Guard> {
        let renamed = self.renamed.guard(target.key.as_str(), target.size_bytes);
        renamed.or_else(|| self.inner.of_object(&target.key).map(Guard::other_destination))
    }
}

/// Returns the first guard that withholds all of `deletes` deletes.
fn guard_of_all(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
    if deletes == 0 {
        None
    } else if let Some(guard) = &rules.of_doubt {
        Some(guard.clone())
    } else if tally.unknown_directories > 0 && !rules.ignore_errors {
        Some(Guard::Walk { directories: tally.unknown_directories })
    } else if tally.absent_uploads_failed > 0 {
        Some(Guard::Uploads { failed: tally.absent_uploads_failed, of_plan: rules.of_plan })
    } else {
        None
    }
}

/// Returns the first guard that withholds the `deletes` deletes that no guard of some objects withholds.
fn guard_of_rest(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
    let objects = tally.objects_in_scope;
    if deletes == 0 {
        None
    } else if let Some(guard) = tally.empty_source() {
        Some(guard)
    } else if rules.exceed_limit(deletes, objects) {
        let (before, allowed, share) = (rules.already_deleted, rules.max_delete, rules.limit_share);
        Some(Guard::Limit { deletes, before, objects, allowed, share })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RelativeKey;
    use crate::object::ETag;
    use crate::sync::guard::{LimitShare, MaxDelete};
    use crate::sync::tally::SourceContent;
    use crate::time::EpochNanos;

    const RULES: DeleteRules = DeleteRules {
        max_delete: MaxDelete::Default,
        limit_share: LimitShare::Whole,
        allow_empty_source: false,
        ignore_errors: false,
        of_plan: false,
        of_doubt: None,
        other_writer: None,
        already_deleted: 0,
    };

    fn tally(files: u64, objects: u64) -> Tally {
        let content = if files == 0 { SourceContent::Missing { objects } } else { SourceContent::Seen };
        let mut tally = Tally { content, objects_in_scope: objects, ..Tally::default() };
        (tally.counts.files, tally.counts.objects) = (files, 100 * objects);
        tally
    }

    fn of_run(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
        guard_of_all(deletes, tally, rules).or_else(|| guard_of_rest(deletes, tally, rules))
    }

    fn guard(deletes: u64, tally: &Tally, rules: &DeleteRules) -> Option<&'static str> {
        of_run(deletes, tally, rules).map(|guard| guard.name())
    }

    fn target(key: &str, size_bytes: u64) -> DeleteTarget {
        DeleteTarget { key: RelativeKey::new(key), etag: ETag::new("e"), size_bytes, last_modified: EpochNanos(0) }
    }

    #[test]
    fn a_guard_of_some_objects_comes_between_those_of_all() {
        let renamed = || RenamedSizes::of([7]);
        let name = |guards: &RunGuards, size| guards.of(&target("a", size), HasLeft::No).map(|guard| guard.name());
        let first = RunGuards { first: Some(Guard::Interrupted), renamed: renamed(), ..RunGuards::default() };
        assert_eq!((name(&first, 7), name(&first, 6)), (Some("interrupted"), Some("interrupted")));
        let last = RunGuards { renamed: renamed(), last: tally(0, 10).empty_source(), ..RunGuards::default() };
        assert_eq!((name(&last, 7), name(&last, 6)), (Some("may_be_renamed"), Some("empty_source")));
        let none = RunGuards { renamed: renamed(), ..RunGuards::default() };
        assert_eq!((name(&none, 7), name(&none, 6)), (Some("may_be_renamed"), None));
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
        assert_eq!(guard(0, &tally(0, 10), &RULES), None);
    }

    #[test]
    fn a_task_that_is_not_described_withholds_every_delete() {
        let rules = DeleteRules { of_doubt: Some(Guard::TaskUnknown), ..RULES };
        assert_eq!(guard(1, &tally(9, 10), &rules), Some("task_unknown"));
        assert_eq!(guard(0, &tally(9, 10), &rules), None);
    }

    #[test]
    fn a_running_datasync_execution_withholds_every_delete() {
        let execution = "an execution".to_owned();
        let rules = DeleteRules { of_doubt: Some(Guard::DatasyncMayStillRun { execution }), ..RULES };
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
        let message = of_run(150, &tally(251, 401), &RULES).unwrap().message();
        assert!(message.contains("--max-delete 150") && message.contains("401"), "{message}");
    }
}
