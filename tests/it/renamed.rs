//! Files that are renamed during the walk, from a name that the walk has still to read to one that it has read.
//!
//! The tree is real. A directory in its middle is a file system whose open hangs until the test has renamed the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::odd_fs::{Fault, OddFs};
use crate::trial::{FinishedRun, Trial, wait_until};

const LONG_AGO: Duration = Duration::from_secs(1000);
const ALL: [&str; 3] = ["--delete", "--max-delete", "100%"];

/// The files of the tree; those in `z/` are renamed to `a/`.
const FILES: [&str; 6] = ["a/other", "a/sub/deep", "b/x", "z/d/e/two", "z/d/one", "z/file"];

/// A synced tree of files from long ago, each with a size of its own, and a directory `m` in the middle.
fn trial(mode: &str) -> Trial {
    let trial = Trial::new();
    for (number, name) in FILES.iter().enumerate() {
        trial.write(name, "x".repeat(100 + number));
    }
    fs::create_dir(trial.tree().join("m")).unwrap();
    trial.sync(&["--mode", mode]).expect(0);
    // Longer than the clocks of one file system may differ.
    thread::sleep(Duration::from_millis(2_100));
    trial
}

/// Runs the command, and changes the tree once the walk has read `a/` and `b/`, and neither `m/` nor `z/`.
fn while_walking(trial: &Trial, words: &[&str], change: impl FnOnce(&Path)) -> FinishedRun {
    let odd = OddFs::mount(&trial.tree().join("m"), &["f"], &[("", Fault::OpenHangs)]);
    let run = trial.start_words(&[words, &["--walkers", "1"]].concat(), &[]);
    wait_until("the walk reaches m/", || odd.hanging() > 0);
    change(&trial.tree());
    odd.release();
    run.end()
}

fn words<'a>(command: &'a str, source: &'a str, mode: &'a str) -> Vec<&'a str> {
    vec![command, source, "s3://site/www", "--mode", mode]
}

fn rename(tree: &Path, from: &str, to: &str) {
    fs::rename(tree.join(from), tree.join(to)).unwrap();
}

/// The names of the changes, the changes, and the objects whose content no other key has.
type Change = (&'static str, fn(&Path), &'static [&'static str]);

const CHANGES: [Change; 6] = [
    ("a file", |tree| rename(tree, "z/file", "a/file"), &["z/file"]),
    ("a file over another", |tree| rename(tree, "z/file", "a/other"), &["z/file"]),
    ("a directory", |tree| rename(tree, "z/d", "a/d"), &["z/d/e/two", "z/d/one"]),
    ("a directory to the root", |tree| rename(tree, "z/d", "a0"), &["z/d/e/two", "z/d/one"]),
    (
        "a directory in place of another",
        |tree| {
            rename(tree, "a/sub", "z/sub");
            rename(tree, "z/d", "a/sub");
        },
        &["z/d/e/two", "z/d/one"],
    ),
    (
        "a new directory",
        |tree| {
            fs::create_dir_all(tree.join("a/new/er")).unwrap();
            rename(tree, "z/file", "a/new/er/file");
        },
        &["z/file"],
    ),
];

/// Checks each change in each of two ways. Most of the time they wait for files to settle.
fn for_each_change(ways: [&str; 2], check: impl Fn(Change, &str) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for (change, way) in CHANGES.into_iter().flat_map(|change| ways.map(|way| (change, way))) {
            scope.spawn(move || check(change, way));
        }
    });
}

/// Moves `gone` out of the tree and `from` beside it, with a followed link to that in place of `gone`.
fn replace_by_link(tree: &Path, gone: &str, from: &str, below: &str) {
    let out = tree.with_extension("out");
    fs::create_dir_all(out.join("new")).unwrap();
    fs::rename(tree.join(gone), out.join("old")).unwrap();
    fs::rename(tree.join(from), out.join("new").join(below)).unwrap();
    let target = if below == "here" { out.join("new/here") } else { out.join("new") };
    symlink(target, tree.join(gone)).unwrap();
}

