//! What an execution may have written late or wrong stays suspect until a comparison has proven it.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fake_aws::datasync::{DataSyncServer, ServiceFault};
use fake_aws::s3::Seed;
use serde_json::{Value, json};

use crate::task::{failing, metadata, read_from_site, trial};
use crate::trial::Trial;

const FILE: &str = "d0/f0";
const STEP: Duration = Duration::from_millis(200);
const ENDED: &[(&str, Duration)] = &[("SUCCESS", STEP)];
const DIRECT: [&str; 2] = ["--policy", "direct-only"];
const DATASYNC: [&str; 2] = ["--policy", "datasync-only"];

/// A task that deletes nothing, a tree that DataSync has copied, and a state.
fn copied() -> (Trial, DataSyncServer, String) {
    let (trial, datasync) = trial(&failing());
    datasync.change(|service| drop(service.options.insert("PreserveDeletedFiles", "PRESERVE".into())));
    Trial::settle();
    trial.datasync(&[]).expect(0);
    let state = trial.folder.path().join("state").display().to_string();
    (trial, datasync, state)
}

/// The object gets other content of the same size, with the metadata of its file.
fn corrupt(trial: &Trial) {
    let headers = metadata(&trial.tree().join(FILE));
    trial.s3.put("site", "www/d0/f0", "#", Seed { headers: headers.into_iter().collect(), ..Seed::default() });
}

/// The execution that runs now writes the object late, with what it had read before the file changed.
fn write_late(trial: &Trial) {
    let headers = metadata(&trial.tree().join(FILE));
    trial.write(FILE, "N");
    thread::sleep(Duration::from_secs(4));
    trial.s3.put("site", "www/d0/f0", "0", Seed { headers: headers.into_iter().collect(), ..Seed::default() });
}

fn falsify_result(datasync: &DataSyncServer, result: &Value) {
    let result = result.clone();
    let change = move |response: &mut Value| {
        if response["Status"] == "ERROR" {
            response["Result"] = result.clone();
        }
    };
    datasync.change(|service| service.falsify = Some(("DescribeTaskExecution", Box::new(change))));
}

fn option(datasync: &DataSyncServer, name: &'static str, value: &str) {
    datasync.change(|service| drop(service.options.insert(name, value.into())));
}

fn with_state<'a>(state: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["--state", state, "--breaker-failures", "100"], options].concat()
}

#[track_caller]
fn assert_quiet(trial: &Trial, datasync: &DataSyncServer, state: &str) {
    Trial::settle();
    trial.s3.clear_log();
    trial.run(datasync, &with_state(state, &DIRECT)).expect(0);
    assert_eq!(read_from_site(trial), Vec::<String>::new(), "a quiet run costs listings alone");
}

#[test]
fn a_verification_that_failed_makes_content_suspect_however_datasync_says_so() {
    let check = |result: Value| {
        let (trial, datasync, _) = copied();
        falsify_result(&datasync, &result);
        let _execution = datasync.start_execution();
        thread::sleep(Duration::from_secs(1));
        corrupt(&trial);
        let run = trial.run(&datasync, &DIRECT).expect(0);
        assert_eq!(trial.objects()[FILE], b"0", "{result}: {}", run.stderr);
    };
    thread::scope(|scope| {
        for result in [
            json!({ "VerifyStatus": "ERROR", "ErrorDetail": "1 file differs" }),
            json!({ "ErrorCode": "VerificationFailed" }),
            json!({ "ErrorDetail": "1 file does not match its source" }),
        ] {
            scope.spawn(|| check(result));
        }
    });
}

#[test]
fn a_verification_of_everything_makes_older_objects_suspect() {
    let (trial, datasync, _) = copied();
    corrupt(&trial);
    Trial::settle();
    Trial::settle();
    option(&datasync, "VerifyMode", "POINT_IN_TIME_CONSISTENT");
    falsify_result(&datasync, &json!({ "ErrorCode": "VerificationFailed" }));
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!(trial.objects()[FILE], b"0", "{}", run.stderr);
}

