//! The emitter: goes through the tree depth first, in the order of keys, and waits for each job that is not finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::classifier::{Item, escaped};
use super::directory::Directory;
use super::directory_reader::{DirectoryFailure, DirectoryNames};
use super::job::{FinishedJob, FoundItems, Position};
use super::scheduler::Scheduler;
use crate::key::RelativeKey;
use crate::source::entry::{Entry, EntryKind, FileEntry, Found, Problem, SkipReason};

/// How soon a wait notices that the walk must stop.
const TICK: Duration = Duration::from_millis(50);

/// Emits the entries of one walk.
#[derive(Debug)]
pub(super) struct Emitter {
    scheduler: Arc<Scheduler>,
    outbox: Outbox,
    stop: Arc<AtomicBool>,
    /// The directories that are being emitted, each in the one before it.
    path: Vec<Emitting>,
    /// Entries for mount points that do not exist, the next one last.
    absent_mounts: Vec<Entry>,
}

/// A directory in the middle of its emission.
#[derive(Debug)]
struct Emitting {
    directory: Arc<DirectoryNames>,
    /// The index of the next name.
    next: usize,
    items: Option<FoundItems>,
}

/// The walk stops early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoppedEarly;

impl Emitter {
    pub(super) fn new(scheduler: Arc<Scheduler>, sender: mpsc::Sender<Vec<Entry>>, stop: Arc<AtomicBool>) -> Self {
        let outbox = Outbox::new(sender, scheduler.walk.options.batch_entries.max(1));
        let absent_mounts = scheduler.walk.options.mount_points.absent_entries().rev().collect();
        Self { scheduler, outbox, stop, path: Vec::new(), absent_mounts }
    }

    /// Emits everything. If the walk stops early, the outbox emits a last entry when it is dropped.
    pub(super) fn run(mut self) {
        let result = self.enter_root().and_then(|()| self.emit_below_root()).and_then(|()| self.emit_absent(None));
        if result.is_ok() {
            self.outbox.complete = true;
        }
    }

    fn enter_root(&mut self) -> Result<(), StoppedEarly> {
        match self.read("")? {
            Ok(directory) => {
                self.record(&directory);
                self.path.push(Emitting { directory, next: 0, items: None });
                Ok(())
            }
            Err(failure) => self.emit(failure.entry("")),
        }
    }

