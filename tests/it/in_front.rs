//! Pages of something in front of S3: their status is not S3's word about an object.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Reply, Rule, Seed};

use crate::trial::{Trial, WRITES, random};

const LONG_AGO: Duration = Duration::from_secs(1000);
const IN_PARTS: [&str; 4] = ["--multipart-threshold", "6MiB", "--part-size", "5MiB"];
const WORDS: &str = "something between this program and S3 responds";

/// The page of nginx.
fn page(status: u16) -> Fault {
    Fault::page_in_front(status, "text/html", "<html><head><title>Error</title></head><hr>nginx</html>")
}

/// Pages that say that something does not exist.
fn not_found() -> [Fault; 3] {
    let empty = Reply { headers: Vec::new(), ..Reply::empty(404) };
    [page(404), Fault::page_in_front(404, "text/plain; charset=utf-8", "404 page not found\n"), Fault::InFront(empty)]
}

fn set_mode(trial: &Trial, name: &str) {
    fs::set_permissions(trial.tree().join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_page_does_not_show_that_a_listed_object_is_absent() {
    for fault in not_found() {
        for operation in [Operation::HeadObject, Operation::CopyObject] {
            let trial = Trial::new();
            trial.write("file", "1");
            let seed = Seed::aged(LONG_AGO).header("cache-control", "max-age=9").header("x-amz-meta-mine", "kept");
            trial.s3.put("site", "www/file", "1", seed);
            set_mode(&trial, "file");
            trial.s3.rule(Rule::on(operation).key_contains("file").does(fault.clone()));
            let run = trial.datasync(&[]).expect(0);
            assert_eq!(run.counted("metadata_rewritten"), 1, "{operation:?} {fault:?}: {}", run.report["counts"]);
            let object = trial.stored("file");
            let kept = (object.headers.get("cache-control").map(String::as_str), object.metadata("mine"));
            assert_eq!(kept, (Some("max-age=9"), Some("kept")), "{operation:?} {fault:?}");
            assert_eq!(trial.count(Operation::PutObject), 0, "{operation:?} {fault:?}");
        }
    }
}

#[test]
fn one_page_for_any_request_is_retried() {
    let operations = [
        Operation::ListObjectsV2,
        Operation::PutObject,
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
        Operation::DeleteObjects,
        Operation::DeleteObject,
    ];
    // Each run waits until its files are no longer young.
    thread::scope(|scope| {
        for operation in operations {
            scope.spawn(move || {
                for status in [301, 404, 412, 501] {
                    one_page(operation, status);
                }
            });
        }
    });
}

fn one_page(operation: Operation, status: u16) {
    let trial = Trial::new();
    for name in ["new", "changed"] {
        trial.write(name, format!("{name} now"));
    }
    trial.write("large", random(7 << 20));
    for name in ["changed", "large", "orphan", "orphan\u{1}"] {
        trial.object(name, "before", LONG_AGO);
    }
    trial.s3.rule(Rule::on(operation).does(page(status)));
    let run = trial.sync(&[&IN_PARTS[..], &["--delete"]].concat()).expect(0);
    trial.assert_same();
    assert_eq!([run.counted("uploaded"), run.counted("deleted")], [3, 2], "{operation:?} {status}");
    let starts = if operation == Operation::CreateMultipartUpload { 2 } else { 1 };
    let uploads = [Operation::CreateMultipartUpload, Operation::AbortMultipartUpload].map(|each| trial.count(each));
    assert_eq!(uploads, [starts, 0], "{operation:?} {status}");
}

#[test]
fn pages_do_not_end_conditional_writes() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::PutObject).times(4).does(page(501)));
    let run = trial.sync(&["--outage-timeout", "1m"]).expect(0);
    let conditions = trial.s3.requests(Operation::PutObject);
    assert!(conditions.iter().all(|request| request.headers.contains_key("if-none-match")), "{conditions:?}");
    assert!(!run.stderr.contains("no conditional writes"), "{}", run.stderr);
}

#[test]
fn a_page_that_stays_is_an_error_that_says_so() {
    for operation in [Operation::ListObjectsV2, Operation::PutObject] {
        let trial = Trial::new();
        trial.write("a", "1");
        trial.s3.rule(Rule::on(operation).always().does(page(404)));
        let run = trial.sync(&["--retries", "1"]);
        let failed = if operation == Operation::PutObject { 3 } else { 1 };
        assert_eq!(run.code, failed, "{}", run.stderr);
        assert!(format!("{}{}", run.stderr, run.report).contains(WORDS), "{}", run.stderr);
        assert_eq!(trial.count(operation), 2, "{operation:?}: one retry");
    }
}

