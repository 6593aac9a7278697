//! The emission: goes through the tree depth first, in the order of keys, and waits where its turn is not there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::directory::Directory;
use super::job::{Chunk, Outcome, Position};
use super::look::{Item, escaped};
use super::read::{Listing, NoListing};
use super::schedule::Scheduler;
use crate::key::RelativeKey;
use crate::source::entry::{Entry, EntryKind, FileEntry, Found, Problem, SkipReason};

/// How soon a wait notices that the walk is to end.
const TICK: Duration = Duration::from_millis(50);

/// Emits the entries of one walk.
#[derive(Debug)]
pub(super) struct Emitter {
    scheduler: Arc<Scheduler>,
    outbox: Outbox,
    stop: Arc<AtomicBool>,
    /// The directories that are being emitted, each in the one before it.
    path: Vec<Emitting>,
}

/// A directory in the middle of its emission.
#[derive(Debug)]
struct Emitting {
    listing: Arc<Listing>,
    /// The index of the next name.
    at: usize,
    chunk: Option<Chunk>,
}

/// The walk ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended;

impl Emitter {
    pub(super) fn new(scheduler: Arc<Scheduler>, sender: mpsc::Sender<Vec<Entry>>, stop: Arc<AtomicBool>) -> Self {
        let outbox = Outbox::new(sender, scheduler.walk.options.batch_entries.max(1));
        Self { scheduler, outbox, stop, path: Vec::new() }
    }

    /// Emits all there is. If it ends before, the outbox says so when it is dropped.
    pub(super) fn run(mut self) {
        let ended = self.enter_root().and_then(|()| self.emit_below_root());
        if ended.is_ok() {
            self.outbox.complete();
        }
    }

    fn enter_root(&mut self) -> Result<(), Ended> {
        match self.read("")? {
            Ok(listing) => {
                self.path.push(Emitting { listing, at: 0, chunk: None });
                Ok(())
            }
            Err(no_listing) => self.emit(no_listing.entry("")),
        }
    }

