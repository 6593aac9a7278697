//! What the walk finds in the source, and what it never opens.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fake_aws::s3::Operation;

use crate::odd_fs::{Absence, Fault, OddFs};
use crate::trial::{FinishedRun, Trial};

const LONG_AGO: Duration = Duration::from_secs(1000);

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn skipped_because(run: &FinishedRun, reason: &str) -> u64 {
    run.report["skipped_because"][reason].as_u64().unwrap_or(0)
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Puts objects that are equal to the files of an [`OddFs`], and others that may be orphans.
fn objects(trial: &Trial, equal: &[&str], others: &[&str]) {
    for name in equal {
        trial.object(name, (*name).to_owned(), LONG_AGO);
    }
    for name in others {
        trial.object(name, "other", LONG_AGO);
    }
}

/// Syncs a tree that changes after its walk, and before the run uploads any young file in it (3 s).
fn changed_after_the_walk(trial: &Trial, options: &[&str], change: impl FnOnce()) -> FinishedRun {
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
    assert_eq!(run.report["skipped_because"]["broken_link"], 1, "a link to itself is broken");
    run.assert_adds_up();
}

#[test]
fn links_that_are_skipped_keep_their_objects() {
    let trial = Trial::new();
    trial.write("real", "r");
    trial.link("real", "link");
    trial.sync(&["--delete"]).expect(0);
    trial.object("link/below", "behind the link", LONG_AGO);
    let run = trial.sync(&["--symlinks", "skip", "--delete", "--max-delete", "100%"]).expect(0);
    assert!(trial.has("link") && trial.has("link/below"), "what lies at or below a skipped link is out of scope");
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
    let run = trial.sync(&["--delete"]).expect(3);
    assert!(trial.has("a-broken") && trial.has("d/f"));
    assert_eq!(run.report["skipped_because"]["broken_link"], 2);
    run.assert_adds_up();
}

#[test]
fn a_file_replaced_by_a_directory_before_its_upload_is_skipped() {
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
fn hard_links_are_two_objects() {
    let trial = Trial::new();
    let first = trial.write("a", "1");
    std::fs::hard_link(first, trial.tree().join("b")).unwrap();
    trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!(trial.names().len(), 2);
}

#[test]
fn a_file_that_vanishes_before_its_upload_is_skipped_alone() {
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
fn a_link_that_replaced_a_file_is_not_followed() {
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

#[test]
fn loops_of_links_end_where_they_close() {
    let trial = Trial::new();
    let outside = trial.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("o"), "out").unwrap();
    std::os::unix::fs::symlink(trial.tree(), outside.join("back")).unwrap();
    trial.write("a/b/f", "1");
    trial.link(".", "self");
    trial.link("..", "a/b/up");
    trial.link("circle-2", "circle-1");
    trial.link("circle-1", "circle-2");
    trial.link(&outside, "out");
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(trial.names(), set(&["a/b/f", "out/o"]));
    assert_eq!((skipped_because(&run, "link_loop"), skipped_because(&run, "broken_link")), (3, 2));
    run.assert_adds_up();
}

#[test]
fn a_link_replaced_by_a_directory_is_copied_by_the_next_run() {
    let trial = Trial::new();
    let nodes = ["a", "d/", "d/f", "d/g", "z"];
    objects(&trial, &["a", "d", "d/f", "z"], &["orphan"]);
    {
        let _odd = OddFs::mount(&trial.tree(), &nodes, &[("d", Fault::ListedAsLink)]);
        let run = trial.sync(&["--delete"]).expect(0);
        assert_eq!(trial.names(), set(&["a", "d", "d/f", "z"]), "only the orphan outside it is deleted");
        assert_eq!(skipped_because(&run, "vanished"), 1);
        run.assert_adds_up();
    }
    let _honest = OddFs::mount(&trial.tree(), &nodes, &[]);
    trial.sync(&["--delete"]).expect(0);
    assert_eq!(trial.names(), set(&["a", "d/f", "d/g", "z"]));
}

#[test]
fn special_files_are_counted_and_never_opened() {
    let trial = Trial::new();
    trial.write("f", "1");
    let fifo = trial.tree().join("a-fifo");
    make_fifo(&fifo);
    let _socket = UnixListener::bind(trial.tree().join("socket")).unwrap();
    let device = trial.tree().join("null");
    assert!(Command::new("mknod").arg(device).args(["c", "1", "3"]).status().unwrap().success());
    trial.link("a-fifo", "to-fifo");
    trial.object("a-fifo", "once a file", LONG_AGO);
    // This thread waits until another one opens the FIFO for reading.
    let opened = Arc::new(AtomicBool::new(false));
    let writer = {
        let (opened, fifo) = (Arc::clone(&opened), fifo.clone());
        thread::spawn(move || {
            let _writer = fs::File::options().write(true).open(fifo).unwrap();
            opened.store(true, Ordering::SeqCst);
        })
    };
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(!opened.load(Ordering::SeqCst), "the FIFO was opened");
    drop(fs::File::open(fifo).unwrap());
    writer.join().unwrap();
    assert_eq!(trial.names(), set(&["a-fifo", "f"]));
    assert_eq!((run.counted("special_skipped"), run.counted("files"), run.counted("failed")), (4, 1, 0));
    assert_eq!(run.report["source_operations"]["open"], 2, "the root and the file");
    run.assert_adds_up();
}

#[test]
fn the_run_does_not_wait_for_a_fifo_that_replaced_a_file() {
    let trial = Trial::new();
    trial.object("d/f", "previous", LONG_AGO);
    let path = trial.write("d/f", "young");
    let run = changed_after_the_walk(&trial, &["--delete"], || {
        fs::remove_file(&path).unwrap();
        make_fifo(&path);
    });
    assert_eq!(trial.objects()["d/f"], b"previous");
    assert_eq!(skipped_because(&run, "vanished"), 1);
    run.assert_adds_up();
}

#[test]
fn a_name_that_is_no_longer_listed_after_its_stat_is_skipped_and_its_object_kept() {
    for gone in ["b", "d"] {
        let trial = Trial::new();
        objects(&trial, &["a", "b", "d/f", "z"], &["orphan"]);
        let nodes = ["a", "b", "d/", "d/f", "z"];
        let _odd = OddFs::mount(&trial.tree(), &nodes, &[(gone, Fault::ListedOnce)]);
        let run = trial.sync(&["--delete"]).expect(0);
        assert_eq!(trial.names(), set(&["a", "b", "d/f", "z"]));
        assert_eq!((run.counted("failed"), skipped_because(&run, "vanished")), (0, 1), "{gone}");
        run.assert_adds_up();
    }
}

#[test]
fn a_file_that_stays_listed_and_cannot_be_statted_fails_and_keeps_its_object() {
    for mode in ["plain", "datasync"] {
        let trial = Trial::new();
        objects(&trial, &["a", "z"], &["b"]);
        let _odd = OddFs::mount(&trial.tree(), &["a", "b", "z"], &[("b", Fault::Vanished)]);
        let run = trial.sync(&["--delete", "--mode", mode]).expect(3);
        assert_eq!(trial.names(), set(&["a", "b", "z"]));
        assert_eq!((run.failed_keys(), skipped_because(&run, "vanished")), (vec!["www/b".to_owned()], 0));
        let failure = run.only_failure();
        assert_eq!((&failure["operation"], &failure["kind"]), (&"stat".into(), &"not_found".into()));
        assert!(failure["message"].as_str().unwrap().contains("the directory has this name"), "{failure}");
        run.assert_adds_up();
        let source = trial.tree().display().to_string();
        for command in ["verify", "plan"] {
            let code = trial.run_words(&[command, &source, "s3://site/www", "--mode", mode], &[]).code;
            // DataSync's mode also finds metadata that the objects of this trial lack.
            assert!(code == 3 || code == 10 && (command, mode) == ("verify", "datasync"), "{command}, {mode}: {code}");
        }
    }
}

#[test]
fn a_directory_that_stays_listed_and_cannot_be_statted_is_unread() {
    let trial = Trial::new();
    objects(&trial, &["a", "z"], &["d/f", "orphan"]);
    let before = trial.names();
    let _odd = OddFs::mount(&trial.tree(), &["a", "d/", "d/f", "z"], &[("d", Fault::Vanished)]);
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(trial.names(), before);
    assert_eq!((run.withheld_by("walk"), run.failed_keys()), (1, vec!["www/d/".to_owned()]));
    run.assert_adds_up();
}

#[test]
fn a_name_that_stays_listed_as_of_another_kind_fails() {
    let trial = Trial::new();
    objects(&trial, &["a", "z"], &["d/f", "f", "orphan"]);
    let before = trial.names();
    let faults = [("d", Fault::ListedAsOtherKind), ("f", Fault::ListedAsOtherKind)];
    let _odd = OddFs::mount(&trial.tree(), &["a", "d/", "d/f", "f", "z"], &faults);
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(trial.names(), before);
    assert_eq!((run.counted("failed"), skipped_because(&run, "vanished")), (2, 0));
    run.assert_adds_up();
}

#[test]
fn a_directory_that_fails_keeps_its_objects_and_withholds_every_delete() {
    for fault in [Fault::ReaddirFails, Fault::StatFails, Fault::ReaddirStale(usize::MAX)] {
        let trial = Trial::new();
        objects(&trial, &["a", "bad/f"], &["bad/old", "bad.txt", "orphan"]);
        let before = trial.names();
        let _odd = OddFs::mount(&trial.tree(), &["a", "bad/", "bad/f", "z/", "z/new"], &[("bad", fault)]);
        let run = trial.sync(&["--delete"]).expect(3);
        assert!(trial.names().is_superset(&before) && trial.has("z/new"), "{fault:?}: {:?}", trial.names());
        assert_eq!((run.withheld_by("walk"), run.failed_keys()), (2, vec!["www/bad/".to_owned()]));
        assert!(run.stderr.contains("--ignore-errors"), "{}", run.stderr);
        run.assert_adds_up();
        trial.sync(&["--delete", "--ignore-errors"]).expect(3);
        assert_eq!(trial.names(), set(&["a", "bad/f", "bad/old", "z/new"]), "{fault:?}");
    }
}

#[test]
fn a_listed_directory_that_is_not_found_when_it_is_opened_is_unread() {
    for absence in [Absence::NoEntry, Absence::NotADirectory, Absence::Loop, Absence::NoDevice] {
        for mode in ["plain", "datasync"] {
            let trial = Trial::new();
            objects(&trial, &["a", "auto/f"], &["auto/old", "orphan"]);
            let before = trial.names();
            let nodes = ["a", "auto/", "auto/f", "z/", "z/new"];
            let _odd = OddFs::mount(&trial.tree(), &nodes, &[("auto", Fault::OpenNotFound(absence))]);
            let run = trial.sync(&["--delete", "--mode", mode]).expect(3);
            assert!(trial.names().is_superset(&before) && trial.has("z/new"), "{absence:?}: {:?}", trial.names());
            assert_eq!((run.withheld_by("walk"), run.failed_keys()), (1, vec!["www/auto/".to_owned()]));
            assert_eq!(skipped_because(&run, "vanished"), 0, "{absence:?}");
            assert!(run.only_failure()["message"].as_str().unwrap().contains("the directory has this name"));
            run.assert_adds_up();
            let source = trial.tree().display().to_string();
            for command in ["verify", "plan"] {
                let words = [command, source.as_str(), "s3://site/www", "--mode", mode];
                let run = trial.run_words(&words, &[]);
                let incomplete = if command == "verify" { [3, 10] } else { [3, 3] };
                assert!(incomplete.contains(&run.code), "{command} after {absence:?}: {}", run.stderr);
            }
        }
    }
}

#[test]
fn a_listed_file_that_is_not_found_when_it_is_opened_or_read_fails() {
    let faults = [Absence::NoEntry, Absence::NotADirectory, Absence::Loop, Absence::NoDevice].map(Fault::OpenNotFound);
    for fault in faults.into_iter().chain([Fault::ReadNotFound]) {
        let trial = Trial::new();
        objects(&trial, &["a"], &["odd"]);
        let _odd = OddFs::mount(&trial.tree(), &["a", "odd", "z"], &[("odd", fault)]);
        let run = trial.sync(&["--delete"]).expect(3);
        assert_eq!(run.failed_keys(), ["www/odd"], "{fault:?}");
        assert_eq!((skipped_because(&run, "vanished"), &trial.objects()["odd"][..]), (0, &b"other"[..]));
        assert!(trial.has("z"));
        run.assert_adds_up();
    }
}

#[test]
fn what_is_found_by_a_second_call_is_synced() {
    for (place, key) in [("d", "d/f"), ("f", "f")] {
        let trial = Trial::new();
        let _odd = OddFs::mount(&trial.tree(), &["d/", "d/f", "f"], &[(place, Fault::OpenNotFoundOnce)]);
        trial.sync(&["--delete"]).expect(0);
        assert!(trial.has(key), "{place}");
    }
}

#[test]
fn a_root_that_fails_is_not_empty() {
    let trial = Trial::new();
    objects(&trial, &["a"], &["b"]);
    let _odd = OddFs::mount(&trial.tree(), &["a"], &[("", Fault::ReaddirFails)]);
    for options in [&["--delete"][..], &["--delete", "--ignore-errors", "--allow-empty-source"]] {
        trial.sync(options).expect(3);
        assert_eq!(trial.names(), set(&["a", "b"]));
    }
}

#[test]
fn a_file_that_fails_keeps_its_object_and_delays_no_other() {
    let trial = Trial::new();
    objects(&trial, &["same"], &["read", "stat", "orphan"]);
    let faults = [("read", Fault::ReadFails), ("stat", Fault::StatFails)];
    let _odd = OddFs::mount(&trial.tree(), &["new", "read", "same", "stat"], &faults);
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(
        trial.names(),
        set(&["new", "read", "same", "stat"]),
        "the run syncs the others, and deletes the orphan"
    );
    assert_eq!((&trial.objects()["read"][..], &trial.objects()["stat"][..]), (&b"other"[..], &b"other"[..]));
    let failed: BTreeSet<String> = run.failed_keys().into_iter().collect();
    assert_eq!(failed, set(&["www/read", "www/stat"]));
    run.assert_adds_up();
}

#[test]
fn a_file_system_mounted_inside_the_source_is_part_of_it() {
    let trial = Trial::new();
    trial.write("a", "1");
    fs::create_dir(trial.tree().join("inner")).unwrap();
    let _inner = OddFs::mount(&trial.tree().join("inner"), &["f", "d/", "d/g"], &[]);
    trial.sync(&["--delete"]).expect(0);
    assert_eq!(trial.names(), set(&["a", "inner/d/g", "inner/f"]));
}

/// Runs until the report over a file system that hangs in one place, and releases the place only then.
fn sync_while_it_hangs(trial: &Trial, nodes: &[&str], fault: (&str, Fault), options: &[&str]) -> FinishedRun {
    let odd = OddFs::mount(&trial.tree(), nodes, &[fault]);
    let mut words = vec!["--delete", "--source-timeout", "3s"];
    words.extend(options);
    let run = trial.start(&words);
    run.wait_for_report();
    assert!(odd.hanging() > 0, "nothing hangs");
    // A process ends only after its last system call.
    odd.release();
    run.end()
}

#[test]
fn a_directory_that_does_not_respond_is_unknown_after_the_timeout() {
    for fault in [Fault::StatHangs, Fault::OpenHangs, Fault::ReaddirHangs] {
        let trial = Trial::new();
        objects(&trial, &["a", "stuck/f"], &["orphan", "stuck/old"]);
        let nodes = ["a", "b", "stuck/", "stuck/f", "z/", "z/new"];
        let run = sync_while_it_hangs(&trial, &nodes, ("stuck", fault), &[]).expect(3);
        assert_eq!(trial.names(), set(&["a", "b", "orphan", "stuck/f", "stuck/old", "z/new"]), "{fault:?}");
        assert_eq!((run.withheld_by("walk"), run.failed_keys()), (1, vec!["www/stuck/".to_owned()]));
        assert_eq!(run.report["failures"][0]["kind"], "timed_out");
        assert!(run.stderr.contains("--source-timeout"), "{}", run.stderr);
        run.assert_adds_up();
        sync_while_it_hangs(&trial, &nodes, ("stuck", fault), &["--ignore-errors"]).expect(3);
        assert_eq!(trial.names(), set(&["a", "b", "stuck/f", "stuck/old", "z/new"]), "{fault:?}");
    }
}

#[test]
fn a_file_that_does_not_respond_fails_alone_after_the_timeout() {
    for fault in [Fault::StatHangs, Fault::OpenHangs, Fault::ReadHangs] {
        let trial = Trial::new();
        objects(&trial, &["a"], &["orphan", "stuck-file"]);
        let run = sync_while_it_hangs(&trial, &["a", "b", "stuck-file", "z"], ("stuck-file", fault), &[]).expect(3);
        assert_eq!(trial.names(), set(&["a", "b", "stuck-file", "z"]), "{fault:?}");
        assert_eq!(trial.objects()["stuck-file"], b"other");
        assert_eq!(
            (run.failed_keys(), &run.report["failures"][0]["kind"]),
            (vec!["www/stuck-file".to_owned()], &"timed_out".into())
        );
        run.assert_adds_up();
    }
}

/// Each hanging file keeps a thread; Tokio's default limit is 512 threads.
#[test]
fn a_thousand_hanging_files_do_not_block_the_others() {
    let trial = Trial::new();
    let stuck: Vec<String> = (0..1000).map(|number| format!("stuck{number:03}")).collect();
    let good: Vec<String> = (0..50).map(|number| format!("z{number:02}")).collect();
    let nodes: Vec<&str> = stuck.iter().chain(&good).map(String::as_str).collect();
    let faults: Vec<(&str, Fault)> = stuck.iter().map(|name| (name.as_str(), Fault::OpenHangs)).collect();
    let odd = OddFs::mount(&trial.tree(), &nodes, &faults);
    let run = trial.start(&["--delete", "--source-timeout", "2s"]);
    run.wait_for_report();
    assert_eq!(odd.hanging(), 1000);
    odd.release();
    let run = run.end().expect(3);
    assert_eq!(trial.names(), good.into_iter().collect());
    assert_eq!(run.counted("failed"), 1000);
    run.assert_adds_up();
}

#[test]
fn a_root_that_does_not_respond_ends_the_run_without_deletes() {
    let trial = Trial::new();
    objects(&trial, &["a"], &["orphan"]);
    sync_while_it_hangs(&trial, &["a"], ("", Fault::ReaddirHangs), &["--allow-empty-source"]).expect(3);
    assert_eq!(trial.names(), set(&["a", "orphan"]));
}

#[test]
fn a_source_whose_open_hangs_ends_the_run_before_any_request() {
    let trial = Trial::new();
    objects(&trial, &["a"], &["orphan"]);
    let run = sync_while_it_hangs(&trial, &["a"], ("", Fault::OpenHangs), &["--allow-empty-source"]).expect(1);
    assert!(run.stderr.contains("did not respond"), "{}", run.stderr);
    assert!(trial.s3.log().is_empty());
}

/// Within 40 seconds the run logs what it waits for. After a late response, it continues.
fn assert_a_hang_is_logged(fault: Fault) {
    let trial = Trial::new();
    objects(&trial, &[], &["d/stuck"]);
    let odd = OddFs::mount(&trial.tree(), &["a", "d/", "d/stuck"], &[("d/stuck", fault)]);
    let run = trial.start(&["--delete"]);
    thread::sleep(Duration::from_secs(40));
    assert!(odd.hanging() > 0, "nothing hangs");
    odd.release();
    let run = run.end().expect(0);
    assert!(run.time < Duration::from_secs(80), "{:?}", run.time);
    let warned = |line: &str| line.contains("does not respond") && line.contains("d/stuck");
    assert!(run.stderr.lines().any(warned), "{}", run.stderr);
    assert_eq!(trial.objects()["d/stuck"], b"d/stuck");
}

#[test]
fn a_stat_that_hangs_is_logged_within_half_a_minute() {
    assert_a_hang_is_logged(Fault::StatHangs);
}

#[test]
fn a_read_that_hangs_is_logged_within_half_a_minute() {
    assert_a_hang_is_logged(Fault::ReadHangs);
}
