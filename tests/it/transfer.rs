//! How files reach S3: whole or not at all, in parts, with their headers, through faults, signals and limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fake_aws::s3::{ConditionalWrites, Fault, LoggedRequest, Operation, Operations, Reply, Rule, Seed};

use crate::trial::{FinishedRun, Trial, WRITES, random, wait_until};

const MIB: usize = 1 << 20;
/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
/// Small files in one request, larger ones in parts of 5 MiB.
const IN_PARTS: [&str; 4] = ["--part-size", "5MiB", "--multipart-threshold", "6MiB"];
/// The operations that publish an object.
const PUBLISHES: [Operation; 2] = [Operation::PutObject, Operation::CompleteMultipartUpload];

fn with<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [options, more].concat()
}

fn on_put() -> fake_aws::s3::When {
    Rule::on(Operation::PutObject)
}

// --- whole or not at all ---

#[test]
fn files_around_the_multipart_threshold_arrive_whole_and_compare_equal() {
    const PART: usize = 5 * MIB;
    let options = ["--part-size", "5MiB", "--multipart-threshold", "7MiB"];
    let trial = Trial::new();
    let sizes: [(usize, &[u64]); 9] = [
        (0, &[]),
        (1, &[]),
        (PART - 1, &[]),
        (PART, &[]),
        (PART + 1, &[]),
        (7 * MIB - 1, &[]),
        (7 * MIB, &[5 << 20, 2 << 20]),
        (2 * PART, &[5 << 20, 5 << 20]),
        (2 * PART + 1, &[5 << 20, 5 << 20, 1]),
    ];
    for (size, _) in sizes {
        trial.write(format!("s{size}"), random(size));
    }
    Trial::settle();
    trial.sync(&options).expect(0);
    trial.assert_same();
    for (size, parts) in sizes {
        assert_eq!(trial.stored(&format!("s{size}")).part_sizes_bytes, parts, "{size}");
    }
    assert_eq!(trial.count(Operation::PutObject), 6);
    assert!(trial.s3.uploads().is_empty());
    trial.s3.clear_log();
    trial.sync(&options).expect(0);
    assert_eq!(trial.count(WRITES), 0, "what was sent in parts is equal afterwards");
}

/// A file of three parts that changes while its first part is in flight.
fn changed_while_read(change: impl Fn(&Path) + Send + Sync + 'static) {
    let trial = Trial::new();
    trial.object("big", "previous", LONG_AGO);
    let path = trial.write("big", random(12 * MIB));
    let change = Fault::before(move || change(&path));
    trial.s3.rule(Rule::on(Operation::UploadPart).does(change));
    let run = trial.sync(&with(&IN_PARTS, &["--concurrency", "1"])).expect(0);
    trial.assert_same();
    assert_eq!(trial.count(PUBLISHES), 1, "only the version at rest was published");
    assert!(trial.s3.uploads().is_empty());
    assert_eq!(run.counted("uploaded"), 1);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_again() {
    changed_while_read(|path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_read_again() {
    changed_while_read(|path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(5 * 1024 * 1024 + 1).unwrap();
    });
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_read_again() {
    changed_while_read(|path| {
        let new = path.parent().unwrap().with_file_name("new");
        fs::write(&new, random(12 * MIB)).unwrap();
        fs::rename(new, path).unwrap();
    });
}

#[test]
fn a_file_that_is_rewritten_in_place_while_it_is_read_is_read_again() {
    changed_while_read(|path| {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.write_all(&random(12 * MIB)).unwrap();
    });
}

#[test]
fn a_file_that_is_rewritten_with_its_old_mtime_while_it_is_read_is_read_again() {
    changed_while_read(|path| {
        let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mtime = file.metadata().unwrap().modified().unwrap();
        file.write_all(&random(12 * MIB)).unwrap();
        file.set_modified(mtime).unwrap();
    });
}

#[test]
fn a_file_that_changes_during_every_attempt_fails_and_keeps_its_object() {
    let trial = Trial::new();
    trial.object("big", "previous", LONG_AGO);
    trial.write("small", "1");
    let path = trial.write("big", random(7 * MIB));
    let change = Fault::before(move || {
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
    });
    trial.s3.rule(Rule::on(Operation::UploadPart).always().does(change));
    let run = trial.sync(&IN_PARTS).expect(3);
    assert_eq!(run.only_failure()["key"], "www/big");
    assert_eq!(run.only_failure()["kind"], "changing");
    assert_eq!(trial.stored("big").body, "previous");
    assert_eq!(trial.count(Operation::CreateMultipartUpload), 3);
    assert!(trial.s3.uploads().is_empty());
    assert!(trial.has("small"));
    run.assert_adds_up();
}

#[test]
fn a_change_after_the_response_is_uploaded_again() {
    let trial = Trial::new();
    let small = trial.write("small", "first");
    let big = trial.write("big", random(7 * MIB));
    let change = Fault::after(move || fs::write(&small, "second").unwrap());
    trial.s3.rule(on_put().does(change));
    let change = Fault::after(move || fs::write(&big, random(8 * MIB)).unwrap());
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(change));
    let run = trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!((trial.count(Operation::PutObject), trial.count(PUBLISHES)), (2, 4));
    assert_eq!(run.counted("uploaded"), 2);
}

#[test]
fn upload_does_not_overwrite_a_concurrent_write() {
    let trial = Trial::new();
    trial.object("there", "old", LONG_AGO);
    trial.write("there", "newer");
    trial.write("absent", "new");
    trial.write("big", random(7 * MIB));
    trial.write("other", "1");
    for name in ["there", "absent", "big"] {
        let (s3, key) = (trial.s3.clone(), format!("www/{name}"));
        let write = Fault::before(move || s3.put("site", &key, "of another writer", Seed::default()));
        trial.s3.rule(Rule::on(PUBLISHES).key_contains(name).does(write));
    }
    let run = trial.sync(&IN_PARTS).expect(3);
    let failures = run.report["failures"].as_array().unwrap();
    assert!(failures.iter().all(|failure| failure["kind"] == "precondition_failed"), "{failures:?}");
    assert_eq!(run.counted("failed"), 3);
    for name in ["there", "absent", "big"] {
        assert_eq!(trial.stored(name).body, "of another writer", "{name}");
    }
    assert!(trial.has("other"));
    assert!(trial.s3.uploads().is_empty());
}

#[test]
fn a_server_without_conditional_writes_gets_no_conditions() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.conditional_writes = ConditionalWrites::NotImplemented);
    trial.object("there", "old", LONG_AGO);
    trial.write("there", "newer");
    trial.write("absent", "new");
    trial.write("big", random(7 * MIB));
    let run = trial.sync(&with(&IN_PARTS, &["--concurrency", "1"])).expect(0);
    trial.assert_same();
    assert!(run.stderr.contains("no conditional writes"), "{}", run.stderr);
    let refused = trial.s3.requests(PUBLISHES).into_iter().filter(|request| request.status == 501);
    assert_eq!(refused.count(), 3, "the run asks for one file, not for each");
}

