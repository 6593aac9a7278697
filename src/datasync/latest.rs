//! The latest execution of a task: whether it is running, and how it ended.

use super::Execution;
use super::error::{ServiceError, ServiceErrorKind};

/// The latest execution of a task.
#[derive(Clone, Debug)]
pub(crate) enum Latest {
    /// The task has no execution.
    None,
    /// It has ended.
    Ended(Execution),
    /// It is running: its ARN, and its state.
    Running(String, Execution),
    /// DataSync did not describe it.
    Unknown(ServiceError),
}

impl Latest {
    /// Returns the execution and its ARN, if it is running. One that no longer exists is not.
    pub(crate) fn running(self) -> Result<Option<(String, Execution)>, ServiceError> {
        match self {
            Self::Running(arn, execution) => Ok(Some((arn, execution))),
            Self::None | Self::Ended(_) => Ok(None),
            Self::Unknown(error) if error.kind == ServiceErrorKind::NotFound => Ok(None),
            Self::Unknown(error) => Err(error),
        }
    }

    /// Whether the execution may still be writing to the destination.
    pub(crate) fn may_still_run(&self) -> bool {
        !matches!(self.clone().running(), Ok(None))
    }
}
