//! The scheduler decides which job a free walker takes: the one at the lowest key, as far as the look-ahead allows.
//!
//! - What the emission waits for may always start; all else only while there is room ahead.
//! - Everything below the place of the emission is left over from a directory that was given up, and dropped.
//! - A job that is given up stays with its thread, which may never return; if it does, its result is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Walk;
use super::budget::Hold;
use super::job::{Chunk, Done, Job, Look, Outcome, Position, Progress, Stage};
use super::look::Item;
use super::read::{NoListing, Reading, Target};
use crate::source::entry::Problem;

/// Names are smaller than entries: so many more of them may be ahead.
const NAMES_FOR_EACH_ENTRY: usize = 4;

/// So many names that hang are left out by themselves, and those behind them tried again, which may cost another time-out.
/// After that a name that hangs ends its directory, so that a tree full of them does not take hours.
const SECOND_CHANCES: usize = 3;

/// Hands out the jobs of one walk to its threads.
#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) walk: Walk,
    pool: rayon::ThreadPool,
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Debug)]
struct State {
    /// Directories to read.
    reads: BTreeMap<Position, Box<Reading>>,
    /// The next names to look at, of each directory where some are left.
    looks: BTreeMap<Position, Look>,
    running: BTreeMap<Position, Running>,
    finished: BTreeMap<Position, Outcome>,
    /// What the emission waits for, or waited for last.
    wanted: Option<Position>,
    /// Walkers at work, those that hang included.
    active: usize,
    next_number: u64,
    /// How many more names may be left out by themselves because there was no answer about them.
    second_chances: usize,
    /// When a job last began or ended.
    moved: Instant,
    closed: bool,
}

#[derive(Debug)]
struct Running {
    number: u64,
    /// The names, where it looks at some.
    look: Option<Look>,
    progress: Progress,
}

/// A job with its walker.
#[derive(Debug)]
struct Assignment {
    number: u64,
    position: Position,
    job: Job,
    progress: Progress,
}

impl Scheduler {
    /// A scheduler that knows of the root only.
    pub(super) fn new(walk: Walk, pool: rayon::ThreadPool) -> Arc<Self> {
        let root = Box::new(Reading::new(&walk, Target::Root));
        let state = State {
            reads: BTreeMap::from([(Position::of_reading(""), root)]),
            looks: BTreeMap::new(),
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            wanted: None,
            active: 0,
            next_number: 0,
            second_chances: SECOND_CHANCES,
            moved: Instant::now(),
            closed: false,
        };
        Arc::new(Self { walk, pool, state: Mutex::new(state), finished: Condvar::new() })
    }

    /// What came of the job at `position`, or of giving it up after the time-out; none if neither happens within
    /// `patience`. Nothing before `position` will be asked for again.
    pub(super) fn take(self: &Arc<Self>, position: &Position, patience: Duration) -> Option<Outcome> {
        let mut state = self.lock();
        state.forget_before(position);
        state.wanted = Some(position.clone());
        self.set_to_work(&mut state);
        if let Some(outcome) = state.finished.remove(position) {
            return Some(outcome);
        }
        if state.silent_since(position).elapsed() >= self.walk.options.source_timeout {
            return Some(state.give_up(position, &self.walk));
        }
        let (mut state, _) = self
            .finished
            .wait_timeout_while(state, patience, |state| !state.finished.contains_key(position))
            .unwrap_or_else(PoisonError::into_inner);
        state.finished.remove(position)
    }

    /// Sets walkers to work on what there is room for now.
    pub(super) fn refill(self: &Arc<Self>) {
        self.set_to_work(&mut self.lock());
    }

    /// Drops all work; walkers end after what they are doing.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for running in std::mem::take(&mut state.running).into_values() {
            drop(running.progress.take());
        }
        state.reads.clear();
        state.looks.clear();
        state.finished.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_to_work(self: &Arc<Self>, state: &mut State) {
        while state.active < self.walk.options.walkers.max(1) {
            let Some(assignment) = state.pick(&self.walk) else {
                return;
            };
            state.active += 1;
            let scheduler = Arc::clone(self);
            self.pool.spawn(move || scheduler.work(assignment));
        }
    }

    /// A walker at work, until there is nothing for it to do.
    fn work(self: Arc<Self>, mut assignment: Assignment) {
        loop {
            let done = assignment.job.run(&self.walk, &assignment.progress);
            let mut state = self.lock();
            state.finish(&self.walk, assignment.number, assignment.position, done);
            if state.wanted.as_ref().is_some_and(|wanted| state.finished.contains_key(wanted)) {
                self.finished.notify_one();
            }
            let next = state.pick(&self.walk);
            if next.is_none() {
                state.active -= 1;
            }
            self.set_to_work(&mut state);
            drop(state);
            match next {
                Some(next) => assignment = next,
                None => return,
            }
        }
    }
}

