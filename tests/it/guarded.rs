//! `efs2s3 run` and deletes: who deletes after an execution, what is checked before one, and which success proves enough.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fake_aws::datasync::reference::Copy;
use fake_aws::datasync::{Cancel, DataSyncServer, EffectiveOptions, ServiceFault};
use fake_aws::s3::{Fault, Operation, Rule, Seed};
use serde_json::{Value, json};

use crate::trial::{FinishedRun, READS, Trial, WRITES, wait_until};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const SECOND: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_hours(1);
const SUCCESS: &[(&str, Duration)] = &[("SUCCESS", Duration::ZERO)];
const RUNNING: &[(&str, Duration)] = &[("TRANSFERRING", Duration::from_secs(6)), ("SUCCESS", Duration::ZERO)];

/// Six files, an orphan, and a task that deletes. Its executions follow the script and copy.
fn trial(script: &[(&'static str, Duration)]) -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    for number in 0..6 {
        trial.write(format!("d{}/f{number}", number % 2), format!("{number}"));
    }
    trial.object("orphan", "o", LONG_AGO);
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| service.script = script.to_vec());
    executions_do(&datasync, move |options| {
        Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
    });
    (trial, datasync)
}

fn executions_do(datasync: &DataSyncServer, work: impl FnMut(&EffectiveOptions) + Send + 'static) {
    datasync.change(|service| service.on_success = Some(Box::new(work)));
}

fn task_option(datasync: &DataSyncServer, name: &'static str, value: &str) {
    datasync.change(|service| {
        service.options.insert(name, value.into());
    });
}

/// The body of the only start.
fn start(datasync: &DataSyncServer) -> Value {
    let starts: Vec<_> = datasync.log().into_iter().filter(|(name, _)| name == "StartTaskExecution").collect();
    assert_eq!(starts.len(), 1, "{starts:?}");
    starts.into_iter().map(|(_, body)| body).next().unwrap()
}

#[track_caller]
fn assert_verdict(run: &FinishedRun, route: &str, verdict: &str) {
    let seen = (run.report["route"].as_str(), run.report["datasync"]["verdict"].as_str());
    assert_eq!(seen, (Some(route), Some(verdict)), "{}: {}", run.report["datasync"], run.stderr);
}

// --- who deletes ---

#[test]
fn after_a_success_the_run_deletes_the_orphans_itself() {
    let (trial, datasync) = trial(SUCCESS);
    Trial::settle();
    let run = trial.run(&datasync, &[]).expect(0);
    assert_verdict(&run, "datasync", "succeeded");
    let options = &start(&datasync)["OverrideOptions"];
    assert_eq!(options["PreserveDeletedFiles"], "PRESERVE");
    assert_eq!(
        (&options["OverwriteMode"], &options["BytesPerSecond"]),
        (&json!("ALWAYS"), &json!(-1)),
        "as in the task"
    );
    assert_eq!((run.counted("deleted"), run.counted("uploaded"), trial.count(WRITES)), (1, 0, 1));
    assert!(!trial.has("orphan") && trial.has("d0/f0"));
    Trial::settle();
    trial.s3.clear_log();
    trial.run(&datasync, &[]).expect(0);
    assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0), "a quiet run costs listings alone");
    assert_eq!(trial.count(Operation::ListObjectsV2), 2, "the sample before the start, and the comparison after it");
}

