//! A choice: an option that takes one of a few names.

use clap::ValueEnum;

/// Which of DataSync and the direct sync a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Run DataSync, and sync directly if DataSync does not succeed
    DatasyncFirst,
    /// Run DataSync; never sync directly
    DatasyncOnly,
    /// Sync directly; never start DataSync
    DirectOnly,
}

/// Who deletes after an execution of a task that deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deletes {
    /// This program, after the execution, under all its guards; the execution itself deletes nothing
    Guarded,
    /// DataSync, during the execution, without a guard
    Datasync,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Symlinks {
    /// Copy the target of a link under the link's name; skip a link that leads to itself
    Follow,
    /// Skip links, and keep their objects
    Skip,
}

/// Which tool's objects the run writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Files, directories and links, with times, owners and permissions as metadata, as AWS DataSync writes them
    Datasync,
    /// Files only, without such metadata, as `aws s3 sync` writes them
    Plain,
}

/// How a file is compared with an object of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compare {
    /// Compare times if they prove that nothing changed, else content
    Auto,
    /// Compare nothing but the size
    SizeOnly,
    /// Compare mtime, as `aws s3 sync` does: a file newer than its object differs
    Mtime,
    /// Compare the content of every file
    Checksum,
    /// Compare stored metadata, with one request per object, and content if times do not prove that nothing changed
    Metadata,
}

/// Whether a file that differs replaces its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overwrite {
    /// Replace an object if its file differs
    Always,
    /// Keep every existing object
    Never,
}

/// An attribute of a file that becomes metadata of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attribute {
    /// Time of the last change
    Mtime,
    /// Time of the last read
    Atime,
    /// Owner
    Uid,
    /// Group
    Gid,
    /// Permissions
    Permissions,
}

/// The form of times in metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetadataDialect {
    /// The form in the bucket's DataSync objects, or nanoseconds if the bucket has none
    Auto,
    /// `1595002920000000000ns`
    Nanoseconds,
    /// `1595002920000`
    Milliseconds,
}

/// The checksum that each upload carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChecksumChoice {
    /// crc64nvme
    Auto,
    /// CRC-64/NVME, the default of S3
    Crc64nvme,
    /// CRC-32C
    Crc32c,
    /// CRC-32
    Crc32,
    /// SHA-256
    Sha256,
    /// Content-MD5 only, for servers that reject the others
    None,
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Addressing {
    /// `path` with --endpoint-url, else `virtual`
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Virtual,
}

impl Addressing {
    pub(crate) const fn path_style(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::Path => Some(true),
            Self::Virtual => Some(false),
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text
    Text,
    /// One JSON object per line
    Json,
}

/// When the progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Only if stderr is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl When {
    /// Returns whether the progress is shown on stderr, which may be a terminal.
    #[must_use]
    pub const fn applies(self, is_terminal: bool) -> bool {
        match self {
            Self::Auto => is_terminal,
            Self::Always => true,
            Self::Never => false,
        }
    }
}
