//! `efs2s3 run`: DataSync first, and the direct sync if DataSync does not succeed.
//!
//! ```text
//! describe the task, or load its last description -> its settings become defaults of the options
//!   -> open the session: lease, source, destination
//!   -> the mounted folder is not the task's, is empty, or is another tree: start nothing
//!   -> DataSync, unless the breaker is open or the policy forbids it
//!        succeeded                    -> done if that proves that the destination matches; otherwise, and to delete under
//!                                        the guards, sync directly as well
//!        cancelled by another client  -> write nothing
//!        partial                      -> compare what DataSync wrote by its content, and repair
//!        other, and ended             -> sync directly
//!        other, end not confirmed     -> sync directly, and delete nothing
//! ```

use std::path::Path;

mod difference;
mod follow_up;
mod history;
mod key_sample;
mod prepare;
mod source_check;

use super::error::CommandError;
use super::{Ended, config_of, places, with_report};
use crate::cli::{Command, DataSyncArgs, Deletes, Invocation, Policy, RangeArgs, RunCommand, SyncArgs};
use crate::datasync::attempt::verdict::VerdictKind;
use crate::datasync::attempt::{Attempt, StageLimits, Unproven, attempt};
use crate::datasync::{DataSync, ExecutionArn, Latest, Request};
use crate::exit_code::ExitCode;
use crate::report::{CommandName, Report, Route, Subject};
use crate::session::{Access, Control, Opened, Session};
use crate::shutdown::Shutdown;
use crate::source::content::Content;
use crate::sync::changes::Changes;
use crate::sync::setup::Doubt;
use follow_up::{Attempted, FollowUp};
use history::History;
use key_sample::SampledKeys;
use prepare::{Known, check_folder, describe, run_command, with_task_settings};
use source_check::{SourceCheck, check_source};

/// What the direct sync has to do after DataSync.
enum Direct {
    Nothing,
    /// The run fails, for this reason: the policy forbids the direct sync, or the source or its input cannot be used.
    Failed(String),
    /// The run ends, and is incomplete: another client cancelled the execution, the success cannot be audited, or what the
    /// direct sync would follow has changed.
    Incomplete(String),
    Sync(Doubt),
}

/// Runs the command to its end.
pub(super) async fn run(invocation: Invocation, control: Control) -> ExitCode {
    Box::pin(run_with_report(invocation, control)).await.unwrap_or_else(|error| error.log())
}

async fn run_with_report(invocation: Invocation, control: Control) -> Result<ExitCode, CommandError> {
    let Some(command) = run_command(&invocation) else {
        return Err(CommandError::usage("not a run command"));
    };
    let destination = command.destination.as_ref().map(ToString::to_string).unwrap_or_default();
    let subject = Subject::new(CommandName::Run, &command.source, &destination);
    let mut places = places::of_run(&command.source, &command.how, invocation.cli.global.config.as_deref());
    let report = places::report(&mut places, command.report.as_deref())?;
    let changes = places::changes(&mut places, command.changes.as_deref())?;
    with_report(subject, report, control, async |subject, control| {
        let report = Box::pin(described(invocation, subject, changes, control)).await?;
        Ok(Ended::Report(Box::new(report)))
    })
    .await
}

