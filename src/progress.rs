//! The progress of a run: one line that changes on a terminal, and otherwise log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The shortest time between two changes of the line on a terminal.
const REFRESH: Duration = Duration::from_millis(100);
/// The time between two steps of the spinner, which shows that the program is alive.
const TICK: Duration = Duration::from_millis(250);
/// The shortest time between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The progress of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    every: Option<Duration>,
    shown: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// Creates a progress that is shown on stderr if it is `wanted`.
    #[must_use]
    pub fn new(wanted: bool, is_terminal: bool) -> Self {
        let bar = if wanted && is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        let every = wanted.then_some(if is_terminal { REFRESH } else { LOG_EVERY });
        Self { bar, every, shown: Arc::default() }
    }

    /// Shows how far the run is, unless it showed that just now.
    pub(crate) fn show(&self, line: impl FnOnce() -> String) {
        let Some(every) = self.every else {
            return;
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        if self.bar.is_hidden() {
            tracing::info!("{}", line());
        } else {
            self.bar.set_message(line());
            if shown.is_none() {
                self.bar.enable_steady_tick(TICK);
            }
        }
        *shown = Some(Instant::now());
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes to stderr while the line is removed.
    pub(crate) fn without_line<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}