#[test]
fn a_guard_withholds_deletes_after_a_success() {
    let (trial, datasync) = trial(SUCCESS);
    trial.object("d0/f0", "0", LONG_AGO);
    for number in 0..150 {
        trial.object(&format!("old/{number:03}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(3);
    assert_verdict(&run, "datasync", "succeeded");
    assert_eq!((run.withheld_by("limit"), run.counted("deleted")), (151, 0));
    assert!(trial.has("orphan") && trial.has("d0/f0"));
    let run = trial.run(&datasync, &["--max-delete", "151"]).expect(0);
    assert_eq!(run.counted("deleted"), 151);
}

#[test]
fn guarded_deletes_also_follow_a_success_with_datasync_only() {
    let (trial, datasync) = trial(SUCCESS);
    let run = trial.run(&datasync, &["--policy", "datasync-only"]).expect(0);
    assert_eq!((run.counted("deleted"), trial.has("orphan")), (1, false));
}

#[test]
fn with_deletes_datasync_the_execution_deletes_and_the_log_says_so() {
    let (trial, datasync) = trial(SUCCESS);
    let run = trial.run(&datasync, &["--deletes", "datasync"]).expect(0);
    assert_eq!((start(&datasync).get("OverrideOptions"), trial.count(WRITES)), (None, 0));
    assert!(!trial.has("orphan") && run.stderr.contains("no guard checks its deletes"), "{}", run.stderr);
}

#[test]
fn a_task_that_preserves_deletes_only_with_the_option_delete() {
    let (trial, datasync) = trial(SUCCESS);
    task_option(&datasync, "PreserveDeletedFiles", "PRESERVE");
    trial.run(&datasync, &[]).expect(0);
    assert_eq!((start(&datasync).get("OverrideOptions"), trial.count(WRITES), trial.count(READS)), (None, 0, 0));
    assert!(trial.has("orphan"));
    let run = trial.run(&datasync, &["--delete"]).expect(0);
    assert_eq!((run.counted("deleted"), trial.has("orphan")), (1, false));
}

#[test]
fn without_delete_neither_the_run_nor_its_execution_deletes() {
    let (trial, datasync) = trial(SUCCESS);
    let (task, source, url) = (datasync.task_arn(), trial.tree().display().to_string(), datasync.url());
    let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "100ms"];
    trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &url), ("EFS2S3_DELETE", "false")]).expect(0);
    assert_eq!(start(&datasync)["OverrideOptions"]["PreserveDeletedFiles"], "PRESERVE");
    assert!(trial.has("orphan"));
}

#[test]
fn with_overwrite_mode_never_the_run_deletes_and_replaces_nothing() {
    let (trial, datasync) = trial(SUCCESS);
    task_option(&datasync, "OverwriteMode", "NEVER");
    trial.object("d0/f0", "kept", LONG_AGO);
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!(start(&datasync)["OverrideOptions"]["OverwriteMode"], "NEVER");
    assert_eq!((run.counted("deleted"), trial.objects()["d0/f0"].as_slice()), (1, &b"kept"[..]));
}

#[test]
fn an_execution_with_a_manifest_deletes_nothing() {
    let (trial, datasync) = trial(SUCCESS);
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "m.csv", "d0/f0\n", Seed::default());
    datasync.change(|service| service.manifest = Some(manifest("m.csv")));
    trial.run(&datasync, &[]).expect(0);
    assert_eq!(start(&datasync)["OverrideOptions"]["PreserveDeletedFiles"], "PRESERVE");
    assert!(trial.has("orphan") && trial.count(WRITES) == 0);
}

fn manifest(name: &str) -> Value {
    let object = json!({ "ManifestObjectPath": name, "S3BucketArn": "arn:aws:s3:::lists", "BucketAccessRoleArn": "r" });
    json!({ "Action": "TRANSFER", "Format": "CSV", "Source": { "S3": object } })
}

