//! `efs2s3 run`: the route of each run, the destination after it, and the report.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::datasync::reference::Copy;
use fake_aws::datasync::{Cancel, DataSyncServer, ServiceFault};
use fake_aws::s3::{Fault, Operation, Rule, Seed};
use serde_json::{Value, json};

use crate::trial::{FinishedRun, READS, Trial, WRITES, random, wait_until};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const STEP: Duration = Duration::from_millis(200);
const FOREVER: Duration = Duration::from_hours(1);
const DETAIL: &str =
    "Task failed to access location loc-0: x40016: Failed to connect to EFS mount target with IP: 10.0.0.9.";

/// A tree, a bucket with an orphan, and a task whose executions follow a script.
fn trial(script: &[(&'static str, Duration)]) -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    for number in 0..6 {
        trial.write(format!("d{}/f{number}", number % 2), format!("{number}"));
    }
    trial.object("orphan", "o", LONG_AGO);
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.script = script.to_vec();
        service.error = ("OpNotSupp".to_owned(), DETAIL.to_owned());
        service.on_success = Some(Box::new(move |options| {
            Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
        }));
    });
    (trial, datasync)
}

fn succeeding() -> Vec<(&'static str, Duration)> {
    ["QUEUED", "LAUNCHING", "PREPARING", "TRANSFERRING", "VERIFYING"]
        .map(|status| (status, STEP))
        .into_iter()
        .chain([("SUCCESS", STEP)])
        .collect()
}

fn failing() -> Vec<(&'static str, Duration)> {
    vec![("LAUNCHING", STEP), ("ERROR", STEP)]
}

/// Asserts that DataSync would find nothing to copy.
#[track_caller]
fn assert_done(trial: &Trial) {
    let tree = trial.tree();
    let again = Copy::new(&tree, &trial.s3, "site", "www/").run().unwrap();
    assert!(again.is_nothing(), "DataSync would copy: {again:?}");
}

#[track_caller]
fn assert_route(run: &FinishedRun, route: &str, verdict: &str) {
    assert_eq!(run.report["route"], route, "{}", run.stderr);
    assert_eq!(run.report["datasync"]["verdict"], verdict, "{}", run.report["datasync"]);
    assert_eq!(run.report["command"], "run");
}

// --- the task alone is the configuration ---

#[test]
fn if_datasync_deletes_the_run_writes_nothing_after_a_success() {
    let (trial, datasync) = trial(&succeeding());
    let run = trial.run(&datasync, &["--deletes", "datasync"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    assert_eq!(datasync.count("StartTaskExecution"), 1);
    let section = &run.report["datasync"];
    assert_eq!(section["status"], "SUCCESS");
    assert!(section["execution_arn"].as_str().unwrap().contains("/execution/exec-"));
    assert_eq!(section["attached"], false);
    assert!(run.report["seconds"]["datasync"].as_f64().unwrap() >= 1.0);
    assert_eq!(run.report["destination"], "s3://site/www/");
    assert_done(&trial);
}

#[test]
fn after_a_failed_execution_the_run_syncs_directly_and_reports_its_error() {
    let (trial, datasync) = trial(&failing());
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "fallback", "failed");
    let section = &run.report["datasync"];
    assert_eq!((section["error_code"].as_str(), section["error_detail"].as_str()), (Some("OpNotSupp"), Some(DETAIL)));
    assert!(run.stderr.contains("x40016"), "{}", run.stderr);
    assert_eq!((run.counted("uploaded"), run.counted("deleted")), (8, 1));
    assert_done(&trial);
    Trial::settle();
    datasync.change(|service| service.script = succeeding());
    trial.s3.clear_log();
    assert_route(&trial.run(&datasync, &[]).expect(0), "datasync", "succeeded");
    assert_eq!(trial.count(WRITES), 0, "the recovered task finds nothing to copy");
}

#[test]
fn filters_class_deletes_and_metadata_come_from_the_task() {
    let (trial, datasync) = trial(&failing());
    trial.write("d0/x.tmp", "t");
    trial.write("private/p", "p");
    trial.write("big", random(200_000));
    trial.object("private/old", "k", LONG_AGO);
    datasync.change(|service| {
        service.exclude = Some("*.tmp|/private".to_owned());
        service.storage_class = "GLACIER_INSTANT_RETRIEVAL".to_owned();
        service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        service.options.insert("Uid", "NONE".into());
        service.options.insert("Gid", "NONE".into());
    });
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "fallback", "failed");
    assert!(!trial.has("d0/x.tmp") && !trial.has("private/p") && trial.has("private/old") && trial.has("orphan"));
    assert_eq!(
        (trial.stored("big").storage_class(), trial.stored("d0/f0").storage_class()),
        ("GLACIER_IR", "STANDARD")
    );
    assert_eq!(trial.stored("big").metadata("file-owner"), None);
    assert!(trial.stored("big").metadata("file-mtime").is_some());
}

