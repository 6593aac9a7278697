//! A fatal error: nothing that the run would still do could be trusted.

use std::io;

use crate::destination::Destination;
use crate::destination::error::S3Error;
use crate::key::RelativeKey;
use crate::mounts::MountsError;
use crate::source::walk::WalkError;

/// Why a run ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    /// The bucket cannot be used, or refuses everything.
    #[error("{advice}")]
    Destination { advice: String, source: Box<S3Error> },
    #[error("{0}: cannot compare a listing that is out of order; the run deleted nothing")]
    OutOfOrder(#[source] Box<OutOfOrder>),
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// The walk did not start.
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("cannot read the plan to its end: {0}")]
    ReadPlan(#[source] io::Error),
    #[error("cannot write the plan: {0}")]
    WritePlan(#[source] io::Error),
    #[error(
        "cannot keep the list of objects without a file in the temporary folder ({0}): free some space there, or set \
         TMPDIR to another folder"
    )]
    SpoolOrphans(#[source] io::Error),
    #[error("cannot write the result: {0}")]
    WriteResult(#[source] io::Error),
}

/// A key that does not come after the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {side} is out of order: '{key}' comes after '{before}'")]
pub struct OutOfOrder {
    pub(super) side: &'static str,
    pub(super) key: RelativeKey,
    pub(super) before: RelativeKey,
}

impl Fatal {
    pub(crate) fn destination(destination: &Destination, error: S3Error) -> Self {
        Self::Destination { advice: destination.explain(&error), source: Box::new(error) }
    }
}

impl From<OutOfOrder> for Fatal {
    fn from(error: OutOfOrder) -> Self {
        Self::OutOfOrder(Box::new(error))
    }
}
