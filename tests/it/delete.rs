//! Deletes: what a run deletes, and what each guard withholds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use fake_aws::s3::{Fault, ListOrder, Operation, Reply, Rule, Seed};

use crate::trial::{FinishedRun, Trial, WRITES};

/// An age greater than that of anything in a trial.
const LONG_AGO: Duration = Duration::from_secs(1000);
const DELETES: [Operation; 2] = [Operation::DeleteObject, Operation::DeleteObjects];
/// Delete every orphan.
const ALL: [&str; 3] = ["--delete", "--max-delete", "100%"];

/// Ten files in three directories, each with its object.
fn ten() -> Trial {
    let trial = Trial::new();
    for number in 0..10 {
        let name = format!("d{}/f{number}", number % 3);
        trial.write(&name, number.to_string());
        trial.object(&name, number.to_string(), LONG_AGO);
    }
    trial
}

fn orphans<const N: usize>(trial: &Trial, names: [&str; N]) {
    for name in names {
        trial.object(name, "orphan", LONG_AGO);
    }
}

fn set_mode(trial: &Trial, name: &str, mode: u32) {
    let path = trial.tree().join(name);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The entry of a guard in the report: its count, its keys and its message.
#[track_caller]
fn withheld(run: &FinishedRun, guard: &str) -> (u64, Vec<String>, String) {
    let all = run.report["withheld_because"].as_array().unwrap();
    let entry = all.iter().find(|entry| entry["guard"] == guard);
    let entry = entry.unwrap_or_else(|| panic!("nothing withheld by '{guard}': {all:?}"));
    let keys = entry["keys"].as_array().unwrap().iter();
    let keys = keys.map(|key| key.as_str().unwrap().to_owned()).collect();
    (entry["count"].as_u64().unwrap(), keys, entry["message"].as_str().unwrap().to_owned())
}

/// The number of keys in each `DeleteObjects` request.
fn batches(trial: &Trial) -> Vec<usize> {
    let requests = trial.s3.requests(Operation::DeleteObjects);
    let documents = requests.iter().map(|request| request.document.to_vec());
    documents.map(|document| String::from_utf8(document).unwrap().matches("<Object>").count()).collect()
}

// --- which objects are orphans ---

#[test]
fn nothing_is_deleted_without_the_flag() {
    let trial = ten();
    orphans(&trial, ["orphan", "d0/orphan"]);
    let run = trial.sync(&[]).expect(0);
    assert_eq!(trial.names().len(), 12);
    assert_eq!(trial.count(DELETES), 0);
    assert_eq!(run.counted("deletes_withheld"), 0, "without --delete there is nothing to withhold");
}

#[test]
fn only_objects_without_a_file_are_deleted() {
    let trial = ten();
    orphans(&trial, ["!", "d0", "d0/f", "d0/f00", "d0/f0/x", "d1", "d2/f8!", "~"]);
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("deleted"), run.counted("objects")), (8, 18));
}

#[test]
fn only_keys_below_the_prefix_are_touched() {
    let outside = ["img", "img.txt", "img2/x", "imgs", "im/g", "a", "img!"];
    for destination in ["s3://site/img", "s3://site/img/"] {
        let trial = Trial::new();
        trial.write("kept", "1");
        trial.s3.put("site", "img/kept", "1", Seed::aged(LONG_AGO));
        trial.s3.put("site", "img/orphan", "1", Seed::aged(LONG_AGO));
        // The object that a console creates for a folder is the source itself.
        trial.s3.put("site", "img/", "", Seed::aged(LONG_AGO));
        for key in outside {
            trial.s3.put("site", key, "of another program", Seed::aged(LONG_AGO));
        }
        let source = trial.tree().display().to_string();
        let run = trial.run_words(&["sync", &source, destination, "--delete"], &[]).expect(0);
        let left: BTreeSet<String> = trial.s3.keys("site", "").into_iter().collect();
        let expected = outside.into_iter().chain(["img/", "img/kept"]);
        assert_eq!(left, expected.map(str::to_owned).collect(), "{destination}");
        assert_eq!(run.counted("deleted"), 1);
    }
}

#[test]
fn filtered_keys_are_not_deleted() {
    let trial = ten();
    trial.write("cache/f", "never read");
    orphans(&trial, ["d0/x.tmp", "cache/x", "d1/x", "d2/x"]);
    trial.sync(&["--delete", "--exclude", "*.tmp|/cache"]).expect(0);
    assert!(trial.has("d0/x.tmp") && trial.has("cache/x"));
    assert!(!trial.has("d1/x") && !trial.has("d2/x"));
    orphans(&trial, ["d1/x", "d2/x"]);
    let run = trial.sync(&["--delete", "--include", "/d2"]).expect(0);
    assert!(trial.has("d1/x") && trial.has("d0/x.tmp") && !trial.has("d2/x"));
    run.assert_adds_up();
}

