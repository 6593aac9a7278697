//! What is found in the source, and what is never touched there.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use efs2s3::demo::s3::Operation;
use serde_json::Value;

use crate::hanging_fs::HangingMount;
use crate::trial::{Ended, Trial};

const LONG_AGO: Duration = Duration::from_secs(1000);

/// A sync of a tree that changes when it has been walked, and before anything young in it is uploaded (3 s).
fn changed_after_the_walk(trial: &Trial, options: &[&str], change: impl FnOnce()) -> Ended {
    let run = trial.start(options);
    while trial.count(Operation::ListObjectsV2) == 0 {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(800));
    assert_eq!(trial.count(Operation::PutObject), 0);
    change();
    run.end().expect(0)
}

#[test]
fn links_are_followed_in_and_out_of_the_tree_and_loops_end() {
    let trial = Trial::new();
    let outside = trial.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("o"), "out").unwrap();
    trial.write("real", "r");
    trial.write("d/f", "f");
    trial.link("real", "l1");
    trial.link("l1", "l2");
    trial.link(outside.join("o"), "l3");
    trial.link(&outside, "ld");
    trial.link("..", "d/up");
    trial.link("self", "self");
    let run = trial.sync(&["--delete"]).expect(0);
    let found = trial.objects();
    let expected = [("d/f", "f"), ("l1", "r"), ("l2", "r"), ("l3", "out"), ("ld/o", "out"), ("real", "r")];
    assert_eq!(found.len(), expected.len(), "{:?}", trial.names());
    assert!(expected.iter().all(|(name, content)| found[*name] == content.as_bytes()));
    assert_eq!(run.report["skipped_because"]["link_loop"], 1);
    assert_eq!(run.report["skipped_because"]["broken_link"], 1, "a link to itself leads nowhere");
    run.assert_adds_up();
}

#[test]
fn links_that_are_skipped_keep_their_objects() {
    let trial = Trial::new();
    trial.write("real", "r");
    trial.link("real", "link");
    trial.sync(&["--delete"]).expect(0);
    let run = trial.sync(&["--symlinks", "skip", "--delete", "--max-delete", "100%"]).expect(0);
    assert!(trial.has("link"));
    assert_eq!((run.counted("symlinks"), run.counted("skipped")), (1, 1));
    run.assert_adds_up();
}

#[test]
fn a_broken_link_is_skipped_and_keeps_the_object_of_its_name() {
    let trial = Trial::new();
    trial.link("nowhere", "a-broken");
    trial.link("nowhere", "d/broken");
    trial.write("d/f", "f");
    trial.object("a-broken", "once a file", LONG_AGO);
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(trial.has("a-broken") && trial.has("d/f"));
    assert_eq!(run.report["skipped_because"]["broken_link"], 2);
    run.assert_adds_up();
}

#[test]
fn a_directory_in_place_of_a_file_between_listing_and_upload_harms_nobody() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.write("m", "2");
    trial.write("z", "3");
    let run = changed_after_the_walk(&trial, &["--delete"], || {
        let path = trial.tree().join("m");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "x").unwrap();
    });
    assert!(trial.has("a") && trial.has("z") && !trial.has("m"));
    assert_eq!(run.report["skipped_because"]["vanished"], 1);
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
}

#[test]
fn specials_are_counted_and_never_opened() {
    let trial = Trial::new();
    trial.write("f", "1");
    assert!(Command::new("mkfifo").arg(trial.tree().join("a-fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(trial.tree().join("sock")).unwrap();
    trial.object("a-fifo", "once a file", LONG_AGO);
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("special_skipped"), run.counted("uploaded")), (2, 1));
    assert!(trial.has("a-fifo"), "when in doubt nothing is deleted");
    assert!(run.time < Duration::from_secs(20));
    run.assert_adds_up();
}

#[test]
fn hard_links_are_two_objects() {
    let trial = Trial::new();
    let first = trial.write("a", "1");
    std::fs::hard_link(first, trial.tree().join("b")).unwrap();
    trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!(trial.names().len(), 2);
}

#[test]
fn a_file_that_vanishes_on_the_way_is_no_failure_and_takes_no_neighbour_with_it() {
    let trial = Trial::new();
    for name in ["a", "m", "z"] {
        trial.write(name, name);
    }
    trial.object("z2", "orphan", LONG_AGO);
    let run = changed_after_the_walk(&trial, &["--delete"], || trial.remove("m"));
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["a", "z"]);
    assert_eq!(run.report["skipped_because"]["vanished"], 1);
    run.assert_adds_up();
}