#[test]
fn an_execution_that_ignores_the_override_is_reported() {
    let (trial, datasync) = trial(SUCCESS);
    datasync.change(|service| service.ignores_override = true);
    let run = trial.run(&datasync, &[]).expect(0);
    let evidence = run.report["datasync"]["evidence"].as_str().unwrap();
    assert!(evidence.contains("ignored PreserveDeletedFiles=PRESERVE"), "{evidence}");
    assert!(run.stderr.contains("ignored PreserveDeletedFiles=PRESERVE"), "{}", run.stderr);

    // More deletes than the guards allow.
    for number in 0..150 {
        trial.object(&format!("old/{number:03}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(3);
    assert_verdict(&run, "datasync", "succeeded");
    assert!(!trial.has("old/000"));
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("ignored PreserveDeletedFiles=PRESERVE") && error.contains("/execution/exec-"), "{error}");

    // An execution that failed afterwards.
    datasync.change(|service| (service.script, service.copies_before_error) = (vec![("ERROR", Duration::ZERO)], true));
    for number in 0..150 {
        trial.object(&format!("old/{number:03}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(3);
    assert_verdict(&run, "fallback", "failed");
}

#[test]
fn an_execution_that_deletes_more_than_orphans_although_it_was_to_delete_nothing_is_exit_code_3() {
    for (deletes, ignores) in [("REMOVE", true), ("PRESERVE", false)] {
        let (trial, datasync) = trial(SUCCESS);
        trial.run(&datasync, &[]).expect(0);
        task_option(&datasync, "PreserveDeletedFiles", deletes);
        datasync.change(|service| {
            service.ignores_override = ignores;
            service.falsify = Some(("DescribeTaskExecution", Box::new(|response| response["FilesDeleted"] = 8.into())));
        });
        executions_do(&datasync, delete_all(&trial));
        let run = trial.run(&datasync, &[]).expect(3);
        assert_verdict(&run, "datasync", "succeeded");
        assert_eq!(run.counted("uploaded"), 8, "{deletes}: the run repairs");
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("8 objects that it deleted belong to files of the source"), "{deletes}: {error}");
        assert!(error.contains("/execution/exec-"), "{error}");
    }
}

#[test]
fn an_attached_execution_that_deletes_what_no_guard_allows_is_exit_code_3() {
    let (trial, datasync) = trial(SUCCESS);
    trial.run(&datasync, &[]).expect(0);
    datasync.change(|service| service.script = RUNNING.to_vec());
    executions_do(&datasync, delete_all(&trial));
    let _running = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m"]).expect(3);
    assert_eq!((&run.report["datasync"]["attached"], run.counted("uploaded")), (&json!(true), 8));
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("another client started it") && error.contains("8 objects that it deleted"), "{error}");

    // Orphans alone, but more of them than the limit allows.
    let (trial, datasync) = self::trial(RUNNING);
    trial.object("orphan 2", "o", LONG_AGO);
    let _running = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--max-delete", "1"]).expect(3);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("it deleted 2 objects, more than --max-delete allows"), "{error}");
}

#[test]
fn an_execution_that_deletes_what_is_not_the_runs_is_exit_code_3() {
    let (trial, datasync) = trial(SUCCESS);
    trial.object("keep/a", "a", LONG_AGO);
    let server = trial.s3.clone();
    executions_do(&datasync, move |_| server.remove("site", "www/keep/a"));
    datasync.change(|service| {
        service.exclude = Some("/keep".to_owned());
        service.ignores_override = true;
        service.falsify = Some(("DescribeTaskExecution", Box::new(|response| response["FilesDeleted"] = 1.into())));
    });
    let run = trial.run(&datasync, &[]).expect(3);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("1 object that is missing now is excluded here"), "{error}");
}

#[test]
fn deletes_of_datasync_count_towards_the_limit() {
    let (trial, datasync) = trial(RUNNING);
    for number in 0..3 {
        trial.object(&format!("old{number}"), "o", LONG_AGO);
    }
    let server = trial.s3.clone();
    executions_do(&datasync, move |_| {
        for key in ["orphan", "old0"] {
            server.remove("site", &format!("www/{key}"));
        }
    });
    datasync.change(|service| {
        service.falsify = Some(("DescribeTaskExecution", Box::new(|response| response["FilesDeleted"] = 2.into())));
    });
    let _running = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--max-delete", "3"]).expect(3);
    assert_eq!((run.withheld_by("limit"), run.counted("deleted")), (2, 0), "{}", run.stderr);
    assert!(run.stderr.contains("after DataSync deleted 2"), "{}", run.stderr);
}

#[test]
fn an_allowed_empty_source_does_not_allow_all_deletes_of_another_client() {
    let (trial, datasync) = trial(RUNNING);
    for number in 0..150 {
        trial.object(&format!("old/{number:03}"), "x", LONG_AGO);
    }
    fs::remove_dir_all(trial.tree()).unwrap();
    fs::create_dir(trial.tree()).unwrap();
    executions_do(&datasync, delete_all(&trial));
    let _running = datasync.start_execution();
    let run = trial.run(&datasync, &["--stall-timeout", "1m", "--allow-empty-source"]).expect(3);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("it deleted 151 objects, more than --max-delete allows"), "{error}");
}

#[test]
fn an_execution_that_starts_during_the_direct_sync_withholds_its_deletes() {
    for options in [&[][..], &["--policy", "direct-only"]] {
        let (trial, datasync) = trial(&[("ERROR", Duration::ZERO)]);
        let datasync = Arc::new(datasync);
        let starter = Arc::clone(&datasync);
        let hook = move || {
            starter.change(|service| service.script = vec![("TRANSFERRING", FOREVER)]);
            let _running = starter.start_execution();
        };
        trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::before(hook)));
        let run = trial.run(&datasync, options).expect(3);
        assert_eq!((run.withheld_by("datasync_may_still_run"), trial.has("orphan")), (1, true), "{options:?}");
    }
}

