//! DataSync first: the task succeeds, fails, hangs and recovers, and each time the bucket holds what it should.

use std::time::Duration;

use serde_json::Value;

use super::stage::{DemoError, Expected, Stage, ensure, settle};
use fake_aws::datasync::DataSyncServer;
use fake_aws::datasync::reference::Copy;

const STEP: Duration = Duration::from_millis(400);
const FOREVER: Duration = Duration::from_hours(1);
const DETAIL: &str =
    "Task failed to access location loc-0bb: x40016: Failed to connect to EFS mount target with IP: 10.0.0.9.";

/// Tells it.
pub(super) fn tell(stage: &mut Stage) -> Result<(), DemoError> {
    let datasync = DataSyncServer::start("aws-us-gov", "us-gov-west-1")?;
    let (tree, server, bucket) = (stage.tree.root().to_owned(), stage.server.clone(), stage.bucket);
    datasync.change(|service| {
        service.destination_uri = format!("s3://{bucket}/www/");
        service.exclude = Some("*.tmp".to_owned());
        service.on_success = Some(Box::new(move || {
            // An execution that cannot copy is seen by what is missing afterwards.
            let _ = Copy { exclude: Some("*.tmp"), ..Copy::new(&tree, &server, bucket, "www/") }.run();
        }));
    });
    stage.say(
        "\n\nThe same site, with a DataSync task in GovCloud that copies it. Its settings are the whole configuration.",
    )?;

    settle();
    stage.title("The task succeeds: nothing else is done")?;
    datasync.change(|service| {
        service.script =
            ["LAUNCHING", "PREPARING", "TRANSFERRING", "VERIFYING", "SUCCESS"].map(|status| (status, STEP)).into();
    });
    let report = run(stage, &datasync, &[], 0)?;
    ensure(route(&report) == "datasync" && written(&report) == 0, "something else was done")?;
    equivalent(stage)?;

    settle();
    settle();
    stage.title("The task fails: the direct sync takes over, in DataSync's way")?;
    stage.tree.edit()?;
    datasync.change(|service| {
        service.script = vec![("LAUNCHING", STEP), ("ERROR", STEP)];
        service.error = ("OpNotSupp".to_owned(), DETAIL.to_owned());
    });
    let report = run(stage, &datasync, &[], 0)?;
    ensure(route(&report) == "fallback" && written(&report) > 0, "the fallback did not take over")?;
    equivalent(stage)?;

    stage
        .title("The task hangs while it launches: it is cancelled, its end awaited, and the direct sync takes over")?;
    stage.tree.touch_all()?;
    datasync.change(|service| service.script = vec![("LAUNCHING", FOREVER)]);
    let report = run(stage, &datasync, &["--queue-timeout", "2s"], 0)?;
    ensure(route(&report) == "fallback" && datasync.count("CancelTaskExecution") == 1, "it was not cancelled")?;
    equivalent(stage)?;

    settle();
    stage.title("It has failed too often: the breaker is open, and the next run goes directly at once")?;
    let memory = stage.beside("state");
    let breaker = ["--state", memory.as_str(), "--breaker-failures", "1", "--breaker-cooldown", "3s"];
    datasync.change(|service| service.script = vec![("ERROR", STEP)]);
    run(stage, &datasync, &breaker, 0)?;
    let starts = datasync.count("StartTaskExecution");
    let report = run(stage, &datasync, &breaker, 0)?;
    ensure(route(&report) == "direct" && datasync.count("StartTaskExecution") == starts, "the breaker did not open")?;

    stage.title("After the cooldown the recovered task is tried again, and finds nothing to copy")?;
    std::thread::sleep(Duration::from_secs(3));
    datasync.change(|service| service.script = vec![("TRANSFERRING", STEP), ("SUCCESS", STEP)]);
    let before = stage.server.log().len();
    let report = run(stage, &datasync, &breaker, 0)?;
    ensure(route(&report) == "datasync" && written(&report) == 0, "the recovered task was not taken")?;
    let asked = stage.server.log().len() - before;
    stage
        .say(&format!("  The bucket saw {asked} request: the listing that checks that the right folder is mounted."))?;
    equivalent(stage)
}

/// Runs `efs2s3 run` with the task alone, and these options.
fn run(stage: &mut Stage, datasync: &DataSyncServer, options: &[&str], exit_code: i64) -> Result<Value, DemoError> {
    let (task, source) = (datasync.task_arn(), stage.tree.root().display().to_string());
    let shown = format!("run --task-arn {task} --source {source} {}", options.join(" "));
    let words: Vec<&str> = [&["run", "--task-arn", &task, "--source", &source], options].concat();
    let environment = [("AWS_ENDPOINT_URL_DATASYNC", datasync.url()), ("EFS2S3_POLL_INTERVAL", "300ms".to_owned())];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stage.program(&shown, &words, &environment, &Expected { exit_code, counts: &[("failed", 0)] })
}

/// Nothing is left for DataSync to copy, rewrite or delete.
fn equivalent(stage: &mut Stage) -> Result<(), DemoError> {
    let copy = Copy { exclude: Some("*.tmp"), ..Copy::new(stage.tree.root(), &stage.server, stage.bucket, "www/") };
    let left = copy.run()?;
    ensure(left.is_nothing(), &format!("left for DataSync: {left:?}"))?;
    stage.say("  Compared: DataSync would find nothing to copy, to rewrite or to delete.")
}

fn route(report: &Value) -> &str {
    report.get("route").and_then(Value::as_str).unwrap_or_default()
}

/// How many objects this program wrote or deleted.
fn written(report: &Value) -> i64 {
    let counts = ["uploaded", "metadata_rewritten", "deleted"];
    let count = |name: &str| report.pointer(&format!("/counts/{name}")).and_then(Value::as_i64).unwrap_or_default();
    counts.into_iter().map(count).sum()
}
