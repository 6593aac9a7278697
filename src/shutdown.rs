//! The wish to stop: SIGINT and SIGTERM, and the token by which every wait hears of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit_code::ExitCode;

/// Tells every part of a run that it should end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    signal: Arc<AtomicU8>,
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

    /// Asks everybody to stop, because a signal did.
    fn request(&self, code: ExitCode) {
        self.signal.store(code.code(), Ordering::Relaxed);
        self.token.cancel();
    }

    /// Asks everybody to stop, because there is no point in going on.
    pub fn wind_down(&self) {
        self.token.cancel();
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

    /// The exit code of a run that a signal asked to stop.
    #[must_use]
    pub fn exit_code(&self) -> Option<ExitCode> {
        let signal = self.signal.load(Ordering::Relaxed);
        [ExitCode::Interrupted, ExitCode::Terminated].into_iter().find(|code| code.code() == signal)
    }
}