#[test]
fn a_task_that_changes_during_the_run_is_not_followed() {
    let beside_a_running_one: &[_] = &["--policy", "direct-only"];
    for (script, options) in
        [(SUCCESS, &[][..]), (&[("ERROR", Duration::ZERO)], &[]), (&[("TRANSFERRING", FOREVER)], beside_a_running_one)]
    {
        let (trial, datasync) = trial(script);
        if !options.is_empty() {
            let _running = datasync.start_execution();
        }
        datasync.change(|service| {
            let excluded = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&excluded);
            service.falsify = Some((
                "DescribeTask",
                Box::new(move |response| {
                    // The first description is that of the run's start.
                    if seen.swap(true, Ordering::Relaxed) {
                        response["Excludes"] = json!([{ "FilterType": "SIMPLE_PATTERN", "Value": "/d1" }]);
                    }
                }),
            ));
        });
        let run = trial.run(&datasync, options).expect(3);
        assert_eq!(trial.count(WRITES), 0, "{script:?}");
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("the settings of the task changed"), "{error}");
    }
}

#[test]
fn a_task_that_changes_during_the_direct_sync_withholds_its_deletes() {
    let (trial, datasync) = trial(&[("ERROR", Duration::ZERO)]);
    let datasync = Arc::new(datasync);
    let task = Arc::clone(&datasync);
    let exclude = move || task.change(|service| service.exclude = Some("/orphan".to_owned()));
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::before(exclude)));
    let run = trial.run(&datasync, &[]).expect(3);
    assert_eq!((run.withheld_by("task_unknown"), trial.has("orphan")), (1, true), "{}", run.stderr);
    assert!(run.stderr.contains("other settings than when the run started"), "{}", run.stderr);
}

#[test]
fn a_manifest_that_changes_during_the_run_is_not_followed() {
    for (script, options) in [(SUCCESS, &["--audit"][..]), (&[("ERROR", Duration::ZERO)], &[])] {
        let (trial, datasync) = trial(script);
        trial.s3.create_bucket("lists");
        trial.s3.put("lists", "m.csv", "d0/f0\nd1/f1\n", Seed::default());
        let server = trial.s3.clone();
        executions_do(&datasync, move |_| server.put("lists", "m.csv", "d0/f0\n", Seed::default()));
        datasync.change(|service| {
            service.manifest = Some(manifest("m.csv"));
            service.copies_before_error = true;
        });
        let run = trial.run(&datasync, options).expect(3);
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("the manifest s3://lists/m.csv changed"), "{error}");
        assert_eq!(trial.count(WRITES), 0, "{script:?}");
        trial.run(&datasync, options).expect(0);
        assert_eq!((trial.has("d0/f0"), trial.has("d1/f1")), (true, false), "{script:?}");
    }
}

#[test]
fn a_sentinel_that_goes_while_datasync_works_ends_the_run() {
    for script in [SUCCESS, &[("ERROR", Duration::ZERO)]] {
        let (trial, datasync) = trial(script);
        trial.write(".sentinel", "");
        let sentinel = trial.tree().join(".sentinel");
        executions_do(&datasync, move |_| fs::remove_file(&sentinel).unwrap());
        datasync.change(|service| service.copies_before_error = true);
        let run = trial.run(&datasync, &["--sentinel", ".sentinel"]).expect(1);
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("the sentinel .sentinel is not in the source"), "{error}");
        assert_eq!((trial.count(WRITES), trial.has("orphan")), (0, true), "{script:?}");
    }
}

#[test]
fn a_sentinel_that_goes_before_the_deletes_withholds_them() {
    let (trial, datasync) = trial(&[("ERROR", Duration::ZERO)]);
    trial.write(".sentinel", "");
    let sentinel = trial.tree().join(".sentinel");
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::before(move || drop(fs::remove_file(&sentinel)))));
    let run = trial.run(&datasync, &["--sentinel", ".sentinel"]).expect(3);
    assert_eq!((run.withheld_by("still_gone_unknown"), trial.has("orphan")), (1, true), "{}", run.stderr);
    assert!(run.stderr.contains("the sentinel .sentinel is not in the source"), "{}", run.stderr);
}

