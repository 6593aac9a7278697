//! `efs2s3 run` and its execution: a stop request while DataSync hangs, responses that prove nothing, deletes of DataSync that
//! no guard has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fake_aws::datasync::reference::Copy;
use fake_aws::datasync::{Cancel, DataSyncServer, ServiceFault};
use fake_aws::s3::{Fault, Operation, Operations, Rule};
use serde_json::{Value, json};

use crate::trial::{FinishedRun, Run, Trial, WRITES, wait_until};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const FOREVER: Duration = Duration::from_hours(1);
const SUCCESS: &[(&str, Duration)] = &[("SUCCESS", Duration::ZERO)];
const TRANSFERRING: &[(&str, Duration)] = &[("TRANSFERRING", FOREVER)];
/// A run that waits for the response of a hanging server takes longer than this after a stop request.
const HANG: Duration = Duration::from_secs(25);

/// Four files and no orphan. Executions copy when they succeed.
fn trial(script: &[(&'static str, Duration)]) -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    for number in 0..4 {
        trial.write(format!("f{number}"), format!("{number}"));
    }
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.script = script.to_vec();
        service.counters_move = false;
        service.on_success = Some(Box::new(move |options| {
            Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
        }));
    });
    (trial, datasync)
}

fn falsify(datasync: &DataSyncServer, operation: &'static str, change: impl FnMut(&mut Value) + Send + 'static) {
    datasync.change(|service| service.falsify = Some((operation, Box::new(change))));
}

#[track_caller]
fn verdict(run: &FinishedRun) -> (&str, &str) {
    let section = &run.report["datasync"];
    let text = |name: &str| section[name].as_str().unwrap_or_else(|| panic!("{section}: {}", run.stderr));
    (text("verdict"), text("evidence"))
}

// --- a stop request while DataSync does not respond ---

#[test]
fn a_stop_request_ends_the_run_although_datasync_hangs() {
    // The operation that hangs, how many requests of it succeed first, the signal, and what the evidence says.
    for (operation, successes, signal, code, known) in [
        ("DescribeTask", 0, "-TERM", 143, "started none"),
        ("DescribeLocationS3", 0, "-HUP", 143, "started none"),
        ("StartTaskExecution", 0, "-INT", 130, "may have started"),
        ("DescribeTaskExecution", 0, "-TERM", 143, "it continues"),
        ("CancelTaskExecution", 0, "-TERM", 143, "may still be running"),
    ] {
        let (trial, datasync) = trial(&[("LAUNCHING", FOREVER)]);
        datasync.change(|service| service.late_fault = Some((operation, successes, ServiceFault::Silence)));
        let state = trial.folder.path().join("state").display().to_string();
        let run = trial.start_run(&datasync, &["--state", &state, "--queue-timeout", "1s"]);
        wait_until("DataSync hangs", || datasync.count(operation) > 0);
        let stopped = Instant::now();
        run.signal(signal);
        let run = run.end().expect(code);
        assert!(stopped.elapsed() < HANG, "{operation}: {:?}", stopped.elapsed());
        let (verdict, evidence) = verdict(&run);
        assert_eq!(verdict, "interrupted", "{operation}: {evidence}");
        assert!(evidence.contains(known), "{operation}: {evidence}");
        let is_known = run.report["datasync"]["execution_arn"].is_string();
        assert_eq!(evidence.contains("/execution/exec-"), is_known, "{operation}: {evidence}");
        assert_eq!(datasync.count(operation), 1, "{operation}: no retry after the stop request");
        assert_eq!(trial.count(WRITES), 0, "{operation}");
        // The lease is released: another run need not wait for its end.
        let next =
            trial.start_words(&["sync", trial.tree().to_str().unwrap(), "s3://site/www", "--state", &state], &[]);
        next.end().expect(0);
    }
}

