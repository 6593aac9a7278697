//! The options that commands share, in the groups in which `--help` shows them.
//!
//! The first paragraph of an option's text is all that `-h` shows of it.

use std::time::Duration;

use clap::Args;

use super::choice::{Addressing, Attribute, ChecksumChoice, Compare, MetadataDialect, Mode, Overwrite, Symlinks};
use super::value::{self, Amount};
use crate::destination::headers::ContentType;
use crate::endpoint_url::EndpointUrl;
use crate::key::SourcePath;
use crate::location::FileLocation;
use crate::source::mount::RequiredMount;
use crate::state::StateLocation;
use crate::sync::guard::MaxDelete;

/// What `sync`, `plan`, `verify` and `run` have in common.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct HowArgs {
    #[command(flatten)]
    pub(crate) delete: DeleteArgs,
    #[command(flatten)]
    pub(crate) source_args: SourceArgs,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
    #[command(flatten)]
    pub(crate) upload: UploadArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// What the run deletes, and what stops it.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Deleting")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct DeleteArgs {
    /// Delete objects whose file no longer exists
    ///
    /// `plan` only lists them, and `verify` lists them as differences
    #[arg(long)]
    pub(crate) delete: bool,
    /// Delete up to N objects, or P% of all; if more, none
    ///
    /// If there are more to delete, a guard withholds all deletes. P% is a share of the objects that the filters admit
    /// [default: the larger of 100 objects and 10%; each range of a list has an equal share of the 100]
    #[arg(long, value_name = "N|P%", default_value = "default", hide_default_value = true)]
    pub(crate) max_delete: MaxDelete,
    /// Let an empty source delete objects, up to --max-delete
    ///
    /// Without this option, a source that holds no file of the sync is exit code 3 in every command, if the destination
    /// has objects
    #[arg(long)]
    pub(crate) allow_empty_source: bool,
    /// Delete what lies below a file system that is no longer mounted inside DIR, and forget the mount; needs --delete and
    /// --state
    ///
    /// With --state, a run remembers the mount points inside DIR. If one of them is missing, a guard withholds the deletes
    /// at and below it, and the run copies nothing there
    #[arg(long)]
    pub(crate) allow_missing_mounts: bool,
    /// Delete even if the walk could not read some directories, but never below those directories
    #[arg(long)]
    pub(crate) ignore_errors: bool,
    /// Exit without reading or writing anything unless DIR is a mount point, of type TYPE if given
    ///
    /// Without TYPE, a bind mount of any folder is enough. A mounted EFS has the type nfs4
    #[arg(
        long,
        value_name = "TYPE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true
    )]
    pub(crate) require_mount: RequiredMount,
    /// Exit without reading or writing anything unless FILE, a path relative to DIR, exists
    #[arg(long, value_name = "FILE", value_parser = value::source_path)]
    pub(crate) sentinel: Option<SourcePath>,
}

/// What the run copies.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    /// Copy only the files that FILE lists; delete nothing
    ///
    /// FILE is a DataSync manifest: one path relative to DIR per line
    #[arg(long, value_name = "FILE|S3_URL")]
    pub(crate) from_manifest: Option<FileLocation>,
    /// Skip files younger than this, and keep their objects; the next run copies them
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = value::duration)]
    pub(crate) min_age: Duration,
}

/// What the run walks, and how.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Source")]
pub(crate) struct TreeArgs {
    /// Include only what matches these patterns
    ///
    /// PATTERNS are DataSync patterns, separated by `|`, such as '/img|/css/site*'. A repeated --include adds patterns
    #[arg(long, value_name = "PATTERNS")]
    pub(crate) include: Vec<String>,
    /// Exclude what matches these patterns
    ///
    /// Its objects stay. PATTERNS are DataSync patterns, separated by `|`, such as '*.tmp|/private'. A repeated --exclude
    /// adds patterns
    #[arg(long, value_name = "PATTERNS")]
    pub(crate) exclude: Vec<String>,
    /// Follow symbolic links or skip them; needs --mode plain [default: follow]
    #[arg(long, value_name = "HOW")]
    pub(crate) symlinks: Option<Symlinks>,
    /// Stop waiting for a file or directory after this long; its contents then count as unknown, not as empty
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub(crate) source_timeout: Duration,
    /// Read up to N directories and stat up to N files in parallel; auto is 64, or fewer if the limit on open files is low
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub(crate) walkers: Amount,
}

/// When an object counts as equal to its file.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Comparing")]
pub(crate) struct CompareArgs {
    /// Treat objects as DataSync or as `aws s3 sync` does
    #[arg(long, value_name = "MODE", default_value = "datasync")]
    pub(crate) mode: Mode,
    /// Decide by this whether an object is up to date
    ///
    /// An object whose size differs from its file's never is
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) compare: Compare,
    /// Replace existing objects or keep them
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub(crate) overwrite: Overwrite,
    /// Leave these attributes out of the metadata; separate them by commas
    #[arg(long, value_name = "ATTRIBUTES", value_delimiter = ',')]
    pub(crate) no_preserve: Vec<Attribute>,
    /// Write times in the metadata in this form
    #[arg(long, value_name = "DIALECT", default_value = "auto")]
    pub(crate) metadata_dialect: MetadataDialect,
}

