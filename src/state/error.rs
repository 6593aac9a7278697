//! State error: why the state cannot be read or written.

use std::io;
use std::path::Path;

use crate::destination::error::S3Error;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of the state, or a temporary file, cannot be read or written.
    #[error("{path}: {source}")]
    Folder {
        /// The file, or the folder.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// S3 refuses a request, or cannot be reached.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The S3 server ignores or refuses conditional writes.
    #[error(
        "this server has no conditional writes, so two runs could both take the lease there: keep the state in a folder"
    )]
    NoConditions,
}

impl StateError {
    pub(crate) fn in_file(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Folder { path: path.as_ref().display().to_string(), source }
    }
}
