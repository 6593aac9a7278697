//! The options that commands share, in the groups in which the help shows them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::value::{self, Amount};
use crate::destination::headers::ContentType;
use crate::location::FileLocation;
use crate::sync::guard::MaxDelete;

/// Which of the keys one of several runs works on.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Range of keys")]
pub struct RangeArgs {
    /// Only keys after KEY, as they are called below DIR; nothing is no bound
    #[arg(long, value_name = "KEY")]
    pub range_after: Option<String>,
    /// Only keys up to KEY, and KEY itself; nothing is no bound
    #[arg(long, value_name = "KEY")]
    pub range_to: Option<String>,
    /// Only a range of those that `efs2s3 ranges` wrote here
    #[arg(long, value_name = "FILE|S3_URL", conflicts_with_all = ["range_after", "range_to"])]
    pub ranges: Option<FileLocation>,
    /// Which, from 0 [default: the index of the Batch array job or of the indexed Kubernetes Job that this runs in]
    #[arg(long, value_name = "N")]
    pub range_index: Option<usize>,
    /// As AWS Batch tells it.
    #[arg(long, hide = true)]
    pub batch_index: Option<usize>,
    /// As Kubernetes tells it.
    #[arg(long, hide = true)]
    pub kubernetes_index: Option<usize>,
}

/// How to sync: what `sync`, `plan` and `run` have in common.
#[derive(Args, Debug)]
#[group(skip)]
pub struct HowArgs {
    /// When to delete, and when not.
    #[command(flatten)]
    pub delete: DeleteArgs,
    /// What to read, and how.
    #[command(flatten)]
    pub source_args: SourceArgs,
    /// When an object is taken for equal.
    #[command(flatten)]
    pub compare: CompareArgs,
    /// What objects are stored with.
    #[command(flatten)]
    pub upload: UploadArgs,
    /// How much at once.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How to reach S3.
    #[command(flatten)]
    pub s3: S3Args,
}

/// When to delete, and when not.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Deleting")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct DeleteArgs {
    /// Delete objects that have no file any more
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub delete: bool,
    /// Delete no more than N objects, or P% of those listed [default: more than 100 and more than 10% are refused]
    #[arg(long, value_name = "N|P%", default_value = "default", hide_default_value = true)]
    pub max_delete: MaxDelete,
    /// Let an empty source delete everything that --max-delete allows
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub allow_empty_source: bool,
    /// Do nothing at all unless DIR is a mount point
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub require_mount: bool,
    /// Do nothing at all unless this file is there (a path below DIR)
    #[arg(long, value_name = "FILE")]
    pub sentinel: Option<PathBuf>,
    /// Delete in spite of directories that could not be read, but never below them
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub ignore_errors: bool,
}

/// What to read, and how.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// What to walk.
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Only the files that FILE names: a path below DIR a line, as in DataSync's manifests; nothing is deleted
    #[arg(long, value_name = "FILE|S3_URL")]
    pub from_manifest: Option<FileLocation>,
    /// Leave files younger than this for the next run; their objects stay
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = value::duration)]
    pub min_age: Duration,
}

/// What to walk, and how.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Source")]
pub struct TreeArgs {
    /// Only what matches: DataSync patterns, separated by `|`
    #[arg(long, value_name = "PATTERNS")]
    pub include: Option<String>,
    /// Not what matches: DataSync patterns, separated by `|`; its objects stay as they are
    #[arg(long, value_name = "PATTERNS")]
    pub exclude: Option<String>,
    /// What becomes of symbolic links with --mode plain [default: follow]
    #[arg(long, value_name = "HOW")]
    pub symlinks: Option<Symlinks>,
    /// Give up a file or directory of which nothing is heard for so long; what is below it is then unknown, not empty
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub source_timeout: Duration,
    /// How many directories and files are looked at side by side
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub walkers: Amount,
}

/// When an object is taken for equal.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Comparing")]
pub struct CompareArgs {
    /// What objects stand for
    #[arg(long, value_name = "MODE", default_value = "datasync")]
    pub mode: Mode,
    /// How a file is compared with an object of the same size
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub compare: Compare,
    /// Whether an object that is there may be replaced
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub overwrite: Overwrite,
    /// What is not kept as metadata: mtime, atime, uid, gid, permissions; more than one with commas
    #[arg(long, value_name = "ATTRIBUTES", value_delimiter = ',')]
    pub no_preserve: Vec<Attribute>,
    /// How metadata is written; `auto` is as the bucket's objects of DataSync have it, else in nanoseconds
    #[arg(long, value_name = "DIALECT", default_value = "auto")]
    pub metadata_dialect: MetadataDialect,
}

