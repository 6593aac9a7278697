//! The mode `datasync`: each entry of the tree is an object with metadata, which is written only if it differs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use fake_aws::s3::{Fault, Operation, Reply, Rule, Seed};

use crate::trial::{READS, Trial, WRITES, random};

/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);

/// Writes every kind of entry, with awkward modes, owners and times.
fn rich(trial: &Trial) {
    let at = |name: &str| trial.tree().join(name);
    trial.write("index.html", "<html>");
    trial.write("empty", "");
    trial.write("d/e/f.bin", random(3000));
    trial.write("a-b", "1");
    trial.write("a/b", "2");
    trial.write("a.c", "3");
    trial.write("ü/ñ 1+%2B", "u");
    trial.write("old", "o");
    trial.write("before", "b");
    fs::create_dir_all(at("nothing/in/here")).unwrap();
    trial.link("index.html", "link");
    trial.link("/no/where", "dangling");
    trial.link("d", "dirlink");
    trial.link("../../..", "d/up");
    fs::hard_link(at("old"), at("hard")).unwrap();
    fs::set_permissions(at("a-b"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(at("a/b"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o000)).unwrap();
    chown(at("a.c"), Some(1234), Some(4321)).unwrap();
    chown(at("d/e"), Some(33), Some(33)).unwrap();
    lchown(at("link"), Some(77), Some(78)).unwrap();
    shell(
        "mkfifo fifo; touch -d '2001-09-09 01:46:40.123456789 UTC' old; touch -d '1969-12-31 23:59:54.5 UTC' before; touch -h -d '2010-01-01 00:00:00.000000001 UTC' dangling",
        &trial.tree(),
    );
}

fn shell(commands: &str, folder: &Path) {
    assert!(Command::new("sh").args(["-ec", commands]).current_dir(folder).status().unwrap().success(), "{commands}");
}

/// Content and metadata of each object, by name.
type ObjectsOfTree = BTreeMap<String, (Vec<u8>, BTreeMap<&'static str, String>)>;

fn expected(trial: &Trial) -> ObjectsOfTree {
    fn collect(folder: &Path, prefix: &str, found: &mut ObjectsOfTree) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            let meta = fs::symlink_metadata(&path).unwrap();
            let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            let metadata = BTreeMap::from([
                ("user-agent", "aws-datasync".to_owned()),
                ("file-owner", meta.uid().to_string()),
                ("file-group", meta.gid().to_string()),
                ("file-permissions", format!("{:07o}", meta.mode())),
                ("file-mtime", format!("{mtime}ns")),
            ]);
            let kind = meta.file_type();
            if kind.is_dir() {
                collect(&path, &format!("{name}/"), found);
                found.insert(format!("{name}/"), (Vec::new(), metadata));
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                found.insert(name, (target, metadata));
            } else if kind.is_file() {
                found.insert(name, (fs::read(&path).unwrap(), metadata));
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&trial.tree(), "", &mut found);
    found
}

/// Asserts that the bucket holds an object for each entry of the tree, and nothing else.
#[track_caller]
fn assert_as_datasync(trial: &Trial) {
    let expected = expected(trial);
    assert_eq!(trial.names(), expected.keys().cloned().collect());
    for (name, (content, metadata)) in &expected {
        let object = trial.stored(name);
        assert_eq!(&object.body[..], &content[..], "{name}");
        for (key, value) in metadata {
            assert_eq!(object.metadata(key), Some(value.as_str()), "{name} {key}");
        }
        let atime = object.metadata("file-atime").unwrap();
        assert!(atime.ends_with("ns") && atime.trim_end_matches("ns").parse::<i128>().is_ok(), "{name} {atime}");
    }
}

/// Puts an object as DataSync would have written it `age` ago, with the file's current metadata.
fn put_like_datasync(trial: &Trial, name: &str, age: Duration) {
    let (content, metadata) = expected(trial).remove(name).unwrap();
    let seed = Seed::aged(age).header("x-amz-meta-file-atime", "1ns");
    let seed = metadata.iter().fold(seed, |seed, (key, value)| seed.header(&format!("x-amz-meta-{key}"), value));
    trial.s3.put("site", &format!("www/{name}"), content, seed);
}

fn chmod(trial: &Trial, name: &str, mode: u32) {
    fs::set_permissions(trial.tree().join(name), fs::Permissions::from_mode(mode)).unwrap();
}

// --- what is written ---

#[test]
fn every_kind_of_file_is_written_with_its_metadata_once() {
    let trial = Trial::new();
    rich(&trial);
    trial.object("orphan", "o", LONG_AGO);
    trial.object("gone/", "", LONG_AGO);
    trial.object("gone/x", "x", LONG_AGO);
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_as_datasync(&trial);
    run.assert_adds_up();
    assert_eq!(run.counted("special_skipped"), 1);
    assert_eq!((run.counted("files"), run.counted("symlinks"), run.counted("directories")), (10, 4, 7));
    assert_eq!((run.counted("uploaded"), run.counted("deleted")), (21, 3));

    Trial::settle();
    trial.s3.clear_log();
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS), trial.count(Operation::ListObjectsV2)), (0, 0, 1));
    assert_eq!(run.counted("unchanged"), 21);
    run.assert_adds_up();
}

