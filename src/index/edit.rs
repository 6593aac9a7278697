//! Edit: one key at which the new index differs from the old one.
//!
//! Files are settled in any order, so a run spools its edits. At its end, it merges them with the old rows into a new
//! index. A run whose edits change nothing writes no index.

use std::io::{self, Write};

use csv::{ByteRecord, StringRecord};

use super::file::{RowReader, RowWriter, fields, row_of};
use super::row::Row;
use crate::key::RelativeKey;
use crate::spool::{Spool, SpoolRecord};

/// The new row of a key; `None` removes the row.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) key: RelativeKey,
    pub(super) row: Option<Row>,
}

impl SpoolRecord for Edit {
    fn key(&self) -> &RelativeKey {
        &self.key
    }

    fn fields(&self) -> ByteRecord {
        self.row.as_ref().map_or_else(|| ByteRecord::from(vec![self.key.as_str(), ""]), fields)
    }

    fn of_fields(fields: &StringRecord) -> Option<Self> {
        if fields.len() == 2 {
            return Some(Self { key: RelativeKey::new(fields.get(0)?), row: None });
        }
        row_of(fields).map(|row| Self { key: row.key.clone(), row: Some(row) })
    }
}

/// Whether a new index drops the rows of keys that the run found neither in the source nor at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removals {
    Apply,
    /// The source looks empty: the next run must still see that it had content.
    Ignore,
}

/// Writes the old rows with the edits applied. Returns whether the result differs from the old rows.
pub(super) fn merge<W: Write>(
    mut edits: Spool<Edit>,
    removals: Removals,
    old: Option<RowReader>,
    mut new: RowWriter<W>,
) -> io::Result<bool> {
    if let Some(error) = edits.error.take() {
        return Err(error);
    }
    let is_applied = |edit: &Edit| removals == Removals::Apply || edit.row.is_some();
    let edits = edits.in_order()?.filter(|edit| edit.as_ref().map_or(true, is_applied));
    let mut edits = edits.peekable();
    let mut differs = old.as_ref().is_none_or(|old| old.is_of_other_mode);
    for row in old.into_iter().flatten() {
        let row = row.map_err(io::Error::other)?;
        while let Some(edit) = edits.next_if(|edit| edit.as_ref().map_or(true, |edit| edit.key < row.key)) {
            let added = edit?.row;
            differs |= added.is_some();
            new.write(added.as_ref())?;
        }
        match edits.next_if(|edit| edit.as_ref().is_ok_and(|edit| edit.key == row.key)) {
            Some(edit) => {
                let edited = edit?.row;
                differs |= edited.as_ref() != Some(&row);
                new.write(edited.as_ref())?;
            }
            None => new.write(Some(&row))?,
        }
    }
    for edit in edits {
        let added = edit?.row;
        differs |= added.is_some();
        new.write(added.as_ref())?;
    }
    new.finish()?;
    Ok(differs)
}
