//! The end of a survey: whether the source has content, or looks like a directory on which nothing is mounted.
//!
//! An empty source is a failure in every command, with and without deletes, if the run knows of anything that the source
//! should hold. A survey of the whole tree has seen all of it. Any other one asks the source, if it saw no content itself.

use super::{Input, is_own};
use crate::counted::counted;
use crate::source::content::Content;
use crate::sync::context::Context;
use crate::sync::tally::{SourceContent, Tally};

/// Records whether the source has content.
pub(super) async fn settle(context: &Context, input: &Input, tally: &mut Tally) {
    let is_settled = tally.content == SourceContent::Seen
        || context.delete_rules.allow_empty_source
        || context.shutdown.is_requested();
    if is_settled || !should_have_content(context, input, tally).await {
        return;
    }
    let saw_all = matches!(input, Input::Walk) && context.source.tree_range().keys().is_all();
    if !saw_all {
        let found = tokio::select! {
            found = context.source.content() => found,
            () = context.shutdown.requested() => return,
        };
        if found == Content::Some {
            tally.content = SourceContent::Seen;
            return;
        }
    }
    tally.content_is_missing(tally.objects_in_scope);
}

/// Warns if the filters leave out everything that the survey has seen. The guards do not: the objects are out of scope too.
pub(super) fn warn_of_filters(context: &Context, input: &Input, tally: &Tally) {
    let saw_all = match input {
        Input::Walk => context.source.tree_range().keys().is_all(),
        Input::Manifest(_) => true,
        Input::Plan(_) => false,
    };
    let filtered = tally.counts.filtered;
    if saw_all && filtered > 0 && !tally.admits_any && !context.shutdown.is_requested() {
        tracing::warn!(
            filtered,
            "the filters admit no file of the source, and leave out {}: check the include and exclude patterns",
            counted(filtered, "file or directory", "files and directories")
        );
    }
}

/// Whether the run knows of anything that the source should hold.
async fn should_have_content(context: &Context, input: &Input, tally: &Tally) -> bool {
    if tally.objects_in_scope > 0 {
        return true;
    }
    match input {
        // It names at least one file.
        Input::Manifest(_) => true,
        Input::Plan(_) => false,
        Input::Walk => match &context.memory.index {
            Some(index) => index.has_row(|key| is_own(context, key)).await,
            None => false,
        },
    }
}
