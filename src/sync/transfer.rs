//! Transfers: many jobs in parallel, and their outcomes counted in the tally.
//!
//! 1. Bounded: a new file waits while as many files are in flight as there may be requests.
//! 2. Unsettled files, which changed a moment ago, wait in a queue of their own, and delay no other file.
//! 3. A failure of one key fails that key. A failure of everything ends the run ([`Outlook`]).
//! 4. After a stop request no further job starts. Files in flight get [`GRACE`], and abort their uploads themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

mod carry_out;
pub(crate) mod compare;
mod content;
mod digest;
mod rewrite;
mod sending;
mod sent_file;
mod upload;

use carry_out::carry_out;
use upload::{SETTLED, settles_in};

use super::context::Context;
use super::failure::Failure;
use super::fatal::Fatal;
use super::job::Job;
use super::outlook::Outlook;
use super::tally::Tally;
use super::verdict::{FileError, Outcome, Write};
use crate::destination::error::S3Error;
use crate::index::row::RowMetadata;
use crate::source::entry::{EntryKind, SkipReason};
use crate::time::EpochNanos;

/// How many unsettled files may wait. At this number the walk waits too.
const MOST_UNSETTLED: usize = 10_000;
/// How long files in flight may take to end. ECS kills a task 30 s after its SIGTERM, by default.
const GRACE: Duration = Duration::from_secs(20);

/// Files being settled.
#[derive(Debug)]
pub(crate) struct Transfers {
    context: Arc<Context>,
    in_flight: JoinSet<Ended>,
    unsettled: VecDeque<(Instant, Job)>,
    outlook: Outlook,
    last_error: Option<S3Error>,
    /// When the first file started, and when the last one ended.
    time: Option<(Instant, Instant)>,
}

/// A job that has ended.
#[derive(Debug)]
struct Ended {
    job: Job,
    started: Instant,
    outcome: Outcome,
}

