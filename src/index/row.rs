//! Index row: an object and its file as they were when they were last known to be equal.

use std::time::Duration;

use crate::key::RelativeKey;
use crate::object::{ETag, Object};
use crate::source::entry::Stat;
use crate::time::EpochNanos;

/// An object, and the file that it equalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub(crate) key: RelativeKey,
    pub(crate) size_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) written: Written,
    pub(crate) file: FileState,
    /// Whether a run has read or written the object's metadata. If not, only its content is known to be equal.
    pub(crate) metadata_seen: bool,
}

/// When an object was written, by S3's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// At the listed LastModified.
    At(EpochNanos),
    /// No later than this: this program uploaded the object (`DESIGN.md#rows-of-uploads`).
    By(EpochNanos),
}

/// What shows that a file is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) mtime: EpochNanos,
    pub(crate) ctime: EpochNanos,
    /// `st_mode`: type and permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Without the device number (`DESIGN.md#inodes-in-rows`).
    pub(crate) inode: u64,
}

impl Row {
    /// Returns the row of an object that equals the file with this stat. Returns `None` if the file's ctime is within
    /// `margin` of now or later, because a later write could leave the same times.
    pub(crate) fn of(object: &Object, stat: &Stat, metadata_seen: bool, margin: Duration) -> Option<Self> {
        is_settled(stat, margin).then(|| Self {
            key: object.key.clone(),
            size_bytes: object.size_bytes,
            etag: object.etag.clone(),
            written: Written::At(object.last_modified),
            file: FileState::of(stat),
            metadata_seen,
        })
    }

    /// As [`Self::of`], for an object that this run has just written.
    pub(crate) fn of_written(key: &RelativeKey, etag: &ETag, stat: &Stat, margin: Duration) -> Option<Self> {
        is_settled(stat, margin).then(|| Self {
            key: key.clone(),
            size_bytes: stat.size_bytes,
            etag: etag.clone(),
            // LastModified is S3's time, truncated to the second.
            written: Written::By(EpochNanos::now().plus(margin)),
            file: FileState::of(stat),
            metadata_seen: true,
        })
    }

    /// Whether the listed object is the row's object.
    pub(crate) fn fits_object(&self, object: &Object) -> bool {
        let is_in_time = match self.written {
            Written::At(time) => object.last_modified == time,
            Written::By(time) => object.last_modified <= time,
        };
        is_in_time && self.has_content_of(object)
    }

    /// Whether the listed object has the content of the row's object. Its metadata may differ.
    pub(crate) fn has_content_of(&self, object: &Object) -> bool {
        // An empty ETag does not identify a content.
        self.size_bytes == object.size_bytes && self.etag == object.etag && !self.etag.is_empty()
    }

    /// Whether the file is unchanged since the row was recorded.
    pub(crate) fn fits_file(&self, stat: &Stat) -> bool {
        self.file == FileState::of(stat)
    }
}

/// Whether every change from now on gives the file another ctime.
fn is_settled(stat: &Stat, margin: Duration) -> bool {
    stat.ctime < EpochNanos::now().minus(margin)
}

impl FileState {
    const fn of(stat: &Stat) -> Self {
        Self {
            mtime: stat.mtime,
            ctime: stat.ctime,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            inode: stat.inode.1,
        }
    }
}
