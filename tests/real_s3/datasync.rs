//! moto's `DataSync`. It starts executions, advances them by a stage at each poll, and never fails. It does not support EFS
//! locations, so `efs2s3 run` cannot take its configuration from a task there.

use std::time::Duration;

use aws_sdk_datasync::Client;
use aws_sdk_datasync::types::S3Config;
use efs2s3::datasync::error::ServiceErrorKind;
use efs2s3::datasync::{DataSync, Patience, Status, TaskArn};
use efs2s3::shutdown::Shutdown;

use crate::site::{Server, Site};

/// A task between two locations on S3, and this program's client for it.
async fn task() -> (TaskArn, DataSync) {
    let shared = aws_config::defaults(aws_config::BehaviorVersion::latest()).load().await;
    let client = Client::new(&shared);
    let role = S3Config::builder().bucket_access_role_arn("arn:aws:iam::123456789012:role/datasync").build().unwrap();
    let mut locations = Vec::new();
    for bucket in ["from", "to"] {
        let location = client.create_location_s3().s3_bucket_arn(format!("arn:aws:s3:::{bucket}"));
        let location = location.s3_config(role.clone()).send().await.unwrap();
        locations.push(location.location_arn().unwrap().to_owned());
    }
    let task = client.create_task().source_location_arn(&locations[0]).destination_location_arn(&locations[1]);
    let arn = task.send().await.unwrap().task_arn().unwrap().to_owned();
    let arn: TaskArn = arn.parse().unwrap();
    let datasync =
        DataSync::connect(arn.clone(), Patience::new(Duration::from_mins(1), None), Shutdown::default()).await.unwrap();
    (arn, datasync)
}

#[test]
fn moto_runs_an_execution_to_success() {
    let Some(_site) = Site::on(Server::Moto) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (arn, datasync) = task().await;
        let execution = datasync.start(None).await.unwrap();
        assert_eq!(datasync.latest_execution().await.unwrap().as_ref(), Some(&execution));
        assert_eq!(
            datasync.start(None).await.unwrap_err().kind,
            ServiceErrorKind::Refused,
            "an execution is running already"
        );
        let mut seen = Vec::new();
        while seen.last() != Some(&Status::Succeeded) {
            seen.push(datasync.describe_execution(&execution).await.unwrap().status);
            assert!(seen.len() < 10, "{seen:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen.dedup();
        assert_eq!(seen, [Status::Queued, Status::Preparing, Status::Transferring, Status::Succeeded]);

        let second = datasync.start(None).await.unwrap();
        datasync.cancel(&second).await.unwrap();
        let unknown = arn.execution(&second.as_str().replace("exec-0", "exec-f")).unwrap();
        assert!(datasync.describe_execution(&unknown).await.is_err());
    });
}

#[test]
fn run_without_an_efs_location_starts_nothing() {
    let Some(site) = Site::on(Server::Moto) else { return };
    site.write("a", "1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (arn, datasync) = runtime.block_on(task());
    let run = site.run(&["--task-arn", arn.as_str(), "--policy", "datasync-only"]).expect(1);
    assert!(run.stderr.contains("no EFS location") || run.stderr.contains("DataSync"), "{}", run.stderr);
    assert_eq!(runtime.block_on(datasync.latest_execution()).unwrap(), None);
}