#[test]
fn overwrite_mode_never_and_the_manifest_of_a_task_are_obeyed() {
    let (trial, datasync) = trial(&failing());
    trial.object("d0/f0", "kept", LONG_AGO);
    datasync.change(|service| {
        service.options.insert("OverwriteMode", "NEVER".into());
    });
    trial.run(&datasync, &[]).expect(0);
    assert_eq!(trial.objects()["d0/f0"], b"kept");

    let (trial, datasync) = self::trial(&failing());
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "today/m.csv", "d0/f0\n", Seed::default());
    let source = json!({ "S3": { "ManifestObjectPath": "/today/m.csv", "S3BucketArn": "arn:aws:s3:::lists", "BucketAccessRoleArn": "r" } });
    datasync
        .change(|service| service.manifest = Some(json!({ "Action": "TRANSFER", "Format": "CSV", "Source": source })));
    trial.run(&datasync, &[]).expect(0);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["d0/f0", "orphan"]);
}

#[test]
fn a_flag_overrides_the_task_and_the_run_warns_about_the_difference() {
    let (trial, datasync) = trial(&failing());
    trial.s3.create_bucket("other");
    let direct = ["s3://other/place", "--exclude", "/d1", "--policy", "direct-only"];
    let run = trial.run(&datasync, &direct).expect(0);
    assert_eq!(run.report["destination"], "s3://other/place/");
    assert_eq!(trial.s3.keys("other", "").len(), 4, "d0/ and its three files");
    assert_eq!(trial.names().len(), 1, "the run writes nothing to the task's destination");
    let warnings: Vec<_> = run.stderr.lines().filter(|line| line.contains("differs from the task's")).collect();
    assert_eq!(warnings.len(), 2, "{}", run.stderr);
    assert!(warnings[0].contains("destination") && warnings[0].contains("s3://site/www/"), "{warnings:?}");
    assert!(warnings[1].contains("exclude") && warnings[1].contains("unset"), "{warnings:?}");
}

#[test]
fn a_variable_turns_off_the_deletes_of_the_task() {
    let (trial, datasync) = trial(&failing());
    let (task, source, url) = (datasync.task_arn(), trial.tree().display().to_string(), datasync.url());
    let words = ["run", "--task-arn", task.as_str(), "--source", source.as_str(), "--poll-interval", "100ms"];
    let run = trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &url), ("EFS2S3_DELETE", "false")]).expect(0);
    assert!(trial.has("orphan") && run.stderr.contains("differs from the task's"), "{}", run.stderr);
}

#[test]
fn a_config_file_configures_a_run_and_overrides_the_task() {
    let (trial, datasync) = trial(&failing());
    let config = trial.folder.path().join("run.toml");
    let text = format!(
        "task-arn = \"{}\"\nsource = \"{}\"\npoll-interval = \"100ms\"\nexclude = \"/d1\"\n",
        datasync.task_arn(),
        trial.tree().display()
    );
    fs::write(&config, text).unwrap();
    let words = ["run", "--config", config.to_str().unwrap()];
    let run = trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &datasync.url())]).expect(0);
    assert_route(&run, "fallback", "failed");
    assert!(trial.has("d0/f0") && !trial.has("d1/f1"), "{:?}", trial.names());
}

