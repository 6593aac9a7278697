//! Arguments as typed: the command line, the environment and the config file, which all name the same options.
//!
//! A flag beats its environment variable `EFS2S3_…`, which beats the config file, which beats the default.
//! [`crate::config`] says what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::datasync::TaskArn;
use crate::destination::headers::ContentType;
use crate::location::{FileLocation, Location};
use crate::state::StateLocation;
use crate::sync::guard::MaxDelete;

pub mod file;
mod value;

pub use value::Amount;

/// Copies a file tree on Amazon EFS to an S3 prefix, exactly and cheaply.
#[derive(Debug, Parser)]
#[command(name = "efs2s3", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command understands.
    #[command(flatten)]
    pub global: GlobalArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 the destination matches the source; 1 fatal error; 2 wrong usage, nothing contacted; \
3 finished, but some files failed or deletes were withheld; 10 plan --exit-code found something to do, or verify a difference; \
11 another run holds the lease, or took it over; 130/143 interrupted.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the destination match the source
    Sync(Box<SyncCommand>),
    /// Let DataSync do it, and do it directly where DataSync fails, hangs or cannot be reached
    Run(Box<RunCommand>),
    /// Say what sync would do; write nothing
    Plan(Box<PlanCommand>),
    /// Carry out a plan that somebody has looked at; what has changed since is left out
    Apply(Box<ApplyCommand>),
    /// Compare the content of everything, and list what differs
    Verify(Box<VerifyCommand>),
    /// Cut the keys into ranges of about the same size, for several runs that share the work
    Ranges(Box<RangesCommand>),
    /// Work with the reports of past runs
    #[command(subcommand)]
    Report(Box<ReportCommand>),
    /// Show the whole flow on an embedded S3 server
    #[cfg(feature = "demo")]
    Demo,
}

