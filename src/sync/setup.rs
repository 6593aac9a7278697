//! The set-up of a run: both sides opened, before anything has been done with them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::budget::ByteBudget;
use super::context::{Context, Memory};
use super::dialect::DialectInUse;
use super::rules::{DeleteRules, Rules, Suspect};
use super::survey::Input;
use crate::destination::Destination;
use crate::destination::headers::HeaderRules;
use crate::filter::Filter;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::source::Source;

/// A run that is ready to start. The fields are those of [`Context`].
#[derive(Debug)]
pub struct Setup {
    pub(crate) source: Source,
    pub(crate) destination: Destination,
    pub(crate) input: Input,
    pub(crate) rules: Rules,
    pub(crate) filter: Arc<Filter>,
    pub(crate) delete_rules: DeleteRules,
    pub(crate) headers: HeaderRules,
    pub(crate) dialect: DialectInUse,
    pub(crate) budget: ByteBudget,
    pub(crate) part_size: u64,
    pub(crate) multipart_threshold: u64,
    pub(crate) list_concurrency: usize,
    pub(crate) shutdown: Shutdown,
    pub(crate) progress: Progress,
}

/// What a DataSync execution before this sync leaves in doubt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt {
    /// Which objects the execution wrote.
    pub suspect: Option<Suspect>,
    /// Whether the execution may still be running.
    pub datasync_may_still_run: bool,
}

impl Setup {
    /// The context of the run, and what its survey reads.
    pub(crate) fn start(self, memory: Memory, doubt: Doubt) -> (Arc<Context>, Input) {
        let context = Context {
            source: self.source,
            destination: self.destination,
            rules: Rules { suspect: doubt.suspect, ..self.rules },
            filter: self.filter,
            delete_rules: DeleteRules { datasync_may_still_run: doubt.datasync_may_still_run, ..self.delete_rules },
            headers: self.headers,
            dialect: self.dialect,
            budget: self.budget,
            part_size: self.part_size,
            multipart_threshold: self.multipart_threshold,
            list_concurrency: self.list_concurrency,
            memory,
            shutdown: self.shutdown,
            progress: self.progress,
            read_for_compare: AtomicU64::new(0),
        };
        (Arc::new(context), self.input)
    }
}
