//! How a run ended, and what it did until then.

use super::inspection::InspectionCounts;
use crate::destination::operation::Requests;
use crate::exit_code::ExitCode;
use crate::source::operations::Operations;
use crate::sync::counts::Seconds;
use crate::sync::tally::Tally;

/// How a run ended, and what it did until then.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    /// What happened to files and objects.
    pub(crate) tally: Tally,
    /// What `plan` or `verify` found.
    pub(crate) inspection: Option<InspectionCounts>,
    /// The requests to S3; `None` if the run sent none.
    pub(crate) requests: Option<&'a Requests>,
    /// The operations on the source; `None` if the run did not open it.
    pub(crate) operations: Option<&'a Operations>,
    /// The duration of each step.
    pub(crate) seconds: Seconds,
    /// The error that ended the run early.
    pub(crate) error: Option<String>,
    pub(crate) exit_code: ExitCode,
}

impl Ending<'_> {
    pub(crate) fn without_work(error: Option<String>, exit_code: ExitCode) -> Self {
        let (tally, seconds) = (Tally::default(), Seconds::default());
        Self { tally, inspection: None, requests: None, operations: None, seconds, error, exit_code }
    }
}