/// What every command understands.
#[derive(Args, Debug)]
#[group(skip)]
pub struct GlobalArgs {
    /// A TOML file with a line for each option wanted: the long name, without dashes in front
    #[arg(long, global = true, env = "EFS2S3_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines on stderr are written
    #[arg(long, global = true, env = "EFS2S3_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Whether stderr shows the progress: `auto` is on a terminal; elsewhere it is a log line every 10 s
    #[arg(long, global = true, env = "EFS2S3_PROGRESS", value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// `efs2s3 sync`.
#[derive(Args, Debug)]
pub struct SyncCommand {
    /// Only say what would be done, as `plan` does
    #[arg(long, env = "EFS2S3_DRY_RUN", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Write a line of JSON to FILE for each key that was written or deleted
    #[arg(long, env = "EFS2S3_CHANGES", value_name = "FILE")]
    pub changes: Option<PathBuf>,
    /// What is remembered from run to run.
    #[command(flatten)]
    pub state: StateArgs,
    /// What both commands share.
    #[command(flatten)]
    pub options: SyncArgs,
}

/// `efs2s3 run`.
#[derive(Args, Debug)]
pub struct RunCommand {
    /// The directory to copy: the mounted folder that the task copies
    #[arg(long, env = "EFS2S3_SOURCE", value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix` [default: where the task copies to]
    #[arg(env = "EFS2S3_DESTINATION", value_name = "S3_URL")]
    pub destination: Option<Location>,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, env = "EFS2S3_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a line of JSON to FILE for each key that was written or deleted directly
    #[arg(long, env = "EFS2S3_CHANGES", value_name = "FILE")]
    pub changes: Option<PathBuf>,
    /// How to go about DataSync.
    #[command(flatten)]
    pub datasync: DataSyncArgs,
    /// What is remembered from run to run.
    #[command(flatten)]
    pub state: StateArgs,
    /// How to sync.
    #[command(flatten)]
    pub how: HowArgs,
}

/// How to go about DataSync.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "DataSync")]
pub struct DataSyncArgs {
    /// The DataSync task; what it copies, where to and how is taken from it, unless an option says otherwise
    #[arg(long, env = "EFS2S3_TASK_ARN", value_name = "ARN")]
    pub task_arn: Option<TaskArn>,
    /// Which way to go
    #[arg(long, env = "EFS2S3_POLICY", value_name = "POLICY", default_value = "datasync-first")]
    pub policy: Policy,
    /// Compare after DataSync has succeeded too, and repair what it left out
    #[arg(long, env = "EFS2S3_AUDIT", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub audit: bool,
    /// How often to look at the execution; sooner at first
    #[arg(long, env = "EFS2S3_POLL_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = value::positive_duration)]
    pub poll_interval: Duration,
    /// Give up an execution that is QUEUED or LAUNCHING for so long
    #[arg(long, env = "EFS2S3_QUEUE_TIMEOUT", value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub queue_timeout: Duration,
    /// Give up an execution that is PREPARING for so long
    #[arg(long, env = "EFS2S3_PREPARE_TIMEOUT", value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub prepare_timeout: Duration,
    /// Give up an execution of which no counter moves for so long while it transfers or verifies, or of which nothing is heard
    #[arg(long, env = "EFS2S3_STALL_TIMEOUT", value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub stall_timeout: Duration,
    /// Give up an execution after so long in all
    #[arg(long, env = "EFS2S3_TIMEOUT", value_name = "DURATION", default_value = "2h", value_parser = value::positive_duration)]
    pub timeout: Duration,
    /// How long to wait for an execution's end once it is cancelled; without that end nothing is deleted directly
    #[arg(long, env = "EFS2S3_CANCEL_TIMEOUT", value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub cancel_timeout: Duration,
    /// Go directly at once after so many executions in a row that did not succeed; takes --state to remember
    #[arg(long, env = "EFS2S3_BREAKER_FAILURES", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub breaker_failures: u32,
    /// Try DataSync again after so long
    #[arg(long, env = "EFS2S3_BREAKER_COOLDOWN", value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub breaker_cooldown: Duration,
}

/// What is remembered from run to run.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// A folder, or `s3://bucket/prefix` outside the destination: what each object held, the lease that keeps two runs apart,
    /// uploads under way, DataSync's failures, and the reports of past runs
    #[arg(long, env = "EFS2S3_STATE", value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// How long a run that is not heard of any more keeps others out
    #[arg(long, env = "EFS2S3_LEASE_TTL", value_name = "DURATION", default_value = "60s", value_parser = value::lease_ttl)]
    pub lease_ttl: Duration,
}

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// DataSync, and the direct sync where it does not succeed
    DatasyncFirst,
    /// DataSync alone
    DatasyncOnly,
    /// The direct sync alone
    DirectOnly,
}

/// `efs2s3 plan`.
#[derive(Args, Debug)]
pub struct PlanCommand {
    /// Write the plan to FILE, headed by what it was made from
    #[arg(short, long, env = "EFS2S3_OUTPUT", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also list what stays as it is
    #[arg(long, env = "EFS2S3_ALL", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub all: bool,
    /// JSON lines on a terminal too (elsewhere they always are)
    #[arg(long, env = "EFS2S3_JSON", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub json: bool,
    /// A folder, or `s3://bucket/prefix`, with what earlier runs remember; it stays as it is
    #[arg(long, env = "EFS2S3_STATE", value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// End with 10 when there is something to do
    #[arg(long, env = "EFS2S3_EXIT_CODE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub exit_code: bool,
    /// What both commands share.
    #[command(flatten)]
    pub options: SyncArgs,
}

/// `efs2s3 apply`.
#[derive(Args, Debug)]
pub struct ApplyCommand {
    /// The plan, as `efs2s3 plan -o FILE` wrote it: source, destination and options are taken from it
    #[arg(env = "EFS2S3_PLAN", value_name = "FILE")]
    pub plan: PathBuf,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, env = "EFS2S3_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a line of JSON to FILE for each key that was written or deleted
    #[arg(long, env = "EFS2S3_CHANGES", value_name = "FILE")]
    pub changes: Option<PathBuf>,
    /// What is remembered from run to run.
    #[command(flatten)]
    pub state: StateArgs,
    /// How much at once.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How to reach S3.
    #[command(flatten)]
    pub s3: S3Args,
}

