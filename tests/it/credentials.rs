//! Credentials: sources that fail for a while, credentials that end or that AWS rejects.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use fake_aws::datasync::{DataSyncServer, ServiceFault};
use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{Trial, wait_until};

/// The credentials endpoint of an ECS task. The n-th response with status 200 has the key `AKIDTASK` and n.
struct CredentialsEndpoint {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl CredentialsEndpoint {
    /// The n-th response has the n-th status, or else the last one. `changes`: whether each response has another key.
    fn start(statuses: &[u16], changes: bool) -> Self {
        Self::start_for(Duration::from_hours(1), statuses, changes)
    }

    /// Like [`Self::start`], with credentials that end after `life`.
    fn start_for(life: Duration, statuses: &[u16], changes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/credentials", listener.local_addr().unwrap());
        let (requests, statuses) = (Arc::new(AtomicUsize::new(0)), statuses.to_vec());
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = seen.fetch_add(1, Ordering::SeqCst);
                let status = *statuses.get(number).or(statuses.last()).unwrap();
                let number = if changes { number } else { 0 };
                let expiration = humantime::format_rfc3339_seconds(SystemTime::now() + life);
                let body = if status == 200 {
                    format!(
                        r#"{{"AccessKeyId":"AKIDTASK{number}","SecretAccessKey":"s","Token":"t{number}","Expiration":"{expiration}"}}"#
                    )
                } else {
                    r#"{"code":"Unavailable","message":"later"}"#.to_owned()
                };
                respond(stream.unwrap(), status, &body);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The variables that make this endpoint the only source.
    fn variables(&self) -> [(&str, &str); 4] {
        [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SESSION_TOKEN", ""),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &self.url),
        ]
    }
}

fn respond(mut stream: TcpStream, status: u16, body: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        request.extend(byte);
    }
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all((head + body).as_bytes());
}

/// The access key of the last request of an operation.
fn key(trial: &Trial, operation: Operation) -> String {
    let request = trial.s3.requests(operation).pop().unwrap();
    let credential = request.headers["authorization"].split_once("Credential=").unwrap().1.to_owned();
    credential.split_once('/').unwrap().0.to_owned()
}

/// Asserts that a log has no debug text of the SDK.
fn assert_is_plain(log: &str) {
    for part in ["Unhandled", "StatusCode(", " { ", "provider failed"] {
        assert!(!log.contains(part), "{part}: {log}");
    }
}

fn expired() -> Fault {
    Fault::status(400, "ExpiredToken")
}

#[test]
fn source_that_throttles_or_fails_at_the_start_is_asked_again() {
    for statuses in [&[429, 429, 200][..], &[500, 502, 503, 504, 500, 503, 200], &[408, 200]] {
        let trial = Trial::new();
        trial.write("a", "1");
        let endpoint = CredentialsEndpoint::start(statuses, true);
        trial.start_with(&[], &endpoint.variables()).end().expect(0);
        trial.assert_same();
        assert_eq!(endpoint.requests(), statuses.len(), "one fetch serves all requests");
    }
}

#[test]
fn source_that_refuses_is_not_asked_again() {
    let trial = Trial::new();
    trial.write("a", "1");
    let endpoint = CredentialsEndpoint::start(&[403], true);
    let run = trial.start_with(&[], &endpoint.variables()).end().expect(1);
    assert!(run.stderr.contains("cannot fetch the credentials"), "{}", run.stderr);
    assert!(endpoint.requests() <= 3, "{}", endpoint.requests());
    assert_is_plain(&run.stderr);
    let why = "the credentials source failed (HTTP 403)";
    assert!(run.stderr.contains(why) && !run.stderr.contains(" WARN "), "{}", run.stderr);
}

#[test]
fn stop_request_ends_the_wait_for_credentials() {
    let trial = Trial::new();
    trial.write("a", "1");
    let endpoint = CredentialsEndpoint::start(&[503], true);
    let run = trial.start_with(&[], &endpoint.variables());
    wait_until("the run has asked for credentials", || endpoint.requests() > 0);
    run.signal("-TERM");
    run.end().expect(143);
    assert!(endpoint.requests() < 20, "{}", endpoint.requests());
}

#[test]
fn credentials_that_s3_rejects_as_expired_are_replaced() {
    for code in ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidToken", "InvalidAccessKeyId"] {
        let trial = Trial::new();
        for number in 0..8 {
            trial.write(format!("f{number}"), "1");
        }
        let endpoint = CredentialsEndpoint::start(&[200], true);
        let of_first = Fault::custom(move |request| {
            let first = request.headers["authorization"].contains("AKIDTASK0/");
            first.then(|| fake_aws::s3::Reply::error(400, code, "The provided token has expired.", ""))
        });
        trial.s3.rule(Rule::on(Operation::PutObject).always().does(of_first));
        trial.start_with(&["--retries", "2"], &endpoint.variables()).end().expect(0);
        trial.assert_same();
        assert_eq!((key(&trial, Operation::PutObject).as_str(), endpoint.requests()), ("AKIDTASK1", 2), "{code}");
    }
}