#[test]
fn datasync_is_the_default_mode() {
    let trial = Trial::new();
    trial.write("d/a", "a");
    let source = trial.tree().display().to_string();
    trial.run_words(&["sync", &source, "s3://site/www"], &[]).expect(0);
    assert_as_datasync(&trial);
}

#[test]
fn unchanged_objects_of_datasync_cost_only_a_listing() {
    let trial = Trial::new();
    rich(&trial);
    thread::sleep(Duration::from_secs(4));
    for name in expected(&trial).keys() {
        put_like_datasync(&trial, name, Duration::ZERO);
    }
    trial.datasync(&["--delete"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS), trial.count(Operation::ListObjectsV2)), (0, 0, 1));
}

#[test]
fn links_are_not_followed_and_objects_below_them_are_orphans() {
    let trial = Trial::new();
    trial.write("d/a", "a");
    trial.link("d", "latest");
    trial.sync(&[]).expect(0);
    assert!(trial.has("latest/a"), "plain mode follows");
    Trial::settle();
    // Objects of plain mode have no metadata, which times do not show.
    trial.datasync(&["--delete", "--compare", "metadata"]).expect(0);
    assert_as_datasync(&trial);
}

#[test]
fn an_entry_that_changes_its_kind_is_deleted_and_written_again() {
    let trial = Trial::new();
    trial.write("file-to-dir", "x");
    trial.write("dir-to-file/in", "x");
    trial.write("file-to-link", "target");
    trial.link("elsewhere", "link-to-dir");
    trial.datasync(&[]).expect(0);
    shell(
        "rm file-to-dir; mkdir file-to-dir; touch file-to-dir/in; rm -r dir-to-file; echo y > dir-to-file; \
         rm file-to-link; ln -s target file-to-link; rm link-to-dir; mkdir link-to-dir",
        &trial.tree(),
    );
    let run = trial.datasync(&["--delete"]).expect(0);
    assert_as_datasync(&trial);
    run.assert_adds_up();
    assert_eq!(run.counted("deleted"), 4, "file-to-dir, dir-to-file/, dir-to-file/in and link-to-dir");
}

#[test]
fn a_link_with_a_new_target_of_equal_length_is_uploaded() {
    let trial = Trial::new();
    trial.write("f", "x");
    trial.link("releases/1", "current");
    trial.datasync(&[]).expect(0);
    trial.remove("current");
    trial.link("releases/2", "current");
    let run = trial.datasync(&[]).expect(0);
    assert_eq!(run.counted("uploaded"), 1);
    assert_as_datasync(&trial);
}

#[test]
fn links_and_directories_have_a_binary_content_type() {
    let trial = Trial::new();
    trial.write("pages/a.html", "x");
    trial.link("a.html", "pages/b.html");
    trial.datasync(&[]).expect(0);
    let kind = |name: &str| trial.stored(name).headers["content-type"].clone();
    assert_eq!(kind("pages/a.html"), "text/html");
    assert_eq!((kind("pages/b.html"), kind("pages/")), ("binary/octet-stream".into(), "binary/octet-stream".into()));
}

#[test]
fn multipart_objects_have_metadata_too() {
    let trial = Trial::new();
    trial.write("large", random(6 << 20));
    trial.datasync(&["--part-size", "5MiB", "--multipart-threshold", "5MiB"]).expect(0);
    assert_eq!(trial.stored("large").part_sizes_bytes, [5 << 20, 1 << 20]);
    assert_as_datasync(&trial);
}