#[test]
fn directory_object_is_kept_while_its_directory_exists() {
    let trial = ten();
    trial.write("linked to/f", "1");
    trial.link("linked to", "link");
    fs::create_dir(trial.tree().join("empty")).unwrap();
    orphans(&trial, ["d0/", "empty/", "link/", "gone/", "d1/f1/"]);
    trial.sync(&["--delete"]).expect(0);
    for name in ["d0/", "empty/", "link/"] {
        assert!(trial.has(name), "{name}");
    }
    for name in ["gone/", "d1/f1/"] {
        assert!(!trial.has(name), "{name}");
    }
}

#[test]
fn file_that_became_a_directory_leaves_no_orphan() {
    let trial = Trial::new();
    trial.write("was a file/x", "1");
    trial.write("was a directory", "2");
    orphans(&trial, ["was a file", "was a directory/x", "was a directory/y/z"]);
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("deleted")), (2, 3));
}

#[test]
fn impossible_keys_are_reported_and_kept() {
    let trial = ten();
    let impossible = ["a//b", "../x", "/abs", "d0/./x", "d0//"];
    orphans(&trial, impossible);
    orphans(&trial, ["orphan"]);
    let run = trial.sync(&["--delete"]).expect(0);
    let (count, keys, _) = withheld(&run, "impossible_path");
    assert_eq!(count, 5);
    for name in impossible {
        assert!(trial.has(name) && keys.contains(&format!("www/{name}")), "{name}");
    }
    assert!(!trial.has("orphan"));
}

#[test]
fn deletes_in_a_versioned_bucket_name_no_version() {
    let trial = ten();
    trial.s3.enable_versioning("site");
    orphans(&trial, ["a", "b", "alone\u{1}"]);
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.s3.delete_markers("site"), run.counted("deleted")), (3, 3));
    for request in trial.s3.requests(DELETES) {
        assert!(!request.query.contains_key("versionId"), "{request:?}");
        assert!(!String::from_utf8_lossy(&request.document).contains("Version"), "{request:?}");
    }
}

// --- guard 1: the walk ---

#[test]
fn an_unreadable_directory_withholds_every_delete() {
    let trial = ten();
    orphans(&trial, ["d1/orphan", "d2/orphan"]);
    trial.write("new", "n");
    set_mode(&trial, "d1", 0);
    let run = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert_eq!(trial.names().len(), 13);
    assert_eq!(trial.count(DELETES), 0);
    assert!(trial.has("new"), "the run uploads");
    assert_eq!(run.failed_keys(), ["www/d1/"]);
    let (count, keys, message) = withheld(&run, "walk");
    assert_eq!(
        (count, keys),
        (1, vec!["www/d2/orphan".to_owned()]),
        "only the orphan that may exist below d1 is not counted"
    );
    assert!(message.contains("--ignore-errors"), "{message}");
    run.assert_adds_up();
}

#[test]
fn ignore_errors_keeps_only_objects_below_the_unreadable_directory() {
    let trial = ten();
    orphans(&trial, ["d1", "d1/orphan", "d1/deep/orphan", "d1-orphan", "d10", "d2/orphan"]);
    set_mode(&trial, "d1", 0);
    let run = trial.sync_as_nobody(&["--delete", "--ignore-errors"]).expect(3);
    for name in ["d1/orphan", "d1/deep/orphan", "d1/f1", "d1/f4", "d1/f7"] {
        assert!(trial.has(name), "{name}");
    }
    for name in ["d1", "d1-orphan", "d10", "d2/orphan"] {
        assert!(!trial.has(name), "{name}");
    }
    assert_eq!((run.counted("deleted"), run.counted("deletes_withheld")), (4, 0));
}

#[test]
fn directory_without_search_permission_keeps_its_objects() {
    let trial = ten();
    orphans(&trial, ["d1/orphan", "d2/orphan"]);
    // The run reads the names, but cannot stat them: each file fails alone.
    set_mode(&trial, "d1", 0o744);
    let run = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert_eq!(run.failed_keys(), ["www/d1/f1", "www/d1/f4", "www/d1/f7"]);
    assert_eq!(run.withheld_by("still_gone_unknown"), 1);
    assert!(trial.has("d1/orphan") && !trial.has("d2/orphan"));
    assert_eq!(trial.names().len(), 11);
    run.assert_adds_up();
}

