//! State error: why the state cannot be read or written.

use std::io;
use std::path::Path;

use crate::destination::Destination;
use crate::destination::error::S3Error;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum StateError {
    #[error("{path}: {source}. Check that this user can read and write the state's folder")]
    Folder { path: String, source: io::Error },
    #[error("the folder of the state, {folder}, no longer exists: restore or remount it, then run again")]
    FolderMissing { folder: String },
    #[error("the folder of the state, {folder}, is now on another file system than before: remount it, then run again")]
    FolderNotMounted { folder: String },
    #[error(
        "the temporary folder {path}: {source}. Free space there, or set TMPDIR to a folder that this user can write"
    )]
    Temporary { path: String, source: io::Error },
    /// Names the bucket, and what to do.
    #[error("{explanation}")]
    S3 {
        explanation: String,
        /// Whether no request succeeded for the outage timeout.
        is_outage: bool,
    },
    /// After a stop request the run waits only a few seconds for its state.
    #[error("the state did not respond in time while the run stopped")]
    Stopped,
    #[error(
        "the server of the state in bucket '{bucket}' ignores or refuses conditional writes ({header}), so two runs could \
         hold the lease at the same time: keep the state in a folder that all runs share, such as one on EFS outside the \
         source, or on a server that has conditional writes"
    )]
    NoConditions { bucket: String, header: &'static str },
}

impl StateError {
    pub(super) fn in_bucket(home: &Destination, error: &S3Error) -> Self {
        Self::S3 { explanation: home.explain(error), is_outage: error.outage().is_some() }
    }

    /// Whether the request was retried for as long as that may help.
    pub(crate) const fn was_retried(&self) -> bool {
        match self {
            Self::S3 { .. } | Self::Stopped | Self::NoConditions { .. } => true,
            // A folder may return.
            Self::Folder { .. }
            | Self::FolderMissing { .. }
            | Self::FolderNotMounted { .. }
            | Self::Temporary { .. } => false,
        }
    }

    /// The error of a file that has no place in the state yet.
    pub(crate) fn in_temporary_folder(source: io::Error) -> Self {
        Self::Temporary { path: std::env::temp_dir().display().to_string(), source }
    }

    pub(crate) fn in_file(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Folder { path: path.as_ref().display().to_string(), source }
    }
}
