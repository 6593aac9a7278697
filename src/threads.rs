//! Threads: how many more of them the system lets this process start (`ulimit -u`, `ulimit -v`, the pids of a container).

use std::sync::Mutex;
use std::thread;

use rustix::process::{Resource, getrlimit};

/// The address space of a thread's stack.
const STACK_BYTES: u64 = 2 << 20;
/// The stacks of one kind of threads take at most this part of a limit on the address space (`ulimit -v`). The rest is
/// for memory: without it, the program aborts.
const SHARE_OF_ADDRESSES: u64 = 16;

/// How many threads of one kind may live at the same time, at most as many as are wanted.
#[must_use]
pub fn affordable(wanted: usize) -> usize {
    affordable_in(getrlimit(Resource::As).current, wanted)
}

fn affordable_in(limit_bytes: Option<u64>, wanted: usize) -> usize {
    let most = limit_bytes.map(|bytes| (bytes / SHARE_OF_ADDRESSES / STACK_BYTES).max(1));
    most.and_then(|most| usize::try_from(most).ok()).map_or(wanted, |most| most.min(wanted))
}

/// Starts up to this many threads that live at the same time, ends them, and returns how many the system started.
#[must_use]
pub fn startable(wanted: usize) -> usize {
    // The threads wait until all are started.
    let gate = Mutex::new(());
    let closed = gate.lock();
    let wait = || drop(gate.lock());
    thread::scope(|scope| {
        let started = (0..wanted).map_while(|_| thread::Builder::new().spawn_scoped(scope, wait).ok()).count();
        drop(closed);
        started
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_all_threads_start() {
        assert_eq!(startable(0), 0);
        assert_eq!(startable(5), 5);
    }

    #[test]
    fn a_limit_on_the_address_space_leaves_most_of_it_to_memory() {
        assert_eq!(affordable_in(None, 64), 64);
        assert_eq!(affordable_in(Some(400_000 << 10), 64), 12);
        assert_eq!(affordable_in(Some(1 << 20), 64), 1);
        assert_eq!(affordable_in(Some(u64::MAX - 1), 64), 64);
    }
}
