//! The settings of a run: the options that decide what it writes and deletes.

use serde::{Deserialize, Serialize};

use crate::destination::headers::HeaderRule;
use crate::recorded_options::RecordedOptions;

/// The options that decide how a run works, where its results go, or on which part it works. Runs with different ones can
/// still have done one sync together.
const INCIDENTAL: [&str; 30] = [
    "source",
    "destination",
    "report",
    "changes",
    "output",
    "config",
    "log_format",
    "progress",
    "json",
    "dry_run",
    "state",
    "lease_ttl",
    "ranges",
    "range_index",
    "range_after",
    "range_to",
    "batch_index",
    "kubernetes_index",
    "source_timeout",
    "walkers",
    "concurrency",
    "list_concurrency",
    "memory",
    "bandwidth",
    "outage_timeout",
    "retries",
    "part_size",
    "multipart_threshold",
    "addressing",
    "expected_bucket_owner",
];

/// The report's `options` and `headers`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct RunSettings {
    /// `None` in the report of an older version.
    #[serde(default)]
    options: Option<RecordedOptions>,
    /// The header rules of the config file.
    #[serde(default)]
    headers: Vec<HeaderRule>,
}

impl RunSettings {
    pub(super) fn new(options: &RecordedOptions, headers: Vec<HeaderRule>) -> Self {
        Self { options: Some(options.clone().without(&INCIDENTAL)), headers }
    }

    /// Returns what differs in the settings of another run, or `None` if both runs do the same.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let (Some(mine), Some(theirs)) = (&self.options, &other.options) else {
            return Some("it does not say with which options it ran: run its range again with this version".to_owned());
        };
        let differs = |name: &&str| mine.values(name) != theirs.values(name);
        if let Some(name) = mine.names().chain(theirs.names()).find(differs) {
            let shown = |options: &RecordedOptions| options.get(name).unwrap_or_else(|| "nothing".to_owned());
            let option = name.replace('_', "-");
            return Some(format!(
                "it ran with --{option} {:?}, and others with {:?}: run this range again with the options of the others",
                shown(theirs),
                shown(mine)
            ));
        }
        (self.headers != other.headers).then(|| {
            "it ran with other [[header]] tables in its config file: run this range again with those of the others"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> RunSettings {
        let options = options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        RunSettings::new(&options, Vec::new())
    }

    #[test]
    fn runs_with_other_limits_did_the_same() {
        let one = settings(&[("mode", "plain"), ("concurrency", "1"), ("range_index", "0")]);
        let other = settings(&[("mode", "plain"), ("concurrency", "9"), ("report", "x")]);
        assert_eq!(one.difference(&other), None);
    }

    #[test]
    fn an_option_that_differs_is_named() {
        let one = settings(&[("mode", "plain"), ("exclude", "*.tmp")]);
        for other in [settings(&[("mode", "plain")]), settings(&[("mode", "plain"), ("exclude", "/a")])] {
            let difference = one.difference(&other).unwrap();
            assert!(difference.contains("--exclude") && difference.contains("*.tmp"), "{difference}");
        }
        assert!(one.difference(&RunSettings::default()).is_some(), "of an older version");
    }
}
