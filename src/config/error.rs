//! Why options do not go together, and why a sync cannot start.

use crate::aws::ConnectError;
use crate::filter::FilterError;
use crate::key_range::EmptyRange;
use crate::manifest::ManifestError;
use crate::range_list::RangeListError;
use crate::source::SourceError;

/// Options that are valid on their own and do not go together, or a file that an option names and that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A pattern that DataSync would refuse.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A manifest that DataSync would refuse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that an option names cannot be read.
    #[error("the {what} {path} cannot be read: {source}")]
    Read {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A key range that holds no key.
    #[error(transparent)]
    Range(#[from] EmptyRange),
    /// A file that is not a range list, or that does not have this range.
    #[error("{file}: {source}")]
    RangeList {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: RangeListError,
    },
    /// A range list without the number of a range.
    #[error(
        "--ranges names a list of ranges: choose one with --range-index, or run in an AWS Batch array job or an indexed \
         Kubernetes Job"
    )]
    NoIndex,
    /// The number of a range without a range list.
    #[error("--range-index is the number of a range in a range list: name the list with --ranges")]
    NoRanges,
    /// A manifest and a key range.
    #[error("--from-manifest names the files one by one: remove the key range")]
    RangeOfManifest,
    /// `--symlinks` with `--mode datasync`.
    #[error(
        "--symlinks needs --mode plain: with --mode datasync a link becomes an object that holds its target's path"
    )]
    SymlinksWithoutPlain,
    /// An option for metadata with `--mode plain`.
    #[error("{0} needs --mode datasync: with --mode plain objects have no metadata of their files")]
    MetadataInPlain(&'static str),
    /// `--sse-kms-key-id` without an encryption that uses it.
    #[error("--sse-kms-key-id needs --sse aws:kms or --sse aws:kms:dsse")]
    KeyWithoutKms,
}

/// Why a sync cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No client for the destination.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// S3 does not return the manifest.
    #[error("the manifest cannot be read: {0}")]
    FetchManifest(String),
    /// The object is not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// S3 does not return the range list, or the object does not have this range.
    #[error("the ranges cannot be read: {0}")]
    FetchRanges(String),
}