/// A task names only its most recent execution, which may be queued behind one that writes.
#[test]
fn an_execution_queued_behind_another_does_not_hide_it() {
    for options in [&["--max-delete", "1"][..], &["--policy", "direct-only"]] {
        let (trial, datasync) = trial(RUNNING);
        trial.object("orphan 2", "o", LONG_AGO);
        let first = datasync.start_execution();
        executions_do(&datasync, delete_all(&trial));
        datasync.change(|service| {
            service.script = vec![("QUEUED", FOREVER)];
            service.execution_options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        let queued = datasync.start_execution();
        let run = trial.run(&datasync, &[&["--stall-timeout", "1m"], options].concat()).expect(3);
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains(&first) && error.contains("delete") && !error.contains(&queued), "{options:?}: {error}");
        let of_first = options.contains(&"1").then_some(first.as_str());
        assert_eq!(run.report["datasync"]["execution_arn"].as_str(), of_first, "{options:?}");
    }
}

/// DataSync queues a start with other filters behind an execution that another client has just started.
#[test]
fn a_start_that_is_queued_behind_another_execution_follows_that_one() {
    let (trial, datasync) = trial(RUNNING);
    trial.object("orphan 2", "o", LONG_AGO);
    executions_do(&datasync, delete_all(&trial));
    datasync.change(|service| {
        service.other_client_starts_first = true;
        service.script_of_queued = Some(vec![("QUEUED", FOREVER)]);
    });
    let run = trial.run(&datasync, &["--exclude", "/d1", "--max-delete", "1", "--stall-timeout", "1m"]).expect(3);
    assert_eq!((datasync.count("StartTaskExecution"), &run.report["datasync"]["attached"]), (1, &json!(true)));
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("exec-00000000000000001: another client started it"), "{error}");
}

/// DataSync may list an execution before it describes it.
#[test]
fn an_execution_that_is_listed_and_not_described_leaves_the_queued_one_running() {
    let (trial, datasync) = trial(&[("QUEUED", FOREVER)]);
    let queued = datasync.start_execution();
    let unknown = queued.replace("exec-0", "exec-1");
    datasync.change(|service| {
        service.falsify = Some((
            "ListTaskExecutions",
            Box::new(move |response: &mut Value| {
                let listed = response["TaskExecutions"].as_array_mut().unwrap();
                listed.insert(0, json!({ "TaskExecutionArn": unknown, "Status": "LAUNCHING" }));
            }),
        ));
    });
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1, "{}", run.stderr);
    assert!(trial.has("orphan"));
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "1s"]);
    assert_eq!(run.report["datasync"]["execution_arn"].as_str(), Some(queued.as_str()), "{}", run.stderr);
    assert_eq!(datasync.count("StartTaskExecution"), 0);
}

#[test]
fn a_list_of_executions_that_repeats_its_token_ends() {
    let (trial, datasync) = trial(&[("QUEUED", FOREVER)]);
    drop(datasync.start_execution());
    datasync.change(|service| {
        service.falsify =
            Some(("ListTaskExecutions", Box::new(|response: &mut Value| response["NextToken"] = "again".into())));
    });
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1, "{}", run.stderr);
    assert!(trial.has("orphan"));
}

#[test]
fn an_execution_that_starts_before_the_direct_sync_and_publishes_more_is_exit_code_3() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    datasync.change(|service| {
        service.include = Some("/d0".to_owned());
        service.execution_include = Some("/d0|/d1".to_owned());
        service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
    });
    let datasync = Arc::new(datasync);
    let starter = Arc::clone(&datasync);
    // The run has described the task, and checks the source.
    let start = move || drop(starter.start_execution());
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).times(1).does(Fault::before(start)));
    let run = trial.run(&datasync, &["--policy", "direct-only"]).expect(3);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("it did not apply the filters of this run"), "{error}");
}

/// Deletes all objects.
fn delete_all(trial: &Trial) -> impl FnMut(&EffectiveOptions) + Send + 'static {
    let server = trial.s3.clone();
    let keys: Vec<String> = trial.objects().into_keys().map(|name| format!("www/{name}")).collect();
    move |_| keys.iter().for_each(|key| server.remove("site", key))
}

