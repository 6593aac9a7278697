//! A sync within the test's own process: the program's session, without the process around it. Hundreds run in parallel,
//! and a trial kills one by dropping it wherever it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use efs2s3::cli::{Command as Words, Invocation, SyncCommand};
use efs2s3::config::SyncConfig;
use efs2s3::exit_code::ExitCode;
use efs2s3::progress::Progress;
use efs2s3::report::{CommandName, Subject};
use efs2s3::session::{Access, Control, Opened, Session};
use efs2s3::shutdown::Shutdown;
use efs2s3::state::State;
use efs2s3::sync::changes::Changes;
use efs2s3::sync::setup::Doubt;
use fake_aws::s3::S3Server;
use serde_json::Value;

use crate::trial::{FinishedRun, SECRETS};

/// The server carries out what it received from a stopped run. The next run starts after that: without conditional writes,
/// a late request could overwrite what the next run writes.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// Runs the test in a process that has credentials: the AWS SDK takes them from the environment, which no test may change.
pub(crate) fn with_credentials(test: &str, body: impl FnOnce()) {
    const INNER: &str = "EFS2S3_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(INNER, "1").env("AWS_ACCESS_KEY_ID", "AKIDTRIAL").env("AWS_SECRET_ACCESS_KEY", SECRETS[0]);
    command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
    // With hundreds of small trees and states in parallel, the tests would wait for the disk.
    let in_memory = Path::new("/dev/shm");
    if tempfile::tempfile_in(in_memory).is_ok() {
        command.env("TMPDIR", in_memory);
    }
    assert!(command.status().unwrap().success());
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(8192).build().unwrap()
}

/// Runs a sync with a server, and stops it after a time: `-TERM` cancels its shutdown token, `-KILL` drops it.
pub(crate) async fn run_on(s3: &S3Server, words: &[&str], stop: Option<(&'static str, Duration)>) -> FinishedRun {
    let shutdown = Shutdown::default();
    let run = Box::pin(to_its_end(s3, words, shutdown.clone()));
    match stop {
        None => run.await,
        Some(("-KILL", after)) => {
            let ended_by_itself = tokio::time::timeout(after, run).await.ok();
            if ended_by_itself.is_none() {
                tokio::time::sleep(IN_FLIGHT).await;
                remove_lease(words);
            }
            ended_by_itself.unwrap_or_else(|| ended(137, Value::Null))
        }
        Some((_, after)) => {
            let asking = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                shutdown.request(ExitCode::Terminated);
            });
            let ended = run.await;
            if asking.is_finished() {
                tokio::time::sleep(IN_FLIGHT).await;
            }
            asking.abort();
            ended
        }
    }
}

/// A state on S3.
pub(crate) async fn state_on(s3: &S3Server, place: &str) -> State {
    let command = parsed(s3, &["sync", "/", "s3://elsewhere"]);
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let home = config.connect_to(&place.parse().unwrap(), Shutdown::default()).await.unwrap();
    State::Prefix(Box::new(home))
}

async fn to_its_end(s3: &S3Server, words: &[&str], shutdown: Shutdown) -> FinishedRun {
    let command = parsed(s3, words);
    let control = Control { shutdown, progress: Progress::new(false, false) };
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let subject = Subject::new(CommandName::Sync, Path::new(""), "");
    let opening = Box::pin(Session::open(config, &command.state, Access::Write, subject, control));
    let report = match opening.await.unwrap() {
        Opened::Ready(session) => session.sync(Changes::default(), Doubt::default()).await,
        Opened::Failed(report) => *report,
        Opened::NothingToDo(why) => panic!("{why}"),
    };
    ended(report.exit_code().code().into(), serde_json::from_str(&report.json()).unwrap())
}

fn parsed(s3: &S3Server, words: &[&str]) -> SyncCommand {
    let url = s3.url();
    let mut words = [&["efs2s3"], words, &["--endpoint-url", &url]].concat();
    // Hundreds of trials share two cores: a short time to live would expire under a run that works.
    if let Some(ttl) = words.iter().position(|word| *word == "--lease-ttl") {
        words[ttl + 1] = "5m";
    }
    let Words::Sync(command) = Invocation::read(words.into_iter().map(Into::into)).unwrap().cli.command else {
        panic!("only syncs");
    };
    *command
}

/// A killed process leaves its lease, which expires after its time to live. The trial does not wait for that.
fn remove_lease(words: &[&str]) {
    let Some(state) = words.iter().position(|word| *word == "--state").map(|at| words[at + 1]) else {
        return;
    };
    for entry in fs::read_dir(state).into_iter().flatten().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().ends_with(".lease.json") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn ended(code: i32, report: Value) -> FinishedRun {
    let stderr = format!("{} {} {}", report["error"], report["failures"], report["withheld_because"]);
    FinishedRun { code, stdout: String::new(), stderr, report, time: Duration::ZERO }
}