/// Describes the task, and opens the session that its settings configure.
async fn described(
    invocation: Invocation,
    subject: &mut Subject,
    changes: Changes,
    control: Control,
) -> Result<Report, CommandError> {
    let known = tokio::select! {
        known = describe(&invocation, &control.shutdown) => known?,
        () = control.shutdown.requested() => {
            subject.datasync = Some((&Attempt::stopped_before_start()).into());
            let exit_code = control.shutdown.exit_code().unwrap_or(ExitCode::Interrupted);
            return Ok(Report::without_work(subject, None, exit_code));
        }
    };
    if let Some(Known { task: Err(attempt), .. }) = &known {
        subject.datasync = Some(attempt.into());
    }
    let (invocation, request) = with_task_settings(invocation, known.as_ref())?;
    let Command::Run(command) = invocation.cli.command else {
        return Err(CommandError::usage("not a run command"));
    };
    let RunCommand { source, destination, report, how, datasync, state, changes: _ } = *command;
    let Some(destination) = destination.or_else(|| known.as_ref().and_then(Known::foreign_destination)) else {
        return Err(CommandError::fatal(
            "no destination is configured: pass s3://bucket/prefix or set EFS2S3_DESTINATION",
        ));
    };
    subject.destination = destination.to_string();
    subject.record_options(&invocation.options, invocation.header_rules.clone());
    let args = SyncArgs { source: source.clone(), destination, report, range: RangeArgs::default(), how };
    let mut config = config_of(args, invocation.header_rules, &control).await?;
    if let Some(known) = &known {
        config = config.in_region(known.datasync.task_arn().region());
    }
    let session = Session::open(config, &state, Access::Write, subject.clone(), control.clone());
    match Box::pin(session).await? {
        Opened::Ready(session) => {
            Ok(Box::pin(work(&source, &datasync, *session, known.as_ref(), request.as_ref(), changes, control)).await)
        }
        Opened::NothingToDo(why) => Err(CommandError::usage(why)),
        Opened::Failed(report) => Ok(*report),
    }
}

/// DataSync and what it leaves to the direct sync, under the lease.
async fn work(
    source: &Path,
    args: &DataSyncArgs,
    mut session: Session,
    known: Option<&Known>,
    request: Option<&Request>,
    changes: Changes,
    control: Control,
) -> Report {
    if let Some(known) = known {
        known.remember(session.state()).await;
    }
    if let Some(Ok(task)) = known.map(Known::description)
        && let Err(error) = check_folder(source, task)
    {
        return session.end(Some(error.to_string()), error.exit_code()).await;
    }
    let before_datasync = known.is_some_and(|known| known.task.is_ok()) && args.policy != Policy::DirectOnly;
    let checked = tokio::select! {
        checked = check_source(session.context(), session.inner(), before_datasync) => checked,
        () = control.shutdown.requested() => {
            session.subject.datasync = Some((&Attempt::stopped_before_start()).into());
            return session.end(None, control.shutdown.exit_code().unwrap_or(ExitCode::Interrupted)).await;
        }
    };
    let sampled = match checked {
        SourceCheck::Passed(sampled) => sampled,
        SourceCheck::Withheld(guard, objects, failure) => return session.end_withheld(&guard, objects, failure).await,
        SourceCheck::OtherTree(why) | SourceCheck::OtherOwner(why) => {
            return session.end(Some(why), ExitCode::Fatal).await;
        }
    };
    let mut subject = session.subject.clone();
    let direct = through_datasync(args, known, request, &session, sampled, &mut subject, &control).await;
    session.subject = subject;
    match direct {
        Direct::Nothing => session.end(None, control.shutdown.exit_code().unwrap_or(ExitCode::Success)).await,
        // What a stop request interrupts fails because of it.
        Direct::Failed(_) | Direct::Incomplete(_) if control.shutdown.is_requested() => {
            session.end(None, control.exit_code_of_stop()).await
        }
        Direct::Failed(why) => session.end(Some(why), ExitCode::Fatal).await,
        Direct::Incomplete(why) => session.end(Some(why), ExitCode::Incomplete).await,
        Direct::Sync(doubt) => Box::pin(session.sync(changes, doubt)).await,
    }
}

