//! The outcome of a session's work, and the exit code that it leads to.

use crate::counted::counted;
use crate::exit_code::ExitCode;
use crate::report::InspectionCounts;
use crate::sync::counts::Seconds;
use crate::sync::fatal::Fatal;
use crate::sync::rules::DeleteRules;
use crate::sync::tally::Tally;

/// What the work found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) inspection: Option<InspectionCounts>,
    pub(super) seconds: Seconds,
    pub(super) differences: Differences,
    /// What DataSync may have done that this run does not allow.
    pub(super) violations: Option<String>,
    /// Whether something was left out, although nothing failed.
    pub(super) is_incomplete: bool,
}

/// Whether the work found differences that its exit code shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Differences {
    #[default]
    None,
    /// Differences. An incomplete run still exits with 3.
    Found,
    /// Differences that outrank an incomplete run: exit code 10.
    Proven,
}

impl Outcome {
    /// Counts the deletes of DataSync that no guard has seen: alone they may be more than the limit allows.
    pub(super) fn count_deletes_of_datasync(&mut self, rules: &DeleteRules) {
        let deleted = rules.already_deleted;
        if self.violations.is_none() && deleted > 0 && rules.exceed_limit(0, self.tally.objects_in_scope) {
            self.violations = Some(format!(
                "DataSync deleted {} without the guards of this program, more than --max-delete allows: look for missing \
                 objects (bucket versions, CloudTrail)",
                counted(deleted, "object", "objects")
            ));
        }
    }

    pub(super) fn exit_code(&self, result: &Result<(), Fatal>, stopped: Option<ExitCode>) -> ExitCode {
        match (result, stopped) {
            (Err(_), _) => ExitCode::Fatal,
            (Ok(()), Some(stopped)) => stopped,
            // Beside an empty source, no difference is proven.
            (Ok(()), None) if self.tally.empty_source().is_some() => ExitCode::Incomplete,
            (Ok(()), None) if self.differences == Differences::Proven => ExitCode::Differences,
            (Ok(()), None) if self.tally.is_incomplete() || self.is_incomplete || self.violations.is_some() => {
                ExitCode::Incomplete
            }
            (Ok(()), None) if self.differences == Differences::Found => ExitCode::Differences,
            (Ok(()), None) => ExitCode::Success,
        }
    }
}