#[test]
fn failed_files_keep_their_objects_and_orphans_are_deleted() {
    let trial = ten();
    trial.write("d0/f0", "changed, and longer");
    set_mode(&trial, "d0/f0", 0);
    trial.write_raw_name(b"d0/caf\xe9", b"latin 1");
    trial.write("new", "n");
    orphans(&trial, ["d0/orphan", "orphan"]);
    let run = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert_eq!(trial.objects()["d0/f0"], b"0", "unchanged");
    assert!(trial.has("new") && !trial.has("d0/orphan") && !trial.has("orphan"));
    assert_eq!(trial.names().len(), 11);
    assert_eq!((run.counted("failed"), run.counted("deleted")), (2, 2));
    run.assert_adds_up();
}

#[test]
fn broken_link_protects_its_own_key_and_those_below_it() {
    let trial = ten();
    for name in ["a-broken", "d1/broken", "zz-broken"] {
        trial.link("nowhere", name);
    }
    orphans(&trial, ["a-broken", "a-broken-too", "a-broken/f", "d1/broken", "d1/broken/a/b", "d1/brokenx", "orphan"]);
    trial.write("zzz", "new");
    let run = trial.sync(&["--delete"]).expect(3);
    let (count, keys, message) = withheld(&run, "unknown");
    let hidden = ["a-broken", "a-broken/f", "d1/broken", "d1/broken/a/b"].map(|name| format!("www/{name}"));
    assert_eq!((count, keys), (4, hidden.to_vec()));
    assert!(message.contains("link"), "{message}");
    assert!(trial.has("zzz") && !trial.has("orphan") && !trial.has("a-broken-too") && !trial.has("d1/brokenx"));
    assert_eq!((run.counted("skipped"), run.counted("deleted")), (3, 3));
    run.assert_adds_up();

    // Without --delete too, the run does not say that the destination matches.
    trial.sync(&[]).expect(3);
    // What the filters leave out is not part of the run.
    trial.sync(&["--delete", "--exclude", "/a-broken|/d1"]).expect(0);
    for name in ["a-broken", "d1/broken"] {
        std::fs::remove_file(trial.tree().join(name)).unwrap();
    }
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("deleted"), trial.names().len()), (4, 11), "a link that is gone hides nothing");
}

// --- guard 1: the listing ---

/// A small tree whose listing has many pages, with orphans on the first page and on the last one.
fn on_many_pages() -> Trial {
    let trial = ten();
    trial.s3.settings(|settings| settings.page_size = 3);
    orphans(&trial, ["!", "d1/a", "d1/z", "~"]);
    trial
}

#[track_caller]
fn assert_nothing_deleted(trial: &Trial, what: &str) {
    let before = trial.names();
    let run = trial.sync(&["--delete", "--retries", "1"]).expect(1);
    assert_eq!(trial.names(), before, "{what}");
    assert_eq!(trial.count(WRITES), 0, "{what}");
    assert!(run.report["error"].is_string(), "{what}: {}", run.report);
    assert_eq!(run.report["exit_code"], 1, "{what}");
}

#[test]
fn failed_listing_page_deletes_nothing() {
    for skipped in [0, 1, 2, 4] {
        for fault in [
            Fault::status(500, "InternalError"),
            Fault::status(403, "AccessDenied"),
            Fault::ErrorInside200("InternalError"),
            Fault::ResetBefore,
            Fault::TruncatedBody,
        ] {
            let trial = on_many_pages();
            let what = format!("{fault:?} after {skipped} pages");
            let failing = Rule::on(Operation::ListObjectsV2).skip(skipped).times(u64::MAX / 2);
            trial.s3.rule(failing.does(fault));
            assert_nothing_deleted(&trial, &what);
        }
    }
}

#[test]
fn failed_listing_request_is_retried() {
    let trial = on_many_pages();
    for (skipped, fault) in
        [(0, Fault::status(500, "InternalError")), (2, Fault::TruncatedBody), (1, Fault::ResetBefore)]
    {
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).skip(skipped).does(fault));
    }
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("deleted"), run.counted("objects")), (4, 14));
}

