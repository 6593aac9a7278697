//! The progress line: on a terminal, how far a long run is; elsewhere nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line changes, at most.
const REFRESH: Duration = Duration::from_millis(100);

/// How often it shows that the program is alive.
const TICK: Duration = Duration::from_millis(250);

/// The progress line. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    shown: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// A line on stderr, where one is wanted.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        let bar = if wanted { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        if wanted {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, shown: Arc::default() }
    }

    /// Shows how far the run is.
    pub fn show(&self, line: impl FnOnce() -> String) {
        if self.bar.is_hidden() {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_none_or(|last| last.elapsed() >= REFRESH) {
            *shown = Some(Instant::now());
            self.bar.set_message(line());
        }
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes to stderr beside the line.
    pub fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}
