//! A session: one run over a source and a destination, from the lease to the report.
//!
//! ```text
//! open     fetch what the config names, open the state, take the lease, mark the destination as served, open both sides
//! sync, plan, verify, apply     load what earlier runs recorded, do the work, derive the exit code
//! end      store the report in the state, release the lease
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::aws::ConnectError;
use crate::cli::StateArgs;
use crate::config::{OpenError, SyncConfig};
use crate::datasync::late_writes::LateWrites;
use crate::destination::operation::Requests;
use crate::exit_code::ExitCode;
use crate::lease::{Lease, LeaseError, LeaseTimes};
use crate::location::Location;
use crate::progress::Progress;
use crate::report::{Ending, InspectionCounts, Report, Subject};
use crate::scope::Scope;
use crate::served::InnerDestinations;
use crate::shutdown::{STOP_GRACE, Shutdown};
use crate::source::entry::EntryKind;
use crate::state::{State, StateError, StateLocation};
use crate::sync::changes::{Changes, ChangesWriter};
use crate::sync::context::Context;
use crate::sync::failure::Failure;
use crate::sync::fatal::Fatal;
use crate::sync::guard::Guard;
use crate::sync::inspect::plan::{PlanCounts, PlanSink, plan};
use crate::sync::inspect::verify::{VerifyCounts, VerifyOptions, verify};
use crate::sync::memory::Memory;
use crate::sync::plan_file::PlanFile;
use crate::sync::setup::{Doubt, Setup};
use crate::sync::survey::Input;
use crate::sync::sync;
use crate::sync::tally::Tally;

mod outcome;
pub(crate) mod past;

use outcome::{Differences, Outcome};

/// How a run is asked to stop, and where it shows its progress.
#[derive(Clone, Debug)]
pub struct Control {
    /// The stop request.
    pub shutdown: Shutdown,
    /// The progress line.
    pub progress: Progress,
}

impl Control {
    /// The exit code after a stop request.
    pub(crate) fn exit_code_of_stop(&self) -> ExitCode {
        self.shutdown.exit_code().unwrap_or(ExitCode::Interrupted)
    }
}

/// What a run does at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It writes, and so takes the lease.
    Write,
    /// It only reads, and may run beside a run that writes.
    Read,
}

/// One run: its set-up, its state, its lease, and what its report is about.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    state: Option<Arc<State>>,
    lease: Option<Lease>,
    scope: Scope,
    inner: InnerDestinations,
    requests: Arc<Requests>,
    /// What the report is about.
    pub subject: Subject,
}

/// The result of opening a session.
#[derive(Debug)]
pub enum Opened {
    /// The run may start.
    Ready(Box<Session>),
    /// The run has nothing to do, for this reason.
    NothingToDo(String),
    /// The run failed: it could not open the source or the destination.
    Failed(Box<Report>),
}

/// Why a session cannot be opened. The run has written nothing.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum SessionError {
    #[error(
        "--state overlaps the {0}, so its records would be copied or deleted, or mixed with objects: name another place"
    )]
    StateInside(&'static str),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A stop request, after which the source or S3 did not respond in time.
    #[error("stop requested before the work started: wrote nothing")]
    Stopped(ExitCode),
    #[error("cannot read or mark in the state which destinations it serves: {0}")]
    Served(#[from] StateError),
}

impl SessionError {
    /// The exit code of the run.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::StateInside(_) => ExitCode::Usage,
            Self::Stopped(exit_code) => *exit_code,
            Self::Connect(error) => error.exit_code(),
            Self::Open(error) => error.exit_code(),
            Self::Lease(error) => error.exit_code(),
            Self::Served(_) => ExitCode::Fatal,
        }
    }

    /// What a stop request interrupts fails because of it.
    fn after_stop(self, stopped: Option<ExitCode>) -> Self {
        match (self, stopped) {
            (Self::Lease(LeaseError::State(StateError::Stopped)) | Self::Served(StateError::Stopped), Some(code)) => {
                Self::Stopped(code)
            }
            (error, _) => error,
        }
    }
}

/// Waits for a part of the opening; after a stop request only for the grace time.
async fn in_time<T>(shutdown: &Shutdown, opening: impl Future<Output = T>) -> Result<T, SessionError> {
    tokio::select! {
        opened = opening => Ok(opened),
        () = shutdown.overdue(STOP_GRACE) => {
            Err(SessionError::Stopped(shutdown.exit_code().unwrap_or(ExitCode::Interrupted)))
        }
    }
}

