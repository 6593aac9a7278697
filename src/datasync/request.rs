//! The request of a run to an execution: the filters, deletes and overwriting that differ from the task's, and the options
//! that no start can pass on.

use super::filters::Filters;
use super::options::ExecutionOptions;
use super::task::Task;

/// Which deletes an execution that the attempt starts may do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnDeletes {
    /// Those of the task: with `PreserveDeletedFiles=REMOVE`, all orphans, without a guard.
    AsTask,
    /// None: a start overrides `PreserveDeletedFiles=REMOVE`.
    None,
}

/// What a run requires of an execution of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) deletes: OwnDeletes,
    /// `OverwriteMode=NEVER`
    pub(crate) overwrite_never: bool,
    pub(crate) filters: Filters,
    /// The options of the run that decide what the destination holds and that a start cannot pass on, as `--name value`.
    pub(crate) beyond: Vec<String>,
}

impl Request {
    /// The settings of the task, without its deletes.
    pub(crate) fn of_task(task: &Task) -> Self {
        let (filters, overwrite_never) = (task.settings.filters(), task.settings.overwrite_never);
        Self { deletes: OwnDeletes::None, overwrite_never, filters, beyond: Vec::new() }
    }

    /// The options that the execution must have; unknown if DataSync did not describe those of the task.
    pub(super) fn options(&self, task: &Task) -> Option<ExecutionOptions> {
        let mut options = task.options.clone()?;
        if self.deletes == OwnDeletes::None && options.delete() {
            options = options.preserving();
        }
        if options.overwrites_never() != self.overwrite_never {
            options = options.overwriting(self.overwrite_never);
        }
        Some(options)
    }

    /// The options that a start must override.
    pub(super) fn overrides(&self, task: &Task) -> Option<ExecutionOptions> {
        self.options(task).filter(|options| Some(options) != task.options.as_ref())
    }

    /// The filters that a start must override. The API documents no rule for a filter that a request leaves out, so a
    /// request names both.
    pub(super) fn other_filters(&self, task: &Task) -> Option<&Filters> {
        Some(&self.filters).filter(|filters| **filters != task.settings.filters())
    }

    /// Whether an execution with these deletes may delete.
    pub(super) fn allows_deletes(&self, task: &Task) -> bool {
        self.deletes == OwnDeletes::AsTask && task.settings.delete
    }
}
