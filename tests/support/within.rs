//! A sync within the test's own process: the program's session, without the process around it. Hundreds run in parallel,
//! and a trial kills one by dropping it wherever it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use efs2s3::cli::{Command as Words, Invocation, SyncCommand};
use efs2s3::config::SyncConfig;
use efs2s3::exit_code::ExitCode;
use efs2s3::progress::Progress;
use efs2s3::report::{CommandName, Subject};
use efs2s3::session::{Access, Control, Opened, Session, SessionError};
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

/// Set in the process of its own that a test runs in: what that process may do.
const INNER: &str = "EFS2S3_TEST_INNER";
const MOUNTS: &str = "mounts";

/// Runs the test in a process of its own, which has credentials: the AWS SDK takes them from the environment, which no test
/// may change. If the system allows it, the process has its own mount namespace, and modes apply to it although it is root.
#[expect(clippy::print_stderr, reason = "the reader of the test's output should know what it skips")]
pub(crate) fn apart(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INNER).is_some() {
        return body();
    }
    let isolation = ["unshare", "--mount", "setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let isolation = [&isolation[..], &["--inh-caps=-dac_override,-dac_read_search"]].concat();
    let test_mount = "mount -n -t tmpfs tmpfs /mnt && ! (umask 777; : >/mnt/a; cat /mnt/a)";
    let mut trying = Command::new(isolation[0]);
    trying.args(&isolation[1..]).args(["sh", "-c", test_mount]).stdout(Stdio::null()).stderr(Stdio::null());
    let is_isolated = trying.status().is_ok_and(|status| status.success());
    let program = std::env::current_exe().unwrap();
    let mut command = if is_isolated {
        let mut command = Command::new(isolation[0]);
        command.args(&isolation[1..]).arg(program).env(INNER, MOUNTS);
        command
    } else {
        eprintln!("skipped: the mounts and the unreadable files of {test}: this user may not create a mount namespace");
        let mut command = Command::new(program);
        command.env(INNER, "alone");
        command
    };
    command.args(["--exact", test, "--nocapture"]);
    command.env("AWS_ACCESS_KEY_ID", "AKIDTRIAL").env("AWS_SECRET_ACCESS_KEY", SECRETS[0]);
    // No case needs a long outage; on a busy machine, a shorter timeout would end requests that only wait for the CPU.
    command.env("EFS2S3_OUTAGE_TIMEOUT", if test.starts_with("faults") { "9s" } else { "3s" });
    command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
    // With hundreds of small trees and states in parallel, the tests would wait for the disk.
    let in_memory = Path::new("/dev/shm");
    if tempfile::tempfile_in(in_memory).is_ok() {
        command.env("TMPDIR", in_memory);
    }
    assert!(command.status().unwrap().success());
}

/// Whether this process may mount file systems, and does not read what modes forbid.
pub(crate) fn can_mount() -> bool {
    std::env::var(INNER).is_ok_and(|allowed| allowed == MOUNTS)
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
                // A write of the lease may be in flight too.
                for _ in 0..2 {
                    tokio::time::sleep(IN_FLIGHT).await;
                    remove_lease(words);
                }
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

/// Runs a command with a server to its end, with a report in `folder`.
pub(crate) async fn command(s3: &S3Server, folder: &Path, words: &[&str]) -> FinishedRun {
    let (report, url) = (folder.join(format!("report-{:016x}.json", fastrand::u64(..))), s3.url());
    let report_words = ["--report", report.to_str().unwrap(), "--endpoint-url", &url];
    let words = [&["efs2s3"], words, &report_words].concat();
    let invocation = Invocation::read(words.into_iter().map(Into::into)).unwrap();
    let code = Box::pin(efs2s3::command::run(invocation, &Progress::new(false, false))).await;
    let report = fs::read(&report).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    ended(code.code().into(), report)
}

/// A state on S3.
pub(crate) async fn state_on(s3: &S3Server, place: &str) -> State {
    let command = parsed(s3, &["sync", "/", "s3://elsewhere"]);
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let home = config.connect_to(&place.parse().unwrap(), Shutdown::default()).await.unwrap();
    State::under(home, Shutdown::default())
}

async fn to_its_end(s3: &S3Server, words: &[&str], shutdown: Shutdown) -> FinishedRun {
    let command = parsed(s3, words);
    let control = Control { shutdown, progress: Progress::new(false, false) };
    let config = SyncConfig::new(command.options, Vec::new()).unwrap();
    let subject = Subject::new(CommandName::Sync, Path::new(""), "");
    let opening = Box::pin(Session::open(config, &command.state, Access::Write, subject, control));
    let report = match opening.await {
        Err(SessionError::Stopped(code)) => return ended(code.code().into(), Value::Null),
        opened => opened.unwrap(),
    };
    let report = match report {
        Opened::Ready(session) => Box::pin(session.sync(Changes::default(), Doubt::default())).await,
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
    remove_leases(Path::new(state));
}

fn remove_leases(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            // Each key range has its own.
            remove_leases(&entry.path());
        } else if entry.file_name().to_string_lossy().ends_with(".lease.json") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn ended(code: i32, report: Value) -> FinishedRun {
    let stderr = format!("{} {} {}", report["error"], report["failures"], report["withheld_because"]);
    FinishedRun { code, stdout: String::new(), stderr, report, time: Duration::ZERO }
}