#[test]
fn one_501_does_not_end_conditional_writes() {
    let trial = Trial::new();
    trial.write("a", "a");
    trial.write("b", "b");
    trial.s3.rule(on_put().does(Fault::status(501, "NotImplemented")));
    let run = trial.sync(&["--concurrency", "1"]).expect(0);
    trial.assert_same();
    assert!(!run.stderr.contains("no conditional writes"), "{}", run.stderr);
    let puts = trial.s3.requests(Operation::PutObject);
    assert!(puts.len() == 3 && puts.iter().all(|put| put.headers.contains_key("if-none-match")), "{puts:?}");
}

#[test]
fn a_server_that_ignores_conditions_gets_every_upload() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.conditional_writes = ConditionalWrites::Ignored);
    trial.object("there", "old", LONG_AGO);
    trial.write("there", "newer");
    trial.write("absent", "new");
    trial.write("big", random(7 * MIB));
    trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
}

#[test]
fn a_retry_after_a_lost_response_does_not_overwrite_another_writer() {
    let trial = Trial::new();
    trial.write("a", "ours");
    trial.s3.rule(on_put().does(Fault::ResetAfter));
    let s3 = trial.s3.clone();
    let write = Fault::before(move || s3.put("site", "www/a", "of another writer", Seed::default()));
    trial.s3.rule(on_put().does(write));
    let run = trial.sync(&[]).expect(3);
    assert_eq!(run.only_failure()["kind"], "precondition_failed");
    assert_eq!(trial.stored("a").body, "of another writer");
}

#[test]
fn the_same_content_with_other_metadata_is_of_another_writer() {
    let trial = Trial::new();
    trial.write("a", "ours");
    let s3 = trial.s3.clone();
    trial.s3.rule(on_put().does(Fault::before(move || s3.put("site", "www/a", "ours", Seed::default()))));
    let run = trial.sync(&["--mode", "datasync"]).expect(3);
    assert_eq!(run.only_failure()["kind"], "precondition_failed");
}

#[test]
fn an_etag_that_is_not_an_md5_causes_no_retry() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.kms = true);
    trial.write("small", "1");
    trial.write("big", random(7 * MIB));
    let run = trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!(run.report["requests"]["retries"], 0);
    assert_eq!(trial.count(PUBLISHES), 2);
}

#[test]
fn an_etag_missing_from_a_complete_response_is_requested() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.empty_complete_etag = true);
    let path = trial.write("big", random(7 * MIB));
    // The second version is written over the first one's ETag.
    let change = Fault::after(move || fs::write(&path, random(8 * MIB)).unwrap());
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(change));
    trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    let conditions = trial.s3.requests(Operation::CompleteMultipartUpload);
    let conditions: Vec<bool> = conditions.iter().map(|request| request.headers.contains_key("if-match")).collect();
    assert_eq!(conditions, [false, true]);
}

#[test]
fn an_upload_is_aborted_if_another_writer_published_its_content() {
    let trial = Trial::new();
    let content = random(7 * MIB);
    trial.write("big", &content);
    let s3 = trial.s3.clone();
    let publish = Fault::before(move || {
        s3.put("site", "www/big", content.clone(), Seed::default().in_parts_of(5 * MIB));
    });
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(publish));
    trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!(trial.s3.uploads(), []);
}

// --- what objects are stored with ---

