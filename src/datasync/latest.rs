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
    /// It is ending, because an earlier run asked DataSync to cancel it.
    CancelledByRun(Execution),
    /// DataSync did not describe it.
    Unknown(ExecutionArn, ServiceError),
}

impl Latest {
    /// The same, if an earlier run asked DataSync to cancel the execution with this ARN.
    pub(crate) fn cancelled_by_run(self, cancelled: Option<&str>) -> Self {
        match self {
            Self::Running(execution) if Some(execution.arn.as_str()) == cancelled => Self::CancelledByRun(execution),
            Self::None | Self::Ended(_) | Self::Running(_) | Self::CancelledByRun(_) | Self::Unknown(..) => self,
        }
    }

    /// Returns the execution, if it is running. One that no longer exists is not.
    pub(crate) fn running(self) -> Result<Option<Execution>, ServiceError> {
        match self {
            Self::Running(execution) | Self::CancelledByRun(execution) => Ok(Some(execution)),
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
            Self::Running(execution) | Self::CancelledByRun(execution) => {
                let deletes = execution.options.as_ref().is_none_or(ExecutionOptions::delete);
                let cancelled = matches!(self, Self::CancelledByRun(_));
                let (arn, shown) = (Some(execution.arn.clone()), Some(Box::new(execution.clone())));
                Some(StillRunning { arn, deletes, cancelled, shown })
            }
            Self::Unknown(arn, _) => Some(StillRunning::unseen(Some(arn.clone()), task.settings.delete)),
        }
    }
}