/// Runs the DataSync task unless the policy or the breaker forbids it, and returns what is left to the direct sync.
async fn through_datasync(
    args: &DataSyncArgs,
    known: Option<&Known>,
    request: Option<&Request>,
    session: &Session,
    sampled: Option<SampledKeys>,
    subject: &mut Subject,
    control: &Control,
) -> Direct {
    let Some(known) = known else {
        return Direct::Sync(Doubt::default());
    };
    let mut history = History::load(known, request, session, &control.shutdown).await;
    if args.policy == Policy::DirectOnly || history.breaker_is_open(args) {
        let (doubt, ended) = (history.doubt(), history.ended().cloned());
        return sync_directly(known, session, &mut history, doubt, ended.as_ref()).await;
    }
    if let Some(why) = session.input_problem() {
        tracing::warn!("{why}: the direct sync can neither replace DataSync nor audit its success");
    }
    let datasync = known.datasync.behind(session.context().destination.fence());
    let mut attempt = attempt_once(args, &datasync, known, request, &history.latest, control).await;
    if found_no_files(&attempt, sampled.as_ref(), session, &control.shutdown).await {
        attempt.unproven.push(Unproven::FoundNoFiles);
    }
    log_attempt(&attempt, args.policy, control);
    history.add(&attempt).await;
    subject.datasync = Some((&attempt).into());
    subject.route = Route::Datasync;
    let deletes = deletes_of_datasync(&attempt, sampled.as_ref(), session, &control.shutdown).await;
    let unguarded_deletes = attempt.unguarded_deletes(deletes.beyond.as_deref());
    let (unwanted_writes, already_deleted) = (attempt.unwanted_writes(), deletes.deleted);
    let doubt = Doubt { already_deleted, unguarded_deletes, unwanted_writes, ..history.doubt_after(&attempt) };
    let suspect_content = history.suspect_content();
    if let Some(why) = suspect_content.filter(|_| attempt.verdict.kind == VerdictKind::Succeeded) {
        tracing::warn!("the success of the execution does not show that the destination matches: {why}");
    }
    let attempted = Attempted {
        verdict: attempt.verdict.kind,
        is_proven: attempt.unproven.is_empty() && suspect_content.is_none(),
        always_compares: args.audit || args.deletes == Deletes::Guarded && session.context().rules.delete,
        policy: args.policy,
        stop_requested: control.shutdown.is_requested(),
    };
    match attempted.follow_up() {
        FollowUp::Nothing => Direct::Nothing,
        FollowUp::Compare => match session.input_problem() {
            Some(why) => Direct::Incomplete(format!("{why}. DataSync succeeded, and the run cannot audit its success")),
            None => sync_directly(known, session, &mut history, doubt, attempt.ended()).await,
        },
        FollowUp::Forbidden => Direct::Failed(attempt.verdict.evidence),
        FollowUp::Cancelled => Direct::Incomplete(attempt.verdict.evidence),
        FollowUp::FallBack => {
            subject.route = Route::Fallback;
            sync_directly(known, session, &mut history, doubt, attempt.ended()).await
        }
    }
}

/// Returns the direct sync with this doubt, if what the run has read and checked at its start still holds: the source is
/// as required, the manifest names the same files, and the task has the same settings.
async fn sync_directly(
    known: &Known,
    session: &Session,
    history: &mut History<'_>,
    doubt: Doubt,
    ended: Option<&ExecutionArn>,
) -> Direct {
    if session.input_problem().is_some() {
        // The session ends without its input.
        return Direct::Sync(doubt);
    }
    if let Err(unmet) = session.context().source.check_again().await {
        return Direct::Failed(format!("{unmet}. It was as required when the run started: synced nothing directly"));
    }
    if let Err(changed) = session.check_input_again().await {
        return Direct::Incomplete(format!("{changed}: synced nothing directly. Run again"));
    }
    match history.beside_others(known, doubt, ended).await {
        Some(doubt) => Direct::Sync(doubt),
        None => Direct::Incomplete(
            "the settings of the task changed while this run worked: synced nothing directly. Run again, to follow the \
             new settings"
                .to_owned(),
        ),
    }
}

