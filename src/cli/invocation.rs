//! An invocation: one command with its options, from the command line, the environment, the config file and the defaults.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

use super::config_file::ConfigFile;
use super::variable::{check_variables, with_variables};
use super::{Cli, help, parser};
use crate::destination::headers::HeaderRule;
use crate::filter::{FilterError, check_written};
use crate::recorded_options::RecordedOptions;

/// A command with its options.
#[derive(Debug)]
pub struct Invocation {
    /// The command.
    pub cli: Cli,
    /// The header rules of the config file.
    pub header_rules: Vec<HeaderRule>,
    /// All options in force.
    pub options: RecordedOptions,
    /// The options that the command line or the environment sets.
    pub given: RecordedOptions,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// Reads the command line and the environment of this process.
    ///
    /// # Errors
    /// As for [`Self::read`], and if a variable is not one of this program's.
    pub fn of_process() -> Result<Self, clap::Error> {
        let read = Self::read(std::env::args_os());
        match (read, check_variables(std::env::vars_os())) {
            // `--help` and `--version` show the right names.
            (Err(error), Err(_)) if !error.use_stderr() => Err(error),
            // A wrong name is also why a required option is missing.
            (_, Err(error)) => Err(parser().error(ErrorKind::UnknownArgument, error)),
            (read, Ok(())) => read,
        }
    }

    /// Reads the command line `arguments`, the environment, and the config file that one of them names.
    ///
    /// # Errors
    /// Returns an error, ready to be printed, if one of them is not valid, and for `--help` and `--version`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let invocation = Self::read_with(arguments.into_iter().collect(), RecordedOptions::default())?;
        invocation.check_patterns().map_err(|error| parser().error(ErrorKind::ValueValidation, error))?;
        Ok(invocation)
    }

    /// Checks the patterns that the user wrote. Those of a task become defaults later, and DataSync accepted them.
    fn check_patterns(&self) -> Result<(), FilterError> {
        for which in ["include", "exclude"] {
            let filters = self.options.values(which).unwrap_or_default();
            filters.iter().try_for_each(|filter| check_written(which, filter))?;
        }
        self.header_rules.iter().try_for_each(|rule| check_written("[[header]]", &rule.pattern))
    }

    /// Reads the same again with other defaults.
    ///
    /// # Errors
    /// Returns an error if the result is not valid.
    pub(crate) fn with_defaults(&self, defaults: RecordedOptions) -> Result<Self, clap::Error> {
        Self::read_with(self.arguments.clone(), defaults)
    }

    fn read_with(arguments: Vec<OsString>, defaults: RecordedOptions) -> Result<Self, clap::Error> {
        let file = ConfigFile::of(&arguments)?;
        let defaults = defaults.overridden_by(&file.options);
        let command = defaults.as_defaults_of(with_variables(parser()));
        let matches = help::for_arguments(command, &arguments).try_get_matches_from(&arguments)?;
        let innermost = innermost(&matches);
        let is_given = |source| matches!(source, ValueSource::CommandLine | ValueSource::EnvVariable);
        Ok(Self {
            header_rules: file.header_rules,
            options: RecordedOptions::of_matches(innermost, |_| true),
            given: RecordedOptions::of_matches(innermost, is_given),
            cli: Cli::from_arg_matches(&matches)?,
            arguments,
        })
    }
}

/// Returns the matches of the command itself: `merge` of `report merge`.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}
