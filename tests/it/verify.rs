//! `efs2s3 verify`: it compares all contents, prints a line for each difference, and writes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule, Seed};
use serde_json::Value;

use crate::trial::{FinishedRun, Trial, WRITES};

const HOUR: Duration = Duration::from_hours(1);

/// `efs2s3 verify TREE s3://site/www --mode plain` with these options. Asserts that nothing is written.
fn verify(trial: &Trial, options: &[&str]) -> FinishedRun {
    verify_as(trial, "plain", options)
}

fn verify_as(trial: &Trial, mode: &str, options: &[&str]) -> FinishedRun {
    trial.s3.clear_log();
    let source = trial.tree().display().to_string();
    let words = [&["verify", &source, "s3://site/www", "--mode", mode], options].concat();
    let ended = trial.run_words(&words, &[]);
    assert_eq!(trial.count(WRITES), 0);
    ended
}

/// Kind and key of each difference: `content www/a`.
fn differences(ended: &FinishedRun) -> Vec<String> {
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| format!("{} {}", line["difference"].as_str().unwrap(), line["key"].as_str().unwrap())).collect()
}

/// A trial after a sync.
fn synced(mode: &str) -> Trial {
    let trial = Trial::new();
    for name in ["a", "b/c", "b/d", "e"] {
        trial.write(name, format!("content of {name}"));
    }
    Trial::settle();
    let source = trial.tree().display().to_string();
    trial.run_words(&["sync", &source, "s3://site/www", "--mode", mode], &[]).expect(0);
    trial
}

#[test]
fn verify_after_sync_reads_every_file_and_no_object() {
    let trial = synced("plain");
    let ended = verify(&trial, &[]).expect(0);
    assert_eq!(ended.stdout, "");
    assert_eq!((ended.counted("unchanged"), trial.count(Operation::GetObject)), (4, 0));
    assert_eq!(ended.report["bytes"]["read_for_compare"], ended.report["bytes"]["source"]);
    assert_eq!(ended.report["bytes"]["downloaded"], 0);
}

#[test]
fn each_difference_has_its_line_and_exit_code_10() {
    let trial = synced("plain");
    // All objects are older than the files, so times show nothing.
    trial.object("a", "CONTENT OF a", HOUR);
    trial.object("b/c", "longer than the content", Duration::ZERO);
    trial.s3.remove("site", "www/b/d");
    trial.object("extra", "x", HOUR);
    let ended = verify(&trial, &["--delete"]).expect(10);
    let expected = ["content www/a", "size www/b/c", "absent www/b/d", "orphan www/extra"];
    assert_eq!(differences(&ended), expected);
    assert_eq!(ended.report["exit_code"], 10);
    let ended = verify(&trial, &[]).expect(10);
    assert_eq!(differences(&ended), expected[..3], "a sync without --delete keeps orphans");
}

#[test]
fn verify_finds_a_newer_object_of_the_same_size() {
    let trial = synced("plain");
    trial.object("a", "CONTENT OF a", Duration::ZERO);
    trial.sync(&["--dry-run"]).expect(0);
    assert_eq!(differences(&verify(&trial, &["--overwrite", "never"]).expect(10)), ["content www/a"]);
}

