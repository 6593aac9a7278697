//! The mounts: the state's record of the mount points inside the source, for each destination.
//!
//! A run adds what it sees as soon as it sees it, before a kill could leave objects whose mount no run knows. It removes a
//! mount point only with `--allow-missing-mounts`, or if the followed link to it was removed, and only at its end, if it
//! deletes and no guard withheld deletes: a source that is not mounted shows no links. A run over a key range that holds only a part of
//! the mount, or over a manifest or plan, forgets nothing. A run that sees nothing new writes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::scope::Scope;
use crate::source::mount_points::{MountPoints, MountPointsByPath};
use crate::state::{ExpectedVersion, State, StateError};

const SCHEMA: u32 = 1;
/// How often a run tries to write the record while runs over other key ranges write it too.
const ATTEMPTS: usize = 10;

/// The record of one destination.
#[derive(Debug)]
pub(crate) struct Mounts {
    state: Arc<State>,
    name: String,
    destination: String,
    /// What the record holds, as far as this run knows.
    recorded: tokio::sync::Mutex<MountPointsByPath>,
}

/// Why the record cannot be read. Without it, a missing mount would look like deleted files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountsError {
    #[error("cannot read the mount points inside the source that the state remembers: {0}")]
    State(#[from] StateError),
    #[error(
        "{name} in the state, which remembers the mount points inside the source, is damaged: if every file system is \
         mounted, delete this file, and run again"
    )]
    Damaged { name: String },
    #[error("other runs keep changing {name}")]
    Contended { name: String },
}

#[derive(Debug, Deserialize, Serialize)]
struct Content {
    schema: u32,
    destination: String,
    mount_points: MountPointsByPath,
}

impl Mounts {
    /// Reads the record.
    pub(crate) async fn open(state: Arc<State>, scope: &Scope) -> Result<Self, MountsError> {
        // Runs over key ranges of one destination have the same source.
        let whole = Scope::whole(scope.destination.clone());
        let (name, destination) = (whole.file_name("mounts.json"), whole.to_string());
        let mounts = Self { state, name, destination, recorded: tokio::sync::Mutex::default() };
        let (stored, _) = mounts.read().await?;
        *mounts.recorded.lock().await = stored;
        Ok(mounts)
    }

    /// The mount points that earlier runs saw.
    pub(crate) async fn remembered(&self) -> MountPointsByPath {
        self.recorded.lock().await.clone()
    }

    /// Writes what this run sees, without what it forgets, if the record differs.
    pub(crate) async fn record(&self, now: &MountPoints, forgotten: &BTreeSet<String>) {
        let mut recorded = self.recorded.lock().await;
        let found = now.found();
        if updated(recorded.clone(), &found, forgotten) == *recorded {
            return;
        }
        match self.update(&found, forgotten).await {
            Ok(stored) => {
                for path in forgotten.iter().filter(|path| !stored.contains_key(*path)) {
                    tracing::info!(path, "forgot the file system that was mounted here");
                }
                *recorded = stored;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot record the mount points inside the source: the next run does not notice if one is missing");
            }
        }
    }

    async fn update(
        &self,
        found: &MountPointsByPath,
        forgotten: &BTreeSet<String>,
    ) -> Result<MountPointsByPath, MountsError> {
        for _ in 0..ATTEMPTS {
            let (stored, version) = self.read().await?;
            let new = updated(stored.clone(), found, forgotten);
            if new == stored {
                return Ok(new);
            }
            let content = Content { schema: SCHEMA, destination: self.destination.clone(), mount_points: new };
            let bytes = Bytes::from(serde_json::to_vec(&content).unwrap_or_default());
            if self.state.replace(&self.name, bytes, &version).await?.is_some() {
                return Ok(content.mount_points);
            }
        }
        Err(MountsError::Contended { name: self.name.clone() })
    }

    async fn read(&self) -> Result<(MountPointsByPath, ExpectedVersion), MountsError> {
        let Some(record) = self.state.read(&self.name).await? else {
            return Ok((MountPointsByPath::new(), ExpectedVersion::Absent));
        };
        match serde_json::from_slice::<Content>(&record.content) {
            Ok(content) if content.schema == SCHEMA && content.destination == self.destination => {
                Ok((content.mount_points, ExpectedVersion::Is(record.version)))
            }
            Ok(_) | Err(_) => Err(MountsError::Damaged { name: self.name.clone() }),
        }
    }
}

/// The record with what a run saw, and without what it forgets.
fn updated(
    mut recorded: MountPointsByPath,
    found: &MountPointsByPath,
    forgotten: &BTreeSet<String>,
) -> MountPointsByPath {
    recorded.retain(|path, _| !forgotten.contains(path));
    recorded.extend(found.iter().map(|(path, mount_point)| (path.clone(), *mount_point)));
    recorded
}
