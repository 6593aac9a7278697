//! Recorded options as the defaults of the command line.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches};

use super::{SyncArgs, each_command, parser};
use crate::recorded_options::RecordedOptions;

/// The options that belong to one run and not to what it does, and `from_manifest`, in whose place a plan has its lines.
const NOT_REPEATED: [&str; 10] = [
    "source",
    "destination",
    "dry_run",
    "report",
    "changes",
    "state",
    "lease_ttl",
    "config",
    "log_format",
    "from_manifest",
];

impl RecordedOptions {
    /// Returns the options whose value is from such a source.
    pub(super) fn of_matches(matches: &ArgMatches, is_meant: impl Fn(ValueSource) -> bool) -> Self {
        let texts = |id: &str| {
            let values = matches.try_get_raw(id).ok().flatten()?;
            Some((id.to_owned(), values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>()))
        };
        let ids = matches.ids().map(clap::Id::as_str);
        ids.filter(|id| matches.value_source(id).is_some_and(&is_meant)).filter_map(texts).collect()
    }

    /// Makes these options the defaults of a command and of all commands in it.
    pub(super) fn as_defaults_of(&self, command: Command) -> Command {
        each_command(command, &|command| {
            command.mut_args(|argument| match self.values(argument.get_id().as_str()) {
                Some(values) => argument.required(false).default_values(values.to_vec()),
                None => argument,
            })
        })
    }

    /// Returns the arguments of a sync with these options. Neither the environment nor a config file adds to them.
    ///
    /// # Errors
    /// Returns an error if a value is not valid.
    pub fn sync_args(&self, source: &str, destination: &str) -> Result<SyncArgs, clap::Error> {
        let command = self.clone().without(&NOT_REPEATED).as_defaults_of(parser());
        let matches = command.try_get_matches_from(["efs2s3", "sync", "--", source, destination])?;
        let (_, sync) = matches.subcommand().ok_or_else(|| parser().error(ErrorKind::MissingSubcommand, "sync"))?;
        SyncArgs::from_arg_matches(sync)
    }
}
