//! The reports of runs over key ranges, added up to one report, as if one run had done the work.
//!
//! Each key must belong to exactly one run. A gap between the ranges, or an overlap, makes the sum a fatal error,
//! because no report shows a run that never started.

use std::time::SystemTime;

use super::merged_run::MergedRun;
use super::{Report, run_id};
use crate::exit_code::ExitCode;
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::sync::tally::LIST_LIMIT;

/// Why reports cannot be added up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("found no report to add up")]
    None,
    #[error(
        "run {one} copied to {first}, and run {other} to {second}: only reports of one destination can be added up"
    )]
    Destinations { one: String, first: String, other: String, second: String },
}

impl Report {
    /// Adds up the reports of runs over key ranges. If two reports have the same range, the later one counts, because it
    /// is a retry.
    ///
    /// # Errors
    /// Returns an error if there is no report, or if the reports have different destinations.
    pub(crate) fn merge(mut reports: Vec<Self>) -> Result<Self, MergeError> {
        // The text of these times sorts as the times do.
        reports.sort_by(|one, other| (one.after(), &one.started).cmp(&(other.after(), &other.started)));
        let mut latest: Vec<Self> = Vec::new();
        for report in reports {
            if report.keys.is_some() && latest.last().is_some_and(|last| last.keys == report.keys) {
                latest.pop();
            }
            latest.push(report);
        }
        let coverage_error = coverage_error(&latest);
        let runs = latest.iter().map(Self::merged_run).collect();
        let mut latest = latest.into_iter();
        let mut sum = latest.next().ok_or(MergeError::None)?;
        for report in latest {
            if report.destination != sum.destination {
                return Err(MergeError::Destinations {
                    one: sum.run_id,
                    first: sum.destination,
                    other: report.run_id,
                    second: report.destination,
                });
            }
            sum.add(report);
        }
        (sum.keys, sum.merged) = (None, runs);
        sum.run_id = run_id(SystemTime::now());
        sum.seconds.total = seconds_between(&sum.started, &sum.finished);
        if coverage_error.is_some() {
            (sum.exit_code, sum.error) = (ExitCode::Fatal, coverage_error);
        }
        Ok(sum)
    }

    fn after(&self) -> &str {
        self.keys.as_ref().map_or("", |keys| keys.after().as_str())
    }

    fn merged_run(&self) -> MergedRun {
        MergedRun {
            run_id: self.run_id.clone(),
            keys: self.keys.clone(),
            started: self.started.clone(),
            finished: self.finished.clone(),
            exit_code: self.exit_code.code(),
        }
    }

    fn add(&mut self, other: Self) {
        self.started = std::mem::take(&mut self.started).min(other.started);
        self.finished = std::mem::take(&mut self.finished).max(other.finished);
        self.counts.add(&other.counts);
        self.bytes.add(&other.bytes);
        for (reason, count) in other.skipped_because {
            *self.skipped_because.entry(reason).or_default() += count;
        }
        for (name, count) in other.requests {
            *self.requests.entry(name).or_default() += count;
        }
        self.source_operations.add(other.source_operations);
        self.estimated_request_cost_usd += other.estimated_request_cost_usd;
        self.estimated_efs_read_cost_usd += other.estimated_efs_read_cost_usd;
        self.seconds.take_longer(&other.seconds);
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        for withheld in other.withheld_because {
            match self.withheld_because.iter_mut().find(|mine| mine.guard == withheld.guard) {
                Some(mine) => {
                    mine.count += withheld.count;
                    mine.keys.extend(withheld.keys);
                    mine.keys.truncate(LIST_LIMIT);
                }
                None => self.withheld_because.push(withheld),
            }
        }
        self.failures_count += other.failures_count;
        self.failures.extend(other.failures);
        self.failures.truncate(LIST_LIMIT);
        self.error = self.error.take().or(other.error);
        self.exit_code = self.exit_code.worse(other.exit_code);
    }
}

/// Returns which keys no report covers, or more than one. The ranges of the reports start in ascending order.
fn coverage_error(reports: &[Report]) -> Option<String> {
    if reports.iter().all(|report| report.keys.is_none()) {
        return None;
    }
    // The reports so far cover all keys up to this one; `None` is the end.
    let mut seen = Some("");
    for report in reports {
        match seen {
            Some(seen) if seen < report.after() => {
                return Some(format!("no report covers the keys after {seen:?} up to {:?}", report.after()));
            }
            Some(seen) if seen == report.after() => {}
            _ => return Some(format!("two reports cover the keys after {:?}", report.after())),
        }
        seen = report.keys.as_ref().and_then(KeyRange::to).map(RelativeKey::as_str);
    }
    seen.map(|seen| format!("no report covers the keys after {seen:?}"))
}

fn seconds_between(started: &str, finished: &str) -> f64 {
    let time = |text| humantime::parse_rfc3339(text).ok();
    let between = time(started).zip(time(finished)).and_then(|(from, to)| to.duration_since(from).ok());
    between.unwrap_or_default().as_secs_f64()
}