#[test]
fn the_run_warns_about_each_task_option_that_it_does_not_support() {
    let (trial, datasync) = trial(&failing());
    datasync.change(|service| {
        service.options.insert("ObjectTags", "PRESERVE".into());
        service.options.insert("TransferMode", "ALL".into());
        service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
    });
    let run = trial.run(&datasync, &[]).expect(0);
    for option in ["ObjectTags=PRESERVE", "TransferMode=ALL"] {
        assert!(run.stderr.contains(option), "{}", run.stderr);
    }
}

#[test]
fn a_task_in_govcloud_works_and_sets_the_region() {
    let (trial, _) = trial(&[]);
    let datasync = DataSyncServer::start("aws-us-gov", "us-gov-west-1").unwrap();
    datasync.change(|service| service.script = failing());
    let source = trial.tree().display().to_string();
    let task = datasync.task_arn();
    // No region is set: the task's region counts, for S3 too.
    let environment = [("AWS_ENDPOINT_URL_DATASYNC", datasync.url()), ("AWS_REGION", String::new())];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "100ms"];
    let run = trial.run_words(&words, &environment).expect(0);
    assert_route(&run, "fallback", "failed");
    assert!(run.report["datasync"]["execution_arn"].as_str().unwrap().starts_with("arn:aws-us-gov:"));
    assert_done(&trial);
}

// --- executions that are running, hang, or do not respond ---

#[test]
fn a_run_attaches_to_a_running_execution_and_starts_none() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(12)), ("SUCCESS", STEP)]);
    let running = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--timeout", "2m"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!(datasync.count("StartTaskExecution"), 0);
    assert_eq!(
        (run.report["datasync"]["execution_arn"].as_str(), &run.report["datasync"]["attached"]),
        (Some(running.as_str()), &json!(true))
    );
}

#[test]
fn a_success_with_other_filters_than_the_tasks_is_partial() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(10)), ("SUCCESS", STEP)]);
    datasync.change(|service| {
        service.execution_include = Some("/d0".to_owned());
        service.on_success = None;
    });
    let _of_another_caller = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--timeout", "2m"]).expect(0);
    assert_route(&run, "fallback", "partial");
    assert_done(&trial);
}

#[test]
fn a_run_attaches_to_an_execution_that_another_caller_started_first() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(6)), ("SUCCESS", STEP)]);
    datasync.change(|service| service.other_client_starts_first = true);
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--timeout", "2m"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!((datasync.count("StartTaskExecution"), &run.report["datasync"]["attached"]), (1, &json!(true)));
}

#[test]
fn a_stuck_execution_is_cancelled_and_the_run_waits_for_its_end() {
    for (stuck, verdict) in
        [("QUEUED", "queued_too_long"), ("LAUNCHING", "queued_too_long"), ("PREPARING", "prepared_too_long")]
    {
        let (trial, datasync) = trial(&[(stuck, FOREVER)]);
        let run = trial.run(&datasync, &[]).expect(0);
        assert_route(&run, "fallback", verdict);
        assert_eq!(datasync.count("CancelTaskExecution"), 1);
        let log = datasync.log();
        let cancelled = log.iter().position(|(operation, _)| operation == "CancelTaskExecution").unwrap();
        assert!(log[cancelled..].iter().any(|(operation, _)| operation == "DescribeTaskExecution"));
        assert_eq!(run.report["datasync"]["status"], "ERROR", "{stuck}");
        assert_done(&trial);
    }
}

#[test]
fn unchanged_counters_are_a_stall_and_changing_ones_are_not() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    datasync.change(|service| service.counters_move = false);
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "fallback", "stalled");
    assert_done(&trial);

    let (trial, datasync) = self::trial(&[("TRANSFERRING", FOREVER)]);
    let run = trial.run(&datasync, &["--timeout", "3s"]).expect(0);
    assert_route(&run, "fallback", "timed_out");
}

