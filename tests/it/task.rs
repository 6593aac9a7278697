//! `efs2s3 run` and its DataSync task: a task that cannot be described, late writes of an execution that did not succeed, an
//! execution that another client cancels.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fake_aws::datasync::reference::Copy;
use fake_aws::datasync::{Cancel, DataSyncServer, ServiceFault};
use fake_aws::s3::Seed;
use serde_json::{Value, json};

use crate::trial::{FinishedRun, READS, Trial, WRITES};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const STEP: Duration = Duration::from_millis(200);
const FOREVER: Duration = Duration::from_hours(1);

/// A tree of six files in two directories, a bucket with an orphan, and a task whose executions follow a script.
pub(crate) fn trial(script: &[(&'static str, Duration)]) -> (Trial, DataSyncServer) {
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

pub(crate) fn failing() -> Vec<(&'static str, Duration)> {
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

// --- a task that cannot be described ---

/// A task that excludes /private, where there is a file and an object that has no file. Its executions fail.
fn with_private_files() -> (Trial, DataSyncServer) {
    let (trial, datasync) = trial(&failing());
    trial.write("private/key", "secret");
    trial.object("private/only-copy", "x", LONG_AGO);
    datasync.change(|service| service.exclude = Some("/private".to_owned()));
    (trial, datasync)
}

/// Makes the first requests of this operation fail.
fn fail(datasync: &DataSyncServer, operation: &'static str, fault: &ServiceFault) {
    datasync.change(|service| service.faults = vec![(operation, u32::MAX, fault.clone())]);
}

fn denied() -> ServiceFault {
    ServiceFault::error(400, "AccessDeniedException", "User is not authorized to perform: datasync:DescribeTask")
}

fn not_found() -> ServiceFault {
    ServiceFault::error(400, "InvalidRequestException", "Request parameters are invalid: Task task-01 is not found.")
}

/// A response with status 200 that contains nothing of the task.
fn empty() -> ServiceFault {
    ServiceFault::error(200, "", "")
}

fn refused() -> ServiceFault {
    ServiceFault::error(400, "InvalidRequestException", "Request parameters are invalid.")
}

#[track_caller]
fn assert_nothing_private(trial: &Trial) {
    let private: Vec<String> = trial.names().into_iter().filter(|name| name.starts_with("private")).collect();
    assert_eq!(private, ["private/only-copy"], "published or deleted what the task excludes");
}

#[test]
fn a_run_that_cannot_describe_the_task_uses_the_description_that_the_state_remembers() {
    let (trial, datasync) = with_private_files();
    for state in states(&trial) {
        datasync.change(|service| service.faults.clear());
        trial.run(&datasync, &["--state", &state]).expect(0);
        let starts = datasync.count("StartTaskExecution");
        let faults = [
            ("DescribeTask", denied(), "access_denied"),
            ("DescribeTask", not_found(), "unknown_task"),
            ("DescribeTask", ServiceFault::error(400, "ThrottlingException", "Rate exceeded"), "throttled"),
            ("DescribeTask", empty(), "unavailable"),
            ("DescribeLocationEfs", denied(), "access_denied"),
            ("DescribeLocationS3", not_found(), "unknown_task"),
            ("DescribeLocationS3", empty(), "unavailable"),
            ("DescribeLocationEfs", refused(), "refused"),
        ];
        // The state on S3 takes the same way; each retried fault costs seconds.
        let count = if state.starts_with("s3://") { 2 } else { faults.len() };
        for (number, (operation, fault, verdict)) in faults.into_iter().take(count).enumerate() {
            fail(&datasync, operation, &fault);
            trial.write(format!("d0/new{number}"), format!("{state}{verdict}"));
            trial.object("orphan", "o", LONG_AGO);
            // The destination is remembered too.
            let run = trial.run(&datasync, &["--state", &state, "--breaker-failures", "100"]).expect(3);
            assert_verdict(&run, verdict);
            let evidence = run.report["datasync"]["evidence"].as_str().unwrap();
            assert!(evidence.contains("remembers since 20"), "{evidence}");
            assert_nothing_private(&trial);
            assert_eq!(trial.objects()[&format!("d0/new{number}")], format!("{state}{verdict}").as_bytes());
            assert_eq!(run.withheld_by("task_unknown"), 1, "the task may exclude more now");
            trial.s3.remove("site", "www/orphan");
        }
        for options in [&["--policy", "direct-only"][..], &["--breaker-failures", "1"], &["--no-filters"]] {
            let options: Vec<&str> = options.iter().copied().chain(["--state", &state]).collect();
            let run = trial.run(&datasync, &options).expect(0);
            assert!(run.report["datasync"]["evidence"].as_str().unwrap().contains("remembers"), "{}", run.report);
            assert_nothing_private(&trial);
        }
        assert_eq!(datasync.count("StartTaskExecution"), starts);
    }
}

#[test]
fn without_a_description_the_run_needs_explicit_filters_and_deletes_nothing() {
    for (operation, fault) in
        [("DescribeTask", denied()), ("DescribeTask", not_found()), ("DescribeLocationS3", denied())]
    {
        for policy in ["datasync-first", "direct-only"] {
            let (trial, datasync) = with_private_files();
            fail(&datasync, operation, &fault);
            let options = ["s3://site/www", "--delete", "--policy", policy];
            let run = trial.run(&datasync, &options).expect(1);
            let error = run.report["error"].as_str().unwrap();
            assert!(error.contains("--no-filters") && error.contains("--exclude"), "{error}");
            assert_eq!((trial.count(WRITES), datasync.count("StartTaskExecution")), (0, 0));
            assert!(run.report["datasync"]["verdict"].is_string(), "{}", run.report);

            let with = |more: &[&str]| {
                let options: Vec<&str> = options.iter().chain(more).copied().collect();
                trial.run(&datasync, &options)
            };
            let run = with(&["--exclude", "/private"]).expect(3);
            assert_nothing_private(&trial);
            assert_eq!((run.withheld_by("task_unknown"), trial.has("d0/f0")), (1, true));
            let run = with(&["--no-filters"]).expect(3);
            assert_eq!((run.withheld_by("task_unknown"), trial.has("private/key")), (2, true));
            with(&["--no-filters", "--exclude", "/private"]).expect(2);
        }
    }
}

#[test]
fn the_description_of_another_task_and_a_damaged_one_are_not_used() {
    let (trial, datasync) = with_private_files();
    let folder = trial.folder.path().join("state");
    let state = folder.display().to_string();
    trial.run(&datasync, &["--state", &state]).expect(0);
    let (source, url) = (trial.tree().display().to_string(), datasync.url());
    for (from, to) in [("abcdef0", "abcdef1"), ("us-east-1", "us-east-2"), ("123456789012", "123456789013")] {
        let other = datasync.task_arn().replace(from, to);
        let words = ["run", "--task-arn", &other, "--source", &source, "s3://site/www", "--state", &state];
        let run = trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &url)]).expect(1);
        assert!(run.stderr.contains("--no-filters"), "{}", run.stderr);
    }
    fail(&datasync, "DescribeTask", &denied());
    let file = description(&folder);
    let whole = fs::read_to_string(&file).unwrap();
    for damaged in [String::new(), whole.replace("\"schema\": 1", "\"schema\": 2"), whole.replace("task-0", "task-1")] {
        fs::write(&file, damaged).unwrap();
        let run = trial.run(&datasync, &["s3://site/www", "--state", &state]).expect(1);
        assert!(run.stderr.contains("the description of the task"), "{}", run.stderr);
    }
    assert_nothing_private(&trial);
}

/// The file of the remembered task in a state folder.
fn description(state: &Path) -> PathBuf {
    let mut files = fs::read_dir(state).unwrap().flatten().map(|entry| entry.path());
    files.find(|path| path.to_str().unwrap().ends_with(".description.json")).unwrap()
}

#[test]
fn the_description_is_written_only_when_it_changes() {
    let (trial, datasync) = with_private_files();
    let folder = trial.folder.path().join("state");
    let options = ["--state", folder.to_str().unwrap()];
    trial.run(&datasync, &options).expect(0);
    let first = fs::read_to_string(description(&folder)).unwrap();
    assert!(first.contains("/private") && first.contains(&datasync.task_arn()), "{first}");
    trial.run(&datasync, &options).expect(0);
    assert_eq!(fs::read_to_string(description(&folder)).unwrap(), first);
    datasync.change(|service| service.exclude = Some("/private|/d1".to_owned()));
    trial.run(&datasync, &options).expect(0);
    assert!(fs::read_to_string(description(&folder)).unwrap().contains("/private|/d1"));
}

#[test]
fn a_filter_that_describetask_shows_applies_although_a_location_cannot_be_described() {
    let (trial, datasync) = with_private_files();
    let state = trial.folder.path().join("state").display().to_string();
    trial.run(&datasync, &["--state", &state]).expect(0);
    datasync.change(|service| service.exclude = Some("/private|/late".to_owned()));
    trial.write("late/secret", "s");
    fail(&datasync, "DescribeLocationEfs", &denied());
    trial.run(&datasync, &["--state", &state]).expect(0);
    assert!(!trial.has("late/secret") && !trial.has("late/"), "{:?}", trial.names());
}

#[test]
fn a_manifest_that_the_run_cannot_read_does_not_lead_to_a_full_sync() {
    let (trial, datasync) = trial(&failing());
    trial.s3.create_bucket("lists");
    let object = json!({ "S3": { "ManifestObjectPath": "m.csv", "S3BucketArn": "arn:aws:s3:::lists", "BucketAccessRoleArn": "r" } });
    for source in [object, json!({})] {
        datasync.change(|service| {
            service.manifest = Some(json!({ "Action": "TRANSFER", "Format": "CSV", "Source": source }));
        });
        for policy in ["datasync-first", "direct-only"] {
            trial.run(&datasync, &["s3://site/www", "--policy", policy]).expect(1);
            assert_eq!(trial.count(WRITES), 0, "{policy}");
        }
    }
}

// --- late writes of an execution that did not succeed ---

const FILE: &str = "d0/f0";
const OLD: &str = "version 1";
const NEW: &str = "version 2";

/// What DataSync stores of a file.
pub(crate) fn metadata(path: &Path) -> Vec<(String, String)> {
    let stat = fs::symlink_metadata(path).unwrap();
    let mtime = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
    [
        ("user-agent", "aws-datasync".to_owned()),
        ("file-owner", stat.uid().to_string()),
        ("file-group", stat.gid().to_string()),
        ("file-permissions", format!("{:07o}", stat.mode())),
        ("file-mtime", format!("{mtime}ns")),
        ("file-atime", format!("{mtime}ns")),
    ]
    .map(|(name, value)| (format!("x-amz-meta-{name}"), value))
    .into()
}

/// An execution reads a file, the file changes, and the execution writes the object four seconds later. It ends with
/// `status`. Before it, `before` runs while the file has its old content.
fn written_late(status: &'static str, before: impl Fn(&Trial, &DataSyncServer)) -> (Trial, DataSyncServer) {
    let (trial, datasync) = trial(&[(status, STEP)]);
    let path = trial.write(FILE, OLD);
    before(&trial, &datasync);
    let headers = metadata(&path);
    let _execution = datasync.start_execution();
    thread::sleep(Duration::from_millis(300));
    trial.write(FILE, NEW);
    thread::sleep(Duration::from_secs(4));
    trial.s3.put("site", "www/d0/f0", OLD, Seed { headers: headers.into_iter().collect(), ..Seed::default() });
    (trial, datasync)
}

#[test]
fn late_writes_of_an_execution_that_did_not_succeed_are_compared() {
    let nothing = |_: &Trial, _: &DataSyncServer| {};
    let check = |status: &'static str, code: i32, options: &[&str]| {
        let (trial, datasync) = written_late(status, nothing);
        // The orphan stays: the execution may still be running.
        let run = trial.run(&datasync, options).expect(code);
        assert_eq!(trial.objects()[FILE], NEW.as_bytes(), "{status} {options:?}: {}", run.stderr);
        if code == 0 && options.first() == Some(&"--policy") {
            let again = trial.run(&datasync, options).expect(0);
            assert_eq!(again.counted("uploaded"), 0, "{options:?}");
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| check("ERROR", 0, &["--policy", "direct-only"]));
        scope.spawn(|| check("ERROR", 0, &["--policy", "direct-only", "--mode", "plain"]));
        scope.spawn(|| check("ERROR", 0, &["--policy", "direct-only", "--no-preserve", "mtime"]));
        scope.spawn(|| check("TRANSFERRING", 3, &["--policy", "direct-only"]));
        // This run starts an execution of its own, which fails too.
        scope.spawn(|| check("ERROR", 0, &[]));
    });
}

