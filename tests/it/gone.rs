//! Objects that another writer deletes while a run works on them: the key is then absent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Reply, Rule, Seed};

use crate::trial::{Trial, random};

const LONG_AGO: Duration = Duration::from_secs(1000);
const PUBLISHES: [Operation; 2] = [Operation::PutObject, Operation::CompleteMultipartUpload];
const IN_PARTS: [&str; 4] = ["--multipart-threshold", "6MiB", "--part-size", "5MiB"];

/// Deletes an object before a request for it is carried out.
fn deletes(trial: &Trial, operation: Operation, name: &'static str) {
    let s3 = trial.s3.clone();
    let delete = Fault::before(move || s3.remove("site", &format!("www/{name}")));
    trial.s3.rule(Rule::on(operation).key_contains(name).does(delete));
}

fn set_mode(trial: &Trial, name: &str) {
    fs::set_permissions(trial.tree().join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_object_that_is_deleted_before_its_upload_is_uploaded_as_a_new_one() {
    let trial = Trial::new();
    for name in ["small", "large"] {
        trial.object(name, "old", LONG_AGO);
    }
    trial.write("small", "new");
    trial.write("large", random(7 << 20));
    deletes(&trial, Operation::PutObject, "small");
    deletes(&trial, Operation::CompleteMultipartUpload, "large");
    let run = trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("failed")), (2, 0));
    for name in ["small", "large"] {
        let requests = trial.s3.requests(PUBLISHES).into_iter().filter(|request| request.key.ends_with(name));
        let conditions: Vec<_> =
            requests.map(|request| (request.status, request.headers.contains_key("if-none-match"))).collect();
        assert_eq!(conditions, [(404, false), (200, true)], "{name}");
    }
    assert_eq!(trial.count(Operation::UploadPart), 2, "the parts are sent once");
    assert!(trial.s3.uploads().is_empty());
}

#[test]
fn what_another_writer_puts_in_the_place_of_a_deleted_object_stays() {
    let trial = Trial::new();
    trial.object("file", "old", LONG_AGO);
    trial.write("file", "new");
    deletes(&trial, Operation::PutObject, "file");
    let s3 = trial.s3.clone();
    let write = Fault::before(move || s3.put("site", "www/file", "of another writer", Seed::default()));
    trial.s3.rule(Rule::on(Operation::PutObject).does(write));
    let run = trial.sync(&[]).expect(3);
    assert_eq!(run.only_failure()["kind"], "precondition_failed");
    assert_eq!(trial.stored("file").body, "of another writer");
}

#[test]
fn an_object_that_is_deleted_before_its_metadata_is_rewritten_is_uploaded() {
    let trial = Trial::new();
    for name in ["at-head", "at-copy"] {
        trial.write(name, name);
    }
    Trial::settle();
    trial.datasync(&[]).expect(0);
    for name in ["at-head", "at-copy"] {
        set_mode(&trial, name);
    }
    Trial::settle();
    deletes(&trial, Operation::HeadObject, "at-head");
    deletes(&trial, Operation::CopyObject, "at-copy");
    trial.s3.clear_log();
    let run = trial.datasync(&[]).expect(0);
    assert_eq!((run.counted("uploaded"), run.counted("failed")), (2, 0), "{}", run.report["counts"]);
    for name in ["at-head", "at-copy"] {
        let stored = trial.stored(name);
        assert_eq!(
            (&stored.body[..], stored.metadata("file-permissions")),
            (name.as_bytes(), Some("0100600")),
            "{name}"
        );
    }
    let last = trial.s3.requests(Operation::PutObject).pop().unwrap();
    assert!(last.headers.contains_key("if-none-match"), "{:?}", last.headers);
}

#[test]
fn only_s3_itself_can_show_that_a_delete_target_is_gone() {
    let trial = Trial::new();
    trial.write("file", "1");
    for name in ["gone", "gone\u{1}", "there\u{1}"] {
        trial.object(name, "orphan", LONG_AGO);
    }
    let s3 = trial.s3.clone();
    trial.s3.rule(Rule::on(Operation::DeleteObjects).does(Fault::before(move || s3.remove("site", "www/gone"))));
    deletes(&trial, Operation::DeleteObject, "gone\u{1}");
    let not_found = Fault::custom(|_| Some(Reply { status: 404, headers: Vec::new(), body: "<html>".into() }));
    trial.s3.rule(Rule::on(Operation::DeleteObject).key_contains("there").does(not_found));
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("deleted"), run.counted("deletes_failed")), (3, 0));
    let there = trial.s3.requests(Operation::DeleteObject).into_iter().filter(|request| request.key.contains("there"));
    assert_eq!(there.map(|request| request.status).collect::<Vec<_>>(), [404, 204], "a page is retried");
}

#[test]
fn a_lease_whose_object_is_deleted_is_lost_and_not_written_again() {
    let trial = Trial::new();
    trial.s3.create_bucket("state");
    trial.write("file", "1");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/file").does(Fault::Delay(Duration::from_secs(6))));
    let run = trial.start(&["--state", "s3://state/here", "--lease-ttl", "3s"]);
    while !trial.s3.log().iter().any(|request| request.key == "www/file") {
        thread::sleep(Duration::from_millis(5));
    }
    let lease = |key: &String| key.ends_with("lease.json");
    let key = trial.s3.keys("state", "here").into_iter().find(lease).unwrap();
    trial.s3.remove("state", &key);
    let run = run.end().expect(11);
    assert!(run.stderr.contains("the lease was deleted from the state"), "{}", run.stderr);
    assert!(!trial.s3.keys("state", "here").iter().any(lease), "the lease is written again");
}