#[test]
fn a_success_that_copied_no_file_to_a_destination_without_any_is_compared() {
    for orphan in [false, true] {
        let (trial, datasync) = trial(&[("SUCCESS", Duration::ZERO)]);
        if !orphan {
            trial.s3.remove("site", "www/orphan");
        }
        datasync.change(|service| {
            (service.counters_are_zero, service.on_success) = (true, None);
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        let run = trial.run(&datasync, &[]).expect(0);
        assert_route(&run, "datasync", "succeeded");
        assert!(run.stderr.contains("it copied no file"), "{}", run.stderr);
        assert_eq!((run.counted("uploaded"), trial.has("d0/f0"), trial.has("orphan")), (8, true, orphan));
        // The destination has the files now: a quiet execution is a proof again.
        trial.s3.clear_log();
        let run = trial.run(&datasync, &[]).expect(0);
        assert!(!run.stderr.contains("it copied no file"), "{}", run.stderr);
        assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    }
    // An empty source is nothing to copy.
    let trial = Trial::new();
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| service.counters_are_zero = true);
    let run = trial.run(&datasync, &[]).expect(0);
    assert!(!run.stderr.contains("it copied no file"), "{}", run.stderr);
}

#[test]
fn an_execution_with_an_unknown_status_counts_as_running() {
    let (trial, datasync) = trial(&[("LAUNCHED", STEP), ("FROBNICATING", Duration::from_secs(4)), ("SUCCESS", STEP)]);
    assert_route(&trial.run(&datasync, &[]).expect(0), "datasync", "succeeded");
}

#[test]
fn without_a_confirmed_end_the_run_deletes_nothing() {
    for cancel in [Cancel::Refused, Cancel::Ignored] {
        let (trial, datasync) = trial(&[("LAUNCHING", FOREVER)]);
        datasync.change(|service| service.cancel = cancel);
        let run = trial.run(&datasync, &[]).expect(3);
        assert_route(&run, "fallback", "queued_too_long");
        assert_eq!((run.counted("uploaded"), run.counted("deleted")), (8, 0), "{cancel:?}");
        assert_eq!(run.withheld_by("datasync_may_still_run"), 1);
        assert!(trial.has("orphan"));
    }
}

#[test]
fn an_execution_that_succeeds_while_it_is_cancelled_has_succeeded() {
    let (trial, datasync) = trial(&[("LAUNCHING", Duration::from_millis(1800)), ("SUCCESS", STEP)]);
    datasync.change(|service| service.cancel = Cancel::Ignored);
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "5s"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!((trial.count(WRITES), run.counted("deleted")), (1, 1), "only the orphan is left to this run");
}

// --- errors of DataSync ---

#[test]
fn transient_datasync_errors_do_not_change_the_verdict() {
    let (trial, datasync) = trial(&succeeding());
    let throttled = || ServiceFault::error(400, "ThrottlingException", "Rate exceeded");
    datasync.change(|service| {
        service.faults = vec![
            ("DescribeTask", 2, throttled()),
            ("StartTaskExecution", 1, ServiceFault::error(500, "InternalException", "oops")),
            ("DescribeTaskExecution", 2, throttled()),
            ("DescribeTaskExecution", 1, ServiceFault::Reset),
        ];
    });
    assert_route(
        &trial
            .run(&datasync, &["--queue-timeout", "10s", "--prepare-timeout", "10s", "--stall-timeout", "20s"])
            .expect(0),
        "datasync",
        "succeeded",
    );
}

#[test]
fn each_error_of_a_start_has_its_verdict_and_the_run_falls_back() {
    for (code, status, message, verdict) in [
        (
            "AccessDeniedException",
            400,
            "User is not authorized to perform: datasync:StartTaskExecution",
            "access_denied",
        ),
        ("ThrottlingException", 400, "Rate exceeded", "throttled"),
        ("ServiceUnavailable", 503, "try later", "unavailable"),
        ("InvalidRequestException", 400, "Too many queued executions", "refused"),
    ] {
        let (trial, datasync) = trial(&succeeding());
        datasync.change(|service| {
            service.faults.push(("StartTaskExecution", u32::MAX, ServiceFault::error(status, code, message)));
        });
        let run = trial.run(&datasync, &[]);
        assert_route(&run, "fallback", verdict);
        assert_eq!(run.report["datasync"]["error_code"], code);
        assert_eq!(run.report["datasync"]["error_detail"], message);
        // A second DescribeTask showed that no execution is running.
        assert_eq!((run.code, run.counted("uploaded"), run.counted("deleted")), (0, 8, 1), "{code}");
        assert_done(&trial);
    }
}

#[test]
fn a_run_attaches_to_an_execution_whose_start_response_was_lost() {
    let (trial, datasync) = trial(&[("TRANSFERRING", STEP), ("SUCCESS", STEP)]);
    datasync.change(|service| {
        service.other_client_starts_first = true;
        service.faults.push((
            "StartTaskExecution",
            u32::MAX,
            ServiceFault::error(503, "ServiceUnavailable", "try later"),
        ));
    });
    let run = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!(run.report["datasync"]["attached"], true);
}

#[test]
fn datasync_is_retried_by_time_and_not_by_a_number_of_attempts() {
    let down = || ServiceFault::error(503, "ServiceUnavailable", "try later");
    let throttled = || ServiceFault::error(400, "ThrottlingException", "Rate exceeded");
    let check = |(operation, fault): (&'static str, ServiceFault)| {
        let (trial, datasync) = trial(&succeeding());
        datasync.change(|service| service.faults.push((operation, 6, fault)));
        let run = trial.run(&datasync, &["--outage-timeout", "4m"]).expect(0);
        assert_route(&run, "datasync", "succeeded");
        assert!(datasync.count(operation) > 6, "{operation}");
        assert_eq!(datasync.count("StartTaskExecution"), if operation == "StartTaskExecution" { 7 } else { 1 });
    };
    std::thread::scope(|scope| {
        for case in [
            ("DescribeTask", throttled()),
            ("DescribeLocationS3", down()),
            ("StartTaskExecution", down()),
            ("StartTaskExecution", ServiceFault::error(500, "InternalException", "oops")),
        ] {
            scope.spawn(|| check(case));
        }
    });
}

#[test]
fn a_start_whose_response_was_lost_is_not_sent_again() {
    for lost in [ServiceFault::error(500, "InternalException", "oops"), ServiceFault::Reset] {
        let (trial, datasync) = trial(&[("TRANSFERRING", STEP), ("SUCCESS", STEP)]);
        datasync.change(|service| {
            service.other_client_starts_first = true;
            service.faults.push(("StartTaskExecution", u32::MAX, lost));
        });
        let run = trial.run(&datasync, &["--stall-timeout", "10s", "--outage-timeout", "4m"]).expect(0);
        assert_route(&run, "datasync", "succeeded");
        assert_eq!(datasync.count("StartTaskExecution"), 1, "the run looks for the execution first");
        let may_be_own = "this run or another client started it (a start of this run had no response)";
        assert!(run.stderr.contains(may_be_own), "{}", run.stderr);
        for wrong in ["already running", ": another client started it"] {
            assert!(!run.stderr.contains(wrong), "{wrong}: {}", run.stderr);
        }
    }
}

#[test]
fn retries_limit_the_requests_to_datasync_too() {
    let (trial, datasync) = trial(&succeeding());
    let down = ServiceFault::error(503, "ServiceUnavailable", "try later");
    datasync.change(|service| service.faults.push(("StartTaskExecution", u32::MAX, down)));
    let run = trial.run(&datasync, &["--outage-timeout", "4m", "--retries", "0"]).expect(0);
    assert_route(&run, "fallback", "unavailable");
    assert_eq!(datasync.count("StartTaskExecution"), 1);
}

#[test]
fn if_a_failed_start_may_have_worked_the_run_deletes_nothing() {
    let (trial, datasync) = trial(&succeeding());
    let denied = || ServiceFault::error(400, "AccessDeniedException", "not authorized");
    datasync.change(|service| {
        service.faults.push((
            "StartTaskExecution",
            u32::MAX,
            ServiceFault::error(503, "ServiceUnavailable", "try later"),
        ));
        // The first DescribeTask succeeds; DataSync denies the second.
        service.late_fault = Some(("DescribeTask", 1, denied()));
    });
    let run = trial.run(&datasync, &[]).expect(3);
    assert_route(&run, "fallback", "unavailable");
    assert_eq!((run.counted("uploaded"), run.withheld_by("datasync_may_still_run")), (8, 1));
}

#[test]
fn without_the_task_the_run_needs_a_destination() {
    let (trial, datasync) = trial(&succeeding());
    let denied = ServiceFault::error(400, "AccessDeniedException", "User is not authorized");
    datasync.change(|service| service.faults.push(("DescribeTask", u32::MAX, denied)));
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(
        run.stderr.contains("datasync:DescribeTask") && run.stderr.contains("EFS2S3_DESTINATION"),
        "{}",
        run.stderr
    );
    assert_eq!((trial.count(Operation::ListObjectsV2), trial.count(WRITES)), (0, 0));
    let run = trial.run(&datasync, &["s3://site/www", "--delete", "--no-filters"]).expect(3);
    assert_route(&run, "fallback", "access_denied");
    assert_eq!((run.counted("uploaded"), run.withheld_by("task_unknown")), (8, 1));
    assert_eq!(datasync.count("StartTaskExecution"), 0);
}

#[test]
fn neither_a_missing_task_nor_an_unreachable_service_allows_deletes() {
    let (trial, datasync) = trial(&succeeding());
    let other = datasync.task_arn().replace("abcdef0", "abcdef1");
    let source = trial.tree().display().to_string();
    let run = |environment: &str| {
        let words = ["run", "--task-arn", &other, "--source", &source, "s3://site/www", "--delete", "--no-filters"];
        trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", environment)])
    };
    let unknown = run(&datasync.url()).expect(3);
    assert_route(&unknown, "fallback", "unknown_task");
    assert_eq!(unknown.withheld_by("task_unknown"), 1, "the run cannot know what the task excluded");

    let started = Instant::now();
    let unreachable = run("http://127.0.0.1:9").expect(3);
    assert_route(&unreachable, "fallback", "unreachable");
    assert!(started.elapsed() < Duration::from_mins(1));
    assert_eq!(unreachable.withheld_by("task_unknown"), 1);
}

#[test]
fn if_polls_and_cancel_fail_the_run_deletes_nothing() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let expired =
        ServiceFault::error(400, "ExpiredTokenException", "The security token included in the request is expired");
    let run = trial.start_run(&datasync, &["--stall-timeout", "30s"]);
    wait_until("the run polls the execution", || datasync.count("DescribeTaskExecution") > 0);
    datasync.change(|service| {
        service.faults.push(("DescribeTaskExecution", u32::MAX, expired.clone()));
        service.faults.push(("CancelTaskExecution", u32::MAX, expired));
    });
    let run = run.end().expect(3);
    assert_route(&run, "fallback", "access_denied");
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1);
}

