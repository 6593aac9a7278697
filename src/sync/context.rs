//! What every step of a sync works with: the two sides, the limits, and the wish to stop.

use super::budget::ByteBudget;
use super::decide::Rules;
use crate::destination::Destination;
use crate::destination::headers::HeaderRules;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::source::Source;

/// The two sides of a sync and what limits it.
#[derive(Debug)]
pub struct Context {
    /// The tree.
    pub source: Source,
    /// The prefix.
    pub destination: Destination,
    /// When an object is as it should be.
    pub rules: Rules,
    /// What objects are stored with.
    pub headers: HeaderRules,
    /// The memory for file content in flight.
    pub budget: ByteBudget,
    /// The size of a part.
    pub part_size: u64,
    /// Files of at least this size are sent in parts.
    pub multipart_threshold: u64,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// The line that shows how far the run is.
    pub progress: Progress,
}

impl Context {
    /// The whole key of a path below the source.
    #[must_use]
    pub fn key(&self, relative: &str) -> String {
        self.destination.prefix().key(relative)
    }
}
