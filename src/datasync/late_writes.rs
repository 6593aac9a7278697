//! Late writes: what executions may have written late, or wrong.
//!
//! The state records since when the objects of a destination are suspect, and under which filters. It keeps the earliest
//! time until a comparison has proven the objects:
//!
//! | what compared them | what is no longer suspect |
//! |---|---|
//! | an execution that succeeded and compared all of them | late writes, unless the file changed without another size or mtime |
//! | the same, with `VerifyMode=POINT_IN_TIME_CONSISTENT` | everything |
//! | a direct sync of all of them that left none that differs | everything |
//!
//! Until then a direct sync compares each suspect object, and records it in the index. The next run with the same state
//! does not compare it again.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::attempt::verdict::VerdictKind;
use super::attempt::{Attempt, Followed, Unproven};
use super::execution::Compared;
use super::filters::Filters;
use super::{Latest, Status, Task, TaskArn};
use crate::filter::Filter;
use crate::location::Location;
use crate::state::{DestinationRecord, State};
use crate::sync::rules::Suspect;
use crate::time::EpochNanos;

const SCHEMA: u32 = 2;

/// Everything in the destination, as after an execution that the run knows nothing about.
const EVERYTHING: Suspect = Suspect { late: Some(EpochNanos(0)), content: None, changed: None };
/// Everything, and its content: a damaged record may have named it.
const EVERY_CONTENT: Suspect = Suspect { content: Some(EpochNanos(0)), ..EVERYTHING };

/// Which objects of a destination are suspect. Without a state, only this run knows.
#[derive(Debug)]
pub(crate) struct LateWrites<'a> {
    record: DestinationRecord<'a>,
    /// The task of the run, if it has one.
    task: Option<&'a TaskArn>,
    remembered: Remembered,
    /// Whether this run does not know how the latest execution ended.
    unknown: bool,
}

/// What the state remembers of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remembered {
    suspect: Suspect,
    /// Only objects that these filters admit are suspect.
    filters: Filters,
    /// The tasks with an execution that may still be running.
    running: BTreeSet<String>,
}

#[derive(Deserialize, Serialize)]
struct SuspectRecord {
    /// Times in nanoseconds since 1970.
    late_since_ns: Option<String>,
    content_since_ns: Option<String>,
    changed_since_ns: Option<String>,
    include: Option<String>,
    exclude: Option<String>,
    running: BTreeSet<String>,
}

impl<'a> LateWrites<'a> {
    /// Loads what the state remembers of a destination. If the state cannot be read, everything is suspect.
    pub(crate) async fn load(state: Option<&'a State>, destination: &Location, task: Option<&'a TaskArn>) -> Self {
        let record = DestinationRecord::new(state, destination, "suspect.json", SCHEMA);
        let remembered = match record.load().await {
            Ok(None) => Ok(Remembered::default()),
            Ok(Some(found)) => Remembered::of(found),
            Err(wrong) => Err(wrong),
        };
        let remembered = remembered.unwrap_or_else(|wrong| {
            tracing::warn!(
                name = record.name(),
                "the record since when objects are suspect {wrong}: comparing all of them"
            );
            Remembered { suspect: EVERY_CONTENT, ..Remembered::default() }
        });
        Self { record, task, remembered, unknown: false }
    }

    /// The objects that a run must compare, whatever their dates are.
    pub(crate) fn suspect(&self) -> Suspect {
        self.remembered.suspect.and(if self.unknown { EVERYTHING } else { Suspect::default() })
    }

    /// Takes how the latest execution of the task ended.
    pub(crate) async fn saw(&mut self, latest: &Latest, task: &Task) {
        match latest {
            Latest::None => self.set_running(false).await,
            Latest::Unknown(_, error) => {
                tracing::warn!(%error, "cannot describe the latest execution: comparing all objects that no run has compared");
                self.unknown = true;
            }
            Latest::Ended(execution) => {
                // The executions of a task run one after the other.
                self.set_running(false).await;
                let started = execution.started.unwrap_or(UNIX_EPOCH);
                if execution.status == Status::Succeeded && !execution.is_partial() {
                    self.succeeded(started, execution.compared(task), execution.filters.clone()).await;
                } else {
                    self.failed(started, execution.content_suspect_since(), execution.filters.clone()).await;
                }
            }
            Latest::Running(execution) | Latest::CancelledByRun(execution) => {
                self.set_running(true).await;
                self.failed(execution.started.unwrap_or(UNIX_EPOCH), None, execution.filters.clone()).await;
            }
        }
    }