#[test]
fn a_response_without_body_and_request_id_is_an_error_that_says_so() {
    for (operation, status, code) in
        [(Operation::ListObjectsV2, 404, 1), (Operation::PutObject, 412, 3), (Operation::PutObject, 501, 3)]
    {
        let trial = Trial::new();
        trial.write("a", "1");
        let bare = Reply { headers: Vec::new(), ..Reply::empty(status) };
        trial.s3.rule(Rule::on(operation).always().does(Fault::InFront(bare)));
        let run = trial.sync(&["--retries", "1"]).expect(code);
        let why = format!(
            "HTTP status {status}: the response has neither a body nor a request ID, so a proxy may have sent it"
        );
        assert!(run.stderr.contains(&why) && !run.stderr.contains("in its place"), "{}", run.stderr);
    }
}

#[test]
fn a_page_in_front_of_the_state_hides_no_record() {
    let trial = Trial::new();
    trial.s3.create_bucket("state");
    for name in ["a", "b"] {
        trial.write(name, "1");
    }
    let options = ["--state", "s3://state/here", "--delete"];
    trial.sync(&options).expect(0);
    Trial::settle();
    trial.sync(&options).expect(0);
    trial.s3.clear_log();
    trial.sync(&options).expect(0);
    let read = trial.s3.requests(Operation::GetObject);
    assert!(read.len() > 3, "{read:?}");
    for request in read.iter().filter(|request| request.status == 200) {
        for fault in not_found() {
            trial.s3.clear_log();
            let key = request.key.clone();
            trial.s3.rule(Rule::on(Operation::GetObject).key_matches(move |other| other == key).does(fault));
            trial.sync(&options).expect(0);
            let asked = trial.s3.requests(Operation::GetObject).into_iter().filter(|other| other.key == request.key);
            assert!(asked.count() >= 2, "{}: no retry", request.key);
            trial.s3.clear_rules();
        }
    }
}

#[test]
fn a_page_for_a_renewal_does_not_lose_the_lease() {
    let trial = Trial::new();
    trial.s3.create_bucket("state");
    trial.write("file", "1");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/file").does(Fault::Delay(Duration::from_secs(6))));
    // The lease is taken, and two probes check the conditions.
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("lease").skip(3).does(page(404)));
    trial.sync(&["--state", "s3://state/here", "--lease-ttl", "3s"]).expect(0);
    trial.assert_same();
}

#[test]
fn apply_does_not_count_a_delete_as_done_because_of_a_page() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("orphan", "o", LONG_AGO);
    let (tree, plan) = (trial.tree().display().to_string(), trial.folder.path().join("plan").display().to_string());
    trial.run_words(&["plan", &tree, "s3://site/www", "--mode", "plain", "--delete", "-o", &plan], &[]).expect(0);
    let requests = [Operation::HeadObject, Operation::DeleteObject, Operation::DeleteObjects];
    trial.s3.rule(Rule::on(requests).key_matches(|key| key.is_empty() || key == "www/orphan").times(2).does(page(404)));
    trial.run_words(&["apply", &plan], &[]).expect(0);
    assert!(!trial.has("orphan") && trial.count(WRITES) > 0);
}

#[test]
fn a_page_is_not_called_a_denial_of_s3() {
    let trial = Trial::new();
    trial.write("a", "1");
    for (operation, code) in [(Operation::ListObjectsV2, 1), (Operation::PutObject, 3)] {
        for status in [401, 403, 407] {
            trial.s3.rule(Rule::on(operation).always().does(page(status)));
            let run = trial.sync(&[]).expect(code);
            let words = format!("{}{}", run.stderr, run.report);
            assert!(words.contains(&format!("HTTP status {status}: {WORDS}")), "{words}");
            assert!(!words.contains("S3 denies") && !words.contains("allow "), "{words}");
            assert_eq!(trial.count(operation), 1, "{operation:?} {status}");
            trial.s3.clear_rules();
            trial.s3.clear_log();
        }
    }
}

#[test]
fn an_error_names_the_region_of_the_bucket() {
    let document = |code: &str, region: &str| {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>wrong</Message>{region}</Error>")
    };
    let malformed = Reply::xml(400, document("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"));
    let elsewhere = Reply::xml(307, document("TemporaryRedirect", "")).with("x-amz-bucket-region", "eu-west-1");
    let moved = Reply::xml(301, document("PermanentRedirect", "")).with("x-amz-bucket-region", "eu-west-1");
    for reply in [malformed, elsewhere, moved] {
        let trial = Trial::new();
        trial.write("a", "1");
        let title = format!("{reply:?}");
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(Fault::custom(move |_| Some(reply.clone()))));
        let run = trial.sync(&[]).expect(1);
        assert!(run.stderr.contains("set AWS_REGION=eu-west-1"), "{title}: {}", run.stderr);
        assert_eq!(trial.count(Operation::ListObjectsV2), 1, "{title}");
    }
}