/// How S3 encrypts what the command writes.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Uploading")]
pub(crate) struct EncryptionArgs {
    /// Encrypt at rest with AES256, aws:kms or aws:kms:dsse
    ///
    /// This applies to everything that the command writes to S3, the state too
    #[arg(long, value_name = "HOW", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"])]
    pub(crate) sse: Option<String>,
    /// Encrypt with this KMS key; needs --sse aws:kms or aws:kms:dsse
    #[arg(long, value_name = "KEY", value_parser = value::word)]
    pub(crate) sse_kms_key_id: Option<String>,
}

/// What the run stores with an object, and how it sends the content.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Uploading")]
pub(crate) struct UploadArgs {
    /// Store new and changed objects in this class, such as `STANDARD_IA`
    #[arg(long, value_name = "CLASS", value_parser = value::word)]
    pub(crate) storage_class: Option<String>,
    /// Set Cache-Control on the objects that the run uploads
    #[arg(long, value_name = "VALUE", value_parser = value::header_value)]
    pub(crate) cache_control: Option<String>,
    /// Set Content-Type to TYPE on files with the extension EXT, instead of the usual type; may be repeated
    ///
    /// The last TYPE of an extension wins
    #[arg(long, value_name = "EXT=TYPE", value_delimiter = ',')]
    pub(crate) content_type: Vec<ContentType>,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgs,
    /// Send this checksum besides Content-MD5, for S3 to check and store
    #[arg(long, value_name = "ALGORITHM", default_value = "auto")]
    pub(crate) checksum: ChecksumChoice,
    /// Upload files of this size or more in parts
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = value::threshold)]
    pub(crate) multipart_threshold: u64,
    /// Send parts of this size, 5MiB to 5GiB; larger parts if the file would need more than 10,000 of them
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = value::part_size)]
    pub(crate) part_size: u64,
}

/// How much the run does in parallel, and how much memory and bandwidth it takes.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Send at most SIZE per second
    #[arg(long, value_name = "SIZE", value_parser = value::positive_size)]
    pub(crate) bandwidth: Option<u64>,
    /// Hold up to SIZE of file content in memory
    ///
    /// [default: a quarter of the memory of the container or machine, 64MiB to 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::memory)]
    pub(crate) memory: Option<u64>,
    /// Send up to N requests in parallel; fewer while S3 throttles. auto is 256, or fewer if the limit on open files is low
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub(crate) concurrency: Amount,
    /// List up to N ranges of the destination in parallel; auto is 8
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub(crate) list_concurrency: Amount,
    /// Retry after transient errors until no request has succeeded for this long
    ///
    /// Transient errors are throttling, server errors, resets and missing responses. The time counts for each S3
    /// operation. It is half as long in two cases: the server never accepted a connection, or S3 accepts other requests
    /// of the operation and does not throttle this one. The last attempt starts at the end of this time
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = value::positive_duration)]
    pub(crate) outage_timeout: Duration,
    /// Retry a request at most N times, even if --outage-timeout has not passed
    ///
    /// Without this option, only time limits the retries, except after another request of the operation failed alone:
    /// then 5
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
}

/// How the program reaches S3.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "S3")]
pub(crate) struct S3Args {
    /// Send S3 requests to this server instead of AWS
    #[arg(long, value_name = "URL", value_parser = value::Endpoint, hide_default_value = true)]
    pub(crate) endpoint_url: Option<EndpointUrl>,
    /// Put the bucket in the path or in the host name of a request
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub(crate) addressing: Addressing,
    /// Refuse a bucket that does not belong to this account
    #[arg(long, value_name = "ACCOUNT", value_parser = value::word)]
    pub(crate) expected_bucket_owner: Option<String>,
}

/// Where state outlives the run.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// Keep the lease, the index and past reports here
    ///
    /// A folder, or `s3://bucket/prefix` outside the destination. It also holds unfinished uploads and the failures of
    /// DataSync
    #[arg(long, value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// Keep the lease valid for this long after each renewal; needs --state
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = value::lease_ttl)]
    pub(crate) lease_ttl: Duration,
}

/// The key range of one of several runs.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Key range")]
pub(crate) struct RangeArgs {
    /// Work on one range of this range list, which `efs2s3 ranges` wrote
    #[arg(long, value_name = "FILE|S3_URL", conflicts_with_all = ["range_after", "range_to"])]
    pub(crate) ranges: Option<FileLocation>,
    /// Work on range N of --ranges, counted from 0
    ///
    /// [default: the index of the AWS Batch array job or indexed Kubernetes Job that this process belongs to]
    #[arg(long, value_name = "N")]
    pub(crate) range_index: Option<usize>,
    /// Work only on keys after KEY, relative to DIR; an empty KEY sets no bound
    #[arg(long, value_name = "KEY")]
    pub(crate) range_after: Option<String>,
    /// Work only on keys up to and including KEY, relative to DIR; an empty KEY sets no bound
    #[arg(long, value_name = "KEY")]
    pub(crate) range_to: Option<String>,
    /// The index that AWS Batch sets.
    #[arg(long, hide = true)]
    pub(crate) batch_index: Option<usize>,
    /// The index that Kubernetes sets.
    #[arg(long, hide = true)]
    pub(crate) kubernetes_index: Option<usize>,
}
