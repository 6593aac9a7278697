//! The exit codes: part of the public interface, derived from what happened and never set along the way.

use std::process::ExitCode as ProcessExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The destination matches the source.
    Success,
    /// Nothing could be trusted, or nothing could be reached: source, bucket, credentials, listing, report.
    Fatal,
    /// The command line, a URL, a number or the config file is wrong; nothing was contacted.
    Usage,
    /// Finished, but some files failed or deletes were withheld.
    Incomplete,
    /// `plan --exit-code` found something to do.
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
}

impl ExitCode {
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

    /// The one with this number.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// The worse of two: the one that leaves more to be done.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self::ALL.into_iter().rev().find(|one| *one == self || *one == other).unwrap_or(self)
    }
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}
