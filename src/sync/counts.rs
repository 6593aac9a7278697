//! Counts: how many entries, objects, bytes and seconds a run had. Their names are those of the report.

use serde::{Deserialize, Serialize};

/// How many entries and objects.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Counts {
    /// Regular files, followed links to files included.
    pub(crate) files: u64,
    /// Directories that count as entries of their own.
    pub(crate) directories: u64,
    /// Symbolic links that were not followed.
    pub(crate) symlinks: u64,
    /// Devices, sockets and FIFOs.
    pub(crate) special_skipped: u64,
    /// Entries that the filters leave out.
    pub(crate) filtered: u64,
    /// Objects listed.
    pub(crate) objects: u64,
    /// Files whose object is up to date.
    pub(crate) unchanged: u64,
    /// Files uploaded.
    pub(crate) uploaded: u64,
    /// Objects whose metadata alone was rewritten.
    pub(crate) metadata_rewritten: u64,
    /// Entries skipped for a reason that is not a failure.
    pub(crate) skipped: u64,
    /// Objects deleted.
    pub(crate) deleted: u64,
    /// Objects that a guard kept from being deleted.
    pub(crate) deletes_withheld: u64,
    /// Deletes that S3 refused.
    pub(crate) deletes_failed: u64,
    /// Entries of the source that failed.
    pub(crate) failed: u64,
}

/// How many bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ByteCounts {
    /// The size of all files together.
    pub(crate) source: u64,
    /// The size of the uploads.
    pub(crate) uploaded: u64,
    /// The bytes of files that were read only to compare.
    pub(crate) read_for_compare: u64,
    /// The bytes of objects that were downloaded, to compare them or from the state.
    pub(crate) downloaded: u64,
}

/// How long the steps took. The walk and the transfers overlap. DataSync comes before them, the deletes after.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Seconds {
    /// The whole run.
    pub(crate) total: f64,
    /// The DataSync execution.
    pub(crate) datasync: f64,
    /// Walking, listing and deciding, and the waits for room for a transfer.
    pub(crate) walk: f64,
    /// From the start of the first file to the end of the last one.
    pub(crate) transfer: f64,
    /// Deleting.
    pub(crate) delete: f64,
}

impl Counts {
    /// Whether something became of each entry of the source.
    pub(crate) fn add_up(&self) -> bool {
        // A report in a file may have any numbers.
        let sum = |counts: &[u64]| counts.iter().map(|count| u128::from(*count)).sum::<u128>();
        sum(&[self.files, self.directories, self.symlinks])
            == sum(&[self.unchanged, self.uploaded, self.metadata_rewritten, self.filtered, self.skipped, self.failed])
    }

    /// Returns these and those of another run together, or `None` if a number is too large.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        Some(Self {
            files: self.files.checked_add(other.files)?,
            directories: self.directories.checked_add(other.directories)?,
            symlinks: self.symlinks.checked_add(other.symlinks)?,
            special_skipped: self.special_skipped.checked_add(other.special_skipped)?,
            filtered: self.filtered.checked_add(other.filtered)?,
            objects: self.objects.checked_add(other.objects)?,
            unchanged: self.unchanged.checked_add(other.unchanged)?,
            uploaded: self.uploaded.checked_add(other.uploaded)?,
            metadata_rewritten: self.metadata_rewritten.checked_add(other.metadata_rewritten)?,
            skipped: self.skipped.checked_add(other.skipped)?,
            deleted: self.deleted.checked_add(other.deleted)?,
            deletes_withheld: self.deletes_withheld.checked_add(other.deletes_withheld)?,
            deletes_failed: self.deletes_failed.checked_add(other.deletes_failed)?,
            failed: self.failed.checked_add(other.failed)?,
        })
    }
}

impl ByteCounts {
    /// Returns these and those of another run together, or `None` if a number is too large.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        Some(Self {
            source: self.source.checked_add(other.source)?,
            uploaded: self.uploaded.checked_add(other.uploaded)?,
            read_for_compare: self.read_for_compare.checked_add(other.read_for_compare)?,
            downloaded: self.downloaded.checked_add(other.downloaded)?,
        })
    }
}

impl Seconds {
    /// Takes the longer time of each step, because runs over ranges run in parallel.
    pub(crate) const fn take_longer(&mut self, other: &Self) {
        self.total = self.total.max(other.total);
        self.datasync = self.datasync.max(other.datasync);
        self.walk = self.walk.max(other.walk);
        self.transfer = self.transfer.max(other.transfer);
        self.delete = self.delete.max(other.delete);
    }

    /// To the millisecond.
    pub(crate) fn rounded(self) -> Self {
        let round = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        Self {
            total: round(self.total),
            datasync: round(self.datasync),
            walk: round(self.walk),
            transfer: round(self.transfer),
            delete: round(self.delete),
        }
    }
}
