//! The differences between the options of a run and the settings of its task: what is refused before a start, what a start
//! passes on, and what only the direct sync applies.

use clap::ValueEnum;

use crate::cli::{Attribute, Deletes, Policy, RunCommand};
use crate::datasync::defaults;
use crate::datasync::{Filters, OwnDeletes, Request, Task};
use crate::location::Location;
use crate::recorded_options::RecordedOptions;

/// The options that a start passes on.
const PASSED_ON: [&str; 3] = ["include", "exclude", "overwrite"];

/// The options that decide what the destination holds and that no task has, with the value that needs no direct sync.
const NOT_OF_A_TASK: [(&str, Option<&str>); 6] = [
    ("mode", Some("datasync")),
    ("min_age", Some("0s")),
    ("cache_control", None),
    ("content_type", None),
    ("sse", None),
    ("sse_kms_key_id", None),
];

/// The differences between the options of a run and the settings of its task.
#[derive(Debug)]
pub(super) struct Differences {
    /// Those of the options that a task has: name, value, the task's value.
    of_task: Vec<(&'static str, String, Option<String>)>,
    /// The destination of the task, if this program cannot write to it.
    foreign_destination: Option<String>,
    request: Request,
}

impl Differences {
    /// Compares the options in force with the task.
    pub(super) fn new(command: &RunCommand, options: &RecordedOptions, has_header_rules: bool, task: &Task) -> Self {
        let options = &normalized(command, options);
        let of_task = defaults::differences(&defaults::of_task(task), options);
        let own_deletes = command.datasync.deletes == Deletes::Datasync;
        let mut beyond = Vec::new();
        for (name, value, _) in &of_task {
            let needs_direct_sync = match *name {
                // Guarded deletes compare in any case, and a start passes on that nothing is to be deleted.
                "delete" => own_deletes && value == "true",
                // Another destination than a known one is refused.
                "destination" | "no_preserve" | "storage_class" => true,
                _ => false,
            };
            if needs_direct_sync {
                beyond.push(shown(name, value));
            }
        }
        for (name, equal) in NOT_OF_A_TASK {
            if let Some(value) = options.get(name).filter(|value| Some(value.as_str()) != equal) {
                beyond.push(shown(name, &value));
            }
        }
        // DataSync compares sizes and times.
        if let Some(value) = options.get("compare").filter(|value| value == "checksum") {
            beyond.push(shown("compare", &value));
        }
        if has_header_rules {
            beyond.push("the [[header]] rules of the config file".to_owned());
        }
        let deletes = if own_deletes && command.how.delete.delete { OwnDeletes::AsTask } else { OwnDeletes::None };
        let filters = Filters { include: options.get("include"), exclude: options.get("exclude") };
        let overwrite_never = options.get("overwrite").is_some_and(|value| value == "never");
        let is_foreign = |uri: &String| uri.parse::<Location>().is_err();
        let foreign_destination = task.destination_uri.clone().filter(is_foreign);
        Self { of_task, foreign_destination, request: Request { deletes, overwrite_never, filters, beyond } }
    }

    /// Logs each option that differs from the task's.
    pub(super) fn log(&self) {
        for (option, given, task) in &self.of_task {
            let foreign = self.foreign_destination.as_ref().filter(|_| *option == "destination");
            let foreign = foreign.map(|uri| format!("{uri} (cannot be used)"));
            let task = task.as_deref().or(foreign.as_deref()).unwrap_or("unset");
            if PASSED_ON.contains(option) {
                tracing::warn!(
                    option,
                    given,
                    task,
                    "this option differs from the task's: the run uses this option, and passes it on if it starts an execution"
                );
            } else {
                tracing::warn!(
                    option,
                    given,
                    task,
                    "this option differs from the task's: the direct sync uses this option"
                );
            }
        }
    }

    /// Returns why no execution can do what the run is to do, if that is so: it would write elsewhere, or other files.
    pub(super) fn refusal(&self, policy: Policy) -> Option<String> {
        if policy == Policy::DirectOnly {
            return None;
        }
        self.of_task.iter().find_map(|(name, given, task)| {
            let task = task.as_deref().unwrap_or("none");
            let what = match *name {
                "destination" if task.parse::<Location>().is_ok() => "the destination",
                "from_manifest" => "the manifest",
                _ => return None,
            };
            Some(format!(
                "{what} {given} is not that of the task ({task}), and an execution uses only the task's: started nothing. \
                 Pass --policy direct-only, or run efs2s3 sync with the task's filters"
            ))
        })
    }

    /// What the run requires of an execution.
    pub(super) fn into_request(self) -> Request {
        self.request
    }
}

/// Returns the options with the text that a task's settings have for the same value: `1` and `yes` are `true`.
fn normalized(command: &RunCommand, options: &RecordedOptions) -> RecordedOptions {
    let how = &command.how;
    let given = &how.compare.no_preserve;
    let attributes = Attribute::value_variants().iter().filter(|attribute| given.contains(attribute));
    let names: Vec<_> = attributes.filter_map(ValueEnum::to_possible_value).collect();
    let names = names.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>().join(",");
    let min_age = humantime::format_duration(how.source_args.min_age);
    let texts = [
        ("delete", Some(how.delete.delete.to_string())),
        ("no_preserve", Some(names)),
        ("bandwidth", how.limits.bandwidth.map(|bytes| format!("{bytes}B"))),
        ("min_age", Some(min_age.to_string())),
    ];
    let present = texts.into_iter().filter(|(name, _)| options.get(name).is_some());
    present.fold(options.clone(), |options, (name, text)| match text {
        Some(text) => options.with(name, text),
        None => options,
    })
}

fn shown(name: &str, value: &str) -> String {
    match name {
        "destination" => format!("the destination {value}"),
        _ => format!("--{} {value}", name.replace('_', "-")),
    }
}
