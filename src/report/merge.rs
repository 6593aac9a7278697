//! The reports of runs over key ranges, added up to one report, as if one run had done the work.
//!
//! A sum proves that the whole sync succeeded, so each report must prove its part: it is of a sync of the same source to
//! the same destination, with the same options, over a range of the same range list. Each key must belong to exactly one
//! range. A gap or an overlap makes the sum a fatal error, because no report shows a run that never started. The exit
//! code of the sum follows from the counts, not only from the exit codes.

use std::path::Path;
use std::time::SystemTime;

use super::merged_run::MergedRun;
use super::{CommandName, Report, SCHEMA};
use crate::exit_code::ExitCode;
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::range_list::RangeList;
use crate::source::entry::SkipReason;
use crate::sync::guard::Guard;
use crate::sync::tally::LIST_LIMIT;
use crate::time::unique_id;

/// A report, and where it was read.
#[derive(Debug)]
pub(crate) struct NamedReport {
    pub(crate) name: String,
    pub(crate) report: Report,
}

impl NamedReport {
    fn refused(&self, why: String) -> MergeError {
        MergeError::Refused { name: self.name.clone(), why }
    }
}

/// Why reports cannot be added up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("found no report to add up: pass the reports of the runs")]
    None,
    #[error(
        "run {one} copied to {first}, and run {other} to {second}: only reports of one destination can be added up"
    )]
    Destinations { one: String, first: String, other: String, second: String },
    #[error("cannot add up the report {name}: {why}")]
    Refused { name: String, why: String },
    #[error("cannot add up the report of run {run}: its numbers are too large to be those of a run")]
    TooLarge { run: String },
    #[error("the range list has no ID, so it cannot show which reports belong to it: make it with efs2s3 ranges")]
    ListWithoutId,
}

impl Report {
    /// Adds up the reports of runs over key ranges. If two reports have the same range, the later one counts, because it
    /// is a retry.
    ///
    /// # Errors
    /// Returns an error if there is no report, or if a report is not of the same sync as the others, or not of a run over
    /// a range of `list`.
    pub(crate) fn merge(mut reports: Vec<NamedReport>, list: Option<&RangeList>) -> Result<Self, MergeError> {
        let list = match list.map(RangeList::id) {
            Some(None) => return Err(MergeError::ListWithoutId),
            Some(Some(id)) => Some(id),
            None => None,
        };
        // The text of these times sorts as the times do.
        reports.sort_by(|one, other| {
            let (one, other) = (&one.report, &other.report);
            (one.after(), &one.started).cmp(&(other.after(), &other.started))
        });
        if let Some((first, others)) = reports.split_first() {
            first.report.check_alone(list).map_err(|why| first.refused(why))?;
            for other in others {
                first.report.check_destination(&other.report)?;
                other.report.check_alone(list).map_err(|why| other.refused(why))?;
                first.report.check_beside(&other.report).map_err(|why| other.refused(why))?;
            }
        }
        let mut latest: Vec<Self> = Vec::new();
        for NamedReport { report, .. } in reports {
            if latest.last().is_some_and(|last| last.keys == report.keys) {
                latest.pop();
            }
            latest.push(report);
        }
        let coverage_error = coverage_error(&latest);
        let runs = latest.iter().map(Self::merged_run).collect();
        let exit_codes = latest.iter().map(Self::proven_exit_code);
        let exit_code = exit_codes.reduce(ExitCode::worse).ok_or(MergeError::None)?;
        let mut latest = latest.into_iter();
        let mut sum = latest.next().ok_or(MergeError::None)?;
        for report in latest {
            let run = report.run_id.clone();
            sum.add(report).ok_or(MergeError::TooLarge { run })?;
        }
        (sum.keys, sum.range, sum.merged, sum.exit_code) = (None, None, runs, exit_code);
        sum.run_id = unique_id(SystemTime::now());
        sum.seconds.total = seconds_between(&sum.started, &sum.finished);
        if coverage_error.is_some() {
            (sum.exit_code, sum.error) = (ExitCode::Fatal, coverage_error);
        }
        Ok(sum)
    }