impl Transfers {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let outlook = Outlook::new(context.destination.outage_timeout());
        Self { context, in_flight: JoinSet::new(), unsettled: VecDeque::new(), outlook, last_error: None, time: None }
    }

    /// Starts a file, once there is room for it.
    ///
    /// # Errors
    /// Returns an error if the outcomes so far show that no other file can succeed.
    pub(crate) async fn start(&mut self, job: Job, tally: &mut Tally) -> Result<(), Fatal> {
        let wait = settles_in(&job.file().entry.stat, EpochNanos::now())
            .or_else(|| job.may_be_truncated(self.context.clocks().margin()).then_some(SETTLED));
        if let Err(fatal) = self.make_room(wait.is_some(), tally).await {
            tally.skipped(SkipReason::Interrupted);
            return Err(fatal);
        }
        match wait {
            Some(wait) => self.unsettled.push_back((Instant::now() + wait, job)),
            None => self.launch(job, tally),
        }
        Ok(())
    }

    /// Waits for all files, also for those that have not settled.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) async fn finish(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        while !self.unsettled.is_empty() && !self.context.shutdown.is_requested() {
            self.start_first_unsettled(tally).await?;
        }
        while let Some(joined) = self.join_next_or_stop().await {
            self.account(joined, tally)?;
        }
        match self.last_error.take().filter(|_| self.outlook.all_refused()) {
            Some(error) => Err(Fatal::destination(&self.context.destination, error)),
            None => Ok(()),
        }
    }

    /// Ends early: starts no file, and waits a bounded time for files in flight. Nothing runs after it returns.
    pub(crate) async fn stop(&mut self, tally: &mut Tally) {
        for (_, _) in self.unsettled.drain(..) {
            tally.skipped(SkipReason::Interrupted);
        }
        let deadline = Instant::now() + GRACE;
        while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, self.in_flight.join_next()).await {
            // The run is already ending, and its reason is known.
            let _ = self.account(joined, tally);
        }
        self.in_flight.abort_all();
        while let Some(joined) = self.in_flight.join_next().await {
            let _ = self.account(joined, tally);
        }
    }

    /// The seconds from the start of the first file to the end of the last one.
    pub(crate) fn seconds(&self) -> f64 {
        self.time.map_or(0.0, |(first, last)| (last - first).as_secs_f64())
    }

    async fn make_room(&mut self, for_unsettled: bool, tally: &mut Tally) -> Result<(), Fatal> {
        if for_unsettled {
            return if self.unsettled.len() >= MOST_UNSETTLED {
                self.start_first_unsettled(tally).await
            } else {
                Ok(())
            };
        }
        while self.first_has_settled() && !self.context.shutdown.is_requested() {
            self.start_first_unsettled(tally).await?;
        }
        self.make_room_in_flight(tally).await
    }

    fn first_has_settled(&self) -> bool {
        self.unsettled.front().is_some_and(|(settled, _)| *settled <= Instant::now())
    }

    async fn start_first_unsettled(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        let Some((settled, _)) = self.unsettled.front() else {
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep_until(*settled) => {}
            () = self.context.shutdown.requested() => return Ok(()),
        }
        self.make_room_in_flight(tally).await?;
        if let Some((_, job)) = self.unsettled.pop_front() {
            self.launch(job, tally);
        }
        Ok(())
    }

    async fn make_room_in_flight(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        while let Some(joined) = self.in_flight.try_join_next() {
            self.account(joined, tally)?;
        }
        while self.in_flight.len() >= self.context.destination.max_requests() {
            match self.join_next_or_stop().await {
                Some(joined) => self.account(joined, tally)?,
                None => break,
            }
        }
        Ok(())
    }

    fn launch(&mut self, job: Job, tally: &mut Tally) {
        if self.context.shutdown.is_requested() {
            return tally.skipped(SkipReason::Interrupted);
        }
        let now = Instant::now();
        self.time.get_or_insert((now, now));
        let context = Arc::clone(&self.context);
        // Each line of a retry names the file.
        let span = tracing::debug_span!("file", key = %job.file().key);
        let carried_out = async move {
            let outcome = carry_out(&context, &job).await;
            Ended { job, started: now, outcome }
        };
        self.in_flight.spawn(carried_out.instrument(span));
    }

    /// The next file that ends; `None` if no file is in flight, or if a stop is requested.
    async fn join_next_or_stop(&mut self) -> Option<Result<Ended, JoinError>> {
        tokio::select! {
            joined = self.in_flight.join_next() => joined,
            () = self.context.shutdown.requested() => None,
        }
    }

    fn account(&mut self, joined: Result<Ended, JoinError>, tally: &mut Tally) -> Result<(), Fatal> {
        let Ended { job, started, outcome } = match joined {
            Ok(settled) => settled,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Aborted after the grace time.
            Err(_) => {
                tally.skipped(SkipReason::Interrupted);
                return Ok(());
            }
        };
        if let Some((_, last)) = &mut self.time {
            *last = Instant::now();
        }
        let key = &job.file().key;
        match outcome {
            Outcome::Unchanged(stat) => {
                tally.counts.unchanged += 1;
                if let Some(object) = job.object() {
                    self.context.record_equal(object, &stat, job.evidence());
                }
            }
            Outcome::Skipped(reason) => {
                // A file that vanished after the walk may have another name that the walk did not see.
                if job.object().is_none() {
                    tally.unpublished.add(&job.file().entry.stat);
                }
                tally.skipped(reason);
            }
            Outcome::Uploaded(reason, stored) => {
                self.outlook.succeeded();
                tally.counts.uploaded += 1;
                self.account_write(&job, Write::Upload(reason, stored), tally);
            }
            Outcome::Rewritten(stored) => {
                self.outlook.succeeded();
                tally.counts.metadata_rewritten += 1;
                self.account_write(&job, Write::Rewrite(stored), tally);
            }
            Outcome::NeverSettled(problem, sizes, written) => {
                if let Some(written) = written {
                    self.outlook.succeeded();
                    self.account_write(&job, written, tally);
                }
                if job.object().is_none() && job.file().entry.stat.kind != EntryKind::Directory {
                    tally.unpublished.add(&job.file().entry.stat);
                    for size in sizes {
                        tally.unpublished.add_size(size);
                    }
                }
                tally.failed(Failure::of_source(self.context.key(key), problem));
            }
            Outcome::Failed(error, written) => {
                if let Some(written) = written {
                    self.outlook.succeeded();
                    self.account_write(&job, written, tally);
                }
                match error {
                    FileError::Source(problem) => {
                        if job.object().is_none() {
                            tally.unpublished.add(&job.file().entry.stat);
                        }
                        tally.failed(Failure::of_source(self.context.key(key), problem));
                    }
                    FileError::Destination(error) => {
                        tally.absent_uploads_failed += u64::from(job.object().is_none());
                        tally.failed(Failure::of_request(self.context.key(key), &error));
                        if self.outlook.failed(key, &error, started) {
                            return Err(Fatal::destination(&self.context.destination, error));
                        }
                        self.last_error = Some(error);
                    }
                }
            }
        }
        self.context.progress.show(|| tally.line());
        Ok(())
    }

    /// Counts what the run wrote at a key, also if the file failed afterwards.
    fn account_write(&mut self, job: &Job, write: Write, tally: &mut Tally) {
        let (stored, metadata) = match write {
            Write::Upload(_, stored) => {
                tally.bytes.uploaded += stored.stat.size_bytes;
                (stored, RowMetadata::SeenWithContent)
            }
            Write::Rewrite(stored) => (stored, job.evidence()),
        };
        self.context.record_written(&job.file().key, &stored, metadata);
    }
}
