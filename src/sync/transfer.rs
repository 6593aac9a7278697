//! Transfers: files being settled, many at once, and their outcomes brought into the tally.
//!
//! 1. Bounded: a new file waits while as many are under way as requests may be.
//! 2. Young files wait in a queue of their own until they have settled, and hold up nobody meanwhile.
//! 3. What fails for one key is that key's failure; what fails for all of them ends the run ([`Streak`]).
//! 4. Asked to stop, no new file is begun; what is under way gets [`GRACE`], and its uploads are aborted by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Fatal;
use super::changes::{Change, Changes};
use super::context::Context;
use super::settle::{Job, settle};
use super::tally::{Failure, Tally};
use super::upload::{Outcome, SETTLED, Stored, settles_in};
use crate::destination::error::{ErrorKind, S3Error};
use crate::source::entry::SkipReason;
use crate::time::EpochNanos;

/// How many young files may wait; at this number the walk waits with them.
const MOST_WAITING: usize = 10_000;
/// How long what is under way may take to end. ECS kills a task 30 s after its SIGTERM, by default.
const GRACE: Duration = Duration::from_secs(20);

/// Files being settled.
#[derive(Debug)]
pub struct Transfers {
    context: Arc<Context>,
    under_way: JoinSet<Settled>,
    young: VecDeque<(Instant, Job)>,
    streak: Streak,
    changes: Changes,
    /// When the first file was begun, and when the last was done.
    time: Option<(Instant, Instant)>,
}

#[derive(Debug)]
struct Settled {
    job: Job,
    outcome: Outcome,
    read_bytes: u64,
}

impl Transfers {
    /// None yet.
    #[must_use]
    pub fn new(context: Arc<Context>, changes: Changes) -> Self {
        Self {
            context,
            under_way: JoinSet::new(),
            young: VecDeque::new(),
            streak: Streak::default(),
            changes,
            time: None,
        }
    }

    /// Begins a file, once there is room for it.
    ///
    /// # Errors
    /// Where outcomes so far show that no other will do better.
    pub async fn begin(&mut self, job: Job, tally: &mut Tally) -> Result<(), Fatal> {
        let young = settles_in(&job.file.stat, EpochNanos::now())
            .or_else(|| job.has_another_size_and_old_times(self.context.clocks().margin()).then_some(SETTLED));
        if let Err(fatal) = self.make_room(young.is_some(), tally).await {
            tally.skipped(SkipReason::Interrupted);
            return Err(fatal);
        }
        match young {
            Some(wait) => self.young.push_back((Instant::now() + wait, job)),
            None => self.launch(job, tally),
        }
        Ok(())
    }

    /// Waits for all files, young ones included.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub async fn finish(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        while !self.young.is_empty() && !self.context.shutdown.is_requested() {
            self.begin_first_young(tally).await?;
        }
        while let Some(joined) = self.join_next_or_stop().await {
            self.account(joined, tally)?;
        }
        Ok(())
    }

    /// Ends early: begins nothing, and waits a bounded time for what is under way. Nothing is left running afterwards.
    pub async fn stop(&mut self, tally: &mut Tally) {
        for (_, _) in self.young.drain(..) {
            tally.skipped(SkipReason::Interrupted);
        }
        let deadline = Instant::now() + GRACE;
        while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, self.under_way.join_next()).await {
            // The run is ending already: for which reason is known.
            let _ = self.account(joined, tally);
        }
        self.under_way.abort_all();
        while let Some(joined) = self.under_way.join_next().await {
            let _ = self.account(joined, tally);
        }
    }

    /// How long it took, from the first file that was begun to the last that was done.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.time.map_or(0.0, |(first, last)| (last - first).as_secs_f64())
    }

    /// The record of changes, for the deletes that follow.
    pub fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    async fn make_room(&mut self, for_a_young_one: bool, tally: &mut Tally) -> Result<(), Fatal> {
        if for_a_young_one {
            return if self.young.len() >= MOST_WAITING { self.begin_first_young(tally).await } else { Ok(()) };
        }
        while self.first_young_has_settled() && !self.context.shutdown.is_requested() {
            self.begin_first_young(tally).await?;
        }
        self.make_room_under_way(tally).await
    }

    fn first_young_has_settled(&self) -> bool {
        self.young.front().is_some_and(|(settled, _)| *settled <= Instant::now())
    }

    async fn begin_first_young(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        let Some((settled, _)) = self.young.front() else {
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep_until(*settled) => {}
            () = self.context.shutdown.requested() => return Ok(()),
        }
        self.make_room_under_way(tally).await?;
        if let Some((_, job)) = self.young.pop_front() {
            self.launch(job, tally);
        }
        Ok(())
    }

    async fn make_room_under_way(&mut self, tally: &mut Tally) -> Result<(), Fatal> {
        while let Some(joined) = self.under_way.try_join_next() {
            self.account(joined, tally)?;
        }
        while self.under_way.len() >= self.context.destination.most_requests() {
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
        self.under_way.spawn(async move {
            let (outcome, read_bytes) = settle(&context, &job).await;
            Settled { job, outcome, read_bytes }
        });
    }

    /// The next file that is done; none when there is none, or when the run is asked to stop.
    async fn join_next_or_stop(&mut self) -> Option<Result<Settled, JoinError>> {
        tokio::select! {
            joined = self.under_way.join_next() => joined,
            () = self.context.shutdown.requested() => None,
        }
    }

    fn account(&mut self, joined: Result<Settled, JoinError>, tally: &mut Tally) -> Result<(), Fatal> {
        let Settled { job, outcome, read_bytes } = match joined {
            Ok(settled) => settled,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Aborted after its grace.
            Err(_) => {
                tally.skipped(SkipReason::Interrupted);
                return Ok(());
            }
        };
        tally.read_for_compare(read_bytes);
        if let Some((_, last)) = &mut self.time {
            *last = Instant::now();
        }
        match outcome {
            Outcome::Unchanged(_, stat) => {
                tally.counts.unchanged += 1;
                if let Some(object) = &job.object {
                    self.context.remember(object, &stat, true);
                }
            }
            Outcome::Skipped(reason) => tally.skipped(reason),
            Outcome::SourceFailed(failure) => tally.failed(failure),
            Outcome::Uploaded(reason, Stored { etag, stat }) => {
                let bytes = stat.size_bytes;
                self.streak.broken();
                self.context.remember_written(&job.key, &etag, &stat);
                tally.counts.uploaded += 1;
                tally.bytes.uploaded += bytes;
                self.changes.note(&Change::upload(self.context.key(&job.key), reason, bytes));
            }
            Outcome::Rewritten(Stored { etag, stat }) => {
                self.streak.broken();
                self.context.remember_written(&job.key, &etag, &stat);
                tally.counts.metadata_rewritten += 1;
                self.changes.note(&Change::rewrite_metadata(self.context.key(&job.key)));
            }
            Outcome::DestinationFailed(error) => {
                if job.object.is_none() {
                    tally.absent_uploads_failed += 1;
                }
                tally.failed(Failure::of_request(self.context.key(&job.key), &error));
                if self.streak.failed(&error) {
                    return Err(Fatal::destination(&self.context.destination, &error));
                }
            }
        }
        self.context.progress.show(|| tally.line());
        Ok(())
    }
}