// --- partial success ---

#[test]
fn files_that_datasync_skipped_or_left_wrong_are_repaired_and_no_others() {
    for (detail, status) in [
        (
            "Transfer and verification completed. Verification detected mismatches. Files with mismatches are listed in Cloud Watch Logs",
            "ERROR",
        ),
        (
            "Transfer and verification completed. Selected files transferred except for files skipped due to errors.",
            "SUCCESS",
        ),
    ] {
        let (trial, datasync) = trial(&[("TRANSFERRING", STEP), (status, STEP)]);
        thread::sleep(Duration::from_secs(4));
        let (tree, server) = (trial.tree(), trial.s3.clone());
        datasync.change(|service| {
            service.error = (String::new(), detail.to_owned());
            service.copies_before_error = true;
            service.on_success = Some(Box::new(move |options| {
                Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
                // One object is missing. Another has the wrong content under the right metadata.
                server.remove("site", "www/d0/f0");
                let object = server.object("site", "www/d1/f1").unwrap();
                server.put("site", "www/d1/f1", "X", Seed { headers: object.headers, ..Seed::default() });
            }));
        });
        let run = trial.run(&datasync, &[]).expect(0);
        assert_route(&run, "fallback", "partial");
        assert_eq!((run.counted("uploaded"), run.counted("deleted"), trial.count(WRITES)), (2, 1, 3), "{status}");
        assert_eq!(trial.objects()["d1/f1"], b"1");
        assert_done(&trial);
    }
}

