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

impl std::fmt::Display for StillRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.arn {
            Some(arn) => write!(f, "execution {arn}"),
            None => f.write_str("an execution"),
        }
    }
}

impl StillRunning {
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
