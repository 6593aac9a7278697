//! Threads: how many more of them the system lets this process start (`ulimit -u`, `ulimit -v`, the pids of a container).

use std::sync::Mutex;
use std::thread;

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
}