#[test]
fn the_content_type_comes_from_the_name() {
    let trial = Trial::new();
    let types = BTreeMap::from([
        ("i.html", "text/html"),
        ("a.b/s.css", "text/css"),
        ("j.js", "text/javascript"),
        ("p.png", "image/png"),
        ("J.JPG", "image/jpeg"),
        ("v.svg", "image/svg+xml"),
        ("d.pdf", "application/pdf"),
        ("w.woff2", "font/woff2"),
        ("j.json", "application/json"),
        ("part.ts", "video/mp2t"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("data.ZST", "application/zstd"),
        ("x.unknownext", "binary/octet-stream"),
        ("noext", "binary/octet-stream"),
        (".css", "binary/octet-stream"),
    ]);
    for name in types.keys() {
        trial.write(name, "1");
    }
    trial.sync(&[]).expect(0);
    for (name, wanted) in types {
        assert_eq!(trial.stored(name).headers["content-type"], wanted, "{name}");
    }
}

#[test]
fn single_and_multipart_objects_get_the_headers_of_the_options() {
    let trial = Trial::new();
    trial.write("small.html", "1");
    trial.write("big.html", random(7 * MIB));
    trial.write("other.css", "2");
    let options = [
        "--storage-class",
        "STANDARD_IA",
        "--cache-control",
        "max-age=60",
        "--content-type",
        "html=text/x-special",
        "--sse",
        "aws:kms",
        "--sse-kms-key-id",
        "key-1",
    ];
    trial.sync(&with(&IN_PARTS, &options)).expect(0);
    for (name, content_type) in
        [("small.html", "text/x-special"), ("big.html", "text/x-special"), ("other.css", "text/css")]
    {
        let headers = trial.stored(name).headers;
        assert_eq!(headers["x-amz-storage-class"], "STANDARD_IA", "{name}");
        assert_eq!(headers["cache-control"], "max-age=60", "{name}");
        assert_eq!(headers["x-amz-server-side-encryption"], "aws:kms", "{name}");
        assert_eq!(headers["x-amz-server-side-encryption-aws-kms-key-id"], "key-1", "{name}");
        assert_eq!(headers["content-type"], content_type, "{name}");
    }
}

#[test]
fn the_first_header_rule_that_matches_counts() {
    let trial = Trial::new();
    let config = trial.folder.path().join("config.toml");
    let rules = r#"
        cache-control = "no-cache"
        [[header]]
        pattern = "/assets/*"
        cache_control = "immutable"
        content_type = "text/x-asset"
        [[header]]
        pattern = "*.gz"
        cache_control = "max-age=1"
        content_encoding = "gzip"
        content_disposition = "attachment"
    "#;
    fs::write(&config, rules).unwrap();
    for name in ["assets/a.css", "assets/b.gz", "c.gz", "d.css"] {
        trial.write(name, "1");
    }
    trial.write("big.gz", random(7 * MIB));
    trial.sync(&with(&IN_PARTS, &["--config", config.to_str().unwrap()])).expect(0);
    let headers = |name: &str| {
        let headers = trial.stored(name).headers;
        ["cache-control", "content-type", "content-encoding", "content-disposition"]
            .map(|header| headers.get(header).cloned().unwrap_or_default())
    };
    assert_eq!(headers("assets/a.css"), ["immutable", "text/x-asset", "", ""]);
    assert_eq!(headers("assets/b.gz"), ["immutable", "text/x-asset", "gzip", "attachment"]);
    assert_eq!(headers("c.gz"), ["max-age=1", "application/gzip", "gzip", "attachment"]);
    assert_eq!(headers("d.css"), ["no-cache", "text/css", "", ""]);
    assert_eq!(headers("big.gz"), headers("c.gz"));
}

#[test]
fn every_body_is_sent_with_its_md5_and_the_chosen_checksum() {
    let trial = Trial::new();
    trial.write("small", "0");
    trial.write("big", random(7 * MIB));
    let values = [
        ("auto", Some("x-amz-checksum-crc64nvme")),
        ("crc64nvme", Some("x-amz-checksum-crc64nvme")),
        ("crc32c", Some("x-amz-checksum-crc32c")),
        ("crc32", Some("x-amz-checksum-crc32")),
        ("sha256", Some("x-amz-checksum-sha256")),
        ("none", None),
    ];
    Trial::settle();
    for (value, header) in values {
        trial.object("orphan", "o", LONG_AGO);
        trial.s3.remove("site", "www/small");
        trial.s3.remove("site", "www/big");
        trial.s3.clear_log();
        trial.sync(&with(&IN_PARTS, &["--checksum", value, "--delete"])).expect(0);
        trial.assert_same();
        let bodies = [Operation::PutObject, Operation::UploadPart, Operation::DeleteObjects];
        let (log, sdk_header) = (trial.s3.requests(bodies), "x-amz-sdk-checksum-algorithm");
        assert!(bodies.iter().all(|operation| log.iter().any(|request| request.operation == *operation)));
        for request in log {
            let sent = |name: &&String| name.starts_with("x-amz-checksum-");
            assert!(value != "none" || !request.headers.contains_key(sdk_header), "{:?}", request.operation);
            let sent: Vec<&String> = request.headers.keys().filter(sent).collect();
            assert_eq!(sent, Vec::from_iter(header), "{value}: {:?}", request.operation);
            assert!(request.headers.contains_key("content-md5"), "{value}: {:?}", request.operation);
        }
        // With SHA-256, S3 stores a composite checksum of a multipart object. This server stores none.
        for name in if value == "sha256" { &["small"][..] } else { &["small", "big"] } {
            let kept: Vec<String> = trial.stored(name).checksums.into_keys().collect();
            assert_eq!(kept.iter().any(|kept| Some(kept.as_str()) == header), header.is_some(), "{value}: {kept:?}");
        }
    }
}

#[test]
fn the_expected_bucket_owner_goes_with_every_request() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.bucket_owner = Some("111122223333".to_owned()));
    trial.object("orphan", "o", LONG_AGO);
    trial.object("odd\u{1}orphan", "o", LONG_AGO);
    trial.write("small", "1");
    trial.write("big", random(7 * MIB));
    let equal = random(7 * MIB);
    let parts = Seed::aged(LONG_AGO).in_parts_of(6 * MIB);
    trial.s3.put("site", "www/equal", equal.clone(), parts);
    trial.write("equal", equal);
    let options = with(&IN_PARTS, &["--delete", "--expected-bucket-owner", "111122223333"]);
    trial.sync(&options).expect(0);
    trial.assert_same();
    let log = trial.s3.log();
    let operations: BTreeSet<Operation> = log.iter().map(|request| request.operation).collect();
    assert_eq!(operations.len(), 8, "{operations:?}");
    for request in log {
        let owner = request.headers.get("x-amz-expected-bucket-owner");
        assert_eq!(owner.map(String::as_str), Some("111122223333"), "{:?}", request.operation);
    }
    trial.s3.clear_log();
    let run = trial.sync(&["--expected-bucket-owner", "444455556666"]).expect(1);
    assert_eq!(trial.count(Operations::all()), 1, "{}", run.stderr);
}

// --- faults ---