#[test]
fn change_during_an_execution_is_found_although_its_mtime_was_restored() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(4)), ("SUCCESS", STEP)]);
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.on_success = Some(Box::new(move |options| {
            Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
            // DataSync read the file before its last change, which left the mtime as it was.
            let headers = server.object("site", "www/d0/f0").unwrap().headers;
            server.put("site", "www/d0/f0", "x", Seed { headers, ..Seed::default() });
        }));
    });
    trial.run(&datasync, &["--audit"]).expect(0);
    assert_eq!(trial.objects()["d0/f0"], b"0");
}

#[test]
fn an_audit_repairs_what_a_successful_execution_skipped() {
    let (trial, datasync) = trial(&succeeding());
    thread::sleep(Duration::from_secs(3));
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.on_success = Some(Box::new(move |options| {
            Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
            server.remove("site", "www/d0/f0");
            // DataSync read the file before its last change, and wrote the object after it.
            let object = server.object("site", "www/d1/f1").unwrap();
            let mut headers = object.headers;
            headers.insert("x-amz-meta-file-mtime".to_owned(), "1595002920000000000ns".to_owned());
            server.put("site", "www/d1/f1", "0", Seed { headers, ..Seed::default() });
        }));
    });
    let run = trial.run(&datasync, &["--audit"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!(run.counted("uploaded"), 2, "{}", run.report["counts"]);
    assert_done(&trial);
}

// --- policies, breaker, signals ---

#[test]
fn each_policy_allows_its_own_routes() {
    let (trial, datasync) = trial(&failing());
    let run = trial.run(&datasync, &["--policy", "datasync-only"]).expect(1);
    assert_eq!((trial.count(WRITES), run.report["route"].as_str()), (0, Some("datasync")));
    assert!(run.report["error"].as_str().unwrap().contains("x40016"), "{}", run.report);
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(0);
    assert_eq!((run.report["route"].as_str(), datasync.count("StartTaskExecution")), (Some("direct"), 1));
    assert_eq!(run.report["datasync"], Value::Null);
    assert_done(&trial);
    let source = trial.tree().display().to_string();
    let alone =
        trial.run_words(&["run", "--source", &source, "s3://site/www", "--policy", "direct-only"], &[]).expect(0);
    assert_eq!(alone.report["route"], "direct");
    for words in [
        &["run", "--source", &source][..],
        &["run", "--source", &source, "s3://site/www"],
        &["run", "--source", &source, "--task-arn", "task-1"],
    ] {
        trial.run_words(words, &[]).expect(2);
    }
}

#[test]
fn a_direct_run_during_an_execution_deletes_nothing() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let _running = datasync.start_execution();
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    assert_eq!((run.counted("uploaded"), run.withheld_by("datasync_may_still_run")), (8, 1));
}

