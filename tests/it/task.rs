//! `efs2s3 run` and its DataSync task: an execution that another client cancels.

use std::time::Duration;

use fake_aws::datasync::{Cancel, DataSyncServer};
use serde_json::Value;

use crate::trial::{FinishedRun, Trial, WRITES};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const STEP: Duration = Duration::from_millis(200);
const FOREVER: Duration = Duration::from_hours(1);

/// A tree of six files in two directories, a bucket with an orphan, and a task whose executions follow a script.
fn trial(script: &[(&'static str, Duration)]) -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    for number in 0..6 {
        trial.write(format!("d{}/f{number}", number % 2), format!("{number}"));
    }
    trial.object("orphan", "o", LONG_AGO);
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| {
        service.script = script.to_vec();
        service.error = ("FsS3Error".to_owned(), "Transfer failed.".to_owned());
    });
    (trial, datasync)
}

fn failing() -> Vec<(&'static str, Duration)> {
    vec![("LAUNCHING", STEP), ("ERROR", STEP)]
}

/// A state in a folder, and one on S3.
fn states(trial: &Trial) -> [String; 2] {
    trial.s3.create_bucket("state");
    [trial.folder.path().join("state").display().to_string(), "s3://state/efs2s3".to_owned()]
}

#[track_caller]
fn assert_verdict(run: &FinishedRun, verdict: &str) {
    assert_eq!(run.report["datasync"]["verdict"], verdict, "{}: {}", run.report["datasync"], run.stderr);
}

// --- an execution that another client cancels ---

#[test]
fn a_run_writes_nothing_if_another_client_cancels_the_execution() {
    let ended = [("TRANSFERRING", STEP), ("ERROR", STEP)];
    let seen = [("TRANSFERRING", STEP), ("CANCELLING", Duration::from_secs(1)), ("ERROR", STEP)];
    for (script, code, attach) in [
        (&ended[..], "Cancelled", false),
        (&ended[..], "Cancelled", true),
        // DataSync gives no code, but a poll shows the cancel.
        (&seen[..], "", false),
        (&[("CANCELLING", FOREVER)], "", true),
    ] {
        let (trial, datasync) = trial(script);
        datasync.change(|service| service.error = (code.to_owned(), "by user request".to_owned()));
        if attach {
            let _running = datasync.start_execution();
        }
        let options = ["--stall-timeout", "10s", "--timeout", "5s", "--audit"];
        let run = trial.run(&datasync, &options).expect(3);
        assert_verdict(&run, "cancelled");
        assert_eq!((run.report["route"].as_str(), trial.count(WRITES)), (Some("datasync"), 0), "{script:?}");
        assert_eq!(datasync.count("CancelTaskExecution"), 0);
        assert!(run.report["error"].as_str().unwrap().contains("--policy direct-only"), "{}", run.report);
        assert!(trial.has("orphan"));
    }
}

#[test]
fn the_run_after_a_cancelled_execution_starts_a_new_one_and_the_breaker_does_not_count_it() {
    let (trial, datasync) = trial(&[("TRANSFERRING", STEP), ("ERROR", STEP)]);
    for state in states(&trial) {
        datasync.change(|service| service.error = ("Cancelled".to_owned(), String::new()));
        let options = ["--state", state.as_str(), "--breaker-failures", "1"];
        let starts = datasync.count("StartTaskExecution");
        for run in 1..=2 {
            assert_verdict(&trial.run(&datasync, &options).expect(3), "cancelled");
            assert_eq!(datasync.count("StartTaskExecution"), starts + run);
        }
        datasync.change(|service| service.error = ("FsS3Error".to_owned(), "the upload was cancelled".to_owned()));
        assert_verdict(&trial.run(&datasync, &options).expect(0), "failed");
        assert_eq!(trial.run(&datasync, &options).expect(0).report["datasync"], Value::Null, "the breaker is open");
    }
}

#[test]
fn datasync_only_exits_with_1_after_a_cancel() {
    let (trial, datasync) = trial(&[("TRANSFERRING", STEP), ("ERROR", STEP)]);
    datasync.change(|service| service.error = ("Cancelled".to_owned(), String::new()));
    assert_verdict(&trial.run(&datasync, &["--policy", "datasync-only"]).expect(1), "cancelled");
}

#[test]
fn a_word_in_the_error_detail_does_not_make_a_failure_a_cancel() {
    let (trial, datasync) = trial(&failing());
    let detail = "x40016: the upload of /img/cancelled.png was cancelled by the server";
    for code in ["FsS3Error", ""] {
        datasync.change(|service| service.error = (code.to_owned(), detail.to_owned()));
        assert_verdict(&trial.run(&datasync, &[]).expect(0), "failed");
    }
    assert!(trial.has("d0/f0") && !trial.has("orphan"));
}

#[test]
fn a_cancel_that_the_run_requested_falls_back_and_another_clients_does_not() {
    // The run's own cancel ends the execution with the code of a cancel.
    let (trial, datasync) = trial(&[("LAUNCHING", FOREVER)]);
    let run = trial.run(&datasync, &["--queue-timeout", "1s"]).expect(0);
    assert_verdict(&run, "queued_too_long");
    assert_eq!((run.report["datasync"]["error_code"].as_str(), trial.has("d0/f0")), (Some("Cancelled"), true));

    // DataSync refuses the run's cancel: another client's came first.
    let (trial, datasync) = self::trial(&[("LAUNCHING", Duration::from_secs(2)), ("ERROR", STEP)]);
    datasync.change(|service| {
        service.error = ("Cancelled".to_owned(), String::new());
        service.cancel = Cancel::Refused;
    });
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "10s"]).expect(3);
    assert_verdict(&run, "cancelled");
    assert_eq!(trial.count(WRITES), 0);
}