#[test]
fn inconsistent_listing_deletes_nothing() {
    type Change = fn(Vec<String>, bool) -> (Vec<String>, bool);
    let lies: [(&str, Change); 6] = [
        ("steps back", |mut keys, more| {
            keys.reverse();
            (keys, more)
        }),
        ("repeats a key", |mut keys, more| {
            keys.insert(0, keys[0].clone());
            (keys, more)
        }),
        ("leaves the prefix", |mut keys, more| {
            keys.push("www2/x".to_owned());
            (keys, more)
        }),
        ("leaves the prefix to the front", |mut keys, more| {
            keys.insert(0, "www.txt".to_owned());
            (keys, more)
        }),
        ("starts before the requested key", |mut keys, more| {
            keys.insert(0, "www/!".to_owned());
            (keys, more)
        }),
        ("repeats the last key of the page before", |mut keys, more| {
            keys.insert(0, "www/d1/a".to_owned());
            (keys, more)
        }),
    ];
    for (what, lie) in lies {
        let trial = on_many_pages();
        // Pages of three: !, d0/f0, d0/f3 | d0/f6, d0/f9, d1/a | d1/f1, …
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).skip(2).does(Fault::page(lie)));
        assert_nothing_deleted(&trial, what);
    }
}

#[test]
fn truncated_page_without_a_token_deletes_nothing() {
    let trial = on_many_pages();
    let page = "<ListBucketResult><Name>site</Name><Prefix>www/</Prefix><KeyCount>0</KeyCount>\
                   <IsTruncated>true</IsTruncated></ListBucketResult>";
    let fault = Fault::custom(|_| Some(Reply::xml(200, page.to_owned())));
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).skip(2).always().does(fault));
    assert_nothing_deleted(&trial, "truncated, without keys or token");
}

#[test]
fn listing_with_directories_first_is_refused() {
    let trial = Trial::new();
    for name in ["a!", "a-b/x", "a/x"] {
        trial.write(name, name);
        trial.object(name, name, LONG_AGO);
    }
    orphans(&trial, ["a/y"]);
    trial.s3.settings(|settings| settings.list_order = ListOrder::DirectoriesFirst);
    assert_nothing_deleted(&trial, "a/x before a!");
}

#[test]
fn failed_listing_of_a_later_range_deletes_nothing() {
    let trial = Trial::new();
    for number in 0..2100 {
        let name = format!("f{number:04}");
        trial.write(&name, "x");
        trial.object(&name, "x", LONG_AGO);
    }
    orphans(&trial, ["!", "f0500!", "f1500!", "~"]);
    // The run requests the first page before the walk starts: it is the first range. Later ranges are requests of their own.
    let fails = Fault::custom(|request| {
        let later = request.query.contains_key("start-after");
        later.then(|| Reply::error(500, "InternalError", "injected", ""))
    });
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(fails));
    assert_nothing_deleted(&trial, "a later range");
}

// --- guard 2: uploads ---

#[test]
fn failed_upload_of_renamed_file_keeps_old_object() {
    let trial = ten();
    fs::rename(trial.tree().join("d0/f0"), trial.tree().join("renamed")).unwrap();
    let refused = Rule::on(Operation::PutObject).key_contains("renamed").always();
    trial.s3.rule(refused.does(Fault::status(403, "AccessDenied")));
    let run = trial.sync(&["--delete"]).expect(3);
    assert!(trial.has("d0/f0") && !trial.has("renamed"));
    let (count, keys, _) = withheld(&run, "uploads");
    assert_eq!((count, keys), (1, vec!["www/d0/f0".to_owned()]));
    assert_eq!(run.failed_keys(), ["www/renamed"]);
    assert_eq!(trial.count(DELETES), 0);
    trial.s3.clear_rules();
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
}

#[test]
fn failed_overwrite_keeps_its_object_and_withholds_no_delete() {
    let trial = ten();
    trial.write("d0/f0", "changed");
    trial.write("new", "n");
    orphans(&trial, ["orphan"]);
    let refused = Rule::on(Operation::PutObject).key_contains("d0/f0").always();
    trial.s3.rule(refused.does(Fault::status(400, "InvalidRequest")));
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(trial.objects()["d0/f0"], b"0");
    assert!(trial.has("new") && !trial.has("orphan"));
    assert_eq!(run.failed_keys(), ["www/d0/f0"]);
    assert_eq!((run.counted("failed"), run.counted("deleted")), (1, 1));
    run.assert_adds_up();
}

// --- guard 3: an empty source ---

#[test]
fn empty_source_deletes_nothing_without_allow_empty_source() {
    let trial = Trial::new();
    orphans(&trial, ["a", "b/c"]);
    let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(3);
    let (count, keys, message) = withheld(&run, "empty_source");
    assert_eq!((count, keys), (2, vec!["www/a".to_owned(), "www/b/c".to_owned()]));
    assert!(message.contains("--allow-empty-source"), "{message}");
    assert_eq!((trial.names().len(), trial.count(DELETES)), (2, 0));
    assert_eq!((run.counted("deletes_withheld"), run.counted("deleted")), (2, 0));
    trial.sync(&["--delete", "--allow-empty-source"]).expect(0);
    assert!(trial.names().is_empty());
}

