//! The state that a command is given, and the lease in it.

use std::path::Path;
use std::sync::Arc;

use super::Stop;
use crate::cli::StateArgs;
use crate::config::SyncConfig;
use crate::destination::operation::Requests;
use crate::exit_code::ExitCode;
use crate::lease::{Lease, LeaseError};
use crate::report::Report;
use crate::scope::Scope;
use crate::shutdown::Shutdown;
use crate::state::{State, StateError, StateLocation};

/// How many reports of past runs are kept of each scope: those of three and a half days at a run every 5 minutes.
const PAST_REPORTS: usize = 1000;

/// The state, if there is one; refused where it would be copied or deleted.
pub(super) async fn open(
    place: Option<&StateLocation>,
    source: &Path,
    config: &SyncConfig,
) -> Result<Option<Arc<State>>, Stop> {
    let Some(place) = place else {
        return Ok(None);
    };
    if place.lies_in(source, &config.scope().destination) {
        return Err(Stop::usage(
            "--state lies in the source or the destination, where it would be copied or deleted: name another place",
        ));
    }
    Ok(Some(Arc::new(at(place, config).await?)))
}

/// The state at a place.
pub(super) async fn at(place: &StateLocation, config: &SyncConfig) -> Result<State, Stop> {
    Ok(match place {
        StateLocation::Folder(folder) => State::Folder(folder.clone()),
        // The state is written until the very end, whoever asks this run to stop.
        StateLocation::Prefix(location) => {
            State::Prefix(Box::new(config.connect_to(location, Shutdown::default()).await.map_err(Stop::fatal)?))
        }
    })
}

/// Keeps the report, if there is one, and gives the lease back; the report counts the requests of that too.
pub(super) async fn conclude(
    lease: Lease,
    state: &State,
    scope: &Scope,
    report: Option<&mut Report>,
    requests: &Requests,
) {
    if let Some(report) = report.as_deref() {
        keep_report(state, scope, report).await;
    }
    lease.release().await;
    if let Some(report) = report {
        report.count_requests(requests);
    }
}

/// Keeps the report among those of past runs.
async fn keep_report(state: &State, scope: &Scope, report: &Report) {
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
        tracing::warn!(%error, "the report cannot be kept in the state");
    }
}

/// The report of the last run, if one is kept that can be read.
pub(super) async fn last_report(state: &State, scope: &Scope) -> Result<Option<Report>, StateError> {
    // Names sort by the times of the runs.
    let names = state.names(&reports_of(scope)).await?;
    let Some(name) = names.last() else {
        return Ok(None);
    };
    let content = state.look(name).await?.map(|remembered| remembered.content);
    Ok(content.and_then(|content| {
        let read = Report::read(&content);
        read.inspect_err(|error| tracing::warn!(name, %error, "the report cannot be read")).ok()
    }))
}

fn reports_of(scope: &Scope) -> String {
    format!("runs/{}", scope.file_name(""))
}

/// Takes the lease, where there is a state for it.
pub(super) async fn lease(
    state: Option<&Arc<State>>,
    args: &StateArgs,
    config: &SyncConfig,
    shutdown: &Shutdown,
) -> Result<Option<Lease>, Stop> {
    let Some(state) = state else {
        return Ok(None);
    };
    match Lease::take(Arc::clone(state), config.scope(), args.lease_ttl, shutdown.clone()).await {
        Ok(lease) => Ok(Some(lease)),
        Err(error @ LeaseError::Held { .. }) => {
            Err(Stop { message: error.to_string(), exit_code: ExitCode::LeaseHeld })
        }
        Err(error @ LeaseError::State(_)) => Err(Stop::fatal(error)),
    }
}