#[test]
fn a_directory_replaced_by_a_link_behind_the_walk_keeps_the_old_objects() {
    let changes: [Change; 3] = [
        ("a directory", |tree| replace_by_link(tree, "a", "z/d", "here"), &["z/d/e/two", "z/d/one"]),
        ("a directory, deep", |tree| replace_by_link(tree, "a", "z/d", "sub"), &["z/d/e/two", "z/d/one"]),
        ("a directory in another", |tree| replace_by_link(tree, "a/sub", "z/d", "here"), &["z/d/e/two", "z/d/one"]),
    ];
    thread::scope(|scope| {
        for (what, change, kept) in changes {
            scope.spawn(move || {
                let trial = trial("plain");
                let source = trial.tree().display().to_string();
                let run = while_walking(&trial, &[&words("sync", &source, "plain")[..], &ALL].concat(), change);
                for name in kept {
                    assert!(trial.has(name), "{what}: {name} is the only copy of its content: {}", run.stderr);
                }
                assert_eq!((run.code, run.withheld_by("may_be_renamed")), (3, 2), "{what}");
            });
        }
    });
}

#[test]
fn a_file_renamed_behind_a_followed_link_and_the_walk_keeps_its_old_object() {
    let out = |tree: &Path| tree.with_extension("out");
    let changes: [Change; 2] = [
        ("a directory that a link leads to", |tree| rename(tree, "z/file", "a/linked/file"), &["z/file"]),
        (
            "a place that a new link leads to",
            |tree| {
                let place = tree.with_extension("out").join("file");
                fs::rename(tree.join("z/file"), &place).unwrap();
                symlink(place, tree.join("a/link")).unwrap();
            },
            &["z/file"],
        ),
    ];
    thread::scope(|scope| {
        for (what, change, kept) in changes {
            scope.spawn(move || {
                let trial = trial("plain");
                let shared = out(&trial.tree()).join("shared");
                fs::create_dir_all(&shared).unwrap();
                fs::write(shared.join("x"), "shared").unwrap();
                symlink(shared, trial.tree().join("a/linked")).unwrap();
                trial.sync(&[]).expect(0);
                thread::sleep(Duration::from_millis(2_100));
                let source = trial.tree().display().to_string();
                let run = while_walking(&trial, &[&words("sync", &source, "plain")[..], &ALL].concat(), change);
                assert_eq!(run.code, 3, "{what}: {}", run.stderr);
                assert!(kept.iter().all(|name| trial.has(name)), "{what}: the only copy is gone: {}", run.stderr);
            });
        }
    });
}

#[test]
fn one_missing_entry_does_not_prove_that_a_changed_directory_is_gone() {
    let trial = trial("plain");
    fs::create_dir(trial.tree().join("odd")).unwrap();
    let faults = [("", Fault::ChangesAndNotFoundOnce), ("file", Fault::ListedLater)];
    let _odd = OddFs::mount(&trial.tree().join("odd"), &["file"], &faults);
    trial.object("orphan", "size", LONG_AGO);
    let run = trial.sync(&ALL).expect(3);
    assert!(trial.has("orphan"), "a file of its size may have come to the directory");
    assert_eq!(run.withheld_by("may_be_renamed"), 1);
}

#[test]
fn a_changed_directory_costs_one_stat_for_each_name() {
    let stats = |change: fn(&Path)| {
        let trial = Trial::new();
        for number in 0..200 {
            trial.write(format!("a/{number}"), "x");
        }
        fs::create_dir(trial.tree().join("m")).unwrap();
        trial.sync(&[]).expect(0);
        trial.object("orphan", "of another size", LONG_AGO);
        let source = trial.tree().display().to_string();
        let run = while_walking(&trial, &[&words("sync", &source, "plain")[..], &ALL].concat(), change).expect(0);
        assert!(!trial.has("orphan"));
        run.report["source_operations"]["stat"].as_u64().unwrap()
    };
    let quiet = stats(|_| {});
    let changed = stats(|tree| {
        fs::write(tree.join("a/lock"), "").unwrap();
        fs::remove_file(tree.join("a/lock")).unwrap();
    });
    assert_eq!(changed - quiet, 200);
}

#[test]
fn a_file_renamed_behind_the_walk_keeps_its_old_object_for_one_run() {
    for_each_change(["plain", "datasync"], |(what, change, kept), mode| {
        let trial = trial(mode);
        // Newer than the content of each file.
        trial.object("orphan", "of another size", Duration::ZERO);
        let source = trial.tree().display().to_string();
        let run = while_walking(&trial, &[&words("sync", &source, mode)[..], &ALL].concat(), change).expect(3);
        for key in kept {
            assert!(trial.has(key), "{what}, {mode}: {key} is the only copy of its content");
        }
        assert!(!trial.has("orphan"), "{what}, {mode}: an orphan of another size is deleted");
        assert_eq!(run.withheld_by("may_be_renamed"), u64::try_from(kept.len()).unwrap(), "{what}, {mode}");
        run.assert_adds_up();
        trial.sync(&[&ALL[..], &["--mode", mode]].concat()).expect(0);
        assert!(kept.iter().all(|key| !trial.has(key)), "{what}, {mode}: the next run deletes the old names");
    });
}

