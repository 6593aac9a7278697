//! The limits: how long each stage of an execution may take.

use std::time::Duration;

/// How long each stage of an execution may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageLimits {
    /// Between two polls.
    pub(crate) poll_interval: Duration,
    /// QUEUED and LAUNCHING together.
    pub(crate) queue: Duration,
    /// PREPARING.
    pub(crate) prepare: Duration,
    /// Without a changed counter, or without a response.
    pub(crate) stall: Duration,
    /// In total.
    pub(crate) total: Duration,
    /// From the cancel to the end.
    pub(crate) cancel: Duration,
}