#[test]
fn extreme_and_precise_times_are_stored_and_equal_on_the_next_run() {
    let trial = Trial::new();
    trial.write("x", "x");
    shell(
        "for t in 1901-12-14 1969-12-31T23:59:59.999999999 1970-01-01 2262-04-12 2300-01-01T00:00:00.000000001; do \
         touch -d \"$t UTC\" \"f$t\"; mkdir \"d$t\"; touch -d \"$t UTC\" \"d$t\"; done",
        &trial.tree(),
    );
    trial.datasync(&[]).expect(0);
    assert_as_datasync(&trial);
    Trial::settle();
    trial.s3.clear_log();
    let run = trial.datasync(&[]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
    assert_eq!(run.counted("unchanged"), 11);
}

// --- what is rewritten ---

#[test]
fn a_touch_rewrites_the_metadata_once_and_uploads_nothing() {
    let trial = Trial::new();
    trial.write("a", "content");
    trial.datasync(&[]).expect(0);
    Trial::settle();
    shell("touch a", &trial.tree());
    trial.s3.clear_log();
    let run = trial.datasync(&[]).expect(0);
    assert_eq!((trial.count(Operation::CopyObject), trial.count(WRITES)), (1, 1));
    assert_eq!((run.counted("metadata_rewritten"), run.counted("uploaded")), (1, 0));
    run.assert_adds_up();
    assert!(run.stderr.contains("0 deleted, 1 metadata rewritten; "), "{}", run.stderr);
    assert_as_datasync(&trial);
    Trial::settle();
    trial.s3.clear_log();
    trial.datasync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "the next run writes nothing");
}

#[test]
fn a_new_mode_owner_or_entry_rewrites_only_that_object() {
    let trial = Trial::new();
    trial.write("d/a", "a");
    trial.write("e/b", "b");
    trial.write("f/c", "c");
    trial.link("a", "d/link");
    trial.datasync(&[]).expect(0);
    Trial::settle();
    chmod(&trial, "d/a", 0o600);
    chown(trial.tree().join("e/b"), Some(7), Some(8)).unwrap();
    lchown(trial.tree().join("d/link"), Some(9), None).unwrap();
    trial.write("f/new", "n");
    trial.s3.clear_log();
    let run = trial.datasync(&[]).expect(0);
    let rewritten: Vec<_> =
        trial.s3.requests(Operation::CopyObject).iter().map(|request| request.key.clone()).collect();
    let mut rewritten: Vec<_> = rewritten.iter().map(|key| key.trim_start_matches("www/")).collect();
    rewritten.sort_unstable();
    assert_eq!(rewritten, ["d/a", "d/link", "e/b", "f/"]);
    assert_eq!((run.counted("uploaded"), run.counted("metadata_rewritten")), (1, 4));
    assert_as_datasync(&trial);
}

