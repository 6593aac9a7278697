//! The own cancel: the execution that a run asked DataSync to cancel, and whose end it did not see. The next run must not
//! take its end for the cancel of an operator.

use serde::{Deserialize, Serialize};

use super::ExecutionArn;
use crate::location::Location;
use crate::state::{DestinationRecord, State};

const SCHEMA: u32 = 1;

/// The execution that the last attempt cancelled, as the state remembers it for one destination.
#[derive(Debug)]
pub(crate) struct OwnCancel<'a> {
    record: DestinationRecord<'a>,
    execution: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct OwnCancelRecord {
    execution: Option<String>,
}

impl<'a> OwnCancel<'a> {
    /// Loads what the state remembers. A file that cannot be read counts as absent.
    pub(crate) async fn load(state: Option<&'a State>, destination: &Location) -> Self {
        let record = DestinationRecord::new(state, destination, "own-cancel.json", SCHEMA);
        let loaded: Result<Option<OwnCancelRecord>, String> = record.load().await;
        let loaded = loaded.unwrap_or_else(|wrong| {
            let name = record.name();
            tracing::warn!(
                name,
                "the record of a cancelled execution {wrong}: taking its end for another client's cancel"
            );
            None
        });
        Self { record, execution: loaded.and_then(|loaded| loaded.execution) }
    }

    /// The execution.
    pub(crate) fn execution(&self) -> Option<&str> {
        self.execution.as_deref()
    }

    /// Takes the execution that an attempt cancelled, and whose end it did not see; `None` if there is none now.
    pub(crate) async fn set(&mut self, execution: Option<&ExecutionArn>) {
        let execution = execution.map(ToString::to_string);
        if self.execution == execution {
            return;
        }
        self.execution = execution;
        let record = OwnCancelRecord { execution: self.execution.clone() };
        if let Err(error) = self.record.store(&record).await {
            tracing::warn!(%error, "cannot record the cancelled execution: the next run takes its end for another client's cancel");
        }
    }
}