#[test]
fn the_breaker_opens_and_closes_with_its_state_on_disk_and_in_s3() {
    let (trial, datasync) = trial(&failing());
    trial.s3.create_bucket("state");
    let folder = trial.folder.path().join("state").display().to_string();
    for state in [folder.as_str(), "s3://state/efs2s3"] {
        let options = ["--state", state, "--breaker-failures", "2", "--breaker-cooldown", "4s"];
        datasync.change(|service| service.script = failing());
        for _ in 0..2 {
            assert_route(&trial.run(&datasync, &options).expect(0), "fallback", "failed");
        }
        let starts = datasync.count("StartTaskExecution");
        let run = trial.run(&datasync, &options).expect(0);
        assert_eq!((run.report["route"].as_str(), datasync.count("StartTaskExecution")), (Some("direct"), starts));
        thread::sleep(Duration::from_secs(4));
        datasync.change(|service| service.script = succeeding());
        assert_route(&trial.run(&datasync, &options).expect(0), "datasync", "succeeded");
        datasync.change(|service| service.script = failing());
        assert_route(&trial.run(&datasync, &options).expect(0), "fallback", "failed");
    }
    assert!(breaker(Path::new(&folder)).exists());
    assert!(trial.s3.keys("state", "efs2s3/").iter().any(|key| key.ends_with(".breaker.json")));
}

/// The breaker's file in a state folder.
fn breaker(state: &Path) -> PathBuf {
    let mut files = fs::read_dir(state).unwrap().flatten().map(|entry| entry.path());
    files.find(|path| path.to_str().unwrap().ends_with(".breaker.json")).unwrap()
}