#[test]
fn what_the_run_did_itself_after_a_success_is_its_last_line() {
    let (trial, datasync) = trial(SUCCESS);
    executions_do(&datasync, |_| {});
    trial.s3.remove("site", "www/orphan");
    let run = trial.run(&datasync, &["--audit"]).expect(0);
    assert_eq!((run.counted("objects"), run.counted("uploaded")), (0, 8));
    let last = run.stderr.lines().last().unwrap();
    assert!(last.contains("8 uploaded"), "{last}");
}

// --- before an execution starts ---

#[test]
fn an_empty_source_starts_nothing() {
    type Source = (&'static str, fn(&Trial));
    let empty_sources: [Source; 4] = [
        ("nothing", |_| {}),
        ("empty directories", |trial| fs::create_dir_all(trial.tree().join("a/b")).unwrap()),
        ("an excluded file", |trial| drop(trial.write("x.tmp", "t"))),
        ("a reserved folder", |trial| drop(trial.write(".snapshot/f", "s"))),
    ];
    for (what, fill) in empty_sources {
        for options in [&[][..], &["--deletes", "datasync"], &["--policy", "datasync-only"]] {
            let (trial, datasync) = trial(SUCCESS);
            datasync.change(|service| service.exclude = Some("*.tmp".to_owned()));
            fs::remove_dir_all(trial.tree()).unwrap();
            fs::create_dir(trial.tree()).unwrap();
            fill(&trial);
            let run = trial.run(&datasync, options).expect(3);
            assert!(run.withheld_by("empty_source") > 0, "{what}: {}", run.report);
            assert!(run.stderr.contains("--allow-empty-source"), "{}", run.stderr);
            assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0), "{what}");
            assert!(trial.has("orphan"), "{what}");
        }
    }
}

#[test]
fn a_refused_start_names_the_unreadable_directory() {
    let (trial, datasync) = trial(SUCCESS);
    fs::remove_dir_all(trial.tree().join("d1")).unwrap();
    let program = trial.folder.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_efs2s3"), &program).unwrap();
    fs::set_permissions(trial.tree().join("d0"), fs::Permissions::from_mode(0o0)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.args(["run", "--task-arn", &datasync.task_arn(), "--source"]).arg(trial.tree());
    let run = trial.spawn(command, &[("AWS_ENDPOINT_URL_DATASYNC", &datasync.url())]).end().expect(3);
    assert_eq!((datasync.count("StartTaskExecution"), run.withheld_by("walk")), (0, 1));
    assert_eq!(run.failed_keys(), ["www/d0/"]);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.starts_with("started nothing: ") && error.contains("'www/d0/'"), "{error}");
    assert!(run.stderr.contains(error), "{}", run.stderr);
    run.assert_adds_up();
}

#[test]
fn an_empty_source_starts_an_execution_if_that_can_harm_nothing() {
    let (trial, datasync) = trial(SUCCESS);
    fs::remove_dir_all(trial.tree()).unwrap();
    fs::create_dir(trial.tree()).unwrap();
    let run = trial.run(&datasync, &["--allow-empty-source"]).expect(0);
    assert_eq!((run.counted("deleted"), datasync.count("StartTaskExecution")), (1, 1));
    trial.run(&datasync, &[]).expect(0);
    assert_eq!(datasync.count("StartTaskExecution"), 2, "the destination is empty now");
}

#[test]
fn an_empty_source_is_not_compared_with_a_running_execution() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let _running = datasync.start_execution();
    fs::remove_dir_all(trial.tree()).unwrap();
    fs::create_dir(trial.tree()).unwrap();
    let run = trial.run(&datasync, &[]).expect(3);
    assert!(run.withheld_by("empty_source") > 0, "{}", run.report);
    assert_eq!(trial.count(WRITES), 0);
}

#[test]
fn the_check_of_the_source_stops_at_the_first_file() {
    let (trial, datasync) = trial(SUCCESS);
    for folder in 0..40 {
        for file in 0..50 {
            trial.write(format!("e{folder:02}/{file}"), "x");
        }
    }
    let run = trial.run(&datasync, &["--deletes", "datasync"]).expect(0);
    let stats = run.report["source_operations"]["stat"].as_u64().unwrap();
    assert!(stats < 400, "{stats} stats for 2,006 files");
}