#[test]
fn a_rewrite_keeps_all_other_headers() {
    let trial = Trial::new();
    trial.write("a+b %.txt", "content");
    let kept = [
        ("content-type", "text/x-mine"),
        ("cache-control", "max-age=60"),
        ("content-encoding", "identity"),
        ("content-disposition", "inline"),
        ("content-language", "de"),
        ("expires", "Thu, 01 Dec 2044 16:00:00 GMT"),
        ("x-amz-website-redirect-location", "/other"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key-7"),
        ("x-amz-meta-title", "the user's own"),
    ];
    let seed = kept.iter().fold(Seed::aged(Duration::ZERO), |seed, (name, value)| seed.header(name, *value));
    let body = "content";
    trial.s3.settings(|settings| settings.kms = false);
    trial.s3.put("site", "www/a+b %.txt", body, seed.header("x-amz-server-side-encryption", "AES256"));
    let run = trial.datasync(&[]).expect(0);
    assert_eq!(run.counted("metadata_rewritten"), 1, "{}", run.report);
    let object = trial.stored("a+b %.txt");
    for (name, value) in kept.iter().filter(|(name, _)| *name != "x-amz-server-side-encryption") {
        assert_eq!(object.headers.get(*name).map(String::as_str), Some(*value), "{name}");
    }
    assert_eq!(object.headers["x-amz-server-side-encryption"], "AES256");
    assert_eq!(&object.body[..], body.as_bytes());
    assert_as_datasync(&trial);
}

#[test]
fn an_object_that_s3_cannot_copy_is_uploaded_with_all_its_headers() {
    let too_large = Fault::custom(|_| {
        let message =
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
        Some(Reply::error(400, "InvalidRequest", message, ""))
    });
    for (class, fault) in [("GLACIER", None), ("DEEP_ARCHIVE", None), ("STANDARD_IA", Some(too_large))] {
        let trial = Trial::new();
        trial.write("a", "content");
        let seed =
            Seed::aged(Duration::ZERO).header("x-amz-storage-class", class).header("content-type", "text/x-mine");
        trial.s3.put("site", "www/a", "content", seed.header("x-amz-meta-title", "kept"));
        if let Some(fault) = fault {
            trial.s3.rule(Rule::on(Operation::CopyObject).always().does(fault));
        }
        let run = trial.datasync(&[]).expect(0);
        assert_eq!(run.counted("uploaded"), 1, "{class}");
        let object = trial.stored("a");
        assert_eq!((object.storage_class(), object.headers["content-type"].as_str()), (class, "text/x-mine"));
        assert_eq!(object.metadata("title"), Some("kept"));
        assert_as_datasync(&trial);
    }
}

#[test]
fn an_object_of_another_tool_gets_metadata_if_its_file_is_newer() {
    let trial = Trial::new();
    trial.write("a", "same");
    trial.object("a", "same", LONG_AGO);
    let run = trial.datasync(&[]).expect(0);
    assert_eq!((run.counted("metadata_rewritten"), run.counted("uploaded")), (1, 0));
    assert_as_datasync(&trial);
}

#[test]
fn a_file_that_changes_while_its_metadata_is_rewritten_is_uploaded() {
    let trial = Trial::new();
    let path = trial.write("a", "same");
    trial.object("a", "same", LONG_AGO);
    trial
        .s3
        .rule(Rule::on(Operation::CopyObject).does(Fault::Before(Arc::new(move || fs::write(&path, "diff").unwrap()))));
    let run = trial.datasync(&[]).expect(0);
    assert_eq!(run.counted("uploaded"), 1);
    assert_as_datasync(&trial);
}

#[test]
fn rewrite_does_not_overwrite_a_concurrent_write() {
    let trial = Trial::new();
    trial.write("a", "same");
    trial.object("a", "same", LONG_AGO);
    let server = trial.s3.clone();
    trial.s3.rule(Rule::on(Operation::CopyObject).does(Fault::before(move || {
        server.put("site", "www/a", "another writer's", Seed::default());
    })));
    let run = trial.datasync(&[]).expect(3);
    assert_eq!(&trial.stored("a").body[..], b"another writer's");
    assert!(run.only_failure()["message"].as_str().unwrap().contains("another writer"), "{}", run.report);
}

#[test]
fn a_rewrite_survives_lost_responses_errors_inside_200_and_slow_copies() {
    let faults = [
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::ErrorInside200("InternalError"),
        Fault::status(503, "SlowDown"),
        Fault::Delay(Duration::from_secs(20)),
    ];
    for fault in faults {
        let trial = Trial::new();
        trial.write("a", "same");
        // Each copy of a multipart object has another ETag, so a retry fails on the run's own copy.
        trial.s3.put("site", "www/a", "same", Seed::aged(LONG_AGO).in_parts_of(2));
        trial.s3.rule(Rule::on(Operation::CopyObject).does(fault.clone()));
        let run = trial.datasync(&[]).expect(0);
        assert_eq!(run.counted("metadata_rewritten"), 1, "{fault:?}");
        let copies = if matches!(fault, Fault::Delay(_)) { 1 } else { 2 };
        assert_eq!(trial.count(Operation::CopyObject), copies, "{fault:?}");
        assert_as_datasync(&trial);
    }
}

#[test]
fn a_refused_rewrite_fails_alone() {
    let trial = Trial::new();
    for name in ["a", "b"] {
        trial.write(name, "same");
        trial.object(name, "same", LONG_AGO);
    }
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::CopyObject).key_contains("www/a").always().does(denied));
    let run = trial.datasync(&[]).expect(3);
    assert_eq!(run.failed_keys(), ["www/a"]);
    assert_eq!(run.only_failure()["operation"], "CopyObject");
    assert_eq!(run.counted("metadata_rewritten"), 1);
    run.assert_adds_up();
}