/// Makes one attempt with DataSync. Without a described task, it has failed already.
async fn attempt_once(
    args: &DataSyncArgs,
    datasync: &DataSync,
    known: &Known,
    request: Option<&Request>,
    latest: &Latest,
    control: &Control,
) -> Attempt {
    let limits = StageLimits {
        poll_interval: args.poll_interval,
        queue: args.queue_timeout,
        prepare: args.prepare_timeout,
        stall: args.stall_timeout,
        total: args.timeout,
        cancel: args.cancel_timeout,
    };
    match &known.task {
        Ok(task) => {
            let request = request.cloned().unwrap_or_else(|| Request::of_task(task));
            let Control { shutdown, progress } = control;
            Box::pin(attempt(datasync, task, latest, &request, limits, shutdown, progress)).await
        }
        Err(attempt) => attempt.clone(),
    }
}

/// Returns whether a success contradicts what this run knows: the source has files, and the execution copied none of them
/// to a destination that had none. Then its location may be another folder than the mounted one.
async fn found_no_files(
    attempt: &Attempt,
    sampled: Option<&SampledKeys>,
    session: &Session,
    shutdown: &Shutdown,
) -> bool {
    if !attempt.copied_no_file(sampled.is_some_and(SampledKeys::have_no_file)) {
        return false;
    }
    tokio::select! {
        content = session.context().source.content() => content != Content::None,
        () = shutdown.requested() => false,
    }
}

/// Logs what an attempt does not prove.
fn log_attempt(attempt: &Attempt, policy: Policy, control: &Control) {
    if let Some(why) = attempt.unwanted_writes() {
        tracing::warn!("{why}");
    }
    if attempt.verdict.kind == VerdictKind::Succeeded {
        for reason in &attempt.unproven {
            tracing::warn!("the success of the execution does not show that the destination matches: {reason}");
        }
    } else if !becomes_error(attempt.verdict.kind, policy, control) {
        tracing::warn!("{}", attempt.verdict.logged_evidence());
    }
}

/// Whether the run ends because of this verdict, so that its last lines show the evidence.
fn becomes_error(verdict: VerdictKind, policy: Policy, control: &Control) -> bool {
    let is_last = verdict == VerdictKind::Cancelled || policy == Policy::DatasyncOnly;
    verdict == VerdictKind::Interrupted || is_last && !control.shutdown.is_requested()
}

/// What an execution may have deleted itself, that no guard has seen.
#[derive(Debug, Default)]
struct DeletesOfDatasync {
    /// Why the guards would not have allowed it; `None` if they would have.
    beyond: Option<String>,
    deleted: u64,
}

/// Compares the keys that the destination had before the attempt with those that it still has.
async fn deletes_of_datasync(
    attempt: &Attempt,
    sampled: Option<&SampledKeys>,
    session: &Session,
    shutdown: &Shutdown,
) -> DeletesOfDatasync {
    let counted = attempt.deleted_without_guards();
    let beyond = |why: String| DeletesOfDatasync { beyond: Some(why), deleted: counted };
    if !attempt.may_have_deleted() {
        return DeletesOfDatasync::default();
    }
    let (context, limit) = (session.context(), session.context().delete_rules.max_delete);
    if attempt.ignored_override() && !sampled.is_some_and(|sampled| sampled.allow_deletes(limit)) {
        return beyond(
            "the listing before the start does not show that its deletes are within --max-delete".to_owned(),
        );
    }
    let Some(sampled) = sampled else {
        return DeletesOfDatasync { beyond: None, deleted: counted };
    };
    let missing = tokio::select! {
        missing = sampled.missing(context) => missing,
        () = shutdown.requested() => return DeletesOfDatasync::default(),
    };
    match missing {
        Ok(missing) => DeletesOfDatasync {
            beyond: sampled.beyond_guards(missing, limit),
            deleted: sampled.deleted(missing, counted),
        },
        Err(error) => beyond(format!("cannot list what it left ({})", context.destination.explain(&error))),
    }
}