    fn emit_below_root(&mut self) -> Result<(), StoppedEarly> {
        while let Some(emitting) = self.path.last_mut() {
            match emitting.next() {
                Next::Item(Item::Entry(entry)) => self.emit(entry)?,
                Next::Item(Item::Directory(directory, entry)) => {
                    // If the name showed no kind, the keys below may be outside the range.
                    if self.scheduler.walk.options.tree_range.reaches(&directory.key) {
                        self.enter(&directory, entry)?;
                    }
                }
                Next::Wait(position) => {
                    let finished = self.wait(&position)?;
                    if let (FinishedJob::Stat(items), Some(emitting)) = (finished, self.path.last_mut()) {
                        emitting.items = Some(items);
                    }
                }
                Next::End(unknown) => {
                    self.path.pop();
                    if let Some(entry) = unknown {
                        let entry = self.outbox.after_last_key(entry);
                        self.emit(entry)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, directory: &Arc<Directory>, entry: FileEntry) -> Result<(), StoppedEarly> {
        let key = &directory.key;
        match self.read(key)? {
            Ok(directory) => {
                self.record(&directory);
                self.emit(Entry::new(key.clone(), Found::Directory(entry)))?;
                self.path.push(Emitting { directory, next: 0, items: None });
                Ok(())
            }
            Err(failure) => self.emit(failure.entry(key)),
        }
    }

    fn record(&self, names: &DirectoryNames) {
        if let Some(read) = &self.scheduler.walk.read {
            let directory = &names.directory;
            read.add(&directory.key, &directory.stat, directory.through_link());
        }
    }

    fn read(&mut self, key: &str) -> Result<Result<Arc<DirectoryNames>, DirectoryFailure>, StoppedEarly> {
        match self.wait(&Position::of_read(key))? {
            FinishedJob::Read(result) => Ok(result),
            // The kind of the job rules this out.
            FinishedJob::Stat(_) => Err(StoppedEarly),
        }
    }

    fn wait(&mut self, position: &Position) -> Result<FinishedJob, StoppedEarly> {
        let started = Instant::now();
        let options = &self.scheduler.walk.options;
        let (warn_after, mut warn_at) = (options.warn_after, options.warn_after);
        loop {
            if let Some(finished) = self.scheduler.take(position, TICK.min(options.source_timeout)) {
                return Ok(finished);
            }
            if self.stop.load(Ordering::Relaxed) || self.outbox.sender.is_closed() {
                return Err(StoppedEarly);
            }
            // The receiver need not wait for this job.
            self.outbox.flush()?;
            if started.elapsed() >= warn_at {
                warn_at += warn_after.max(TICK);
                let path = self.scheduler.walk.root.path().join(position.shown());
                let waited_seconds = started.elapsed().as_secs();
                tracing::warn!(path = %path.display(), waited_seconds, "the file system does not respond; still waiting");
            }
        }
    }

    fn emit(&mut self, entry: Entry) -> Result<(), StoppedEarly> {
        if !self.scheduler.walk.options.tree_range.takes(&entry) {
            return Ok(());
        }
        if let (Some(read), Found::File(file) | Found::Symlink(file)) = (&self.scheduler.walk.read, &entry.found) {
            read.add_file(entry.key.as_str(), &file.stat);
        }
        if !self.absent_mounts.is_empty() && !matches!(entry.found, Found::Nameless(..)) {
            self.emit_absent(Some(&entry.key))?;
        }
        self.push(entry)
    }

    /// Emits the mount points that do not exist, up to this key.
    fn emit_absent(&mut self, before: Option<&RelativeKey>) -> Result<(), StoppedEarly> {
        while let Some(next) = self.absent_mounts.pop_if(|next| before.is_none_or(|key| next.key <= *key)) {
            // By now something is there, and its entry shows what is missing.
            if before != Some(&next.key) {
                self.push(next)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), StoppedEarly> {
        if self.outbox.push(entry)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(StoppedEarly);
            }
            self.scheduler.refill();
        }
        Ok(())
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.scheduler.close();
    }
}

/// What comes next in a directory.
#[derive(Debug)]
enum Next {
    Item(Item),
    Wait(Position),
    /// The end; with an entry if the rest is unknown.
    End(Option<Entry>),
}

impl Emitting {
    fn next(&mut self) -> Next {
        if let Some(items) = &mut self.items {
            if let Some(item) = items.queue.pop_front() {
                items.hold.release(1);
                self.next += 1;
                return Next::Item(item);
            }
            if let Some(problem) = items.rest_unknown.take() {
                return Next::End(Some(self.unknown_from_here(problem)));
            }
            self.items = None;
        }
        Position::of_stat(&self.directory, self.next).map_or(Next::End(None), Next::Wait)
    }

    fn unknown_from_here(&self, problem: Problem) -> Entry {
        let below = self.directory.directory.key.clone();
        let name = self.directory.names.get(self.next);
        let name = name.map(|name| escaped(name.bytes) + if name.slash { "/" } else { "" });
        Entry::new(format!("{below}{}", name.unwrap_or_default()), Found::Unread { below, problem })
    }
}

impl DirectoryFailure {
    fn entry(self, key: &str) -> Entry {
        let found = match self {
            Self::Vanished => Found::Skipped(EntryKind::Directory, SkipReason::Vanished),
            Self::TooLong(problem) => Found::Failed(EntryKind::Directory, problem),
            Self::Problem(problem) => Found::Unread { below: key.to_owned(), problem },
        };
        Entry::new(key, found)
    }
}

/// The batch that is sent next; checks the order of keys.
#[derive(Debug)]
struct Outbox {
    sender: mpsc::Sender<Vec<Entry>>,
    batch: Vec<Entry>,
    batch_entries: usize,
    last_key: Option<RelativeKey>,
    /// Whether the walk has emitted everything.
    complete: bool,
}

impl Outbox {
    fn new(sender: mpsc::Sender<Vec<Entry>>, batch_entries: usize) -> Self {
        Self { sender, batch: Vec::new(), batch_entries, last_key: None, complete: false }
    }

    /// Adds an entry; true if that sent a batch.
    fn push(&mut self, entry: Entry) -> Result<bool, StoppedEarly> {
        if !matches!(entry.found, Found::Nameless(..)) {
            if self.last_key.as_ref().is_some_and(|last| *last >= entry.key) {
                debug_assert!(false, "{:?} comes after {:?}", entry.key, self.last_key);
                let last = self.last_key.as_ref().map(tracing::field::display);
                tracing::error!(key = %entry.key, last, "the walk emits a key out of order: it stops here");
                return Err(StoppedEarly);
            }
            self.last_key.get_or_insert_default().clone_from(&entry.key);
        }
        self.batch.push(entry);
        if self.batch.len() < self.batch_entries {
            return Ok(false);
        }
        self.flush()?;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), StoppedEarly> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(std::mem::take(&mut self.batch)).map_err(|_| StoppedEarly)
    }

    /// Gives the entry the lowest key after the last one, unless its own key is higher: the escaped form of a name that is
    /// not UTF-8 does not show its place. A file name cannot contain a NUL.
    fn after_last_key(&self, mut entry: Entry) -> Entry {
        if let Some(last) = self.last_key.as_ref().filter(|last| **last >= entry.key) {
            entry.key = RelativeKey::new(format!("{last}\0"));
        }
        entry
    }
}

impl Drop for Outbox {
    /// Whatever stopped the walk, a panic included: what the walk did not see must not look absent.
    fn drop(&mut self) {
        if !self.complete {
            let found = Found::Unread { below: String::new(), problem: Problem::broken_off() };
            let entry = self.after_last_key(Entry::new(String::new(), found));
            self.batch.push(entry);
        }
        // Fails only if the receiver was dropped.
        let _ = self.flush();
    }
}
