//! `efs2s3 run` with options that differ from its DataSync task: what a start passes on, what is refused before a start, and
//! which success proves too little. Also a task whose settings the run cannot use.

use std::time::Duration;

use fake_aws::datasync::reference::Copy;
use fake_aws::datasync::{Cancel, DataSyncServer, ServiceFault};
use fake_aws::s3::{Fault, Operation, Operations, Rule, Seed};
use serde_json::{Value, json};

use crate::trial::{FinishedRun, Trial, WRITES};

/// An age above that of everything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const STEP: Duration = Duration::from_millis(200);
/// An execution that runs for this long still runs when the program describes it.
const ATTACHABLE: Duration = Duration::from_secs(6);
const FOREVER: Duration = Duration::from_hours(1);

/// Six files, a secret, and a task that preserves deleted files and whose executions succeed and copy.
fn trial() -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    for number in 0..6 {
        trial.write(format!("d{}/f{number}", number % 2), format!("{number}"));
    }
    trial.write("private/key", "secret");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let (tree, server) = (trial.tree(), trial.s3.clone());
    datasync.change(|service| {
        service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        service.script = vec![("SUCCESS", Duration::ZERO)];
        service.on_success = Some(Box::new(move |options| {
            Copy::new(&tree, &server, "site", "www/").with(options).run().unwrap();
        }));
    });
    (trial, datasync)
}

/// The body of the only start.
fn start(datasync: &DataSyncServer) -> Value {
    let starts: Vec<_> = datasync.log().into_iter().filter(|(name, _)| name == "StartTaskExecution").collect();
    assert_eq!(starts.len(), 1, "{starts:?}");
    starts.into_iter().map(|(_, body)| body).next().unwrap()
}

fn is_published(trial: &Trial, folder: &str) -> bool {
    trial.names().iter().any(|name| name.starts_with(folder))
}

/// Whether the run compared after the execution: it then lists once more than to check the source.
fn has_compared(trial: &Trial, run: &FinishedRun) -> bool {
    assert_eq!(run.report["datasync"]["verdict"], "succeeded", "{}: {}", run.report["datasync"], run.stderr);
    trial.count(Operation::ListObjectsV2) > 1
}

fn rule(value: &str) -> Value {
    json!([{ "FilterType": "SIMPLE_PATTERN", "Value": value }])
}

// --- what a start passes on ---

#[test]
fn a_start_passes_on_the_filters_that_differ_from_the_tasks() {
    let (trial, datasync) = trial();
    let run = trial.run(&datasync, &["--exclude", "/private", "--exclude", "*/f1|*/f2"]).expect(0);
    let body = start(&datasync);
    assert_eq!((&body["Includes"], &body["Excludes"]), (&json!([]), &rule("/private|*/f1|*/f2")));
    assert!(!is_published(&trial, "private") && !trial.has("d1/f1") && trial.has("d0/f0"), "{:?}", trial.names());
    assert!(!has_compared(&trial, &run), "the success proves what the run requires");

    let (trial, datasync) = self::trial();
    datasync.change(|service| service.exclude = Some("/private".to_owned()));
    trial.run(&datasync, &["--include", "/d0|/private"]).expect(0);
    let body = start(&datasync);
    assert_eq!((&body["Includes"], &body["Excludes"]), (&rule("/d0|/private"), &rule("/private")));
    assert!(!is_published(&trial, "private") && !is_published(&trial, "d1") && trial.has("d0/f0"));
}

#[test]
fn a_start_without_other_filters_passes_on_none() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.exclude = Some("/private".to_owned()));
    trial.run(&datasync, &["--exclude", "/private"]).expect(0);
    let body = start(&datasync);
    assert_eq!((body.get("Includes"), body.get("Excludes"), body.get("OverrideOptions")), (None, None, None));
    assert!(!is_published(&trial, "private"));
}

#[test]
fn a_start_passes_on_overwrite() {
    for (of_task, option, mode) in [("ALWAYS", "never", "NEVER"), ("NEVER", "always", "ALWAYS")] {
        let (trial, datasync) = trial();
        datasync.change(|service| {
            service.options.insert("OverwriteMode", of_task.into());
        });
        trial.object("d0/f0", "other", LONG_AGO);
        let run = trial.run(&datasync, &["--overwrite", option]).expect(0);
        assert_eq!(start(&datasync)["OverrideOptions"]["OverwriteMode"], mode);
        assert_eq!(trial.objects()["d0/f0"] == b"other", option == "never", "{option}");
        assert!(!has_compared(&trial, &run), "{option}");
    }
}