#[test]
fn a_stop_request_ends_the_run_although_the_state_hangs() {
    let state = ["--state", "s3://state/efs2s3"];
    let check = |trial: &Trial, run: Run| {
        trial.s3.rule(Rule::on(Operations::all()).key_contains("efs2s3/").always().does(Fault::Stall(FOREVER)));
        let stopped = Instant::now();
        run.signal("-TERM");
        let run = run.end().expect(143);
        assert!(stopped.elapsed() < HANG, "{:?}", stopped.elapsed());
        for lost in ["cannot store the report", "cannot release the lease"] {
            assert_eq!(run.stderr.matches(lost).count(), 1, "{}", run.stderr);
        }
        assert_eq!(run.report["exit_code"], 143);
    };
    let of_run = || {
        let (trial, datasync) = trial(TRANSFERRING);
        trial.s3.create_bucket("state");
        let run = trial.start_run(&datasync, &[&state[..], &["--stall-timeout", "1h"]].concat());
        wait_until("the run polls the execution", || datasync.count("DescribeTaskExecution") > 0);
        check(&trial, run);
    };
    let of_sync = || {
        let (trial, _datasync) = trial(SUCCESS);
        trial.s3.create_bucket("state");
        let lists = Arc::new(AtomicBool::new(false));
        let listed = Arc::clone(&lists);
        let hook = move || {
            listed.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
        };
        let of_site = |key: &str| key.starts_with("www");
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).key_matches(of_site).does(Fault::before(hook)));
        let run = trial.start(&state);
        wait_until("the run lists the destination", || lists.load(Ordering::Relaxed));
        check(&trial, run);
    };
    std::thread::scope(|scope| {
        scope.spawn(of_run);
        scope.spawn(of_sync);
    });
}

#[test]
fn a_stop_request_before_the_cancel_leaves_the_execution_alone() {
    let (trial, datasync) = trial(TRANSFERRING);
    let run = trial.start_run(&datasync, &["--stall-timeout", "1h"]);
    wait_until("the run polls the execution", || datasync.count("DescribeTaskExecution") > 0);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_eq!(verdict(&run).0, "interrupted");
    assert_eq!(datasync.count("CancelTaskExecution"), 0);
}

// --- an execution that may run beside the direct sync ---

/// DataSync hides an execution, although the task shows that one is running; or a start may have worked.
#[test]
fn beside_an_execution_that_may_run_nothing_is_deleted() {
    let hide = |status: &'static str| {
        move |response: &mut Value| {
            drop(response.as_object_mut().unwrap().remove("CurrentTaskExecutionArn"));
            response["Status"] = status.into();
        }
    };
    let refused = || ServiceFault::error(400, "InvalidRequestException", "already running");
    let lost = || ServiceFault::error(500, "InternalException", "oops");
    let cases = [
        ("RUNNING", Some(refused()), "datasync-first", 3),
        ("QUEUED", None, "direct-only", 3),
        ("AVAILABLE", Some(lost()), "datasync-first", 3),
        ("AVAILABLE", Some(refused()), "datasync-first", 0),
        ("AVAILABLE", None, "direct-only", 0),
    ];
    let check = |(status, fault, policy, code): (&'static str, Option<ServiceFault>, &str, i32)| {
        let (trial, datasync) = trial(TRANSFERRING);
        trial.object("orphan", "o", LONG_AGO);
        datasync.change(|service| {
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
            service.faults.extend(fault.map(|fault| ("StartTaskExecution", u32::MAX, fault)));
        });
        falsify(&datasync, "DescribeTask", hide(status));
        let run = trial.run(&datasync, &["--delete", "--policy", policy]).expect(code);
        let withheld = u64::from(code == 3);
        assert_eq!(run.withheld_by("datasync_may_still_run"), withheld, "{status} {policy}: {}", run.stderr);
        assert_eq!(trial.has("orphan"), code == 3, "{status} {policy}");
        assert!(trial.has("f0"));
    };
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}

// --- responses that prove nothing ---