/// A sync in which each of these operations meets the fault once.
fn survives(fault: impl Fn() -> Fault, operations: &[Operation]) -> (Trial, FinishedRun) {
    let trial = Trial::new();
    trial.write("small", "1");
    trial.write("big", random(11 * MIB));
    trial.object("orphan", "o", LONG_AGO);
    let equal = random(7 * MIB);
    let parts = Seed::aged(LONG_AGO).in_parts_of(6 * MIB);
    trial.s3.put("site", "www/equal", equal.clone(), parts);
    trial.write("equal", equal);
    for operation in operations {
        trial.s3.rule(Rule::on(*operation).does(fault()));
    }
    let run = trial.sync(&with(&IN_PARTS, &["--delete"])).expect(0);
    trial.assert_same();
    assert_eq!(trial.s3.uploads().len(), 0);
    let faulted = |request: &LoggedRequest| request.faulted.then_some(request.operation);
    let met: BTreeSet<Operation> = trial.s3.log().iter().filter_map(faulted).collect();
    assert_eq!(met, operations.iter().copied().collect());
    assert_eq!(run.report["requests"]["retries"], operations.len());
    assert_eq!((run.counted("unchanged"), run.counted("uploaded"), run.counted("deleted")), (1, 2, 1));
    (trial, run)
}

/// The operations of a sync with uploads and deletes.
const SYNC_OPERATIONS: [Operation; 7] = [
    Operation::ListObjectsV2,
    Operation::HeadObject,
    Operation::PutObject,
    Operation::CreateMultipartUpload,
    Operation::UploadPart,
    Operation::CompleteMultipartUpload,
    Operation::DeleteObjects,
];

#[test]
fn every_request_is_retried_after_a_500() {
    let (_, run) = survives(|| Fault::status(500, "InternalError"), &SYNC_OPERATIONS);
    assert_eq!(run.report["requests"]["throttled"], 0);
}

#[test]
fn every_request_is_retried_after_a_503() {
    let (_, run) = survives(|| Fault::status(503, "SlowDown"), &SYNC_OPERATIONS);
    assert_eq!(run.report["requests"]["throttled"], 7);
}

#[test]
fn every_request_is_retried_after_a_429() {
    let (_, run) = survives(|| Fault::status(429, "TooManyRequests"), &SYNC_OPERATIONS);
    assert_eq!(run.report["requests"]["throttled"], 7);
}

#[test]
fn every_request_is_retried_after_a_reset() {
    survives(|| Fault::ResetBefore, &SYNC_OPERATIONS);
}

#[test]
fn a_retry_after_a_lost_response_recognises_its_own_write() {
    // No retry can recognise a CreateMultipartUpload whose response was lost.
    let operations = SYNC_OPERATIONS.into_iter().filter(|operation| *operation != Operation::CreateMultipartUpload);
    survives(|| Fault::ResetAfter, &operations.collect::<Vec<_>>());
}

#[test]
fn a_retry_after_a_lost_response_recognises_its_own_overwrite() {
    let trial = Trial::new();
    for name in ["small", "big"] {
        trial.object(name, "previous", LONG_AGO);
        trial.s3.rule(Rule::on(PUBLISHES).key_contains(name).does(Fault::ResetAfter));
    }
    trial.write("small", "1");
    trial.write("big", random(7 * MIB));
    let run = trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!(run.counted("uploaded"), 2);
    assert_eq!(trial.count(PUBLISHES), 4);
}

#[test]
fn a_body_damaged_in_transit_is_sent_again() {
    survives(|| Fault::CorruptBody, &[Operation::PutObject, Operation::UploadPart, Operation::DeleteObjects]);
}

#[test]
fn a_response_with_a_wrong_etag_is_retried() {
    survives(|| Fault::WrongEtag, &[Operation::PutObject, Operation::UploadPart, Operation::CompleteMultipartUpload]);
}

#[test]
fn a_truncated_response_is_requested_again() {
    survives(
        || Fault::TruncatedBody,
        &[Operation::ListObjectsV2, Operation::CompleteMultipartUpload, Operation::DeleteObjects],
    );
}

#[test]
fn an_error_inside_a_200_is_retried() {
    let (trial, _) = survives(|| Fault::ErrorInside200("InternalError"), &[Operation::CompleteMultipartUpload]);
    assert_eq!(trial.count(Operation::CompleteMultipartUpload), 2);
}

#[test]
fn an_error_inside_every_200_fails_the_upload_and_keeps_the_object() {
    let trial = Trial::new();
    trial.object("big", "previous", LONG_AGO);
    trial.write("big", random(7 * MIB));
    trial.write("small", "1");
    let fault = Fault::ErrorInside200("InternalError");
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).always().does(fault));
    let run = trial.sync(&with(&IN_PARTS, &["--retries", "2"])).expect(3);
    assert_eq!(run.only_failure()["key"], "www/big");
    assert_eq!(trial.count(Operation::CompleteMultipartUpload), 3);
    assert_eq!(trial.stored("big").body, "previous");
    assert!(trial.has("small"));
    assert!(trial.s3.uploads().is_empty());
}

#[test]
fn a_failed_upload_is_aborted_despite_faults() {
    let trial = Trial::new();
    trial.write("big", random(7 * MIB));
    trial.s3.rule(Rule::on(Operation::UploadPart).always().does(Fault::status(400, "InvalidRequest")));
    for fault in [Fault::status(503, "SlowDown"), Fault::ResetBefore, Fault::ResetAfter] {
        trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).does(fault));
    }
    let run = trial.sync(&IN_PARTS).expect(3);
    assert_eq!(run.only_failure()["operation"], "UploadPart");
    assert!(trial.s3.uploads().is_empty());
    assert!(!run.stderr.contains("cannot abort"), "{}", run.stderr);
}

