//! Edits: what a run learns that differs from the index, in any order and any number, in bounded memory.
//!
//! Files are settled in any order, but an index is in key order. Edits beyond [`IN_MEMORY_BYTES`] are written to a
//! temporary file as sorted chunks. At the end of the run, the chunks and the old rows are merged. A run without edits
//! writes no index.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::sync::Arc;

use csv::StringRecord;

use super::file::{Reader, Writer, fields, row_of};
use super::place::Place;
use super::row::Row;
use crate::key::RelativeKey;

/// Edits up to about this size stay in memory.
const IN_MEMORY_BYTES: usize = 8 << 20;
/// What a row takes besides its key.
const ROW_BYTES: usize = 200;

/// A row, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    key: RelativeKey,
    row: Option<Row>,
}

/// Edits so far.
#[derive(Debug, Default)]
pub(super) struct Edits {
    in_memory: Vec<Edit>,
    memory_bytes: usize,
    spilled: Option<Spilled>,
    /// Why not all of them could be kept.
    lost: Option<io::Error>,
}

/// Sorted stretches, one behind the other in a file that has no name.
#[derive(Debug)]
struct Spilled {
    file: Arc<File>,
    stretches: Vec<(u64, u64)>,
    end: u64,
}

impl Edit {
    pub(super) fn put(row: Row) -> Self {
        Self { key: row.key.clone(), row: Some(row) }
    }

    pub(super) const fn forget(key: RelativeKey) -> Self {
        Self { key, row: None }
    }
}

impl Edits {
    pub(super) const fn is_empty(&self) -> bool {
        self.in_memory.is_empty() && self.spilled.is_none() && self.lost.is_none()
    }

    /// Takes another one. At most one of each key counts, the last.
    pub(super) fn push(&mut self, edit: Edit) {
        if self.lost.is_some() {
            return;
        }
        self.memory_bytes += 2 * edit.key.as_str().len() + ROW_BYTES;
        self.in_memory.push(edit);
        if self.memory_bytes > IN_MEMORY_BYTES {
            self.lost = self.spill().err();
        }
    }

    #[cfg(test)]
    pub(super) fn spilled_stretches(&self) -> usize {
        self.spilled.as_ref().map_or(0, |spilled| spilled.stretches.len())
    }

    fn sorted(&mut self) -> Vec<Edit> {
        self.memory_bytes = 0;
        let mut edits = std::mem::take(&mut self.in_memory);
        edits.sort_by(|one, other| one.key.cmp(&other.key));
        edits
    }

    fn spill(&mut self) -> io::Result<()> {
        let edits = self.sorted();
        let mut spilled = match self.spilled.take() {
            Some(spilled) => spilled,
            None => Spilled { file: Arc::new(tempfile::tempfile()?), stretches: Vec::new(), end: 0 },
        };
        let place = Place { file: Arc::clone(&spilled.file), offset: spilled.end, end: u64::MAX };
        let mut lines = csv::WriterBuilder::new().flexible(true).from_writer(BufWriter::new(place));
        for Edit { key, row } in &edits {
            match row {
                Some(row) => lines.write_record(fields(row).iter())?,
                // Two fields: an empty key alone would be an empty line.
                None => lines.write_record([key.as_str(), ""])?,
            }
        }
        let buffer = lines.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let end = buffer.into_inner().map_err(io::IntoInnerError::into_error)?.offset;
        spilled.stretches.push((spilled.end, end));
        spilled.end = end;
        self.spilled = Some(spilled);
        Ok(())
    }

    /// Writes the old rows with the edits made to them.
    pub(super) fn merge_into<W: Write>(mut self, old: Option<Reader>, mut new: Writer<W>) -> io::Result<()> {
        if let Some(error) = self.lost.take() {
            return Err(error);
        }
        let mut edits = self.in_order()?;
        for row in old.into_iter().flatten() {
            let row = row.map_err(io::Error::other)?;
            while edits.next_key().is_some_and(|key| *key < row.key) {
                write(&mut new, edits.advance()?)?;
            }
            if edits.next_key() == Some(&row.key) {
                write(&mut new, edits.advance()?)?;
            } else {
                new.write(&row)?;
            }
        }
        while edits.next_key().is_some() {
            write(&mut new, edits.advance()?)?;
        }
        new.finish()
    }

    /// All edits in the order of their keys, and the last of each key.
    fn in_order(mut self) -> io::Result<InOrder> {
        let last = self.sorted();
        let mut stretches: Vec<Stretch> = Vec::new();
        if let Some(Spilled { file, stretches: spilled, .. }) = self.spilled {
            for (offset, end) in spilled {
                stretches.push(stretch(Place { file: Arc::clone(&file), offset, end }));
            }
        }
        stretches.push(Box::new(last.into_iter().map(Ok)));
        let mut in_order = InOrder { heads: BinaryHeap::new(), stretches };
        (0..in_order.stretches.len()).try_for_each(|number| in_order.pull(number))?;
        Ok(in_order)
    }
}

type Stretch = Box<dyn Iterator<Item = io::Result<Edit>> + Send>;

/// Sorted stretches put together.
struct InOrder {
    /// The first edit of each stretch that has one.
    heads: BinaryHeap<Reverse<Head>>,
    stretches: Vec<Stretch>,
}

/// By key; of one key the earlier stretch comes first.
struct Head {
    edit: Edit,
    stretch: usize,
}

impl InOrder {
    fn pull(&mut self, stretch: usize) -> io::Result<()> {
        if let Some(edit) = self.stretches.get_mut(stretch).and_then(Iterator::next).transpose()? {
            self.heads.push(Reverse(Head { edit, stretch }));
        }
        Ok(())
    }

    fn pop(&mut self) -> io::Result<Option<Edit>> {
        let Some(Reverse(Head { edit, stretch })) = self.heads.pop() else {
            return Ok(None);
        };
        self.pull(stretch)?;
        Ok(Some(edit))
    }

    fn next_key(&self) -> Option<&RelativeKey> {
        self.heads.peek().map(|Reverse(head)| &head.edit.key)
    }

    /// The next key's last edit.
    fn advance(&mut self) -> io::Result<Option<Edit>> {
        let mut last = self.pop()?;
        while last.as_ref().is_some_and(|edit| self.next_key() == Some(&edit.key)) {
            last = self.pop()?;
        }
        Ok(last)
    }
}

impl Head {
    fn order(&self) -> (&RelativeKey, usize) {
        (&self.edit.key, self.stretch)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

fn write<W: Write>(new: &mut Writer<W>, edit: Option<Edit>) -> io::Result<()> {
    edit.and_then(|edit| edit.row).map_or(Ok(()), |row| new.write(&row))
}

fn stretch(place: Place) -> Stretch {
    let lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(BufReader::new(place));
    Box::new(lines.into_records().map(|record| edit_of(&record?)))
}

fn edit_of(record: &StringRecord) -> io::Result<Edit> {
    if record.len() == 2 {
        return Ok(Edit::forget(RelativeKey::new(record.get(0).unwrap_or_default())));
    }
    let row =
        row_of(record).ok_or_else(|| io::Error::other("the temporary file holds something else than was written"))?;
    Ok(Edit::put(row))
}
