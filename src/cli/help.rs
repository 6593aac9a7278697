//! The help of each command: `--help` shows every option, in groups, and examples; `-h` shows the most used options, on one
//! screen.

use std::ffi::OsString;

use clap::Command;
use clap::builder::Resettable;

use super::each_command;

/// The options that `-h` shows of each command, in this order; all of a command that is not listed.
const MOST_USED: [(&str, &[&str]); 7] = [
    (
        "run",
        &["source", "task_arn", "policy", "audit", "timeout", "delete", "max_delete", "exclude", "state", "report"],
    ),
    (
        "sync",
        &["delete", "max_delete", "dry_run", "include", "exclude", "mode", "compare", "state", "report", "bandwidth"],
    ),
    ("plan", &["delete", "max_delete", "output", "all", "exit_code", "include", "exclude", "mode", "compare", "state"]),
    ("apply", &["report", "changes", "state", "lease_ttl", "bandwidth", "memory", "concurrency", "endpoint_url"]),
    ("verify", &["read", "json", "include", "exclude", "mode", "report", "bandwidth", "endpoint_url"]),
    ("merge", &["state", "ranges", "destination", "report", "endpoint_url"]),
    ("ranges", &["count", "output", "state", "previous", "mode", "include", "exclude", "endpoint_url"]),
];

/// Each line fits on 80 columns: clap would break a longer one without its indentation.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
    0  the destination matches the source, or the command did its work
    1  fatal error
    2  wrong usage; the run has written nothing
    3  finished, but incomplete: read error, failures and withheld_because
       in the report
   10  plan --exit-code found something to do, or verify found a difference
   11  another run holds or took over the lease, or the run lost its lease
  130  interrupted by SIGINT
  143  interrupted by SIGTERM or SIGHUP";

pub(super) const RUN: &str = "\
Examples:
  Run a task, and sync directly if DataSync fails:
    efs2s3 run --task-arn \"$TASK_ARN\" --source /mnt/efs/assets \\
        --state s3://my-state/efs2s3

  Compare after a successful execution too, and repair what differs:
    efs2s3 run --task-arn \"$TASK_ARN\" --source /mnt/efs/assets \\
        --audit --report report.json

  Sync directly with the settings of the task, during an outage of DataSync:
    efs2s3 run --task-arn \"$TASK_ARN\" --source /mnt/efs/assets \\
        --policy direct-only

Exit codes: see efs2s3 --help";

pub(super) const SYNC: &str = "\
Examples:
  Copy new and changed files, and delete objects whose file no longer exists:
    efs2s3 sync /mnt/efs/assets s3://my-bucket/www --delete

  Show first what that would do:
    efs2s3 sync /mnt/efs/assets s3://my-bucket/www --delete --dry-run

  Write the same objects as `aws s3 sync`, but skip `*.tmp` and `/cache`:
    efs2s3 sync /mnt/efs/assets s3://my-bucket/www \\
        --mode plain --exclude '*.tmp|/cache'

  Work on the first of the ranges that `efs2s3 ranges` wrote:
    efs2s3 sync /mnt/efs/assets s3://my-bucket/www \\
        --ranges ranges.json --range-index 0

Exit codes: see efs2s3 --help";

pub(super) const PLAN: &str = "\
Examples:
  Show what `sync --delete` would do:
    efs2s3 plan /mnt/efs/assets s3://my-bucket/www --delete

  Write a plan for a review, and carry it out later:
    efs2s3 plan /mnt/efs/assets s3://my-bucket/www --delete -o plan.jsonl
    efs2s3 apply plan.jsonl

  Exit with 10 if the destination does not match the source:
    efs2s3 plan /mnt/efs/assets s3://my-bucket/www --delete --exit-code

Exit codes: see efs2s3 --help";

pub(super) const APPLY: &str = "\
Examples:
  Carry out a plan, and report what was done:
    efs2s3 apply plan.jsonl --report report.json

  Use another state than the plan was made with:
    efs2s3 apply plan.jsonl --state s3://my-state/efs2s3

Exit codes: see efs2s3 --help";

pub(super) const VERIFY: &str = "\
Examples:
  List each file whose object is missing or differs, and exit with 10:
    efs2s3 verify /mnt/efs/assets s3://my-bucket/www

  List objects without a file too, and download what an ETag cannot prove:
    efs2s3 verify /mnt/efs/assets s3://my-bucket/www --delete --read

Exit codes: see efs2s3 --help";

pub(super) const RANGES: &str = "\
Examples:
  Split the keys into four ranges:
    efs2s3 ranges /mnt/efs/assets s3://my-bucket/www --count 4 -o ranges.json

  Run one sync for each range, on any machine, and merge their reports:
    efs2s3 sync /mnt/efs/assets s3://my-bucket/www \\
        --ranges ranges.json --range-index 0 --report 0.json
    efs2s3 report merge 0.json 1.json 2.json 3.json

