//! Late writes: what executions may have written after they had read an older state of the file.
//!
//! The state remembers since when the objects of a destination are suspect. An execution that compared all objects clears
//! them of what earlier ones wrote; what it wrote itself is suspect if the file changed since its start. A direct sync
//! compares each suspect object, and the index remembers that: the next run with the same state compares it no more.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::attempt::verdict::VerdictKind;
use super::{Latest, Status, Task};
use crate::location::Location;
use crate::scope::Scope;
use crate::state::State;
use crate::sync::rules::Suspect;
use crate::time::EpochNanos;

const SCHEMA: u32 = 1;

/// Everything in the destination, as after an execution of which nothing is known.
const EVERYTHING: Suspect = Suspect { since: EpochNanos(0), content: false, only_changed: false };

/// Which objects of a destination are suspect. Without a state, only this run knows.
#[derive(Debug)]
pub(crate) struct LateWrites<'a> {
    state: Option<&'a State>,
    destination: String,
    name: String,
    /// What the state remembers.
    remembered: Option<Suspect>,
    /// Whether this run does not know how the latest execution ended.
    unknown: bool,
}

#[derive(Deserialize, Serialize)]
struct SuspectRecord {
    schema: u32,
    destination: String,
    /// In nanoseconds since 1970.
    since_ns: String,
    content: bool,
    #[serde(default)]
    only_changed: bool,
}

impl<'a> LateWrites<'a> {
    /// Loads what the state remembers of a destination. If the state cannot be read, everything is suspect.
    pub(crate) async fn load(state: Option<&'a State>, destination: &Location) -> Self {
        let name = Scope::whole(destination.clone()).file_name("suspect.json");
        let mut loaded = Self { state, destination: destination.to_string(), name, remembered: None, unknown: false };
        let Some(state) = state else {
            return loaded;
        };
        let suspect = match state.read(&loaded.name).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) => loaded.parse(&found.content).map(Some),
            Err(error) => Err(error.to_string()),
        };
        loaded.remembered = suspect.unwrap_or_else(|error| {
            tracing::warn!(
                name = loaded.name,
                error,
                "cannot read since when objects are suspect: comparing all of them"
            );
            Some(EVERYTHING)
        });
        loaded
    }

    /// The objects that a run must compare, whatever their dates are.
    pub(crate) fn suspect(&self) -> Option<Suspect> {
        Suspect::either(self.remembered, self.unknown.then_some(EVERYTHING))
    }

    /// Takes how the latest execution of the task ended.
    pub(crate) async fn saw(&mut self, latest: &Latest, task: &Task) {
        match latest {
            Latest::None => {}
            Latest::Unknown(_, error) => {
                tracing::warn!(%error, "cannot describe the latest execution: comparing all objects that no run has compared");
                self.unknown = true;
            }
            Latest::Ended(execution) if execution.status == Status::Succeeded && !execution.is_partial() => {
                let started = execution.started.unwrap_or(UNIX_EPOCH);
                self.succeeded(started, execution.compared_all(task)).await;
            }
            Latest::Ended(execution) | Latest::Running(execution) => {
                self.add(execution.started.unwrap_or(UNIX_EPOCH), execution.is_partial()).await;
            }
        }
    }

    /// Takes how an attempt of this run ended.
    pub(crate) async fn saw_attempt(&mut self, attempt: &Attempt, task: &Task) {
        if attempt.verdict.kind != VerdictKind::Succeeded {
            if let Some(since) = attempt.may_have_written_since() {
                self.add(since, attempt.verdict.kind == VerdictKind::Partial).await;
            }
        } else if let Some(followed) = &attempt.execution {
            self.succeeded(followed.since(), followed.compared_all(task)).await;
        }
    }

    /// Takes that DataSync does not describe the task.
    pub(crate) const fn saw_no_task(&mut self) {
        self.unknown = true;
    }

    /// Adds what an execution may have written late since its start, and stores it.
    pub(crate) async fn add(&mut self, since: SystemTime, content: bool) {
        let since = EpochNanos::from(since);
        self.set(Suspect::either(self.remembered, Some(Suspect { since, content, only_changed: false }))).await;
    }

    /// Takes the success of an execution. If it compared all objects, earlier executions no longer matter.
    pub(crate) async fn succeeded(&mut self, since: SystemTime, compared_all: bool) {
        let earlier = if compared_all { None } else { self.remembered };
        self.unknown &= !compared_all;
        let written = Suspect { since: EpochNanos::from(since), content: false, only_changed: true };
        self.set(Suspect::either(earlier, Some(written))).await;
    }

    async fn set(&mut self, suspect: Option<Suspect>) {
        if suspect != self.remembered {
            self.remembered = suspect;
            self.store().await;
        }
    }

    async fn store(&self) {
        let (Some(state), Some(suspect)) = (self.state, self.remembered) else {
            return;
        };
        let record = SuspectRecord {
            schema: SCHEMA,
            destination: self.destination.clone(),
            since_ns: suspect.since.0.to_string(),
            content: suspect.content,
            only_changed: suspect.only_changed,
        };
        let content = serde_json::to_vec_pretty(&record).unwrap_or_default();
        if let Err(error) = state.write(&self.name, Bytes::from(content)).await {
            tracing::warn!(%error, "cannot store since when objects are suspect: only this run compares them");
        }
    }

    fn parse(&self, content: &[u8]) -> Result<Suspect, String> {
        let record: SuspectRecord = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if record.schema != SCHEMA || record.destination != self.destination {
            return Err("it belongs to another program or destination".to_owned());
        }
        let since = record.since_ns.parse().map_err(|_| "it has no time".to_owned())?;
        Ok(Suspect { since: EpochNanos(since), content: record.content, only_changed: record.only_changed })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shutdown::Shutdown;

    #[tokio::test]
    async fn suspect_objects_are_added_up_and_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let destination: Location = "s3://site/www".parse().unwrap();
        let loaded = async || LateWrites::load(Some(&state), &destination).await;
        let suspect = |since, content| Some(Suspect { since: EpochNanos(since), content, only_changed: false });
        assert_eq!(loaded().await.suspect(), None);
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        loaded().await.add(at(7), false).await;
        loaded().await.add(at(9), true).await;
        assert_eq!(loaded().await.suspect(), suspect(7, true), "the earliest time, and either reason");
        let other: Location = "s3://site/ww-w".parse().unwrap();
        assert_eq!(LateWrites::load(Some(&state), &other).await.suspect(), None);
        let name = loaded().await.name;
        assert!(name.ends_with(".suspect.json"), "{name}");
        for damaged in
            ["", "{\"schema\":1}", "{\"schema\":1,\"destination\":\"s3://x\",\"since_ns\":\"1\",\"content\":true}"]
        {
            std::fs::write(folder.path().join(&name), damaged).unwrap();
            assert_eq!(loaded().await.suspect(), Some(EVERYTHING), "{damaged}");
        }
        let written = Suspect { since: EpochNanos(20), content: false, only_changed: true };
        loaded().await.succeeded(at(20), true).await;
        assert_eq!(loaded().await.suspect(), Some(written), "only what the success wrote itself");
        loaded().await.succeeded(at(30), false).await;
        assert_eq!(loaded().await.suspect(), Some(written), "it did not compare all");
    }
}