/// What objects are stored with.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Uploading")]
pub struct UploadArgs {
    /// The storage class of new and changed objects, such as `STANDARD_IA`
    #[arg(long, value_name = "CLASS", value_parser = value::word)]
    pub storage_class: Option<String>,
    /// Encryption at rest: AES256, aws:kms or aws:kms:dsse
    #[arg(long, value_name = "HOW", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"])]
    pub sse: Option<String>,
    /// The KMS key for --sse aws:kms
    #[arg(long, value_name = "KEY", value_parser = value::word)]
    pub sse_kms_key_id: Option<String>,
    /// Cache-Control of what is uploaded
    #[arg(long, value_name = "VALUE", value_parser = value::header_value)]
    pub cache_control: Option<String>,
    /// Content-Type of files with this extension, instead of the usual one; may be given more than once
    #[arg(long, value_name = "EXT=TYPE", value_delimiter = ',')]
    pub content_type: Vec<ContentType>,
    /// The checksum that S3 checks and keeps, besides Content-MD5; `auto` is crc64nvme
    #[arg(long, value_name = "ALGORITHM", default_value = "auto")]
    pub checksum: Checksum,
    /// The size of a part of a large file: 5MiB to 5GiB; grows where 10,000 parts would not do
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = value::part_size)]
    pub part_size: u64,
    /// Files of at least this size are sent in parts
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = value::threshold)]
    pub multipart_threshold: u64,
}

/// How much at once.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How many requests at once, at most; fewer while S3 asks for it
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub concurrency: Amount,
    /// How many ranges of the destination are listed side by side
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub list_concurrency: Amount,
    /// The memory for file content in flight [default: a quarter of what the container or machine has, 64MiB to 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::memory)]
    pub memory: Option<u64>,
    /// Send no more than SIZE a second
    #[arg(long, value_name = "SIZE", value_parser = value::positive_size)]
    pub bandwidth: Option<u64>,
    /// How often a request is sent again that may succeed another time
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,
}

/// How to reach S3.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "S3")]
pub struct S3Args {
    /// The server, where it is not AWS
    #[arg(long, value_name = "URL", value_parser = value::endpoint)]
    pub endpoint_url: Option<String>,
    /// Whether the bucket stands in the path or in the host name; `auto` is path wherever an endpoint is given
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub addressing: Addressing,
    /// Refuse a bucket of any other account
    #[arg(long, value_name = "ACCOUNT", value_parser = value::word)]
    pub expected_bucket_owner: Option<String>,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Symlinks {
    /// What they lead to is copied under their name; a loop is left out
    Follow,
    /// They are left out, and their objects stay
    Skip,
}

/// What objects stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Files, directories and links, with times, owners and permissions as metadata: what AWS DataSync writes
    Datasync,
    /// Files alone, no metadata of their own: what `aws s3 sync` writes
    Plain,
}

/// How a file is compared with an object of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compare {
    /// By times where they prove that nothing changed, else by content
    Auto,
    /// Not at all: another size is the only difference
    SizeOnly,
    /// By mtime: newer than the object is different (what `aws s3 sync` does)
    Mtime,
    /// By content, always: reads every file
    Checksum,
    /// By the stored metadata, at the price of a request an object, and by content where times do not prove it
    Metadata,
}

/// Whether an object that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// Where the file differs
    Always,
    /// It stays, even if the file differs
    Never,
}

/// An attribute of a file that is kept as metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attribute {
    /// The time of the last change
    Mtime,
    /// The time of the last read
    Atime,
    /// The owner
    Uid,
    /// The group
    Gid,
    /// The permissions
    Permissions,
}

/// How metadata is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetadataDialect {
    /// As in the bucket
    Auto,
    /// `1595002920000000000ns`
    Nanoseconds,
    /// `1595002920000`
    Milliseconds,
}

/// The checksum that goes with each upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    /// crc64nvme
    Auto,
    /// CRC-64/NVME, S3's own default
    Crc64nvme,
    /// CRC-32C
    Crc32c,
    /// CRC-32
    Crc32,
    /// SHA-256
    Sha256,
    /// None but Content-MD5: for servers that refuse the others
    None,
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Addressing {
    /// `path` where an endpoint is given, else `virtual`
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Virtual,
}
