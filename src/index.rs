//! Index: what each object held when it last equalled its file, one row for each key.
//!
//! With the index, a run detects a changed file by its exact times, owner, mode and inode, and a replaced object by the
//! listing alone. It sends no more requests for that.
//!
//! 1. *An outdated row cannot cause a wrong result* (`DESIGN.md#outdated-rows`).
//! 2. *The row of a file that changed within the margin fits no file*, because a later write may leave the same times.
//! 3. *Rows are streamed*: the run reads them beside the merge, in key order. It spools what differs, and merges it with
//!    the old rows at its end. A run in which nothing differs writes no index.
//! 4. *An index is untrusted input*. The run reports, ignores and rebuilds an index that is damaged or truncated, or
//!    that belongs to another destination, endpoint or schema.
//! 5. *The rows of another mode* show only that the content of a file is equal (`DESIGN.md#change-of-mode`).

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::key::RelativeKey;
use crate::metadata::Preserve;
use crate::scope::Scope;
use crate::spool::Spool;
use crate::state::{State, StateError};
use crate::store::Store;

mod edit;
mod file;
pub mod row;

use edit::Edit;
pub(crate) use edit::Removals;
use file::{Damage, Head, RowReader};
use row::Row;

/// A thread reads batches of this many rows, and is this many batches ahead.
const BATCH_ROWS: usize = 1000;
const BATCHES_AHEAD: usize = 4;

/// The index of one scope, as one run reads and edits it.
#[derive(Debug)]
pub struct Index {
    name: String,
    head: Head,
    /// The old index, if there is one that can be used.
    file: Option<Arc<File>>,
    is_of_other_mode: bool,
    rows: tokio::sync::Mutex<Rows>,
    edits: Mutex<Spool<Edit>>,
}

/// The old rows in order.
#[derive(Debug)]
struct Rows {
    batches: mpsc::Receiver<Result<Vec<Row>, Damage>>,
    batch: std::iter::Peekable<std::vec::IntoIter<Row>>,
    is_damaged: bool,
}

impl Index {
    /// Opens the index of a scope. An index that cannot be used is reported and counts as absent.
    pub async fn open(state: &State, scope: &Scope, store: &Store, preserve: Option<Preserve>) -> Self {
        let (name, head) = (scope.file_name("index.csv.zst"), Head::new(scope, store, preserve));
        let file = match state.open_file(&name).await {
            Ok(file) => file.map(Arc::new),
            Err(error) => {
                tracing::warn!(%error, "cannot read the index: continuing without it");
                None
            }
        };
        let opened = match &file {
            Some(file) => open(file, &head).await.map(Some),
            None => Ok(None),
        };
        let (file, reader) = match opened {
            Ok(reader) => (file, reader),
            Err(damage) => {
                tracing::warn!(name, "the index {damage}: ignoring it, and rebuilding it");
                (None, None)
            }
        };
        let is_of_other_mode = reader.as_ref().is_some_and(|reader| reader.is_of_other_mode);
        if is_of_other_mode {
            tracing::info!(name, "a run in another mode wrote the index: comparing links and directories again");
        }
        let rows = tokio::sync::Mutex::new(Rows::read(reader));
        Self { name, head, file, is_of_other_mode, rows, edits: Mutex::default() }
    }

    /// Whether a run in another mode wrote the index.
    pub(crate) const fn is_of_other_mode(&self) -> bool {
        self.is_of_other_mode
    }

    /// Whether no earlier run has left an index that can be used.
    pub(crate) const fn is_absent(&self) -> bool {
        self.file.is_none()
    }

    /// Takes the row of a key. Keys must ascend from call to call: the rows between two calls belong to no key of the
    /// merge, and are removed.
    pub async fn take_row(&self, key: &RelativeKey) -> Option<Row> {
        let mut rows = self.rows.lock().await;
        loop {
            match rows.peek().await {
                Some(row) if row.key < *key => self.remove_next(&mut rows),
                Some(row) if row.key == *key => return rows.batch.next(),
                Some(_) | None => return None,
            }
        }
    }

    /// Removes the rows after the last key of the merge.
    pub(crate) async fn remove_remaining(&self) {
        let mut rows = self.rows.lock().await;
        while rows.peek().await.is_some() {
            self.remove_next(&mut rows);
        }
    }

