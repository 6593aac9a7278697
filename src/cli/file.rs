//! The config file: a line of TOML for each option, by its long name, and `[[header]]` tables.
//!
//! Its values become the options' defaults before the command line is read, so they are checked exactly as flags are,
//! and flags and environment variables beat them without another rule.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use serde::Deserialize;

use super::variable::with_variables;
use super::{Cli, SyncArgs, each_command};
use crate::destination::headers::HeaderRule;

/// What a command is run with.
#[derive(Debug)]
pub struct Invocation {
    /// The arguments.
    pub cli: Cli,
    /// The config file's header rules.
    pub header_rules: Vec<HeaderRule>,
    /// All options in force, by their names.
    pub options: BTreeMap<String, Vec<String>>,
    /// Those of them that command line or environment name.
    pub given: BTreeMap<String, Vec<String>>,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// The same with further defaults, which flags, environment and config file beat.
    ///
    /// # Errors
    /// As for [`parse`]: the defaults are checked as flags are.
    pub fn with_defaults(&self, defaults: toml::Table) -> Result<Self, clap::Error> {
        parse_with(self.arguments.clone(), defaults)
    }
}

#[derive(Debug, Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    header: Vec<HeaderRule>,
    #[serde(flatten)]
    options: toml::Table,
}

/// Reads command line, environment and config file.
///
/// # Errors
/// Whatever is wrong with one of them, ready to be printed; `--help` and `--version` come this way too.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    parse_with(arguments.into_iter().collect(), toml::Table::new())
}

fn parse_with(arguments: Vec<OsString>, mut defaults: toml::Table) -> Result<Invocation, clap::Error> {
    let file = match config_path(&arguments) {
        Some(path) => read(&path)?,
        None => ConfigFile::default(),
    };
    defaults.extend(file.options.into_iter().map(|(name, value)| (name.replace('-', "_"), value)));
    let command = with_defaults(with_variables(Cli::command()), &defaults)?;
    let matches = command.try_get_matches_from(&arguments)?;
    let innermost = innermost(&matches);
    let options = options_in_force(innermost);
    let is_given = |id: &str| {
        let source = innermost.value_source(id);
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let given =
        options.iter().filter(|(id, _)| is_given(id)).map(|(id, values)| (id.clone(), values.clone())).collect();
    Ok(Invocation { cli: Cli::from_arg_matches(&matches)?, header_rules: file.header, options, given, arguments })
}

/// The matches of the command itself: `merge` of `report merge`.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

/// What belongs to a run and not to what it is to do, and what a plan holds in its lines.
const NOT_RECORDED: [&str; 10] = [
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

/// The arguments of a sync as a plan recorded them, with others on top. Neither environment nor config file count.
///
/// # Errors
/// As for [`parse`].
pub fn recorded(
    source: &str,
    destination: &str,
    options: &BTreeMap<String, Vec<String>>,
    on_top: &BTreeMap<String, Vec<String>>,
) -> Result<SyncArgs, clap::Error> {
    let command = Cli::command();
    let mut words = vec!["efs2s3".to_owned(), "sync".to_owned()];
    for argument in command.find_subcommand("sync").into_iter().flat_map(Command::get_arguments) {
        let id = argument.get_id().as_str();
        let values = on_top.get(id).or_else(|| options.get(id)).filter(|_| !NOT_RECORDED.contains(&id));
        for (value, long) in values.into_iter().flatten().zip(std::iter::repeat(argument.get_long())) {
            let Some(long) = long else {
                continue;
            };
            if !matches!(argument.get_action(), ArgAction::SetTrue) {
                words.push(format!("--{long}={value}"));
            } else if value == "true" {
                words.push(format!("--{long}"));
            }
        }
    }
    words.extend(["--", source, destination].map(str::to_owned));
    let matches = command.try_get_matches_from(words)?;
    let (_, sync) = matches.subcommand().ok_or_else(|| Cli::command().error(ErrorKind::MissingSubcommand, "sync"))?;
    SyncArgs::from_arg_matches(sync)
}

/// Every option that has a value, and its values as they were written.
fn options_in_force(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let texts = |id: &str| {
        let values = matches.try_get_raw(id).ok().flatten()?;
        Some((id.to_owned(), values.map(|value| value.to_string_lossy().into_owned()).collect()))
    };
    matches.ids().filter_map(|id| texts(id.as_str())).collect()
}

fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("EFS2S3_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Result<ConfigFile, clap::Error> {
    let wrong = |what: String| Cli::command().error(ErrorKind::Io, format!("config file {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn with_defaults(command: Command, options: &toml::Table) -> Result<Command, clap::Error> {
    let names =
        |command: &Command| command.get_arguments().map(|argument| argument.get_id().to_string()).collect::<Vec<_>>();
    let mut known = names(&command);
    let mut commands: Vec<&Command> = command.get_subcommands().collect();
    while let Some(command) = commands.pop() {
        known.extend(names(command));
        commands.extend(command.get_subcommands());
    }
    let mut defaults = Vec::new();
    for (id, value) in options {
        let name = id.replace('_', "-");
        if !known.contains(id) || id == "config" {
            return Err(
                Cli::command().error(ErrorKind::UnknownArgument, format!("config file: there is no option '{name}'"))
            );
        }
        let Some(values) = texts(value) else {
            return Err(Cli::command().error(
                ErrorKind::InvalidValue,
                format!("config file: '{name}' takes a text, a number, true or false, or a list of texts"),
            ));
        };
        defaults.push((id.clone(), values));
    }
    Ok(each_command(command, &|mut command| {
        for (id, values) in &defaults {
            if command.get_arguments().any(|argument| argument.get_id() == id) {
                command = command.mut_arg(id, |argument| argument.required(false).default_values(values.clone()));
            }
        }
        command
    }))
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(yes) => Some(vec![yes.to_string()]),
        toml::Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}