#[test]
fn plan_lists_rewrites_and_writes_nothing() {
    let trial = Trial::new();
    trial.write("a", "same");
    trial.write("new/b", "b");
    trial.object("a", "same", LONG_AGO);
    let source = trial.tree().display().to_string();
    let run = trial.run_words(&["plan", &source, "s3://site/www", "--exit-code"], &[]).expect(10);
    let lines: Vec<serde_json::Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let planned: Vec<_> =
        lines.iter().map(|line| (line["action"].as_str().unwrap(), line["key"].as_str().unwrap())).collect();
    assert_eq!(planned, [("rewrite_metadata", "www/a"), ("upload", "www/new/"), ("upload", "www/new/b")]);
    assert_eq!(lines[0]["reason"], "metadata");
    assert_eq!(trial.count(WRITES), 0);
    let changes = trial.folder.path().join("changes");
    trial.datasync(&["--changes", changes.to_str().unwrap()]).expect(0);
    let changes = fs::read_to_string(changes).unwrap();
    assert!(
        changes.contains("{\"action\":\"rewrite_metadata\",\"key\":\"www/a\",\"reason\":\"metadata\"}"),
        "{changes}"
    );
}

#[test]
fn a_touched_file_under_kms_is_rewritten_or_uploaded_once() {
    // Without checksums, the content of an object under KMS is unknown, unless it is empty.
    for (checksums, uploaded) in [(true, 0), (false, 2)] {
        let trial = Trial::new();
        trial.s3.settings(|settings| (settings.kms, settings.checksums) = (true, checksums));
        trial.write("d/a", "content");
        trial.link("d/a", "link");
        trial.datasync(&[]).expect(0);
        Trial::settle();
        shell("touch d/a d; touch -h link", &trial.tree());
        let run = trial.datasync(&[]).expect(0);
        assert_eq!(
            (run.counted("uploaded"), run.counted("metadata_rewritten")),
            (uploaded, 3 - uploaded),
            "{checksums}"
        );
        assert_as_datasync(&trial);
        Trial::settle();
        trial.s3.clear_log();
        trial.datasync(&[]).expect(0);
        assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "{checksums}");
    }
}

#[test]
fn an_unreadable_directory_keeps_its_object_and_all_below_it() {
    let trial = Trial::new();
    trial.write("open/a", "a");
    trial.write("closed/b", "b");
    chmod(&trial, "closed", 0o700);
    trial.object("closed/b", "b", LONG_AGO);
    trial.object("closed/", "", LONG_AGO);
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.sync_as_nobody(&["--delete", "--mode", "datasync"]).expect(3);
    assert!(trial.has("closed/b") && trial.has("closed/") && trial.has("orphan") && trial.has("open/a"));
    assert_eq!(run.withheld_by("walk"), 1);
    run.assert_adds_up();
}

// --- the dialect ---

#[test]
fn metadata_is_written_in_the_dialect_of_the_bucket() {
    let trial = Trial::new();
    trial.write("known", "k");
    trial.write("new", "n");
    let seed = Seed::aged(LONG_AGO)
        .header("x-amz-meta-user-agent", "aws-datasync")
        .header("x-amz-meta-file-mtime", "1595002920000")
        .header("x-amz-meta-file-permissions", "100644");
    trial.s3.put("site", "www/known", "k", seed.clone());
    let mtime = |name: &str| trial.stored(name).metadata("file-mtime").unwrap().to_owned();
    trial.datasync(&[]).expect(0);
    for name in ["known", "new"] {
        assert!(mtime(name).parse::<i64>().is_ok(), "{}", mtime(name));
        assert_eq!(trial.stored(name).metadata("file-permissions").unwrap().len(), 6);
    }
    Trial::settle();
    shell("touch new", &trial.tree());
    trial.s3.clear_log();
    assert_eq!(trial.datasync(&[]).expect(0).counted("metadata_rewritten"), 1, "seen in milliseconds too");
    trial.write("newer", "n");
    trial.datasync(&["--metadata-dialect", "nanoseconds"]).expect(0);
    assert!(mtime("newer").ends_with("ns"));
}

#[test]
fn metadata_in_another_dialect_is_equal_and_kept() {
    let trial = Trial::new();
    trial.write_aged("a", "a", Duration::from_secs(500));
    let meta = fs::metadata(trial.tree().join("a")).unwrap();
    let millis = meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000;
    let seed = Seed::aged(Duration::ZERO)
        .header("x-amz-meta-file-mtime", millis.to_string())
        .header("x-amz-meta-file-permissions", format!("{:o}", meta.mode() & 0o7777))
        .header("x-amz-meta-file-owner", meta.uid().to_string())
        .header("x-amz-meta-file-group", meta.gid().to_string());
    trial.s3.put("site", "www/a", "a", seed);
    let run = trial.datasync(&["--compare", "metadata"]).expect(0);
    assert_eq!((trial.count(WRITES), run.counted("unchanged")), (0, 1));
}