/// Failures in a row, which tell a bad key from a bucket that can be written by nobody.
#[derive(Debug, Default)]
struct Streak {
    any_success: bool,
    last: Option<(ErrorKind, Option<String>)>,
    length: usize,
}

/// So many of the first uploads failing alike mean that all will.
const HOPELESS_FROM_THE_START: usize = 10;
/// So many uploads in a row that could not be sent at all mean that the server is gone.
const SERVER_GONE: usize = 20;

impl Streak {
    fn broken(&mut self) {
        *self = Self { any_success: true, ..Self::default() };
    }

    /// Takes the next failure; true if going on is hopeless.
    fn failed(&mut self, error: &S3Error) -> bool {
        let this = (error.kind, error.code.clone());
        self.length = if self.last.as_ref() == Some(&this) { self.length + 1 } else { 1 };
        self.last = Some(this);
        match error.kind {
            ErrorKind::Unusable => true,
            ErrorKind::Unreachable | ErrorKind::Transient | ErrorKind::Throttled => self.length >= SERVER_GONE,
            ErrorKind::Denied | ErrorKind::Refused | ErrorKind::NotImplemented | ErrorKind::NotFound => {
                !self.any_success && self.length >= HOPELESS_FROM_THE_START
            }
            ErrorKind::Precondition | ErrorKind::Interrupted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::operation::Operation;

    fn error(kind: ErrorKind, code: &str) -> S3Error {
        S3Error {
            operation: Operation::Put,
            kind,
            code: Some(code.to_owned()),
            message: String::new(),
            request_id: None,
            region: None,
        }
    }

    #[test]
    fn the_first_uploads_failing_alike_end_the_run() {
        let mut streak = Streak::default();
        let denied = error(ErrorKind::Denied, "AccessDenied");
        assert!((1..HOPELESS_FROM_THE_START).all(|_| !streak.failed(&denied)));
        assert!(streak.failed(&denied));
    }

    #[test]
    fn one_key_after_another_that_is_refused_ends_nothing_once_one_went_well() {
        let mut streak = Streak::default();
        streak.broken();
        assert!((0..1000).all(|_| !streak.failed(&error(ErrorKind::Denied, "AccessDenied"))));
        assert!((0..1000).all(|_| !streak.failed(&error(ErrorKind::Precondition, "PreconditionFailed"))));
    }

    #[test]
    fn different_failures_are_no_streak() {
        let mut streak = Streak::default();
        for _ in 0..100 {
            assert!(!streak.failed(&error(ErrorKind::Refused, "InvalidRequest")));
            assert!(!streak.failed(&error(ErrorKind::Denied, "AccessDenied")));
        }
    }

    #[test]
    fn a_server_that_goes_away_ends_the_run() {
        let mut streak = Streak::default();
        streak.broken();
        let gone = error(ErrorKind::Unreachable, "");
        assert!((1..SERVER_GONE).all(|_| !streak.failed(&gone)));
        assert!(streak.failed(&gone));
    }
}
