//! Shutdown: the token that SIGINT, SIGTERM, SIGHUP or a lost lease cancels, and that every wait observes.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exit_code::ExitCode;

/// How long the source, S3 and DataSync may take to respond to the set-up after a stop request.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the reader of a result, or its file, may accept nothing after a stop request.
const RESULT_GRACE: Duration = Duration::from_secs(5);

/// The request to stop, and the exit code that goes with it. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// Cancelled only by a signal or a lost lease.
    stop: CancellationToken,
    /// 0 unless a signal or a lost lease requested the stop.
    exit_code: Arc<AtomicU8>,
    requested_at: Arc<OnceLock<Instant>>,
}

impl Shutdown {
    /// Listens for SIGINT, SIGTERM and SIGHUP, which acts as SIGTERM. A second signal exits the process immediately, in
    /// its handler: no thread of the process needs to be free for it.
    ///
    /// SIGHUP stays ignored if it was ignored at the start, as under `nohup`.
    ///
    /// # Errors
    /// Returns an error if a signal handler cannot be installed.
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let is_second = Arc::default();
        let mut interrupt = listen(SignalKind::interrupt(), ExitCode::Interrupted, &is_second)?;
        let mut terminate = listen(SignalKind::terminate(), ExitCode::Terminated, &is_second)?;
        let mut hang_up = if ignores_hang_up() {
            None
        } else {
            Some(listen(SignalKind::hangup(), ExitCode::Terminated, &is_second)?)
        };
        let stopping = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => ExitCode::Interrupted,
                    _ = terminate.recv() => ExitCode::Terminated,
                    () = received(hang_up.as_mut()) => ExitCode::Terminated,
                };
                // A run that lost its lease stops already.
                if stopping.exit_code().is_some() {
                    std::process::exit(code.code().into());
                }
                stopping.request(code);
                tracing::warn!(
                    "stop requested: finishing or aborting the work in flight; a second signal exits immediately"
                );
            }
        });
        Ok(shutdown)
    }

    /// Requests a stop that ends the run with this exit code.
    pub fn request(&self, code: ExitCode) {
        self.exit_code.store(code.code(), Ordering::Relaxed);
        self.wind_down();
        self.stop.cancel();
    }

    /// Requests a stop and leaves the exit code to the result of the run.
    pub(crate) fn wind_down(&self) {
        self.requested_at.get_or_init(Instant::now);
        self.token.cancel();
    }

    /// Whether a stop was requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when a stop is requested.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Returns when a signal or a lost lease requests a stop.
    pub(crate) async fn stop_requested(&self) {
        self.stop.cancelled().await;
    }

    /// How long ago a signal or a lost lease requested a stop.
    pub(crate) fn stopped_for(&self) -> Option<Duration> {
        self.requested_at.get().filter(|_| self.stop.is_cancelled()).map(Instant::elapsed)
    }

    /// Returns once a stop request is `grace` old: what has not ended then does not respond.
    pub(crate) async fn overdue(&self, grace: Duration) {
        self.requested().await;
        tokio::time::sleep_until(*self.requested_at.get_or_init(Instant::now) + grace).await;
    }

    /// Returns after a stop request, once the reader of a result, or its file, has had its time.
    pub(crate) async fn grace_is_over(&self) {
        self.requested().await;
        tokio::time::sleep(RESULT_GRACE).await;
    }

    /// The exit code of a run that a signal or a lost lease stopped.
    #[must_use]
    pub fn exit_code(&self) -> Option<ExitCode> {
        let requested = self.exit_code.load(Ordering::Relaxed);
        [ExitCode::Interrupted, ExitCode::Terminated, ExitCode::LeaseHeld]
            .into_iter()
            .find(|code| code.code() == requested)
    }
}

/// Listens for a signal. It exits the process with this code if `is_second` was set by an earlier one, and sets it.
fn listen(kind: SignalKind, code: ExitCode, is_second: &Arc<AtomicBool>) -> std::io::Result<Signal> {
    let number = kind.as_raw_value();
    // The actions of a signal run in this order.
    flag::register_conditional_shutdown(number, code.code().into(), Arc::clone(is_second))?;
    flag::register(number, Arc::clone(is_second))?;
    signal(kind)
}

/// Returns when the signal arrives; never if the process does not listen for it.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process ignores SIGHUP (Linux: the lowest bit of `SigIgn`).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