/// Refuses the first credentials of the endpoint in requests for an object. A response to HEAD has no document.
fn expired_for_reads(trial: &Trial) {
    let of_first = Fault::custom(|request| {
        let first = request.headers["authorization"].contains("AKIDTASK0/");
        first.then(|| fake_aws::s3::Reply::error(400, "ExpiredToken", "The provided token has expired.", ""))
    });
    let reads = [Operation::HeadObject, Operation::GetObject];
    trial.s3.rule(Rule::on(reads).key_contains("www/").always().does(of_first));
}

#[test]
fn a_head_with_expired_credentials_is_repeated_with_others() {
    let trial = Trial::new();
    for number in 0..8 {
        trial.write(format!("f{number}"), "1");
    }
    trial.datasync(&[]).expect(0);
    let tree = trial.tree().display().to_string();
    let words = ["s3://site/www", "--mode", "datasync", "--retries", "2"];
    for command in [&["sync", &tree, "--compare", "metadata"][..], &["verify", &tree]] {
        let endpoint = CredentialsEndpoint::start(&[200], true);
        trial.s3.clear_rules();
        expired_for_reads(&trial);
        trial.s3.clear_log();
        trial.run_words(&[command, &words].concat(), &endpoint.variables()).expect(0);
        assert_eq!((key(&trial, Operation::HeadObject).as_str(), endpoint.requests()), ("AKIDTASK1", 2), "{command:?}");
    }
}

#[test]
fn a_head_that_s3_refuses_without_a_reason_is_one_failure_with_the_reason_of_a_get() {
    let trial = Trial::new();
    for name in ["a", "b"] {
        trial.write(name, "1");
    }
    trial.datasync(&[]).expect(0);
    let encrypted = || Fault::status(400, "InvalidRequest");
    trial
        .s3
        .rule(Rule::on([Operation::HeadObject, Operation::GetObject]).key_contains("www/a").always().does(encrypted()));
    trial.s3.clear_log();
    let run = trial.datasync(&["--compare", "metadata"]).expect(3);
    let failure = run.only_failure();
    let message = failure["message"].as_str().unwrap();
    assert_eq!((failure["key"].as_str(), failure["kind"].as_str()), (Some("www/a"), Some("refused")), "{failure}");
    assert!(
        message.contains("no reason in a response to HeadObject") && message.contains("InvalidRequest"),
        "{message}"
    );
    let of_a = trial.s3.log().into_iter().filter(|request| request.key == "www/a");
    assert_eq!(
        of_a.map(|request| request.operation).collect::<Vec<_>>(),
        [Operation::HeadObject, Operation::GetObject]
    );
}

#[test]
fn credentials_without_an_end_that_s3_rejects_end_the_run() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(expired()));
    let run = trial.sync(&[]).expect(1);
    assert!(run.stderr.contains("does not accept these credentials"), "{}", run.stderr);
    assert_eq!(trial.count(Operation::ListObjectsV2), 1);
}

