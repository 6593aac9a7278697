//! The places of a command's results: the files that the command reads, and its source, are kept from them.

use std::path::Path;

use super::error::CommandError;
use crate::cli::{HowArgs, SyncArgs};
use crate::location::FileLocation;
use crate::result_place::{PlaceError, ResultPlace, ResultPlaces};
use crate::sync::changes::Changes;

/// The places of a command that syncs or inspects.
pub(super) fn of_sync(args: &SyncArgs, config: Option<&Path>) -> ResultPlaces {
    let mut places = of_run(&args.source, &args.how, config);
    if let Some(FileLocation::Path(path)) = &args.range.ranges {
        places.reads("--ranges", path);
    }
    places
}

/// The places of `run`.
pub(super) fn of_run(source: &Path, how: &HowArgs, config: Option<&Path>) -> ResultPlaces {
    let mut places = outside(source, config);
    if let Some(FileLocation::Path(path)) = &how.source_args.from_manifest {
        places.reads("--from-manifest", path);
    }
    places
}

/// The places of a command with this source.
pub(super) fn outside(source: &Path, config: Option<&Path>) -> ResultPlaces {
    let mut places = ResultPlaces::outside(source);
    if let Some(path) = config {
        places.reads("--config", path);
    }
    places
}

/// Returns the place of the report, if the command line names one.
pub(super) fn report(places: &mut ResultPlaces, path: Option<&Path>) -> Result<Option<ResultPlace>, PlaceError> {
    path.map(|path| places.result("--report", path)).transpose()
}

/// Returns the changes file, if the command line names one.
pub(super) fn changes(places: &mut ResultPlaces, path: Option<&Path>) -> Result<Changes, CommandError> {
    let Some(path) = path else {
        return Ok(Changes::default());
    };
    let place = places.appended("--changes", path)?;
    Changes::at(place)
        .map_err(|error| CommandError::fatal(error).at(format!("cannot write the changes file to {}", path.display())))
}
