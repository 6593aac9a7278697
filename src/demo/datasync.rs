//! DataSync first: the task succeeds, fails, hangs and recovers. Each time the bucket has the same objects. Guards check
//! the deletes after a success, and the source before a start.

use std::time::Duration;

use fake_aws::datasync::DataSyncServer;
use fake_aws::datasync::reference::Copy;
use serde_json::Value;

use super::stage::{DemoError, Expected, Stage, ensure, settle};

const STEP: Duration = Duration::from_millis(400);
const FOREVER: Duration = Duration::from_hours(1);
const DETAIL: &str =
    "Task failed to access location loc-0bb: x40016: Failed to connect to EFS mount target with IP: 10.0.0.9.";

pub(super) fn run(stage: &mut Stage) -> Result<(), DemoError> {
    let datasync = DataSyncServer::start("aws-us-gov", "us-gov-west-1")?;
    let (tree, server, bucket) = (stage.tree.root().to_owned(), stage.server.clone(), stage.bucket);
    datasync.change(|service| {
        service.destination_uri = format!("s3://{bucket}/www/");
        service.exclude = Some("*.tmp".to_owned());
        service.on_success = Some(Box::new(move |options| {
            // If the copy fails, the demo finds the missing objects.
            let _ = Copy { exclude: Some("*.tmp"), ..Copy::new(&tree, &server, bucket, "www/") }.with(options).run();
        }));
    });
    stage.print(
        "\n\nThe same site, which a DataSync task in GovCloud copies. `run` reads its configuration from the task.",
    )?;

    settle();
    stage.title("The task succeeds: the run compares the bucket with the source, and writes nothing")?;
    datasync.change(|service| {
        service.script =
            ["LAUNCHING", "PREPARING", "TRANSFERRING", "VERIFYING", "SUCCESS"].map(|status| (status, STEP)).into();
    });
    let report = run_task(stage, &datasync, &[], 0)?;
    ensure(route(&report) == "datasync" && written(&report) == 0, "the run wrote objects itself")?;
    check_equivalent(stage)?;

    stage.title("A page is deleted: the execution deletes nothing, and the run deletes the page under its guards")?;
    stage.tree.delete("products/page-020.html")?;
    let report = run_task(stage, &datasync, &[], 0)?;
    ensure(route(&report) == "datasync" && count(&report, "deleted") == 1, "the run did not delete the page itself")?;
    check_equivalent(stage)?;

    settle();
    settle();
    stage.title("The task fails: the run syncs directly, with the same objects and metadata as DataSync")?;
    stage.tree.edit()?;
    datasync.change(|service| {
        service.script = vec![("LAUNCHING", STEP), ("ERROR", STEP)];
        service.error = ("OpNotSupp".to_owned(), DETAIL.to_owned());
    });
    let report = run_task(stage, &datasync, &[], 0)?;
    ensure(route(&report) == "fallback" && written(&report) > 0, "the run did not fall back to the direct sync")?;
    check_equivalent(stage)?;

    stage.title("The task hangs while it launches: the run cancels it, waits for its end and syncs directly")?;
    stage.tree.touch_all()?;
    datasync.change(|service| service.script = vec![("LAUNCHING", FOREVER)]);
    let report = run_task(stage, &datasync, &["--queue-timeout", "2s"], 0)?;
    ensure(
        route(&report) == "fallback" && datasync.count("CancelTaskExecution") == 1,
        "the run did not cancel the execution",
    )?;
    check_equivalent(stage)?;

    settle();
    stage.title("The task has failed too often: the breaker opens, and the next run syncs directly without it")?;
    let state_folder = stage.beside("state");
    let breaker = ["--state", state_folder.as_str(), "--breaker-failures", "1", "--breaker-cooldown", "3s"];
    datasync.change(|service| service.script = vec![("ERROR", STEP)]);
    run_task(stage, &datasync, &breaker, 0)?;
    let starts = datasync.count("StartTaskExecution");
    let report = run_task(stage, &datasync, &breaker, 0)?;
    ensure(route(&report) == "direct" && datasync.count("StartTaskExecution") == starts, "the breaker did not open")?;

    stage.title("After the cooldown, the next run starts the task again, which has nothing to copy")?;
    std::thread::sleep(Duration::from_secs(3));
    datasync.change(|service| service.script = vec![("TRANSFERRING", STEP), ("SUCCESS", STEP)]);
    let before = stage.server.log().len();
    let report = run_task(stage, &datasync, &breaker, 0)?;
    ensure(route(&report) == "datasync" && written(&report) == 0, "the run did not use the recovered task")?;
    let requests = stage.server.log().len() - before;
    stage.print(&format!(
        "  The bucket received {requests} requests: a sample of its keys before the start, and a listing after the success."
    ))?;
    check_equivalent(stage)?;
    guards(stage, &datasync)
}

/// Two mistakes that would empty the bucket if DataSync deleted itself.
fn guards(stage: &mut Stage, datasync: &DataSyncServer) -> Result<(), DemoError> {
    let objects = |stage: &Stage| stage.server.keys(stage.bucket, "www/").len();
    let before = objects(stage);

    stage.title("The images are moved away by mistake: the task succeeds, and a guard withholds the deletes")?;
    stage.tree.lose_images()?;
    let report = run_task(stage, datasync, &[], 3)?;
    ensure(
        route(&report) == "datasync" && count(&report, "deletes_withheld") > 100 && objects(stage) == before,
        "no guard withheld the deletes",
    )?;

    stage.title("The file system is not mounted, so the source is empty: the run does not start the task")?;
    stage.tree.unmount()?;
    let starts = datasync.count("StartTaskExecution");
    run_task(stage, datasync, &[], 3)?;
    ensure(
        datasync.count("StartTaskExecution") == starts && objects(stage) == before,
        "the run started the task although the source is empty",
    )?;
    stage.print(&format!("\nAll {before} objects still exist."))
}

/// Runs `efs2s3 run` with the task and these options.
fn run_task(
    stage: &mut Stage,
    datasync: &DataSyncServer,
    options: &[&str],
    exit_code: i64,
) -> Result<Value, DemoError> {
    let (task, source) = (datasync.task_arn(), stage.tree.root().display().to_string());
    let shown = format!("run --task-arn {task} --source {source} {}", options.join(" "));
    let words: Vec<&str> = [&["run", "--task-arn", &task, "--source", &source], options].concat();
    let environment = [("AWS_ENDPOINT_URL_DATASYNC", datasync.url()), ("EFS2S3_POLL_INTERVAL", "300ms".to_owned())];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stage.program(&shown, &words, &environment, &Expected { exit_code, counts: &[("failed", 0)] })
}

/// Checks that DataSync would have nothing to copy, rewrite or delete.
fn check_equivalent(stage: &mut Stage) -> Result<(), DemoError> {
    let copy = Copy { exclude: Some("*.tmp"), ..Copy::new(stage.tree.root(), &stage.server, stage.bucket, "www/") };
    let written = copy.run()?;
    ensure(written.is_nothing(), &format!("DataSync still had to write: {written:?}"))?;
    stage.print("  Compared: DataSync would have nothing to copy, rewrite or delete.")
}

fn route(report: &Value) -> &str {
    report.get("route").and_then(Value::as_str).unwrap_or_default()
}

/// The number of objects that the run itself wrote or deleted.
fn written(report: &Value) -> i64 {
    ["uploaded", "metadata_rewritten", "deleted"].into_iter().map(|name| count(report, name)).sum()
}

fn count(report: &Value, name: &str) -> i64 {
    report.pointer(&format!("/counts/{name}")).and_then(Value::as_i64).unwrap_or_default()
}