/// Later runs cannot start an execution, or do not.
#[test]
fn late_writes_of_a_successful_execution_are_compared_by_the_next_direct_sync() {
    let check = |verify: &'static str, options: &[&str]| {
        let (trial, datasync) = written_late("SUCCESS", |trial, datasync| {
            datasync.change(|service| drop(service.options.insert("VerifyMode", verify.into())));
            trial.datasync(&[]).expect(0);
            Trial::settle();
        });
        let state = trial.folder.path().join("state").display().to_string();
        let down = ServiceFault::error(503, "ServiceUnavailable", "down");
        datasync.change(|service| service.faults.push(("StartTaskExecution", u32::MAX, down)));
        let options = [&["--state", &state, "--breaker-failures", "100"], options].concat();
        let run = trial.run(&datasync, &options).expect(0);
        assert_eq!(trial.objects()[FILE], NEW.as_bytes(), "{verify} {options:?}: {}", run.stderr);
        Trial::settle();
        trial.s3.clear_log();
        trial.run(&datasync, &options).expect(0);
        assert_eq!(read_from_site(&trial), Vec::<String>::new(), "{verify} {options:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| check("NONE", &[]));
        scope.spawn(|| check("ONLY_FILES_TRANSFERRED", &[]));
        scope.spawn(|| check("NONE", &["--policy", "direct-only"]));
    });
}

