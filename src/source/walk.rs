//! The walk: everything below the source directory, in the order in which S3 lists keys, read by many threads at once.
//!
//! Why this is hard, with the test that holds each point in `walk/tests`:
//!
//! 1. *Order.* S3 lists whole keys by their bytes, so `a-b` and `a.txt` come before `a/x`, and `a0` after it: a directory
//!    sorts as if its name ended in `/`, at every depth, although a directory is read as a whole and in no order
//!    (`the_order_is_the_byte_order_of_keys_at_every_depth`).
//! 2. *The kind decides the place, and may be unknown.* NFS often gives names without kinds, and a followed link has the
//!    kind of its target. Only where another name of the directory lies between the two possible places (`a` with `a.txt`)
//!    is the kind asked for before sorting (`one_stat_an_entry_even_where_kinds_are_unknown`).
//! 3. *Speed against order.* EFS answers in about a millisecond, and only many questions at once are fast. So threads work
//!    ahead of the emission, at the lowest keys first (`schedule.rs`).
//! 4. *Memory.* What is ahead is bounded: statted entries by `look_ahead_entries`, names that wait for their stat by four
//!    times that. What the emission waits for may always go on, so the bounds cannot lock it up; of a directory larger than
//!    they are only its names are held (`memory_is_bounded_by_the_look_ahead`).
//! 5. *A call may never return.* A thread in a `statx` on a mount whose server is away cannot be interrupted. No thread is
//!    ever joined; what is waited for too long becomes [`Found::Unknown`], and its late result is dropped
//!    (`a_stat_that_hangs_makes_the_rest_of_its_directory_unknown`).
//! 6. *Unseen is not empty.* Every error on a directory, in its middle too, becomes [`Found::Unknown`]; and a walk that
//!    ends before its end, for whatever reason, says so in its last entry, an [`Found::Unknown`] below the root
//!    (`a_walk_that_is_stopped_says_that_the_rest_is_unknown`).
//!
//! [`Found::Unknown`]: super::entry::Found::Unknown

mod budget;
mod directory;
mod emit;
mod job;
mod look;
pub(super) mod named;
mod names;
mod read;
mod schedule;
mod way;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::mpsc;

use super::entry::Entry;
use super::operations::Operations;
use super::root::Root;
use super::section::Section;
use crate::filter::Filter;
use budget::Gauge;
use emit::Emitter;
use schedule::Scheduler;

/// Batches that wait for a slow consumer, beyond the look-ahead.
const BATCHES_IN_FLIGHT: usize = 2;

/// How to walk.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// Threads that look at the source at the same time; at least 1.
    pub walkers: usize,
    /// How many entries may be known before their turn to be emitted; one chunk of at most 64 may come on top.
    pub look_ahead_entries: usize,
    /// How many entries go out together.
    pub batch_entries: usize,
    /// After this long without an answer a part of the tree becomes unknown.
    pub source_timeout: Duration,
    /// After this long without an answer, and each time it passes again, a warning names the path.
    pub warn_after: Duration,
    /// What to do about symbolic links.
    pub links: Links,
    /// The longest key below the prefix, in bytes.
    pub max_key_bytes: usize,
    /// What belongs to the sync.
    pub filter: Arc<Filter>,
    /// The part of the tree to walk: nothing else is looked at.
    pub section: Arc<Section>,
    /// Whether to leave out the looks at files whose kind the directory tells.
    pub names_only: bool,
    /// Whether names that DataSync keeps for itself are left out.
    pub leave_reserved: bool,
}

/// What to do about symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A link stands for what it leads to.
    Follow,
    /// Links are left out.
    Skip,
    /// A link stands for itself.
    Keep,
}

/// Why a walk cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The system gives no threads.
    #[error("the {walkers} threads of the walk cannot be started: use fewer --walkers, or raise the limit on threads")]
    Threads {
        /// How many were asked for.
        walkers: usize,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What all parts of one walk share.
#[derive(Debug)]
struct Walk {
    root: Arc<Root>,
    options: WalkOptions,
    operations: Arc<Operations>,
    /// Entries that are known, or being looked at, and not emitted.
    entries_ahead: Arc<Gauge>,
    /// Names in directories that are not emitted to their end.
    names_held: Arc<Gauge>,
    /// Directories held open for the stats of their entries.
    directories_open: Arc<Gauge>,
    /// Takes the kinds away from what directories tell, as NFS often does.
    #[cfg(test)]
    kinds_unknown: bool,
}

/// Walks what is below `root` and sends it in batches, in strictly ascending order of keys (but for names that have no key).
/// The root itself is no entry.
///
/// The channel closes when the walk is over. If it could not see all, entries say so: above all, a walk that `stop` ended
/// has an [`Unknown`](super::entry::Found::Unknown) below the root as its last entry. Dropping the receiver ends the walk.
///
/// # Errors
///
/// When the threads cannot be started.
pub fn start(
    root: Arc<Root>,
    options: WalkOptions,
    operations: Arc<Operations>,
    stop: Arc<AtomicBool>,
) -> Result<mpsc::Receiver<Vec<Entry>>, WalkError> {
    begin(Walk::new(root, options, operations), stop)
}

fn begin(walk: Walk, stop: Arc<AtomicBool>) -> Result<mpsc::Receiver<Vec<Entry>>, WalkError> {
    let walkers = walk.options.walkers.max(1);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| WalkError::Threads { walkers, source };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(walkers)
        .thread_name(|number| format!("walk-{number}"))
        .panic_handler(|_| tracing::error!("a walker broke off; what it looked at will count as unknown"))
        .build()
        .map_err(|error| failed(error.into()))?;
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let scheduler = Scheduler::new(walk, pool);
    std::thread::Builder::new()
        .name("walk-emit".to_owned())
        .spawn(move || Emitter::new(scheduler, sender, stop).run())
        .map_err(|error| failed(error.into()))?;
    Ok(receiver)
}

impl Walk {
    fn new(root: Arc<Root>, options: WalkOptions, operations: Arc<Operations>) -> Self {
        Self {
            root,
            options,
            operations,
            entries_ahead: Arc::default(),
            names_held: Arc::default(),
            directories_open: Arc::default(),
            #[cfg(test)]
            kinds_unknown: false,
        }
    }
}

#[cfg(test)]
mod tests;
