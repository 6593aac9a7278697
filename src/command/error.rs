//! The error of a command: what failed, where, why, and the exit code.

use std::error::Error;
use std::fmt;

use crate::aws::ConnectError;
use crate::exit_code::ExitCode;
use crate::result_place::PlaceError;
use crate::session::SessionError;

/// Why a command cannot continue.
#[derive(Debug)]
pub(super) struct CommandError {
    exit_code: ExitCode,
    /// What the command was doing, and to what.
    place: Option<String>,
    cause: Box<dyn Error + Send + Sync>,
}

impl CommandError {
    /// The command line, or a file that it names, is wrong.
    pub(super) fn usage(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit_code: ExitCode::Usage, place: None, cause: cause.into() }
    }

    /// The command cannot do its work.
    pub(super) fn fatal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit_code: ExitCode::Fatal, place: None, cause: cause.into() }
    }

    /// A signal asked the command to stop.
    pub(super) fn stopped(exit_code: ExitCode) -> Self {
        Self { exit_code, place: None, cause: "stop requested: wrote nothing".into() }
    }

    /// A signal asked the command to stop while it waited for a result to be read or stored.
    pub(super) fn not_read(exit_code: ExitCode) -> Self {
        Self { exit_code, place: None, cause: "stop requested, and its reader or file accepted nothing in time".into() }
    }

    /// Adds what the command was doing.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self { place: Some(place.to_string()), ..self }
    }

    /// Logs the error, and returns the exit code.
    pub(super) fn log(&self) -> ExitCode {
        tracing::error!("{self}");
        self.exit_code
    }

    pub(super) const fn exit_code(&self) -> ExitCode {
        self.exit_code
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.cause),
            None => self.cause.fmt(f),
        }
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

impl From<PlaceError> for CommandError {
    fn from(error: PlaceError) -> Self {
        Self::usage(error)
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        Self { exit_code: error.exit_code(), place: None, cause: error.into() }
    }
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> Self {
        Self { exit_code: error.exit_code(), place: None, cause: error.into() }
    }
}