/// A file changes before the retry of the request that publishes it. If the failed attempt may have had an effect, a HEAD
/// shows what the key holds.
#[test]
fn a_changed_file_costs_a_head_only_if_an_attempt_may_have_had_an_effect() {
    for (operation, size) in [(Operation::PutObject, 7), (Operation::CompleteMultipartUpload, 7 * MIB)] {
        for (status, code, heads) in [(503, "SlowDown", 0), (500, "InternalError", 1)] {
            let trial = Trial::new();
            let file = trial.write("a", random(size));
            Trial::settle();
            let changed = random(size);
            trial.s3.rule(Rule::on(operation).does(Fault::custom(move |_| {
                fs::write(&file, &changed).unwrap();
                Some(Reply::error(status, code, "try later", ""))
            })));
            trial.sync(&with(&IN_PARTS, &["--outage-timeout", "1m"])).expect(0);
            trial.assert_same();
            assert_eq!(trial.count(Operation::HeadObject), heads, "{operation:?} {code}");
            assert_eq!((trial.count(operation), trial.s3.uploads().len()), (2, 0), "{operation:?} {code}");
        }
    }
}

#[test]
fn a_request_that_never_succeeds_is_retried_up_to_the_limit() {
    let trial = Trial::new();
    trial.write("bad", "1");
    trial.write("good", "2");
    trial.s3.rule(on_put().key_contains("bad").always().does(Fault::status(500, "InternalError")));
    let run = trial.sync(&["--retries", "2"]).expect(3);
    let puts = trial.s3.requests(Operation::PutObject);
    assert_eq!(puts.iter().filter(|put| put.key == "www/bad").count(), 3);
    assert_eq!(run.only_failure()["kind"], "transient");
    assert!(run.only_failure()["request_id"].is_string());
    assert!(trial.has("good"));
    run.assert_adds_up();
}

#[test]
fn a_dead_socket_times_out_and_the_file_is_sent_again() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(on_put().does(Fault::Stall(Duration::from_secs(80))));
    let run = trial.sync(&["--outage-timeout", "1m"]).expect(0);
    trial.assert_same();
    assert_eq!(trial.count(Operation::PutObject), 2);
    assert!(run.time < Duration::from_secs(75), "{:?}", run.time);
}

#[test]
fn a_slow_complete_is_not_retried() {
    let trial = Trial::new();
    trial.write("big", random(7 * MIB));
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(Fault::Delay(Duration::from_secs(30))));
    let run = trial.sync(&IN_PARTS).expect(0);
    trial.assert_same();
    assert_eq!(trial.count(Operation::CompleteMultipartUpload), 1);
    assert_eq!(run.report["requests"]["retries"], 0);
}

#[test]
fn a_slow_response_is_not_retried() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("b", "2", LONG_AGO);
    let trickle = Fault::TrickleBody { piece_bytes: 25, pause: Duration::from_secs(1) };
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(trickle));
    let run = trial.sync(&[]).expect(0);
    assert!(run.time > Duration::from_secs(17), "the response was not slow: {:?}", run.time);
    assert_eq!(trial.count(Operation::ListObjectsV2), 1);
}

#[test]
fn a_response_that_stalls_midway_is_requested_again() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(Fault::StallMidBody(Duration::from_secs(80))));
    let run = trial.sync(&["--outage-timeout", "1m"]).expect(0);
    trial.assert_same();
    assert_eq!(trial.count(Operation::ListObjectsV2), 2);
    assert!(run.time < Duration::from_secs(75), "{:?}", run.time);
}

#[test]
fn a_clock_that_s3_rejects_is_corrected() {
    for hours in [-3, 3] {
        let trial = Trial::new();
        trial.s3.settings(|settings| {
            settings.clock_offset_seconds = hours * 3600;
            settings.clock_tolerance = Some(Duration::from_mins(15));
        });
        trial.write("a", "1");
        trial.write("b", "2");
        trial.sync(&[]).expect(0);
        trial.assert_same();
        let refused = trial.s3.log().into_iter().filter(|request| request.status == 403).count();
        assert_eq!(refused, 1, "one refusal shows S3's time");
    }
}

/// How many requests the server handles concurrently.
#[derive(Clone, Default)]
struct Gauge(Arc<Mutex<(usize, usize)>>);