#[test]
fn metadata_that_is_not_preserved_is_neither_written_nor_compared() {
    let trial = Trial::new();
    trial.write("a", "a");
    let options = ["--no-preserve", "uid,gid,permissions,atime"];
    trial.datasync(&options).expect(0);
    let object = trial.stored("a");
    assert!(object.metadata("file-mtime").is_some());
    for name in ["file-owner", "file-group", "file-permissions", "file-atime"] {
        assert_eq!(object.metadata(name), None, "{name}");
    }
    Trial::settle();
    chmod(&trial, "a", 0o600);
    trial.s3.clear_log();
    trial.datasync(&options).expect(0);
    assert_eq!(trial.count(WRITES), 0);
    let run = trial.datasync(&["--no-preserve", "mtime"]).expect(0);
    assert_eq!(run.counted("metadata_rewritten"), 1);
    assert_eq!(trial.stored("a").metadata("file-mtime"), None);
    assert_eq!(trial.stored("a").metadata("file-permissions"), Some("0100600"));
}

// --- comparing by metadata ---

#[test]
fn compare_metadata_finds_differences_that_times_do_not_show() {
    let trial = Trial::new();
    for name in ["wrong-mode", "wrong-time", "right", "foreign"] {
        trial.write_aged(name, "same", Duration::from_secs(500));
    }
    thread::sleep(Duration::from_secs(3));
    for name in ["wrong-mode", "wrong-time", "right"] {
        put_like_datasync(&trial, name, Duration::ZERO);
    }
    let stored = |name: &str, header: &str, value: &str| {
        let mut object = trial.stored(name);
        object.headers.insert(format!("x-amz-meta-{header}"), value.to_owned());
        let seed = Seed { headers: object.headers, ..Seed::default() };
        trial.s3.put("site", &format!("www/{name}"), object.body, seed);
    };
    stored("wrong-mode", "file-permissions", "0100777");
    stored("wrong-time", "file-mtime", "1595002920000000000ns");
    trial.object("foreign", "same", Duration::ZERO);
    trial.datasync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "by their times, all files are older");
    let run = trial.datasync(&["--compare", "metadata"]).expect(0);
    assert_eq!((trial.count(Operation::CopyObject), trial.count(WRITES)), (3, 3));
    assert_eq!(
        trial.count(Operation::HeadObject),
        6,
        "one for each object, and two to learn the dialect for `foreign`"
    );
    assert_eq!((run.counted("metadata_rewritten"), run.counted("unchanged")), (3, 1));
    assert_eq!(run.report["bytes"]["read_for_compare"], 8, "two files whose stored mtime proves nothing");
    assert_as_datasync(&trial);
}

#[test]
fn compare_metadata_with_another_mtime_and_content_uploads() {
    let trial = Trial::new();
    trial.write_aged("a", "file", Duration::from_secs(500));
    thread::sleep(Duration::from_secs(3));
    let seed = Seed::default().header("x-amz-meta-file-mtime", "1595002920000000000ns");
    trial.s3.put("site", "www/a", "diff", seed);
    let run = trial.datasync(&["--compare", "metadata"]).expect(0);
    assert_eq!(run.counted("uploaded"), 1);
    assert_as_datasync(&trial);
}

// --- what is kept ---

#[test]
fn reserved_paths_are_neither_sent_nor_deleted() {
    let trial = Trial::new();
    trial.write("a", "a");
    trial.write("keep/.aws-datasync/x", "never sent");
    trial.write("keep/vm.snapshot", "never sent");
    trial.write("keep/.zfs/y", "never sent");
    trial.link("a", "keep/.awssync");
    let kept = [".aws-datasync/state", "d/.snapshot", ".awssync", "d/x.snapshot/y", "keep/.zfs/y", "keep/.zfs/z"];
    for name in kept {
        trial.object(name, "k", LONG_AGO);
    }
    trial.object("d/orphan", "o", LONG_AGO);
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(0);
    run.assert_adds_up();
    let mut names: Vec<String> = trial.names().into_iter().collect();
    names.retain(|name| !kept.contains(&name.as_str()));
    assert_eq!(names, ["a", "keep/"]);
    assert!(kept.iter().all(|name| trial.has(name)));
    assert_eq!(run.report["skipped_because"]["reserved_path"], 4);
}

