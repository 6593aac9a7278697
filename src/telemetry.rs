//! Logs: lines on stderr, human-readable or as JSON, without secrets.
//!
//! `RUST_LOG` sets the level of this program's own lines. Libraries log no more than `info`, because their `debug` and
//! `trace` lines show whole requests, with session tokens and signatures. Without `RUST_LOG`, they log only errors: the
//! SDK warns at each attempt, in debug text, and this program logs the same in a line of its own.

use std::io::{self, IsTerminal, Write};

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::cli::LogFormat;
use crate::progress::Progress;

/// The filter if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "error,efs2s3=info";

/// Sets up logging, without tearing the progress line.
pub fn init(format: LogFormat, progress: &Progress) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let harmless = filter_fn(|metadata| metadata.target().starts_with("efs2s3") || *metadata.level() <= Level::INFO);
    let writer = LogWriter(progress.clone());
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = match format {
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(colour).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
    };
    // A second call, as in a test, changes nothing.
    let _ = tracing_subscriber::registry().with(layer.with_filter(harmless).with_filter(filter)).try_init();
}

/// Writes log lines to stderr while the progress line is removed.
#[derive(Clone, Debug)]
struct LogWriter(Progress);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.without_line(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