    fn emit_below_root(&mut self) -> Result<(), Ended> {
        while let Some(emitting) = self.path.last_mut() {
            match emitting.next() {
                Next::Item(Item::Entry(entry)) => self.emit(entry)?,
                Next::Item(Item::Directory(directory, entry)) => {
                    // Where its name told no kind, what is below it may lie elsewhere.
                    if self.scheduler.walk.options.section.reaches(&directory.key) {
                        self.enter(&directory, entry)?;
                    }
                }
                Next::Wait(position) => {
                    let outcome = self.wait(&position)?;
                    if let (Outcome::Looked(chunk), Some(emitting)) = (outcome, self.path.last_mut()) {
                        emitting.chunk = Some(chunk);
                    }
                }
                Next::End(broken) => {
                    self.path.pop();
                    if let Some(entry) = broken {
                        let entry = self.outbox.behind_the_last(entry);
                        self.emit(entry)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, directory: &Arc<Directory>, entry: FileEntry) -> Result<(), Ended> {
        let key = &directory.key;
        match self.read(key)? {
            Ok(listing) => {
                self.emit(Entry::new(key.clone(), Found::Directory(entry)))?;
                self.path.push(Emitting { listing, at: 0, chunk: None });
                Ok(())
            }
            Err(no_listing) => self.emit(no_listing.entry(key)),
        }
    }

    fn read(&mut self, key: &str) -> Result<Result<Arc<Listing>, NoListing>, Ended> {
        match self.wait(&Position::of_reading(key))? {
            Outcome::Read(result) => Ok(result),
            // The stage of the position rules this out.
            Outcome::Looked(_) => Err(Ended),
        }
    }

    fn wait(&mut self, position: &Position) -> Result<Outcome, Ended> {
        let began = Instant::now();
        let options = &self.scheduler.walk.options;
        let (warn_after, mut warn_at) = (options.warn_after, options.warn_after);
        loop {
            let patience = TICK.min(options.source_timeout);
            if let Some(outcome) = self.scheduler.take(position, patience) {
                return Ok(outcome);
            }
            if self.stop.load(Ordering::Relaxed) || self.outbox.nobody_listens() {
                return Err(Ended);
            }
            // The consumer need not wait for what this waits for.
            self.outbox.flush()?;
            if began.elapsed() >= warn_at {
                warn_at += warn_after.max(TICK);
                let path = self.scheduler.walk.root.path().join(position.shown());
                let waited_seconds = began.elapsed().as_secs();
                tracing::warn!(path = %path.display(), waited_seconds, "the file system gives no answer about this path");
            }
        }
    }

    fn emit(&mut self, entry: Entry) -> Result<(), Ended> {
        if !self.scheduler.walk.options.section.takes(&entry) {
            return Ok(());
        }
        if self.outbox.push(entry)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Ended);
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
    /// Nothing; with an entry if the rest is unknown.
    End(Option<Entry>),
}

impl Emitting {
    fn next(&mut self) -> Next {
        if let Some(chunk) = &mut self.chunk {
            if let Some(item) = chunk.items.pop_front() {
                chunk.hold.release(1);
                self.at += 1;
                return Next::Item(item);
            }
            if let Some(problem) = chunk.broken.take() {
                return Next::End(Some(self.unknown_from_here(problem)));
            }
            self.chunk = None;
        }
        Position::of_look(&self.listing, self.at).map_or(Next::End(None), Next::Wait)
    }

    fn unknown_from_here(&self, problem: Problem) -> Entry {
        let below = self.listing.directory.key.clone();
        let name = self.listing.names.get(self.at);
        let name = name.map(|name| escaped(name.bytes) + if name.slash { "/" } else { "" });
        Entry::new(format!("{below}{}", name.unwrap_or_default()), Found::Unknown { below, problem })
    }
}

impl NoListing {
    /// The entry of a directory that could not be read.
    fn entry(self, key: &str) -> Entry {
        let found = match self {
            Self::Vanished => Found::Skipped(EntryKind::Directory, SkipReason::Vanished),
            Self::TooLong(problem) => Found::Failed(EntryKind::Directory, problem),
            Self::Problem(problem) => Found::Unknown { below: key.to_owned(), problem },
        };
        Entry::new(key, found)
    }
}

/// Entries on their way to the consumer, in an order that is checked.
#[derive(Debug)]
struct Outbox {
    sender: mpsc::Sender<Vec<Entry>>,
    batch: Vec<Entry>,
    batch_entries: usize,
    last_key: Option<RelativeKey>,
    complete: bool,
}

impl Outbox {
    fn new(sender: mpsc::Sender<Vec<Entry>>, batch_entries: usize) -> Self {
        Self { sender, batch: Vec::new(), batch_entries, last_key: None, complete: false }
    }

    /// Adds an entry; true if a batch has gone out.
    fn push(&mut self, entry: Entry) -> Result<bool, Ended> {
        if !matches!(entry.found, Found::Nameless(..)) {
            if self.last_key.as_ref().is_some_and(|last| *last >= entry.key) {
                debug_assert!(false, "{:?} comes after {:?}", entry.key, self.last_key);
                tracing::error!(key = %entry.key, last = self.last_key.as_ref().map(tracing::field::display), "the walk steps back in the order of keys");
                return Err(Ended);
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

    fn flush(&mut self) -> Result<(), Ended> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(std::mem::take(&mut self.batch)).map_err(|_| Ended)
    }

    fn nobody_listens(&self) -> bool {
        self.sender.is_closed()
    }

    /// Gives the entry the lowest key behind the last one, if its own is not behind it: a name that is not UTF-8 is shown
    /// by a key that says nothing of its place. No file name has a NUL.
    fn behind_the_last(&self, mut entry: Entry) -> Entry {
        if let Some(last) = self.last_key.as_ref().filter(|last| **last >= entry.key) {
            entry.key = RelativeKey::new(format!("{last}\0"));
        }
        entry
    }

    /// All was seen.
    fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Outbox {
    /// Whatever ended the walk, a panic included: what was not seen must not look as if it were not there.
    fn drop(&mut self) {
        if !self.complete {
            let problem = Problem::broken_off("the walk ended before it had seen all: run again");
            let found = Found::Unknown { below: String::new(), problem };
            let entry = self.behind_the_last(Entry::new(String::new(), found));
            self.batch.push(entry);
        }
        // Fails only if nobody listens.
        let _ = self.flush();
    }
}
