//! The progress of a run: one line that changes on a terminal, and otherwise log lines. The thread that owns stderr shows
//! it in time, also while nothing changes.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use crate::sent_bytes::SentBytes;

/// The shortest time between two changes of the line on a terminal.
const REFRESH: Duration = Duration::from_millis(100);
/// The time between two steps of the spinner, which shows that the program is alive.
const TICK: Duration = Duration::from_millis(250);
/// The shortest time between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Longer than any run.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// From how many sent bytes on the line shows them: a large file changes no other number until it is stored.
const LEAST_SENT: u64 = 1 << 20;

/// The progress of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    every: Option<Duration>,
    /// Whether the progress is a line on a terminal.
    is_line: bool,
    /// Whether the line and stdout are on a terminal, probably the same one.
    is_beside_results: bool,
    /// Whether a line was shown.
    is_shown: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    line: String,
    sent: SentBytes,
    /// When a line was last shown, or when the run started.
    last: Instant,
    /// When the spinner last moved.
    ticked: Instant,
    /// Whether the run has shown a line, which may still wait for the thread.
    is_due: bool,
    is_finished: bool,
}

impl Progress {
    /// Creates a progress that is shown on stderr if it is `wanted`.
    #[must_use]
    pub fn new(wanted: bool, is_terminal: bool) -> Self {
        let bar = if wanted && is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        let every = wanted.then_some(if is_terminal { REFRESH } else { LOG_EVERY });
        let state = State {
            line: "no progress yet".to_owned(),
            sent: SentBytes::default(),
            last: Instant::now(),
            ticked: Instant::now(),
            is_due: false,
            is_finished: false,
        };
        let is_line = !bar.is_hidden();
        let is_beside_results = is_line && std::io::stdout().is_terminal();
        Self { bar, every, is_line, is_beside_results, is_shown: Arc::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// Shows these bytes after each line, as they are sent.
    pub(crate) fn follow(&self, sent: &SentBytes) {
        self.state().sent = sent.clone();
    }

    /// Shows how far the run is: immediately the first time, and then in time. Never waits for stderr.
    pub(crate) fn show(&self, line: impl FnOnce() -> String) {
        if self.every.is_none() {
            return;
        }
        let mut state = self.state();
        state.line = line();
        if !state.is_due {
            state.is_due = true;
            if !self.is_line {
                state.log();
            }
        }
    }

    /// Shows the newest line if it is time, and returns how long the next call can wait. Only the thread that owns stderr
    /// calls this.
    pub(crate) fn show_in_time(&self) -> Duration {
        let Some(every) = self.every else {
            return FOREVER;
        };
        let mut state = self.state();
        let is_finished = state.is_finished;
        let (is_old, is_shown) = (state.last.elapsed() >= every, self.is_shown());
        if !self.is_line {
            if is_old && !is_finished {
                state.log();
            }
            return if is_finished { FOREVER } else { every.saturating_sub(state.last.elapsed()).max(REFRESH) };
        }
        // On a terminal, a command that shows no progress has no line.
        let text = (state.is_due && (is_old || !is_shown)).then(|| state.text());
        if text.is_some() {
            state.last = Instant::now();
        }
        // A run that is already finished shows it once.
        state.is_due &= !is_finished;
        let ticks = is_shown && state.ticked.elapsed() >= TICK;
        if ticks {
            state.ticked = Instant::now();
        }
        // The terminal may be stopped, and `show` waits for the state.
        drop(state);
        if let Some(text) = text {
            // Before the line is there: what is logged from now on removes it first.
            self.is_shown.store(true, Ordering::Relaxed);
            // The bar's own thread for the spinner would panic if it cannot start.
            self.bar.set_message(text);
        }
        if ticks {
            self.bar.tick();
        }
        if is_finished {
            self.remove();
            return FOREVER;
        }
        REFRESH
    }

    /// Ends the progress. The thread that owns stderr removes the line before it writes anything else.
    pub fn finish(&self) {
        self.state().is_finished = true;
    }

    /// Removes the line if the progress is finished.
    fn remove(&self) {
        if self.is_shown.swap(false, Ordering::Relaxed) {
            self.bar.finish_and_clear();
        }
    }

    fn is_shown(&self) -> bool {
        self.is_shown.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes results to stdout. If stdout is a terminal, the line is removed meanwhile.
    pub(crate) fn around_results<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.is_beside_results { self.without_line(write) } else { write() }
    }

    /// Writes to stderr while the line is removed.
    pub(crate) fn without_line<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.state().is_finished {
            self.remove();
        }
        // The bar would show an empty line afterwards.
        if self.is_shown() { self.bar.suspend(write) } else { write() }
    }
}

impl State {
    fn log(&mut self) {
        tracing::info!("{}", self.text());
        self.last = Instant::now();
    }

    /// The line with the bytes that were sent.
    fn text(&self) -> String {
        let sent = self.sent.get();
        if sent < LEAST_SENT {
            return self.line.clone();
        }
        format!("{}, {} sent", self.line, ByteSize(sent).display().iec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_sent_bytes_while_no_file_is_stored() {
        let (progress, sent) = (Progress::new(false, false), SentBytes::default());
        progress.follow(&sent);
        progress.state().line = "0 uploaded".to_owned();
        sent.add(1000);
        assert_eq!(progress.state().text(), "0 uploaded");
        sent.add(5 << 20);
        assert!(progress.state().text().starts_with("0 uploaded, 5.0"), "{}", progress.state().text());
    }
}
