//! The scheduler: gives each free walker the job at the lowest key for which the look-ahead has room.
//!
//! - The job that the emitter waits for may always start; every other job only if there is room.
//! - Jobs below the emitter's position belong to a directory that timed out, and are dropped.
//! - A job that timed out keeps its thread, which may never return. A late result is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::classifier::Item;
use super::context::WalkContext;
use super::directory_reader::{DirectoryFailure, DirectoryReader, Target};
use super::gauge::Hold;
use super::job::{FinishedJob, FoundItems, JobKind, Position, SharedItems, StatChunk, WalkerJob, WalkerResult};
use crate::source::entry::Problem;

/// Names are smaller than entries, so the walk may hold this many times more of them.
const NAMES_PER_ENTRY: usize = 4;

/// How many hanging names the walk skips alone. Each of them can cost another timeout, so a further name that hangs makes
/// the rest of its directory unknown.
const MAX_HANGING_NAMES: usize = 3;

#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) walk: WalkContext,
    pool: rayon::ThreadPool,
    jobs: Mutex<Jobs>,
    finished: Condvar,
}

#[derive(Debug)]
struct Jobs {
    /// Directories to read.
    reads: BTreeMap<Position, Box<DirectoryReader>>,
    /// The next names to stat in each directory that has some left.
    stats: BTreeMap<Position, StatChunk>,
    running: BTreeMap<Position, RunningJob>,
    finished: BTreeMap<Position, FinishedJob>,
    /// The job that the emitter waits for, or last waited for.
    wanted: Option<Position>,
    /// Walkers that run a job, those that hang included.
    active: usize,
    next_number: u64,
    /// How many more hanging names the walk skips alone.
    hanging_names_left: usize,
    /// When a job last started or ended.
    last_change: Instant,
}

#[derive(Debug)]
struct RunningJob {
    number: u64,
    /// The names, if the job stats some.
    chunk: Option<StatChunk>,
    items: SharedItems,
}

/// A job given to a walker.
#[derive(Debug)]
struct Assignment {
    number: u64,
    position: Position,
    job: WalkerJob,
    items: SharedItems,
}

impl Scheduler {
    /// A scheduler whose only job is to read the root.
    pub(super) fn new(walk: WalkContext, pool: rayon::ThreadPool) -> Arc<Self> {
        let root = Box::new(DirectoryReader::new(&walk, Target::Root));
        let jobs = Jobs {
            reads: BTreeMap::from([(Position::of_read(""), root)]),
            stats: BTreeMap::new(),
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            wanted: None,
            active: 0,
            next_number: 0,
            hanging_names_left: MAX_HANGING_NAMES,
            last_change: Instant::now(),
        };
        Arc::new(Self { walk, pool, jobs: Mutex::new(jobs), finished: Condvar::new() })
    }

    /// Waits up to `wait` for the job at `position` to finish or to time out. The emitter takes jobs in ascending order.
    pub(super) fn take(self: &Arc<Self>, position: &Position, wait: Duration) -> Option<FinishedJob> {
        let mut jobs = self.lock();
        jobs.drop_before(position);
        jobs.wanted = Some(position.clone());
        self.start_walkers(&mut jobs);
        if let Some(finished) = jobs.finished.remove(position) {
            return Some(finished);
        }
        if jobs.last_response(position).elapsed() >= self.walk.options.source_timeout {
            return Some(jobs.time_out(position, &self.walk));
        }
        let (mut jobs, _) = self
            .finished
            .wait_timeout_while(jobs, wait, |jobs| !jobs.finished.contains_key(position))
            .unwrap_or_else(PoisonError::into_inner);
        jobs.finished.remove(position)
    }

    /// Starts walkers for the jobs that have room now.
    pub(super) fn refill(self: &Arc<Self>) {
        self.start_walkers(&mut self.lock());
    }

    /// Drops all jobs; each walker ends after its current one.
    pub(super) fn close(&self) {
        let mut jobs = self.lock();
        for running in std::mem::take(&mut jobs.running).into_values() {
            drop(running.items.take());
        }
        jobs.reads.clear();
        jobs.stats.clear();
        jobs.finished.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_walkers(self: &Arc<Self>, jobs: &mut Jobs) {
        while jobs.active < self.walk.options.walkers.max(1) {
            let Some(assignment) = jobs.pick(&self.walk) else {
                return;
            };
            jobs.active += 1;
            let scheduler = Arc::clone(self);
            self.pool.spawn(move || scheduler.run_walker(assignment));
        }
    }

    /// Runs one job after the other until no job may start.
    fn run_walker(self: Arc<Self>, mut assignment: Assignment) {
        loop {
            let result = assignment.job.run(&self.walk, &assignment.items);
            let mut jobs = self.lock();
            jobs.finish(&self.walk, assignment.number, assignment.position, result);
            if jobs.wanted.as_ref().is_some_and(|wanted| jobs.finished.contains_key(wanted)) {
                self.finished.notify_one();
            }
            let next = jobs.pick(&self.walk);
            if next.is_none() {
                jobs.active -= 1;
            }
            self.start_walkers(&mut jobs);
            drop(jobs);
            match next {
                Some(next) => assignment = next,
                None => return,
            }
        }
    }
}

impl Jobs {
    /// Removes the job to run next, if one may start.
    fn pick(&mut self, walk: &WalkContext) -> Option<Assignment> {
        let look_ahead = walk.options.look_ahead_entries;
        let room = walk.entries_ahead.now() < look_ahead;
        let room_for_names = walk.names_held.now() < look_ahead.saturating_mul(NAMES_PER_ENTRY);
        let wanted = self.wanted.as_ref();
        let may_start = |position: &&Position, room: bool| room || Some(*position) == wanted;
        let read = self.reads.keys().next().filter(|position| may_start(position, room && room_for_names));
        let stat = self.stats.keys().next().filter(|position| may_start(position, room));
        let first = [read, stat].into_iter().flatten().min()?.clone();
        let (job, chunk) = match first.kind() {
            JobKind::Read => (WalkerJob::Read(self.reads.remove(&first)?), None),
            JobKind::Stat => {
                let waiting = self.stats.remove(&first)?;
                let chunk = waiting.first(walk.stat_time.names_of_a_job());
                self.stats.extend(waiting.without(chunk.names.len()));
                (WalkerJob::Stat(chunk.clone()), Some(chunk))
            }
        };
        let number = self.next_number;
        self.next_number += 1;
        self.last_change = Instant::now();
        let ahead = chunk.as_ref().map_or(0, |chunk| chunk.names.len());
        let items = SharedItems::new(Hold::new(&walk.entries_ahead, ahead));
        self.running.insert(first.clone(), RunningJob { number, chunk, items: items.clone() });
        Some(Assignment { number, position: first, job, items })
    }

