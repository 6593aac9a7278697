//! The walk: everything below the source directory, in the order in which S3 lists keys, read by many threads in parallel.
//! The `scheduler` gives jobs to threads, the `directory_reader` reads names, the `classifier` finds what they are, and the
//! `emitter` sends entries in order.
//!
//! Why this is hard, with the test of each point in `walk/tests`:
//!
//! 1. *Order.* S3 lists whole keys by their bytes, so `a-b` and `a.txt` come before `a/x`, and `a0` after it. A directory
//!    sorts as if its name ended in `/`, at every depth, but the file system returns its names in no order
//!    (`the_order_is_the_byte_order_of_keys_at_every_depth`).
//! 2. *The kind decides the place, and may be unknown.* NFS often returns names without kinds, and a followed link has the
//!    kind of its target. Only if another name of the directory lies between the two possible places (`a` with `a.txt`),
//!    the walk stats the name before it sorts (`one_stat_an_entry_even_where_kinds_are_unknown`).
//! 3. *Speed against order.* EFS responds in about a millisecond, so only many calls in parallel are fast. Threads work
//!    ahead of the emitter, at the lowest keys first (`scheduler.rs`).
//! 4. *Memory.* `look_ahead_entries` bounds the statted entries ahead of the emitter; four times that bounds the names that
//!    wait for their stat. The job that the emitter waits for may always start, so the bounds cannot deadlock. Of a
//!    directory larger than the bounds, the walk holds only the names (`memory_is_bounded_by_the_look_ahead`).
//! 5. *A call may never return.* A thread in a `statx` on a mount whose server is down cannot be interrupted. The walk joins
//!    no thread. After the timeout the place becomes [`Found::Unread`], and a late result is dropped
//!    (`a_stat_that_hangs_makes_the_rest_of_its_directory_unknown`).
//! 6. *Unseen is not empty.* Every error on a directory, also in its middle, becomes [`Found::Unread`]. A walk that ends
//!    early, for whatever reason, emits a [`Found::Unread`] below the root as its last entry
//!    (`a_stopped_walk_ends_with_an_unknown_root`).
//!
//! [`Found::Unread`]: super::entry::Found::Unread

mod classifier;
mod context;
mod directory;
mod directory_reader;
mod emitter;
mod gauge;
mod job;
pub(super) mod link_path;
pub(super) mod named_path;
pub(super) mod nameless;
mod options;
mod scheduler;
mod stat_time;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuildError};
use tokio::sync::mpsc;

use super::entry::Entry;
use super::operations::Operations;
use super::read_directories::ReadDirectories;
use super::root::Root;
use crate::threads::{affordable, startable};
pub(super) use classifier::is_leftover;
use context::WalkContext;
use emitter::Emitter;
pub use options::{Links, WalkOptions};
use scheduler::Scheduler;

/// Batches that wait for a slow receiver, beyond the look-ahead.
const WAITING_BATCHES: usize = 2;
/// Threads that the walkers leave to the rest of the run.
const SPARE_THREADS: usize = 2;
/// The wait for the end of the threads of a pool that is too large.
const POOL_END: Duration = Duration::from_millis(20);

/// Why a walk cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum WalkError {
    #[error(
        "cannot start a thread for the walk: raise the limit on threads (ulimit -u, ulimit -v, or the pids limit of the container)"
    )]
    Threads(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Walks what is below `root` and sends it in batches, in strictly ascending order of keys (except names without a key).
/// The root itself is not an entry.
///
/// The channel closes at the end of the walk. If `stop` ended the walk, its last entry is an
/// [`Unread`](super::entry::Found::Unread) below the root. Dropping the receiver ends the walk.
///
/// # Errors
/// Returns an error if the threads cannot be started.
pub fn start(
    root: Arc<Root>,
    options: WalkOptions,
    operations: Arc<Operations>,
    stop: Arc<AtomicBool>,
) -> Result<mpsc::Receiver<Vec<Entry>>, WalkError> {
    start_with(WalkContext::new(root, options, operations), stop)
}

/// Walks as [`start`] does, until the receiver is dropped, and records the directories that it reads.
pub(super) fn start_recording(
    root: Arc<Root>,
    options: WalkOptions,
    operations: Arc<Operations>,
    read: Option<Arc<ReadDirectories>>,
) -> Result<mpsc::Receiver<Vec<Entry>>, WalkError> {
    start_with(WalkContext { read, ..WalkContext::new(root, options, operations) }, Arc::default())
}

fn start_with(walk: WalkContext, stop: Arc<AtomicBool>) -> Result<mpsc::Receiver<Vec<Entry>>, WalkError> {
    let wanted = walk.options.walkers.max(1);
    let (sender, receiver) = mpsc::channel(WAITING_BATCHES);
    // Before the walkers, which may take every thread that the system allows.
    let (hand_over, emitter) = std::sync::mpsc::sync_channel::<Emitter>(1);
    std::thread::Builder::new()
        .name("walk-emit".to_owned())
        .spawn(move || emitter.into_iter().for_each(Emitter::run))
        .map_err(|error| WalkError::Threads(error.into()))?;
    let pool = pool_of(wanted).map_err(|error| WalkError::Threads(error.into()))?;
    let emitter = Emitter::new(Scheduler::new(walk, pool), sender, stop);
    hand_over.send(emitter).map_err(|error| WalkError::Threads(error.to_string().into()))?;
    Ok(receiver)
}

/// Starts this many walkers; fewer if the system allows no more threads.
fn pool_of(wanted: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    let mut walkers = affordable(wanted);
    loop {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(walkers)
            .thread_name(|number| format!("walk-{number}"))
            .panic_handler(|_| tracing::error!("a walker panicked; its part of the tree will count as unknown"))
            .build();
        match pool {
            Ok(pool) if walkers == 1 || startable(SPARE_THREADS) == SPARE_THREADS => {
                if walkers < wanted {
                    static LOGGED: Once = Once::new();
                    LOGGED.call_once(|| {
                        tracing::warn!(
                            "the system does not allow {wanted} threads for the walk: using {walkers}, which may be \
                             slower. Raise the limit on threads (ulimit -u, ulimit -v, or the pids limit of the \
                             container), or pass --walkers {walkers}"
                        );
                    });
                }
                return Ok(pool);
            }
            Err(error) if walkers == 1 => return Err(error),
            Ok(_) | Err(_) => walkers /= 2,
        }
        // The threads of the pool end in their own time.
        std::thread::sleep(POOL_END);
    }
}

#[cfg(test)]
mod tests;