impl State {
    /// The job to do next, if there is room for one.
    fn pick(&mut self, walk: &Walk) -> Option<Assignment> {
        let look_ahead = walk.options.look_ahead_entries;
        let room = walk.entries_ahead.now() < look_ahead;
        let room_for_names = walk.names_held.now() < look_ahead.saturating_mul(NAMES_FOR_EACH_ENTRY);
        let wanted = self.wanted.as_ref();
        let may_start = |position: &&Position, room: bool| room || Some(*position) == wanted;
        let read = self.reads.keys().next().filter(|position| may_start(position, room && room_for_names));
        let look = self.looks.keys().next().filter(|position| may_start(position, room));
        let first = [read, look].into_iter().flatten().min()?.clone();
        let (job, ahead) = match first.stage() {
            Stage::Read => (Job::Read(self.reads.remove(&first)?), 0),
            Stage::Look => {
                let look = self.looks.remove(&first)?;
                self.looks.extend(Look::from(&look.listing, look.names.end));
                let count = look.names.len();
                (Job::Look(look), count)
            }
        };
        Some(self.assign(first, job, Hold::new(&walk.entries_ahead, ahead)))
    }

    fn assign(&mut self, position: Position, job: Job, hold: Hold) -> Assignment {
        let number = self.next_number;
        self.next_number += 1;
        self.moved = Instant::now();
        let progress = Progress::new(hold);
        let look = match &job {
            Job::Look(look) => Some(look.clone()),
            Job::Read(_) => None,
        };
        self.running.insert(position.clone(), Running { number, look, progress: progress.clone() });
        Assignment { number, position, job, progress }
    }

    /// Takes note of what a job led to, unless it was given up.
    fn finish(&mut self, walk: &Walk, number: u64, position: Position, done: Done) {
        self.moved = Instant::now();
        let chunk = match self.running.get(&position) {
            Some(running) if running.number == number => running.progress.take(),
            _ => return,
        };
        self.running.remove(&position);
        let outcome = match done {
            Done::More(reading) => {
                self.reads.insert(position, reading);
                return;
            }
            Done::Read(result) => Outcome::Read(result.map(|listing| {
                let listing = Arc::new(listing);
                self.looks.extend(Look::from(&listing, 0));
                listing
            })),
            Done::Looked => {
                let Some(chunk) = chunk else { return };
                self.read_later(walk, &chunk);
                Outcome::Looked(chunk)
            }
        };
        self.finished.insert(position, outcome);
    }

    /// Puts the directories among the items in line.
    fn read_later(&mut self, walk: &Walk, chunk: &Chunk) {
        for item in &chunk.items {
            if let Item::Directory(directory, _) = item {
                let reading = Reading::new(walk, Target::Directory(Arc::clone(directory)));
                self.reads.insert(Position::of_reading(&directory.key), Box::new(reading));
            }
        }
    }

    /// Drops what lies before `position`: it belongs to directories that were given up.
    fn forget_before(&mut self, position: &Position) {
        forget(&mut self.reads, position);
        forget(&mut self.looks, position);
        forget(&mut self.finished, position);
        for running in forget(&mut self.running, position).into_values() {
            drop(running.progress.take());
        }
    }

    /// Since when the file system has been silent about the job at `position`: since its last answer to it, or, if no
    /// walker is free for it, to any.
    fn silent_since(&self, position: &Position) -> Instant {
        match self.running.get(position) {
            Some(running) => running.progress.moved(),
            None => self.running.values().map(|running| running.progress.moved()).fold(self.moved, Instant::max),
        }
    }

    /// Ends the wait for the job at `position`: what is not known by now is unknown.
    fn give_up(&mut self, position: &Position, walk: &Walk) -> Outcome {
        let waited = walk.options.source_timeout;
        self.reads.remove(position);
        let queued = self.looks.remove(position);
        let running = self.running.remove(position);
        if position.stage() == Stage::Read {
            return Outcome::Read(Err(NoListing::Problem(Problem::timed_out("readdir", waited))));
        }
        let chunk = running.as_ref().and_then(|running| running.progress.take());
        let mut chunk = chunk.unwrap_or_else(|| Chunk::new(Hold::new(&walk.entries_ahead, 0)));
        self.leave_out(
            &mut chunk,
            running.and_then(|running| running.look).or(queued),
            Problem::timed_out("stat", waited),
        );
        chunk.hold.set(chunk.items.len());
        self.read_later(walk, &chunk);
        Outcome::Looked(chunk)
    }

    /// Adds to what was found of the names of `look` that there was no answer about the next one: this one alone is left
    /// out if that may still be, else the rest of the directory.
    fn leave_out(&mut self, chunk: &mut Chunk, look: Option<Look>, problem: Problem) {
        let Some(look) = look else {
            chunk.broken = Some(problem);
            return;
        };
        let stuck = look.listing.names.get(look.names.start + chunk.items.len());
        if let Some(name) = stuck.filter(|_| self.second_chances > 0) {
            self.second_chances -= 1;
            chunk.items.push_back(Item::unanswered(&look.listing.directory, name, problem));
            self.looks.extend(look.without(chunk.items.len()));
        } else {
            chunk.broken = Some(problem);
            self.looks.retain(|_, other| !Arc::ptr_eq(&other.listing, &look.listing));
        }
    }
}

/// Takes out what lies before `position`.
fn forget<T>(jobs: &mut BTreeMap<Position, T>, position: &Position) -> BTreeMap<Position, T> {
    if jobs.keys().next().is_some_and(|first| first < position) {
        let kept = jobs.split_off(position);
        std::mem::replace(jobs, kept)
    } else {
        BTreeMap::new()
    }
}