    /// Takes how an attempt of this run ended.
    pub(crate) async fn saw_attempt(&mut self, attempt: &Attempt, task: &Task) {
        self.set_running(attempt.still_running.is_some()).await;
        let filters = attempt.execution.as_ref().map(|followed| followed.filters(task)).unwrap_or_default();
        match &attempt.execution {
            Some(followed) if attempt.verdict.kind == VerdictKind::Succeeded => {
                let found_no_files = attempt.unproven.contains(&Unproven::FoundNoFiles);
                let compared = if found_no_files { Compared::Nothing } else { followed.compared(task) };
                self.succeeded(followed.since(), compared, filters).await;
            }
            execution => {
                if let Some(since) = attempt.may_have_written_since() {
                    let content = execution.as_ref().and_then(Followed::content_suspect_since);
                    self.failed(since, content, filters).await;
                }
            }
        }
    }

    /// Takes that DataSync does not describe the task.
    pub(crate) const fn saw_no_task(&mut self) {
        self.unknown = true;
    }

    /// Takes that an execution of the task may be running, which may write from now on.
    pub(crate) async fn may_run_since(&mut self, since: SystemTime) {
        self.set_running(true).await;
        self.failed(since, None, Filters::default()).await;
    }

    /// Takes that a direct sync has compared all objects that this filter admits, and left none that differs.
    pub(crate) async fn compared_by_run(&mut self, filter: &Filter) {
        if self.remembered.running.is_empty() && !filter.may_miss(self.remembered.filters.texts()) {
            self.set(Remembered::default()).await;
        }
    }

    /// Takes an execution that did not succeed, or has not ended: what it may have written since its start.
    async fn failed(&mut self, since: SystemTime, content: Option<SystemTime>, filters: Filters) {
        let suspect = Suspect::late(since).and(content.map(Suspect::content).unwrap_or_default());
        self.set(self.remembered.clone().with(suspect, filters)).await;
    }

    /// Takes the success of an execution.
    async fn succeeded(&mut self, since: SystemTime, compared: Compared, filters: Filters) {
        let mut remembered = self.remembered.clone();
        let covers_all = remembered.running.is_empty() && !remembered.filters.may_admit_more_than(&filters);
        match compared {
            Compared::Content if covers_all => remembered = Remembered::default(),
            Compared::SizesAndTimes if covers_all => {
                // What was late has another mtime than its file, unless the file was changed and got the old mtime back.
                let late = remembered.suspect.late.take();
                remembered.suspect = remembered.suspect.and(Suspect { changed: late, ..Suspect::default() });
            }
            Compared::Nothing | Compared::SizesAndTimes | Compared::Content => {}
        }
        self.unknown &= compared == Compared::Nothing;
        self.set(remembered.with(Suspect::changed(since), filters)).await;
    }

    async fn set_running(&mut self, is_running: bool) {
        let Some(task) = self.task else {
            return;
        };
        let mut remembered = self.remembered.clone();
        if is_running {
            remembered.running.insert(task.to_string());
        } else {
            remembered.running.remove(task.as_str());
        }
        self.set(remembered).await;
    }

    async fn set(&mut self, remembered: Remembered) {
        if remembered != self.remembered {
            self.remembered = remembered;
            self.store().await;
        }
    }

    async fn store(&self) {
        let Remembered { suspect, filters, running } = &self.remembered;
        let text = |time: Option<EpochNanos>| time.map(|time| time.0.to_string());
        let record = SuspectRecord {
            late_since_ns: text(suspect.late),
            content_since_ns: text(suspect.content),
            changed_since_ns: text(suspect.changed),
            include: filters.include.clone(),
            exclude: filters.exclude.clone(),
            running: running.clone(),
        };
        if let Err(error) = self.record.store(&record).await {
            tracing::warn!(%error, "cannot store since when objects are suspect: only this run compares them");
        }
    }
}

impl Remembered {
    fn of(record: SuspectRecord) -> Result<Self, String> {
        let time = |text: Option<String>| {
            let time = text.map(|text| text.parse().map(EpochNanos)).transpose();
            time.map_err(|_| "has a time that is not a number".to_owned())
        };
        let suspect = Suspect {
            late: time(record.late_since_ns)?,
            content: time(record.content_since_ns)?,
            changed: time(record.changed_since_ns)?,
        };
        let filters = Filters { include: record.include, exclude: record.exclude };
        Ok(Self { suspect, filters, running: record.running })
    }