#[test]
fn a_poll_that_shows_another_execution_or_no_status_is_a_failed_request() {
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 5] = [
        ("nothing", |response| *response = json!({})),
        ("no ARN", |response| drop(response.as_object_mut().unwrap().remove("TaskExecutionArn"))),
        ("another execution", |response| {
            let other = response["TaskExecutionArn"].as_str().unwrap().replace("exec-0", "exec-f");
            response["TaskExecutionArn"] = other.into();
        }),
        ("another task", |response| {
            let other = response["TaskExecutionArn"].as_str().unwrap().replace("abcdef0/", "abcdef1/");
            response["TaskExecutionArn"] = other.into();
        }),
        ("no status", |response| response["Status"] = Value::Null),
    ];
    for (what, change) in changes {
        let (trial, datasync) = trial(SUCCESS);
        datasync.change(|service| {
            service.on_success = None;
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        falsify(&datasync, "DescribeTaskExecution", change);
        let run = trial.run(&datasync, &["--stall-timeout", "2s", "--cancel-timeout", "1s"]).expect(0);
        let (verdict, evidence) = verdict(&run);
        assert_eq!((verdict, run.report["route"].as_str()), ("unavailable", Some("fallback")), "{what}: {evidence}");
        assert!(evidence.contains("the response to DescribeTaskExecution does not contain"), "{what}: {evidence}");
        assert_eq!(run.counted("uploaded"), 4, "{what}");

        trial.object("orphan", "o", LONG_AGO);
        let run = trial.run(&datasync, &["--delete", "--stall-timeout", "2s", "--cancel-timeout", "1s"]).expect(3);
        assert_eq!((run.withheld_by("datasync_may_still_run"), trial.has("orphan")), (1, true), "{what}");
    }
}

/// Changes a response.
type Change = fn(&mut Value);

#[test]
fn a_start_that_names_no_execution_of_the_task_is_looked_up() {
    let changes: [Change; 2] = [
        |response| *response = json!({}),
        |response| {
            let other = response["TaskExecutionArn"].as_str().unwrap().replace("abcdef0/", "abcdef1/");
            *response = json!({ "TaskExecutionArn": other });
        },
    ];
    for change in changes {
        let (trial, datasync) = trial(SUCCESS);
        falsify(&datasync, "StartTaskExecution", change);
        let run = trial.run(&datasync, &[]).expect(0);
        let section = &run.report["datasync"];
        assert_eq!((verdict(&run).0, &section["attached"]), ("succeeded", &json!(true)), "{section}");
        assert!(section["execution_arn"].as_str().unwrap().starts_with(&datasync.task_arn()), "{section}");
        assert_eq!(datasync.count("StartTaskExecution"), 1);
    }
}

#[test]
fn a_description_of_another_task_or_location_is_not_used() {
    let changes: [(&'static str, Change); 4] = [
        ("DescribeTask", |task| task["TaskArn"] = task["TaskArn"].as_str().unwrap().replace("def0", "def1").into()),
        ("DescribeTask", |task| task["CurrentTaskExecutionArn"] = "arn:aws:datasync:us-east-1:1:task/x".into()),
        ("DescribeLocationEfs", |location| location["LocationArn"] = "arn:other".into()),
        ("DescribeLocationS3", |location| location["LocationArn"] = "arn:other".into()),
    ];
    for (operation, change) in changes {
        let (trial, datasync) = trial(SUCCESS);
        falsify(&datasync, operation, change);
        let run = trial.run(&datasync, &[]).expect(1);
        assert_eq!(verdict(&run).0, "unavailable", "{operation}");
        assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0), "{operation}");
    }
}