/// Changes a file and renames it, alone or with its directory.
const CHANGED: [Change; 4] = [
    (
        "it grew",
        |tree| {
            fs::write(tree.join("z/file"), "x".repeat(1000)).unwrap();
            rename(tree, "z/file", "a/whole");
        },
        &["z/file"],
    ),
    (
        "it shrank",
        |tree| {
            fs::write(tree.join("z/file"), "").unwrap();
            rename(tree, "z/file", "a/whole");
        },
        &["z/file"],
    ),
    (
        "it grew in a directory",
        |tree| {
            fs::write(tree.join("z/d/one"), "x".repeat(1000)).unwrap();
            rename(tree, "z/d", "a/d");
        },
        &["z/d/e/two", "z/d/one"],
    ),
    (
        "it is in a new directory",
        |tree| {
            fs::write(tree.join("z/file"), "x".repeat(1000)).unwrap();
            fs::create_dir_all(tree.join("a/new/er")).unwrap();
            rename(tree, "z/file", "a/new/er/file");
        },
        &["z/file"],
    ),
];

#[test]
fn a_file_that_changed_and_was_renamed_behind_the_walk_keeps_its_old_object() {
    thread::scope(|scope| {
        for ((what, change, kept), mode) in
            CHANGED.into_iter().flat_map(|change| ["plain", "datasync"].map(|mode| (change, mode)))
        {
            scope.spawn(move || {
                let trial = trial(mode);
                // No file has left these directories during the walk.
                for name in ["orphan", "b/orphan", "gone/orphan"] {
                    trial.object(name, "of another size", LONG_AGO);
                }
                let source = trial.tree().display().to_string();
                let run = while_walking(&trial, &[&words("sync", &source, mode)[..], &ALL].concat(), change).expect(3);
                for key in kept {
                    assert!(trial.has(key), "{what}, {mode}: {key} is the only copy of its file");
                }
                for name in ["orphan", "b/orphan", "gone/orphan"] {
                    assert!(!trial.has(name), "{what}, {mode}: {name}: {}", run.stderr);
                }
                assert_eq!(run.withheld_by("may_be_renamed"), u64::try_from(kept.len()).unwrap(), "{what}, {mode}");
                run.assert_adds_up();
                trial.sync(&[&ALL[..], &["--mode", mode]].concat()).expect(0);
                assert!(kept.iter().all(|key| !trial.has(key)), "{what}, {mode}: the next run deletes the old names");
            });
        }
    });
}

#[test]
fn a_plan_keeps_the_old_object_of_a_file_that_changed_and_was_renamed() {
    let (_, change, kept) = CHANGED[0];
    let trial = trial("plain");
    let source = trial.tree().display().to_string();
    let plan = while_walking(&trial, &[&words("plan", &source, "plain")[..], &ALL].concat(), change).expect(3);
    assert!(!plan.stdout.contains(kept[0]), "{}", plan.stdout);
    assert_eq!(plan.withheld_by("may_be_renamed"), 1);
}

#[test]
fn plan_and_verify_are_incomplete_after_a_rename_behind_the_walk() {
    for_each_change(["plan", "verify"], |(what, change, kept), command| {
        let trial = trial("plain");
        // Without an orphan: the file has no object yet.
        for key in kept {
            trial.s3.remove("site", &format!("www/{key}"));
        }
        let source = trial.tree().display().to_string();
        let run = while_walking(&trial, &words(command, &source, "plain"), change);
        assert!([3, 10].contains(&run.code), "{command}, {what}: {}", run.stderr);
        assert!(run.stderr.contains("after the walk had read"), "{command}, {what}: {}", run.stderr);
    });
}

#[test]
fn a_plan_withholds_the_old_names_of_files_renamed_behind_the_walk() {
    for_each_change(["plain", "datasync"], |(what, change, kept), mode| {
        let trial = trial(mode);
        let source = trial.tree().display().to_string();
        let plan = while_walking(&trial, &[&words("plan", &source, mode)[..], &ALL].concat(), change).expect(3);
        assert_eq!(plan.withheld_by("may_be_renamed"), u64::try_from(kept.len()).unwrap(), "{what}, {mode}");
    });
}