#[test]
fn an_execution_that_ignores_what_a_start_passes_on_proves_nothing() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.ignores_override = true);
    trial.object("d0/f0", "other", LONG_AGO);
    let run = trial.run(&datasync, &["--overwrite", "never"]).expect(3);
    assert!(has_compared(&trial, &run) && run.stderr.contains("OverwriteMode=ALWAYS"), "{}", run.stderr);
    assert_names_what_it_keeps(&run);
    let run = trial.run(&datasync, &["--exclude", "/private"]).expect(3);
    assert!(run.stderr.contains("does not show the filters"), "{}", run.stderr);
    assert_names_what_it_excludes(&run);
    datasync.change(|service| service.include = Some("/d0".to_owned()));
    let run = trial.run(&datasync, &["--exclude", "/private"]).expect(3);
    assert_eq!(run.report["datasync"]["verdict"], "partial", "{}", run.stderr);
    assert_names_what_it_excludes(&run);
}

/// The report and the log say that an execution may have published what the run excludes.
fn assert_names_what_it_excludes(run: &FinishedRun) {
    let evidence = run.report["datasync"]["evidence"].as_str().unwrap();
    for text in [evidence, run.report["error"].as_str().unwrap(), &run.stderr] {
        assert!(text.contains("objects that this run excludes may have been published"), "{text}");
    }
}

/// The report and the log say that an execution may have overwritten what the run keeps.
fn assert_names_what_it_keeps(run: &FinishedRun) {
    for text in [run.report["error"].as_str().unwrap(), &run.stderr] {
        assert!(text.contains("objects that --overwrite never keeps may have been overwritten"), "{text}");
    }
}

#[test]
fn an_attached_execution_that_overwrites_what_the_run_keeps_is_exit_code_3() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.script = vec![("TRANSFERRING", ATTACHABLE), ("SUCCESS", STEP)]);
    trial.object("d0/f0", "other", LONG_AGO);
    let _of_another_caller = datasync.start_execution();
    let run = trial.run(&datasync, &["--overwrite", "never", "--stall-timeout", "1m"]).expect(3);
    assert_names_what_it_keeps(&run);
}

/// The operator adds the exclude after the start, or DataSync does not show the filters that an execution has of its task.
#[test]
fn an_attached_execution_that_shows_no_filters_of_its_task_is_exit_code_3() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.script = vec![("TRANSFERRING", ATTACHABLE), ("SUCCESS", STEP)]);
    let _of_another_caller = datasync.start_execution();
    datasync.change(|service| service.exclude = Some("/private".to_owned()));
    let run = trial.run(&datasync, &["--stall-timeout", "1m"]).expect(3);
    assert!(run.stderr.contains("DataSync shows no filters of it"), "{}", run.stderr);
    assert_names_what_it_excludes(&run);
    // An own execution has the filters of its task.
    trial.run(&datasync, &["--stall-timeout", "1m"]).expect(0);
}

