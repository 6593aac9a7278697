//! Arguments as typed: the command line, the environment and the config file, which all name the same options.
//!
//! An option on the command line beats its environment variable `EFS2S3_…`, which beats the config file, which beats the
//! default. [`crate::config`] interprets them.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

mod choice;
mod commands;
mod config_file;
mod datasync;
mod defaults;
mod help;
mod invocation;
mod options;
mod value;
mod variable;

pub(crate) use choice::{
    Attribute, ChecksumChoice, Compare, Deletes, MetadataDialect, Mode, Overwrite, Policy, Symlinks,
};
pub use choice::{LogFormat, When};
pub use commands::{
    ApplyCommand, MergeCommand, PlanCommand, RangesCommand, ReportCommand, RunCommand, SyncArgs, SyncCommand,
    VerifyCommand,
};
pub(crate) use datasync::DataSyncArgs;
pub use invocation::Invocation;
pub use options::StateArgs;
pub(crate) use options::{
    CompareArgs, DeleteArgs, EncryptionArgs, HowArgs, LimitArgs, RangeArgs, SourceArgs, UploadArgs,
};
pub(crate) use value::Amount;
pub use variable::{VariableError, check_variables};

/// Copy a file tree on Amazon EFS to an S3 prefix, with AWS DataSync or directly
#[derive(Debug, Parser)]
#[command(name = "efs2s3", version, max_term_width = 110, after_long_help = help::EXIT_CODES)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the DataSync task, and sync directly if it fails
    ///
    /// DataSync also counts as failed if it hangs or cannot be reached; the options below "DataSync" set the time limits
    Run(Box<RunCommand>),
    /// Make the destination match the source
    Sync(Box<SyncCommand>),
    /// Show what sync would do
    ///
    /// The command writes nothing to the destination. With `-o FILE` it writes a plan for `efs2s3 apply`
    Plan(Box<PlanCommand>),
    /// Carry out a plan
    ///
    /// The run skips each line whose file or object has changed since, and then exits with 3
    Apply(Box<ApplyCommand>),
    /// Compare all content, and list the differences
    ///
    /// The command reads every file, and compares it with the ETag or stored checksum of its object
    Verify(Box<VerifyCommand>),
    /// Split the keys into ranges, for several runs in parallel
    ///
    /// The ranges follow one another and hold about the same number of keys
    Ranges(Box<RangesCommand>),
    /// Work with the reports of past runs
    #[command(subcommand)]
    Report(Box<ReportCommand>),
    /// Show the whole flow on embedded servers for S3 and DataSync
    #[cfg(feature = "demo")]
    Demo,
}

/// The options that every command takes.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "General")]
pub struct GlobalArgs {
    /// Read options from this TOML file
    ///
    /// Each line sets an option by its long name without the dashes, such as `max-delete = 500`; `[[header]]` tables set
    /// the headers of the files that match a pattern
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write log lines on stderr in this form
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Show the progress on stderr: as one line on a terminal, elsewhere as a log line every 10 s
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub progress: When,
}

/// Returns the parser of the command line. A flag also takes a value, as 1, yes or true, from its variable or a file.
///
/// The last of a repeated option wins, so that a user can override what a wrapper script passes. Options that take a list
/// (`--exclude`, `--include`, `--no-preserve`, `--content-type`) add up: a run never publishes what one of them excludes.
fn parser() -> clap::Command {
    each_command(Cli::command().args_override_self(true), &|command| {
        command.mut_args(|argument| {
            let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
            if is_flag { argument.value_parser(BoolishValueParser::new()) } else { argument }
        })
    })
}

/// Changes a command and all commands in it.
fn each_command(command: clap::Command, change: &dyn Fn(clap::Command) -> clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let change_inner =
        |command: clap::Command, name: String| command.mut_subcommand(name, |inner| each_command(inner, change));
    names.into_iter().fold(change(command), change_inner)
}
