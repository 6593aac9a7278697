//! DataSync first: which way a run goes, what is at the destination then, and what the report says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use efs2s3::demo::datasync::reference::Copy;
use efs2s3::demo::datasync::{Cancel, DataSyncServer, Trouble};
use efs2s3::demo::s3::{Fault, Operation, Rule, Seed};
use serde_json::{Value, json};

use crate::trial::{Ended, READS, Trial, WRITES, random, wait_until};

/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const STEP: Duration = Duration::from_millis(200);
const FOREVER: Duration = Duration::from_hours(1);
const DETAIL: &str =
    "Task failed to access location loc-0: x40016: Failed to connect to EFS mount target with IP: 10.0.0.9.";

/// A tree, a bucket with an orphan in it, and a task whose executions go by a script.
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
        service.on_success = Some(Box::new(move || {
            Copy::new(&tree, &server, "site", "www/").run().unwrap();
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

/// The bucket holds what DataSync would leave.
#[track_caller]
fn assert_done(trial: &Trial) {
    let tree = trial.tree();
    let again = Copy::new(&tree, &trial.s3, "site", "www/").run().unwrap();
    assert!(again.is_nothing(), "left for DataSync: {again:?}");
}

#[track_caller]
fn assert_route(run: &Ended, route: &str, verdict: &str) {
    assert_eq!(run.report["route"], route, "{}", run.stderr);
    assert_eq!(run.report["datasync"]["verdict"], verdict, "{}", run.report["datasync"]);
    assert_eq!(run.report["command"], "run");
}

// --- the task alone is the configuration ---

#[test]
fn a_success_is_all_and_nothing_else_is_written() {
    let (trial, datasync) = trial(&succeeding());
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    assert_eq!(datasync.count("StartTaskExecution"), 1);
    let told = &run.report["datasync"];
    assert_eq!(told["status"], "SUCCESS");
    assert!(told["execution_arn"].as_str().unwrap().contains("/execution/exec-"));
    assert_eq!(told["attached"], false);
    assert!(run.report["seconds"]["datasync"].as_f64().unwrap() >= 1.0);
    assert_eq!(run.report["destination"], "s3://site/www/");
    assert_done(&trial);
}

#[test]
fn a_failure_is_made_good_directly_and_told_with_datasyncs_own_words() {
    let (trial, datasync) = trial(&failing());
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "fallback", "failed");
    let told = &run.report["datasync"];
    assert_eq!((told["error_code"].as_str(), told["error_detail"].as_str()), (Some("OpNotSupp"), Some(DETAIL)));
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
fn a_task_that_never_overwrites_and_one_with_a_manifest_are_followed() {
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
fn a_flag_beats_the_task_and_the_difference_is_said_before_anything_is_written() {
    let (trial, datasync) = trial(&failing());
    trial.s3.create_bucket("other");
    let run = trial.run(&datasync, &["s3://other/place", "--exclude", "/d1"]).expect(0);
    assert_eq!(run.report["destination"], "s3://other/place/");
    assert_eq!(trial.s3.keys("other", "").len(), 4, "d0/ and its three files");
    assert_eq!(trial.names().len(), 1, "the task's own destination is left alone");
    let said: Vec<_> = run.stderr.lines().filter(|line| line.contains("differs from the task's")).collect();
    assert_eq!(said.len(), 2, "{}", run.stderr);
    assert!(said[0].contains("destination") && said[0].contains("s3://site/www/"), "{said:?}");
    assert!(said[1].contains("exclude") && said[1].contains("unset"), "{said:?}");
}

#[test]
fn deletes_that_the_task_does_may_be_turned_off() {
    let (trial, datasync) = trial(&failing());
    let (task, source, url) = (datasync.task_arn(), trial.tree().display().to_string(), datasync.url());
    let words = ["run", "--task-arn", task.as_str(), "--source", source.as_str(), "--poll-interval", "100ms"];
    let run = trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &url), ("EFS2S3_DELETE", "false")]).expect(0);
    assert!(trial.has("orphan") && run.stderr.contains("differs from the task's"), "{}", run.stderr);
}

#[test]
fn a_config_file_configures_a_run_and_beats_the_task() {
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
fn an_option_that_only_datasync_knows_is_warned_about_by_name() {
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
fn govcloud_is_a_partition_like_any_other() {
    let (trial, _) = trial(&[]);
    let datasync = DataSyncServer::start("aws-us-gov", "us-gov-west-1").unwrap();
    datasync.change(|service| service.script = failing());
    let source = trial.tree().display().to_string();
    let task = datasync.task_arn();
    // No region is set: the task's is taken, for S3 too.
    let environment = [("AWS_ENDPOINT_URL_DATASYNC", datasync.url()), ("AWS_REGION", String::new())];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "100ms"];
    let run = trial.run_words(&words, &environment).expect(0);
    assert_route(&run, "fallback", "failed");
    assert!(run.report["datasync"]["execution_arn"].as_str().unwrap().starts_with("arn:aws-us-gov:"));
    assert_done(&trial);
}

// --- executions that run already, hang, or say nothing ---

#[test]
fn a_running_execution_is_attached_to_and_no_other_started() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(2)), ("SUCCESS", STEP)]);
    let running = datasync.begin();
    let run = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!(datasync.count("StartTaskExecution"), 0);
    assert_eq!(
        (run.report["datasync"]["execution_arn"].as_str(), &run.report["datasync"]["attached"]),
        (Some(running.as_str()), &json!(true))
    );
}