#[test]
fn verify_reports_metadata_differences_in_datasync_mode() {
    let trial = synced("datasync");
    assert_eq!(verify_as(&trial, "datasync", &[]).expect(0).stdout, "");
    fs::set_permissions(trial.tree().join("b"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(trial.tree().join("b/c"), fs::Permissions::from_mode(0o600)).unwrap();
    let ended = verify_as(&trial, "datasync", &[]).expect(10);
    assert_eq!(differences(&ended), ["metadata www/b/", "metadata www/b/c"]);
}

#[test]
fn an_object_in_parts_of_any_size_is_verified_by_its_etag() {
    let trial = Trial::new();
    let content = vec![b'x'; 11 << 20];
    trial.write("large", &content);
    trial.s3.put("site", "www/large", content, Seed::default().in_parts_of(7 << 20));
    verify(&trial, &[]).expect(0);
    assert_eq!(trial.count(Operation::GetObject), 0);
}

#[test]
fn unverifiable_objects_are_downloaded_with_read_and_reported_without() {
    let trial = Trial::new();
    let kms = |age| Seed::aged(age).header("x-amz-server-side-encryption", "aws:kms");
    trial.write("equal", "12345");
    trial.write("other", "12345");
    trial.s3.put("site", "www/equal", "12345", kms(HOUR));
    trial.s3.put("site", "www/other", "54321", kms(HOUR));
    trial.s3.settings(|settings| settings.checksums = false);
    let ended = verify(&trial, &[]).expect(3);
    assert_eq!(ended.stdout, "");
    let failures = ended.report["failures"].as_array().unwrap();
    assert!(failures.iter().all(|failure| failure["kind"] == "unverifiable"), "{failures:?}");
    assert_eq!((failures.len(), ended.counted("failed")), (2, 2));
    assert!(ended.stderr.contains("--read"), "{}", ended.stderr);

    let ended = verify(&trial, &["--read"]).expect(10);
    assert_eq!(differences(&ended), ["content www/other"]);
    assert_eq!((ended.counted("unchanged"), trial.count(Operation::GetObject)), (1, 2));
    assert_eq!(ended.report["bytes"]["downloaded"], 10);
}

#[test]
fn verify_compares_the_metadata_of_downloaded_objects() {
    let trial = Trial::new();
    trial.s3.settings(|settings| (settings.kms, settings.checksums) = (true, false));
    trial.write("a", "12345");
    trial.write("b", "12345");
    Trial::settle();
    let source = trial.tree().display().to_string();
    trial.run_words(&["sync", &source, "s3://site/www"], &[]).expect(0);
    fs::set_permissions(trial.tree().join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    let ended = verify_as(&trial, "datasync", &["--read"]).expect(10);
    assert_eq!(differences(&ended), ["metadata www/a"]);
    assert_eq!(ended.counted("unchanged"), 1);
}

#[test]
fn truncated_download_is_retried() {
    let trial = Trial::new();
    trial.write("a", "12345");
    let kms = Seed::aged(HOUR).header("x-amz-server-side-encryption", "aws:kms");
    trial.s3.put("site", "www/a", "12345", kms);
    trial.s3.settings(|settings| settings.checksums = false);
    trial.s3.rule(Rule::on(Operation::GetObject).does(Fault::TruncatedBody));
    verify(&trial, &["--read"]).expect(0);
    trial.s3.rule(Rule::on(Operation::GetObject).always().does(Fault::TruncatedBody));
    verify(&trial, &["--read"]).expect(3);
}

#[test]
fn verify_fails_if_the_listing_is_out_of_order() {
    let trial = synced("plain");
    let backwards = Fault::page(|mut keys, more| {
        keys.reverse();
        (keys, more)
    });
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(backwards));
    verify(&trial, &["--delete"]).expect(1);
}

#[test]
fn verify_refuses_compare() {
    let trial = Trial::new();
    let ended = verify(&trial, &["--compare", "size-only"]).expect(2);
    assert!(ended.stderr.contains("remove --compare"), "{}", ended.stderr);
}

#[test]
fn verify_is_incomplete_if_it_leaves_a_young_file_out() {
    let trial = synced("plain");
    trial.write("new", "not synced yet");
    let ended = verify(&trial, &["--min-age", "1h"]).expect(3);
    assert!(ended.stderr.contains("5 too young to compare"), "{}", ended.stderr);
    assert_eq!(ended.report["skipped_because"]["too_young"], 5);
    verify(&trial, &[]).expect(10);
}

#[test]
fn verify_is_incomplete_if_a_file_with_an_object_vanishes_before_it_is_compared() {
    let trial = synced("plain");
    let path = trial.tree().join("e");
    trial.s3.settings(|settings| settings.page_size = 2);
    // The walk has found the file when the second page arrives.
    let remove = move || {
        std::thread::sleep(Duration::from_millis(800));
        let _ = fs::remove_file(&path);
    };
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).skip(1).does(Fault::before(remove)));
    let ended = verify(&trial, &[]).expect(3);
    assert_eq!(ended.report["skipped_because"]["vanished"], 1);
    assert!(ended.stderr.contains("1 vanished"), "{}", ended.stderr);
}

#[test]
fn verify_is_incomplete_if_objects_lie_behind_a_broken_link() {
    let trial = synced("plain");
    trial.link("nowhere", "link");
    verify(&trial, &[]).expect(0);
    trial.object("link/below", "x", HOUR);
    let ended = verify(&trial, &[]).expect(3);
    assert!(ended.stderr.contains("1 object not compared"), "{}", ended.stderr);
    verify(&trial, &["--exclude", "/link"]).expect(0);
}