#[test]
fn a_success_without_options_is_compared() {
    for options in [Value::Null, json!({})] {
        let (trial, datasync) = trial(SUCCESS);
        datasync.change(|service| {
            service.on_success = None;
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        falsify(&datasync, "DescribeTaskExecution", move |response| response["Options"] = options.clone());
        let run = trial.run(&datasync, &[]).expect(0);
        assert_eq!((verdict(&run).0, run.counted("uploaded")), ("succeeded", 4), "{}", run.report["datasync"]);
    }
}

/// A task that deletes nothing, whose executions succeed and copy nothing.
fn succeeds_without_copies() -> (Trial, DataSyncServer) {
    let (trial, datasync) = trial(SUCCESS);
    datasync.change(|service| {
        service.on_success = None;
        service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
    });
    (trial, datasync)
}

#[test]
fn a_success_that_the_counters_or_the_start_time_contradict_is_compared() {
    let changes: [(&str, Change); 5] = [
        ("transferred 1 of 3 folders", |response| {
            response["EstimatedFoldersToTransfer"] = 3.into();
            response["FoldersTransferred"] = 1.into();
        }),
        ("deleted 2 of 7 files", |response| {
            response["EstimatedFilesToDelete"] = 7.into();
            response["FilesDeleted"] = 2.into();
        }),
        ("verified 3 of 8 files", |response| {
            response["FilesTransferred"] = 8.into();
            response["FilesVerified"] = 3.into();
        }),
        ("transferred 0 of 4 files", |response| {
            response["EstimatedFilesToTransfer"] = 4.into();
            response["FilesTransferred"] = 0.into();
            response["FilesSkipped"] = 4.into();
        }),
        ("started before this run", |response| response["StartTime"] = 1_600_000_000.into()),
    ];
    for (reason, change) in changes {
        let (trial, datasync) = succeeds_without_copies();
        falsify(&datasync, "DescribeTaskExecution", change);
        let run = trial.run(&datasync, &[]).expect(0);
        let (verdict, evidence) = verdict(&run);
        assert_eq!((verdict, run.counted("uploaded")), ("succeeded", 4), "{evidence}");
        assert!(evidence.contains(reason), "{evidence}");
    }
}

#[test]
fn a_success_with_an_error_in_its_result_is_compared() {
    for result in [json!({ "VerifyStatus": "ERROR" }), json!({ "ErrorCode": "VerificationFailed" })] {
        let (trial, datasync) = trial(SUCCESS);
        datasync.change(|service| {
            service.on_success = None;
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        falsify(&datasync, "DescribeTaskExecution", {
            let result = result.clone();
            move |response| response["Result"] = result.clone()
        });
        let run = trial.run(&datasync, &[]).expect(0);
        assert_eq!((verdict(&run).0, run.counted("uploaded")), ("partial", 4), "{result}: {}", verdict(&run).1);
    }
}

#[test]
fn a_success_with_a_failed_folder_is_compared() {
    for phase in ["List", "Prepare", "Transfer", "Verify", "Delete"] {
        let (trial, datasync) = succeeds_without_copies();
        falsify(&datasync, "DescribeTaskExecution", move |response| response["FoldersFailed"] = json!({ phase: 1 }));
        let run = trial.run(&datasync, &[]).expect(0);
        assert_eq!((verdict(&run).0, run.counted("uploaded")), ("partial", 4), "{phase}: {}", verdict(&run).1);
        assert!(verdict(&run).1.contains("1 folder failed"), "{phase}: {}", verdict(&run).1);
    }
}

#[test]
fn a_start_that_names_an_ended_execution_is_not_a_start() {
    let (trial, datasync) = succeeds_without_copies();
    let run = trial.run(&datasync, &[]).expect(0);
    let ended = run.report["datasync"]["execution_arn"].clone();
    falsify(&datasync, "StartTaskExecution", move |response| response["TaskExecutionArn"] = ended.clone());
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!((verdict(&run).0, run.counted("uploaded")), ("succeeded", 4), "{}", run.report["datasync"]);
}

#[test]
fn a_success_of_a_task_that_stores_no_mtime_is_compared() {
    let (trial, datasync) = succeeds_without_copies();
    datasync.change(|service| {
        service.options.insert("Mtime", "NONE".into());
    });
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!((verdict(&run).0, run.counted("uploaded")), ("succeeded", 4), "{}", run.report["datasync"]);
    assert!(verdict(&run).1.contains("sizes alone"), "{}", run.report["datasync"]);
}

#[test]
fn deletes_beside_an_execution_whose_end_is_not_confirmed_name_it() {
    let (trial, datasync) = trial(&[("LAUNCHING", FOREVER)]);
    datasync.change(|service| service.cancel = Cancel::Ignored);
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "1s"]).expect(3);
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1);
    let (verdict, evidence) = verdict(&run);
    assert_eq!(verdict, "queued_too_long");
    assert!(evidence.contains("did not confirm the end") && evidence.contains("--cancel-timeout 1s"), "{evidence}");
    let message = run.report["withheld_because"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("withheld 1 delete: ") && message.contains("/execution/exec-"), "{message}");

    // A direct run names the execution of another client.
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    let message = run.report["withheld_because"][0]["message"].as_str().unwrap();
    assert!(message.contains("/execution/exec-"), "{message}");
}

/// The cancel of an earlier run is not that of an operator.
#[test]
fn the_next_run_waits_for_what_an_earlier_run_cancelled() {
    let (trial, datasync) = trial(TRANSFERRING);
    datasync.change(|service| service.cancel = Cancel::Late(Duration::from_secs(20)));
    let state = trial.folder.path().join("state").display().to_string();
    let options = ["--state", &state, "--breaker-failures", "100"];
    let run = |wait| trial.run(&datasync, &[&options[..], &["--cancel-timeout", wait]].concat());
    assert_eq!(verdict(&run("1s").expect(0)).0, "stalled");

    trial.write("new", "new");
    let second = run("1s").expect(0);
    let (kind, evidence) = verdict(&second);
    assert_eq!((kind, second.counted("uploaded")), ("timed_out", 1), "{evidence}");
    assert!(evidence.contains("an earlier run cancelled the execution"), "{evidence}");
    assert_eq!(datasync.count("StartTaskExecution"), 1);

    datasync.change(|service| service.script = SUCCESS.to_vec());
    let third = run("1m").expect(0);
    assert_eq!((verdict(&third).0, datasync.count("StartTaskExecution")), ("succeeded", 2), "{}", third.stderr);
}

// --- deletes that no guard has seen ---

#[test]
fn an_execution_that_deletes_and_may_still_run_is_exit_code_3() {
    for (cancel, fault) in [
        (Cancel::Refused, None),
        (Cancel::Ignored, None),
        (Cancel::Ignored, Some(("CancelTaskExecution", 9, ServiceFault::Reset))),
    ] {
        let (trial, datasync) = trial(TRANSFERRING);
        datasync.change(|service| (service.cancel, service.faults) = (cancel, fault.into_iter().collect()));
        let run = trial.run(&datasync, &["--deletes", "datasync", "--cancel-timeout", "1s"]).expect(3);
        assert_eq!((verdict(&run).0, run.counted("uploaded")), ("stalled", 4), "{cancel:?}");
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("/execution/exec-") && error.contains("without the guards"), "{error}");
        assert!(run.stderr.contains(error), "{}", run.stderr);
    }
    // An execution that was started without deletes leaves nothing to doubt.
    let (trial, datasync) = trial(TRANSFERRING);
    datasync.change(|service| service.cancel = Cancel::Refused);
    let run = trial.run(&datasync, &["--cancel-timeout", "1s"]).expect(0);
    assert_eq!((verdict(&run).0, &run.report["error"]), ("stalled", &Value::Null));
}

