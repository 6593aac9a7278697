//! Orphans: objects without a file, spooled to the end of the run in bounded memory.
//!
//! The guards need the result of the whole run, so no orphan is deleted before its end. Orphans beyond
//! [`IN_MEMORY_BYTES`] go to a temporary file.

use std::io::{self, BufRead, BufReader, Seek, Write};

use serde::{Deserialize, Serialize};
use tempfile::SpooledTempFile;

use crate::destination::delete::{DeleteTarget, MAX_BATCH};
use crate::key::RelativeKey;
use crate::object::{ETag, Object};
use crate::sync::guard::Guard;

/// Pending deletes up to this size stay in memory; more go to a temporary file.
const IN_MEMORY_BYTES: usize = 4 << 20;

/// Orphans found so far, in order.
#[derive(Debug)]
pub(crate) struct Orphans {
    spool: SpooledTempFile,
    count: u64,
    /// Why not all orphans could be spooled.
    lost: Option<io::Error>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    key: RelativeKey,
    etag: String,
    size: u64,
}

impl Default for Orphans {
    fn default() -> Self {
        Self { spool: SpooledTempFile::new(IN_MEMORY_BYTES), count: 0, lost: None }
    }
}

impl Orphans {
    /// Adds an orphan.
    pub(crate) fn push(&mut self, object: &Object) {
        self.count += 1;
        if self.lost.is_some() {
            return;
        }
        let line = Line { key: object.key.clone(), etag: object.etag.text(), size: object.size_bytes };
        let written = serde_json::to_vec(&line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.spool.write_all(&line)
        });
        self.lost = written.err();
    }

    /// How many orphans there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The guard that applies if not all orphans could be spooled.
    pub(super) fn spill_guard(&self) -> Option<Guard> {
        self.lost.as_ref().map(|error| spill_guard(error, self.count))
    }

    /// The orphans in batches, in order.
    pub(in crate::sync) fn batches(&mut self) -> io::Result<impl Iterator<Item = io::Result<Vec<DeleteTarget>>> + '_> {
        self.spool.rewind()?;
        let mut lines = BufReader::new(&mut self.spool).lines();
        Ok(std::iter::from_fn(move || {
            let batch: io::Result<Vec<DeleteTarget>> =
                lines.by_ref().take(MAX_BATCH).map(|line| read_line(&line?)).collect();
            batch.map(|batch| Some(batch).filter(|batch| !batch.is_empty())).transpose()
        }))
    }
}

fn read_line(line: &str) -> io::Result<DeleteTarget> {
    let Line { key, etag, size } = serde_json::from_str(line)?;
    Ok(DeleteTarget { key, etag: ETag::new(&etag), size_bytes: size })
}

/// The guard that withholds deletes if the temporary folder fails.
pub(super) fn spill_guard(error: &io::Error, deletes: u64) -> Guard {
    Guard::Spill { deletes, error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::StorageClass;
    use crate::time::EpochNanos;

    #[test]
    fn any_number_of_orphans_comes_back_in_order_whatever_their_names() {
        let mut orphans = Orphans::default();
        let key = |number: u64| RelativeKey::new(format!("{number:06}\n\u{1}\"é{}", "x".repeat(100)));
        for number in 0..60_000 {
            orphans.push(&Object {
                key: key(number),
                size_bytes: 1,
                etag: ETag::new("e"),
                last_modified: EpochNanos(0),
                storage_class: StorageClass::Standard,
            });
        }
        assert!(orphans.spool.is_rolled(), "more than fits in memory went to a file");
        let batches: Vec<Vec<DeleteTarget>> = orphans.batches().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(batches.iter().all(|batch| batch.len() == MAX_BATCH));
        assert!(batches.iter().flatten().zip(0..).all(|(doomed, number)| doomed.key == key(number)));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 60_000);
    }
}