#[test]
fn an_execution_without_the_filters_of_the_run_that_still_runs_is_exit_code_3() {
    for (script, options) in [
        (("QUEUED", FOREVER), &["--queue-timeout", "1s", "--cancel-timeout", "1s"][..]),
        (("TRANSFERRING", FOREVER), &["--policy", "direct-only"]),
    ] {
        let (trial, datasync) = trial();
        datasync.change(|service| {
            service.script = vec![script];
            service.cancel = Cancel::Refused;
            service.options.insert("PreserveDeletedFiles", "PRESERVE".into());
        });
        let _of_another_caller = datasync.start_execution();
        let run = trial.run(&datasync, &[&["--exclude", "/private"], options].concat()).expect(3);
        assert!(
            run.report["error"].as_str().unwrap().contains("objects that this run excludes may have been published"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn an_attached_execution_is_compared_with_the_filters_of_the_run() {
    for (exclude, verdict, code) in [
        ("/private", "succeeded", 0),
        ("/private/|/private", "succeeded", 0),
        ("/other", "partial", 3),
        ("/private|/other", "partial", 3),
    ] {
        let (trial, datasync) = trial();
        datasync.change(|service| {
            service.script = vec![("TRANSFERRING", ATTACHABLE), ("SUCCESS", STEP)];
            service.exclude = Some("/private".to_owned());
        });
        let _of_another_caller = datasync.start_execution();
        let run = trial.run(&datasync, &["--exclude", exclude, "--stall-timeout", "1m"]).expect(code);
        assert_eq!(run.report["datasync"]["verdict"], verdict, "{exclude}: {}", run.stderr);
        assert!(!run.stderr.contains("to DataSync option"), "{}", run.stderr);
        if code == 3 {
            assert_names_what_it_excludes(&run);
        }
        assert_eq!(datasync.count("StartTaskExecution"), 0);
    }
}

#[test]
fn an_attached_execution_without_filters_may_have_published_what_the_run_excludes() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.script = vec![("TRANSFERRING", ATTACHABLE), ("SUCCESS", STEP)]);
    let _of_another_caller = datasync.start_execution();
    let run = trial.run(&datasync, &["--exclude", "/private", "--stall-timeout", "1m"]).expect(3);
    assert!(is_published(&trial, "private"));
    assert_names_what_it_excludes(&run);
}

// --- what only the direct sync applies ---

#[test]
fn a_success_is_unproven_if_the_run_has_options_that_datasync_does_not_apply() {
    for options in [
        &["--mode", "plain"][..],
        &["--storage-class", "STANDARD_IA"],
        &["--cache-control", "max-age=60"],
        &["--content-type", "f1=text/plain"],
        &["--sse", "AES256"],
        &["--no-preserve", "uid"],
        &["--min-age", "1s"],
        &["--compare", "checksum"],
    ] {
        let (trial, datasync) = trial();
        let run = trial.run(&datasync, options).expect(0);
        assert!(has_compared(&trial, &run), "{options:?}");
        let option = format!("does not apply these options of this run: {}", options[0]);
        assert!(run.stderr.contains(&option), "{options:?}: {}", run.stderr);
    }
    let (trial, datasync) = trial();
    let run = trial.run(&datasync, &["--mode", "datasync", "--bandwidth", "100MB", "--max-delete", "7"]).expect(0);
    assert!(!has_compared(&trial, &run), "{}", run.stderr);
}

#[test]
fn header_rules_of_the_config_file_leave_a_success_unproven() {
    let (trial, datasync) = trial();
    let config = trial.folder.path().join("config.toml");
    std::fs::write(&config, "[[header]]\npattern = \"*.html\"\ncache_control = \"no-cache\"\n").unwrap();
    let run = trial.run(&datasync, &["--config", config.to_str().unwrap()]).expect(0);
    assert!(has_compared(&trial, &run) && run.stderr.contains("[[header]]"), "{}", run.stderr);
}

#[test]
fn with_deletes_datasync_a_task_that_preserves_leaves_the_deletes_of_the_option_to_the_run() {
    let (trial, datasync) = trial();
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.run(&datasync, &["--delete", "--deletes", "datasync"]).expect(0);
    assert_eq!((run.counted("deleted"), trial.has("orphan")), (1, false), "{}", run.stderr);
}

#[test]
fn with_deletes_datasync_a_run_without_deletes_forbids_those_of_the_task() {
    let (trial, datasync) = trial();
    datasync.change(|service| {
        service.options.insert("PreserveDeletedFiles", "REMOVE".into());
    });
    trial.object("orphan", "o", LONG_AGO);
    let (task, source, url) = (datasync.task_arn(), trial.tree().display().to_string(), datasync.url());
    let words = ["run", "--task-arn", &task, "--source", &source, "--deletes", "datasync", "--poll-interval", "100ms"];
    trial.run_words(&words, &[("AWS_ENDPOINT_URL_DATASYNC", &url), ("EFS2S3_DELETE", "false")]).expect(0);
    assert!(trial.has("orphan"));
}

/// Runs with a variable.
fn run_with(trial: &Trial, datasync: &DataSyncServer, options: &[&str], variables: &[(&str, &str)]) -> FinishedRun {
    let (task, source, url) = (datasync.task_arn(), trial.tree().display().to_string(), datasync.url());
    let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "100ms"];
    let words: Vec<&str> = words.iter().chain(options).copied().collect();
    let url = [("AWS_ENDPOINT_URL_DATASYNC", url.as_str())];
    trial.run_words(&words, &url.iter().chain(variables).copied().collect::<Vec<_>>())
}

#[test]
fn values_of_options_differ_from_the_tasks_and_not_their_spellings() {
    for value in ["1", "yes", "TRUE", "true"] {
        let (trial, datasync) = trial();
        trial.object("orphan", "o", LONG_AGO);
        let run = run_with(&trial, &datasync, &["--deletes", "datasync"], &[("EFS2S3_DELETE", value)]).expect(0);
        assert!(has_compared(&trial, &run) && !trial.has("orphan"), "{value}: {}", run.stderr);
    }
    for options in [
        &["--storage-class", "STANDARD"][..],
        &["--no-preserve", "gid,uid"],
        &["--no-preserve", "gid", "--no-preserve", "uid,gid"],
        &["--min-age", "0m"],
        &["--bandwidth", "1MB"],
    ] {
        let (trial, datasync) = trial();
        datasync.change(|service| {
            service.options.insert("Uid", "NONE".into());
            service.options.insert("Gid", "NONE".into());
            service.options.insert("BytesPerSecond", 1_000_000.into());
        });
        let run = run_with(&trial, &datasync, options, &[("EFS2S3_DELETE", "0")]).expect(0);
        assert!(!has_compared(&trial, &run) && !run.stderr.contains("differs"), "{options:?}: {}", run.stderr);
    }
    let (trial, datasync) = trial();
    let run = run_with(&trial, &datasync, &["--storage-class", "STANDARD_IA"], &[]).expect(0);
    assert!(has_compared(&trial, &run), "{}", run.stderr);
}

// --- what is refused before a start ---

#[test]
fn another_destination_or_manifest_than_the_tasks_is_refused_before_a_start() {
    let (trial, datasync) = trial();
    trial.s3.create_bucket("other");
    let manifest = trial.folder.path().join("manifest.csv");
    std::fs::write(&manifest, "d0/f0\n").unwrap();
    let manifest = manifest.to_str().unwrap();
    for options in [&["s3://other/place"][..], &["s3://site/www/inner"], &["--from-manifest", manifest]] {
        for policy in ["datasync-first", "datasync-only"] {
            let options: Vec<&str> = options.iter().chain(&["--policy", policy]).copied().collect();
            let run = trial.run(&datasync, &options).expect(2);
            assert!(run.stderr.contains("--policy direct-only"), "{}", run.stderr);
        }
        assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    }
    trial.run(&datasync, &["--from-manifest", manifest, "--policy", "direct-only"]).expect(0);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["d0/f0"]);
    trial.run(&datasync, &["s3://site/www/"]).expect(0);
}

