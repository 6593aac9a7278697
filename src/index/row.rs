//! An index row: what an object and its file were when they were last known equal.

use std::time::Duration;

use crate::key::RelativeKey;
use crate::object::{ETag, Object};
use crate::source::entry::Stat;
use crate::time::EpochNanos;

/// An object, and the file that it was equal to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key below the prefix.
    pub key: RelativeKey,
    /// The object's size.
    pub size_bytes: u64,
    /// The object's ETag.
    pub etag: ETag,
    /// When the object was written.
    pub written: Written,
    /// The file's times and attributes.
    pub file: FileState,
    /// Whether the object's metadata was looked at, or written here; its date alone tells of the content.
    pub metadata_seen: bool,
}

/// When an object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As listed.
    At(EpochNanos),
    /// No later than this: by this program, whose request was answered then.
    By(EpochNanos),
}

/// What tells that a file is still what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Last change of the content.
    pub mtime: EpochNanos,
    /// Last change of content or attributes.
    pub ctime: EpochNanos,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode number: two files may have been made in the same tick of the clock.
    pub inode: u64,
}

impl Row {
    /// What is remembered of an object that is known to be equal to the file that was looked at like this; nothing where
    /// the file changed so lately, or so far in the future, that its times do not tell.
    #[must_use]
    pub fn of(object: &Object, stat: &Stat, metadata_seen: bool, margin: Duration) -> Option<Self> {
        is_settled(stat, margin).then(|| Self {
            key: object.key.clone(),
            size_bytes: object.size_bytes,
            etag: object.etag.clone(),
            written: Written::At(object.last_modified),
            file: FileState::of(stat),
            metadata_seen,
        })
    }

    /// The same of an object that was written a moment ago.
    #[must_use]
    pub fn of_written(key: &RelativeKey, etag: &ETag, stat: &Stat, margin: Duration) -> Option<Self> {
        is_settled(stat, margin).then(|| Self {
            key: key.clone(),
            size_bytes: stat.size_bytes,
            etag: etag.clone(),
            // LastModified is S3's time, cut to the second.
            written: Written::By(EpochNanos::now().plus(margin)),
            file: FileState::of(stat),
            metadata_seen: true,
        })
    }

    /// Whether the object listed is the very one that is remembered.
    #[must_use]
    pub fn is_of_object(&self, object: &Object) -> bool {
        let in_time = match self.written {
            Written::At(time) => object.last_modified == time,
            Written::By(time) => object.last_modified <= time,
        };
        in_time && self.has_content_of(object)
    }

    /// Whether the object listed holds what the one that is remembered did; its metadata may be other.
    #[must_use]
    pub fn has_content_of(&self, object: &Object) -> bool {
        // Without an ETag nobody can tell the object from another one.
        self.size_bytes == object.size_bytes && self.etag == object.etag && !self.etag.is_empty()
    }

    /// Whether the file is unchanged.
    #[must_use]
    pub fn is_of_file(&self, stat: &Stat) -> bool {
        self.file == FileState::of(stat)
    }
}

/// Whether the file's times tell it from what it may be changed to from now on.
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
