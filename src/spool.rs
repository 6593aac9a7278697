//! Spool: records in key order, in bounded memory.
//!
//! Records arrive in any order. Beyond [`IN_MEMORY_BYTES`], they go to a temporary file as sorted chunks. Reading the
//! spool merges the chunks. Of several records with the same key, the last one counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use csv::{ByteRecord, QuoteStyle, StringRecord};

use crate::key::RelativeKey;
use crate::open_files::when_one_is_free;

mod span;

pub(crate) use span::FileSpan;

/// Records up to about this size stay in memory.
const IN_MEMORY_BYTES: usize = 8 << 20;
/// The memory that a record takes besides its key.
const RECORD_BYTES: usize = 200;

/// A record of a spool, and its fields in the temporary file: at least two, because CSV has no line for one empty field.
pub(crate) trait SpoolRecord: Sized {
    fn key(&self) -> &RelativeKey;
    fn fields(&self) -> ByteRecord;
    fn of_fields(fields: &StringRecord) -> Option<Self>;
}

/// The records so far.
#[derive(Debug)]
pub(crate) struct Spool<R> {
    in_memory: Vec<R>,
    memory_bytes: usize,
    /// Sorted chunks, one after the other in the temporary file.
    chunks: Vec<FileSpan>,
    /// Why the spool stores no further records.
    pub(crate) error: Option<io::Error>,
}

impl<R> Default for Spool<R> {
    fn default() -> Self {
        Self { in_memory: Vec::new(), memory_bytes: 0, chunks: Vec::new(), error: None }
    }
}

impl<R: SpoolRecord> Spool<R> {
    /// Adds a record, unless an earlier one could not be stored.
    pub(crate) fn push(&mut self, record: R) {
        if self.error.is_some() {
            return;
        }
        self.memory_bytes += 2 * record.key().as_str().len() + RECORD_BYTES;
        self.in_memory.push(record);
        if self.memory_bytes > IN_MEMORY_BYTES {
            self.error = self.spill().err();
        }
    }

    /// Calls `each` with every record, in no order. Of several records with the same key, all are passed.
    pub(crate) fn each(&self, mut each: impl FnMut(&R)) -> io::Result<()>
    where
        R: Send + 'static,
    {
        self.in_memory.iter().for_each(&mut each);
        self.chunks.iter().cloned().flat_map(read_chunk).try_for_each(|record| record.map(|record| each(&record)))
    }

    /// Whether no record was pushed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.in_memory.is_empty() && self.chunks.is_empty()
    }

    #[cfg(test)]
    pub(crate) const fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let (file, offset) = match self.chunks.last() {
            Some(last) => (Arc::clone(&last.file), last.end),
            None => (Arc::new(when_one_is_free(tempfile::tempfile)?), 0),
        };
        let span = FileSpan { file, offset, end: u64::MAX };
        // A reader drops a byte order mark from its first bytes, unless it is quoted: a key may start with one.
        let mut lines =
            csv::WriterBuilder::new().flexible(true).quote_style(QuoteStyle::Always).from_writer(span.clone());
        for record in &self.in_memory {
            lines.write_byte_record(&record.fields())?;
        }
        let end = lines.into_inner().map_err(csv::IntoInnerError::into_error)?.offset;
        self.chunks.push(FileSpan { end, ..span });
        self.in_memory.clear();
        self.memory_bytes = 0;
        Ok(())
    }

    fn sort(&mut self) {
        self.in_memory.sort_by(|one, other| one.key().cmp(other.key()));
    }

    /// Returns the records in the order of their keys, and the last one of each key.
    pub(crate) fn in_order(mut self) -> io::Result<InOrder<R>>
    where
        R: Send + 'static,
    {
        self.sort();
        let mut chunks: Vec<Chunk<R>> = self.chunks.into_iter().map(read_chunk).collect();
        chunks.push(Box::new(self.in_memory.into_iter().map(Ok)));
        let mut in_order = InOrder { heads: BTreeMap::new(), chunks };
        (0..in_order.chunks.len()).try_for_each(|number| in_order.pull(number))?;
        Ok(in_order)
    }
}

type Chunk<R> = Box<dyn Iterator<Item = io::Result<R>> + Send>;

/// The records of a spool in order.
pub(crate) struct InOrder<R> {
    /// The next record of each chunk, by its key and the number of the chunk.
    heads: BTreeMap<(RelativeKey, usize), R>,
    chunks: Vec<Chunk<R>>,
}

impl<R: SpoolRecord> InOrder<R> {
    fn pull(&mut self, chunk: usize) -> io::Result<()> {
        if let Some(record) = self.chunks.get_mut(chunk).and_then(Iterator::next).transpose()? {
            self.heads.insert((record.key().clone(), chunk), record);
        }
        Ok(())
    }
}

impl<R: SpoolRecord> Iterator for InOrder<R> {
    type Item = io::Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let ((key, chunk), record) = self.heads.pop_first()?;
            if let Err(error) = self.pull(chunk) {
                return Some(Err(error));
            }
            let is_replaced = self.heads.first_key_value().is_some_and(|((next, _), _)| *next == key);
            if !is_replaced {
                return Some(Ok(record));
            }
        }
    }
}

fn read_chunk<R: SpoolRecord + Send + 'static>(chunk: FileSpan) -> Chunk<R> {
    let lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(chunk);
    Box::new(lines.into_records().map(|fields| {
        R::of_fields(&fields?).ok_or_else(|| io::Error::other("the temporary file does not hold what was written"))
    }))
}
