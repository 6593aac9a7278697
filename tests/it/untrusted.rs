//! Untrusted bytes: no parser panics, hangs or accepts invalid input.
//!
//! Each target gets arbitrary bytes, and valid input with bytes changed, removed, duplicated or inserted.
//! `EFS2S3_FUZZ_CASES` is the number of cases.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use efs2s3::cli::Invocation;
use efs2s3::datasync::TaskArn;
use efs2s3::datasync::breaker::BreakerFile;
use efs2s3::fence::Fence;
use efs2s3::filter::Filter;
use efs2s3::index::Index;
use efs2s3::key::RelativeKey;
use efs2s3::lease::{Lease, LeaseTimes};
use efs2s3::location::Location;
use efs2s3::manifest::Manifest;
use efs2s3::metadata::{Dialect, Preserve, StoredMetadata};
use efs2s3::object::ETag;
use efs2s3::scope::Scope;
use efs2s3::shutdown::Shutdown;
use efs2s3::state::State;
use efs2s3::store::Store;
use efs2s3::sync::plan_file::PlanFile;
use efs2s3::uploads::Uploads;
use fake_aws::s3::{Fault, Operation, Reply, Rule, S3Server};
use futures::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::trial::Trial;
use crate::within;

fn cases() -> u32 {
    std::env::var("EFS2S3_FUZZ_CASES").map_or(300, |text| text.parse().unwrap())
}

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(u16, u8),
    Flip(u16, u8),
    Remove(u16, u8),
    Duplicate(u16, u8),
    Insert(u16, Vec<u8>),
    Truncate(u16),
}