#[test]
fn the_state_remembers_what_executions_may_have_written_late() {
    let check = |on_s3: bool| {
        let state = |trial: &Trial| {
            let [folder, prefix] = states(trial);
            if on_s3 { prefix } else { folder }
        };
        // The index has a row of the old object, and the breaker is open.
        let (trial, datasync) = written_late("ERROR", |trial, datasync| {
            let state = state(trial);
            trial.run(datasync, &["--state", &state, "--breaker-failures", "1"]).expect(0);
            Trial::settle();
        });
        let state = if on_s3 {
            "s3://state/efs2s3".to_owned()
        } else {
            trial.folder.path().join("state").display().to_string()
        };
        let starts = datasync.count("StartTaskExecution");
        trial.run(&datasync, &["--state", &state, "--breaker-failures", "1"]).expect(0);
        assert_eq!(trial.objects()[FILE], NEW.as_bytes(), "{on_s3}");
        assert_eq!(datasync.count("StartTaskExecution"), starts, "the breaker is open");
        // The index remembers what was compared: a quiet run costs listings alone.
        trial.s3.clear_log();
        trial.run(&datasync, &["--state", &state, "--policy", "direct-only"]).expect(0);
        assert_eq!(read_from_site(&trial), Vec::<String>::new());
    };
    thread::scope(|scope| {
        scope.spawn(|| check(false));
        scope.spawn(|| check(true));
        scope.spawn(|| an_earlier_execution_stays_suspect("run"));
        scope.spawn(|| an_earlier_execution_stays_suspect("sync"));
        scope.spawn(an_unknown_execution_is_suspect);
    });
}