#[test]
fn a_success_with_other_filters_than_the_tasks_is_half_a_success() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(1)), ("SUCCESS", STEP)]);
    datasync.change(|service| {
        service.execution_include = Some("/d0".to_owned());
        service.on_success = None;
    });
    let _by_somebody = datasync.begin();
    let run = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&run, "fallback", "partial");
    assert_done(&trial);
}

#[test]
fn an_execution_that_began_in_between_is_attached_to() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(1)), ("SUCCESS", STEP)]);
    datasync.change(|service| service.somebody_starts_first = true);
    let run = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!((datasync.count("StartTaskExecution"), &run.report["datasync"]["attached"]), (1, &json!(true)));
}

#[test]
fn stuck_before_it_begins_it_is_cancelled_and_its_end_awaited() {
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
fn counters_that_stand_still_are_a_stall_and_moving_ones_are_not() {
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
fn an_unknown_status_is_in_progress() {
    let (trial, datasync) = trial(&[("LAUNCHED", STEP), ("FROBNICATING", Duration::from_secs(4)), ("SUCCESS", STEP)]);
    assert_route(&trial.run(&datasync, &[]).expect(0), "datasync", "succeeded");
}

#[test]
fn without_a_known_end_nothing_is_deleted() {
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
    assert_eq!(trial.count(WRITES), 0);
}

// --- DataSync's own trouble ---

#[test]
fn trouble_now_and_then_changes_nothing() {
    let (trial, datasync) = trial(&succeeding());
    let throttled = || Trouble::error(400, "ThrottlingException", "Rate exceeded");
    datasync.change(|service| {
        service.trouble = vec![
            ("DescribeTask", 2, throttled()),
            ("StartTaskExecution", 1, Trouble::error(500, "InternalException", "oops")),
            ("DescribeTaskExecution", 2, throttled()),
            ("DescribeTaskExecution", 1, Trouble::Reset),
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
fn each_kind_of_trouble_has_its_own_verdict_and_the_direct_sync_takes_over() {
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
            service.trouble.push(("StartTaskExecution", u32::MAX, Trouble::error(status, code, message)));
        });
        let run = trial.run(&datasync, &[]);
        assert_route(&run, "fallback", verdict);
        assert_eq!(run.report["datasync"]["error_code"], code);
        assert_eq!(run.report["datasync"]["error_detail"], message);
        // The task was looked at once more: nothing runs.
        assert_eq!((run.code, run.counted("uploaded"), run.counted("deleted")), (0, 8, 1), "{code}");
        assert_done(&trial);
    }
}

#[test]
fn a_start_whose_answer_is_lost_is_found_and_watched() {
    let (trial, datasync) = trial(&[("TRANSFERRING", STEP), ("SUCCESS", STEP)]);
    datasync.change(|service| {
        service.somebody_starts_first = true;
        service.trouble.push(("StartTaskExecution", u32::MAX, Trouble::error(503, "ServiceUnavailable", "try later")));
    });
    let run = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert_eq!(run.report["datasync"]["attached"], true);
}

#[test]
fn where_nobody_can_tell_whether_one_was_started_nothing_is_deleted() {
    let (trial, datasync) = trial(&succeeding());
    let denied = || Trouble::error(400, "AccessDeniedException", "not authorized");
    datasync.change(|service| {
        service.trouble.push(("StartTaskExecution", u32::MAX, Trouble::error(503, "ServiceUnavailable", "try later")));
        // The first look tells the task; the second one is denied.
        service.later_trouble = Some(("DescribeTask", 1, denied()));
    });
    let run = trial.run(&datasync, &[]).expect(3);
    assert_route(&run, "fallback", "unavailable");
    assert_eq!((run.counted("uploaded"), run.withheld_by("datasync_may_still_run")), (8, 1));
}

#[test]
fn without_the_task_the_destination_must_be_named() {
    let (trial, datasync) = trial(&succeeding());
    let denied = Trouble::error(400, "AccessDeniedException", "User is not authorized");
    datasync.change(|service| service.trouble.push(("DescribeTask", u32::MAX, denied)));
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(
        run.stderr.contains("datasync:DescribeTask") && run.stderr.contains("name the destination"),
        "{}",
        run.stderr
    );
    assert_eq!((trial.count(Operation::ListObjectsV2), trial.count(WRITES)), (0, 0));
    let run = trial.run(&datasync, &["s3://site/www", "--delete"]).expect(3);
    assert_route(&run, "fallback", "access_denied");
    assert_eq!((run.counted("uploaded"), run.withheld_by("datasync_may_still_run")), (8, 1));
    assert_eq!(datasync.count("StartTaskExecution"), 0);
}

#[test]
fn a_task_that_is_not_there_and_a_service_that_is_not_there() {
    let (trial, datasync) = trial(&succeeding());
    let other = datasync.task_arn().replace("abcdef0", "abcdef1");
    let source = trial.tree().display().to_string();
    let run = |environment: &str| {
        let words = ["run", "--task-arn", &other, "--source", &source, "s3://site/www", "--delete"];
        trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", environment)])
    };
    let unknown = run(&datasync.url()).expect(0);
    assert_route(&unknown, "fallback", "unknown_task");
    assert_eq!(unknown.counted("deleted"), 1, "of a task that is not there nothing runs");

    trial.object("orphan", "o", LONG_AGO);
    let begun = Instant::now();
    let unreachable = run("http://127.0.0.1:9").expect(3);
    assert_route(&unreachable, "fallback", "unreachable");
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert_eq!(unreachable.withheld_by("datasync_may_still_run"), 1);
}

#[test]
fn losing_sight_of_an_execution_leaves_its_deletes_to_it() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let expired = Trouble::error(400, "ExpiredTokenException", "The security token included in the request is expired");
    let run = trial.start_run(&datasync, &["--stall-timeout", "30s"]);
    wait_until("it is watched", || datasync.count("DescribeTaskExecution") > 0);
    datasync.change(|service| {
        service.trouble.push(("DescribeTaskExecution", u32::MAX, expired.clone()));
        service.trouble.push(("CancelTaskExecution", u32::MAX, expired));
    });
    let run = run.end().expect(3);
    assert_route(&run, "fallback", "access_denied");
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1);
}

// --- half a success ---

#[test]
fn what_datasync_left_out_or_wrong_is_repaired_and_nothing_else_is_written() {
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
            service.on_success = Some(Box::new(move || {
                Copy::new(&tree, &server, "site", "www/").run().unwrap();
                // One is left out; of one the content is wrong, and all else as it should be.
                server.remove("site", "www/d0/f0");
                let object = server.object("site", "www/d1/f1").unwrap();
                server.put("site", "www/d1/f1", "X", Seed { headers: object.headers, ..Seed::default() });
            }));
        });
        let run = trial.run(&datasync, &[]).expect(0);
        assert_route(&run, "fallback", "partial");
        assert_eq!((run.counted("uploaded"), trial.count(WRITES)), (2, 2), "{status}");
        assert_eq!(trial.objects()["d1/f1"], b"1");
        assert_done(&trial);
    }
}

