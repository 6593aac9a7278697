//! One of the runs whose reports a merged report adds up.

use serde::{Deserialize, Serialize};

use crate::key_range::KeyRange;

/// An entry of the report's `merged`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct MergedRun {
    pub(super) run_id: String,
    pub(super) keys: Option<KeyRange>,
    pub(super) started: String,
    pub(super) finished: String,
    pub(super) exit_code: u8,
}
