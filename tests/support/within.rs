//! A sync within the test's own process: the same pipeline as the program's, without the process around it. Hundreds go side
//! by side, and one is killed by being dropped wherever it stands.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use efs2s3::cli::{Command as Words, Invocation};
use efs2s3::config::SyncConfig;
use efs2s3::progress::Progress;
use efs2s3::report::{Ending, Report, Route, Subject};
use efs2s3::shutdown::Shutdown;
use efs2s3::state::{State, StateLocation};
use efs2s3::sync::changes::Changes;
use efs2s3::sync::sync;
use efs2s3::sync::tally::{Seconds, Tally};
use fake_aws::s3::S3Server;
use serde_json::Value;

use crate::trial::{Ended, SECRETS};

/// What the server has received of a run that was stopped is carried out, and comes to its end before the next run begins.
/// Without conditional writes it could otherwise land on top of what that one writes.
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
    // Hundreds of small trees and states at once: the disk would be waited for, and is not what is tried.
    let in_memory = Path::new("/dev/shm");
    if tempfile::tempfile_in(in_memory).is_ok() {
        command.env("TMPDIR", in_memory);
    }
    assert!(command.status().unwrap().success());
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(8192).build().unwrap()
}

/// Runs a sync with a server, and stops it after a time: `-TERM` asks it to, `-KILL` drops it.
pub(crate) async fn run_on(s3: &S3Server, words: &[&str], stop: Option<(&'static str, Duration)>) -> Ended {
    let shutdown = Shutdown::default();
    let run = Box::pin(to_its_end(s3, words, shutdown.clone()));
    match stop {
        None => run.await,
        Some(("-KILL", after)) => {
            let ended_by_itself = tokio::time::timeout(after, run).await.ok();
            if ended_by_itself.is_none() {
                tokio::time::sleep(IN_FLIGHT).await;
            }
            ended_by_itself.unwrap_or_else(|| ended(137, Value::Null))
        }
        Some((_, after)) => {
            let asking = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                shutdown.wind_down();
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
    let url = s3.url();
    let words = ["efs2s3", "sync", "/", "s3://elsewhere", "--endpoint-url", &url];
    let Words::Sync(command) = Invocation::read(words.map(Into::into)).unwrap().cli.command else {
        panic!("only syncs");
    };
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let home = config.connect_to(&place.parse().unwrap(), Shutdown::default()).await.unwrap();
    State::Prefix(Box::new(home))
}

async fn to_its_end(s3: &S3Server, words: &[&str], shutdown: Shutdown) -> Ended {
    let url = s3.url();
    let words = [&["efs2s3"], words, &["--endpoint-url", &url]].concat();
    let Words::Sync(command) = Invocation::read(words.into_iter().map(Into::into)).unwrap().cli.command else {
        panic!("only syncs");
    };
    let subject = Subject {
        command: "sync",
        source: String::new(),
        destination: String::new(),
        keys: None,
        started: SystemTime::now(),
        route: Route::Direct,
        datasync: None,
    };
    let state = command.state.state.map(|place| match place {
        StateLocation::Folder(folder) => Arc::new(State::Folder(folder)),
        StateLocation::Prefix(_) => panic!("only folders"),
    });
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let scope = config.scope().clone();
    let mut setup = config.open(false, shutdown.clone(), Progress::new(false, false)).await.unwrap();
    if let Some(state) = &state {
        setup.recall(state, &scope, true).await;
    }
    let (mut tally, mut seconds) = (Tally::default(), Seconds::default());
    let result = sync(&setup, Changes::default(), &mut tally, &mut seconds).await;
    let code = match &result {
        Err(_) => 1,
        Ok(()) if shutdown.is_requested() => 143,
        Ok(()) if tally.is_incomplete() => 3,
        Ok(()) => 0,
    };
    let exit_code = efs2s3::exit_code::ExitCode::Success;
    let ending = Ending {
        tally,
        requests: Some(setup.context.destination.requests()),
        operations: Some(setup.context.source.operations()),
        seconds,
        error: result.err().map(|fatal| fatal.to_string()),
        exit_code,
    };
    let mut report: Value = serde_json::from_str(&Report::new(&subject, ending).json()).unwrap();
    report["exit_code"] = code.into();
    ended(code, report)
}

fn ended(code: i32, report: Value) -> Ended {
    let stderr = format!("{} {} {}", report["error"], report["failures"], report["withheld_because"]);
    Ended { code, stdout: String::new(), stderr, report, time: Duration::ZERO }
}
