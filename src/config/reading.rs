//! Reading: the files that the run takes from the source, and how it walks the source.

use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::parallel;
use super::range::ChosenRange;
use super::read;
use crate::cli::SourceArgs;
use crate::filter::{Filter, joined};
use crate::key::RelativeKey;
use crate::location::{FileLocation, Location};
use crate::manifest::{Manifest, VERSION_PARAMETER};

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) filter: Arc<Filter>,
    pub(super) manifest: Option<NamedFiles>,
    pub(super) min_age: Duration,
    pub(super) walkers: usize,
    pub(super) source_timeout: Duration,
}

/// A manifest.
#[derive(Debug)]
pub(super) enum NamedFiles {
    Known(Manifest),
    /// An object that the run fetches, and its version if the URL names one.
    In {
        folder: Location,
        name: RelativeKey,
        version: Option<String>,
    },
}

impl Reading {
    pub(super) fn new(args: SourceArgs, range: &ChosenRange) -> Result<Self, ConfigError> {
        let SourceArgs { tree, from_manifest, min_age } = args;
        let manifest = from_manifest.map(named_files).transpose()?;
        if manifest.is_some() && !matches!(range, ChosenRange::Keys(keys) if keys.is_all()) {
            return Err(ConfigError::RangeOfManifest);
        }
        let filter =
            Filter::new(joined("include", &tree.include)?.as_deref(), joined("exclude", &tree.exclude)?.as_deref())?;
        // Options and the config file have none.
        for (pattern, flaw) in filter.flawed() {
            tracing::warn!(
                "the pattern {pattern:?} of the task or plan {flaw}. The run uses it as written, as DataSync does"
            );
        }
        Ok(Self {
            filter: Arc::new(filter),
            manifest,
            min_age,
            walkers: parallel::walkers(tree.walkers),
            source_timeout: tree.source_timeout,
        })
    }
}

fn named_files(location: FileLocation) -> Result<NamedFiles, ConfigError> {
    match location {
        FileLocation::Object(folder, name) => Ok(match name.as_str().split_once(VERSION_PARAMETER) {
            Some((name, version)) => {
                NamedFiles::In { folder, name: RelativeKey::new(name), version: Some(version.to_owned()) }
            }
            None => NamedFiles::In { folder, name, version: None },
        }),
        FileLocation::Path(path) => Ok(NamedFiles::Known(Manifest::read(&read("manifest", &path)?)?)),
    }
}
