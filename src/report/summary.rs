//! The summary: the result of a run in one log line.

use std::iter;

use bytesize::ByteSize;

use super::{CommandName, Report, Route};
use crate::counted::counted;
use crate::source::entry::SkipReason;
use crate::sync::counts::Counts;
use crate::sync::guard::Guard;

impl Report {
    /// Returns the last log line of the run. The alarm filters in `deploy/` match its end, `exit 0`.
    pub(crate) fn summary(&self) -> String {
        let compared_nothing = self.counts == Counts::default() && self.withheld_because.is_empty();
        if let (Route::Datasync, Some(datasync), true) = (self.route, &self.datasync, compared_nothing) {
            // The line before this one is the error.
            let what = if self.error().is_some() { &*datasync.verdict } else { &*datasync.evidence };
            return format!("DataSync: {what}; {:.1} s, exit {}", self.seconds.total, self.exit_code.code());
        }
        let Counts { files, unchanged, uploaded, deleted, deletes_withheld, skipped, failed, deletes_failed, .. } =
            self.counts;
        let (rewritten, filtered) = (self.counts.metadata_rewritten, self.counts.filtered);
        let bytes = ByteSize(self.bytes.uploaded).display().iec();
        let files = counted(files, "file", "files");
        // The report has the counts of all commands under the names of a sync's counts.
        let mut text = match self.command {
            CommandName::Plan => {
                format!("{files}: {unchanged} unchanged, {uploaded} to upload ({bytes}), {deleted} to delete")
            }
            CommandName::Verify => {
                let orphans = counted(deleted, "object", "objects");
                let read = ByteSize(self.bytes.read_for_compare).display().iec();
                format!(
                    "{files}: {unchanged} equal, {uploaded} different or missing, {rewritten} with other metadata, \
                     {orphans} without a file; {read} read"
                )
            }
            CommandName::Run | CommandName::Sync | CommandName::Apply => {
                format!("{files}: {unchanged} unchanged, {uploaded} uploaded ({bytes}), {deleted} deleted")
            }
        };
        let is_verify = matches!(self.command, CommandName::Verify);
        let not_compared = if is_verify { self.not_compared() } else { [(0, "", ""); 3] };
        let deletes_withheld = if is_verify { 0 } else { deletes_withheld };
        let rewritten = match self.command {
            CommandName::Verify => (0, "", ""),
            CommandName::Plan => (rewritten, "metadata to rewrite", "metadata to rewrite"),
            CommandName::Run | CommandName::Sync | CommandName::Apply => {
                (rewritten, "metadata rewritten", "metadata rewritten")
            }
        };
        for (count, one, many) in iter::once(rewritten).chain(not_compared).chain([
            (filtered, "excluded", "excluded"),
            (skipped, "skipped", "skipped"),
            (failed, "failed", "failed"),
            (deletes_failed, "delete failed", "deletes failed"),
            (deletes_withheld, "delete withheld", "deletes withheld"),
        ]) {
            if count > 0 {
                text.extend([", ", &counted(count, one, many)]);
            }
        }
        text + &format!(
            "; {}, {:.1} s, exit {}",
            counted(self.request_count(), "request", "requests"),
            self.seconds.total,
            self.exit_code.code()
        )
    }

    /// What `verify` could not compare, although nothing failed.
    fn not_compared(&self) -> [(u64, &'static str, &'static str); 3] {
        let skipped = |reason| self.skipped_because.get(&reason).copied().unwrap_or_default();
        let unknown = self.withheld_because.iter().filter(|withheld| withheld.guard == Guard::Unknown.name());
        [
            (skipped(SkipReason::TooYoung), "too young to compare", "too young to compare"),
            (skipped(SkipReason::Vanished), "vanished", "vanished"),
            (unknown.map(|withheld| withheld.count).sum(), "object not compared", "objects not compared"),
        ]
    }

    fn request_count(&self) -> u64 {
        self.requests
            .iter()
            .filter(|(name, _)| !matches!(&***name, "retries" | "throttled"))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}