    /// Returns whether an earlier run recorded a row with such a key.
    pub(crate) async fn has_row(&self, is_wanted: impl Fn(&RelativeKey) -> bool) -> bool {
        let Some(rows) = self.old_rows().await else { return false };
        rows.map_while(Result::ok).any(|row| is_wanted(&row.key))
    }

    /// Reads the row of a key, and keeps all rows. Keys must ascend from call to call.
    pub(crate) async fn read_row(&self, key: &RelativeKey) -> Option<Row> {
        let mut rows = self.rows.lock().await;
        while rows.peek().await.is_some_and(|row| row.key < *key) {
            rows.batch.next();
        }
        let is_found = rows.peek().await.is_some_and(|row| row.key == *key);
        if is_found { rows.batch.next() } else { None }
    }

    /// Calls `each` with the key of each row, in order. Returns `false` if there is no index, or if it is damaged.
    pub(crate) async fn for_each_key(&self, mut each: impl FnMut(&RelativeKey)) -> bool {
        let mut rows = self.rows.lock().await;
        while rows.peek().await.is_some() {
            if let Some(row) = rows.batch.next() {
                each(&row.key);
            }
        }
        self.file.is_some() && !rows.is_damaged
    }

    fn remove_next(&self, rows: &mut Rows) {
        if let Some(row) = rows.batch.next() {
            self.edit(Edit { key: row.key, row: None });
        }
    }

    /// Records a row for the next run.
    pub(crate) fn record(&self, row: Row) {
        self.edit(Edit { key: row.key.clone(), row: Some(row) });
    }

    /// Removes the row of a key.
    pub(crate) fn remove(&self, key: &RelativeKey) {
        self.edit(Edit { key: key.clone(), row: None });
    }

    fn edit(&self, edit: Edit) {
        self.edits.lock().unwrap_or_else(PoisonError::into_inner).push(edit);
    }

    /// Writes a new index, if anything differs from the old one.
    pub(crate) async fn write(&self, state: &State, removals: Removals) {
        let edits = std::mem::take(&mut *self.edits.lock().unwrap_or_else(PoisonError::into_inner));
        if edits.is_empty() {
            return;
        }
        if let Err(error) = self.merge(state, edits, removals).await {
            tracing::warn!(%error, "cannot write the index: the next run compares without what this run recorded");
        }
    }

    async fn merge(&self, state: &State, edits: Spool<Edit>, removals: Removals) -> Result<(), StateError> {
        let mut new = state.new_file().await?;
        let (old, head) = (self.old_rows().await, self.head.clone());
        let merged = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let differs = edit::merge(edits, removals, old, file::RowWriter::new(&mut new, &head)?)?;
            Ok(differs.then_some(new))
        });
        let new = merged.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match new.map_err(|error| state.file_error(&self.name, error))? {
            Some(new) => state.publish(&self.name, new).await,
            None => Ok(()),
        }
    }

    /// The rows that the edits apply to. There are none if the run found damage while it read them.
    async fn old_rows(&self) -> Option<RowReader> {
        let is_damaged = self.rows.lock().await.is_damaged;
        let file = self.file.as_ref().filter(|_| !is_damaged)?;
        open(file, &self.head).await.ok()
    }
}

/// Opens the file on a thread of its own, because the checksum takes reading the whole file.
async fn open(file: &Arc<File>, head: &Head) -> Result<RowReader, Damage> {
    let (file, head) = (Arc::clone(file), head.clone());
    let opened = tokio::task::spawn_blocking(move || RowReader::open(&file, &head));
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

impl Rows {
    fn read(reader: Option<RowReader>) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        if let Some(mut reader) = reader {
            tokio::task::spawn_blocking(move || {
                loop {
                    let batch: Result<Vec<Row>, Damage> = reader.by_ref().take(BATCH_ROWS).collect();
                    let is_last = batch.as_ref().map_or(true, Vec::is_empty);
                    if sender.blocking_send(batch).is_err() || is_last {
                        return;
                    }
                }
            });
        }
        Self { batches, batch: Vec::new().into_iter().peekable(), is_damaged: false }
    }

    async fn peek(&mut self) -> Option<&Row> {
        while self.batch.peek().is_none() {
            match self.batches.recv().await {
                Some(Ok(batch)) => self.batch = batch.into_iter().peekable(),
                Some(Err(damage)) => {
                    tracing::warn!("the index {damage}: ignoring its remaining rows");
                    self.is_damaged = true;
                }
                None => return None,
            }
        }
        self.batch.peek()
    }
}

#[cfg(test)]
mod tests;