#[test]
fn wrong_content_stays_suspect_after_a_success() {
    let (trial, datasync, state) = copied();
    falsify_result(&datasync, &json!({ "ErrorCode": "VerificationFailed" }));
    trial.run(&datasync, &with_state(&state, &DATASYNC)).expect(1);
    corrupt(&trial);
    Trial::settle();
    // Size and mtime are equal: the execution copies nothing.
    datasync.change(|service| service.script = ENDED.to_vec());
    let run = trial.run(&datasync, &with_state(&state, &[])).expect(0);
    assert_eq!(trial.objects()[FILE], b"0", "{}", run.stderr);
    assert!(run.stderr.contains("no comparison of the content has followed"), "{}", run.stderr);
    assert_quiet(&trial, &datasync, &state);
    // Nothing is suspect any more: the next success is trusted.
    let run = trial.run(&datasync, &with_state(&state, &[])).expect(0);
    assert_eq!(run.counted("files"), 0, "no comparison follows: {}", run.stderr);
}

#[test]
fn late_writes_stay_suspect_after_a_success_that_compared_less() {
    let manifest = |name: &str| {
        json!({ "Action": "TRANSFER", "Format": "CSV", "Source": { "S3": {
            "ManifestObjectPath": name, "S3BucketArn": "arn:aws:s3:::lists", "BucketAccessRoleArn": "r",
        }}})
    };
    let check = |kind: &'static str| {
        let (trial, datasync, state) = copied();
        trial.run(&datasync, &with_state(&state, &DATASYNC)).expect(1);
        write_late(&trial);
        Trial::settle();
        trial.s3.create_bucket("lists");
        trial.s3.put("lists", "m.csv", "d1/f1\n", Seed::default());
        datasync.change(|service| {
            service.script = ENDED.to_vec();
            match kind {
                "filter" => service.exclude = Some("/d0".to_owned()),
                "manifest" => service.manifest = Some(manifest("m.csv")),
                _ => drop(service.options.insert("OverwriteMode", "NEVER".into())),
            }
        });
        trial.run(&datasync, &with_state(&state, &[])).expect(0);
        assert_eq!(trial.objects()[FILE], b"0", "{kind}: the execution copies nothing");
        let down = ServiceFault::error(503, "ServiceUnavailable", "down");
        datasync.change(|service| {
            (service.exclude, service.manifest) = (None, None);
            service.options.insert("OverwriteMode", "ALWAYS".into());
            service.faults.push(("StartTaskExecution", u32::MAX, down));
        });
        let run = trial.run(&datasync, &with_state(&state, &[])).expect(0);
        assert_eq!(trial.objects()[FILE], b"N", "{kind}: {}", run.stderr);
        assert_quiet(&trial, &datasync, &state);
    };
    thread::scope(|scope| {
        for kind in ["filter", "manifest", "never"] {
            scope.spawn(move || check(kind));
        }
    });
}

fn set_mtime(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

#[test]
fn a_change_that_keeps_the_mtime_stays_suspect_after_another_success() {
    let (trial, datasync, state) = copied();
    datasync.change(|service| service.script = ENDED.to_vec());
    let path = trial.tree().join(FILE);
    set_mtime(&path);
    trial.datasync(&[]).expect(0);
    Trial::settle();
    trial.run(&datasync, &with_state(&state, &[])).expect(0);
    // The first execution had read the file before this change, and writes the object late.
    let headers = metadata(&path);
    trial.write(FILE, "N");
    set_mtime(&path);
    thread::sleep(Duration::from_secs(4));
    trial.s3.put("site", "www/d0/f0", "0", Seed { headers: headers.into_iter().collect(), ..Seed::default() });
    Trial::settle();
    trial.run(&datasync, &with_state(&state, &[])).expect(0);
    Trial::settle();
    let run = trial.run(&datasync, &with_state(&state, &DIRECT)).expect(0);
    assert_eq!(trial.objects()[FILE], b"N", "{}", run.stderr);
    assert_quiet(&trial, &datasync, &state);
}