#[test]
fn a_change_that_hides_no_rename_withholds_nothing() {
    let trial = trial("plain");
    for name in ["orphan", "z/orphan"] {
        trial.object(name, "of another size", LONG_AGO);
    }
    let source = trial.tree().display().to_string();
    let words = [&words("sync", &source, "plain")[..], &ALL, &["--exclude", "*.tmp|/a/excluded"]].concat();
    let run = while_walking(&trial, &words, |tree| {
        fs::remove_file(tree.join("b/x")).unwrap();
        fs::create_dir(tree.join("a/excluded")).unwrap();
        for name in ["a/of-no-size", "a/excluded/of-a-size", "a/of-a-size.tmp"] {
            fs::write(tree.join(name), if name.contains("no-size") { "new" } else { "of another size" }).unwrap();
        }
    });
    run.expect(0);
    assert!(!trial.has("orphan") && !trial.has("z/orphan"));
}

#[test]
fn files_that_the_walk_has_seen_are_not_taken_for_renamed_ones() {
    thread::scope(|scope| {
        for mode in ["plain", "datasync"] {
            scope.spawn(move || {
                let trial = trial(mode);
                let lock = |tree: &Path| fs::write(tree.join("a/lock"), "lock").unwrap();
                lock(&trial.tree());
                // Younger than the last change of its directory.
                trial.write("a/rewritten-during-the-walk", "12345");
                trial.write("a/other", "rewritten");
                trial.sync(&["--mode", mode]).expect(0);
                for (name, content) in [("orphan", "as longxx"), ("kept-1", "lock"), ("kept-2", "1234567")] {
                    trial.object(name, content, LONG_AGO);
                }
                let source = trial.tree().display().to_string();
                let run = while_walking(&trial, &[&words("sync", &source, mode)[..], &ALL].concat(), |tree| {
                    fs::remove_file(tree.join("a/lock")).unwrap();
                    lock(tree);
                    fs::write(tree.join("a/rewritten-during-the-walk"), "1234567").unwrap();
                });
                let run = run.expect(3);
                assert!(!trial.has("orphan"), "{mode}: a file of its size was seen: {}", run.stderr);
                assert!(trial.has("kept-1"), "{mode}: the new lock file may be the old object's file");
                assert!(trial.has("kept-2"), "{mode}: the walk did not see this content");
                assert_eq!(run.withheld_by("may_be_renamed"), 2, "{mode}");
            });
        }
    });
}

#[test]
fn verify_is_complete_if_a_lock_file_came_and_went_beside_young_files() {
    let trial = trial("plain");
    trial.write("a/other", "rewritten");
    trial.sync(&[]).expect(0);
    trial.object("m/f", "f", LONG_AGO);
    let source = trial.tree().display().to_string();
    let run = while_walking(&trial, &words("verify", &source, "plain"), |tree| {
        fs::write(tree.join("a/lock"), "").unwrap();
        fs::remove_file(tree.join("a/lock")).unwrap();
    });
    run.expect(0);
}

#[test]
fn a_name_that_stays_listed_and_is_not_found_after_the_walk_withholds_deletes() {
    let trial = trial("plain");
    fs::create_dir(trial.tree().join("odd")).unwrap();
    let _odd =
        OddFs::mount(&trial.tree().join("odd"), &["file"], &[("", Fault::ChangesOnOpen), ("file", Fault::FoundOnce)]);
    trial.object("orphan", "size", LONG_AGO);
    let run = trial.sync(&ALL).expect(3);
    assert!(trial.has("orphan"), "{}", run.stderr);
    assert_eq!(run.withheld_by("may_be_renamed"), 1);
}

#[test]
fn only_a_run_with_orphans_stats_directories_again() {
    let trial = trial("plain");
    let stats = |run: &FinishedRun| run.report["source_operations"]["stat"].as_u64().unwrap();
    let quiet = trial.sync(&ALL).expect(0);
    trial.object("orphan", "o", LONG_AGO);
    let run = trial.sync(&ALL).expect(0);
    assert!(!trial.has("orphan"));
    let directories = ["", "a", "a/sub", "b", "m", "z", "z/d", "z/d/e"].len();
    let re_check = 2;
    assert_eq!(stats(&run) - stats(&quiet), u64::try_from(directories + re_check).unwrap());
}