impl Gauge {
    /// Counts one more request for `time`. Returns how many there are with it.
    fn hold(&self, time: Duration) -> usize {
        let now = {
            let mut gauge = self.0.lock().unwrap();
            gauge.0 += 1;
            gauge.1 = gauge.1.max(gauge.0);
            gauge.0
        };
        thread::sleep(time);
        self.0.lock().unwrap().0 -= 1;
        now
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[test]
fn fewer_requests_are_in_flight_while_s3_throttles() {
    let trial = Trial::new();
    for number in 0..1600 {
        trial.write(format!("f{number:03}"), number.to_string());
    }
    // When each request arrived, and how many the server handled then.
    let seen: Arc<Mutex<Vec<(Duration, usize)>>> = Arc::default();
    let (begin, gauge, samples) = (Mutex::new(None), Gauge::default(), Arc::clone(&seen));
    let throttled = Duration::from_secs(1)..Duration::from_secs(5);
    let during = throttled.clone();
    let fault = Fault::custom(move |_| {
        let time = begin.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        let concurrent = gauge.hold(Duration::from_millis(200));
        let mut samples = samples.lock().unwrap();
        samples.push((time, concurrent));
        let refused = during.contains(&time) && samples.len() % 2 == 0;
        refused.then(|| Reply::error(503, "SlowDown", "Please reduce your request rate.", ""))
    });
    trial.s3.rule(on_put().always().does(fault));
    trial.sync(&["--concurrency", "64", "--retries", "50"]).expect(0);
    trial.assert_same();
    let seen = seen.lock().unwrap();
    let most = |from: Duration, to: Duration| {
        let within = seen.iter().filter(|(time, _)| (from..to).contains(time));
        within.map(|(_, concurrent)| *concurrent).max().unwrap_or(0)
    };
    let before = most(Duration::ZERO, throttled.start);
    let at_last = most(Duration::from_secs(4), throttled.end);
    let last = seen.iter().map(|(time, _)| *time).max().unwrap();
    let after = most(last.saturating_sub(Duration::from_secs(2)), last);
    assert!(before >= 24, "{before}");
    assert!(at_last <= before / 2, "{before} before, {at_last} after three seconds of refusals");
    assert!(at_last >= 1 && after >= at_last + 6, "{at_last} while throttled, {after} at the end");
}

// --- what is fatal and what is not ---

#[test]
fn access_denied_to_everything_is_one_request_and_one_error() {
    let trial = Trial::new();
    for number in 0..50 {
        trial.write(format!("f{number}"), "1");
    }
    trial.s3.rule(Rule::on(Operations::all()).always().does(Fault::status(403, "AccessDenied")));
    let run = trial.sync(&[]).expect(1);
    assert_eq!(trial.count(Operations::all()), 1);
    assert_eq!(run.stderr.matches("AccessDenied").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("s3:ListBucket"), "the permission is named: {}", run.stderr);
    assert_eq!(run.report["exit_code"], 1);
}

#[test]
fn the_run_is_a_failure_as_a_whole_if_all_uploads_are_denied() {
    let trial = Trial::new();
    for number in 0..400 {
        trial.write(format!("f{number:03}"), "1");
    }
    trial.object("orphan", "o", LONG_AGO);
    trial.s3.rule(on_put().always().does(Fault::status(403, "AccessDenied")));
    let run = trial.sync(&["--delete"]).expect(1);
    assert_eq!(trial.count(Operation::PutObject), 400, "a refused key says nothing about the next one");
    assert!(run.stderr.contains("s3:PutObject"), "{}", run.stderr);
    assert!(run.stderr.matches("AccessDenied").count() < 20, "few lines for one kind of error: {}", run.stderr);
    assert!(trial.has("orphan"));
    run.assert_adds_up();
}

#[test]
fn the_counts_add_up_when_a_run_ends_in_the_middle_of_a_listing() {
    let trial = Trial::new();
    for number in 0..1500 {
        trial.write(format!("f{number:04}"), "1");
    }
    Trial::settle();
    trial.s3.rule(on_put().always().does(Fault::status(403, "AccessDenied")));
    let run = trial.sync(&["--concurrency", "4"]).expect(1);
    assert!(run.counted("files") > 10);
    run.assert_adds_up();
}

#[test]
fn a_missing_bucket_is_named_after_one_request() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    let run = trial.run_words(&["sync", &source, "s3://no-such-bucket/www"], &[]).expect(1);
    assert_eq!(trial.count(Operations::all()), 1);
    assert!(run.stderr.contains("'no-such-bucket' does not exist"), "{}", run.stderr);
}

#[test]
fn the_error_names_the_region_of_a_bucket_in_another_region() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.settings(|settings| settings.redirect_region = Some("eu-west-1".to_owned()));
    let run = trial.sync(&[]).expect(1);
    assert_eq!(trial.count(Operations::all()), 1);
    assert!(run.stderr.contains("AWS_REGION=eu-west-1"), "{}", run.stderr);
}

#[test]
fn a_refused_key_fails_alone_and_is_not_retried() {
    let trial = Trial::new();
    for name in ["bad", "denied", "good", "other"] {
        trial.write(name, name);
    }
    trial.s3.rule(on_put().key_contains("bad").always().does(Fault::status(400, "InvalidRequest")));
    trial.s3.rule(on_put().key_contains("denied").always().does(Fault::status(403, "AccessDenied")));
    let run = trial.sync(&[]).expect(3);
    assert_eq!(
        run.failed_keys().into_iter().collect::<BTreeSet<_>>(),
        ["www/bad", "www/denied"].map(String::from).into()
    );
    assert_eq!(trial.names(), ["good", "other"].map(String::from).into());
    assert_eq!(trial.count(Operation::PutObject), 4);
    assert_eq!(run.counted("failed"), 2);
    run.assert_adds_up();
}

// --- credentials ---

/// Container credentials over HTTP, as an ECS task gets them. Each response contains a new key that expires soon.
fn credentials_endpoint(lifetime: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/credentials", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                request.extend(byte);
            }
            let expiration = humantime::format_rfc3339_seconds(SystemTime::now() + lifetime);
            let body = format!(
                r#"{{"AccessKeyId":"AKIDTASK{number}","SecretAccessKey":"s","Token":"t","Expiration":"{expiration}"}}"#
            );
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn expired_credentials_are_fetched_again_during_the_run() {
    let trial = Trial::new();
    trial.write("a", "1");
    // The listing is requested immediately, the upload three seconds later because the file is young.
    let url = credentials_endpoint(Duration::from_secs(2));
    let environment = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
    ];
    trial.start_with(&[], &environment).end().expect(0);
    trial.assert_same();
    let key = |operation: Operation| {
        let request = trial.s3.requests(operation).remove(0);
        let credential = request.headers["authorization"].split_once("Credential=").unwrap().1.to_owned();
        credential.split_once('/').unwrap().0.to_owned()
    };
    assert_eq!(key(Operation::ListObjectsV2), "AKIDTASK0");
    assert_eq!(key(Operation::PutObject), "AKIDTASK1");
}

#[test]
fn credentials_that_s3_does_not_accept_end_the_run() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.settings(|settings| settings.required_access_key = Some("AKIDOTHER".to_owned()));
    let run = trial.sync(&[]).expect(1);
    assert_eq!(trial.count(Operations::all()), 1);
    assert!(run.stderr.contains("does not accept these credentials"), "{}", run.stderr);
}

// --- stopping ---

/// Many small files and one in parts, in a run whose uploads are slow; stopped while a part is in flight.
fn stopped_in_the_middle(signal: &str) -> (Trial, FinishedRun) {
    let trial = Trial::new();
    for number in 0..300 {
        trial.write(format!("f{number:03}"), number.to_string());
    }
    trial.write("big", random(22 * MIB));
    trial.object("orphan", "o", LONG_AGO);
    let slow = Fault::before(|| thread::sleep(Duration::from_millis(400)));
    trial.s3.rule(Rule::on([Operation::PutObject, Operation::UploadPart]).always().does(slow));
    let run = trial.start(&with(&IN_PARTS, &["--concurrency", "6", "--delete"]));
    wait_until("a part and a file arrived", || {
        trial.count(Operation::UploadPart) > 0 && trial.count(Operation::PutObject) > 6
    });
    run.signal(signal);
    let ended = run.end();
    trial.s3.clear_rules();
    (trial, ended)
}