/// `efs2s3 verify`.
#[derive(Args, Debug)]
pub struct VerifyCommand {
    /// Read objects of which nothing that S3 keeps tells whether they are equal
    #[arg(long, env = "EFS2S3_READ", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub read: bool,
    /// JSON lines on a terminal too (elsewhere they always are)
    #[arg(long, env = "EFS2S3_JSON", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub json: bool,
    /// What it is to be compared as.
    #[command(flatten)]
    pub options: SyncArgs,
}

/// `efs2s3 ranges`.
#[derive(Args, Debug)]
pub struct RangesCommand {
    /// The directory to copy
    #[arg(env = "EFS2S3_SOURCE", value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix`
    #[arg(env = "EFS2S3_DESTINATION", value_name = "S3_URL")]
    pub destination: Location,
    /// How many ranges; fewer where there are fewer entries
    #[arg(long, env = "EFS2S3_COUNT", value_name = "N", value_parser = value::parts)]
    pub count: usize,
    /// Write them here instead of to stdout
    #[arg(short, long, env = "EFS2S3_OUTPUT", value_name = "FILE|S3_URL")]
    pub output: Option<FileLocation>,
    /// A folder, or `s3://bucket/prefix`: what runs remember here is counted, and nothing walked
    #[arg(long, env = "EFS2S3_STATE", value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// The ranges of the runs so far: with --state, what those remember is counted where no run over all keys does
    #[arg(long, env = "EFS2S3_PREVIOUS", value_name = "FILE|S3_URL", requires = "state")]
    pub previous: Option<FileLocation>,
    /// What objects stand for
    #[arg(long, env = "EFS2S3_MODE", value_name = "MODE", default_value = "datasync")]
    pub mode: Mode,
    /// What to walk.
    #[command(flatten)]
    pub tree: TreeArgs,
    /// How to reach S3.
    #[command(flatten)]
    pub s3: S3Args,
}

/// `efs2s3 report`.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Add up the reports of runs that shared the work; ends with the worst of their exit codes
    Merge(MergeCommand),
}

/// `efs2s3 report merge`.
#[derive(Args, Debug)]
pub struct MergeCommand {
    /// The reports
    #[arg(value_name = "FILE", required_unless_present = "state", conflicts_with = "state")]
    pub reports: Vec<PathBuf>,
    /// Or the last report of each range, from the state of the runs
    #[arg(long, env = "EFS2S3_STATE", value_name = "DIR|S3_URL", requires_all = ["ranges", "destination"])]
    pub state: Option<StateLocation>,
    /// The ranges, as `efs2s3 ranges` wrote them
    #[arg(long, env = "EFS2S3_RANGES", value_name = "FILE|S3_URL", requires = "state")]
    pub ranges: Option<FileLocation>,
    /// What the runs wrote to
    #[arg(long, env = "EFS2S3_DESTINATION", value_name = "S3_URL", requires = "state")]
    pub destination: Option<Location>,
    /// Write the report (JSON) to FILE instead of to stdout
    #[arg(long, env = "EFS2S3_REPORT", value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub report: PathBuf,
    /// How to reach S3.
    #[command(flatten)]
    pub s3: S3Args,
}

/// The options of a sync.
#[derive(Args, Debug)]
#[group(skip)]
pub struct SyncArgs {
    /// The directory to copy
    #[arg(env = "EFS2S3_SOURCE", value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix`
    #[arg(env = "EFS2S3_DESTINATION", value_name = "S3_URL")]
    pub destination: Location,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, env = "EFS2S3_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which of the keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// How to sync.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Which of the keys one of several runs works on.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Range of keys")]