Exit codes: see efs2s3 --help";

pub(super) const MERGE: &str = "\
Examples:
  Merge four reports:
    efs2s3 report merge 0.json 1.json 2.json 3.json

  Merge the last reports that the runs left in their state:
    efs2s3 report merge --state s3://my-state/efs2s3 --ranges ranges.json \\
        --destination s3://my-bucket/www

Exit codes: see efs2s3 --help";

/// Shapes the help that these arguments ask for.
pub(super) fn for_arguments(command: Command, arguments: &[OsString]) -> Command {
    let is_short = arguments.iter().take_while(|word| *word != "--").any(|word| word == "-h");
    if is_short { short(command) } else { command }
}

/// Makes `-h` fit on one screen: the most used options, in one group, without their variables.
fn short(command: Command) -> Command {
    each_command(command, &|command| {
        let shown = MOST_USED.iter().find(|(name, _)| *name == command.get_name()).map(|(_, options)| *options);
        let is_root = command.get_name() == "efs2s3";
        command.mut_args(|argument| {
            let place = shown.map(|options| options.iter().position(|id| argument.get_id() == id));
            let is_hidden = place == Some(None) && !argument.is_positional();
            let argument = argument.hide_env(true).hide_short_help(is_hidden || is_root);
            match place.flatten() {
                Some(place) => argument.help_heading(Resettable::Reset).display_order(place),
                None => argument,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::{Cli, parser};

    /// The path and the help of each command, `long` or short, at 80 columns.
    fn helps(long: bool) -> Vec<(String, String)> {
        fn collect(command: &mut Command, path: &str, long: bool, found: &mut Vec<(String, String)>) {
            let path = format!("{path} {}", command.get_name());
            let help = if long { command.render_long_help() } else { command.render_help() };
            found.push((path.clone(), help.to_string()));
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                collect(inner, &path, long, found);
            }
        }
        let arguments = [if long { "--help" } else { "-h" }.into()];
        let mut command = for_arguments(parser(), &arguments).term_width(80);
        command.build();
        let mut found = Vec::new();
        collect(&mut command, "", long, &mut found);
        found
    }

    #[test]
    fn short_help_fits_on_one_screen() {
        for (command, help) in helps(false) {
            assert!(help.lines().count() <= 24, "{command}: {} lines\n{help}", help.lines().count());
        }
    }

    #[test]
    fn each_line_after_the_options_fits_on_80_columns() {
        for text in [EXIT_CODES, RUN, SYNC, PLAN, APPLY, VERIFY, RANGES, MERGE] {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn each_command_names_where_the_exit_codes_are() {
        for (command, help) in helps(true) {
            let has_own_options = !matches!(command.as_str(), " efs2s3 report" | " efs2s3 demo");
            assert_eq!(help.contains("\nExit codes:"), has_own_options, "{command}\n{help}");
        }
    }

    #[test]
    fn every_option_that_short_help_names_exists() {
        let command = parser();
        let names = |command: &Command, name: &str| {
            let found = command.get_subcommands().chain(command.get_subcommands().flat_map(Command::get_subcommands));
            let arguments = found.filter(|inner| inner.get_name() == name).flat_map(Command::get_arguments);
            arguments.map(|argument| argument.get_id().to_string()).collect::<Vec<_>>()
        };
        for (name, options) in MOST_USED {
            let known = names(&command, name);
            assert!(options.iter().all(|option| known.iter().any(|id| id == option)), "{name}: {options:?}");
            assert!(options.len() <= 10, "{name}");
        }
    }

    #[test]
    fn arguments_come_before_options() {
        for (command, help) in helps(true).into_iter().chain(helps(false)) {
            let place = |heading: &str| help.lines().position(|line| line == heading);
            assert!(place("Arguments:") < place("Options:"), "{command}\n{help}");
            let (_, options) = help.split_once("\nOptions:").unwrap();
            assert!(
                !options.lines().any(|line| line.starts_with("  <") || line.starts_with("  [")),
                "{command}\n{help}"
            );
        }
    }

    #[test]
    fn every_example_parses() {
        let mut examples = 0;
        for (command, help) in helps(true) {
            let Some((_, text)) = help.split_once("\nExamples:\n") else {
                assert!(matches!(command.as_str(), " efs2s3" | " efs2s3 report" | " efs2s3 demo"), "{command}");
                continue;
            };
            let text = text
                .split_once("\n\nExit codes: see efs2s3 --help")
                .map_or(text, |(examples, _)| examples)
                .replace("\\\n", "")
                .replace("$TASK_ARN", "arn:aws:datasync:us-east-1:111122223333:task/task-0123456789abcdef0");
            for line in text.lines().filter(|line| line.starts_with("    ")) {
                let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
                let matches =
                    Cli::command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                Cli::from_arg_matches(&matches).unwrap();
                examples += 1;
            }
        }
        assert!(examples >= 15, "{examples} examples");
    }
}