#[test]
fn rejected_credentials_of_a_profile_are_read_again() {
    let trial = Trial::new();
    trial.write("a", "1");
    let folder = trial.folder.path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("credentials");
    let text = |key: &str| format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n");
    std::fs::write(&file, text("AKIDOLD")).unwrap();
    // Another program renews the file.
    let renewed = text("AKIDNEW");
    let of_old = Fault::custom(move |request| {
        let old = request.headers["authorization"].contains("AKIDOLD/");
        std::fs::write(&file, &renewed).unwrap();
        old.then(|| fake_aws::s3::Reply::error(400, "ExpiredToken", "The provided token has expired.", ""))
    });
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(of_old));
    let no_keys = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SESSION_TOKEN", "")];
    trial.start_with(&[], &no_keys).end().expect(0);
    assert_eq!(key(&trial, Operation::PutObject), "AKIDNEW");
}

fn poll_meets(times: u32, stage: Duration) -> (Trial, DataSyncServer) {
    let trial = Trial::new();
    trial.write("a", "1");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| {
        service.script = vec![("TRANSFERRING", stage), ("SUCCESS", Duration::ZERO)];
        let fault = ServiceFault::error(400, "ExpiredTokenException", "The security token is expired");
        service.faults.push(("DescribeTaskExecution", times, fault));
    });
    (trial, datasync)
}

#[test]
fn expired_credentials_do_not_cancel_an_execution() {
    // Of a source with others, and without.
    for variables in [true, false] {
        let (trial, datasync) = poll_meets(1, Duration::from_secs(6));
        let endpoint = CredentialsEndpoint::start(&[200], true);
        let (source, task, url) = (trial.tree().display().to_string(), datasync.task_arn(), datasync.url());
        let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "100ms"];
        let of_endpoint = endpoint.variables();
        let mut environment = vec![("AWS_ENDPOINT_URL_DATASYNC", url.as_str())];
        environment.extend(of_endpoint.iter().filter(|_| variables));
        let run = trial.run_words(&words, &environment);
        assert_eq!(run.report["route"], "datasync", "{}", run.stderr);
        assert_eq!(datasync.count("CancelTaskExecution"), 0);
    }
}

#[test]
fn an_execution_that_the_run_cannot_see_is_not_cancelled() {
    let (trial, datasync) = poll_meets(u32::MAX, Duration::from_mins(1));
    let run = trial.run(&datasync, &[]);
    assert_eq!(datasync.count("CancelTaskExecution"), 0, "{}", run.stderr);
    assert_eq!(run.report["datasync"]["verdict"], "access_denied");
    assert!(run.report["datasync"]["evidence"].as_str().unwrap().contains("did not cancel"), "{}", run.report);
}

#[test]
fn a_credentials_source_that_fails_is_not_blamed_on_datasync() {
    let trial = Trial::new();
    trial.write("a", "1");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| service.script = vec![("TRANSFERRING", Duration::from_mins(1))]);
    let endpoint = CredentialsEndpoint::start_for(Duration::from_secs(10), &[200, 403], true);
    let (source, task, url) = (trial.tree().display().to_string(), datasync.task_arn(), datasync.url());
    let words = ["run", "--task-arn", &task, "--source", &source, "--poll-interval", "200ms", "--stall-timeout", "4s"];
    let mut environment = vec![("AWS_ENDPOINT_URL_DATASYNC", url.as_str())];
    let of_endpoint = endpoint.variables();
    environment.extend(of_endpoint);
    let run = trial.run_words(&words, &environment);
    let section = &run.report["datasync"];
    let evidence = section["evidence"].as_str().unwrap();
    for part in ["the credentials source failed (HTTP 403): cannot send requests to DataSync", "did not cancel"] {
        assert!(evidence.contains(part), "{part}: {evidence}");
    }
    assert_eq!((section["verdict"].as_str(), datasync.count("CancelTaskExecution")), (Some("access_denied"), 0));
    assert_eq!(run.stderr.matches("cannot poll the execution").count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("does not accept"), "{}", run.stderr);
    assert!(run.stderr.contains("using the old ones until they end at 20"), "{}", run.stderr);
    assert_is_plain(&run.stderr);
}
