//! An execution that may still be running when the direct sync starts: it may write, and perhaps delete, at any moment.

use super::arn::ExecutionArn;
use super::execution::Execution;
use crate::sync::guard::Guard;

/// What a new description of the task shows beside a direct sync.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Beside {
    /// No execution is running.
    Nothing,
    /// An execution may be running.
    Execution(StillRunning),
    /// The task has other filters, a changed manifest or other options than when the run started.
    OtherSettings,
}

impl Beside {
    /// The guard that withholds every delete now, if one does.
    pub(crate) fn guard(&self) -> Option<Guard> {
        match self {
            Self::Nothing => None,
            Self::Execution(running) => Some(running.guard()),
            Self::OtherSettings => Some(Guard::TaskUnknown),
        }
    }
}

/// An execution that may still be running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StillRunning {
    /// `None` if the run knows only that there may be one.
    pub(crate) arn: Option<ExecutionArn>,
    /// Whether the execution may delete objects itself.
    pub(crate) deletes: bool,
    /// Whether a run asked DataSync to cancel it.
    pub(crate) cancelled: bool,
    /// Its last description, if there is one.
    pub(crate) shown: Option<Box<Execution>>,
}

impl std::fmt::Display for StillRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.arn {
            Some(arn) => write!(f, "execution {arn}"),
            None => f.write_str("an execution"),
        }
    }
}

impl StillRunning {
    /// An execution that DataSync did not describe.
    pub(super) const fn unseen(arn: Option<ExecutionArn>, deletes: bool) -> Self {
        Self { arn, deletes, cancelled: false, shown: None }
    }

    /// The guard that withholds every delete beside it.
    pub(crate) fn guard(&self) -> Guard {
        Guard::DatasyncMayStillRun { execution: self.to_string() }
    }

    /// Why a sync beside this execution proves too little, if that is so.
    pub(crate) fn unguarded_deletes(&self) -> Option<String> {
        self.deletes.then(|| {
            format!(
                "DataSync may still be running {self}, which deletes objects without the guards of this program: \
                 cancel it or wait for its end, and run again"
            )
        })
    }
}