/// The HEADs and GETs of objects of the site.
pub(crate) fn read_from_site(trial: &Trial) -> Vec<String> {
    let log = trial.s3.log();
    let read = log.iter().filter(|request| READS.contains(&request.operation) && request.bucket == "site");
    read.map(|request| request.key.clone()).collect()
}

/// The execution that wrote late is not the latest one, and no run has compared its objects. `sync` asks no DataSync.
fn an_earlier_execution_stays_suspect(command: &str) {
    let (trial, datasync) = trial(&[("ERROR", STEP)]);
    let state = trial.folder.path().join("state").display().to_string();
    let path = trial.write(FILE, OLD);
    let headers = metadata(&path);
    trial.run(&datasync, &["--state", &state, "--policy", "datasync-only"]).expect(1);
    trial.write(FILE, NEW);
    thread::sleep(Duration::from_secs(4));
    trial.s3.put("site", "www/d0/f0", OLD, Seed { headers: headers.into_iter().collect(), ..Seed::default() });
    thread::sleep(Duration::from_secs(4));
    let _latest = datasync.start_execution();
    let run = match command {
        "sync" => trial.datasync(&["--state", &state]),
        _ => trial.run(&datasync, &["--state", &state, "--policy", "direct-only"]),
    };
    assert_eq!((run.code, trial.objects()[FILE].as_slice()), (0, NEW.as_bytes()), "{command}: {}", run.stderr);
}

