//! The reports of past runs, as the state stores them.

use crate::report::Report;
use crate::scope::Scope;
use crate::state::{State, StateError};

/// How many reports the state keeps of each destination: three and a half days of runs every 5 minutes.
const PAST_REPORTS: usize = 1000;

/// Stores a report, and removes the oldest ones.
pub(super) async fn store(state: &State, scope: &Scope, report: &Report) {
    let beginning = reports_of(scope);
    let kept = async {
        state.write(&format!("{beginning}{}.json", report.run_id()), report.json().into()).await?;
        let names = state.names(&beginning).await?;
        for name in names.iter().take(names.len().saturating_sub(PAST_REPORTS)) {
            state.remove(name).await?;
        }
        Ok::<_, StateError>(())
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, "cannot store the report in the state");
    }
}

/// Loads the report of the last run, if the state has one that can be read.
///
/// # Errors
/// Returns an error if the state cannot be read.
pub(crate) async fn last_report(state: &State, scope: &Scope) -> Result<Option<Report>, StateError> {
    // Names sort by the times of the runs.
    let names = state.names(&reports_of(scope)).await?;
    let Some(name) = names.last() else {
        return Ok(None);
    };
    let content = state.read(name).await?.map(|record| record.content);
    Ok(content.and_then(|content| {
        let read = Report::read(&content);
        read.inspect_err(|error| tracing::warn!(name, %error, "cannot read this report")).ok()
    }))
}

fn reports_of(scope: &Scope) -> String {
    format!("runs/{}", scope.file_name(""))
}
