//! The changes file: a JSON line for each key that was written or deleted, so that a CDN can be invalidated.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::plan_file::Action;
use super::reason::Reason;
use crate::key::ObjectKey;

/// One line of the file.
#[derive(Serialize)]
struct Change {
    action: Action,
    key: ObjectKey,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// The changes file, if the command line names one.
#[derive(Debug, Default)]
pub struct Changes(Option<(PathBuf, BufWriter<File>)>);

impl Changes {
    /// Creates the file, before the work starts.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Some((path.to_owned(), BufWriter::new(File::create(path)?)))))
    }

    /// Writes a line. A full disk does not stop the sync: the run warns once, and writes no more lines.
    pub(crate) fn note(&mut self, action: Action, key: ObjectKey, reason: Reason, size: Option<u64>) {
        let Some((path, file)) = &mut self.0 else {
            return;
        };
        let change = Change { action, key, reason, size };
        let written =
            serde_json::to_writer(&mut *file, &change).map_err(io::Error::from).and_then(|()| file.write_all(b"\n"));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot write the changes file: it ends here");
            self.0 = None;
        }
    }

    /// Writes what the buffer still holds.
    pub(crate) fn finish(&mut self) {
        if let Some((path, mut file)) = self.0.take()
            && let Err(error) = file.flush()
        {
            tracing::warn!(path = %path.display(), %error, "cannot write the changes file: its end is missing");
        }
    }
}