fn assert_ended_well(trial: &Trial, run: FinishedRun, code: i32) {
    let run = run.expect(code);
    assert_eq!(run.report["exit_code"], code);
    run.assert_adds_up();
    let uploaded = run.counted("uploaded");
    assert!((1..301).contains(&uploaded), "the run was not stopped in the middle: {uploaded}");
    assert_eq!(u64::try_from(trial.names().len()).unwrap(), uploaded + 1, "what was uploaded is what was counted");
    assert!(trial.has("orphan"), "no delete after a shutdown request");
    assert!(trial.s3.uploads().is_empty());
    let next = trial.sync(&with(&IN_PARTS, &["--delete"])).expect(0);
    trial.assert_same();
    assert_eq!(next.counted("uploaded"), 301 - uploaded);
}

#[test]
fn sigterm_ends_a_run_cleanly_and_the_next_run_completes_it() {
    let (trial, run) = stopped_in_the_middle("-TERM");
    assert_ended_well(&trial, run, 143);
}

#[test]
fn sigint_ends_a_run_cleanly_and_the_next_run_completes_it() {
    let (trial, run) = stopped_in_the_middle("-INT");
    assert_ended_well(&trial, run, 130);
}

#[test]
fn sighup_ends_a_run_as_sigterm_does() {
    let (trial, run) = stopped_in_the_middle("-HUP");
    assert_ended_well(&trial, run, 143);
}

#[test]
fn a_stop_aborts_an_upload_whose_last_request_does_not_respond() {
    let trial = Trial::new();
    trial.write("big", random(11 * MIB));
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(Fault::Stall(Duration::from_mins(2))));
    let run = trial.start(&IN_PARTS);
    trial.wait_for_requests(Operation::CompleteMultipartUpload, 1);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_eq!((trial.count(Operation::AbortMultipartUpload), trial.s3.uploads().len()), (1, 0), "{}", run.stderr);
    assert!(!run.stderr.contains("cannot abort"), "{}", run.stderr);
    assert_eq!(run.counted("skipped"), 1);
    run.assert_adds_up();
}

#[test]
fn a_stop_that_cannot_abort_an_upload_names_its_key_and_id() {
    let trial = Trial::new();
    trial.write("big", random(11 * MIB));
    let stall = Fault::Stall(Duration::from_mins(2));
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).always().does(stall.clone()));
    trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).always().does(stall));
    let run = trial.start(&IN_PARTS);
    trial.wait_for_requests(Operation::CompleteMultipartUpload, 1);
    run.signal("-TERM");
    let run = run.end().expect(143);
    let [upload] = &trial.s3.uploads()[..] else { panic!("one upload is left") };
    assert_eq!(run.stderr.matches("cannot abort this multipart upload").count(), 1, "{}", run.stderr);
    for words in ["www/big", &upload.upload_id, "aws s3api abort-multipart-upload", "AbortIncompleteMultipartUpload"] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[test]
fn sighup_stays_ignored_under_nohup() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync", &source]);
    let slow = Fault::before(|| thread::sleep(Duration::from_secs(1)));
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(slow));
    command.args(["s3://site/www", "--mode", "plain"]);
    let run = trial.spawn(command, &[]);
    wait_until("the listing is requested", || trial.count(Operation::ListObjectsV2) > 0);
    run.signal("-HUP");
    run.end().expect(0);
    trial.assert_same();
}

#[test]
fn a_stop_before_the_session_is_open_ends_every_command() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.create_bucket("state");
    trial.s3.create_bucket("lists");
    let source = trial.tree().display().to_string();
    let plan = trial.folder.path().join("plan").display().to_string();
    trial.plan(&["-o", &plan]).expect(0);
    let fault = Fault::status(503, "SlowDown");
    trial.s3.rule(Rule::on(Operation::GetObject).always().does(fault));
    let (to, state) = ("s3://site/www", ["--state", "s3://state/here"]);
    let list = "s3://lists/ranges.json";
    let in_list = ["--ranges", list, "--range-index", "0"];
    for words in [
        [&["sync", &source, to], &state[..]].concat(),
        [&["sync", &source, to], &in_list[..]].concat(),
        [&["plan", &source, to], &in_list[..]].concat(),
        [&["verify", &source, to], &in_list[..]].concat(),
        [&["apply", &plan], &state[..]].concat(),
        [&["ranges", &source, to, "--count", "2"], &state[..]].concat(),
        [&["run", "--source", &source, to, "--policy", "direct-only"], &state[..]].concat(),
        [&["report", "merge", "--destination", to, "--ranges", list], &state[..]].concat(),
    ] {
        let signals: &[&str] = if words[0] == "sync" { &["-HUP", "-TERM", "-INT"] } else { &["-HUP"] };
        for signal in signals {
            trial.s3.clear_log();
            let environment = [("EFS2S3_RETRIES", "100")];
            let run = trial.start_words(&words, &environment);
            trial.wait_for_requests(Operation::GetObject, 1);
            run.signal(signal);
            let code = if *signal == "-INT" { 130 } else { 143 };
            let run = run.end().expect(code);
            let has_report = !matches!(words[0], "ranges" | "report");
            assert!(!has_report || run.report["exit_code"] == code, "{words:?}: {}", run.report);
        }
    }
    assert_eq!(trial.count(WRITES), 0);
}

#[test]
fn a_stop_interrupts_the_wait_for_young_files() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = trial.start(&[]);
    wait_until("the listing is requested", || trial.count(Operation::ListObjectsV2) > 0);
    thread::sleep(Duration::from_millis(300));
    let stopped = Instant::now();
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    assert_eq!(run.counted("skipped"), 1);
    run.assert_adds_up();
}