#[test]
fn empty_source_deletes_no_more_than_max_delete() {
    let trial = Trial::new();
    for number in 0..101 {
        trial.object(&format!("{number}"), "x", LONG_AGO);
    }
    let run = trial.sync(&["--delete", "--allow-empty-source"]).expect(3);
    assert_eq!((run.withheld_by("limit"), trial.names().len()), (101, 101));
}

#[test]
fn empty_source_and_empty_destination_are_equal() {
    let trial = Trial::new();
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(run.report["withheld_because"].as_array().map(Vec::len), Some(0));
}

// --- guard 4: the limit ---

#[test]
fn exceeding_max_delete_withholds_every_delete() {
    let trial = Trial::new();
    for number in 0..150 {
        let name = format!("f{number:03}");
        trial.write(&name, "x");
        trial.object(&name, "x", LONG_AGO);
        trial.object(&format!("{name}!"), "x", LONG_AGO);
    }
    trial.write("new", "n");
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!((trial.names().len(), trial.count(DELETES)), (301, 0));
    assert!(trial.has("new"), "the run uploads");
    let (count, keys, message) = withheld(&run, "limit");
    assert_eq!((count, keys.len()), (150, 150));
    assert!(message.contains("--max-delete 150"), "{message}");
    assert!(run.stderr.contains("--max-delete 150"), "{}", run.stderr);
    assert_eq!(run.counted("deletes_withheld"), 150);
    for (refused, allowed) in [("149", "150"), ("49%", "50%")] {
        let run = trial.sync(&["--delete", "--max-delete", refused]).expect(3);
        assert_eq!((run.withheld_by("limit"), trial.names().len()), (150, 301), "{refused}");
        let run = trial.plan(&["--delete", "--max-delete", allowed]);
        assert_eq!(run.expect(0).stdout.lines().count(), 150, "{allowed}");
    }
    trial.sync(&["--delete", "--max-delete", "150"]).expect(0);
    trial.assert_same();
}

#[test]
fn delete_limit_counts_only_objects_in_scope() {
    for (options, deletes) in
        [(vec!["--exclude", "/logs", "--max-delete", "10%"], 20), (vec!["--include", "/site"], 120)]
    {
        let trial = Trial::new();
        for number in 0..2000 {
            trial.object(&format!("logs/{number:04}"), "x", LONG_AGO);
        }
        for number in 0..deletes {
            trial.object(&format!("site/{number:04}"), "x", LONG_AGO);
        }
        trial.write("site/one", "1");
        let run = trial.sync(&[&["--delete"], &options[..]].concat()).expect(3);
        assert_eq!(run.withheld_by("limit"), deletes, "{options:?}");
        assert_eq!(run.counted("objects"), 2000 + deletes, "the report counts what was listed");
        let (_, _, message) = withheld(&run, "limit");
        assert!(message.contains(&format!("of {deletes} objects in scope")), "{message}");
        assert_eq!(trial.count(DELETES), 0);
    }
}

#[test]
fn delete_limit_does_not_count_reserved_objects() {
    let trial = Trial::new();
    trial.write("one", "1");
    for number in 0..2000 {
        trial.object(&format!("hourly.snapshot/{number:04}"), "x", LONG_AGO);
    }
    for number in 0..120 {
        trial.object(&format!("{number:03}"), "x", LONG_AGO);
    }
    assert_eq!(trial.datasync(&["--delete"]).expect(3).withheld_by("limit"), 120);
}

// --- guards 5 and 6: the re-check ---

/// Runs a hook while the run uploads a new file: after the walk, before the deletes.
fn while_uploading(trial: &Trial, hook: impl Fn() + Send + Sync + 'static) {
    trial.write("new", "n");
    let rule = Rule::on(Operation::PutObject).key_contains("new");
    trial.s3.rule(rule.does(Fault::before(hook)));
}

/// Writes a file with an mtime from before the objects of a trial, as a restored file has.
fn restore(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - 2 * LONG_AGO).unwrap();
}

#[test]
fn a_file_that_is_back_with_new_content_withholds_its_own_delete_alone() {
    let trial = ten();
    orphans(&trial, ["back"]);
    let path = trial.tree().join("back");
    while_uploading(&trial, move || fs::write(&path, "of another size than the orphan").unwrap());
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(trial.has("back"));
    assert_eq!(run.withheld_by("still_gone"), 1);
}

