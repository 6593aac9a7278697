//! Tests of the server over raw HTTP, and of the reference copy.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::reference::Copy;
use super::*;
use crate::client::{self, Received};
use crate::s3::S3Server;

fn server() -> DataSyncServer {
    DataSyncServer::start("aws", "eu-central-1").unwrap()
}

fn send(server: &DataSyncServer, operation: &str, body: &Value) -> io::Result<Received> {
    let target = format!("FmrsService.{operation}");
    client::send(server.listener.address, "POST", "/", &[("X-Amz-Target", &target)], body.to_string().as_bytes())
}

fn request(server: &DataSyncServer, operation: &str, body: &Value) -> (u16, Value) {
    let response = send(server, operation, body).unwrap();
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

fn start(server: &DataSyncServer) -> Value {
    let (status, response) = request(server, "StartTaskExecution", &json!({ "TaskArn": server.task_arn() }));
    assert_eq!(status, 200, "{response}");
    response
}

/// Polls an execution until it has this status.
fn wait_for(server: &DataSyncServer, execution: &Value, status: &str) -> Value {
    let start = Instant::now();
    loop {
        let (_, response) = request(server, "DescribeTaskExecution", execution);
        if response["Status"] == status {
            return response;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{response}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_execution_follows_its_script_and_does_its_work_once() {
    let server = server();
    let done = Arc::new(AtomicU64::new(0));
    let work = Arc::clone(&done);
    server.change(|service| {
        service.script = vec![("LAUNCHING", Duration::from_millis(200)), ("SUCCESS", Duration::ZERO)];
        service.on_success = Some(Box::new(move |_| {
            work.fetch_add(1, Ordering::SeqCst);
        }));
    });
    let execution = start(&server);
    assert_eq!(wait_for(&server, &execution, "LAUNCHING")["Result"]["ErrorCode"], "");
    assert_eq!(done.load(Ordering::SeqCst), 0);
    for _ in 0..2 {
        wait_for(&server, &execution, "SUCCESS");
    }
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert_eq!(server.count("StartTaskExecution"), 1);
}

#[test]
fn a_start_overrides_options_unless_the_service_ignores_it() {
    let server = server();
    server.change(|service| service.script = vec![("SUCCESS", Duration::ZERO)]);
    let preserve = json!({ "PreserveDeletedFiles": "PRESERVE" });
    let body = json!({ "TaskArn": server.task_arn(), "OverrideOptions": preserve });
    for (ignores, kept, deleted) in [(false, "PRESERVE", 0), (true, "REMOVE", 7)] {
        server.change(|service| (service.ignores_override, service.counters_move) = (ignores, false));
        let (_, execution) = request(&server, "StartTaskExecution", &body);
        let (_, described) = request(&server, "DescribeTaskExecution", &execution);
        assert_eq!(described["Options"]["PreserveDeletedFiles"], kept);
        assert_eq!(described["Options"]["OverwriteMode"], "ALWAYS", "the other options are those of the task");
        assert_eq!(described["FilesDeleted"], deleted);
    }
}

#[test]
fn a_second_execution_is_refused_while_one_runs() {
    let server = server();
    server.change(|service| service.script = vec![("TRANSFERRING", Duration::from_mins(1))]);
    start(&server);
    let (status, response) = request(&server, "StartTaskExecution", &json!({ "TaskArn": server.task_arn() }));
    assert_eq!((status, &response["__type"]), (400, &"InvalidRequestException".into()));
}

#[test]
fn a_cancelled_execution_ends_with_an_error() {
    let server = server();
    server.change(|service| service.script = vec![("LAUNCHING", Duration::from_mins(1))]);
    let execution = start(&server);
    assert_eq!(request(&server, "CancelTaskExecution", &execution).0, 200);
    wait_for(&server, &execution, "CANCELLING");
    assert_eq!(wait_for(&server, &execution, "ERROR")["Result"]["ErrorCode"], "Cancelled");
}

#[test]
fn faults_apply_to_as_many_requests_as_they_say() {
    let server = server();
    let throttled = ServiceFault::error(400, "ThrottlingException", "Rate exceeded");
    server.change(|service| {
        service.faults = vec![("DescribeTask", 1, throttled.clone()), ("DescribeTask", 1, ServiceFault::Reset)];
        service.late_fault = Some(("ListTaskExecutions", 1, throttled));
    });
    let body = json!({ "TaskArn": server.task_arn() });
    assert_eq!(request(&server, "DescribeTask", &body).1["__type"], "ThrottlingException");
    assert!(send(&server, "DescribeTask", &body).is_err());
    assert_eq!(request(&server, "DescribeTask", &body).0, 200);
    let statuses = [(); 3].map(|()| request(&server, "ListTaskExecutions", &body).0);
    assert_eq!(statuses, [200, 400, 400]);
}

#[test]
fn the_reference_copies_a_tree_once_and_deletes_what_the_tree_lacks() {
    let s3 = S3Server::start_blocking().unwrap();
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("a")).unwrap();
    fs::write(tree.path().join("a/b"), "content").unwrap();
    fs::write(tree.path().join("x.tmp"), "excluded").unwrap();
    s3.put("site", "www/orphan", "", crate::s3::Seed::default());
    let copy = Copy { exclude: Some("*.tmp"), ..Copy::new(tree.path(), &s3, "site", "www/") };
    let written = copy.run().unwrap();
    assert_eq!((written.copied, written.deleted), (vec!["www/a/".into(), "www/a/b".into()], vec!["www/orphan".into()]));
    assert_eq!(s3.body("site", "www/a/b").unwrap(), "content");
    let object = s3.object("site", "www/a/b").unwrap();
    assert!(object.metadata("file-mtime").unwrap().ends_with("ns"));
    assert!(copy.run().unwrap().is_nothing());
}