    /// Records the result of a job, unless the job timed out.
    fn finish(&mut self, walk: &WalkContext, number: u64, position: Position, result: WalkerResult) {
        self.last_change = Instant::now();
        let items = match self.running.get(&position) {
            Some(running) if running.number == number => running.items.take(),
            _ => return,
        };
        self.running.remove(&position);
        let finished = match result {
            WalkerResult::More(reader) => {
                self.reads.insert(position, reader);
                return;
            }
            WalkerResult::Read(result) => FinishedJob::Read(result.map(|names| {
                let names = Arc::new(names);
                self.stats.extend(StatChunk::all(&names));
                names
            })),
            WalkerResult::Stat => {
                let Some(items) = items else { return };
                self.queue_reads(walk, &items);
                FinishedJob::Stat(items)
            }
        };
        self.finished.insert(position, finished);
    }

    /// Queues a read of each directory among the items.
    fn queue_reads(&mut self, walk: &WalkContext, items: &FoundItems) {
        for item in &items.queue {
            if let Item::Directory(directory, _) = item {
                let reader = DirectoryReader::new(walk, Target::Directory(Arc::clone(directory)));
                self.reads.insert(Position::of_read(&directory.key), Box::new(reader));
            }
        }
    }

    /// Drops the jobs before `position`: they belong to directories that timed out.
    fn drop_before(&mut self, position: &Position) {
        take_before(&mut self.reads, position);
        take_before(&mut self.stats, position);
        take_before(&mut self.finished, position);
        for running in take_before(&mut self.running, position).into_values() {
            drop(running.items.take());
        }
    }

    /// When the file system last responded to the job at `position`; to any job if no walker is free for this one.
    fn last_response(&self, position: &Position) -> Instant {
        match self.running.get(position) {
            Some(running) => running.items.last_response(),
            None => {
                self.running.values().map(|running| running.items.last_response()).fold(self.last_change, Instant::max)
            }
        }
    }

    /// Ends the job at `position` with what it has found; the next name, or the rest of the directory, is unknown.
    fn time_out(&mut self, position: &Position, walk: &WalkContext) -> FinishedJob {
        let waited = walk.options.source_timeout;
        self.reads.remove(position);
        let queued = self.stats.remove(position);
        let running = self.running.remove(position);
        if position.kind() == JobKind::Read {
            return FinishedJob::Read(Err(DirectoryFailure::Problem(Problem::timed_out("readdir", waited))));
        }
        let items = running.as_ref().and_then(|running| running.items.take());
        let mut items = items.unwrap_or_else(|| FoundItems::new(Hold::new(&walk.entries_ahead, 0)));
        let chunk = running.and_then(|running| running.chunk).or(queued);
        self.skip_hanging(&mut items, chunk, Problem::timed_out("stat", waited));
        items.hold.set(items.queue.len());
        self.queue_reads(walk, &items);
        FinishedJob::Stat(items)
    }

    /// Skips the name of `chunk` that hangs, after those in `items`: the name alone if the limit allows it, else the rest
    /// of its directory.
    fn skip_hanging(&mut self, items: &mut FoundItems, chunk: Option<StatChunk>, problem: Problem) {
        let Some(chunk) = chunk else {
            items.rest_unknown = Some(problem);
            return;
        };
        let hanging = chunk.directory.names.get(chunk.names.start + items.queue.len());
        if let Some(name) = hanging.filter(|_| self.hanging_names_left > 0) {
            self.hanging_names_left -= 1;
            items.queue.push_back(Item::timed_out(&chunk.directory.directory, name, problem));
            self.stats.extend(chunk.without(items.queue.len()));
        } else {
            items.rest_unknown = Some(problem);
            self.stats.retain(|_, other| !Arc::ptr_eq(&other.directory, &chunk.directory));
        }
    }
}

/// Takes out what is before `position`.
fn take_before<T>(jobs: &mut BTreeMap<Position, T>, position: &Position) -> BTreeMap<Position, T> {
    if jobs.keys().next().is_some_and(|first| first < position) {
        let kept = jobs.split_off(position);
        std::mem::replace(jobs, kept)
    } else {
        BTreeMap::new()
    }
}
