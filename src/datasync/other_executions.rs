//! The executions of a task as another writer: one may start while a direct sync works.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::arn::ExecutionArn;
use super::{DataSync, Task};
use crate::sync::guard::Guard;
use crate::sync::other_writer::OtherWriter;

/// The executions of a task beside a direct sync.
#[derive(Debug)]
pub(crate) struct OtherExecutions {
    pub(crate) datasync: DataSync,
    pub(crate) task: Task,
    /// The execution that is known to have ended.
    pub(crate) ended: Option<ExecutionArn>,
}

impl OtherWriter for OtherExecutions {
    fn guard(&self) -> BoxFuture<'_, Option<Guard>> {
        async { self.datasync.beside(&self.task, self.ended.as_ref()).await.guard() }.boxed()
    }
}
