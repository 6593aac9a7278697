//! The wish to stop: SIGINT and SIGTERM, and the token by which every wait hears of them.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exit_code::ExitCode;

/// Tells every part of a run that it should end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    signal: Arc<AtomicU8>,
    /// Until when writes may be sent, where a lease says so.
    write_until: Arc<Mutex<Option<Instant>>>,
}

impl Shutdown {
    /// Listens for SIGINT and SIGTERM; a second one ends the process at once.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let heard = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => ExitCode::Interrupted,
                    _ = terminate.recv() => ExitCode::Terminated,
                };
                if heard.exit_code().is_some() {
                    std::process::exit(code.code().into());
                }
                tracing::warn!(
                    "asked to stop: what is in flight is finished or taken back; a second signal ends at once"
                );
                heard.request(code);
            }
        });
        Ok(shutdown)
    }

    /// Requests a stop that ends the run with this exit code.
    pub fn request(&self, code: ExitCode) {
        self.signal.store(code.code(), Ordering::Relaxed);
        self.token.cancel();
    }

    /// Asks everybody to stop, because there is no point in going on.
    pub fn wind_down(&self) {
        self.token.cancel();
    }

    /// Asks everybody to stop, because the lease is another's.
    pub fn lease_lost(&self) {
        self.request(ExitCode::LeaseHeld);
    }

    /// Allows writes until then, and no longer: the lease is held so long.
    pub fn write_until(&self, until: Instant) {
        *self.write_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Whether writes may be sent now; always where there is no lease.
    #[must_use]
    pub fn may_write(&self) -> bool {
        let until = *self.write_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() < until)
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when somebody asks.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// The exit code of a run that a signal, or the loss of its lease, asked to stop.
    #[must_use]
    pub fn exit_code(&self) -> Option<ExitCode> {
        let signal = self.signal.load(Ordering::Relaxed);
        [ExitCode::Interrupted, ExitCode::Terminated, ExitCode::LeaseHeld]
            .into_iter()
            .find(|code| code.code() == signal)
    }
}
