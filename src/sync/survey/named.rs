//! The survey of a manifest: the named files, one HEAD for each, and their index rows.

use futures::StreamExt;

use super::Step;
use super::entry::step_of_entry;
use crate::destination::error::ErrorKind;
use crate::manifest::Manifest;
use crate::source::entry::{EntryKind, Found};
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::fatal::Fatal;
use crate::sync::tally::Tally;

pub(super) async fn survey(
    context: &Context,
    manifest: &Manifest,
    tally: &mut Tally,
    mut take: impl AsyncFnMut(Step, &mut Tally) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let checks = manifest.paths().map(|path| async move {
        let entry = context.source.stat_named(path).await;
        let is_wanted = matches!(entry.found, Found::File(_) | Found::Symlink(_));
        let object = if is_wanted { context.destination.object(path.key()).await } else { Ok(None) };
        (entry, object)
    });
    let mut checked = std::pin::pin!(futures::stream::iter(checks).buffered(context.destination.max_requests()));
    loop {
        let next = tokio::select! {
            next = checked.next() => next,
            () = context.shutdown.requested() => None,
        };
        let Some((entry, object)) = next else {
            return Ok(());
        };
        let object = match object {
            Ok(object) => object,
            Err(error) if error.kind.ends_the_run() => {
                return Err(Fatal::destination(&context.destination, error));
            }
            Err(error) if error.kind == ErrorKind::Interrupted => return Ok(()),
            Err(error) => {
                tally.saw(EntryKind::File);
                tally.failed(Failure::of_request(context.key(&entry.key), &error));
                continue;
            }
        };
        tally.counts.objects += u64::from(object.is_some());
        // The manifest names its files in key order.
        let row = match &context.memory.index {
            Some(index) => index.read_row(&entry.key).await,
            None => None,
        };
        if let Some(step) = step_of_entry(context, entry, object, row.as_ref(), tally) {
            take(step, tally).await?;
        }
        context.progress.show(|| tally.line());
    }
}
