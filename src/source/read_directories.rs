//! The read directories: what the walk saw of each directory before it read it, in key order and bounded memory, and the
//! youngest files that it saw.
//!
//! The walk reads each directory once, and what is moved into it afterwards is unseen. A run that would delete compares
//! these records with the directories as they are then: `source/unseen`.

use std::io;
use std::sync::{Mutex, PoisonError};

use csv::{ByteRecord, StringRecord};

use super::entry::Stat;
use super::seen_files::{Fingerprints, SeenFiles};
use crate::key::RelativeKey;
use crate::spool::{Spool, SpoolRecord};
use crate::time::EpochNanos;

/// The directories that one walk read.
#[derive(Debug, Default)]
pub(crate) struct ReadDirectories {
    directories: Mutex<Spool<ReadDirectory>>,
    files: Mutex<SeenFiles>,
    /// The time of the first stat, by the host's clock.
    started: Mutex<Option<EpochNanos>>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadDirectory {
    /// Ends in `/`; empty for the root.
    pub(super) key: RelativeKey,
    pub(super) inode: (u64, u64),
    pub(super) mtime: EpochNanos,
    pub(super) ctime: EpochNanos,
    /// Whether any part of its path is a followed link.
    pub(super) through_link: bool,
}

impl ReadDirectories {
    /// Adds a directory by the stat that was made before it was read.
    pub(super) fn add(&self, key: &str, stat: &Stat, through_link: bool) {
        let Stat { inode, mtime, ctime, .. } = *stat;
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started = Some(started.map_or(stat.seen_at, |started| started.min(stat.seen_at)));
        drop(started);
        let record = ReadDirectory { key: RelativeKey::new(key), inode, mtime, ctime, through_link };
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Adds a file of one of them.
    pub(super) fn add_file(&self, key: &str, stat: &Stat) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).add(key, stat);
    }

    /// Returns when the walk started, by the host's clock.
    pub(super) fn started(&self) -> Option<EpochNanos> {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out which files the walk saw.
    pub(super) fn take_files(&self) -> Fingerprints {
        std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner)).into_fingerprints()
    }

    /// Takes the records out, in key order.
    pub(super) fn take(&self) -> io::Result<impl Iterator<Item = io::Result<ReadDirectory>> + Send + use<>> {
        let mut spool = std::mem::take(&mut *self.directories.lock().unwrap_or_else(PoisonError::into_inner));
        match spool.error.take() {
            Some(error) => Err(error),
            None => spool.in_order(),
        }
    }
}

impl ReadDirectory {
    /// Whether a stat of the directory shows that no name came or went since.
    pub(super) fn is_unchanged(&self, now: &Stat) -> bool {
        (self.mtime, self.ctime) == (now.mtime, now.ctime)
    }
}

impl SpoolRecord for ReadDirectory {
    fn key(&self) -> &RelativeKey {
        &self.key
    }

    fn fields(&self) -> ByteRecord {
        let Self { key, inode: (device, inode), mtime, ctime, through_link } = self;
        let link = if *through_link { "link" } else { "" };
        let numbers = [device.to_string(), inode.to_string(), mtime.0.to_string(), ctime.0.to_string()];
        let fields = std::iter::once(key.as_str()).chain(numbers.iter().map(String::as_str)).chain([link]);
        ByteRecord::from(fields.collect::<Vec<_>>())
    }

    fn of_fields(fields: &StringRecord) -> Option<Self> {
        Some(Self {
            key: RelativeKey::new(fields.get(0)?),
            inode: (fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?),
            mtime: EpochNanos(fields.get(3)?.parse().ok()?),
            ctime: EpochNanos(fields.get(4)?.parse().ok()?),
            through_link: fields.get(5)? == "link",
        })
    }
}