#[test]
fn a_bucket_that_is_denied_to_its_expected_owner_is_refused_before_a_start() {
    let (trial, datasync) = trial();
    trial.s3.settings(|settings| settings.bucket_owner = Some("111122223333".to_owned()));
    let run = trial.run(&datasync, &["--expected-bucket-owner", "999999999999"]).expect(1);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("--expected-bucket-owner 999999999999") && error.contains("'site'"), "{error}");
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    trial.run(&datasync, &["--expected-bucket-owner", "111122223333"]).expect(0);
}

#[test]
fn a_filter_that_would_swallow_the_next_one_is_refused_before_a_start() {
    let (trial, datasync) = trial();
    let run = trial.run(&datasync, &["--exclude", "/zz\\", "--exclude", "/private"]).expect(2);
    assert!(run.stderr.contains("ends in a single"), "{}", run.stderr);
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    trial.run(&datasync, &["--exclude", "/zz\\\\", "--exclude", "/private"]).expect(0);
    assert!(!is_published(&trial, "private") && trial.has("d0/f0"));
}

// --- settings that the run cannot use ---

#[test]
fn a_filter_of_the_task_that_cannot_be_read_is_reported_with_the_task() {
    let (trial, datasync) = trial();
    datasync.change(|service| service.include = Some("/d0*x".to_owned()));
    for policy in ["datasync-first", "direct-only"] {
        let run = trial.run(&datasync, &["--policy", policy]).expect(1);
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains(&datasync.task_arn()) && error.contains("/d0*x"), "{error}");
    }
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(WRITES)), (0, 0));
    // A filter of the command line is a usage error, and replaces the task's.
    trial.run(&datasync, &["--include", "/d1*x"]).expect(2);
    trial.run(&datasync, &["--include", "/d1"]).expect(0);
    assert!(is_published(&trial, "d1") && !is_published(&trial, "d0"));
}

#[test]
fn a_task_starts_although_the_run_cannot_write_to_its_destination() {
    let (trial, datasync) = trial();
    let uri = "s3://arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/site/www/";
    datasync.change(|service| service.destination_uri = uri.to_owned());
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(Operations::all())), (1, 0));
    assert_eq!((&run.report["route"], &run.report["destination"]), (&json!("datasync"), &json!(uri)));
    assert!(run.stderr.contains(&format!("cannot write to {uri}, the task's destination")), "{}", run.stderr);
    assert_eq!(run.stderr.matches("Object Lambda").count(), 1, "{}", run.stderr);
    // The run can neither check a success nor replace a failure.
    trial.run(&datasync, &["--audit"]).expect(3);
    let run = trial.run(&datasync, &["s3://site/www"]).expect(0);
    assert!(has_compared(&trial, &run) && run.stderr.contains("the destination s3://site/www"), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("{uri} (cannot be used)")), "{}", run.stderr);
    trial.s3.clear_log();
    datasync.change(|service| service.script = vec![("ERROR", STEP)]);
    let run = trial.run(&datasync, &[]).expect(1);
    assert!(run.report["error"].as_str().unwrap().contains("Object Lambda"), "{}", run.report);
    assert_eq!((datasync.count("StartTaskExecution"), trial.count(Operations::all())), (4, 0));
}

