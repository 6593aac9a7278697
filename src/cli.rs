//! Arguments as typed: the command line, the environment and the config file, which all name the same options.
//!
//! A flag beats its environment variable `EFS2S3_…`, which beats the config file, which beats the default.
//! [`crate::config`] says what they mean together.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::datasync::TaskArn;
use crate::location::{FileLocation, Location};
use crate::state::StateLocation;

pub mod file;
mod options;
mod value;
mod variable;

pub use options::{
    Addressing, Attribute, Checksum, Compare, CompareArgs, DeleteArgs, HowArgs, LimitArgs, MetadataDialect, Mode,
    Overwrite, RangeArgs, S3Args, SourceArgs, Symlinks, TreeArgs, UploadArgs,
};
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
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines on stderr are written
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Whether stderr shows the progress: `auto` is on a terminal; elsewhere it is a log line every 10 s
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// `efs2s3 sync`.
#[derive(Args, Debug)]
pub struct SyncCommand {
    /// Only say what would be done, as `plan` does
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Write a line of JSON to FILE for each key that was written or deleted
    #[arg(long, value_name = "FILE")]
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
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix` [default: where the task copies to]
    #[arg(value_name = "S3_URL")]
    pub destination: Option<Location>,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a line of JSON to FILE for each key that was written or deleted directly
    #[arg(long, value_name = "FILE")]
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
    #[arg(long, value_name = "ARN")]
    pub task_arn: Option<TaskArn>,
    /// Which way to go
    #[arg(long, value_name = "POLICY", default_value = "datasync-first")]
    pub policy: Policy,
    /// Compare after DataSync has succeeded too, and repair what it left out
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub audit: bool,
    /// How often to look at the execution; sooner at first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::positive_duration)]
    pub poll_interval: Duration,
    /// Give up an execution that is QUEUED or LAUNCHING for so long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub queue_timeout: Duration,
    /// Give up an execution that is PREPARING for so long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub prepare_timeout: Duration,
    /// Give up an execution of which no counter moves for so long while it transfers or verifies, or of which nothing is heard
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub stall_timeout: Duration,
    /// Give up an execution after so long in all
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = value::positive_duration)]
    pub timeout: Duration,
    /// How long to wait for an execution's end once it is cancelled; without that end nothing is deleted directly
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub cancel_timeout: Duration,
    /// Go directly at once after so many executions in a row that did not succeed; takes --state to remember
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub breaker_failures: u32,
    /// Try DataSync again after so long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub breaker_cooldown: Duration,
}

/// What is remembered from run to run.
#[derive(Args, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// A folder, or `s3://bucket/prefix` outside the destination: what each object held, the lease that keeps two runs apart,
    /// uploads under way, DataSync's failures, and the reports of past runs
    #[arg(long, value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// How long a run that is not heard of any more keeps others out
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = value::lease_ttl)]
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
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also list what stays as it is
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub all: bool,
    /// JSON lines on a terminal too (elsewhere they always are)
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub json: bool,
    /// A folder, or `s3://bucket/prefix`, with what earlier runs remember; it stays as it is
    #[arg(long, value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// End with 10 when there is something to do
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub exit_code: bool,
    /// What both commands share.
    #[command(flatten)]
    pub options: SyncArgs,
}

/// `efs2s3 apply`.
#[derive(Args, Debug)]
pub struct ApplyCommand {
    /// The plan, as `efs2s3 plan -o FILE` wrote it: source, destination and options are taken from it
    #[arg(value_name = "FILE")]
    pub plan: PathBuf,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a line of JSON to FILE for each key that was written or deleted
    #[arg(long, value_name = "FILE")]
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
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub read: bool,
    /// JSON lines on a terminal too (elsewhere they always are)
    #[arg(long, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub json: bool,
    /// What it is to be compared as.
    #[command(flatten)]
    pub options: SyncArgs,
}

/// `efs2s3 ranges`.
#[derive(Args, Debug)]
pub struct RangesCommand {
    /// The directory to copy
    #[arg(value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix`
    #[arg(value_name = "S3_URL")]
    pub destination: Location,
    /// How many ranges; fewer where there are fewer entries
    #[arg(long, value_name = "N", value_parser = value::parts)]
    pub count: usize,
    /// Write them here instead of to stdout
    #[arg(short, long, value_name = "FILE|S3_URL")]
    pub output: Option<FileLocation>,
    /// A folder, or `s3://bucket/prefix`: what runs remember here is counted, and nothing walked
    #[arg(long, value_name = "DIR|S3_URL")]
    pub state: Option<StateLocation>,
    /// The ranges of the runs so far: with --state, what those remember is counted where no run over all keys does
    #[arg(long, value_name = "FILE|S3_URL", requires = "state")]
    pub previous: Option<FileLocation>,
    /// What objects stand for
    #[arg(long, value_name = "MODE", default_value = "datasync")]
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
    #[arg(long, value_name = "DIR|S3_URL", requires_all = ["ranges", "destination"])]
    pub state: Option<StateLocation>,
    /// The ranges, as `efs2s3 ranges` wrote them
    #[arg(long, value_name = "FILE|S3_URL", requires = "state")]
    pub ranges: Option<FileLocation>,
    /// What the runs wrote to
    #[arg(long, value_name = "S3_URL", requires = "state")]
    pub destination: Option<Location>,
    /// Write the report (JSON) to FILE instead of to stdout
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
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
    #[arg(value_name = "DIR")]
    pub source: PathBuf,
    /// Where to: `s3://bucket/prefix`
    #[arg(value_name = "S3_URL")]
    pub destination: Location,
    /// Write the report (JSON) to FILE; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Which of the keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// How to sync.
    #[command(flatten)]
    pub how: HowArgs,
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

/// Changes a command and all commands in it.
fn each_command(command: clap::Command, change: &dyn Fn(clap::Command) -> clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let change_inner =
        |command: clap::Command, name: String| command.mut_subcommand(name, |inner| each_command(inner, change));
    names.into_iter().fold(change(command), change_inner)
}