#[test]
fn a_required_mount_or_sentinel_that_is_missing_starts_nothing() {
    for option in [&["--require-mount"][..], &["--sentinel", ".mounted"]] {
        let (trial, datasync) = trial(SUCCESS);
        trial.run(&datasync, option).expect(1);
        assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0), "{option:?}");
    }
}

#[test]
fn the_sample_of_keys_reaches_beyond_the_first_page() {
    let (trial, datasync) = trial(SUCCESS);
    for number in 0..1100 {
        trial.object(&format!("aa/{number:04}"), "x", LONG_AGO);
    }
    // Only the keys behind the first page show that the tree is the right one.
    for number in 0..60 {
        trial.write(format!("zz/{number}"), "z");
        trial.object(&format!("zz/{number}"), "z", LONG_AGO);
    }
    let run = trial.run(&datasync, &["--deletes", "datasync"]).expect(0);
    assert_verdict(&run, "datasync", "succeeded");

    // Excluded keys fill the first page, and the others belong to another tree.
    let (trial, datasync) = self::trial(SUCCESS);
    datasync.change(|service| service.exclude = Some("/aa".to_owned()));
    for number in 0..1100 {
        trial.object(&format!("aa/{number:04}"), "x", LONG_AGO);
        trial.object(&format!("elsewhere/{number:04}"), "x", LONG_AGO);
    }
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.stderr.contains("keys of the destination is in the source"), "{}", run.stderr);
    assert_eq!(datasync.count("StartTaskExecution"), 0);
    assert!(trial.count(Operation::ListObjectsV2) <= 5, "{}", trial.count(Operation::ListObjectsV2));
}

// --- a success that proves too little ---

/// A run that attaches to an execution makes the destination match.
#[track_caller]
fn assert_audited(trial: &Trial, datasync: &DataSyncServer, options: &[&str]) -> FinishedRun {
    let run = trial.run(datasync, &[&["--stall-timeout", "1m"], options].concat()).expect(0);
    assert_verdict(&run, "datasync", "succeeded");
    assert_eq!(run.report["datasync"]["attached"], true);
    let tree = trial.tree();
    let again = Copy::new(&tree, &trial.s3, "site", "www/").run().unwrap();
    assert!(again.is_nothing(), "DataSync would copy: {again:?}: {}", run.stderr);
    run
}

#[test]
fn an_attached_execution_that_listed_the_source_before_a_change_is_audited() {
    for deletes in ["guarded", "datasync"] {
        let (trial, datasync) = trial(RUNNING);
        executions_do(&datasync, |_| {});
        let _running = datasync.start_execution();
        let run = assert_audited(&trial, &datasync, &["--deletes", deletes]);
        assert_eq!((run.counted("uploaded"), run.counted("deleted")), (8, 1), "{deletes}");
        let unguarded = run.stderr.contains("without the guards");
        assert_eq!(unguarded, deletes == "guarded", "{}", run.stderr);
    }
}

#[test]
fn an_attached_execution_with_other_options_is_audited() {
    for (name, value) in [("OverwriteMode", "NEVER"), ("PreserveDeletedFiles", "PRESERVE")] {
        let (trial, datasync) = trial(RUNNING);
        trial.object("d0/f0", "stale content", LONG_AGO);
        datasync.change(|service| {
            service.execution_options.insert(name, value.into());
        });
        let _running = datasync.start_execution();
        let run = assert_audited(&trial, &datasync, &[]);
        assert_eq!(trial.objects()["d0/f0"], b"0", "{name}");
        let evidence = run.report["datasync"]["evidence"].as_str().unwrap();
        assert!(evidence.contains(&format!("{name}={value}")), "{evidence}");
    }
}

#[test]
fn an_attached_execution_with_another_manifest_is_audited() {
    let (trial, datasync) = trial(RUNNING);
    executions_do(&datasync, |_| {});
    datasync.change(|service| service.execution_manifest = Some(manifest("few.csv")));
    let _running = datasync.start_execution();
    let run = assert_audited(&trial, &datasync, &[]);
    assert!(run.report["datasync"]["evidence"].as_str().unwrap().contains("another manifest"), "{}", run.report);
}

