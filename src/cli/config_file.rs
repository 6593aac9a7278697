//! The config file: a line of TOML for each option, by its long name, and `[[header]]` tables.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use clap::error::ErrorKind;
use serde::Deserialize;

use super::parser;
use crate::destination::headers::HeaderRule;
use crate::recorded_options::RecordedOptions;

/// A config file.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) header_rules: Vec<HeaderRule>,
    pub(super) options: RecordedOptions,
}

#[derive(Deserialize)]
struct ParsedFile {
    #[serde(default)]
    header: Vec<HeaderRule>,
    #[serde(flatten)]
    options: toml::Table,
}

impl ConfigFile {
    /// Reads the config file that the arguments or the environment name, if any.
    pub(super) fn of(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let Some(path) = path(arguments) else {
            return Ok(Self::default());
        };
        let wrong = |what: String| parser().error(ErrorKind::Io, format!("config file {}: {what}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let ParsedFile { header, options } = toml::from_str(&text).map_err(|error| wrong(place_of(&error, &text)))?;
        Ok(Self { header_rules: header, options: known(options)? })
    }
}

/// The message of an error with the number of its line. The line itself may hold a secret.
fn place_of(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {}", before.matches('\n').count() + 1, error.message()),
        None => error.message().to_owned(),
    }
}

/// Reads the options, and checks their names.
fn known(table: toml::Table) -> Result<RecordedOptions, clap::Error> {
    let command = parser();
    let wrong = |kind, what: String| command.clone().error(kind, format!("config file: {what}"));
    let options = RecordedOptions::from_toml(table).map_err(|name| {
        let name = name.replace('_', "-");
        wrong(ErrorKind::InvalidValue, format!("'{name}' takes a string, a number, true, false or a list of strings"))
    })?;
    for name in options.names() {
        if name == "config" || !takes(&command, name) {
            let name = name.replace('_', "-");
            return Err(wrong(ErrorKind::UnknownArgument, format!("there is no option '{name}'")));
        }
    }
    Ok(options)
}

/// Returns whether a command, or one in it, takes this argument.
fn takes(command: &Command, id: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_id() == id)
        || command.get_subcommands().any(|inner| takes(inner, id))
}

/// Returns the path of the last `--config`, or else that of the environment.
fn path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    let mut given = None;
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            given = rest.next().map(PathBuf::from);
        } else if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            given = Some(PathBuf::from(path));
        }
    }
    given.or_else(|| std::env::var_os("EFS2S3_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
}
