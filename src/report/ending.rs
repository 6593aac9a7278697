//! How a run ended, and what it did until then.

use super::inspection::InspectionCounts;
use crate::destination::operation::Requests;
use crate::exit_code::ExitCode;
use crate::source::operations::Operations;
use crate::sync::tally::{Seconds, Tally};

/// How a run ended, and what it did until then.
#[derive(Debug)]
pub struct Ending<'a> {
    /// What happened to files and objects.
    pub tally: Tally,
    /// What `plan` or `verify` found.
    pub inspection: Option<InspectionCounts>,
    /// The requests to S3; `None` if the run sent none.
    pub requests: Option<&'a Requests>,
    /// The operations on the source; `None` if the run did not open it.
    pub operations: Option<&'a Operations>,
    /// The duration of each step.
    pub seconds: Seconds,
    /// The error that ended the run early.
    pub error: Option<String>,
    /// The exit code.
    pub exit_code: ExitCode,
}