/// Opens the state at a place, unless it would be copied or deleted there.
///
/// # Errors
/// Returns an error if the place is inside the source or the destination, or if the AWS settings cannot be used.
pub(crate) async fn open_state(
    place: &StateLocation,
    source: &Path,
    config: &SyncConfig,
    shutdown: Shutdown,
) -> Result<Arc<State>, SessionError> {
    check_place(place, source, config)?;
    Ok(Arc::new(state_at(place, config, shutdown).await?))
}

fn check_place(place: &StateLocation, source: &Path, config: &SyncConfig) -> Result<(), SessionError> {
    place.overlaps(source, &config.scope().destination).map_or(Ok(()), |other| Err(SessionError::StateInside(other)))
}

/// Opens the state at a place.
///
/// # Errors
/// Returns an error if the AWS settings cannot be used.
pub(crate) async fn state_at(
    place: &StateLocation,
    config: &SyncConfig,
    shutdown: Shutdown,
) -> Result<State, ConnectError> {
    Ok(match place {
        StateLocation::Folder(folder) => State::in_folder(folder.clone(), shutdown),
        StateLocation::Prefix(location) => {
            State::under(config.connect_to(location, Shutdown::default()).await?, shutdown)
        }
    })
}

impl Session {
    /// Opens what the run works with. A run that writes takes the lease, if there is a state.
    ///
    /// # Errors
    /// Returns an error if the state cannot be used, if another run holds the lease, or after a stop request.
    pub async fn open(
        config: SyncConfig,
        state: &StateArgs,
        access: Access,
        subject: Subject,
        control: Control,
    ) -> Result<Opened, SessionError> {
        let shutdown = control.shutdown.clone();
        let opened = Box::pin(Self::open_to_its_end(config, state, access, subject, control)).await;
        opened.map_err(|error| error.after_stop(shutdown.exit_code()))
    }

    async fn open_to_its_end(
        config: SyncConfig,
        state: &StateArgs,
        access: Access,
        mut subject: Subject,
        control: Control,
    ) -> Result<Opened, SessionError> {
        if let Some(place) = &state.state {
            // Before the first request.
            check_place(place, config.source(), &config)?;
        }
        let shutdown = control.shutdown.clone();
        let config = in_time(&shutdown, Box::pin(config.fetch_range(&shutdown))).await??;
        if let Some(why) = config.idle() {
            return Ok(Opened::NothingToDo(why.to_owned()));
        }
        let scope = config.scope().clone();
        subject.destination = scope.destination.to_string();
        subject.keys = Some(scope.keys.clone()).filter(|keys| !keys.is_all());
        subject.range_of_list = config.range_of_list().cloned();
        if state.state.is_none() && config.allows_missing_mounts() {
            tracing::warn!(
                "--allow-missing-mounts has no effect without --state: no record says which mounts are missing"
            );
        }
        let times = LeaseTimes { ttl: state.lease_ttl, outage_timeout: config.outage_timeout() };
        let state = match &state.state {
            Some(place) => {
                Some(Arc::new(in_time(&shutdown, Box::pin(state_at(place, &config, shutdown.clone()))).await??))
            }
            None => None,
        };
        // The state itself bounds what a stop request waits for: a run that ends here must know whether it has the lease.
        let lease = match &state {
            Some(state) if access == Access::Write => {
                Some(Lease::take(Arc::clone(state), &scope, times, shutdown.clone()).await?)
            }
            Some(_) | None => None,
        };
        let fence = lease.as_ref().map(Lease::fence).unwrap_or_default();
        let opening = Box::pin(async {
            let inner = served(state.as_deref(), &scope, access).await?;
            let config = config.behind(fence);
            let requests = config.requests();
            let setup = Box::pin(config.open(control.shutdown, control.progress)).await;
            Ok::<_, SessionError>((inner, requests, setup))
        });
        let (inner, requests, setup) = match in_time(&shutdown, opening).await.flatten() {
            Ok(opened) => opened,
            Err(error) => {
                let lost = lease.as_ref().and_then(Lease::lost).map(LeaseError::Lost);
                if let Some(lease) = lease {
                    lease.release().await;
                }
                return Err(lost.map_or(error, SessionError::Lease));
            }
        };
        match setup {
            Ok(setup) => Ok(Opened::Ready(Box::new(Self { setup, state, lease, scope, inner, requests, subject }))),
            // A usage error needs no report.
            Err(error) if error.exit_code() == ExitCode::Usage => {
                if let Some(lease) = lease {
                    lease.release().await;
                }
                Err(error.into())
            }
            Err(error) => {
                // What a stop request interrupts fails because of it.
                let lost = lease.as_ref().and_then(Lease::lost).map(LeaseError::Lost);
                let (error, exit_code) = match (shutdown.exit_code(), lost) {
                    (Some(_), Some(lost)) => (Some(lost.to_string()), lost.exit_code()),
                    (Some(stopped), None) => (None, stopped),
                    (None, _) => (Some(error.to_string()), ExitCode::Fatal),
                };
                let report = Report::without_work(&subject, error, exit_code);
                Ok(Opened::Failed(Box::new(end(&subject, report, lease, state.as_deref(), &scope, &requests).await)))
            }
        }
    }

