//! A verdict: what the comparison of a file with its object showed; and an outcome: what a sync then did.

use crate::destination::WriteProof;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::head::HeadResponse;
use crate::index::row::Written;
use crate::source::entry::{Problem, SkipReason, Stat};
use crate::source::read::ReadError;
use crate::sync::reason::Reason;

/// What is left to be done about one file after the comparison.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: file and object were equal when the file was this.
    Equal(Reason, Stat),
    Upload(Reason),
    Rewrite(Box<Rewrite>),
    /// Nothing: the run skips the file.
    Skip(SkipReason),
    /// Nothing: the file could not be compared.
    Failed(FileError),
}

/// A rewrite of an object's metadata.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) headers: HeadResponse,
    /// What the file was when its content was equal to the object's.
    pub(crate) stat: Stat,
}

/// What a sync did about one file.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The object was as it should be when the file was this.
    Unchanged(Stat),
    Uploaded(Reason, Stored),
    Rewritten(Stored),
    Skipped(SkipReason),
    /// The file changed or was replaced during each attempt to upload it, and had these sizes. The run may have written
    /// one of them.
    NeverSettled(Problem, Vec<u64>, Option<Write>),
    /// The object is not as it should be, although the run may have written it before the failure.
    Failed(FileError, Option<Write>),
}

/// What the run wrote at one key.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Upload(Reason, Stored),
    Rewrite(Stored),
}

impl Write {
    /// The outcome if this write is the last thing that the run does about the file.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Upload(reason, stored) => Outcome::Uploaded(reason, stored),
            Self::Rewrite(stored) => Outcome::Rewritten(stored),
        }
    }
}

/// An object that this run has just written, and the file that it is equal to.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) proof: WriteProof,
    /// When S3 can have dated it.
    pub(crate) dated: Written,
    /// What the file was when the run read it.
    pub(crate) stat: Stat,
}

/// Why one file failed; the run continues with others.
#[derive(Debug)]
pub(crate) enum FileError {
    Source(Problem),
    Destination(S3Error),
}

/// Why a step on one file did not succeed.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The file changed while it was read.
    Changed,
    /// Another client replaced or removed the file while it was read.
    Stale,
    Skipped(SkipReason),
    Failed(FileError),
}

impl From<ReadError> for StepError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Changed => Self::Changed,
            ReadError::Stale => Self::Stale,
            ReadError::Vanished => Self::Skipped(SkipReason::Vanished),
            ReadError::Problem(problem) => Self::Failed(FileError::Source(problem)),
        }
    }
}

impl From<S3Error> for StepError {
    fn from(error: S3Error) -> Self {
        if error.kind == ErrorKind::Interrupted {
            Self::Skipped(SkipReason::Interrupted)
        } else if error.kind == ErrorKind::Outdated {
            Self::Changed
        } else {
            Self::Failed(FileError::Destination(error))
        }
    }
}

impl StepError {
    /// What became of a file that the run had `written` before; `None` if the file changed or was replaced, and another
    /// attempt may succeed.
    pub(crate) fn outcome(self, written: Option<&Write>) -> Option<Outcome> {
        match self {
            Self::Changed | Self::Stale => None,
            Self::Skipped(reason) => {
                Some(written.map_or(Outcome::Skipped(reason), |written| written.clone().outcome()))
            }
            Self::Failed(error) => Some(Outcome::Failed(error, written.cloned())),
        }
    }
}
