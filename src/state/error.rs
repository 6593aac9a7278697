//! State error: why the state cannot be read or written.

use std::io;
use std::path::Path;

use crate::destination::error::S3Error;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum StateError {
    #[error("{path}: {source}")]
    Folder { path: String, source: io::Error },
    #[error(transparent)]
    S3(#[from] S3Error),
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
