//! `efs2s3 report merge`: adds up the reports of runs over key ranges.

use super::error::CommandError;
use super::{cannot_write, conclude, ranges};
use crate::cli::MergeCommand;
use crate::config::SyncConfig;
use crate::exit_code::ExitCode;
use crate::recorded_options::RecordedOptions;
use crate::report::Report;
use crate::result_file::ResultFile;
use crate::scope::Scope;
use crate::session::{past, state_at};

pub(super) async fn run(command: MergeCommand, options: RecordedOptions) -> ExitCode {
    let file = match ResultFile::create_or_stdout(&command.report) {
        Ok(file) => file,
        Err(error) => return cannot_write("report", Some(&command.report), &error),
    };
    let path = command.report.clone();
    let merged = match Box::pin(reports(command, options)).await {
        Ok(reports) => Report::merge(reports).map_err(CommandError::usage),
        Err(error) => Err(error),
    };
    match merged {
        Ok(sum) => conclude(&sum, Some(file), Some(&path)),
        Err(error) => error.log(),
    }
}

async fn reports(command: MergeCommand, options: RecordedOptions) -> Result<Vec<Report>, CommandError> {
    let (Some(place), Some(ranges), Some(destination)) = (&command.state, &command.ranges, command.destination) else {
        let read = |path: &std::path::PathBuf| {
            let place = format!("cannot read the report {}", path.display());
            let text = std::fs::read(path).map_err(|error| CommandError::usage(error).at(&place))?;
            Report::read(&text).map_err(|error| CommandError::usage(error).at(&place))
        };
        return command.reports.iter().map(read).collect();
    };
    // Only the options for reaching S3 matter here. The source is not read, and `--ranges` means all ranges.
    let args = options.without(&["ranges"]).sync_args("/", &destination.to_string());
    let args = args.map_err(|error| CommandError::usage(error.to_string().trim_end()))?;
    let config = SyncConfig::new(args, Vec::new()).map_err(CommandError::usage)?;
    let list = ranges::read_list(ranges, &config).await?;
    let list = list.ok_or_else(|| CommandError::fatal(format!("there is no range list at {ranges}")))?;
    let state = state_at(place, &config).await.map_err(CommandError::fatal)?;
    let mut reports = Vec::with_capacity(list.ranges().len());
    for range in list.ranges() {
        let scope = Scope { destination: destination.clone(), keys: range.keys.clone() };
        // The merged report names the gap that a missing report leaves.
        reports.extend(past::last_report(&state, &scope).await.map_err(CommandError::fatal)?);
    }
    Ok(reports)
}
