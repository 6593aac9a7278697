//! An execution that may still be running when the direct sync starts: it may write, and perhaps delete, at any moment.

use super::arn::ExecutionArn;

/// An execution that may still be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StillRunning {
    /// `None` if the run knows only that there may be one.
    pub(crate) arn: Option<ExecutionArn>,
    /// Whether the execution may delete objects itself.
    pub(crate) deletes: bool,
}

impl StillRunning {
    /// Why a sync beside this execution proves too little, if that is so.
    pub(crate) fn unguarded_deletes(&self) -> Option<String> {
        let execution = self.arn.as_ref().map_or("an execution".to_owned(), |arn| format!("execution {arn}"));
        self.deletes.then(|| {
            format!(
                "DataSync may still be running {execution}, which deletes objects without the guards of this program: \
                 cancel it or wait for its end, and run again"
            )
        })
    }
}