fn changed(valid: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for change in changes {
        let place = |at: u16, bytes: &[u8]| usize::from(at).checked_rem(bytes.len()).unwrap_or(0);
        match change {
            Change::Set(at, byte) => {
                let at = place(*at, &bytes);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Change::Flip(at, bit) => {
                let at = place(*at, &bytes);
                bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Change::Remove(at, length) => {
                let at = place(*at, &bytes);
                bytes.drain(at..(at + usize::from(*length)).min(bytes.len()));
            }
            Change::Duplicate(at, length) => {
                let at = place(*at, &bytes);
                let piece = bytes[at..(at + usize::from(*length)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Insert(at, piece) => {
                let at = place(*at, &bytes);
                bytes.splice(at..at, piece.iter().copied());
            }
            Change::Truncate(at) => bytes.truncate(place(*at, &bytes)),
        }
    }
    bytes
}

fn change() -> impl Strategy<Value = Change> {
    let odd = prop::sample::select(vec![
        "",
        "\0",
        "\"",
        "\n",
        "<",
        "&#0;",
        "]]>",
        "%",
        "%F",
        "9999999999999999999999",
        "-",
        "\u{1}",
    ]);
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<(u16, u8)>().prop_map(|(at, bit)| Change::Flip(at, bit)),
        any::<(u16, u8)>().prop_map(|(at, length)| Change::Remove(at, length)),
        any::<(u16, u8)>().prop_map(|(at, length)| Change::Duplicate(at, length)),
        (any::<u16>(), odd).prop_map(|(at, text)| Change::Insert(at, text.into())),
        any::<u16>().prop_map(Change::Truncate),
    ]
}

/// Arbitrary bytes, or a valid input with some changes.
fn untrusted(valid: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        4 => (prop::sample::select(valid), prop::collection::vec(change(), 0..4))
            .prop_map(|(valid, changes)| changed(valid.as_bytes(), &changes)),
    ]
}

fn fuzz(valid: &'static [&'static str], target: impl Fn(&[u8], &str)) {
    let config = Config { cases: cases() * 10, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&untrusted(valid), |bytes| {
        target(&bytes, &String::from_utf8_lossy(&bytes));
        Ok(())
    });
    assert!(result.is_ok(), "{}", result.unwrap_err());
}

/// All inputs in a list, for asynchronous targets.
fn samples(valid: &'static [&'static str]) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::new(Config::default());
    let strategy = untrusted(valid);
    (0..cases()).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn untrusted_filters_do_not_panic() {
    fuzz(&["*.tmp|/a/b*|*\\*x\\|y\\\\", "/img", "*"], |_, text| {
        if let Ok(filter) = Filter::new(Some(text), Some(text)) {
            assert!(!filter.admits(text), "an exclude overrides an include");
        }
        if let Ok(filter) = Filter::new(None, Some(text)) {
            let _ = (filter.admits("a/b"), filter.excludes_directory("a/"), filter.excludes_directory("a/b/"));
        }
    });
}

#[test]
fn untrusted_manifests_do_not_panic() {
    fuzz(&["a/b.txt\n\"c,\"\"d\"\"\",v1\r\ne\n", "x"], |bytes, _| {
        if let Ok(manifest) = Manifest::read(bytes) {
            assert!(manifest.paths().count() > 0);
            assert!(
                manifest
                    .paths()
                    .map(|path| path.key().as_str())
                    .all(|path| !path.is_empty() && !path.ends_with('/') && path.len() <= 1024)
            );
        }
    });
}

#[test]
fn parsed_destinations_and_task_arns_keep_their_text() {
    fuzz(
        &["s3://bucket/a/b/", "s3://b", "arn:aws-us-gov:datasync:us-gov-west-1:123456789012:task/task-0123"],
        |_, text| {
            if let Ok(location) = text.parse::<Location>() {
                assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
            }
            if let Ok(task) = text.parse::<TaskArn>() {
                assert_eq!(task.as_str(), text);
            }
        },
    );
}

#[test]
fn parsed_etags_keep_their_text() {
    fuzz(&["\"9e107d9d372bb6826bd81d3542a419d6-12\"", "9e107d9d372bb6826bd81d3542a419d6", "x-y"], |_, text| {
        let tag = ETag::new(text);
        assert_eq!(tag.text(), text.trim_matches('"'));
        assert_eq!(ETag::new(&tag.text()), tag);
        let _ = tag.form();
    });
}

#[test]
fn untrusted_metadata_does_not_panic() {
    let values = ["1700000000123456789ns", "1700000000123ms", "-5ns", "0100644", "1000", "1.5"];
    fuzz(&["1700000000123456789ns", "1700000000123ms", "-5ns", "0100644", "1000", "1.5"], |_, text| {
        for name in ["file-mtime", "file-atime", "file-owner", "file-group", "file-permissions"] {
            for other in values {
                let metadata =
                    BTreeMap::from([(name.to_owned(), text.to_owned()), ("file-mtime".to_owned(), other.to_owned())]);
                let (_, stored) = (Dialect::of(&metadata), StoredMetadata::read(&metadata));
                let _ = format!("{stored:?} {:?}", Preserve::ALL);
            }
        }
    });
}

#[test]
fn untrusted_config_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let words = ["efs2s3", "sync", "--config", path.to_str().unwrap(), "/tmp", "s3://bucket"].map(Into::into);
    fuzz(&["delete = true\nmemory = '1GiB'\nmin-age = '5s'\n[[header]]\npattern = '*.html'\n"], |bytes, _| {
        fs::write(&path, bytes).unwrap();
        let _ = Invocation::read(words.clone());
    });
}

#[test]
fn untrusted_plans_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan");
    let plan = "{\"plan\":1,\"source\":\"/x\",\"destination\":\"s3://b/\",\"options\":{\"mode\":[\"plain\"]},\"created\":\"\"}\n\
                {\"action\":\"upload\",\"key\":\"a\",\"reason\":\"absent\",\"size\":1,\"etag\":null,\"source_mtime_ns\":-1,\"source_ctime_ns\":2}\n";
    fuzz(Box::leak(Box::new([plan])), |bytes, _| {
        fs::write(&path, bytes).unwrap();
        if let Ok(plan) = PlanFile::open(&path) {
            let header = plan.header();
            let _ = header.options.sync_args(&header.source, &header.destination);
        }
    });
}

