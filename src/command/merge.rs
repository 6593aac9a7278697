//! `efs2s3 report merge`: adds up the reports of runs over key ranges.

use std::path::Path;

use super::error::CommandError;
use super::{Inputs, cannot_write, conclude, ranges};
use crate::cli::MergeCommand;
use crate::config::SyncConfig;
use crate::device::read_input_aside;
use crate::exit_code::ExitCode;
use crate::location::FileLocation;
use crate::range_list::RangeList;
use crate::recorded_options::RecordedOptions;
use crate::report::{MergeError, NamedReport, Report};
use crate::result_file::ResultFile;
use crate::result_place::ResultPlaces;
use crate::scope::Scope;
use crate::session::{Control, past, state_at};
use crate::shutdown::Shutdown;

pub(super) async fn run(command: MergeCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    let mut places = ResultPlaces::anywhere();
    if let Some(path) = &inputs.config {
        places.reads("--config", path);
    }
    if let Some(FileLocation::Path(path)) = &command.ranges {
        places.reads("--ranges", path);
    }
    for path in &command.reports {
        places.reads("a report that is merged", path);
    }
    let place = places.result("--report", &command.report)?;
    let file = ResultFile::create(&place).map_err(|error| cannot_write("report", &place, error))?;
    let (list, reports) = tokio::select! {
        read = Box::pin(reports(command, inputs.options, &control.shutdown)) => read?,
        () = control.shutdown.requested() => return Err(CommandError::stopped(control.exit_code_of_stop())),
    };
    let sum = Report::merge(reports, list.as_ref())?;
    conclude(&sum, Some((&place, file)), control).await
}

/// Reads the reports, and the range list if the command line names one.
async fn reports(
    command: MergeCommand,
    options: RecordedOptions,
    shutdown: &Shutdown,
) -> Result<(Option<RangeList>, Vec<NamedReport>), CommandError> {
    let (Some(place), Some(ranges), Some(destination)) = (&command.state, &command.ranges, command.destination) else {
        let mut reports = Vec::with_capacity(command.reports.len());
        for path in &command.reports {
            let place = format!("cannot read the report {}", path.display());
            let text = read_input_aside(path).await.map_err(|error| CommandError::usage(error).at(&place))?;
            let report = Report::read(&text).map_err(|error| CommandError::usage(unreadable(path, &text, &error)))?;
            reports.push(NamedReport { name: path.display().to_string(), report });
        }
        return Ok((None, reports));
    };
    // Only the options for reaching S3 matter here. The source is not read, and `--ranges` means all ranges.
    let args = options.without(&["ranges"]).sync_args("/", &destination.to_string());
    let args = args.map_err(|error| CommandError::usage(error.to_string().trim_end()))?;
    let config = SyncConfig::new(args, Vec::new()).map_err(CommandError::usage)?;
    let list = ranges::read_list(ranges, &config).await?;
    let list = list.ok_or_else(|| CommandError::fatal(format!("there is no range list at {ranges}")))?;
    let state = state_at(place, &config, shutdown.clone()).await.map_err(CommandError::fatal)?;
    let mut reports = Vec::with_capacity(list.ranges().len());
    for range in list.ranges() {
        let scope = Scope { destination: destination.clone(), keys: range.keys.clone() };
        // The merged report names the gap that a missing report leaves.
        if let Some(report) = past::last_report(&state, &scope).await.map_err(CommandError::fatal)? {
            let name = format!("{} (the last report of range {} in {place})", report.run_id(), range.index);
            reports.push(NamedReport { name, report });
        }
    }
    if reports.is_empty() {
        return Err(CommandError::usage(format!(
            "the state {place} has no report of {destination}: check --state, --destination and --ranges"
        )));
    }
    Ok((Some(list), reports))
}

/// Returns why a file cannot be read as a report.
fn unreadable(path: &Path, text: &[u8], error: &serde_json::Error) -> String {
    if Report::schema_of(text).is_some() {
        return format!("cannot read the report {}: {error}: run its range again with this version", path.display());
    }
    format!("{} is not a report of efs2s3: pass a file that --report wrote", path.display())
}

impl From<MergeError> for CommandError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::None | MergeError::Destinations { .. } => Self::usage(error),
            MergeError::Refused { .. } | MergeError::TooLarge { .. } | MergeError::ListWithoutId => Self::fatal(error),
        }
    }
}
