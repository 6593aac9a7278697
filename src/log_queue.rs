//! The log queue: the log lines that wait for stderr. A line that is queued never waits, so a run never stands still
//! because no process reads its stderr. If the queue is full, its oldest lines are dropped and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many bytes of log lines wait.
const MOST_BYTES: usize = 4 << 20;
/// How long stderr may accept nothing before the end of the process stops waiting for it.
const STALLED: Duration = Duration::from_secs(2);
/// How long the end of the process waits for a stderr that accepts its lines slowly.
const SLOW: Duration = Duration::from_secs(10);

/// The lines that wait for the thread that writes them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped since the last count was logged.
    dropped: u64,
    /// How often the thread came back for the next line, and when it last did.
    rounds: u64,
    last_round: Instant,
    /// Whether the thread waits for a line. Otherwise it may be in a write that does not return.
    is_idle: bool,
}

impl Default for State {
    fn default() -> Self {
        let last_round = Instant::now();
        Self { lines: VecDeque::new(), bytes: 0, dropped: 0, rounds: 0, last_round, is_idle: false }
    }
}

impl LogQueue {
    /// Queues a line.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        while state.bytes > MOST_BYTES && state.lines.len() > 1 {
            state.pop();
            state.dropped += 1;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits for the next line, for up to `pause`. Only the thread that writes the lines calls this.
    pub(crate) fn next(&self, pause: Duration) -> Option<Vec<u8>> {
        let mut state = self.state();
        state.rounds += 1;
        state.last_round = Instant::now();
        state.is_idle = state.lines.is_empty();
        self.0.changed.notify_all();
        if state.is_idle {
            let waited =
                self.0.changed.wait_timeout_while(state, pause, |state| state.is_idle && state.lines.is_empty());
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_idle = false;
        }
        state.pop()
    }

    /// Returns how many lines were dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// Waits until the thread has written every line and then shown the progress once more. Returns early if stderr
    /// accepts nothing, or takes too long.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        let start = Instant::now();
        let asked_in = state.rounds;
        // A write that has not returned may have started long ago. Without a round, the thread has only just started.
        let mut last = if state.is_idle || state.rounds == 0 { start } else { state.last_round };
        // Wakes the thread for another round.
        state.is_idle = false;
        self.0.changed.notify_all();
        loop {
            if state.is_idle && state.rounds > asked_in && state.lines.is_empty() {
                return;
            }
            if state.rounds > asked_in {
                last = last.max(state.last_round);
            }
            let deadline = (last + STALLED).min(start + SLOW);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_in_order_and_the_oldest_are_dropped_and_counted() {
        let queue = LogQueue::default();
        let line = |number: u8| vec![number; 1 << 20];
        for number in 0..6 {
            queue.push(&line(number));
        }
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (2, 0));
        for number in 2..6 {
            assert_eq!(queue.next(Duration::ZERO), Some(line(number)));
        }
        assert_eq!(queue.next(Duration::ZERO), None);
        queue.push(&vec![0; MOST_BYTES + 1]);
        assert_eq!(
            queue.next(Duration::ZERO).map(|line| line.len()),
            Some(MOST_BYTES + 1),
            "a line of any size fits alone"
        );
    }

    #[test]
    fn a_flush_waits_for_a_writer_that_writes_and_not_for_one_that_does_not() {
        let queue = LogQueue::default();
        queue.push(b"a");
        queue.push(b"b");
        // No thread: nothing writes the lines.
        queue.flush();
        let writing = std::thread::spawn({
            let queue = queue.clone();
            move || {
                let mut lines = Vec::new();
                while lines.len() < 2 {
                    lines.extend(queue.next(Duration::from_mins(1)));
                }
                while queue.next(Duration::from_millis(1)).is_none_or(|line| line != b"end") {}
                lines
            }
        });
        queue.flush();
        assert!(queue.state().lines.is_empty());
        queue.push(b"end");
        assert_eq!(writing.join().unwrap(), [b"a", b"b"]);
    }
}