pub struct RangeArgs {
    /// Only keys after KEY, as they are called below DIR; nothing is no bound
    #[arg(long, env = "EFS2S3_RANGE_AFTER", value_name = "KEY")]
    pub range_after: Option<String>,
    /// Only keys up to KEY, and KEY itself; nothing is no bound
    #[arg(long, env = "EFS2S3_RANGE_TO", value_name = "KEY")]
    pub range_to: Option<String>,
    /// Only a range of those that `efs2s3 ranges` wrote here
    #[arg(long, env = "EFS2S3_RANGES", value_name = "FILE|S3_URL", conflicts_with_all = ["range_after", "range_to"])]
    pub ranges: Option<FileLocation>,
    /// Which, from 0 [default: the index of the Batch array job or of the indexed Kubernetes Job that this runs in]
    #[arg(long, env = "EFS2S3_RANGE_INDEX", value_name = "N")]
    pub range_index: Option<usize>,
    /// As AWS Batch tells it.
    #[arg(long, env = "AWS_BATCH_JOB_ARRAY_INDEX", hide = true)]
    pub batch_index: Option<usize>,
    /// As Kubernetes tells it.
    #[arg(long, env = "JOB_COMPLETION_INDEX", hide = true)]
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
    #[arg(long, env = "EFS2S3_DELETE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub delete: bool,
    /// Delete no more than N objects, or P% of those listed [default: more than 100 and more than 10% are refused]
    #[arg(long, env = "EFS2S3_MAX_DELETE", value_name = "N|P%", default_value = "default", hide_default_value = true)]
    pub max_delete: MaxDelete,
    /// Let an empty source delete everything that --max-delete allows
    #[arg(long, env = "EFS2S3_ALLOW_EMPTY_SOURCE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub allow_empty_source: bool,
    /// Do nothing at all unless DIR is a mount point
    #[arg(long, env = "EFS2S3_REQUIRE_MOUNT", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub require_mount: bool,
    /// Do nothing at all unless this file is there (a path below DIR)
    #[arg(long, env = "EFS2S3_SENTINEL", value_name = "FILE")]
    pub sentinel: Option<PathBuf>,
    /// Delete in spite of directories that could not be read, but never below them
    #[arg(long, env = "EFS2S3_IGNORE_ERRORS", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
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
    #[arg(long, env = "EFS2S3_FROM_MANIFEST", value_name = "FILE|S3_URL")]
    pub from_manifest: Option<FileLocation>,
    /// Leave files younger than this for the next run; their objects stay
    #[arg(long, env = "EFS2S3_MIN_AGE", value_name = "DURATION", default_value = "0s", value_parser = value::duration)]
    pub min_age: Duration,
}

/// What to walk, and how.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Source")]
pub struct TreeArgs {
    /// Only what matches: DataSync patterns, separated by `|`
    #[arg(long, env = "EFS2S3_INCLUDE", value_name = "PATTERNS")]
    pub include: Option<String>,
    /// Not what matches: DataSync patterns, separated by `|`; its objects stay as they are
    #[arg(long, env = "EFS2S3_EXCLUDE", value_name = "PATTERNS")]
    pub exclude: Option<String>,
    /// What becomes of symbolic links with --mode plain [default: follow]
    #[arg(long, env = "EFS2S3_SYMLINKS", value_name = "HOW")]
    pub symlinks: Option<Symlinks>,
    /// Give up a file or directory of which nothing is heard for so long; what is below it is then unknown, not empty
    #[arg(long, env = "EFS2S3_SOURCE_TIMEOUT", value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub source_timeout: Duration,
    /// How many directories and files are looked at side by side
    #[arg(long, env = "EFS2S3_WALKERS", value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub walkers: Amount,
}

/// When an object is taken for equal.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Comparing")]
pub struct CompareArgs {
    /// What objects stand for
    #[arg(long, env = "EFS2S3_MODE", value_name = "MODE", default_value = "datasync")]
    pub mode: Mode,
    /// How a file is compared with an object of the same size
    #[arg(long, env = "EFS2S3_COMPARE", value_name = "HOW", default_value = "auto")]
    pub compare: Compare,
    /// Whether an object that is there may be replaced
    #[arg(long, env = "EFS2S3_OVERWRITE", value_name = "WHEN", default_value = "always")]
    pub overwrite: Overwrite,
    /// What is not kept as metadata: mtime, atime, uid, gid, permissions; more than one with commas
    #[arg(long, env = "EFS2S3_NO_PRESERVE", value_name = "ATTRIBUTES", value_delimiter = ',')]
    pub no_preserve: Vec<Attribute>,
    /// How metadata is written; `auto` is as the bucket's objects of DataSync have it, else in nanoseconds
    #[arg(long, env = "EFS2S3_METADATA_DIALECT", value_name = "DIALECT", default_value = "auto")]
    pub metadata_dialect: MetadataDialect,
}

