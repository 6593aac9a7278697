//! Why options do not go together, and why a sync cannot start.

use crate::aws::ConnectError;
use crate::exit_code::ExitCode;
use crate::filter::FilterError;
use crate::key_range::EmptyRange;
use crate::location::Location;
use crate::manifest::ManifestError;
use crate::range_list::RangeListError;
use crate::source::SourceError;
use crate::sync::manifest_object::ManifestObjectError;

/// Options that are valid on their own and do not go together, or a file that an option names and that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A pattern that DataSync would refuse.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A manifest that DataSync would refuse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("cannot read the {what} {path}: {source}")]
    Read { what: &'static str, path: String, source: std::io::Error },
    #[error(transparent)]
    Range(#[from] EmptyRange),
    /// A file that is not a range list, or that does not have this range.
    #[error("{file}: {source}")]
    RangeList { file: String, source: RangeListError },
    #[error(
        "--ranges names a list of ranges: choose one with --range-index, or run in an AWS Batch array job or an indexed \
         Kubernetes Job"
    )]
    NoIndex,
    #[error("--range-index is the number of a range in a range list: name the list with --ranges")]
    NoRanges,
    #[error("--from-manifest names the files one by one: remove the key range")]
    RangeOfManifest,
    #[error(
        "--symlinks needs --mode plain: with --mode datasync a link becomes an object that holds its target's path"
    )]
    SymlinksWithoutPlain,
    #[error("{0} needs --mode datasync: with --mode plain objects have no metadata of their files")]
    MetadataInPlain(&'static str),
    #[error("--sse-kms-key-id needs --sse aws:kms or --sse aws:kms:dsse")]
    KeyWithoutKms,
}

/// Why a sync cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Manifest(#[from] ManifestObjectError),
    /// S3 does not return the range list, or the object does not have this range.
    #[error("cannot read the ranges: {0}")]
    FetchRanges(String),
    /// The destination of a task that this program cannot write to.
    #[error("cannot write to {0}, the task's destination: {1}")]
    Foreign(Location, String),
}

impl OpenError {
    /// The exit code of the run.
    pub(crate) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Connect(error) => error.exit_code(),
            Self::Source(_) | Self::Manifest(_) | Self::FetchRanges(_) | Self::Foreign(..) => ExitCode::Fatal,
        }
    }
}
