//! The program as a Lambda function: a fake runtime starts it and sends events.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fake_aws::datasync::{DataSyncServer, ServiceFault};
use serde_json::{Value, json};

use crate::permissions::documented_of_datasync;
use crate::trial::wait_until;

const FOREVER: Duration = Duration::from_hours(1);

/// Status, headers and body.
type HttpResponse = (u16, Vec<(&'static str, String)>, String);

/// Starts a server that calls `respond` with each request's method, path and body. Returns its address.
fn serve(respond: impl Fn(&str, &str, &str) -> Option<HttpResponse> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let respond = Arc::new(respond);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let respond = Arc::clone(&respond);
            thread::spawn(move || respond_to_all(&stream, &*respond));
        }
    });
    address
}

fn respond_to_all(stream: &TcpStream, respond: &dyn Fn(&str, &str, &str) -> Option<HttpResponse>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length, mut chunked) = (String::new(), 0, false);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(number) = line.strip_prefix("content-length:") {
                length = number.trim().parse().unwrap();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        while chunked {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).unwrap() + 2];
            reader.read_exact(&mut chunk).unwrap();
            chunk.truncate(chunk.len() - 2);
            chunked = !chunk.is_empty();
            body.extend(chunk);
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some((status, headers, content)) = respond(method, path, &String::from_utf8_lossy(&body)) else {
            return;
        };
        let headers = headers.iter().fold(String::new(), |text, (name, value)| text + name + ": " + value + "\r\n");
        let length = content.len();
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{content}").unwrap();
    }
}

/// The function's process, its responses to the events, and its `RunTask` requests.
struct Function {
    child: Child,
    responses: Arc<Mutex<Vec<(String, Value)>>>,
    tasks: Arc<Mutex<Vec<Value>>>,
}

const ECS: [(&str, &str); 4] = [
    ("EFS2S3_ECS_CLUSTER", "site"),
    ("EFS2S3_ECS_TASK_DEFINITION", "efs2s3:7"),
    ("EFS2S3_ECS_SUBNETS", "subnet-1,subnet-2"),
    ("EFS2S3_ECS_SECURITY_GROUPS", "sg-1"),
];