    /// The opened sides.
    pub(crate) const fn context(&self) -> &Context {
        &self.setup.context
    }

    /// Why the run cannot read what its survey needs, if that is so: it cannot sync.
    pub(crate) fn input_problem(&self) -> Option<&str> {
        self.setup.input.as_ref().err().map(String::as_str)
    }

    /// Checks that what the survey reads is still the same, after the run has waited for DataSync.
    ///
    /// # Errors
    /// Returns an error, as a message, if it is not.
    pub(crate) async fn check_input_again(&self) -> Result<(), String> {
        self.setup.check_input_again().await
    }

    /// The destinations inside this one.
    pub(crate) const fn inner(&self) -> &InnerDestinations {
        &self.inner
    }

    /// Where the run writes.
    #[must_use]
    pub const fn destination(&self) -> &Location {
        &self.scope.destination
    }

    /// Where the state is stored, if there is one.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.state.as_deref()
    }

    /// Makes the destination match the source.
    pub async fn sync(self, changes: Changes, doubt: Doubt) -> Report {
        Box::pin(self.write(changes, doubt, None)).await
    }

    /// Carries out a reviewed plan.
    pub(crate) async fn apply(self, plan: PlanFile, changes: Changes) -> Report {
        Box::pin(self.write(changes, Doubt::default(), Some(Input::Plan(plan)))).await
    }

    /// Writes, now that the run may: it holds the lease, and both sides are open.
    async fn write(self, changes: Changes, doubt: Doubt, input: Option<Input>) -> Report {
        let shutdown = self.context().shutdown.clone();
        // The file may be on a file system that does not respond.
        let opening = tokio::task::spawn_blocking(|| changes.open());
        let changes = tokio::select! {
            opened = opening => opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())),
            () = shutdown.requested() => {
                return self.end(None, shutdown.exit_code().unwrap_or(ExitCode::Interrupted)).await;
            }
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => return self.end(Some(error), ExitCode::Fatal).await,
        };
        Box::pin(self.work(doubt, input, changes, async |context, input, outcome| {
            sync(context, input, &mut outcome.tally, &mut outcome.seconds).await
        }))
        .await
    }

    /// Writes what a sync would do. With `exit_code`, differences are exit code 10.
    pub(crate) async fn plan(self, sink: PlanSink, all: bool, exit_code: bool) -> Report {
        Box::pin(self.work(Doubt::default(), None, ChangesWriter::default(), async |context, input, outcome| {
            let mut planned = PlanCounts::default();
            let result = plan(context, input, sink, all, &mut outcome.tally, &mut planned).await;
            outcome.inspection = Some(InspectionCounts::Plan(planned));
            if exit_code && !planned.is_empty() {
                outcome.differences = Differences::Found;
            }
            result
        }))
        .await
    }

    /// Compares the content of everything, and prints what differs.
    pub(crate) async fn verify(self, options: VerifyOptions) -> Report {
        Box::pin(self.work(Doubt::default(), None, ChangesWriter::default(), async |context, input, outcome| {
            let mut found = VerifyCounts::default();
            let result = verify(context, input, options, &mut outcome.tally, &mut found).await;
            outcome.inspection = Some(InspectionCounts::Verify(found));
            if !found.is_empty() {
                outcome.differences = Differences::Proven;
            }
            outcome.is_incomplete = found.not_compared > 0;
            result
        }))
        .await
    }

    /// Ends the session without work of its own.
    pub(crate) async fn end(self, error: Option<String>, exit_code: ExitCode) -> Report {
        let (requests, operations) = (Some(&*self.requests), Some(self.context().source.operations()));
        let ending = Ending { requests, operations, ..Ending::without_work(error, exit_code) };
        let report = Report::new(&self.subject, ending);
        Box::pin(end(&self.subject, report, self.lease, self.state.as_deref(), &self.scope, &self.requests)).await
    }

    /// Ends the session before its work, because a guard withholds it: the destination has these objects, at least, and
    /// a directory of the source may have failed.
    pub(crate) async fn end_withheld(self, guard: &Guard, objects: u64, failure: Option<Failure>) -> Report {
        let (requests, operations) = (Some(&*self.requests), Some(self.context().source.operations()));
        let mut tally = Tally::default();
        tally.withheld_many(guard, objects);
        let mut error = format!("started nothing: {}", guard.message());
        if let Some(failure) = failure {
            error = format!("{error}. The first one is '{}': {}", failure.key, failure.message);
            tally.saw(EntryKind::Directory);
            tally.failed(failure);
        }
        let ending = Ending { tally, requests, operations, ..Ending::without_work(Some(error), ExitCode::Incomplete) };
        let report = Report::new(&self.subject, ending);
        Box::pin(end(&self.subject, report, self.lease, self.state.as_deref(), &self.scope, &self.requests)).await
    }

    async fn work(
        mut self,
        doubt: Doubt,
        input: Option<Input>,
        changes: ChangesWriter,
        work: impl AsyncFnOnce(&Arc<Context>, &Input, &mut Outcome) -> Result<(), Fatal>,
    ) -> Report {
        let own_input = std::mem::replace(&mut self.setup.input, Err(String::new()));
        let input = match (input, own_input) {
            (Some(input), _) | (None, Ok(input)) => input,
            (None, Err(why)) => {
                // What a stop request interrupts fails because of it.
                let (error, exit_code) = match self.context().shutdown.exit_code() {
                    Some(stopped) => (None, stopped),
                    None => (Some(why), ExitCode::Fatal),
                };
                return Box::pin(self.end(error, exit_code)).await;
            }
        };
        let Self { mut setup, state, lease, scope, inner, requests, subject } = self;
        let shutdown = setup.context.shutdown.clone();
        let Context { source, destination, rules, .. } = &mut setup.context;
        let loaded = tokio::select! {
            loaded = Memory::load(source, destination, rules.preserve, state.as_ref(), &scope, lease.is_some()) => loaded,
            // The work ends at once.
            () = shutdown.overdue(STOP_GRACE) => Ok(Memory::default()),
        };
        let (memory, unusable) = match loaded {
            Ok(memory) => (Memory { inner, ..memory }, None),
            Err(error) => (Memory { inner, ..Memory::default() }, Some(Fatal::Mounts(error))),
        };
        let mut late_writes = LateWrites::load(state.as_deref(), &scope.destination, None).await;
        let doubt = Doubt { suspect: doubt.suspect.and(late_writes.suspect()), ..doubt };
        let mut outcome = Outcome { violations: doubt.violations(), ..Outcome::default() };
        let context = setup.start(memory, &doubt, changes);
        let result = match unusable {
            None => Box::pin(work(&context, &input, &mut outcome)).await,
            Some(fatal) => Err(fatal),
        };
        outcome.count_deletes_of_datasync(&context.delete_rules);
        let exit_code = outcome.exit_code(&result, context.shutdown.exit_code());
        let may_clear =
            lease.is_some() && scope.keys.is_all() && matches!(input, Input::Walk) && doubt.shows_all_executions();
        if may_clear
            && exit_code == ExitCode::Success
            && context.rules.find_all_differences()
            && outcome.tally.left_no_difference()
        {
            late_writes.compared_by_run(&context.filter).await;
        }
        outcome.tally.log_withheld();
        outcome.tally.bytes.read_for_compare = context.read_for_compare.load(Ordering::Relaxed);
        let lost_changes = outcome.tally.lost_changes.take();
        let ending = Ending {
            tally: outcome.tally,
            inspection: outcome.inspection,
            requests: Some(&requests),
            operations: Some(context.source.operations()),
            seconds: outcome.seconds,
            error: result.err().map(|fatal| fatal.to_string()).or(outcome.violations).or(lost_changes),
            exit_code,
        };
        Box::pin(end(&subject, Report::new(&subject, ending), lease, state.as_deref(), &scope, &requests)).await
    }
}

/// Returns the destinations inside this one. A run that writes marks its own destination before its first write.
async fn served(state: Option<&State>, scope: &Scope, access: Access) -> Result<InnerDestinations, StateError> {
    match (state, access) {
        (None, _) => Ok(InnerDestinations::default()),
        (Some(state), Access::Write) => InnerDestinations::register(state, scope).await,
        (Some(state), Access::Read) => InnerDestinations::read(state, scope.destination.clone()).await,
    }
}

/// Stores the report in the state, and releases the lease. The report counts the requests and the time of both.
async fn end(
    subject: &Subject,
    mut report: Report,
    lease: Option<Lease>,
    state: Option<&State>,
    scope: &Scope,
    requests: &Requests,
) -> Report {
    if let (Some(lease), Some(state)) = (lease, state) {
        if let Some(lost) = lease.lost() {
            report.stopped_because(&lost.to_string());
        }
        past::store(state, scope, &report).await;
        lease.release().await;
        report.count_until_now(subject, requests);
    }
    report
}