/// What objects are stored with.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Uploading")]
pub struct UploadArgs {
    /// The storage class of new and changed objects, such as `STANDARD_IA`
    #[arg(long, env = "EFS2S3_STORAGE_CLASS", value_name = "CLASS", value_parser = value::word)]
    pub storage_class: Option<String>,
    /// Encryption at rest: AES256, aws:kms or aws:kms:dsse
    #[arg(long, env = "EFS2S3_SSE", value_name = "HOW", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"])]
    pub sse: Option<String>,
    /// The KMS key for --sse aws:kms
    #[arg(long, env = "EFS2S3_SSE_KMS_KEY_ID", value_name = "KEY", value_parser = value::word)]
    pub sse_kms_key_id: Option<String>,
    /// Cache-Control of what is uploaded
    #[arg(long, env = "EFS2S3_CACHE_CONTROL", value_name = "VALUE", value_parser = value::header_value)]
    pub cache_control: Option<String>,
    /// Content-Type of files with this extension, instead of the usual one; may be given more than once
    #[arg(long, env = "EFS2S3_CONTENT_TYPE", value_name = "EXT=TYPE", value_delimiter = ',')]
    pub content_type: Vec<ContentType>,
    /// The checksum that S3 checks and keeps, besides Content-MD5; `auto` is crc64nvme
    #[arg(long, env = "EFS2S3_CHECKSUM", value_name = "ALGORITHM", default_value = "auto")]
    pub checksum: Checksum,
    /// The size of a part of a large file: 5MiB to 5GiB; grows where 10,000 parts would not do
    #[arg(long, env = "EFS2S3_PART_SIZE", value_name = "SIZE", default_value = "8MiB", value_parser = value::part_size)]
    pub part_size: u64,
    /// Files of at least this size are sent in parts
    #[arg(long, env = "EFS2S3_MULTIPART_THRESHOLD", value_name = "SIZE", default_value = "16MiB", value_parser = value::threshold)]
    pub multipart_threshold: u64,
}

/// How much at once.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How many requests at once, at most; fewer while S3 asks for it
    #[arg(long, env = "EFS2S3_CONCURRENCY", value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub concurrency: Amount,
    /// How many ranges of the destination are listed side by side
    #[arg(long, env = "EFS2S3_LIST_CONCURRENCY", value_name = "N|auto", default_value = "auto", value_parser = value::amount)]
    pub list_concurrency: Amount,
    /// The memory for file content in flight [default: a quarter of what the container or machine has, 64MiB to 1GiB]
    #[arg(long, env = "EFS2S3_MEMORY", value_name = "SIZE", value_parser = value::memory)]
    pub memory: Option<u64>,
    /// Send no more than SIZE a second
    #[arg(long, env = "EFS2S3_BANDWIDTH", value_name = "SIZE", value_parser = value::positive_size)]
    pub bandwidth: Option<u64>,
    /// How often a request is sent again that may succeed another time
    #[arg(long, env = "EFS2S3_RETRIES", value_name = "N", default_value_t = 5)]
    pub retries: u32,
}

/// How to reach S3.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "S3")]
pub struct S3Args {
    /// The server, where it is not AWS
    #[arg(long, env = "EFS2S3_ENDPOINT_URL", value_name = "URL", value_parser = value::endpoint)]
    pub endpoint_url: Option<String>,
    /// Whether the bucket stands in the path or in the host name; `auto` is path wherever an endpoint is given
    #[arg(long, env = "EFS2S3_ADDRESSING", value_name = "STYLE", default_value = "auto")]
    pub addressing: Addressing,
    /// Refuse a bucket of any other account
    #[arg(long, env = "EFS2S3_EXPECTED_BUCKET_OWNER", value_name = "ACCOUNT", value_parser = value::word)]
    pub expected_bucket_owner: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

/// When something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl When {
    /// Whether to show it, on a terminal or not.
    #[must_use]
    pub const fn applies(self, is_terminal: bool) -> bool {
        match self {
            Self::Auto => is_terminal,
            Self::Always => true,
            Self::Never => false,
        }
    }
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