#[test]
fn a_direct_run_beside_an_execution_that_deletes_is_exit_code_3() {
    for (deletes, code) in [("REMOVE", 3), ("PRESERVE", 0)] {
        let (trial, datasync) = trial(TRANSFERRING);
        datasync.change(|service| drop(service.options.insert("PreserveDeletedFiles", deletes.into())));
        let running = datasync.start_execution();
        let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(code);
        let error = run.report["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains(&running), code == 3, "{deletes}: {error}");
    }
}

#[test]
fn deletes_of_an_execution_that_was_to_delete_nothing_are_named() {
    for counter in ["FilesDeleted", "FoldersDeleted"] {
        let (trial, datasync) = trial(SUCCESS);
        datasync.change(|service| drop(service.options.insert("PreserveDeletedFiles", "PRESERVE".into())));
        falsify(&datasync, "DescribeTaskExecution", move |response| response[counter] = 150.into());
        let run = trial.run(&datasync, &[]).expect(0);
        let (verdict, evidence) = verdict(&run);
        assert_eq!(verdict, "succeeded");
        assert!(evidence.contains("deleted 150 objects"), "{evidence}");
    }
}

// --- what the breaker counts, and hints ---

#[test]
fn the_breaker_does_not_count_a_task_that_cannot_be_described() {
    let (trial, datasync) = trial(SUCCESS);
    let state = trial.folder.path().join("state").display().to_string();
    let options = ["--state", state.as_str(), "--breaker-failures", "1"];
    trial.run(&datasync, &options).expect(0);
    let denied = ServiceFault::error(400, "AccessDeniedException", "not authorized to perform: datasync:DescribeTask");
    datasync.change(|service| service.faults.push(("DescribeTask", 2, denied)));
    for _ in 0..2 {
        assert_eq!(verdict(&trial.run(&datasync, &options)).0, "access_denied");
    }
    assert_eq!(verdict(&trial.run(&datasync, &options).expect(0)).0, "succeeded", "the run tries DataSync again");
}

#[test]
fn each_error_names_what_is_missing() {
    let (trial, datasync) = trial(SUCCESS);
    let expired = ServiceFault::error(400, "ExpiredTokenException", "The security token is expired");
    datasync.change(|service| service.faults.push(("DescribeTask", 1, expired)));
    let run = trial.run(&datasync, &[]).expect(1);
    assert_eq!(verdict(&run).0, "access_denied");
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("renew the credentials") && !error.contains("allow datasync:"), "{error}");

    let (trial, datasync) = self::trial(TRANSFERRING);
    let unknown = ServiceFault::error(400, "InvalidRequestException", "Task execution exec-1 is not found.");
    datasync.change(|service| service.faults.push(("DescribeTaskExecution", u32::MAX, unknown)));
    let run = trial.run(&datasync, &[]).expect(0);
    assert!(verdict(&run).1.contains("no such execution"), "{}", verdict(&run).1);
}
