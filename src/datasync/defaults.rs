//! The defaults that a task's settings give to the options of the direct sync.
//!
//! Flags, environment variables and the config file override them.

use crate::datasync::Task;
use crate::location::Location;
use crate::recorded_options::RecordedOptions;

/// The options that have a default in the task: their flags, with `_` for `-`.
const DERIVED: [&str; 9] = [
    "destination",
    "include",
    "exclude",
    "delete",
    "overwrite",
    "no_preserve",
    "bandwidth",
    "storage_class",
    "from_manifest",
];

/// Returns the task's settings as option values.
pub(crate) fn of_task(task: &Task) -> RecordedOptions {
    let settings = &task.settings;
    let overwrite = if settings.overwrite_never { "never" } else { "always" };
    let not_preserved = (!settings.not_preserved.is_empty()).then(|| settings.not_preserved.join(","));
    let values = [
        // Not one that this program cannot write to.
        ("destination", task.destination_uri.clone().filter(|uri| uri.parse::<Location>().is_ok())),
        ("include", settings.include.clone()),
        ("exclude", settings.exclude.clone()),
        ("delete", Some(settings.delete.to_string())),
        ("overwrite", Some(overwrite.to_owned())),
        ("no_preserve", not_preserved),
        ("bandwidth", settings.bytes_per_second.map(|bytes| format!("{bytes}B"))),
        ("storage_class", settings.storage_class.clone()),
        ("from_manifest", settings.manifest.clone()),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Returns the options whose value is not the task's: name, the value, the task's value.
pub(crate) fn differences(
    defaults: &RecordedOptions,
    options: &RecordedOptions,
) -> Vec<(&'static str, String, Option<String>)> {
    DERIVED
        .into_iter()
        .filter_map(|name| {
            let (given, task) = (options.get(name)?, defaults.get(name));
            // A task shows every other storage class.
            let shown = task.as_deref().or_else(|| (name == "storage_class").then_some("STANDARD"));
            let is_same = shown.is_some_and(|shown| is_same(name, shown, &given));
            (!is_same).then_some((name, given, task))
        })
        .collect()
}

fn is_same(name: &str, task: &str, given: &str) -> bool {
    let location = |text: &str| text.parse::<Location>().ok();
    task == given || name == "destination" && location(task).is_some() && location(task) == location(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasync::TaskSource;
    use crate::datasync::task::{LocationArns, TaskSettings};

    fn task(settings: TaskSettings) -> Task {
        Task {
            latest_execution: None,
            source: TaskSource::Other,
            destination_uri: Some("s3://site/www/".to_owned()),
            settings,
            options: None,
            locations: LocationArns::default(),
        }
    }

    #[test]
    fn each_task_setting_becomes_the_matching_option() {
        let settings = TaskSettings {
            include: Some("/a".to_owned()),
            exclude: Some("*.tmp|/private".to_owned()),
            delete: true,
            overwrite_never: true,
            not_preserved: vec!["uid".to_owned(), "gid".to_owned()],
            bytes_per_second: Some(1_000_000),
            storage_class: Some("GLACIER_IR".to_owned()),
            manifest: Some("s3://lists/m.csv".to_owned()),
            unsupported: Vec::new(),
        };
        let defaults = of_task(&task(settings));
        let values: Vec<_> = DERIVED.map(|name| defaults.get(name).unwrap()).to_vec();
        assert_eq!(
            values,
            [
                "s3://site/www/",
                "/a",
                "*.tmp|/private",
                "true",
                "never",
                "uid,gid",
                "1000000B",
                "GLACIER_IR",
                "s3://lists/m.csv"
            ]
        );
        let plain = of_task(&task(TaskSettings::default()));
        assert_eq!(plain.names().collect::<Vec<_>>(), ["delete", "destination", "overwrite"]);
    }

    #[test]
    fn an_option_that_differs_from_the_task_is_returned_with_both_values() {
        let defaults = of_task(&task(TaskSettings::default()));
        let given = |options: &[(&'static str, &str)]| {
            options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
        };
        assert_eq!(
            differences(&defaults, &given(&[("destination", "s3://site/www"), ("delete", "false"), ("walkers", "3")])),
            []
        );
        assert_eq!(
            differences(&defaults, &given(&[("delete", "true"), ("exclude", "*.tmp")])),
            [("exclude", "*.tmp".to_owned(), None), ("delete", "true".to_owned(), Some("false".to_owned()))]
        );
    }
}