#[test]
fn overwrite_never_writes_only_absent_objects() {
    let trial = Trial::new();
    trial.write("longer", "new and longer");
    trial.write("same-size", "new");
    trial.write("touched", "same");
    trial.write("new", "n");
    trial.object("longer", "old", LONG_AGO);
    trial.object("same-size", "old", LONG_AGO);
    trial.object("touched", "same", LONG_AGO);
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.datasync(&["--overwrite", "never", "--delete", "--max-delete", "1"]).expect(0);
    assert_eq!((trial.count(Operation::PutObject), trial.count(Operation::CopyObject)), (1, 0));
    assert_eq!(run.report["skipped_because"]["not_overwritten"], 3);
    assert_eq!(trial.objects()["longer"], b"old");
    assert!(!trial.has("orphan"), "the option does not concern deletes");
    run.assert_adds_up();
    let plain = trial.sync(&["--overwrite", "never"]).expect(0);
    assert_eq!((plain.counted("skipped"), plain.counted("uploaded")), (3, 0), "in plain mode too");
}

#[test]
fn the_storage_class_applies_to_new_objects_of_its_minimum_size() {
    let sizes = [
        ("STANDARD_IA", 128 << 10),
        ("ONEZONE_IA", 128 << 10),
        ("GLACIER_IR", 128 << 10),
        ("GLACIER", 40 << 10),
        ("DEEP_ARCHIVE", 40 << 10),
    ];
    for (class, minimum) in sizes {
        let trial = Trial::new();
        trial.write("enough", random(minimum));
        trial.write("small", random(minimum - 1));
        trial.write("update", "new");
        trial.s3.put("site", "www/update", "older", Seed::aged(LONG_AGO).header("x-amz-storage-class", "ONEZONE_IA"));
        trial.datasync(&["--storage-class", class]).expect(0);
        let stored = |name: &str| trial.stored(name).storage_class().to_owned();
        assert_eq!(
            (stored("enough"), stored("small"), stored("update")),
            (class.into(), "STANDARD".into(), "ONEZONE_IA".into())
        );
    }
    let trial = Trial::new();
    trial.write("small", "s");
    trial.datasync(&["--storage-class", "INTELLIGENT_TIERING"]).expect(0);
    assert_eq!(trial.stored("small").storage_class(), "INTELLIGENT_TIERING", "this class has no minimum size");
}

#[test]
fn a_directory_that_no_include_matches_is_walked_and_not_written() {
    let trial = Trial::new();
    trial.write("a/in/x", "x");
    trial.write("a/out/y", "y");
    trial.object("a/out/old", "o", LONG_AGO);
    trial.object("a/", "", LONG_AGO);
    let run = trial.datasync(&["--include", "/a/in", "--delete", "--max-delete", "100%"]).expect(0);
    run.assert_adds_up();
    let names: Vec<_> = trial.names().into_iter().collect();
    assert_eq!(names, ["a/", "a/in/", "a/in/x", "a/out/old"]);
    assert_eq!(trial.stored("a/").metadata("file-mtime"), None, "filtered, so the run keeps it");
}

#[test]
fn keys_that_no_path_can_have_are_reported_and_kept() {
    let trial = Trial::new();
    trial.write("a", "a");
    for key in ["a//b", "../x", "/abs", "./c"] {
        trial.s3.put("site", &format!("www/{key}"), "x", Seed::aged(LONG_AGO));
    }
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!((run.withheld_by("impossible_path"), trial.names().len()), (4, 5));
}

#[test]
fn a_tree_of_only_directories_is_an_empty_source() {
    let trial = Trial::new();
    fs::create_dir_all(trial.tree().join("d/e")).unwrap();
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(3);
    assert_eq!((run.withheld_by("empty_source"), trial.names().len()), (1, 3), "the directories are uploaded");
    trial.datasync(&["--delete", "--max-delete", "100%", "--allow-empty-source"]).expect(0);
    assert_as_datasync(&trial);
    shell("rm -r d", &trial.tree());
    let run = trial.datasync(&["--delete", "--max-delete", "100%"]).expect(3);
    assert_eq!((run.withheld_by("empty_source"), trial.names().len()), (2, 2));
}

// --- changes during the run ---

