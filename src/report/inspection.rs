//! The counts of an inspection: `plan` and `verify` count under names of their own.

use crate::sync::counts::{ByteCounts, Counts};
use crate::sync::inspect::plan::PlanCounts;
use crate::sync::inspect::verify::VerifyCounts;

/// What an inspection found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InspectionCounts {
    /// What a sync would do.
    Plan(PlanCounts),
    /// What differs.
    Verify(VerifyCounts),
}

impl InspectionCounts {
    /// Fills in the report's counts, whose public names are those of a sync.
    pub(super) const fn fill_in(self, counts: &mut Counts, bytes: &mut ByteCounts) {
        match self {
            Self::Plan(planned) => {
                (counts.uploaded, bytes.uploaded) = (planned.uploads, planned.upload_bytes);
                (counts.metadata_rewritten, counts.deleted) = (planned.rewrites, planned.deletes);
            }
            Self::Verify(found) => {
                (counts.uploaded, counts.metadata_rewritten) = (found.differences, found.metadata_differences);
                counts.deleted = found.orphans;
            }
        }
    }
}