#[test]
fn a_stop_interrupts_the_retries_of_the_first_listing() {
    let trial = Trial::new();
    trial.write("a", "1");
    let fault = Fault::status(503, "SlowDown");
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(fault));
    let run = trial.start(&["--retries", "100"]);
    wait_until("some attempts", || trial.count(Operation::ListObjectsV2) > 3);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_eq!(run.report["exit_code"], 143);
    assert!(run.report["error"].is_null(), "{}", run.report["error"]);
}

#[test]
fn a_stop_interrupts_a_first_listing_that_hangs() {
    let trial = Trial::new();
    trial.write("a", "1");
    let stall = Fault::Stall(Duration::from_secs(80));
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(stall));
    let run = trial.start(&[]);
    wait_until("the listing is requested", || trial.count(Operation::ListObjectsV2) > 0);
    run.signal("-INT");
    let run = run.end().expect(130);
    assert!(run.time < Duration::from_secs(12), "{:?}", run.time);
}

#[test]
fn a_stop_aborts_an_upload_whose_parts_wait_for_bandwidth() {
    let trial = Trial::new();
    trial.write("big", random(11 * MIB));
    let run = trial.start(&with(&IN_PARTS, &["--bandwidth", "50KiB"]));
    wait_until("the upload is created", || !trial.s3.uploads().is_empty());
    thread::sleep(Duration::from_millis(300));
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(trial.s3.uploads().is_empty());
    assert!(run.time < Duration::from_mins(1), "{:?}", run.time);
}

#[test]
fn a_stop_aborts_an_upload_whose_parts_hang() {
    let trial = Trial::new();
    trial.write("big", random(7 * MIB));
    let stall = Fault::Stall(Duration::from_secs(80));
    trial.s3.rule(Rule::on(Operation::UploadPart).always().does(stall));
    let run = trial.start(&IN_PARTS);
    wait_until("both parts are in flight", || trial.count(Operation::UploadPart) == 2);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(trial.s3.uploads().is_empty());
    assert!(run.time < Duration::from_mins(1), "{:?}", run.time);
    run.assert_adds_up();
}

#[test]
fn a_second_signal_exits_immediately() {
    let trial = Trial::new();
    trial.write("a", "1");
    let stall = Fault::Stall(Duration::from_secs(80));
    trial.s3.rule(on_put().always().does(stall));
    let run = trial.start(&[]);
    wait_until("the upload is in flight", || trial.count(Operation::PutObject) > 0);
    run.signal("-TERM");
    thread::sleep(Duration::from_secs(1));
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(run.time < Duration::from_secs(18), "{:?}", run.time);
}

#[test]
fn a_stop_between_deletes_leaves_the_rest_to_the_next_run() {
    let trial = Trial::new();
    trial.write("a", "1");
    for number in 0..2500 {
        trial.object(&format!("orphan{number:04}"), "o", LONG_AGO);
    }
    let slow = Fault::before(|| thread::sleep(Duration::from_secs(4)));
    trial.s3.rule(Rule::on(Operation::DeleteObjects).does(slow));
    let options = ["--delete", "--max-delete", "100%"];
    let run = trial.start(&options);
    wait_until("deletes are in flight", || trial.count(Operation::DeleteObjects) > 0);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert_eq!((run.counted("deleted"), run.withheld_by("interrupted")), (1000, 1500));
    assert_eq!(trial.names().len(), 1501);
    trial.sync(&options).expect(0);
    trial.assert_same();
}

#[test]
fn the_run_after_a_kill_completes_it() {
    let (trial, run) = stopped_in_the_middle("-KILL");
    assert_eq!(run.code, -1, "killed");
    // Requests in flight still arrive.
    thread::sleep(Duration::from_secs(1));
    let before = trial.names();
    assert!(before.len() < 302 && !before.contains("big"), "the run was not stopped in the middle: {}", before.len());
    let next = trial.sync(&with(&IN_PARTS, &["--delete"])).expect(0);
    trial.assert_same();
    assert_eq!(
        next.counted("unchanged") + 1,
        u64::try_from(before.len()).unwrap(),
        "what had arrived is not sent again"
    );
}

// --- limits ---

#[test]
fn the_bandwidth_limit_covers_files_and_parts() {
    const LIMIT: f64 = 512.0 * 1024.0;
    let trial = Trial::new();
    trial.write("big", random(7 * MIB));
    for number in 0..4 {
        trial.write(format!("f{number}"), random(MIB / 4));
    }
    let run = trial.sync(&with(&IN_PARTS, &["--bandwidth", "512KiB"])).expect(0);
    trial.assert_same();
    let rate = 16.0 * LIMIT / run.report["seconds"]["transfer"].as_f64().unwrap();
    assert!((0.3 * LIMIT..1.1 * LIMIT).contains(&rate), "{rate} bytes a second");
}

#[test]
fn files_and_parts_in_flight_stay_within_the_memory_limit() {
    let max_in_flight = |memory: &str| {
        let trial = Trial::new();
        trial.write("big", random(40 * MIB));
        for number in 0..6 {
            trial.write(format!("f{number}"), random(5 * MIB));
        }
        let gauge = Gauge::default();
        let measure = gauge.clone();
        let slow = Fault::before(move || {
            measure.hold(Duration::from_millis(300));
        });
        trial.s3.rule(Rule::on([Operation::PutObject, Operation::UploadPart]).always().does(slow));
        trial.sync(&with(&IN_PARTS, &["--memory", memory])).expect(0);
        trial.assert_same();
        gauge.most()
    };
    let (little, plenty) = (max_in_flight("16MiB"), max_in_flight("256MiB"));
    assert!((1..=3).contains(&little), "{little} bodies of 5 MiB in flight with 16 MiB");
    assert!(plenty > 3, "{plenty}: nothing was limited");
}