#[test]
fn an_entry_that_changes_its_kind_during_the_run_is_skipped() {
    let trial = Trial::new();
    trial.write("f", "x");
    for number in 0..40 {
        trial.link("nowhere", &format!("d/{number:02}"));
        fs::create_dir(trial.tree().join(format!("d/{number:02}dir"))).unwrap();
    }
    Trial::settle();
    let tree = trial.tree();
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::before(move || {
        for number in 20..40 {
            let path = tree.join(format!("d/{number:02}"));
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            let path = tree.join(format!("d/{number:02}dir"));
            fs::remove_dir(&path).unwrap();
            symlink("/etc", &path).unwrap();
        }
    })));
    let run = trial.datasync(&["--concurrency", "1"]).expect(0);
    run.assert_adds_up();
    assert!(run.report["skipped_because"]["vanished"].as_u64().unwrap() > 0, "{}", run.report["counts"]);
    trial.datasync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_as_datasync(&trial);
}

// --- a manifest ---

#[test]
fn a_manifest_run_copies_only_its_files_and_deletes_nothing() {
    let trial = Trial::new();
    for name in ["a", "d/b", "d/c", "quoted \"1\", x"] {
        trial.write(name, name);
    }
    trial.link("a", "link");
    trial.object("orphan", "o", LONG_AGO);
    let manifest = trial.folder.path().join("manifest.csv");
    fs::write(&manifest, "d/b\r\n\"quoted \"\"1\"\", x\"\nlink\nmissing\nd\n").unwrap();
    let run = trial.datasync(&["--from-manifest", manifest.to_str().unwrap(), "--delete"]).expect(3);
    run.assert_adds_up();
    let names: Vec<_> = trial.names().into_iter().collect();
    assert_eq!(names, ["d/b", "link", "orphan", "quoted \"1\", x"]);
    assert_eq!(run.failed_keys(), ["www/d", "www/missing"]);
    assert_eq!((trial.count(Operation::ListObjectsV2), trial.count(Operation::HeadObject)), (0, 3));
    Trial::settle();
    fs::write(&manifest, "d/b\nlink\n").unwrap();
    trial.s3.clear_log();
    let run = trial.datasync(&["--from-manifest", manifest.to_str().unwrap()]).expect(0);
    assert_eq!((trial.count(WRITES), run.counted("unchanged")), (0, 2));
}

#[test]
fn a_manifest_can_be_an_object_and_an_invalid_one_is_refused() {
    let trial = Trial::new();
    trial.write("a", "a");
    trial.write("b", "b");
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "today/m.csv", "b\n", Seed::default());
    trial.datasync(&["--from-manifest", "s3://lists/today/m.csv"]).expect(0);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["b"]);
    let missing = trial.datasync(&["--from-manifest", "s3://lists/today/none.csv"]).expect(1);
    assert!(missing.stderr.contains("cannot read the manifest s3://"), "{}", missing.stderr);
    trial.s3.clear_log();
    let manifest = trial.folder.path().join("manifest.csv");
    for (text, reason) in [("a\nfolder/\n", "line 2"), ("../a", "below the source"), ("", "names no file")] {
        fs::write(&manifest, text).unwrap();
        let run = trial.datasync(&["--from-manifest", manifest.to_str().unwrap()]).expect(2);
        assert!(run.stderr.contains(reason), "{}", run.stderr);
    }
    trial.datasync(&["--from-manifest", "/no/where"]).expect(2);
    assert_eq!(trial.s3.log().len(), 0);
}

// --- options that do not go together ---

#[test]
fn options_of_the_other_mode_are_refused_before_any_request() {
    let trial = Trial::new();
    trial.write("a", "a");
    for options in [["--symlinks", "follow"], ["--no-preserve", "ctime"], ["--compare", "mtimes"]] {
        trial.datasync(&options).expect(2);
    }
    for options in [["--compare", "metadata"], ["--no-preserve", "uid"], ["--metadata-dialect", "milliseconds"]] {
        let run = trial.sync(&options).expect(2);
        assert!(run.stderr.contains("--mode datasync"), "{}", run.stderr);
    }
    assert_eq!(trial.s3.log().len(), 0);
}

#[test]
fn a_file_dated_in_the_future_is_compared_and_not_uploaded() {
    let trial = Trial::new();
    trial.write("a", "a");
    trial.set_mtime("a", SystemTime::now() + Duration::from_hours(24));
    trial.datasync(&[]).expect(0);
    Trial::settle();
    trial.s3.clear_log();
    let run = trial.datasync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), run.counted("unchanged")), (0, 1));
}