/// DataSync does not show how the latest execution ended.
fn an_unknown_execution_is_suspect() {
    let (trial, datasync) = written_late("ERROR", |_, _| {});
    for operation in ["DescribeTaskExecution", "DescribeTask"] {
        fail(&datasync, operation, &denied());
        let headers = trial.stored(FILE).headers;
        let run = trial.run(&datasync, &["s3://site/www", "--policy", "direct-only", "--no-filters"]);
        assert_eq!(trial.objects()[FILE], NEW.as_bytes(), "{operation}: {}", run.stderr);
        trial.s3.put("site", "www/d0/f0", OLD, Seed { headers, ..Seed::default() });
    }
}

#[test]
fn a_quiet_run_after_a_success_costs_listings_alone_and_forgets_earlier_executions() {
    let (trial, datasync) = trial(&failing());
    let state = trial.folder.path().join("state").display().to_string();
    trial.run(&datasync, &["--state", &state]).expect(0);
    assert_eq!(suspect_files(&state), 1);
    Trial::settle();
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.script = vec![("TRANSFERRING", STEP), ("SUCCESS", STEP)];
        service.on_success = Some(Box::new(move |_| {
            Copy::new(&tree, &server, "site", "www/").run().unwrap();
        }));
    });
    trial.write("d0/new", "written by DataSync");
    // On a busy machine, the measured difference of the clocks is large.
    Trial::settle();
    Trial::settle();
    let _execution = datasync.start_execution();
    thread::sleep(Duration::from_secs(1));
    // The server copies before its next response.
    trial.run(&datasync, &["--policy", "direct-only"]).expect(0);
    assert!(trial.stored("d0/new").metadata("file-mtime").is_some());
    Trial::settle();
    for options in [&["--state", &state][..], &[]] {
        trial.s3.clear_log();
        let options: Vec<&str> = ["--policy", "direct-only"].iter().chain(options).copied().collect();
        trial.run(&datasync, &options).expect(0);
        // Of what the execution wrote, only files that changed since its start are suspect.
        assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "{options:?}");
    }
}

fn suspect_files(state: &str) -> usize {
    let names = fs::read_dir(state).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".suspect.json")).count()
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
        // The poll counts, whatever code DataSync gives.
        (&seen[..], "Abort", false),
        (&seen[..], "FsS3Error", true),
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
        assert_eq!(run.stderr.matches("another client cancelled").count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("INFO DataSync: cancelled; "), "{}", run.stderr);
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
