//! The index: what each object held when it was last known equal to its file.
//!
//! With it a run tells a file that changed from one that did not by its exact times, owner and mode, and an object that
//! somebody else replaced by the plain listing, and asks S3 for nothing more.
//!
//! Times alone do not tell two files apart that were made in the same tick of the clock and then renamed: the inode does.
//! The device number does not belong to it, which is another one after each mount.
//!
//! 1. *A row that was true once is true for ever*: the object with this ETag, size and time holds what the file with these
//!    times held. So rows of another run, or of one that was killed, do no harm; one that fits neither side is not used.
//! 2. *What changed within the margin* of being looked at is not remembered: a later write may carry the same times.
//! 3. *Streamed*: the rows are read beside the merge, in the order of the keys; what differs from them is kept as edits and
//!    merged into a new index at the end. A run in which nothing differs writes none.
//! 4. *Never trusted*: damaged, cut off, of another destination or mode, or of a newer program, it is reported, ignored and
//!    written anew.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::key::RelativeKey;
use crate::metadata::Preserve;
use crate::scope::Scope;
use crate::state::{State, StateError};

mod edit;
mod file;
mod place;
pub mod row;

use edit::{Edit, Edits};
use file::Reader;
pub use file::{Damage, Head};
use row::Row;

/// Rows are read on a thread of their own, so many at a time.
const BATCH_ROWS: usize = 1000;
const BATCHES_AHEAD: usize = 4;

/// The index of one destination, as one run reads it and adds to it.
#[derive(Debug)]
pub struct Index {
    name: String,
    head: Head,
    /// The rows so far, where there are any that can be trusted.
    file: Option<Arc<File>>,
    rows: tokio::sync::Mutex<Rows>,
    edits: Mutex<Edits>,
}

/// The rows in order, one looked at in advance.
#[derive(Debug)]
struct Rows {
    batches: mpsc::Receiver<Result<Vec<Row>, Damage>>,
    batch: std::iter::Peekable<std::vec::IntoIter<Row>>,
    damaged: bool,
}

impl Head {
    /// Of a destination, for a mode that keeps these attributes as metadata.
    #[must_use]
    pub fn new(scope: &Scope, preserve: Option<Preserve>) -> Self {
        let mode = match preserve {
            None => "plain".to_owned(),
            Some(Preserve { mtime, atime, uid, gid, permissions }) => {
                let kept =
                    [(mtime, "mtime"), (atime, "atime"), (uid, "uid"), (gid, "gid"), (permissions, "permissions")];
                let kept = kept.into_iter().filter_map(|(is_kept, name)| is_kept.then_some(name));
                std::iter::once("datasync").chain(kept).collect::<Vec<_>>().join(" ")
            }
        };
        Self { destination: scope.to_string(), mode }
    }
}

impl Index {
    /// Opens the index of a destination; one that cannot be used is reported and counts as none.
    pub async fn open(state: &State, scope: &Scope, preserve: Option<Preserve>) -> Self {
        let (name, head) = (scope.file_name("index.csv.zst"), Head::new(scope, preserve));
        let file = match state.read_file(&name).await {
            Ok(file) => file.map(Arc::new),
            Err(error) => {
                tracing::warn!(%error, "the index cannot be read: as if nothing were remembered");
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
                tracing::warn!(name, "the index {damage}: it is ignored, and written anew");
                (None, None)
            }
        };
        let rows = Rows::read(reader);
        Self { name, head, file, rows: tokio::sync::Mutex::new(rows), edits: Mutex::default() }
    }

    /// What is remembered at a key. Keys must ascend from call to call; what is remembered of keys between two calls
    /// belongs to nothing that is there now, and is forgotten.
    pub async fn recall(&self, key: &RelativeKey) -> Option<Row> {
        let mut rows = self.rows.lock().await;
        loop {
            match rows.peek().await {
                Some(row) if row.key < *key => self.forget_next(&mut rows),
                Some(row) if row.key == *key => return rows.batch.next(),
                Some(_) | None => return None,
            }
        }
    }

    /// There are no more keys: what is left belongs to nothing that is there now.
    pub async fn recall_no_more(&self) {
        let mut rows = self.rows.lock().await;
        while rows.peek().await.is_some() {
            self.forget_next(&mut rows);
        }
    }

    /// Brings each key that is remembered before `each`, in order. False where there is no index, or where it breaks off.
    pub async fn for_each_key(&self, mut each: impl FnMut(&RelativeKey)) -> bool {
        let mut rows = self.rows.lock().await;
        while rows.peek().await.is_some() {
            if let Some(row) = rows.batch.next() {
                each(&row.key);
            }
        }
        self.file.is_some() && !rows.damaged
    }

    fn forget_next(&self, rows: &mut Rows) {
        if let Some(row) = rows.batch.next() {
            self.edit(Edit::forget(row.key));
        }
    }

    /// Remembers, from the next run on.
    pub fn remember(&self, row: Row) {
        self.edit(Edit::put(row));
    }

    /// Forgets what is remembered at a key.
    pub fn forget(&self, key: &RelativeKey) {
        self.edit(Edit::forget(key.clone()));
    }

    fn edit(&self, edit: Edit) {
        self.edits.lock().unwrap_or_else(PoisonError::into_inner).push(edit);
    }

    /// Writes the index anew, if anything differs from it.
    pub async fn write(&self, state: &State) {
        let edits = std::mem::take(&mut *self.edits.lock().unwrap_or_else(PoisonError::into_inner));
        if edits.is_empty() {
            return;
        }
        if let Err(error) = self.merge(state, edits).await {
            tracing::warn!(%error, "the index cannot be written: the next run compares as if this one had not been");
        }
    }

    async fn merge(&self, state: &State, edits: Edits) -> Result<(), StateError> {
        let mut new = state.new_file().await?;
        let (old, head) = (self.old_rows().await, self.head.clone());
        let written = tokio::task::spawn_blocking(move || -> io::Result<_> {
            edits.merge_into(old, file::Writer::new(&mut new, &head)?)?;
            Ok(new)
        });
        let new = written.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        state.publish(&self.name, new.map_err(|error| StateError::in_file(&self.name, error))?).await
    }

    /// The rows that the edits are made to; none if reading them came upon damage.
    async fn old_rows(&self) -> Option<Reader> {
        let is_damaged = self.rows.lock().await.damaged;
        let file = self.file.as_ref().filter(|_| !is_damaged)?;
        open(file, &self.head).await.ok()
    }
}

/// Looks at all of the file first, which may be large.
async fn open(file: &Arc<File>, head: &Head) -> Result<Reader, Damage> {
    let (file, head) = (Arc::clone(file), head.clone());
    let opened = tokio::task::spawn_blocking(move || Reader::open(&file, &head));
    opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

impl Rows {
    fn read(reader: Option<Reader>) -> Self {
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
        Self { batches, batch: Vec::new().into_iter().peekable(), damaged: false }
    }

    async fn peek(&mut self) -> Option<&Row> {
        while self.batch.peek().is_none() {
            match self.batches.recv().await {
                Some(Ok(batch)) => self.batch = batch.into_iter().peekable(),
                Some(Err(damage)) => {
                    tracing::warn!("the index {damage}: from here on it is as if nothing were remembered");
                    self.damaged = true;
                }
                None => return None,
            }
        }
        self.batch.peek()
    }
}

#[cfg(test)]
mod tests;