#[test]
fn delete_is_withheld_if_the_file_exists_again() {
    let trial = ten();
    fs::create_dir(trial.tree().join("d")).unwrap();
    orphans(&trial, ["back", "d/back", "new-d/back", "as a link", "broken link/f", "orphan", "as a directory"]);
    let tree = trial.tree();
    while_uploading(&trial, move || {
        fs::create_dir(tree.join("new-d")).unwrap();
        for name in ["back", "d/back", "new-d/back"] {
            restore(&tree.join(name), "of another size than the orphan");
        }
        std::os::unix::fs::symlink("back", tree.join("as a link")).unwrap();
        std::os::unix::fs::symlink("nowhere", tree.join("broken link")).unwrap();
        fs::create_dir(tree.join("as a directory")).unwrap();
    });
    let run = trial.sync(&["--delete"]).expect(3);
    for name in ["back", "d/back", "new-d/back", "as a link", "broken link/f"] {
        assert!(trial.has(name), "{name}");
    }
    assert!(!trial.has("orphan"));
    assert!(!trial.has("as a directory"), "no file has this name");
    let (count, keys, _) = withheld(&run, "still_gone");
    assert_eq!((count, keys.len()), (4, 4));
    assert_eq!((run.counted("deleted"), run.withheld_by("unknown")), (2, 1));
}

#[test]
fn delete_is_withheld_if_the_re_check_fails() {
    let trial = ten();
    fs::create_dir(trial.tree().join("d")).unwrap();
    orphans(&trial, ["d/orphan", "orphan"]);
    let folder = trial.tree().join("d");
    let forbid = move || fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    // The run reads the markers of destinations at its start, and once more just before the re-check.
    trial.s3.create_bucket("states");
    let rule = Rule::on(Operation::ListObjectsV2).key_contains("destinations").skip(1);
    trial.s3.rule(rule.does(Fault::before(forbid)));
    let run = trial.sync_as_nobody(&["--delete", "--state", "s3://states/of"]).expect(3);
    assert!(trial.has("d/orphan") && !trial.has("orphan"));
    assert_eq!(run.withheld_by("still_gone_unknown"), 1);
}

#[test]
fn every_delete_is_withheld_if_a_changed_directory_cannot_be_read_again() {
    let trial = ten();
    fs::create_dir(trial.tree().join("d")).unwrap();
    orphans(&trial, ["d/orphan", "orphan"]);
    let folder = trial.tree().join("d");
    while_uploading(&trial, move || {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    });
    let run = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert!(trial.has("d/orphan") && trial.has("orphan"), "a file may have come to the directory before");
    let (count, _, message) = withheld(&run, "may_be_renamed");
    assert!(count == 2 && message.contains("cannot read 'd/' again after the walk: permission denied"), "{message}");
}

#[test]
fn delete_is_withheld_if_another_writer_changed_the_object() {
    let trial = ten();
    // The run deletes the first key in a batch, and the second one with a request of its own.
    orphans(&trial, ["rewritten", "rewritten\u{1}", "orphan", "orphan\u{1}"]);
    let s3 = trial.s3.clone();
    while_uploading(&trial, move || {
        s3.put("site", "www/rewritten", "theirs", Seed::default());
        s3.put("site", "www/rewritten\u{1}", "theirs", Seed::default());
    });
    let run = trial.sync(&["--delete"]).expect(0);
    let objects = trial.objects();
    assert_eq!(objects["rewritten"], b"theirs");
    assert_eq!(objects["rewritten\u{1}"], b"theirs");
    assert!(!trial.has("orphan") && !trial.has("orphan\u{1}"));
    assert_eq!((run.withheld_by("still_the_same"), run.counted("deleted")), (2, 2));
}

#[test]
fn delete_of_an_already_deleted_object_succeeds() {
    let trial = ten();
    orphans(&trial, ["a", "a\u{1}"]);
    let s3 = trial.s3.clone();
    while_uploading(&trial, move || {
        s3.remove("site", "www/a");
        s3.remove("site", "www/a\u{1}");
    });
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("deletes_failed"), run.counted("deleted")), (0, 2));
}

// --- the requests ---

#[test]
fn orphans_are_deleted_in_batches_of_a_thousand() {
    let trial = Trial::new();
    for number in 0..3000 {
        let name = format!("f{number:04} <&>\"'+%2B\t\n]]>é😀");
        trial.object(&name, "x", LONG_AGO);
        if number % 6 == 0 {
            trial.write(&name, "x");
        }
    }
    let run = trial.sync(&ALL).expect(0);
    trial.assert_same();
    assert_eq!(batches(&trial), [1000, 1000, 500]);
    assert_eq!(trial.count(Operation::DeleteObject), 0);
    assert_eq!((run.counted("deleted"), run.counted("unchanged")), (2500, 500));
}