    /// Returns why this report proves nothing about a sync over `list`.
    fn check_alone(&self, list: Option<&str>) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its schema is {}, and this version reads {SCHEMA}", self.schema));
        }
        if self.command != CommandName::Sync {
            return Err(format!(
                "it is of `{}`, and only that of a `sync` shows what was written",
                self.command.name()
            ));
        }
        let own_list = self.range.as_ref().and_then(|range| range.list.as_deref());
        match list {
            Some(list) if own_list != Some(list) => {
                let own = own_list.map_or("no range list".to_owned(), |own| format!("the range list {own}"));
                Err(format!(
                    "its run used {own}, and this is the list {list}: it is of another round, so run its range again"
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_destination(&self, other: &Self) -> Result<(), MergeError> {
        if self.destination == other.destination {
            return Ok(());
        }
        Err(MergeError::Destinations {
            one: self.run_id.clone(),
            first: self.destination.clone(),
            other: other.run_id.clone(),
            second: other.destination.clone(),
        })
    }

    /// Returns why another report is not of the same sync.
    fn check_beside(&self, other: &Self) -> Result<(), String> {
        let (mine, theirs) = (self.whole_source()?, other.whole_source()?);
        if !mine.components().eq(theirs.components()) {
            return Err(format!("its source is {}, and that of others is {}", theirs.display(), mine.display()));
        }
        let list = |report: &Self| report.range.as_ref().map(|range| (range.list.clone(), range.count));
        if list(self) != list(other) {
            return Err("its run used another range list than others, so it is of another round: run its range again"
                .to_owned());
        }
        self.settings.difference(&other.settings).map_or(Ok(()), Err)
    }

    /// Returns the path that shows which folder the run copied.
    fn whole_source(&self) -> Result<&Path, String> {
        let source = Path::new(self.source_path.as_ref().unwrap_or(&self.source));
        if source.is_absolute() {
            return Ok(source);
        }
        Err(format!(
            "its source is the relative path {}, which shows no folder: run its range again with this version",
            self.source
        ))
    }

    /// Returns the exit code that the report's numbers allow, if they are worse than its own.
    fn proven_exit_code(&self) -> ExitCode {
        let Self { counts, .. } = self;
        let is_normal = |name: &str| Guard::ALL.iter().any(|guard| guard.name() == name && guard.is_normal());
        let mut withheld = self.withheld_because.iter().map(|withheld| withheld.count);
        let withheld = withheld.try_fold(0_u64, u64::checked_add);
        let is_complete = self.error.is_none()
            && counts.failed == 0
            && counts.deletes_failed == 0
            && self.failures_count == 0
            && self.failures.is_empty()
            && !self.skipped_because.contains_key(&SkipReason::Interrupted)
            && self.withheld_because.iter().all(|withheld| is_normal(&withheld.guard))
            && withheld == Some(counts.deletes_withheld)
            && counts.add_up();
        if is_complete { self.exit_code } else { self.exit_code.worse(ExitCode::Incomplete) }
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

    /// Adds another report. Returns `None` if a number is too large.
    fn add(&mut self, other: Self) -> Option<()> {
        let add_to = |sum: &mut u64, number: u64| sum.checked_add(number).map(|added| *sum = added);
        self.started = std::mem::take(&mut self.started).min(other.started);
        self.finished = std::mem::take(&mut self.finished).max(other.finished);
        self.counts = self.counts.plus(&other.counts)?;
        self.bytes = self.bytes.plus(&other.bytes)?;
        for (reason, count) in other.skipped_because {
            add_to(self.skipped_because.entry(reason).or_default(), count)?;
        }
        for (name, count) in other.requests {
            add_to(self.requests.entry(name).or_default(), count)?;
        }
        self.source_operations = self.source_operations.plus(other.source_operations)?;
        self.estimated_request_cost_usd += other.estimated_request_cost_usd;
        self.estimated_efs_read_cost_usd += other.estimated_efs_read_cost_usd;
        self.seconds.take_longer(&other.seconds);
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        for withheld in other.withheld_because {
            match self.withheld_because.iter_mut().find(|mine| mine.guard == withheld.guard) {
                Some(mine) => mine.add(withheld)?,
                None => self.withheld_because.push(withheld),
            }
        }
        add_to(&mut self.failures_count, other.failures_count)?;
        self.failures.extend(other.failures);
        self.failures.truncate(LIST_LIMIT);
        self.error = self.error.take().or(other.error);
        Some(())
    }
}

/// Returns which keys no report covers, or more than one. The ranges of the reports start in ascending order.
fn coverage_error(reports: &[Report]) -> Option<String> {
    if reports.iter().all(|report| report.keys.is_none()) {
        return None;
    }
    // The reports so far cover all keys up to this one; `None` is the end.
    let mut seen = Some("");
    let mut previous = None;
    for report in reports {
        match seen {
            Some(seen) if seen < report.after() => {
                let (to, action) = (report.after(), run_again(previous));
                return Some(format!("no report covers the keys after {seen:?} up to {to:?}: {action}"));
            }
            Some(seen) if seen == report.after() => {}
            _ => return Some(format!("two reports cover the keys after {:?}", report.after())),
        }
        seen = report.keys.as_ref().and_then(KeyRange::to).map(RelativeKey::as_str);
        previous = Some(report);
    }
    seen.map(|seen| format!("no report covers the keys after {seen:?}: {}", run_again(previous)))
}

/// Returns what closes the gap after the report of this run, or before all reports.
fn run_again(previous: Option<&Report>) -> String {
    match previous.map(|report| report.range.as_ref()) {
        None => "run these ranges again, from range 0 (--range-index 0)".to_owned(),
        Some(Some(range)) => {
            let missing = range.index + 1;
            format!("run range {missing} again (--range-index {missing})")
        }
        Some(None) => "run this range again".to_owned(),
    }
}

fn seconds_between(started: &str, finished: &str) -> f64 {
    let time = |text| humantime::parse_rfc3339(text).ok();
    let between = time(started).zip(time(finished)).and_then(|(from, to)| to.duration_since(from).ok());
    between.unwrap_or_default().as_secs_f64()
}
