//! A sample of the destination's keys: if the source has none of them, it is not the tree that was copied there.

use crate::destination::error::S3Error;
use crate::destination::list::PageStart;
use crate::key::RelativeKey;
use crate::source::presence::Presence;
use crate::sync::context::Context;

/// With fewer keys, a sample proves nothing.
const LEAST_KEYS: usize = 100;
const SAMPLE_KEYS: usize = 200;

/// Returns the size of the sample if the source has none of its keys.
///
/// # Errors
/// Returns an error if S3 does not list the destination.
pub(super) async fn none_is_in_source(context: &Context) -> Result<Option<usize>, S3Error> {
    let page = context.destination.page(&PageStart::After(RelativeKey::default())).await?;
    let keys: Vec<RelativeKey> = page
        .objects
        .into_iter()
        .map(|object| object.key)
        .filter(|key| !key.is_root() && context.filter.admits(key.as_str()))
        .collect();
    if keys.len() < LEAST_KEYS {
        return Ok(None);
    }
    let step = keys.len().div_ceil(SAMPLE_KEYS);
    let sample: Vec<RelativeKey> = keys.into_iter().step_by(step).collect();
    let count = sample.len();
    let presences = context.source.presences(sample).await;
    Ok(presences.iter().all(|presence| *presence == Presence::Absent).then_some(count))
}
