//! The changes file: a JSON line for each key that was written or deleted, so that a CDN can be invalidated.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::reason::Reason;
use crate::key::ObjectKey;

/// One change.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    action: &'static str,
    key: ObjectKey,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// The changes file, if the command line names one.
#[derive(Debug, Default)]
pub struct Changes(Option<(PathBuf, BufWriter<File>)>);

impl Change {
    /// A key was written.
    #[must_use]
    pub fn upload(key: ObjectKey, reason: Reason, size: u64) -> Self {
        Self { action: "upload", key, reason, size: Some(size) }
    }

    /// The metadata at a key was written; its content stays.
    #[must_use]
    pub fn rewrite_metadata(key: ObjectKey) -> Self {
        Self { action: "rewrite_metadata", key, reason: Reason::Metadata, size: None }
    }

    /// A key was deleted.
    #[must_use]
    pub fn delete(key: ObjectKey) -> Self {
        Self { action: "delete", key, reason: Reason::Orphan, size: None }
    }
}

impl Changes {
    /// Creates the file, before the work starts.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Some((path.to_owned(), BufWriter::new(File::create(path)?)))))
    }

    /// Writes a line. A full disk does not stop the sync: the run warns once, and writes no more lines.
    pub fn note(&mut self, change: &Change) {
        let Some((path, file)) = &mut self.0 else {
            return;
        };
        let written =
            serde_json::to_writer(&mut *file, change).map_err(io::Error::from).and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot write the changes file: it ends here");
            self.0 = None;
        }
    }

    /// Writes what the buffer still holds.
    pub fn finish(&mut self) {
        if let Some((path, mut file)) = self.0.take()
            && let Err(error) = file.flush()
        {
            tracing::warn!(path = %path.display(), %error, "cannot write the changes file: its end is missing");
        }
    }
}
