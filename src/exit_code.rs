//! The exit codes: part of the public interface, derived from what happened and never set along the way.

use std::process::ExitCode as ProcessExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The destination matches the source.
    Success,
    /// The source, the bucket, the credentials, a listing or the report cannot be used.
    Fatal,
    /// The command line, a URL, a number or the config file is not valid; the run has written nothing.
    Usage,
    /// Finished, but incomplete: a file failed, a guard withheld deletes, or DataSync's result is not certain.
    Incomplete,
    /// `plan --exit-code` found something to do, or `verify` a difference.
    Differences,
    /// Another run holds the lease, or took it over.
    LeaseHeld,
    /// SIGINT ended the run early.
    Interrupted,
    /// SIGTERM ended the run early.
    Terminated,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Fatal => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Differences => 10,
            Self::LeaseHeld => 11,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// From the best to the worst.
    const ALL: [Self; 8] = [
        Self::Success,
        Self::Differences,
        Self::Incomplete,
        Self::Terminated,
        Self::Interrupted,
        Self::LeaseHeld,
        Self::Usage,
        Self::Fatal,
    ];

    /// Returns the exit code with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// Returns the worse of two exit codes: the one that leaves more to do.
    pub(crate) fn worse(self, other: Self) -> Self {
        Self::ALL.into_iter().rev().find(|code| *code == self || *code == other).unwrap_or(self)
    }
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}