#[test]
fn orphans_at_page_and_range_boundaries_are_all_deleted() {
    let trial = Trial::new();
    let name = |number: usize| format!("f{number:04}");
    for number in 0..2600 {
        trial.write(name(number), "x");
    }
    Trial::settle();
    for number in 0..2600 {
        trial.object(&name(number), "x", Duration::ZERO);
    }
    let near = |border: usize| (border - 3)..(border + 3);
    let beside = [1000, 2000, 2500].into_iter().flat_map(near).map(name);
    let all: BTreeSet<String> = beside
        .flat_map(|name| [format!("{name}!"), format!("{name}/x")])
        .chain(["!", "a/b", "f", "f0", "f2599!", "g", "~"].map(str::to_owned))
        .collect();
    for orphan in &all {
        trial.object(orphan, "x", Duration::ZERO);
    }
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    assert_eq!(run.counted("deleted"), u64::try_from(all.len()).unwrap());
    let lists = trial.s3.requests(Operation::ListObjectsV2);
    let asks = |what: &str| lists.iter().any(|request| request.query.contains_key(what));
    assert!(asks("start-after") && asks("continuation-token"), "the listing continues after a key and with a token");
    assert_eq!(trial.s3.requests(WRITES).len(), 1, "one batch, no upload");
}

#[test]
fn keys_invalid_in_xml_are_deleted_singly() {
    let trial = ten();
    let alone = ["a\u{1}b", "cr\rlf\n", "\u{1f}", "\u{fffe}"];
    orphans(&trial, alone);
    orphans(&trial, ["plain", "tab\tnewline\n", "\u{7f}", "é"]);
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    let singly = trial.s3.requests(Operation::DeleteObject);
    let singly: BTreeSet<String> = singly.into_iter().map(|request| request.key).collect();
    assert_eq!(singly, alone.iter().map(|name| format!("www/{name}")).collect());
    assert_eq!((batches(&trial), run.counted("deleted")), (vec![4], 8));
}

#[test]
fn each_refused_delete_is_a_separate_failure() {
    let trial = ten();
    orphans(&trial, ["a", "locked", "locked\u{1}", "z"]);
    let locked = ["www/locked", "www/locked\u{1}"].map(str::to_owned).to_vec();
    trial.s3.settings(|settings| settings.refuse_delete = locked.clone());
    let run = trial.sync(&["--delete"]).expect(3);
    assert!(trial.has("locked") && trial.has("locked\u{1}") && !trial.has("a") && !trial.has("z"));
    let counts = ["deletes_failed", "deleted", "failed", "deletes_withheld"].map(|name| run.counted(name));
    assert_eq!(counts, [2, 2, 0, 0]);
    assert_eq!(run.failed_keys(), locked);
    assert!(run.report["failures"][0]["message"].as_str().unwrap().contains("AccessDenied"));
    run.assert_adds_up();
}

#[test]
fn failed_batch_counts_as_failed_and_not_as_deleted() {
    for fault in [
        Fault::status(500, "InternalError"),
        Fault::status(400, "MalformedXML"),
        Fault::ErrorInside200("InternalError"),
        Fault::ResetBefore,
    ] {
        let trial = ten();
        orphans(&trial, ["a", "b"]);
        let what = format!("{fault:?}");
        trial.s3.rule(Rule::on(Operation::DeleteObjects).always().does(fault));
        let run = trial.sync(&["--delete", "--retries", "1"]).expect(3);
        assert_eq!((run.counted("deleted"), run.counted("deletes_failed")), (0, 2), "{what}");
        assert_eq!(run.failed_keys(), ["www/a", "www/b"], "{what}");
        assert!(trial.has("a") && trial.has("b"), "{what}");
    }
}

#[test]
fn batch_with_a_lost_response_is_retried() {
    let trial = ten();
    orphans(&trial, ["a", "a\u{1}"]);
    for operation in DELETES {
        trial.s3.rule(Rule::on(operation).does(Fault::ResetAfter));
    }
    let run = trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("deleted"), run.counted("deletes_failed")), (2, 0));
}

#[test]
fn server_without_batches_gets_single_deletes() {
    let trial = ten();
    orphans(&trial, ["a", "b", "locked"]);
    trial.s3.settings(|settings| {
        settings.delete_objects = false;
        settings.refuse_delete = vec!["www/locked".to_owned()];
    });
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!((run.counted("deleted"), run.counted("deletes_failed")), (2, 1));
    assert!(!trial.has("a") && !trial.has("b") && trial.has("locked"));
}

#[test]
fn deletes_come_after_all_uploads() {
    let trial = ten();
    orphans(&trial, ["a", "z"]);
    for number in 0..5 {
        trial.write(format!("new{number}"), "n");
    }
    trial.sync(&["--delete"]).expect(0);
    let order: Vec<Operation> = trial.s3.requests(WRITES).iter().map(|request| request.operation).collect();
    let first_delete = order.iter().position(|operation| *operation == Operation::DeleteObjects);
    assert_eq!(first_delete, Some(5), "{order:?}");
}

