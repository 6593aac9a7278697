//! What earlier runs recorded in the state.

use std::sync::Arc;

use crate::destination::Destination;
use crate::index::Index;
use crate::metadata::Preserve;
use crate::mounts::{Mounts, MountsError};
use crate::scope::Scope;
use crate::served::InnerDestinations;
use crate::source::Source;
use crate::state::State;
use crate::uploads::Uploads;

/// What earlier runs recorded, if there is a state.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) state: Option<Arc<State>>,
    /// What each object held.
    pub(crate) index: Option<Index>,
    /// The unfinished multipart uploads.
    pub(crate) uploads: Option<Uploads>,
    /// The destinations inside this one that runs with the same state write to.
    pub(crate) inner: InnerDestinations,
    /// The mount points inside the source, if this run records them.
    pub(crate) mounts: Option<Mounts>,
}

impl Memory {
    /// Whether there is a state, and it has no record of the destination.
    pub(crate) fn is_of_first_run(&self) -> bool {
        self.inner.outer_is_new() && self.index.as_ref().is_some_and(Index::is_absent)
    }

    /// Loads what earlier runs recorded; their unfinished uploads only for a run that writes. The source learns which mount
    /// points inside it earlier runs have seen.
    pub(crate) async fn load(
        source: &mut Source,
        destination: &Destination,
        preserve: Option<Preserve>,
        state: Option<&Arc<State>>,
        scope: &Scope,
        writes: bool,
    ) -> Result<Self, MountsError> {
        let Some(state) = state else {
            return Ok(Self::default());
        };
        let mounts = Mounts::open(Arc::clone(state), scope).await?;
        source.remember_mount_points(mounts.remembered().await).await;
        let index = Index::open(state, scope, destination.store(), preserve).await;
        let fence = destination.fence().clone();
        let uploads = if writes { Some(Uploads::open(Arc::clone(state), scope, fence).await) } else { None };
        let mounts = Some(mounts).filter(|_| writes);
        Ok(Self { state: Some(Arc::clone(state)), index: Some(index), uploads, mounts, ..Self::default() })
    }
}
