//! The remembered task: its last complete description, which the state stores for runs that cannot describe the task.
//!
//! Each task has its own file in the state, by its whole ARN. A file that cannot be read counts as absent.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TaskArn;
use super::task::{LocationArns, NotDescribed, Task, TaskSettings, TaskSource};
use crate::hex::hex;
use crate::state::State;

const SCHEMA: u32 = 1;

/// A description from an earlier run.
#[derive(Clone, Debug)]
pub(crate) struct RememberedTask {
    /// When a run first saw this description.
    pub(crate) since: SystemTime,
    pub(crate) task: Task,
}

/// The file of one task in the state.
#[derive(Debug)]
pub(crate) struct TaskFile<'a> {
    state: &'a State,
    task: &'a TaskArn,
    name: String,
}

#[derive(Deserialize, Serialize)]
struct TaskRecord {
    schema: u32,
    task: String,
    described: String,
    locations: LocationArns,
    source: TaskSource,
    destination: String,
    settings: TaskSettings,
}

impl RememberedTask {
    /// The task as far as DataSync described it now, completed by this description. Returns `None` if the task has other
    /// locations now: this description is then another task's.
    pub(crate) fn completing(self, present: NotDescribed) -> Option<Self> {
        match present.alone {
            None => Some(self),
            Some(alone) => Some(Self { task: alone.with_locations_of(&self.task)?, ..self }),
        }
    }
}

impl<'a> TaskFile<'a> {
    pub(crate) fn new(state: &'a State, task: &'a TaskArn) -> Self {
        let id = task.as_str().rsplit('/').next().unwrap_or_default();
        let digest = hex(Sha256::digest(task.as_str().as_bytes()).iter().take(4));
        Self { state, task, name: format!("datasync-{id}-{digest}.description.json") }
    }

    /// Returns what the state remembers of the task.
    pub(crate) async fn load(&self) -> Option<RememberedTask> {
        let (name, why) = (&self.name, "the run does not know the earlier description of the task");
        match self.state.read(name).await {
            Ok(None) => None,
            Ok(Some(found)) => self
                .parse(&found.content)
                .inspect_err(|wrong| tracing::warn!(name, "the description of the task {wrong}: {why}"))
                .ok(),
            Err(error) => {
                tracing::warn!(%error, "cannot read the description of the task in the state: {why}");
                None
            }
        }
    }

    /// Stores a description, unless the state has the same one.
    pub(crate) async fn store(&self, task: &Task) {
        let stored = match self.state.read(&self.name).await {
            Ok(found) => found.and_then(|found| self.parse(&found.content).ok()),
            Err(_) => None,
        };
        // Each run sees another latest execution.
        let same =
            |stored: &RememberedTask| stored.task == Task { latest_execution: None, options: None, ..task.clone() };
        let Some(destination) = task.destination_uri.clone().filter(|_| !stored.as_ref().is_some_and(same)) else {
            return;
        };
        let record = TaskRecord {
            schema: SCHEMA,
            task: self.task.to_string(),
            described: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            locations: task.locations.clone(),
            source: task.source.clone(),
            destination,
            settings: task.settings.clone(),
        };
        let content = serde_json::to_vec_pretty(&record).unwrap_or_default();
        if let Err(error) = self.state.write(&self.name, Bytes::from(content)).await {
            tracing::warn!(%error, "cannot store the description of the task: a run that cannot describe the task lacks it");
        }
    }

    fn parse(&self, content: &[u8]) -> Result<RememberedTask, String> {
        let record: TaskRecord = serde_json::from_slice(content).map_err(|error| format!("is damaged ({error})"))?;
        if record.schema != SCHEMA || record.task != self.task.as_str() {
            return Err("belongs to another program or task".to_owned());
        }
        let since = humantime::parse_rfc3339(&record.described).map_err(|error| format!("is damaged ({error})"))?;
        let TaskRecord { locations, source, destination, settings, .. } = record;
        let destination_uri = Some(destination);
        // A run that cannot describe the task starts no execution, and so needs no options for one.
        let task = Task { latest_execution: None, source, destination_uri, settings, options: None, locations };
        Ok(RememberedTask { since, task })
    }
}
