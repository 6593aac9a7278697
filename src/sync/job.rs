//! A job: what the survey found to be done about one file.

use std::time::Duration;

use crate::destination::put::ExpectedObject;
use crate::index::row::RowMetadata;
use crate::key::RelativeKey;
use crate::object::Object;
use crate::source::entry::FileEntry;
use crate::sync::reason::Reason;

/// A file, link or directory of the source that the mode stores as an object.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    pub(crate) key: RelativeKey,
    /// What the walk found.
    pub(crate) entry: FileEntry,
}

/// What is to be done about one file.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Upload the file, over the object if there is one.
    Upload { file: SourceFile, object: Option<Object>, reason: Reason },
    /// Compare the contents: upload the file if they differ.
    Compare { file: SourceFile, object: Object },
    /// Compare the text of a link with the ETag, and the contents only if the other mode may have written the object.
    CompareLink { file: SourceFile, object: Object },
    /// Compare the metadata, and the contents only if the mtime differs.
    CompareMetadata { file: SourceFile, object: Object },
    /// Compare the metadata alone: the index shows that the contents are equal.
    CompareOnlyMetadata { file: SourceFile, object: Object },
}

/// A file whose object is as it should be, without a comparison of contents.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) file: SourceFile,
    pub(crate) object: Object,
    /// What shows that the object is as it should be.
    pub(crate) reason: Reason,
}

impl Job {
    pub(crate) const fn file(&self) -> &SourceFile {
        match self {
            Self::Upload { file, .. }
            | Self::Compare { file, .. }
            | Self::CompareLink { file, .. }
            | Self::CompareMetadata { file, .. }
            | Self::CompareOnlyMetadata { file, .. } => file,
        }
    }

    pub(crate) const fn object(&self) -> Option<&Object> {
        match self {
            Self::Upload { object, .. } => object.as_ref(),
            Self::Compare { object, .. }
            | Self::CompareLink { object, .. }
            | Self::CompareMetadata { object, .. }
            | Self::CompareOnlyMetadata { object, .. } => Some(object),
        }
    }

    /// What a row may record if the job finds the object equal, or rewrites only its metadata.
    pub(super) const fn evidence(&self) -> RowMetadata {
        match self {
            Self::Upload { .. } | Self::Compare { .. } => RowMetadata::SeenWithContent,
            Self::CompareMetadata { .. } | Self::CompareOnlyMetadata { .. } => RowMetadata::Seen,
            // The ETag shows nothing about the metadata.
            Self::CompareLink { .. } => RowMetadata::Unseen,
        }
    }

    pub(super) fn into_parts(self) -> (SourceFile, Option<Object>) {
        match self {
            Self::Upload { file, object, .. } => (file, object),
            Self::Compare { file, object }
            | Self::CompareLink { file, object }
            | Self::CompareMetadata { file, object }
            | Self::CompareOnlyMetadata { file, object } => (file, Some(object)),
        }
    }

    /// What a write may replace.
    pub(crate) fn expected(&self) -> ExpectedObject {
        self.object().map_or(ExpectedObject::Absent, |object| ExpectedObject::Present(object.etag.clone()))
    }

    /// Whether another program may be truncating the file at this moment: its size differs from the object's, although
    /// no time of the file has changed since the object was written.
    pub(crate) fn may_be_truncated(&self, margin: Duration) -> bool {
        let entry = &self.file().entry;
        entry.stat.has_content()
            && self.object().is_some_and(|object| {
                let before = object.last_modified.minus(margin);
                object.size_bytes != entry.stat.size_bytes
                    && entry.stat.mtime < before
                    && entry.effective_ctime < before
            })
    }
}