    /// The same, with what is suspect of the objects that these filters admit.
    fn with(self, suspect: Suspect, filters: Filters) -> Self {
        let filters = if self.suspect.is_empty() { filters } else { self.filters.widened_by(filters) };
        Self { suspect: self.suspect.and(suspect), filters, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shutdown::Shutdown;

    const TASK: &str = "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0";

    fn at(nanos: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    fn only(folder: &str) -> Filters {
        Filters { include: Some(folder.to_owned()), exclude: None }
    }

    fn late(nanos: i128) -> Suspect {
        Suspect::late(EpochNanos(nanos))
    }

    fn changed(nanos: i128) -> Suspect {
        Suspect::changed(EpochNanos(nanos))
    }

    fn content(nanos: i128) -> Suspect {
        Suspect::content(EpochNanos(nanos))
    }

    #[tokio::test]
    async fn suspect_objects_are_added_up_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let destination: Location = "s3://site/www".parse().unwrap();
        let loaded = async || LateWrites::load(Some(&state), &destination, None).await;
        assert_eq!(loaded().await.suspect(), Suspect::default());
        loaded().await.failed(at(7), None, Filters::default()).await;
        loaded().await.failed(at(9), Some(at(9)), Filters::default()).await;
        assert_eq!(loaded().await.suspect(), late(7).and(content(9)), "the earliest time for each reason");
        let other: Location = "s3://site/ww-w".parse().unwrap();
        assert_eq!(LateWrites::load(Some(&state), &other, None).await.suspect(), Suspect::default());
        let name = loaded().await.record.name().to_owned();
        assert!(name.ends_with(".suspect.json"), "{name}");
        for damaged in ["", "{\"schema\":2}", "{\"schema\":1,\"destination\":\"s3://site/www\",\"running\":[]}"] {
            std::fs::write(folder.path().join(&name), damaged).unwrap();
            assert_eq!(loaded().await.suspect(), EVERY_CONTENT, "{damaged}");
        }
    }

    #[tokio::test]
    async fn a_success_clears_only_what_it_compared() {
        let destination: Location = "s3://site/www".parse().unwrap();
        let task: TaskArn = TASK.parse().unwrap();
        let before = async || {
            let mut late_writes = LateWrites::load(None, &destination, Some(&task)).await;
            late_writes.failed(at(5), Some(at(6)), only("/d0")).await;
            late_writes
        };
        let all = late(5).and(content(6)).and(changed(20));
        for (compared, filters, is_running, expected) in [
            (Compared::Nothing, Filters::default(), false, all),
            (Compared::SizesAndTimes, Filters::default(), false, content(6).and(changed(5))),
            (Compared::SizesAndTimes, only("/d0|/d1"), false, content(6).and(changed(5))),
            (Compared::SizesAndTimes, only("/d1"), false, all),
            (Compared::SizesAndTimes, Filters::default(), true, all),
            (Compared::Content, Filters::default(), false, changed(20)),
            (Compared::Content, only("/d1"), false, all),
        ] {
            let mut late_writes = before().await;
            late_writes.set_running(is_running).await;
            late_writes.succeeded(at(20), compared, filters.clone()).await;
            assert_eq!(late_writes.suspect(), expected, "{compared:?} {filters:?}");
            // What a success wrote itself is suspect since the first of several.
            late_writes.succeeded(at(30), Compared::SizesAndTimes, only("/other")).await;
            assert_eq!(late_writes.suspect(), expected, "{compared:?} {filters:?}");
        }
    }

    #[tokio::test]
    async fn a_direct_sync_clears_what_its_filter_admits() {
        let destination: Location = "s3://site/www".parse().unwrap();
        let task: TaskArn = TASK.parse().unwrap();
        for (filter, is_running, clears) in [
            (Filter::default(), false, true),
            (Filter::new(Some("/d0|/d1"), None).unwrap(), false, true),
            (Filter::new(Some("/d1"), None).unwrap(), false, false),
            (Filter::new(None, Some("/d0/x")).unwrap(), false, false),
            (Filter::default(), true, false),
        ] {
            let mut late_writes = LateWrites::load(None, &destination, Some(&task)).await;
            late_writes.failed(at(5), Some(at(6)), only("/d0")).await;
            late_writes.set_running(is_running).await;
            late_writes.compared_by_run(&filter).await;
            assert_eq!(late_writes.suspect().is_empty(), clears, "{filter:?}");
        }
    }
}
