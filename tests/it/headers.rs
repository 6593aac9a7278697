//! Headers: the encryption that each write has, and what a rewrite of metadata keeps of an object.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule, Seed};

use crate::trial::{FinishedRun, Trial, random};

const STARTS: [Operation; 3] = [Operation::PutObject, Operation::CopyObject, Operation::CreateMultipartUpload];
const ENCRYPTION: &str = "x-amz-server-side-encryption";
const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const IN_PARTS: [&str; 4] = ["--multipart-threshold", "6MiB", "--part-size", "5MiB"];
/// What other writers store and the SDK's types refuse, or a copy drops.
const ODD: [(&str, &str); 9] = [
    ("expires", "0"),
    ("cache-control", "no-store"),
    ("content-disposition", "attachment; filename=\"Übersicht.txt\""),
    ("x-amz-meta-title", "schön"),
    ("x-amz-meta-encoded", "=?UTF-8?B?c2Now7Zu?="),
    ("x-amz-meta-empty", ""),
    ("x-amz-object-lock-mode", "GOVERNANCE"),
    ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z"),
    ("x-amz-object-lock-legal-hold", "ON"),
];

/// An object with the content of its file, the headers of [`ODD`] and tags.
fn odd(trial: &Trial, name: &str, content: &[u8], class: &str) {
    trial.write(name, content);
    let seed = ODD.iter().fold(Seed::aged(Duration::ZERO), |seed, (name, value)| seed.header(name, *value));
    let seed = seed.header("x-amz-storage-class", class).header("x-amz-tagging", "team=web%20%26%20app&%C3%BC=7y");
    trial.s3.put("site", &format!("www/{name}"), content.to_vec(), seed);
}

#[track_caller]
fn assert_kept(trial: &Trial, name: &str, class: &str) {
    let object = trial.stored(name);
    for (header, value) in ODD {
        assert_eq!(object.headers.get(header).map(String::as_str), Some(value), "{name}: {header}");
    }
    let tags: Vec<_> = object.tags().into_iter().collect();
    let expected = [("team", "web & app"), ("ü", "7y")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!((tags.as_slice(), object.storage_class()), (&expected[..], class), "{name}");
    assert_eq!(object.metadata("file-permissions"), Some("0100644"), "{name}");
}

#[track_caller]
fn message_of(run: &FinishedRun) -> String {
    run.only_failure()["message"].as_str().unwrap().to_owned()
}

#[test]
fn each_write_has_the_encryption_of_the_options() {
    let trial = Trial::new();
    trial.s3.create_bucket("state");
    trial.write("small", "1");
    trial.write("large", random(7 << 20));
    trial.link("small", "link");
    let encrypted = ["--sse", "aws:kms", "--sse-kms-key-id", "key-1", "--state", "s3://state/here"];
    let options = [&IN_PARTS[..], &encrypted].concat();
    trial.datasync(&options).expect(0);
    fs::set_permissions(trial.tree().join("small"), fs::Permissions::from_mode(0o600)).unwrap();
    Trial::settle();
    let run = trial.datasync(&options).expect(0);
    assert_eq!(run.counted("metadata_rewritten"), 1, "{}", run.report["counts"]);
    let tree = trial.tree().display().to_string();
    let ranges = ["ranges", &tree, "s3://site/www", "--count", "1", "-o", "s3://state/ranges.json"];
    trial.run_words(&[&ranges[..], &encrypted[..4]].concat(), &[]).expect(0);
    for operation in STARTS {
        assert!(trial.count(operation) > 0, "{operation:?}");
    }
    for request in trial.s3.requests(STARTS) {
        let sent = [ENCRYPTION, KEY].map(|name| request.headers.get(name).map(String::as_str));
        assert_eq!(sent, [Some("aws:kms"), Some("key-1")], "{:?} {}", request.operation, request.key);
    }
}

#[test]
fn a_rewrite_has_the_encryption_of_the_options_and_keeps_what_they_leave_open() {
    let trial = Trial::new();
    let path = trial.write("a", "content");
    Trial::settle();
    trial.datasync(&["--sse", "AES256"]).expect(0);
    let kms = ["--sse", "aws:kms"];
    let with_key = [&kms[..], &["--sse-kms-key-id", "key-2"]].concat();
    let rows: [(&[&str], &str, Option<&str>); 4] = [
        (&[], "AES256", None),
        (&with_key, "aws:kms", Some("key-2")),
        (&kms, "aws:kms", Some("key-2")),
        (&["--sse", "aws:kms:dsse"], "aws:kms:dsse", None),
    ];
    for (number, (options, algorithm, key)) in rows.into_iter().enumerate() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + u32::try_from(number).unwrap())).unwrap();
        Trial::settle();
        let run = trial.datasync(options).expect(0);
        assert_eq!(run.counted("metadata_rewritten"), 1, "{options:?}: {}", run.report["counts"]);
        let stored = trial.stored("a").headers;
        let found = [ENCRYPTION, KEY].map(|name| stored.get(name).map(String::as_str));
        assert_eq!(found, [Some(algorithm), key], "{options:?}");
    }
}

