//! The arguments of each command.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, Subcommand};

use super::choice::Mode;
use super::datasync::DataSyncArgs;
use super::help;
use super::options::{EncryptionArgs, HowArgs, LimitArgs, RangeArgs, S3Args, StateArgs, TreeArgs};
use super::value;
use crate::location::{FileLocation, Location};
use crate::state::StateLocation;

/// The source and the destination, and how to make them match.
#[derive(Args, Debug)]
#[group(skip)]
pub struct SyncArgs {
    /// Read files from this directory
    #[arg(value_name = "DIR")]
    pub(crate) source: PathBuf,
    /// Use this destination: `s3://bucket/prefix`
    #[arg(value_name = "S3_URL")]
    pub(crate) destination: Location,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

/// `efs2s3 run`.
#[derive(Args, Debug)]
#[command(after_long_help = help::RUN)]
pub struct RunCommand {
    /// Read files from this directory, the mounted source of the task
    #[arg(long, value_name = "DIR")]
    pub(crate) source: PathBuf,
    /// Use this destination: `s3://bucket/prefix` [default: that of the task]
    #[arg(value_name = "S3_URL")]
    pub(crate) destination: Option<Location>,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Append a line of JSON to FILE for each key that the direct sync writes or deletes
    #[arg(long, value_name = "FILE")]
    pub(crate) changes: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) datasync: DataSyncArgs,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// `efs2s3 sync`.
#[derive(Args, Debug)]
#[command(after_long_help = help::SYNC)]
pub struct SyncCommand {
    /// Print what would be done, as `plan` does
    ///
    /// The run writes nothing to the destination
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Append a line of JSON per written or deleted key to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) changes: Option<PathBuf>,
    /// The state.
    #[command(flatten)]
    pub state: StateArgs,
    /// The arguments that `sync`, `plan` and `verify` share.
    #[command(flatten, next_help_heading = Resettable::Reset)]
    pub options: SyncArgs,
}

/// `efs2s3 plan`.
#[derive(Args, Debug)]
#[command(after_long_help = help::PLAN)]
pub struct PlanCommand {
    /// Write the plan to FILE, for `efs2s3 apply`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// List the keys that stay as they are too
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON lines even on a terminal
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 10 if there is something to do
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Read the index of earlier runs here; write nothing
    ///
    /// A folder, or `s3://bucket/prefix`
    #[arg(long, value_name = "DIR|S3_URL", help_heading = "State")]
    pub(crate) state: Option<StateLocation>,
    #[command(flatten)]
    pub(crate) options: SyncArgs,
}

/// `efs2s3 apply`.
#[derive(Args, Debug)]
#[command(after_long_help = help::APPLY)]
pub struct ApplyCommand {
    /// Carry out this plan, which `efs2s3 plan -o FILE` wrote
    ///
    /// The plan holds the source, the destination and the options that it was made with
    #[arg(value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Append a line of JSON per written or deleted key to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) changes: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// `efs2s3 verify`.
#[derive(Args, Debug)]
#[command(after_long_help = help::VERIFY)]
pub struct VerifyCommand {
    /// Download objects if nothing else can prove equality
    ///
    /// Without --read, a file counts as failed if neither the ETag nor the stored checksum of its object can show whether
    /// they are equal
    #[arg(long)]
    pub(crate) read: bool,
    /// Print JSON lines even on a terminal
    #[arg(long)]
    pub(crate) json: bool,
    /// Read the mount points inside DIR that earlier runs recorded here
    ///
    /// A folder, or `s3://bucket/prefix`. What lies at or below one that is missing cannot be compared
    #[arg(long, value_name = "DIR|S3_URL", help_heading = "State")]
    pub(crate) state: Option<StateLocation>,
    #[command(flatten)]
    pub(crate) options: SyncArgs,
}

/// `efs2s3 ranges`.
#[derive(Args, Debug)]
#[command(after_long_help = help::RANGES)]
pub struct RangesCommand {
    /// Split the keys of the files in this directory
    #[arg(value_name = "DIR")]
    pub(crate) source: PathBuf,
    /// Split for this destination: `s3://bucket/prefix`
    #[arg(value_name = "S3_URL")]
    pub(crate) destination: Location,
    /// Split into N ranges; fewer if there are fewer keys
    #[arg(long, value_name = "N", value_parser = value::parts)]
    pub(crate) count: usize,
    /// Write the range list here, not to stdout
    #[arg(short, long, value_name = "FILE|S3_URL")]
    pub(crate) output: Option<FileLocation>,
    /// Count keys in the index of earlier runs
    ///
    /// The program then does not walk DIR. The state of those runs is a folder, or `s3://bucket/prefix`
    #[arg(long, value_name = "DIR|S3_URL")]
    pub(crate) state: Option<StateLocation>,
    /// Count keys in the index of each of these ranges
    ///
    /// An earlier range list, for the case that no run over all keys left an index; needs --state
    #[arg(long, value_name = "FILE|S3_URL", requires = "state")]
    pub(crate) previous: Option<FileLocation>,
    /// Split the keys of a run in this mode
    #[arg(long, value_name = "MODE", default_value = "datasync")]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgs,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}

/// `efs2s3 report`.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Merge the reports of parallel runs into one
    ///
    /// The reports must be of one sync over one range list. The exit code follows from their counts and exit codes; it is
    /// 1 if a key was in no range or in two
    Merge(MergeCommand),
}

/// `efs2s3 report merge`.
#[derive(Args, Debug)]
#[command(after_long_help = help::MERGE)]
pub struct MergeCommand {
    /// Merge these reports
    #[arg(value_name = "FILE", required_unless_present = "state", conflicts_with = "state")]
    pub(crate) reports: Vec<PathBuf>,
    /// Merge the last report of each range in this state
    ///
    /// Needs --ranges and --destination
    #[arg(long, value_name = "DIR|S3_URL", requires_all = ["ranges", "destination"])]
    pub(crate) state: Option<StateLocation>,
    /// Take the ranges from this range list; needs --state
    #[arg(long, value_name = "FILE|S3_URL", requires = "state")]
    pub(crate) ranges: Option<FileLocation>,
    /// Take the reports of this destination; needs --state
    #[arg(long, value_name = "S3_URL", requires = "state")]
    pub(crate) destination: Option<Location>,
    /// Write the merged report (JSON) to FILE, not to stdout
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(crate) report: PathBuf,
    #[command(flatten)]
    pub(crate) s3: S3Args,
}
