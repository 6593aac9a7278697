//! The options of the direct sync as the task has them: defaults that flags, environment and config file beat.

use std::collections::BTreeMap;

use crate::datasync::Task;
use crate::location::Location;

/// The options that a task may set, by the names of their flags with `_`.
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

/// The task's options as defaults.
#[must_use]
pub fn defaults(task: &Task) -> toml::Table {
    let settings = &task.settings;
    let overwrite = if settings.overwrite_never { "never" } else { "always" };
    let not_preserved = (!settings.not_preserved.is_empty()).then(|| settings.not_preserved.join(","));
    let options = [
        ("destination", task.destination_uri.clone()),
        ("include", settings.include.clone()),
        ("exclude", settings.exclude.clone()),
        ("delete", Some(settings.delete.to_string())),
        ("overwrite", Some(overwrite.to_owned())),
        ("no_preserve", not_preserved),
        ("bandwidth", settings.bytes_per_second.map(|bytes| format!("{bytes}B"))),
        ("storage_class", settings.storage_class.clone()),
        ("from_manifest", settings.manifest.clone()),
    ];
    options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

/// The options in force that are not the task's: name, the value in force, the task's.
#[must_use]
pub fn differences(
    defaults: &toml::Table,
    in_force: &BTreeMap<String, Vec<String>>,
) -> Vec<(&'static str, String, Option<String>)> {
    DERIVED
        .into_iter()
        .filter_map(|name| {
            let task = defaults.get(name).and_then(toml::Value::as_str).map(str::to_owned);
            let given = in_force.get(name).filter(|values| !values.is_empty())?.join(",");
            let is_same = task.as_ref().is_some_and(|task| is_same(name, task, &given));
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
    use crate::datasync::{SourceOfTask, TaskSettings};

    fn task(settings: TaskSettings) -> Task {
        Task {
            latest_execution: None,
            source: SourceOfTask::Other,
            destination_uri: Some("s3://site/www/".to_owned()),
            settings,
        }
    }

    #[test]
    fn each_setting_becomes_the_option_that_means_it() {
        let settings = TaskSettings {
            include: Some("/a".to_owned()),
            exclude: Some("*.tmp|/private".to_owned()),
            delete: true,
            overwrite_never: true,
            not_preserved: vec!["uid", "gid"],
            bytes_per_second: Some(1_000_000),
            storage_class: Some("GLACIER_IR".to_owned()),
            manifest: Some("s3://lists/m.csv".to_owned()),
            unsupported: Vec::new(),
        };
        let derived = defaults(&task(settings));
        let value = |name: &str| derived.get(name).and_then(toml::Value::as_str).unwrap();
        let values: Vec<_> = DERIVED.map(value).to_vec();
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
        let plain = defaults(&task(TaskSettings::default()));
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["delete", "destination", "overwrite"]);
    }

    #[test]
    fn an_option_that_is_not_the_tasks_is_told_with_both_values() {
        let derived = defaults(&task(TaskSettings::default()));
        let in_force = |options: &[(&str, &str)]| {
            options.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
        };
        assert_eq!(
            differences(
                &derived,
                &in_force(&[("destination", "s3://site/www"), ("delete", "false"), ("walkers", "3")])
            ),
            []
        );
        assert_eq!(
            differences(&derived, &in_force(&[("delete", "true"), ("exclude", "*.tmp")])),
            [("exclude", "*.tmp".to_owned(), None), ("delete", "true".to_owned(), Some("false".to_owned()))]
        );
    }
}
