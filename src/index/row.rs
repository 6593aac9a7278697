//! Index row: an object and its file as they were when they were last known to be equal.

use std::time::Duration;

use crate::key::RelativeKey;
use crate::object::{ETag, Object};
use crate::source::entry::Stat;
use crate::time::EpochNanos;

/// A shorter interval stays in its row: to write the index only for the exact time would cost more than it shows.
const LONG_INTERVAL: Duration = Duration::from_mins(1);

/// An object, and the file that it equalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub(crate) key: RelativeKey,
    pub(crate) size_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) written: Written,
    /// `None` if the file had changed too shortly before it was compared or sent: a later write could leave the same times.
    /// The row then fits no file.
    pub(crate) file: Option<FileState>,
    pub(crate) metadata: RowMetadata,
}

/// When an object was written, by S3's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// At the listed LastModified.
    At(EpochNanos),
    /// In this interval, both ends included: this program wrote the object (`DESIGN.md#rows-of-uploads`).
    Within(EpochNanos, EpochNanos),
    /// At any time, or never: no response has proven what this program sent. Whatever is listed must be compared.
    Unproven,
}

/// What is known of an object's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowMetadata {
    /// A run has read or written it, and compared or written the content too.
    SeenWithContent,
    /// A run has read or written it. Earlier comparisons, or dates, show the content to be equal.
    Seen,
    /// No run has read it: only the content is known to be equal.
    Unseen,
    /// A run in another mode recorded the row: only the content of a file is known to be equal.
    OfOtherMode,
}

impl Written {
    /// In the interval that starts with a request and ends with its response, by the host's clock.
    pub(crate) fn between(request: EpochNanos, response: EpochNanos, margin: Duration) -> Self {
        Self::Within(request.minus(margin), response.plus(margin))
    }

    /// At the time that S3 responded to a copy with. A listing may truncate it to the second.
    pub(crate) fn copied(last_modified: EpochNanos) -> Self {
        let second = last_modified.truncated_to_second();
        if second == last_modified { Self::At(second) } else { Self::Within(second, last_modified) }
    }
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
    /// Returns the row of an object that equals the file with this stat. The row fits no file if the file had changed
    /// within `margin` before the stat.
    pub(crate) fn of(object: &Object, stat: &Stat, metadata: RowMetadata, margin: Duration) -> Self {
        Self {
            key: object.key.clone(),
            size_bytes: object.size_bytes,
            etag: object.etag.clone(),
            written: Written::At(object.last_modified),
            file: is_settled(stat, margin).then(|| FileState::of(stat)),
            metadata,
        }
    }

    /// As [`Self::of`], for an object that this run has just written.
    pub(crate) fn of_written(
        key: &RelativeKey,
        etag: &ETag,
        written: Written,
        stat: &Stat,
        metadata: RowMetadata,
        margin: Duration,
    ) -> Self {
        Self {
            key: key.clone(),
            size_bytes: stat.size_bytes,
            etag: etag.clone(),
            written,
            file: is_settled(stat, margin).then(|| FileState::of(stat)),
            metadata,
        }
    }

    /// The row of a key while an object is being sent. It stays if no response proves that S3 stored the object.
    pub(crate) fn unproven(key: &RelativeKey) -> Self {
        Self {
            key: key.clone(),
            size_bytes: 0,
            etag: ETag::new(""),
            written: Written::Unproven,
            file: None,
            metadata: RowMetadata::Unseen,
        }
    }

    /// Whether the listed object is the row's object.
    pub(crate) fn fits_object(&self, object: &Object) -> bool {
        let is_in_time = match self.written {
            Written::At(time) => object.last_modified == time,
            Written::Within(from, to) => (from..=to).contains(&object.last_modified),
            Written::Unproven => false,
        };
        is_in_time && self.has_content_of(object)
    }

    /// Whether the listed object has the content of the row's object. Its metadata may differ.
    pub(crate) fn has_content_of(&self, object: &Object) -> bool {
        // An empty ETag does not identify a content.
        self.size_bytes == object.size_bytes && self.etag == object.etag && !self.etag.is_empty()
    }

    /// Returns the row with the time of the listed object, if the row's interval is long.
    pub(crate) fn made_exact(&self, object: &Object) -> Option<Self> {
        let is_long = match self.written {
            Written::At(_) | Written::Unproven => false,
            Written::Within(from, to) => to.since(from).is_some_and(|length| length > LONG_INTERVAL),
        };
        let written = Written::At(object.last_modified);
        (is_long && self.fits_object(object)).then(|| Self { written, ..self.clone() })
    }

    /// Whether the file is unchanged since the row was recorded.
    pub(crate) fn fits_file(&self, stat: &Stat) -> bool {
        self.file == Some(FileState::of(stat))
    }
}

/// Whether every change since the stat gives the file another ctime. The row of a directory holds all that its object
/// does.
fn is_settled(stat: &Stat, margin: Duration) -> bool {
    !stat.has_content() || stat.ctime < stat.seen_at.minus(margin)
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