// --- a manifest that the run cannot read ---

/// The configuration of a manifest, of a version of the object.
fn manifest_version(version: &str) -> Value {
    let object = json!({
        "ManifestObjectPath": "today/m.csv",
        "S3BucketArn": "arn:aws:s3:::lists",
        "BucketAccessRoleArn": "r",
        "ManifestObjectVersionId": version,
    });
    json!({ "Action": "TRANSFER", "Format": "CSV", "Source": { "S3": object } })
}

#[test]
fn the_version_of_a_tasks_manifest_is_read_and_compared() {
    let (trial, datasync) = trial();
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "today/m.csv", "d0/f0\nprivate/key\n", Seed::default());
    trial.s3.put("lists", "today/m.csv?versionId=v1", "d0/f0\n", Seed::default());
    datasync.change(|service| {
        service.manifest = Some(manifest_version("v1"));
        service.on_success = None;
        service.script = vec![("ERROR", STEP)];
    });
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!((run.report["route"].as_str(), is_published(&trial, "private")), (Some("fallback"), false));
    assert!(trial.has("d0/f0"), "{:?}", trial.names());
    let run = trial.run(&datasync, &["--from-manifest", "s3://lists/today/m.csv"]).expect(2);
    assert!(run.stderr.contains("m.csv?versionId=v1"), "{}", run.stderr);
    // The task's manifest is another version than that of the execution.
    datasync.change(|service| {
        service.script = vec![("TRANSFERRING", ATTACHABLE), ("SUCCESS", STEP)];
        service.execution_manifest = Some(manifest_version("v2"));
    });
    let _running = datasync.start_execution();
    let before = trial.count(Operation::GetObject);
    let run = trial.run(&datasync, &["--stall-timeout", "1m"]).expect(3);
    assert_eq!(run.report["datasync"]["verdict"], "succeeded");
    assert_names_what_it_excludes(&run);
    assert!(run.stderr.contains("another manifest than the task"), "{}", run.stderr);
    assert!(trial.count(Operation::GetObject) > before);
}

fn with_unreadable_manifest() -> (Trial, DataSyncServer) {
    let (trial, datasync) = trial();
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "today/m.csv", "d0/f0\n", Seed::default());
    let object =
        json!({ "ManifestObjectPath": "today/m.csv", "S3BucketArn": "arn:aws:s3:::lists", "BucketAccessRoleArn": "r" });
    datasync.change(|service| {
        service.manifest = Some(json!({ "Action": "TRANSFER", "Format": "CSV", "Source": { "S3": object } }));
        service.on_success = None;
    });
    trial.s3.rule(Rule::on(Operation::GetObject).always().does(Fault::status(403, "AccessDenied")));
    (trial, datasync)
}

#[test]
fn a_manifest_that_the_run_cannot_read_does_not_keep_datasync_from_running() {
    let named = |run: &FinishedRun| {
        let error = run.report["error"].as_str().unwrap();
        assert!(error.contains("s3://lists/today/m.csv"), "{error}");
    };
    // The success proves what the run requires.
    let (trial, datasync) = with_unreadable_manifest();
    let run = trial.run(&datasync, &[]).expect(0);
    assert_eq!((datasync.count("StartTaskExecution"), has_compared(&trial, &run)), (1, false));
    assert!(run.stderr.contains("s3://lists/today/m.csv"), "{}", run.stderr);
    // The operator asks for an audit.
    let run = trial.run(&datasync, &["--audit"]).expect(3);
    named(&run);
    assert!(run.report["error"].as_str().unwrap().contains("cannot audit"), "{}", run.report);
    // DataSync fails, and nothing can replace it.
    datasync.change(|service| {
        service.script = vec![("ERROR", STEP)];
        service.error = ("FsS3Error".to_owned(), "failed".to_owned());
    });
    named(&trial.run(&datasync, &[]).expect(1));
    datasync.change(|service| {
        service.faults = vec![("StartTaskExecution", 99, ServiceFault::error(400, "InvalidRequestException", "x"))];
    });
    named(&trial.run(&datasync, &[]).expect(1));
    assert_eq!(trial.count(WRITES), 0);
}