#[test]
fn an_audit_repairs_what_a_success_left_out() {
    let (trial, datasync) = trial(&succeeding());
    thread::sleep(Duration::from_secs(3));
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.on_success = Some(Box::new(move || {
            Copy::new(&tree, &server, "site", "www/").run().unwrap();
            server.remove("site", "www/d0/f0");
            // Read before its last change and written after it: older by no time.
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
fn policies_decide_which_way_may_be_gone() {
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
fn a_direct_run_beside_a_running_execution_deletes_nothing() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let _running = datasync.begin();
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    assert_eq!((run.counted("uploaded"), run.withheld_by("datasync_may_still_run")), (8, 1));
}

#[test]
fn the_breaker_opens_tries_again_after_the_cooldown_and_remembers_on_disk_and_in_s3() {
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

/// The file that the breaker remembers in.
fn breaker(state: &Path) -> PathBuf {
    let mut files = fs::read_dir(state).unwrap().flatten().map(|entry| entry.path());
    files.find(|path| path.to_str().unwrap().ends_with(".breaker.json")).unwrap()
}

#[test]
fn a_damaged_breaker_is_said_ignored_and_written_anew() {
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
fn asked_to_stop_while_watching_it_leaves_the_execution_to_the_next_run() {
    let (trial, datasync) = trial(&[("TRANSFERRING", Duration::from_secs(3)), ("SUCCESS", STEP)]);
    let run = trial.start_run(&datasync, &["--stall-timeout", "10s"]);
    wait_until("it is watched", || datasync.count("DescribeTaskExecution") > 0);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_route(&run, "datasync", "interrupted");
    assert_eq!((datasync.count("CancelTaskExecution"), trial.count(WRITES)), (0, 0));
    let next = trial.run(&datasync, &["--stall-timeout", "10s"]).expect(0);
    assert_route(&next, "datasync", "succeeded");
    assert_eq!((datasync.count("StartTaskExecution"), &next.report["datasync"]["attached"]), (1, &json!(true)));
}

// --- another tree than the task's ---

#[test]
fn a_destination_full_of_other_keys_is_refused_before_anything_is_started() {
    let (trial, datasync) = trial(&failing());
    for number in 0..150 {
        trial.object(&format!("elsewhere/{number:03}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.stderr.contains("none of 151 keys"), "{}", run.stderr);
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    // One that is there is enough.
    trial.object("d0/f0", "0", LONG_AGO);
    let run = trial.run(&datasync, &["--max-delete", "100%"]).expect(0);
    assert_route(&run, "fallback", "failed");
    assert_done(&trial);
}

#[test]
fn a_bucket_that_this_program_may_not_list_holds_up_no_datasync() {
    let (trial, datasync) = trial(&succeeding());
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(denied));
    let run = trial.run(&datasync, &[]).expect(0);
    assert_route(&run, "datasync", "succeeded");
    assert!(run.stderr.contains("s3:ListBucket"), "{}", run.stderr);
    datasync.change(|service| service.script = failing());
    let run = trial.run(&datasync, &[]).expect(1);
    assert_route(&run, "fallback", "failed");
    assert!(run.report["error"].as_str().unwrap().contains("s3:ListBucket"), "{}", run.report);
}

#[test]
fn what_cannot_be_told_of_the_mount_is_a_warning_and_a_missing_source_an_error() {
    let (trial, datasync) = trial(&succeeding());
    let run = trial.run(&datasync, &[]).expect(0);
    assert!(run.stderr.contains("cannot be told"), "{}", run.stderr);
    fs::rename(trial.tree(), trial.folder.path().join("away")).unwrap();
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.stderr.contains("does not exist"), "{}", run.stderr);
    assert_eq!(datasync.count("StartTaskExecution"), 1, "only the first run's");
    assert!(Path::new(&trial.folder.path().join("away")).exists());
}

#[test]
fn a_task_between_other_locations_is_refused() {
    for (source, destination, said) in [
        ("nfs://host/export", "s3://site/www/", "no EFS location"),
        ("efs://us-east-1.fs-01/", "fsxw://us-east-1.fs-02/", "no S3 location"),
    ] {
        let (trial, datasync) = trial(&failing());
        datasync.change(|service| {
            (service.source_uri, service.destination_uri) = (source.to_owned(), destination.to_owned());
        });
        let run = trial.run(&datasync, &[]).expect(1);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert_eq!(datasync.count("StartTaskExecution"), 0);
    }
}
