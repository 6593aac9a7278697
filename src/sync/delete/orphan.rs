//! Orphans: objects without a file, spooled to the end of the run in bounded memory.
//!
//! The guards need the result of the whole run, so no orphan is deleted before its end.

use std::io;

use csv::{ByteRecord, StringRecord};

use crate::destination::delete::{DeleteTarget, MAX_BATCH};
use crate::key::RelativeKey;
use crate::object::{ETag, Object};
use crate::spool::{Spool, SpoolRecord};
use crate::sync::guard::Guard;
use crate::time::EpochNanos;

/// Orphans found so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    spool: Spool<DeleteTarget>,
    count: u64,
}

impl SpoolRecord for DeleteTarget {
    fn key(&self) -> &RelativeKey {
        &self.key
    }

    fn fields(&self) -> ByteRecord {
        let numbers = [self.size_bytes.to_string(), self.last_modified.0.to_string()];
        ByteRecord::from(vec![self.key.as_str(), &self.etag.text(), &numbers[0], &numbers[1]])
    }

    fn of_fields(fields: &StringRecord) -> Option<Self> {
        let (key, etag) = (RelativeKey::new(fields.get(0)?), ETag::new(fields.get(1)?));
        let (size_bytes, last_modified) = (fields.get(2)?.parse().ok()?, EpochNanos(fields.get(3)?.parse().ok()?));
        Some(Self { key, etag, size_bytes, last_modified })
    }
}

impl Orphans {
    /// Adds an orphan.
    pub(crate) fn push(&mut self, object: &Object) {
        self.count += 1;
        let (key, etag) = (object.key.clone(), object.etag.clone());
        let Object { size_bytes, last_modified, .. } = *object;
        self.spool.push(DeleteTarget { key, etag, size_bytes, last_modified });
    }

    /// How many orphans there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// How many orphans are like this.
    pub(super) fn count_of(&self, is_counted: impl Fn(&DeleteTarget) -> bool) -> io::Result<u64> {
        let mut count = 0;
        self.spool.each(|target| count += u64::from(is_counted(target)))?;
        Ok(count)
    }

    /// The guard that applies if not all orphans could be spooled.
    pub(super) fn spill_guard(&self) -> Option<Guard> {
        self.spool.error.as_ref().map(spill_guard)
    }

    /// Why not all orphans could be spooled.
    pub(in crate::sync) fn spool_error(&mut self) -> Option<io::Error> {
        self.spool.error.take()
    }

    /// The orphans in batches, in order.
    pub(in crate::sync) fn batches(&mut self) -> io::Result<impl Iterator<Item = io::Result<Vec<DeleteTarget>>>> {
        let mut orphans = std::mem::take(&mut self.spool).in_order()?;
        Ok(std::iter::from_fn(move || {
            let batch: io::Result<Vec<DeleteTarget>> = orphans.by_ref().take(MAX_BATCH).collect();
            batch.map(|batch| Some(batch).filter(|batch| !batch.is_empty())).transpose()
        }))
    }
}

/// The guard that withholds deletes if the temporary folder fails.
pub(super) fn spill_guard(error: &io::Error) -> Guard {
    Guard::Spill { error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::StorageClass;

    #[test]
    fn any_number_of_orphans_is_read_in_order_whatever_their_names() {
        let mut orphans = Orphans::default();
        let key = |number: u64| RelativeKey::new(format!("\u{feff}{number:06}\n\u{1}\"é{}", "x".repeat(100)));
        for number in 0..60_000 {
            orphans.push(&Object {
                key: key(number),
                size_bytes: 1,
                etag: ETag::new("e"),
                last_modified: EpochNanos(0),
                storage_class: StorageClass::Standard,
            });
        }
        assert!(orphans.spool.chunks() > 0, "more than fits in memory went to a file");
        let batches: Vec<Vec<DeleteTarget>> = orphans.batches().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(batches.iter().all(|batch| batch.len() == MAX_BATCH));
        assert!(batches.iter().flatten().zip(0..).all(|(target, number)| target.key == key(number)));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 60_000);
    }
}