impl Function {
    /// Starts the function. The runtime sends `events`; ECS responds to `RunTask` with `run_task`.
    fn start(datasync: &DataSyncServer, events: &[Value], environment: &[(&str, &str)], run_task: Value) -> Self {
        let (responses, tasks) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let events: Mutex<VecDeque<Value>> = Mutex::new(events.iter().cloned().collect());
        let (noted, asked) = (Arc::clone(&responses), Arc::clone(&tasks));
        let runtime = serve(move |method, path, body| {
            if method == "POST" {
                noted.lock().unwrap().push((path.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null)));
                return Some((202, Vec::new(), String::new()));
            }
            // Lambda holds the request until an event arrives.
            let Some(event) = events.lock().unwrap().pop_front() else {
                thread::sleep(FOREVER);
                return None;
            };
            let headers = vec![
                ("Lambda-Runtime-Aws-Request-Id", "request-1".to_owned()),
                ("Lambda-Runtime-Deadline-Ms", "4102444800000".to_owned()),
                ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned()),
            ];
            Some((200, headers, event.to_string()))
        });
        let ecs = serve(move |_, _, body| {
            asked.lock().unwrap().push(serde_json::from_str(body).unwrap());
            Some((200, vec![("Content-Type", "application/x-amz-json-1.1".to_owned())], run_task.to_string()))
        });
        let child = Command::new(env!("CARGO_BIN_EXE_efs2s3"))
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", "AKIDTRIAL"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "us-east-1")])
            .envs([("AWS_LAMBDA_FUNCTION_NAME", "f"), ("AWS_LAMBDA_FUNCTION_VERSION", "1")])
            .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"), ("AWS_LAMBDA_LOG_GROUP_NAME", "g")])
            .envs([("AWS_LAMBDA_LOG_STREAM_NAME", "s"), ("_HANDLER", "bootstrap"), ("AWS_ENDPOINT_URL", "")])
            .env("AWS_LAMBDA_RUNTIME_API", runtime)
            .env("AWS_ENDPOINT_URL_DATASYNC", datasync.url())
            .env("AWS_ENDPOINT_URL_ECS", format!("http://{ecs}"))
            .env("EFS2S3_TASK_ARN", datasync.task_arn())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, responses, tasks }
    }

    /// Waits for `count` responses. Returns whether each is a response or an error, and its body.
    #[track_caller]
    fn responses(&self, count: usize) -> Vec<(bool, Value)> {
        wait_until("the function responds to the events", || self.responses.lock().unwrap().len() >= count);
        let responses = self.responses.lock().unwrap();
        responses.iter().map(|(path, body)| (path.ends_with("/response"), body.clone())).collect()
    }

    fn tasks(&self) -> Vec<Value> {
        self.tasks.lock().unwrap().clone()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn datasync(script: &[(&'static str, Duration)]) -> DataSyncServer {
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| {
        service.script = script.to_vec();
        service.error = ("OpNotSupp".to_owned(), "no way to the mount target".to_owned());
    });
    datasync
}

/// A task whose executions succeed.
fn succeeded() -> DataSyncServer {
    let datasync = datasync(&[("SUCCESS", Duration::ZERO)]);
    datasync.change(|service| service.error = (String::new(), String::new()));
    datasync
}

fn scheduled() -> Value {
    json!({ "version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "resources": ["arn:aws:events:us-east-1:123456789012:rule/r"], "detail": {} })
}

fn ended(execution: &str, state: &str) -> Value {
    json!({ "source": "aws.datasync", "detail-type": "DataSync Task Execution State Change", "resources": [execution], "detail": { "State": state } })
}

fn started() -> Value {
    json!({ "tasks": [{ "taskArn": "arn:aws:ecs:us-east-1:123456789012:task/site/1" }], "failures": [] })
}

#[test]
fn a_repeated_schedule_event_starts_one_execution() {
    let datasync = datasync(&[("TRANSFERRING", FOREVER)]);
    let function = Function::start(&datasync, &[scheduled(), scheduled(), json!({})], &[], started());
    let responses = function.responses(3);
    assert_eq!(datasync.count("StartTaskExecution"), 1);
    assert_eq!(responses[0], (true, json!({ "execution_arn": responses[0].1["execution_arn"], "started": true })));
    for response in &responses[1..] {
        assert_eq!(*response, (true, json!({ "execution_arn": responses[0].1["execution_arn"], "started": false })));
    }
    assert!(responses[0].1["execution_arn"].as_str().unwrap().contains("/execution/exec-"));
    assert!(function.tasks().is_empty());
}

#[test]
fn a_start_after_another_callers_start_is_not_an_error() {
    let datasync = datasync(&[("TRANSFERRING", FOREVER)]);
    datasync.change(|service| service.other_client_starts_first = true);
    let function = Function::start(&datasync, &[scheduled()], &[], started());
    assert_eq!(function.responses(1)[0].1["started"], false);
}

#[test]
fn a_repeated_failure_event_starts_the_fallback_with_one_token() {
    let datasync = datasync(&[("ERROR", Duration::ZERO)]);
    let execution = datasync.start_execution();
    let event = ended(&execution, "ERROR");
    let function = Function::start(&datasync, &[event.clone(), event], &ECS, started());
    let responses = function.responses(2);
    assert!(responses.iter().all(|(is_response, _)| *is_response), "{responses:?}");
    assert_eq!(responses[0].1["fallback_task_arn"], "arn:aws:ecs:us-east-1:123456789012:task/site/1");
    assert_eq!(responses[0].1["error"], "no way to the mount target");
    let tasks = function.tasks();
    assert_eq!((tasks.len(), &tasks[0]["clientToken"]), (2, &tasks[1]["clientToken"]));
    assert!(tasks[0]["clientToken"].as_str().unwrap().len() <= 64);
    assert_eq!((tasks[0]["cluster"].as_str(), tasks[0]["taskDefinition"].as_str()), (Some("site"), Some("efs2s3:7")));
    let network = &tasks[0]["networkConfiguration"]["awsvpcConfiguration"];
    assert_eq!((&network["subnets"], &network["securityGroups"]), (&json!(["subnet-1", "subnet-2"]), &json!(["sg-1"])));
    let container = &tasks[0]["overrides"]["containerOverrides"][0];
    assert_eq!(container["environment"], json!([{ "name": "EFS2S3_POLICY", "value": "direct-only" }]));
    assert_eq!(datasync.count("StartTaskExecution"), 0);
}

#[test]
fn a_task_that_ecs_does_not_start_is_an_error_despite_status_200() {
    for response in [
        json!({ "tasks": [], "failures": [{ "reason": "RESOURCE:CPU", "detail": "no capacity" }] }),
        json!({ "tasks": [] }),
    ] {
        let datasync = datasync(&[("ERROR", Duration::ZERO)]);
        let execution = datasync.start_execution();
        let function = Function::start(&datasync, &[ended(&execution, "ERROR")], &ECS, response);
        let (is_response, body) = function.responses(1).remove(0);
        assert!(!is_response && body["errorMessage"].as_str().unwrap().contains("did not start"), "{body}");
    }
}

#[test]
fn events_that_start_nothing_return_the_reason() {
    let datasync = succeeded();
    let execution = datasync.start_execution();
    let other = execution.replace("abcdef0/", "abcdef1/");
    let events = [ended(&execution, "SUCCESS"), ended(&other, "ERROR")];
    let function = Function::start(&datasync, &events, &ECS, started());
    let responses = function.responses(2);
    assert_eq!(responses[0], (true, json!({ "execution_arn": execution, "state": "SUCCESS" })));
    assert!(responses[1].0 && responses[1].1["ignored"].is_string(), "{responses:?}");
    assert!(function.tasks().is_empty() && datasync.count("StartTaskExecution") == 0);
}

#[test]
fn the_function_uses_exactly_the_documented_datasync_actions() {
    let first = datasync(&[("TRANSFERRING", FOREVER)]);
    let events = [scheduled(), scheduled()];
    Function::start(&first, &events, &[], started()).responses(2);
    let second = datasync(&[("ERROR", Duration::ZERO)]);
    let execution = second.start_execution();
    Function::start(&second, &[ended(&execution, "ERROR")], &ECS, started()).responses(1);
    let asked = &first.operations() | &second.operations();
    assert_eq!(asked, documented_of_datasync(&["the Lambda function"]));
}

#[test]
fn the_alarms_in_deploy_match_the_log_line_of_a_success() {
    let datasync = succeeded();
    let execution = datasync.start_execution();
    let mut function = Function::start(&datasync, &[ended(&execution, "SUCCESS")], &ECS, started());
    function.responses(1);
    function.child.kill().unwrap();
    let mut text = String::new();
    function.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let line =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["answer"].is_string());
    let line = line.unwrap();
    assert_eq!(line["message"], "answered");
    assert!(line["answer"].as_str().unwrap().contains("SUCCESS"), "{line}");
    let module = include_str!("../../deploy/terraform/alarms.tf");
    let template = include_str!("../../deploy/cloudformation/efs2s3.yaml");
    assert!(module.contains(r#"{ $.message = \"answered\" && $.answer = \"*SUCCESS*\" }"#));
    assert!(template.contains(r#"{ $.message = "answered" && $.answer = "*SUCCESS*" }"#));
}

#[test]
fn an_empty_endpoint_variable_is_not_a_warning() {
    let datasync = datasync(&[("TRANSFERRING", FOREVER)]);
    let mut function = Function::start(&datasync, &[scheduled()], &[("AWS_ENDPOINT_URL", "")], started());
    function.responses(1);
    function.child.kill().unwrap();
    let mut text = String::new();
    function.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("answered") && !text.contains("endpoint URL"), "{text}");
}

#[test]
fn a_cancelled_execution_starts_no_fallback() {
    let datasync = datasync(&[("LAUNCHING", FOREVER)]);
    let execution = datasync.start_execution();
    datasync.change(|service| {
        service.script = vec![("ERROR", Duration::ZERO)];
        service.error = ("Cancelled".to_owned(), "Task execution was cancelled.".to_owned());
    });
    let cancelled = datasync.start_execution();
    let function = Function::start(&datasync, &[ended(&cancelled, "ERROR")], &ECS, started());
    assert_eq!(function.responses(1)[0].1["ignored"], "the execution was cancelled");
    assert!(function.tasks().is_empty() && execution != cancelled);
}

/// DataSync reports SUCCESS, and its counters or its result show that files failed.
#[test]
fn a_success_with_failed_files_starts_the_fallback() {
    let results = [
        json!({ "FilesFailed": { "Transfer": 3 } }),
        json!({ "FoldersFailed": { "List": 1 } }),
        json!({ "Result": { "ErrorCode": "VerificationFailed" } }),
        json!({ "Result": { "VerifyStatus": "ERROR" } }),
        json!({ "Status": "ERROR" }),
    ];
    for result in results {
        let datasync = succeeded();
        let execution = datasync.start_execution();
        let changes = result.clone();
        let change = move |response: &mut Value| {
            for (name, value) in changes.as_object().unwrap() {
                response[name] = value.clone();
            }
        };
        datasync.change(|service| service.falsify = Some(("DescribeTaskExecution", Box::new(change))));
        let function = Function::start(&datasync, &[ended(&execution, "SUCCESS")], &ECS, started());
        let (_, response) = function.responses(1).remove(0);
        assert!(response["fallback_task_arn"].is_string() && response["state"].is_null(), "{result}: {response}");
    }
}

/// The event may come before the description shows the end.
#[test]
fn the_event_of_an_end_that_the_description_does_not_show_starts_no_fallback() {
    let datasync = datasync(&[("CANCELLING", FOREVER)]);
    let execution = datasync.start_execution();
    let function = Function::start(&datasync, &[ended(&execution, "ERROR")], &ECS, started());
    assert_eq!(function.responses(1)[0].1["ignored"], "the execution was cancelled");
    let running = self::datasync(&[("VERIFYING", FOREVER)]);
    let execution = running.start_execution();
    let function = Function::start(&running, &[ended(&execution, "ERROR")], &ECS, started());
    let (succeeded, response) = &function.responses(1)[0];
    assert!(!succeeded && response.to_string().contains("VERIFYING"), "Lambda delivers the event again: {response}");
    assert!(function.tasks().is_empty());
}

#[test]
fn a_failure_whose_detail_mentions_a_cancel_starts_the_fallback() {
    let datasync = datasync(&[("ERROR", Duration::ZERO)]);
    datasync.change(|service| {
        let detail = "Failed to open /assets/cancellation-policy.html: the request was cancelled";
        service.error = ("FsS3Error".to_owned(), detail.to_owned());
    });
    let execution = datasync.start_execution();
    let function = Function::start(&datasync, &[ended(&execution, "ERROR")], &ECS, started());
    assert!(function.responses(1)[0].1["fallback_task_arn"].is_string());
    assert_eq!(function.tasks().len(), 1);
}

#[test]
fn an_event_of_datasync_that_cannot_be_read_is_an_error_and_starts_nothing() {
    let datasync = datasync(&[("ERROR", Duration::ZERO)]);
    let execution = datasync.start_execution();
    let mut task = ended(&execution, "ERROR");
    task["detail-type"] = "DataSync Task State Change".into();
    let events = [task, ended("", "ERROR"), ended(&execution, "FAILED")];
    let function = Function::start(&datasync, &events, &ECS, started());
    for (is_response, body) in function.responses(3) {
        let message = body["errorMessage"].as_str().unwrap_or_default();
        assert!(!is_response && message.contains("started nothing"), "{body}");
    }
    assert!(function.tasks().is_empty() && datasync.count("StartTaskExecution") == 0);
}

#[test]
fn without_a_fallback_the_error_names_the_variables_to_set() {
    let datasync = datasync(&[("ERROR", Duration::ZERO)]);
    let execution = datasync.start_execution();
    let function = Function::start(&datasync, &[ended(&execution, "ERROR")], &[], started());
    let (is_response, body) = function.responses(1).remove(0);
    assert!(!is_response && body["errorMessage"].as_str().unwrap().contains("EFS2S3_ECS_CLUSTER"), "{body}");
}

#[test]
fn a_datasync_error_is_an_error_of_the_function() {
    let datasync = datasync(&[]);
    let denied = ServiceFault::error(400, "AccessDeniedException", "not authorized to perform: datasync:DescribeTask");
    datasync.change(|service| service.faults.push(("DescribeTask", u32::MAX, denied)));
    let function = Function::start(&datasync, &[scheduled()], &[], started());
    let (is_response, body) = function.responses(1).remove(0);
    assert!(!is_response && body["errorMessage"].as_str().unwrap().contains("datasync:DescribeTask"), "{body}");
}

#[test]
fn a_start_that_datasync_denies_is_an_error_and_starts_no_fallback() {
    let datasync = datasync(&[]);
    let denied =
        ServiceFault::error(400, "AccessDeniedException", "not authorized to perform: datasync:StartTaskExecution");
    datasync.change(|service| service.faults.push(("StartTaskExecution", u32::MAX, denied)));
    let function = Function::start(&datasync, &[scheduled()], &ECS, started());
    let (is_response, body) = function.responses(1).remove(0);
    let message = body["errorMessage"].as_str().unwrap();
    assert!(!is_response && message.contains("datasync:StartTaskExecution"), "{body}");
    assert!(function.tasks().is_empty(), "no execution has failed");
}

#[test]
fn a_start_error_names_the_missing_or_wrong_variable() {
    let datasync = datasync(&[]);
    for (environment, message) in [
        (&[("EFS2S3_TASK_ARN", "")][..], "EFS2S3_TASK_ARN is not set"),
        (&[("EFS2S3_TASK_ARN", "task-1")], "is not an ARN of a DataSync task"),
        (&[("EFS2S3_ECS_CLUSTER", "site")], "EFS2S3_ECS_TASK_DEFINITION is not set"),
    ] {
        let mut function = Function::start(&datasync, &[scheduled()], environment, started());
        let mut text = String::new();
        function.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(function.child.wait().unwrap().code(), Some(2), "{text}");
        assert!(text.contains(message), "{text}");
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "logs are lines of JSON: {text}");
    }
    assert!(datasync.log().is_empty());
}
