//! The latest execution of a task: whether it is running, and how it ended.

use super::arn::ExecutionArn;
use super::error::{ServiceError, ServiceErrorKind};
use super::still_running::StillRunning;
use super::{Execution, ExecutionOptions, Task};

/// The latest execution of a task.
#[derive(Clone, Debug)]
pub(crate) enum Latest {
    /// The task has no execution.
    None,
    /// It has ended.
    Ended(Execution),
    /// It is running.
    Running(Execution),
    /// DataSync did not describe it.
    Unknown(ExecutionArn, ServiceError),
}

impl Latest {
    /// Returns the execution, if it is running. One that no longer exists is not.
    pub(crate) fn running(self) -> Result<Option<Execution>, ServiceError> {
        match self {
            Self::Running(execution) => Ok(Some(execution)),
            Self::None | Self::Ended(_) => Ok(None),
            Self::Unknown(_, error) if error.kind == ServiceErrorKind::UnknownExecution => Ok(None),
            Self::Unknown(_, error) => Err(error),
        }
    }

    /// The execution, if it may still be writing to the destination.
    pub(crate) fn still_running(&self, task: &Task) -> Option<StillRunning> {
        match self {
            Self::None | Self::Ended(_) => None,
            Self::Unknown(_, error) if error.kind == ServiceErrorKind::UnknownExecution => None,
            Self::Running(execution) => {
                let deletes = execution.options.as_ref().is_none_or(ExecutionOptions::delete);
                Some(StillRunning { arn: Some(execution.arn.clone()), deletes })
            }
            Self::Unknown(arn, _) => Some(StillRunning { arn: Some(arn.clone()), deletes: task.settings.delete }),
        }
    }
}
