//! Logs: lines on stderr, human-readable or as JSON, without secrets.
//!
//! `RUST_LOG` sets the level of this program's own lines. Libraries log no more than `info`, because their `debug` and
//! `trace` lines show whole requests, with session tokens and signatures. Without `RUST_LOG`, they log only errors: the
//! SDK warns at each attempt, in debug text, and this program logs the same in a line of its own.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::cli::LogFormat;
use crate::log_queue::LogQueue;
use crate::progress::Progress;

/// The filter if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "error,efs2s3=info";

/// How long a stderr that does not block may be full before the next attempt.
const RETRY: Duration = Duration::from_millis(20);

/// Sets up logging. The thread that writes the lines also shows the progress, without tearing its line.
#[must_use]
pub fn init(format: LogFormat, progress: Progress) -> Stderr {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let harmless = filter_fn(|metadata| metadata.target().starts_with("efs2s3") || *metadata.level() <= Level::INFO);
    let stderr = Stderr { queue: LogQueue::default(), progress };
    let writer = LogWriter(stderr.queue.clone());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = match format {
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(colour).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
    };
    // A second call, as in a test, changes nothing.
    let _ = tracing_subscriber::registry().with(layer.with_filter(harmless).with_filter(filter)).try_init();
    stderr
}

/// Stderr, which one thread owns: it writes the log lines and shows the progress.
#[derive(Clone, Debug)]
pub struct Stderr {
    queue: LogQueue,
    progress: Progress,
}

impl Stderr {
    /// Starts the thread, and lets `work` log. Waits at the end until stderr has the last line, for seconds at most.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let writer = self.clone();
        let started = std::thread::Builder::new().spawn(move || writer.write_lines());
        let done = work();
        self.progress.finish();
        match started {
            Ok(_) => self.queue.flush(),
            // The system allows no thread.
            Err(_) => while self.write_next(Duration::ZERO) {},
        }
        done
    }

    fn write_lines(&self) {
        loop {
            self.write_next(self.progress.show_in_time());
        }
    }

    /// Writes the next line, if there is one within this time.
    fn write_next(&self, pause: Duration) -> bool {
        let Some(line) = self.queue.next(pause) else {
            return false;
        };
        self.progress.without_line(|| write_whole(&line));
        let dropped = self.queue.take_dropped();
        if dropped > 0 {
            tracing::warn!(lines = dropped, "dropped the oldest log lines: no process read stderr");
        }
        true
    }
}

/// Writes a line. A failure of stderr cannot be logged.
fn write_whole(mut line: &[u8]) {
    while !line.is_empty() {
        match io::stderr().write(line) {
            Ok(0) => return,
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program made the terminal or the pipe non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(_) => return,
        }
    }
}

/// Queues log lines. A line is one write.
#[derive(Clone, Debug)]
struct LogWriter(LogQueue);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