#[test]
fn a_damaged_breaker_file_is_logged_and_rebuilt() {
    let (trial, datasync) = trial(&failing());
    let folder = trial.folder.path().join("state");
    let options = ["--state", folder.to_str().unwrap(), "--breaker-failures", "1"];
    trial.run(&datasync, &options).expect(0);
    let file = breaker(&folder);
    fs::write(&file, "{\"schema\":1,").unwrap();
    let run = trial.run(&datasync, &options).expect(0);
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_route(&run, "fallback", "failed");
    assert!(fs::read_to_string(&file).unwrap().contains("\"failures_in_a_row\": 1"));
}

#[test]
fn state_in_the_source_or_destination_is_refused() {
    let (trial, datasync) = trial(&failing());
    let inside = trial.tree().join("state").display().to_string();
    for state in ["s3://site/www", "s3://site/www/state", inside.as_str()] {
        let run = trial.run(&datasync, &["--state", state]).expect(2);
        assert!(run.stderr.contains("name another place"), "{}", run.stderr);
    }
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
}

#[test]
fn a_stopped_run_leaves_the_execution_to_the_next_run() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(15)), ("SUCCESS", STEP)]);
    let run = trial.start_run(&datasync, &["--stall-timeout", "10s"]);
    wait_until("the run polls the execution", || datasync.count("DescribeTaskExecution") > 0);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_route(&run, "datasync", "interrupted");
    assert_eq!((datasync.count("CancelTaskExecution"), trial.count(WRITES)), (0, 0));
    let next = trial.run(&datasync, &["--stall-timeout", "1m", "--timeout", "2m"]).expect(0);
    assert_route(&next, "datasync", "succeeded");
    assert_eq!((datasync.count("StartTaskExecution"), &next.report["datasync"]["attached"]), (1, &json!(true)));
}

// --- a tree that is not the task's ---

#[test]
fn a_destination_without_any_key_of_the_source_is_refused_before_a_start() {
    let (trial, datasync) = trial(&failing());
    for number in 0..150 {
        trial.object(&format!("elsewhere/{number:03}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.stderr.contains("none of 151 sampled keys"), "{}", run.stderr);
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    // One key that the source has is enough.
    trial.object("d0/f0", "0", LONG_AGO);
    let run = trial.run(&datasync, &["--max-delete", "100%"]).expect(0);
    assert_route(&run, "fallback", "failed");
    assert_done(&trial);
}

#[test]
fn datasync_runs_even_if_the_program_may_not_list_the_bucket() {
    let (trial, datasync) = trial(&succeeding());
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(denied));
    let run = trial.run(&datasync, &["--deletes", "datasync"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert!(run.stderr.contains("s3:ListBucket"), "{}", run.stderr);
    // The deletes of this program need the listing.
    let run = trial.run(&datasync, &[]).expect(1);
    assert_route(&run, "datasync", "succeeded");
    assert!(run.report["error"].as_str().unwrap().contains("s3:ListBucket"), "{}", run.report);
    datasync.change(|service| service.script = failing());
    let run = trial.run(&datasync, &[]).expect(1);
    assert_route(&run, "fallback", "failed");
    assert!(run.report["error"].as_str().unwrap().contains("s3:ListBucket"), "{}", run.report);
}

#[test]
fn a_hidden_mount_is_a_warning_and_a_missing_source_an_error() {
    let (trial, datasync) = trial(&succeeding());
    let run = trial.run(&datasync, &[]).expect(0);
    assert!(run.stderr.contains("cannot determine"), "{}", run.stderr);
    fs::rename(trial.tree(), trial.folder.path().join("away")).unwrap();
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.stderr.contains("does not exist"), "{}", run.stderr);
    assert_eq!(datasync.count("StartTaskExecution"), 1, "only the first run's");
    assert!(Path::new(&trial.folder.path().join("away")).exists());
}

#[test]
fn a_task_between_other_locations_is_refused() {
    for (source, destination, message) in [
        ("nfs://host/export", "s3://site/www/", "not an EFS location"),
        ("efs://us-east-1.fs-01/", "fsxw://us-east-1.fs-02/", "not an S3 location"),
    ] {
        let (trial, datasync) = trial(&failing());
        datasync.change(|service| {
            (service.source_uri, service.destination_uri) = (source.to_owned(), destination.to_owned());
        });
        let run = trial.run(&datasync, &[]).expect(1);
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_eq!(datasync.count("StartTaskExecution"), 0);
    }
}
