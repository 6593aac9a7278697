//! The check of the source before DataSync sees it: DataSync itself has no guard against an empty or a wrong folder.

use super::key_sample::{KeySample, SampledKeys};
use crate::served::InnerDestinations;
use crate::source::content::{Content, Unread};
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::guard::Guard;

/// The result of the check.
pub(super) enum SourceCheck {
    /// The source may be copied. The keys are those that the destination had before; unknown if S3 did not list it.
    Passed(Option<SampledKeys>),
    /// A guard withholds the run; the destination has this many objects, at least. A directory of the source failed.
    Withheld(Guard, u64, Option<Failure>),
    /// The source is not the tree that was copied to the destination, for this reason.
    OtherTree(String),
    /// S3 denies access to the bucket for its expected owner, for this reason.
    OtherOwner(String),
}

/// Compares the source with a sample of the destination. `before_datasync`: whether an execution may follow, rather than
/// the direct sync alone, which has guards of its own.
pub(super) async fn check_source(context: &Context, inner: &InnerDestinations, before_datasync: bool) -> SourceCheck {
    let sample = match KeySample::take(context, inner).await {
        Ok(sample) => Some(sample),
        Err(error) if before_datasync && let Some(why) = context.destination.other_owner(&error) => {
            return SourceCheck::OtherOwner(format!("{why}. Started and wrote nothing"));
        }
        // DataSync may be able to do what this program cannot.
        Err(_) if context.destination.is_foreign() => None,
        Err(error) => {
            tracing::warn!("cannot list the destination: {}", context.destination.explain(&error));
            None
        }
    };
    if sample.as_ref().is_some_and(KeySample::is_empty) {
        return SourceCheck::Passed(match sample {
            Some(sample) => Some(sample.look_up(context).await),
            None => None,
        });
    }
    let objects = sample.as_ref().map_or(1, |sample| sample.count().max(1));
    match context.source.content().await {
        Content::Some => {}
        Content::None if context.delete_rules.allow_empty_source || !before_datasync => {
            // All of them may be deleted, up to the limit.
            return SourceCheck::Passed(match sample {
                Some(sample) if before_datasync => Some(sample.look_up(context).await),
                _ => None,
            });
        }
        Content::None => return SourceCheck::Withheld(Guard::EmptySource { objects }, objects, None),
        Content::Unknown(Unread { directories, first }) if before_datasync => {
            let guard = Guard::Walk { directories: directories.max(1) };
            let failure = first.map(|(key, problem)| Failure::of_source(context.key(&key), problem));
            return SourceCheck::Withheld(guard, objects, failure);
        }
        Content::Unknown(_) => return SourceCheck::Passed(None),
    }
    let Some(sample) = sample else {
        return SourceCheck::Passed(None);
    };
    let sampled = sample.look_up(context).await;
    if sampled.are_of_another_tree() {
        return SourceCheck::OtherTree(format!(
            "none of {} sampled keys of the destination is in the source: it is not the tree that was copied there. \
             Started and wrote nothing; mount the right folder. If the new tree is intended, run efs2s3 sync with the \
             task's filters (--include, --exclude, --from-manifest)",
            sampled.sampled
        ));
    }
    SourceCheck::Passed(Some(sampled))
}