#[tokio::test]
async fn damaged_state_files_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::in_folder(folder.path().to_owned(), Shutdown::default()));
    let scope = Scope::whole("s3://bucket/www".parse().unwrap());
    let record = "{\"schema\":1,\"destination\":\"s3://bucket/www/\",\"generation\":7,\"host\":\"h\",\"pid\":1,\
                  \"renewed\":\"\",\"ttl_seconds\":60.0,\"released\":false,\"failures_in_a_row\":3,\
                  \"last_failure\":\"2026-01-01T00:00:00Z\"}";
    let upload = "{\"schema\":1,\"destination\":\"s3://bucket/www/\",\"key\":\"a\",\"begun\":\"2026-01-01T00:00:00Z\",\
                  \"upload_id\":null,\"sending\":{\"size_bytes\":1,\"mtime_ns\":1,\"ctime_ns\":1,\"inode\":1,\
                  \"part_bytes\":5,\"headers\":\"\"}}";
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(scope.file_name(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for bytes in samples(Box::leak(Box::new([record, upload]))) {
        write("lease.json", &bytes);
        let minute = Duration::from_mins(1);
        let times = LeaseTimes { ttl: minute, outage_timeout: minute };
        let taken = Lease::take(Arc::clone(&state), &scope, times, Shutdown::default()).await;
        let released = String::from_utf8_lossy(&bytes).replace(' ', "").contains("\"released\":true");
        assert!(taken.is_err() || released || bytes.is_empty() || is_expired(&bytes), "taken: {bytes:?}");
        if let Ok(lease) = taken {
            lease.release().await;
        }
        write("breaker.json", &bytes);
        BreakerFile::new(Some(&state), &scope.destination).load().await;
        write("uploads/x.json", &bytes);
        let _ = Uploads::open(Arc::clone(&state), &scope, Fence::default()).await;
        write("index.csv.zst", &bytes);
        let index = Index::open(&state, &scope, &Store::at(None, None), None).await;
        assert_eq!(index.take_row(&RelativeKey::new("a")).await, None);
    }
}

/// Whether the lease may have expired already, because its time to live is less than a second.
fn is_expired(bytes: &[u8]) -> bool {
    let record: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    record["ttl_seconds"].as_f64().is_some_and(|ttl| ttl < 1.0)
}

const PAGE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>site</Name><Prefix>www/</Prefix>\
    <EncodingType>url</EncodingType><KeyCount>3</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>\
    <Contents><Key>www/a</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>1</Size></Contents>\
    <Contents><Key>www/b</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>1</Size></Contents>\
    <Contents><Key>www/orphan</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>1</Size></Contents>\
    </ListBucketResult>";

#[test]
fn damaged_listings_delete_only_listed_objects() {
    within::apart("untrusted::damaged_listings_delete_only_listed_objects", || {
        within::runtime().block_on(damaged_listings());
    });
}

async fn damaged_listings() {
    let home = Trial::on(S3Server::start().await.unwrap());
    for name in ["a", "b"] {
        home.write(name, name);
    }
    Trial::settle();
    let source = home.tree().display().to_string();
    let runs = samples(&[PAGE]).into_iter().map(async |bytes| {
        let trial = Trial::on(S3Server::start().await.unwrap());
        for name in ["a", "b", "orphan"] {
            trial.object(name, name, Duration::from_hours(1));
        }
        let page = String::from_utf8_lossy(&bytes).into_owned();
        let reply = Reply::xml(200, page.clone());
        let damaged = Rule::on(Operation::ListObjectsV2).always().does(Fault::custom(move |_| Some(reply.clone())));
        trial.s3.rule(damaged);
        let words = ["sync", &source, "s3://site/www", "--mode", "plain", "--delete", "--retries", "1"];
        let ended = within::run_on(&trial.s3, &words, None).await;
        assert!([0, 1, 3].contains(&ended.code), "exit {}: {page}", ended.code);
        let objects = trial.objects();
        for name in ["a", "b"] {
            assert_eq!(objects.get(name).map(Vec::as_slice), Some(name.as_bytes()), "{page}");
        }
        let is_listed = page.contains("<Key>www/orphan</Key>");
        assert!(is_listed || objects.contains_key("orphan"), "deleted without being listed: {page}");
    });
    futures::stream::iter(runs).buffer_unordered(32).collect::<Vec<()>>().await;
}