#[test]
fn an_attached_execution_that_another_client_started_first_is_audited() {
    let (trial, datasync) = trial(RUNNING);
    executions_do(&datasync, |_| {});
    datasync.change(|service| service.other_client_starts_first = true);
    assert_audited(&trial, &datasync, &[]);
}

#[test]
fn an_attached_execution_may_have_written_what_it_read_before_a_change() {
    for hides_start_time in [false, true] {
        let (trial, datasync) = trial(&[("TRANSFERRING", 8 * SECOND), ("SUCCESS", Duration::ZERO)]);
        let tree = trial.tree();
        Copy::new(&tree, &trial.s3, "site", "www/").run().unwrap();
        executions_do(&datasync, |_| {});
        // The execution reads the file, the file changes to the same size, and the execution writes the object.
        let read = trial.stored("d0/f0");
        trial.write("d0/f0", "9");
        thread::sleep(8 * SECOND);
        trial.s3.put("site", "www/d0/f0", read.body, Seed { headers: read.headers, ..Seed::aged(4 * SECOND) });
        datasync.change(|service| {
            (service.hides_start_time, service.started_before) = (hides_start_time, Duration::from_mins(1));
        });
        let _running = datasync.start_execution();
        let run = assert_audited(&trial, &datasync, &[]);
        assert_eq!(
            (run.counted("uploaded"), trial.objects()["d0/f0"].as_slice()),
            (1, &b"9"[..]),
            "{hides_start_time}"
        );
    }
}

// --- around a cancel and a stop request ---

#[test]
fn a_run_that_was_asked_to_stop_starts_no_execution() {
    let (trial, datasync) = trial(SUCCESS);
    let _earlier = datasync.start_execution();
    datasync.change(|service| service.faults.push(("DescribeTaskExecution", 1, ServiceFault::Silence)));
    let run = trial.start_run(&datasync, &[]);
    wait_until("the run asks for the earlier execution", || datasync.count("DescribeTaskExecution") > 0);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_verdict(&run, "datasync", "interrupted");
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
}

#[test]
fn an_execution_that_finished_before_the_cancel_keeps_its_verdict() {
    let detail = "Transfer and verification completed. Verification detected mismatches.";
    let (trial, datasync) = trial(&[("LAUNCHING", 2 * SECOND), ("ERROR", Duration::ZERO)]);
    datasync.change(|service| {
        service.cancel = Cancel::Ignored;
        service.copies_before_error = true;
        service.error = (String::new(), detail.to_owned());
    });
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "20s"]).expect(0);
    assert_verdict(&run, "fallback", "partial");

    let (trial, datasync) = self::trial(&[("LAUNCHING", 2 * SECOND), ("SUCCESS", Duration::ZERO)]);
    datasync.change(|service| {
        (service.cancel, service.execution_include) = (Cancel::Ignored, Some("/d0".to_owned()));
        service.on_success = None;
    });
    let run = trial.run(&datasync, &["--queue-timeout", "1s", "--cancel-timeout", "20s"]).expect(0);
    assert_verdict(&run, "fallback", "partial");
    assert_eq!(run.counted("uploaded"), 8);
}

#[test]
fn a_run_does_not_wait_for_an_execution_that_datasync_does_not_know() {
    let (trial, datasync) = trial(&[("TRANSFERRING", FOREVER)]);
    let unknown = || ServiceFault::error(400, "InvalidRequestException", "Task execution is not found.");
    datasync.change(|service| {
        service.faults.push(("DescribeTaskExecution", u32::MAX, unknown()));
        service.faults.push(("CancelTaskExecution", u32::MAX, unknown()));
    });
    // DataSync may not know yet what it has just started.
    let run = trial.run(&datasync, &["--cancel-timeout", "1h", "--stall-timeout", "2s"]).expect(3);
    assert_verdict(&run, "fallback", "unknown_task");
    assert_eq!(run.withheld_by("datasync_may_still_run"), 1);
}

#[test]
fn a_link_is_not_enough_for_a_source() {
    let (trial, datasync) = trial(SUCCESS);
    fs::remove_dir_all(trial.tree()).unwrap();
    fs::create_dir(trial.tree()).unwrap();
    symlink("/nowhere", trial.tree().join("link")).unwrap();
    let run = trial.run(&datasync, &[]).expect(3);
    assert!(run.withheld_by("empty_source") > 0, "{}", run.report);
}