#[test]
fn a_rewrite_keeps_what_a_copy_drops_and_the_sdk_refuses() {
    let trial = Trial::new();
    odd(&trial, "copied", b"content", "STANDARD");
    odd(&trial, "archived", b"content", "GLACIER");
    odd(&trial, "archived-in-parts", &random(7 << 20), "DEEP_ARCHIVE");
    let run = trial.datasync(&IN_PARTS).expect(0);
    assert_eq!((run.counted("metadata_rewritten"), run.counted("uploaded")), (1, 2), "{}", run.report["counts"]);
    assert_kept(&trial, "copied", "STANDARD");
    assert_kept(&trial, "archived", "GLACIER");
    assert_kept(&trial, "archived-in-parts", "DEEP_ARCHIVE");
    assert_eq!(trial.count(Operation::GetObjectTagging), 2, "only an upload asks for the tags");
}

#[test]
fn a_retention_that_has_ended_is_not_sent() {
    let trial = Trial::new();
    trial.write("a", "content");
    let seed = Seed::aged(Duration::ZERO).header("x-amz-object-lock-mode", "GOVERNANCE");
    let seed = seed.header("x-amz-object-lock-retain-until-date", "2020-01-01T00:00:00Z");
    trial.s3.put("site", "www/a", "content", seed);
    assert_eq!(trial.datasync(&[]).expect(0).counted("metadata_rewritten"), 1);
    let headers = trial.stored("a").headers;
    assert!(!headers.keys().any(|name| name.starts_with("x-amz-object-lock")), "{headers:?}");
}

#[test]
fn an_object_whose_tags_cannot_be_read_or_written_is_not_replaced() {
    for (operation, permission) in
        [(Operation::GetObjectTagging, "s3:GetObjectTagging"), (Operation::PutObject, "s3:PutObjectTagging")]
    {
        let trial = Trial::new();
        odd(&trial, "archived", b"content", "GLACIER");
        let before = trial.stored("archived");
        trial.s3.rule(Rule::on(operation).key_contains("archived").always().does(Fault::status(403, "AccessDenied")));
        let run = trial.datasync(&[]).expect(3);
        assert!(message_of(&run).contains(permission), "{}", message_of(&run));
        assert_eq!(run.only_failure()["kind"], "denied");
        assert_eq!(trial.stored("archived"), before, "{permission}");
    }
}

#[test]
fn a_server_without_tags_gets_the_upload() {
    for (status, code) in [(501, "NotImplemented"), (404, "NoSuchTagSet"), (405, "MethodNotAllowed")] {
        let trial = Trial::new();
        trial.write("a", "content");
        let seed = Seed::aged(Duration::ZERO).header("x-amz-storage-class", "GLACIER");
        trial.s3.put("site", "www/a", "content", seed);
        trial.s3.rule(Rule::on(Operation::GetObjectTagging).always().does(Fault::status(status, code)));
        assert_eq!(trial.datasync(&[]).expect(0).counted("uploaded"), 1, "{code}");
    }
}

#[test]
fn tags_without_proof_are_requested_again() {
    for fault in [Fault::login_page(), Fault::CutDocument, Fault::custom(|_| Some(fake_aws::s3::Reply::empty(200)))] {
        let trial = Trial::new();
        odd(&trial, "archived", b"content", "GLACIER");
        trial.s3.rule(Rule::on(Operation::GetObjectTagging).does(fault.clone()));
        trial.datasync(&[]).expect(0);
        assert_kept(&trial, "archived", "GLACIER");
        assert_eq!(trial.count(Operation::GetObjectTagging), 2, "{fault:?}");
    }
}

#[test]
fn an_object_that_is_deleted_before_its_tags_are_read_is_uploaded() {
    let trial = Trial::new();
    odd(&trial, "archived", b"content", "GLACIER");
    let s3 = trial.s3.clone();
    let delete = Fault::before(move || s3.remove("site", "www/archived"));
    trial.s3.rule(Rule::on(Operation::GetObjectTagging).does(delete));
    assert_eq!(trial.datasync(&[]).expect(0).counted("uploaded"), 1);
    let stored = trial.stored("archived");
    assert_eq!((stored.storage_class(), stored.headers.get("expires")), ("STANDARD", None));
}

#[test]
fn metadata_that_s3_does_not_return_is_not_lost() {
    let trial = Trial::new();
    trial.write("a", "content");
    let seed = Seed::aged(Duration::ZERO).header("x-amz-missing-meta", "1").header("x-amz-meta-title", "mine");
    trial.s3.put("site", "www/a", "content", seed);
    let before = trial.stored("a");
    let run = trial.datasync(&[]).expect(3);
    assert!(message_of(&run).contains("delete the object"), "{}", message_of(&run));
    assert_eq!((trial.stored("a"), trial.count(Operation::CopyObject)), (before, 0));
}

#[test]
fn a_denied_copy_names_the_permissions_for_tags() {
    let trial = Trial::new();
    odd(&trial, "copied", b"content", "STANDARD");
    trial.s3.rule(Rule::on(Operation::CopyObject).always().does(Fault::status(403, "AccessDenied")));
    let message = message_of(&trial.datasync(&[]).expect(3));
    for permission in ["s3:GetObjectTagging", "s3:PutObjectTagging", "s3:PutObjectRetention", "s3:PutObjectLegalHold"] {
        assert!(message.contains(permission), "{message}");
    }
}