#[test]
fn stopped_run_deletes_nothing() {
    let trial = ten();
    orphans(&trial, ["a", "b"]);
    trial.write("new", "n");
    let run = trial.start(&["--delete"]);
    trial.wait_for_requests(Operation::ListObjectsV2, 1);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(trial.has("a") && trial.has("b"));
    assert_eq!(trial.count(DELETES), 0);
    run.assert_adds_up();
}

// --- the source ---

#[test]
fn missing_source_ends_the_run_before_any_request() {
    let trial = ten();
    let before = trial.objects();
    fs::rename(trial.tree(), trial.folder.path().join("moved away")).unwrap();
    trial.sync(&ALL).expect(1);
    fs::write(trial.tree(), "a file").unwrap();
    let run = trial.sync(&ALL).expect(1);
    assert!(run.stderr.contains("not a directory"), "{}", run.stderr);
    fs::remove_file(trial.tree()).unwrap();
    std::os::unix::fs::symlink("nowhere", trial.tree()).unwrap();
    trial.sync(&ALL).expect(1);
    assert_eq!((trial.s3.log().len(), trial.objects()), (0, before));
}

#[test]
fn unreadable_source_ends_the_run() {
    let trial = ten();
    let before = trial.objects();
    set_mode(&trial, "", 0);
    trial.sync_as_nobody(&["--delete", "--ignore-errors"]).expect(1);
    assert_eq!((trial.s3.log().len(), trial.objects()), (0, before));
    set_mode(&trial, "", 0o755);
}

/// A tmpfs that is mounted until the end of the test.
struct Mounted<'a>(&'a Trial);

impl<'a> Mounted<'a> {
    fn on_the_tree(trial: &'a Trial) -> Self {
        let tree = trial.tree();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(tree).status();
        assert!(mounted.unwrap().success(), "these tests need root");
        Self(trial)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.tree()).status();
    }
}

#[test]
fn require_mount_refuses_a_source_without_a_mount() {
    let trial = ten();
    orphans(&trial, ["orphan"]);
    let before = trial.objects();
    let run = trial.sync(&["--delete", "--require-mount"]).expect(1);
    assert!(run.stderr.contains("--require-mount"), "{}", run.stderr);
    assert_eq!((trial.s3.log().len(), trial.objects()), (0, before));
    // A directory inside a mount is not a mount point.
    let mounted = Mounted::on_the_tree(&trial);
    trial.write("below/f", "1");
    let below = trial.tree().join("below").display().to_string();
    let run = trial.run_words(&["sync", &below, "s3://site/www", "--require-mount"], &[]);
    run.expect(1);
    assert_eq!(trial.s3.log().len(), 0);
    trial.sync(&[&ALL[..], &["--require-mount"]].concat()).expect(0);
    trial.assert_same();
    drop(mounted);
}

#[test]
fn missing_sentinel_ends_the_run() {
    let trial = ten();
    orphans(&trial, ["orphan"]);
    let before = trial.objects();
    let run = trial.sync(&["--delete", "--sentinel", "d0/.mounted"]).expect(1);
    assert!(run.stderr.contains("d0/.mounted"), "{}", run.stderr);
    assert_eq!((trial.s3.log().len(), trial.objects()), (0, before));
    trial.write("d0/.mounted", "");
    trial.sync(&["--delete", "--sentinel", "d0/.mounted"]).expect(0);
    trial.assert_same();
}

#[test]
fn each_guard_has_its_own_entry_in_the_report() {
    let trial = ten();
    orphans(&trial, ["a//b", "back", "orphan", "rewritten"]);
    let (tree, s3) = (trial.tree(), trial.s3.clone());
    while_uploading(&trial, move || {
        restore(&tree.join("back"), "1");
        s3.put("site", "www/rewritten", "theirs", Seed::default());
    });
    let run = trial.sync(&["--delete"]).expect(0);
    let entries = run.report["withheld_because"].as_array().unwrap().iter();
    let keys: BTreeMap<&str, &str> =
        entries.map(|entry| (entry["guard"].as_str().unwrap(), entry["keys"][0].as_str().unwrap())).collect();
    let expected = [("impossible_path", "www/a//b"), ("still_gone", "www/back"), ("still_the_same", "www/rewritten")];
    assert_eq!(keys, expected.into_iter().collect());
    assert_eq!((run.counted("deletes_withheld"), run.counted("deleted")), (3, 1));
}
