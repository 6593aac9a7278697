//! The set-up of a run: both sides opened, before anything has been done with them.

use std::sync::Arc;

use super::changes::ChangesWriter;
use super::context::Context;
use super::guard::Guard;
use super::manifest_object::ManifestObject;
use super::memory::Memory;
use super::other_writer::OtherWriter;
use super::rules::{DeleteRules, Rules, Suspect};
use super::survey::Input;
use crate::index::Index;

/// What a configuration opened: both sides, and the rules.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The context, still without what earlier runs recorded.
    pub(crate) context: Context,
    /// What the survey reads, or why the run cannot read it.
    pub(crate) input: Result<Input, String>,
    /// The manifest, if it is an object.
    pub(crate) manifest_object: Option<ManifestObject>,
}

/// What a DataSync execution before this sync leaves in doubt.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    /// Which objects executions may have written late, or wrong.
    pub suspect: Suspect,
    /// The guard that withholds every delete, because DataSync did not describe the task or may still be writing.
    pub guard: Option<Guard>,
    /// Who may have started to write since the run started.
    pub(crate) other_writer: Option<Arc<dyn OtherWriter>>,
    /// How many objects DataSync has deleted without a guard.
    pub already_deleted: u64,
    /// Why DataSync may have deleted, or may still delete, what no guard has seen: the run is then incomplete.
    pub unguarded_deletes: Option<String>,
    /// What DataSync may have written that this run does not allow: the run is then incomplete.
    pub unwanted_writes: Option<String>,
}

impl Doubt {
    /// Whether no execution can write something that this run does not know of.
    pub(crate) const fn shows_all_executions(&self) -> bool {
        self.guard.is_none()
    }

    /// What DataSync may have done that this run does not allow.
    pub(crate) fn violations(&self) -> Option<String> {
        let all: Vec<_> = [&self.unguarded_deletes, &self.unwanted_writes].into_iter().flatten().cloned().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Setup {
    /// Checks that what the survey reads is still the same, after the run has waited for DataSync.
    ///
    /// # Errors
    /// Returns an error, as a message, if it is not.
    pub(crate) async fn check_input_again(&self) -> Result<(), String> {
        match (&self.input, &self.manifest_object) {
            (Ok(Input::Manifest(read)), Some(object)) => object.check_again(read).await,
            _ => Ok(()),
        }
    }

    /// The context of the run.
    pub(crate) fn start(self, memory: Memory, doubt: &Doubt, changes: ChangesWriter) -> Arc<Context> {
        let Context { rules, delete_rules, .. } = self.context;
        let mode_changed = memory.index.as_ref().is_some_and(Index::is_of_other_mode);
        let rules = Rules { suspect: doubt.suspect, mode_changed, ..rules };
        let delete_rules = DeleteRules {
            of_doubt: doubt.guard.clone(),
            other_writer: doubt.other_writer.clone(),
            already_deleted: doubt.already_deleted,
            ..delete_rules
        };
        Arc::new(Context { rules, delete_rules, memory, changes, ..self.context })
    }
}
