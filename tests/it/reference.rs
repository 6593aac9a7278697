//! `docs/reference.md` describes the program: each option with its variable and default, each exit code, each report field.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use efs2s3::exit_code::ExitCode;
use serde_json::Value;

use crate::trial::Trial;

pub(crate) const REFERENCE: &str = include_str!("../../docs/reference.md");

/// An option or argument: its variable, and its default if the default is a single value.
#[derive(Debug, PartialEq)]
struct Setting {
    variable: Option<String>,
    default: Option<String>,
}

/// By the name: `--delete`, or `DIR` for an argument.
type Settings = BTreeMap<String, Setting>;

/// The text below a heading, up to the next one of the same level.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap();
    let text = document.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading '{heading}'"));
    text.split(&format!("\n{level} ")).next().unwrap()
}

/// The cells of each row of the tables in a text, without the heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |number: usize| lines[number].starts_with("| ");
    let is_head = |number: usize| lines.get(number + 1).is_some_and(|next| next.starts_with("|--"));
    let rows: Vec<_> = (0..lines.len()).filter(|&number| is_row(number) && !is_head(number)).collect();
    rows.into_iter().map(move |number| {
        let cells = lines[number].replace("\\|", "\u{0}");
        cells.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).skip(1).collect()
    })
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A single value between backticks.
fn single(cell: &str) -> Option<String> {
    let value = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!value.contains(['`', ' '])).then(|| value.to_owned())
}

/// What the reference documents for a command.
fn documented(command: &str) -> Settings {
    let mut settings = Settings::new();
    for part in section(REFERENCE, "## Options").split("\nCommands: ").skip(1) {
        let (commands, table) = part.split_once('\n').unwrap();
        if commands != "all" && !quoted(commands).any(|one| one == command) {
            continue;
        }
        for cells in rows(table) {
            let name = quoted(&cells[0]).last().unwrap().split([' ', '[']).next().unwrap().to_owned();
            let setting = Setting { variable: single(&cells[1]), default: single(&cells[2]) };
            assert!(settings.insert(name.clone(), setting).is_none(), "{command}: two rows for {name}");
        }
    }
    settings
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_efs2s3")).args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The value of `[name: value]` in a text, if it is a single word.
fn bracketed(text: &str, name: &str) -> Option<String> {
    let value = text.split(&format!("[{name}: ")).nth(1)?.split(']').next()?;
    (!value.contains(' ')).then(|| value.to_owned())
}

/// What a command's `--help` shows: each item starts on a line of its own, with the option or the argument in front.
fn shown(help: &str) -> Settings {
    let name = |line: &str| {
        // Texts that are wrapped stand further to the right.
        let line = line.strip_prefix("  ").filter(|rest| !rest.starts_with("      "))?;
        let long = line.trim_start().split([' ', ',', '[']).find(|word| word.starts_with("--"));
        let starts_with_option = line.trim_start().starts_with('-');
        let argument = line.strip_prefix(['<', '[']).and_then(|rest| rest.split(['>', ']']).next());
        if starts_with_option { long } else { argument }.map(str::to_owned)
    };
    let mut items: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        match (name(line), items.last_mut()) {
            (Some(name), _) => items.push((name, line.to_owned())),
            (None, Some((_, text))) => text.extend([" ", line.trim()]),
            (None, None) => {}
        }
    }
    let setting = |text: &str| {
        let variable = bracketed(text, "env").map(|variable| variable.split('=').next().unwrap().to_owned());
        Setting { variable, default: bracketed(text, "default") }
    };
    items.iter().map(|(name, text)| (name.clone(), setting(text))).collect()
}

/// The names of the commands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_option_of_every_command_has_its_row() {
    let mut commands = Vec::new();
    for command in subcommands(&help(&[])) {
        let inner = subcommands(&help(&[&command]));
        let whole = inner.iter().map(|inner| format!("{command} {inner}"));
        if inner.is_empty() { commands.push(command) } else { commands.extend(whole) }
    }
    let listed: BTreeSet<String> =
        rows(section(REFERENCE, "## Commands")).map(|cells| cells[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, commands.iter().cloned().collect());
    for command in commands {
        let mut shown = shown(&help(&command.split(' ').collect::<Vec<_>>()));
        shown.retain(|name, _| name != "--help" && name != "--version");
        let documented = documented(&command);
        let names = |settings: &Settings| settings.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&documented), names(&shown), "{command}");
        for (name, setting) in documented {
            assert_eq!(setting, shown[&name], "{command} {name}");
        }
        assert!(shown.len() >= 3, "{command}: {shown:?}");
    }
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let documented: BTreeSet<String> =
        rows(section(REFERENCE, "## Exit codes")).map(|cells| cells[0].clone()).collect();
    let codes = (0..=u8::MAX).filter_map(ExitCode::from_code).map(|code| code.code().to_string());
    assert_eq!(documented, codes.collect());
}

#[test]
fn every_field_of_a_report_has_its_row() {
    let trial = Trial::new();
    trial.write("file", "1");
    let report = trial.sync(&[]).expect(0).report;
    let section = section(REFERENCE, "## Report");
    let documented: BTreeSet<String> =
        rows(section).flat_map(|cells| quoted(&cells[0]).map(str::to_owned).collect::<Vec<_>>()).collect();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let all = fields(&report).union(&fields(&report["counts"])).cloned().collect::<BTreeSet<_>>();
    assert_eq!(documented, &all | &BTreeSet::from(["merged".to_owned()]));
    for part in ["bytes", "requests", "source_operations", "seconds"] {
        let row = rows(section).find(|cells| cells[0] == format!("`{part}`")).unwrap();
        assert_eq!(quoted(&row[1]).map(str::to_owned).collect::<BTreeSet<_>>(), fields(&report[part]), "{part}");
    }
}
