//! The progress of a run: one line that changes on a terminal, and otherwise log lines. A thread shows it in time, also
//! while nothing changes.

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

/// From how many sent bytes on the line shows them: a large file changes no other number until it is stored.
const LEAST_SENT: u64 = 1 << 20;

/// The progress of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    every: Option<Duration>,
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
            is_finished: false,
        };
        let is_beside_results = !bar.is_hidden() && std::io::stdout().is_terminal();
        let progress =
            Self { bar, every, is_beside_results, is_shown: Arc::default(), state: Arc::new(Mutex::new(state)) };
        if let Some(every) = every {
            let progress = progress.clone();
            // Without a thread, a run that stands still shows no progress.
            let _ = std::thread::Builder::new().spawn(move || progress.show_again(every));
        }
        progress
    }

    /// Shows these bytes after each line, as they are sent.
    pub(crate) fn follow(&self, sent: &SentBytes) {
        self.state().sent = sent.clone();
    }

    /// Shows how far the run is: immediately the first time, and then in time.
    pub(crate) fn show(&self, line: impl FnOnce() -> String) {
        if self.every.is_none() {
            return;
        }
        let mut state = self.state();
        state.line = line();
        if !self.is_shown() {
            self.write(&mut state);
        }
    }

    /// Shows the newest line at these intervals, until the progress is finished.
    fn show_again(&self, every: Duration) {
        let mut ticked = Instant::now();
        loop {
            let pause = {
                let mut state = self.state();
                if state.is_finished {
                    return;
                }
                // On a terminal, a command that shows no progress has no line.
                if state.last.elapsed() >= every && (self.is_shown() || self.bar.is_hidden()) {
                    self.write(&mut state);
                }
                if self.is_shown() && ticked.elapsed() >= TICK {
                    self.bar.tick();
                    ticked = Instant::now();
                }
                every.saturating_sub(state.last.elapsed()).max(REFRESH)
            };
            std::thread::sleep(pause);
        }
    }

    fn write(&self, state: &mut State) {
        // Before the line is there: what is logged from now on removes it first.
        self.is_shown.store(true, Ordering::Relaxed);
        if self.bar.is_hidden() {
            tracing::info!("{}", state.text());
        } else {
            // The bar's own thread for the spinner would panic if it cannot start.
            self.bar.set_message(state.text());
        }
        state.last = Instant::now();
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        self.state().is_finished = true;
        self.bar.finish_and_clear();
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
        // The bar would show an empty line afterwards.
        if self.is_shown() { self.bar.suspend(write) } else { write() }
    }
}

impl State {
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