#[test]
fn a_link_swapped_in_for_a_file_leads_nobody_out_of_the_tree() {
    let trial = Trial::new();
    let secret = trial.folder.path().join("secret");
    std::fs::write(&secret, "outside!").unwrap();
    let path = trial.write("a/file", "inside!!");
    trial.write("b/secret", "inside!!");
    let run = changed_after_the_walk(&trial, &["--symlinks", "skip"], || {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let folder = trial.tree().join("b");
        std::fs::remove_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(secret.parent().unwrap(), &folder).unwrap();
    });
    assert_eq!(run.report["skipped_because"]["vanished"], 2);
    assert!(trial.objects().values().all(|content| content != b"outside!"), "{:?}", trial.names());
}

#[test]
fn an_entry_costs_one_stat_and_a_file_that_is_not_read_is_not_opened() {
    let trial = Trial::new();
    for number in 0..1000 {
        trial.write(format!("d{}/f{number}", number % 10), "x");
    }
    trial.sync(&[]).expect(0);
    Trial::settle();
    let run = trial.sync(&[]).expect(0);
    let operations = &run.report["source_operations"];
    assert_eq!(operations["stat"], 1000 + 10 + 1, "files, directories, the root");
    assert_eq!(operations["open"], 10 + 1, "directories and the root");
}

/// The process itself cannot end before its thread does: no signal ends a read that waits for FUSE.
#[test]
fn a_read_that_hangs_is_left_behind_and_the_rest_goes_on() {
    let trial = Trial::new();
    let mount = HangingMount::new();
    trial.object("hangs", "previous", LONG_AGO);
    trial.object("orphan", "x", LONG_AGO);
    let source = mount.path().display().to_string();
    let report = trial.folder.path().join("hanging.json");
    let words = ["sync", &source, "s3://site/www", "--mode", "plain", "--delete", "--source-timeout", "2s"];
    let begin = Instant::now();
    let run = trial.start_words(&words, &[("EFS2S3_REPORT", &report.display().to_string())]);
    while !report.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the run does not end");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(mount.waiting() > 0, "the read still waits when the report is there");
    mount.heal();
    let run = run.end();
    assert_eq!(run.code, 3, "{}", run.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["failures"][0]["kind"], "timed_out");
    assert_eq!(report["failures"][0]["key"], "www/hangs");
    let objects = trial.objects();
    assert_eq!(
        (objects["a"].as_slice(), objects["z"].as_slice(), objects["hangs"].as_slice()),
        (&b"content"[..], &b"content"[..], &b"previous"[..])
    );
    assert!(!trial.has("orphan"), "a file that fails by itself withholds no delete");
}

#[test]
fn a_read_that_hangs_is_named_within_half_a_minute() {
    let trial = Trial::new();
    let mount = HangingMount::new();
    let source = mount.path().display().to_string();
    let run = trial.start_words(&["sync", &source, "s3://site/www", "--mode", "plain"], &[]);
    thread::sleep(Duration::from_secs(26));
    assert!(mount.waiting() > 0);
    mount.heal();
    let run = run.end();
    let warning = run.stderr.lines().find(|line| line.contains("gives no answer")).unwrap_or_default();
    assert!(warning.contains("hangs") && warning.contains("read"), "{}", run.stderr);
}

#[test]
fn a_hundred_thousand_files_take_no_more_memory_than_ten_thousand() {
    let peak = |files: usize| {
        let trial = Trial::new();
        for number in 0..files {
            trial.write(format!("flat/f{number:06}"), "x");
        }
        let source = trial.tree().display().to_string();
        let run = trial.run_words(&["plan", &source, "s3://site/www", "--mode", "plain"], &[]).expect(0);
        run.report["peak_memory_bytes"].as_u64().unwrap()
    };
    let (few, many) = (peak(10_000), peak(100_000));
    assert!(many * 2 <= few * 3, "{many} bytes for 100,000 files, {few} for 10,000");
}
