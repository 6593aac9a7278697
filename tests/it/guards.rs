//! Guards that need more than the keys: a source without content, files that may be renamed, and destinations inside others.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{FinishedRun, Trial, WRITES, wait_until};

const LONG_AGO: Duration = Duration::from_secs(1000);
const DELETES: [Operation; 2] = [Operation::DeleteObject, Operation::DeleteObjects];
const ALL: [&str; 3] = ["--delete", "--max-delete", "100%"];

/// Runs a command on the tree and `s3://site/www`.
fn run(trial: &Trial, command: &str, mode: &str, options: &[&str]) -> FinishedRun {
    let source = trial.tree().display().to_string();
    let words = [&[command, &source, "s3://site/www", "--mode", mode], options].concat();
    trial.run_words(&words, &[])
}

fn has_entry(run: &FinishedRun, guard: &str) -> bool {
    run.report["withheld_because"].as_array().unwrap().iter().any(|entry| entry["guard"] == guard)
}

fn folder(trial: &Trial, name: &str) -> PathBuf {
    let path = trial.folder.path().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

// --- an empty source ---

/// What a tree without content may hold: its name, the options of the run, and a function that creates it.
type Leftover = (&'static str, Vec<&'static str>, fn(&Path));

fn leftovers(mode: &str) -> Vec<Leftover> {
    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let mut all: Vec<Leftover> = vec![
        ("nothing", vec![], |_| {}),
        ("an empty lost+found", vec![], |tree| fs::create_dir(tree.join("lost+found")).unwrap()),
        ("lost+found with content", vec![], |tree| write(&tree.join("d/lost+found/#12/a"))),
        ("an excluded file", vec!["--exclude", "*.keep"], |tree| write(&tree.join("d/.keep"))),
        ("a file that is not included", vec!["--include", "/img"], |tree| write(&tree.join("other/a"))),
        ("an excluded folder", vec!["--exclude", "/cache"], |tree| write(&tree.join("cache/a"))),
        (".nfs leftovers", vec![], |tree| write(&tree.join(".nfs000000000001ff2200000001"))),
        ("empty directories", vec![], |tree| fs::create_dir_all(tree.join("img/below")).unwrap()),
        ("a snapshot folder", vec![], |tree| write(&tree.join("hourly.snapshot/img/f0"))),
        ("a broken link", vec![], |tree| std::os::unix::fs::symlink("nowhere", tree.join("link")).unwrap()),
        ("a link loop", vec![], |tree| std::os::unix::fs::symlink(".", tree.join("link")).unwrap()),
        ("a FIFO", vec![], |tree| {
            let status = std::process::Command::new("mkfifo").arg(tree.join("pipe")).status().unwrap();
            assert!(status.success());
        }),
    ];
    if mode == "datasync" {
        all.push(("a link that is copied as one", vec![], |tree| {
            std::os::unix::fs::symlink("/etc/hostname", tree.join("link")).unwrap();
        }));
    } else {
        all.push(("a link that is skipped", vec!["--symlinks", "skip"], |tree| {
            std::os::unix::fs::symlink("/etc/hostname", tree.join("link")).unwrap();
        }));
    }
    all
}

/// Asserts that a command on a source without content deletes nothing and says so.
#[track_caller]
fn assert_refused(trial: &Trial, command: &str, mode: &str, options: &[&str], what: &str) {
    let ended = run(trial, command, mode, options);
    let what = format!("{what}, {mode}: {command} {options:?}");
    assert_eq!(ended.code, 3, "{what}: {}", ended.stderr);
    assert!(ended.stderr.contains("--allow-empty-source"), "{what}: {}", ended.stderr);
    assert!(has_entry(&ended, "empty_source"), "{what}: {}", ended.report);
    let withheld = if options.contains(&"--delete") { 12 } else { 0 };
    assert_eq!(ended.withheld_by("empty_source"), withheld, "{what}");
    assert!(!ended.stdout.contains("orphan"), "{what}: nothing proves an orphan");
    assert_eq!(trial.count(DELETES), 0, "{what}");
}

fn with_twelve_objects() -> Trial {
    let trial = Trial::new();
    for number in 0..12 {
        trial.object(&format!("img/f{number}"), "x", LONG_AGO);
    }
    trial
}

#[test]
fn a_source_without_content_deletes_nothing_whatever_it_holds() {
    for mode in ["plain", "datasync"] {
        for (what, options, create) in leftovers(mode) {
            let trial = with_twelve_objects();
            create(&trial.tree());
            assert_refused(&trial, "sync", mode, &[&ALL[..], &options].concat(), what);
            let allowed = [&ALL[..], &["--allow-empty-source"], &options].concat();
            run(&trial, "sync", mode, &allowed).expect(0);
            assert!(!trial.has("img/f0") && !trial.has("img/f11"), "{what}");
        }
    }
}

#[test]
fn an_empty_source_is_exit_code_3_in_each_command() {
    for mode in ["plain", "datasync"] {
        let trial = with_twelve_objects();
        trial.write("lost+found/a", "x");
        for command in ["verify", "plan", "sync"] {
            assert_refused(&trial, command, mode, &[], "lost+found");
            assert_refused(&trial, command, mode, &ALL, "lost+found");
        }
        run(&trial, "sync", mode, &["--allow-empty-source"]).expect(0);
        run(&trial, "verify", mode, &["--allow-empty-source"]).expect(0);
    }
}

#[test]
fn one_file_of_the_sync_is_content_even_if_it_is_young_or_fails() {
    for (what, mode, options, code) in [
        ("young", "plain", &["--min-age", "1h"][..], 0),
        ("young", "datasync", &["--min-age", "1h"], 0),
        ("beside lost+found", "plain", &[], 0),
    ] {
        let trial = Trial::new();
        trial.write("lost+found/a", "of a third size");
        trial.write("d/one", "of another size");
        trial.object("d/one", "of another size", LONG_AGO);
        trial.object("orphan", "x", LONG_AGO);
        let ended = run(&trial, "sync", mode, &[&ALL[..], options].concat()).expect(code);
        assert!(!has_entry(&ended, "empty_source") && !trial.has("orphan"), "{what}: {}", ended.report);
    }
    let trial = Trial::new();
    let path = trial.write("unreadable", "of another size");
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    trial.object("unreadable", "content", LONG_AGO);
    trial.object("orphan", "x", LONG_AGO);
    let ended = trial.sync_as_nobody(&ALL).expect(3);
    assert!(!has_entry(&ended, "empty_source") && !trial.has("orphan"), "{}", ended.report);
}

#[test]
fn a_range_without_content_is_not_an_empty_source_if_the_rest_has_some() {
    for (file, content, code) in [("z", true, 0), ("z.tmp", false, 3), ("lost+found/z", false, 3), ("d/z", true, 0)] {
        let trial = Trial::new();
        trial.write(file, "x");
        trial.object("m/1", "x", LONG_AGO);
        let range = ["--range-after", "m", "--range-to", "n", "--exclude", "*.tmp"];
        for command in ["verify", "plan", "sync"] {
            let ended = run(&trial, command, "plain", &range).expect(code);
            assert_eq!(has_entry(&ended, "empty_source"), !content, "{file} {command}");
        }
        let ended = run(&trial, "sync", "plain", &[&ALL[..], &range].concat()).expect(code);
        assert_eq!((trial.has("m/1"), ended.withheld_by("empty_source")), (!content, u64::from(!content)), "{file}");
    }
}

#[test]
fn a_plan_over_a_range_is_applied_if_content_lies_outside_the_range() {
    let trial = Trial::new();
    trial.write("z", "x");
    trial.object("m/1", "x", LONG_AGO);
    let options = ["-o", "plan.jsonl", "--range-after", "m", "--range-to", "n"];
    run(&trial, "plan", "plain", &[&ALL[..], &options].concat()).expect(0);
    trial.remove("z");
    let ended = trial.run_words(&["apply", "plan.jsonl"], &[]).expect(3);
    assert!(trial.has("m/1") && ended.withheld_by("empty_source") == 1);
    trial.write("z", "x");
    trial.run_words(&["apply", "plan.jsonl"], &[]).expect(0);
    assert!(!trial.has("m/1"));
}

#[test]
fn a_manifest_without_content_is_checked_against_the_source() {
    let trial = Trial::new();
    trial.object("a", "x", LONG_AGO);
    let manifest = trial.folder.path().join("manifest.csv");
    fs::write(&manifest, "link\n").unwrap();
    trial.link("nowhere", "link");
    let options = ["--from-manifest", manifest.to_str().unwrap()];
    for command in ["sync", "plan", "verify"] {
        let ended = run(&trial, command, "plain", &options).expect(3);
        assert!(has_entry(&ended, "empty_source"), "{command}: {}", ended.report);
    }
    trial.write("elsewhere", "x");
    let ended = run(&trial, "sync", "plain", &options).expect(0);
    assert!(!has_entry(&ended, "empty_source"));
}

#[test]
fn an_empty_source_beside_an_empty_destination_is_a_failure_if_the_index_knows_files() {
    let trial = Trial::new();
    let state = folder(&trial, "state").display().to_string();
    let options = ["--state", state.as_str()];
    trial.write("a", "x");
    trial.write("cache/b", "x");
    Trial::settle();
    trial.sync(&options).expect(0);
    fs::remove_file(trial.tree().join("a")).unwrap();
    fs::remove_dir_all(trial.tree().join("cache")).unwrap();
    for name in ["a", "cache/b"] {
        trial.s3.remove("site", &format!("www/{name}"));
    }
    for _ in 0..2 {
        let ended = trial.sync(&[&ALL[..], &options].concat()).expect(3);
        assert!(has_entry(&ended, "empty_source"), "the index still has its rows: {}", ended.report);
    }
    trial.sync(&[&options[..], &["--exclude", "/a|/cache"]].concat()).expect(0);
    trial.sync(&[&options[..], &["--allow-empty-source"]].concat()).expect(0);
    trial.sync(&options).expect(0);
}

// --- a server that deletes nothing ---

#[test]
fn deletes_end_with_the_bucket_and_name_the_error() {
    let trial = Trial::new();
    trial.write("f", "x");
    for number in 0..2500 {
        trial.object(&format!("o{number:04}"), "x", LONG_AGO);
    }
    trial.s3.rule(Rule::on(Operation::DeleteObjects).always().does(Fault::status(404, "NoSuchBucket")));
    let ended = trial.sync(&ALL).expect(1);
    assert_eq!((ended.counted("deletes_failed"), ended.withheld_by("listing")), (1000, 1500));
    assert_eq!(trial.count(DELETES), 1);
    let message = ended.report["withheld_because"][0]["message"].as_str().unwrap();
    assert!(message.contains("NoSuchBucket") || message.contains("bucket"), "{message}");
}

// --- files that may be renamed ---

/// Three files of one size with their objects, and an orphan of another size. `a1` is to be renamed.
fn to_be_renamed() -> Trial {
    let trial = Trial::new();
    for number in 0..3 {
        let name = format!("a{number}");
        trial.write_aged(&name, format!("content {number}"), LONG_AGO);
    }
    Trial::settle();
    for number in 0..3 {
        trial.object(&format!("a{number}"), format!("content {number}"), Duration::ZERO);
    }
    trial.object("orphan", "of quite another size", LONG_AGO);
    trial
}

fn rename(trial: &Trial, to: impl AsRef<OsStr>) {
    let to = trial.tree().join(to.as_ref());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(trial.tree().join("a1"), to).unwrap();
}

#[track_caller]
fn assert_old_name_is_kept(trial: &Trial, ended: &FinishedRun, what: &str) {
    assert!(trial.has("a1"), "{what}: {}", ended.stderr);
    assert!(!trial.has("orphan"), "{what}: an orphan of another size goes");
    assert_eq!(ended.withheld_by("may_be_renamed"), 1, "{what}");
    assert_eq!((ended.counted("deleted"), ended.counted("deletes_withheld")), (1, 1), "{what}");
}

#[test]
fn a_name_that_cannot_be_published_keeps_the_old_name() {
    let deep = |names: usize, end: &str| format!("{}{end}", format!("{}/", "x".repeat(230)).repeat(names));
    let names: Vec<(&str, Vec<u8>)> = vec![
        ("not UTF-8", b"b\xff1".to_vec()),
        ("in a directory that is not UTF-8", b"d/b\xff/c/1".to_vec()),
        ("too long", deep(4, &"y".repeat(200)).into_bytes()),
        ("below a directory that is too long", deep(5, "d/1").into_bytes()),
    ];
    for mode in ["plain", "datasync"] {
        for (what, name) in &names {
            let trial = to_be_renamed();
            rename(&trial, OsStr::from_bytes(name));
            let options = ["--delete", "--no-preserve", "mtime,atime,uid,gid,permissions"];
            let options = if mode == "plain" { &options[..1] } else { &options };
            let plan = run(&trial, "plan", mode, options).expect(3);
            assert!(
                plan.stdout.contains("www/orphan") && !plan.stdout.contains("\"delete\",\"key\":\"www/a1\""),
                "{what}"
            );
            assert_eq!(plan.withheld_by("may_be_renamed"), 1, "{what}, {mode}");
            let ended = run(&trial, "sync", mode, options).expect(3);
            assert_old_name_is_kept(&trial, &ended, &format!("{what}, {mode}"));
        }
    }
}

#[test]
fn a_young_file_keeps_its_old_name_and_exit_code_0() {
    for mode in ["plain", "datasync"] {
        let trial = to_be_renamed();
        rename(&trial, "b1");
        let ended = run(&trial, "sync", mode, &["--delete", "--min-age", "1h"]).expect(0);
        assert_old_name_is_kept(&trial, &ended, mode);
        let ended = run(&trial, "sync", mode, &["--delete"]).expect(0);
        assert!(trial.has("b1") && !trial.has("a1"), "{}", ended.report);
    }
}

#[test]
fn an_unreadable_new_file_keeps_its_old_name_in_sync_and_apply() {
    let trial = to_be_renamed();
    rename(&trial, "b1");
    trial.plan(&["--delete", "-o", "plan.jsonl"]).expect(0);
    fs::set_permissions(trial.tree().join("b1"), fs::Permissions::from_mode(0o000)).unwrap();
    let ended = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert_old_name_is_kept(&trial, &ended, "sync");
    assert_eq!(ended.failed_keys(), ["www/b1"]);

    let trial = to_be_renamed();
    rename(&trial, "b1");
    fs::set_permissions(trial.tree().join("b1"), fs::Permissions::from_mode(0o000)).unwrap();
    trial.plan(&["--delete", "-o", "plan.jsonl"]).expect(0);
    let program = trial.folder.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_efs2s3"), &program).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(["apply", "plan.jsonl"]);
    let ended = trial.spawn(command, &[]).end().expect(3);
    assert_old_name_is_kept(&trial, &ended, "apply");
}

#[test]
fn a_new_file_that_never_settles_or_vanishes_keeps_its_old_name() {
    for vanishes in [false, true] {
        let trial = to_be_renamed();
        rename(&trial, "b1");
        let path = trial.tree().join("b1");
        let count = std::sync::atomic::AtomicUsize::new(0);
        let change = move || {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if vanishes {
                let _ = fs::remove_file(&path);
            } else {
                fs::write(&path, "x".repeat(100 + number)).unwrap();
            }
        };
        // The listing comes before the transfer of any file.
        let operation = if vanishes { Operation::ListObjectsV2 } else { Operation::PutObject };
        if vanishes {
            fs::write(trial.tree().join("b1"), "content 1").unwrap();
            trial.write("a", "a new file").to_str().unwrap();
            trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/a").does(Fault::before(change)));
        } else {
            trial.s3.rule(Rule::on(operation).key_contains("b1").always().does(Fault::before(change)));
        }
        let options = ["--delete", "--concurrency", "1"];
        let ended = trial.sync(&options).expect(if vanishes { 0 } else { 3 });
        assert_old_name_is_kept(&trial, &ended, if vanishes { "vanishes" } else { "never settles" });
    }
}

#[test]
fn a_link_without_a_key_keeps_the_object_that_is_as_long_as_its_target() {
    let trial = Trial::new();
    trial.write("a", "x");
    trial.link("some/target", "l");
    trial.datasync(&[]).expect(0);
    trial.object("eleven", "12345678901", LONG_AGO);
    trial.object("ten", "1234567890", LONG_AGO);
    fs::rename(trial.tree().join("l"), trial.tree().join(OsStr::from_bytes(b"l\xff"))).unwrap();
    let ended = trial.datasync(&["--delete"]).expect(3);
    assert!(trial.has("l") && trial.has("eleven") && !trial.has("ten"), "{:?}", trial.names());
    assert_eq!(ended.withheld_by("may_be_renamed"), 2);
}

#[test]
fn a_size_that_cannot_be_learned_withholds_every_delete() {
    let trial = to_be_renamed();
    rename(&trial, OsStr::from_bytes(b"d\xff/1"));
    fs::set_permissions(trial.tree().join(OsStr::from_bytes(b"d\xff")), fs::Permissions::from_mode(0o000)).unwrap();
    let ended = trial.sync_as_nobody(&["--delete"]).expect(3);
    assert_eq!((ended.withheld_by("may_be_renamed"), trial.count(DELETES)), (2, 0));
    assert!(trial.has("orphan"));

    // In plain mode, a link to a directory may lead to any number of files.
    let trial = to_be_renamed();
    fs::create_dir_all(trial.tree().join(OsStr::from_bytes(b"d\xff"))).unwrap();
    std::os::unix::fs::symlink("..", trial.tree().join(OsStr::from_bytes(b"d\xff/up"))).unwrap();
    let ended = trial.sync(&["--delete"]).expect(3);
    assert_eq!(ended.withheld_by("may_be_renamed"), 1);
    assert!(trial.has("orphan"));
}

#[test]
fn a_directory_without_a_key_is_read_only_if_there_are_orphans() {
    let trial = Trial::new();
    trial.write("a", "x");
    for number in 0..20 {
        trial.write_raw_name(format!("d/{number}").as_bytes(), b"x");
    }
    fs::rename(trial.tree().join("d"), trial.tree().join(OsStr::from_bytes(b"d\xff"))).unwrap();
    Trial::settle();
    trial.object("a", "x", Duration::ZERO);
    let stats = |ended: &FinishedRun| ended.report["source_operations"]["stat"].as_u64().unwrap();
    let quiet = trial.sync(&["--delete"]).expect(3);
    trial.object("orphan", "of another size", LONG_AGO);
    let deleting = trial.sync(&["--delete"]).expect(3);
    assert!(!trial.has("orphan"));
    // The root once more, the directory, its 20 files, the orphan that is looked up before its delete, and the path of the
    // source.
    assert_eq!(stats(&deleting), stats(&quiet) + 1 + 1 + 20 + 2, "{}", deleting.report);
}

#[test]
fn the_object_of_a_directory_is_no_old_name() {
    let trial = Trial::new();
    trial.write("a", "x");
    trial.object("d/", "", LONG_AGO);
    trial.object("empty", "", LONG_AGO);
    trial.write_raw_name(b"e\xff", b"");
    let ended = trial.datasync(&["--delete"]).expect(3);
    assert!(!trial.has("d/") && trial.has("empty"));
    assert_eq!(ended.withheld_by("may_be_renamed"), 1);
}

#[test]
fn the_limit_does_not_count_what_may_be_renamed() {
    let trial = to_be_renamed();
    rename(&trial, OsStr::from_bytes(b"b\xff"));
    trial.sync(&["--delete", "--max-delete", "0"]).expect(3);
    assert!(trial.has("orphan"));
    let ended = trial.sync(&["--delete", "--max-delete", "1"]).expect(3);
    assert_old_name_is_kept(&trial, &ended, "one delete is left");
}

// --- a destination inside another one ---

const INNER: &str = "s3://site/www/docs";

/// Two places for a state.
fn states(trial: &Trial) -> [String; 2] {
    trial.s3.create_bucket("state");
    [folder(trial, "state").display().to_string(), "s3://state/of/efs2s3".to_owned()]
}

/// A run on the inner destination, from a tree of its own.
fn inner(trial: &Trial, mode: &str, options: &[&str]) -> FinishedRun {
    let source = folder(trial, "inner");
    for number in 0..5 {
        fs::write(source.join(format!("i{number}")), "inner").unwrap();
    }
    let words = [&["sync", source.to_str().unwrap(), INNER, "--mode", mode], options].concat();
    trial.run_words(&words, &[])
}

fn inner_names(trial: &Trial) -> usize {
    trial.names().iter().filter(|name| name.starts_with("docs/i")).count()
}

#[test]
fn objects_of_an_inner_destination_are_kept() {
    for mode in ["plain", "datasync"] {
        for home in 0..2 {
            let trial = Trial::new();
            let state = states(&trial)[home].clone();
            let options = ["--state", state.as_str()];
            inner(&trial, mode, &options).expect(0);
            for number in 0..5 {
                trial.write(format!("f{number}"), "outer");
            }
            trial.object("orphan", "x", LONG_AGO);
            trial.object("docs2", "x", LONG_AGO);
            let what = format!("{mode}, {state}");
            let all = [&ALL[..], &options].concat();
            let plan = run(&trial, "plan", mode, &all).expect(3);
            assert!(!plan.stdout.contains("docs/i0") && plan.stdout.contains("orphan"), "{what}: {}", plan.stdout);
            let ended = run(&trial, "sync", mode, &all).expect(3);
            assert_eq!((inner_names(&trial), ended.withheld_by("other_destination")), (5, 5), "{what}");
            assert!(!trial.has("orphan") && !trial.has("docs2") && trial.has("f0"), "{what}");
            let entry = &ended.report["withheld_because"][0];
            let message = entry["message"].as_str().unwrap();
            assert!(
                message.contains("s3://site/www/docs/") && message.contains("destinations/site=2fwww=2fdocs.json"),
                "{message}"
            );
            // Without deletes, and if the outer run excludes them, there is nothing to report.
            run(&trial, "sync", mode, &options).expect(0);
            run(&trial, "sync", mode, &[&all[..], &["--exclude", "/docs"]].concat()).expect(0);
            // The inner run does not know the outer one, and deletes its own orphans.
            fs::write(trial.folder.path().join("inner/new"), "x").unwrap();
            trial.object("docs/gone", "x", LONG_AGO);
            inner(&trial, mode, &[&options[..], &["--delete"]].concat()).expect(0);
            assert!(!trial.has("docs/gone") && trial.has("docs/new"), "{what}");
        }
    }
}

#[test]
fn files_whose_keys_belong_to_an_inner_destination_are_failures() {
    let trial = Trial::new();
    let state = states(&trial)[0].clone();
    let options = ["--state", state.as_str()];
    inner(&trial, "datasync", &options).expect(0);
    trial.write("docs/i0", "of the outer tree");
    trial.write("docs/new", "of the outer tree");
    trial.write("f", "x");
    let ended = run(&trial, "sync", "datasync", &options).expect(3);
    assert_eq!(ended.failed_keys(), ["www/docs/i0", "www/docs/new"]);
    assert_eq!(ended.report["failures"][0]["kind"], "other_destination");
    assert!(trial.has("f") && trial.has("docs/"), "the directory is the outer run's");
    assert_eq!(trial.objects()["docs/i0"], b"inner");
    assert!(!trial.has("docs/new"));
    ended.assert_adds_up();
    let manifest = trial.folder.path().join("manifest.csv");
    fs::write(&manifest, "docs/i0\nf\n").unwrap();
    let named = ["--state", &state, "--from-manifest", manifest.to_str().unwrap()];
    assert_eq!(run(&trial, "sync", "plain", &named).expect(3).failed_keys(), ["www/docs/i0"]);
    run(&trial, "sync", "datasync", &[&options[..], &["--exclude", "/docs"]].concat()).expect(0);
}

#[test]
fn a_plan_from_before_the_inner_destination_leaves_its_keys() {
    let trial = Trial::new();
    let state = states(&trial)[0].clone();
    let options = ["--state", state.as_str()];
    trial.write("f", "x");
    trial.write("docs/new", "x");
    trial.object("docs/old", "x", LONG_AGO);
    trial.object("old", "x", LONG_AGO);
    trial.plan(&["--delete", "-o", "plan.jsonl"]).expect(0);
    inner(&trial, "plain", &options).expect(0);
    let ended = trial.run_words(&[&["apply", "plan.jsonl"], &options[..]].concat(), &[]).expect(3);
    assert!(trial.has("docs/old") && !trial.has("docs/new") && trial.has("f"));
    assert_eq!((ended.withheld_by("other_destination"), ended.failed_keys()), (1, vec!["www/docs/new".to_owned()]));
}

#[test]
fn objects_of_an_inner_destination_do_not_count_for_the_limit_or_as_a_full_destination() {
    let trial = Trial::new();
    let state = states(&trial)[0].clone();
    let options = ["--state", state.as_str(), "--delete"];
    inner(&trial, "plain", &options[..2]).expect(0);
    run(&trial, "sync", "plain", &options[..2]).expect(0);
    for number in 0..40 {
        trial.object(&format!("docs/x{number}"), "x", LONG_AGO);
    }
    trial.write("f", "x");
    trial.object("a", "x", LONG_AGO);
    let ended = run(&trial, "sync", "plain", &[&options[..], &["--max-delete", "50%"]].concat()).expect(3);
    assert_eq!((ended.withheld_by("limit"), ended.withheld_by("other_destination")), (1, 45));
}

#[test]
fn the_first_deletes_with_a_new_state_are_announced_once() {
    const WARNING: &str = "the state has no record of this destination";
    for home in 0..2 {
        let trial = Trial::new();
        let state = states(&trial)[home].clone();
        let options = ["--state", state.as_str(), "--delete", "--max-delete", "100%"];
        trial.write("f", "x");
        trial.object("f", "x", Duration::ZERO);
        trial.object("orphan", "x", LONG_AGO);
        let plan = run(&trial, "plan", "plain", &options).expect(0);
        assert!(plan.stderr.contains(WARNING), "{}", plan.stderr);
        let first = run(&trial, "sync", "plain", &options).expect(0);
        assert_eq!(first.stderr.matches(WARNING).count(), 1, "{}", first.stderr);
        assert!(first.stderr.contains("WARN the state has no record") && !trial.has("orphan"), "{}", first.stderr);
        trial.object("orphan", "x", LONG_AGO);
        let second = run(&trial, "sync", "plain", &options).expect(0);
        assert!(!second.stderr.contains(WARNING) && !trial.has("orphan"), "{}", second.stderr);
    }
    // Without a state, and without an orphan, there is nothing to announce.
    let trial = Trial::new();
    trial.write("f", "x");
    let state = states(&trial)[0].clone();
    let first = run(&trial, "sync", "plain", &["--state", state.as_str(), "--delete"]).expect(0);
    trial.object("orphan", "x", LONG_AGO);
    let without = run(&trial, "sync", "plain", &ALL).expect(0);
    assert!(!first.stderr.contains(WARNING) && !without.stderr.contains(WARNING), "{}", first.stderr);
}

#[test]
fn an_inner_destination_is_known_from_its_first_lease_on() {
    for home in 0..2 {
        let trial = Trial::new();
        let state = states(&trial)[home].clone();
        let options = ["--state", state.as_str()];
        trial.write("f", "x");
        trial.object("docs/old", "x", LONG_AGO);
        trial.object("old", "x", LONG_AGO);
        // The outer run has listed all objects, and uploads while the inner run takes its lease.
        trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/f").does(Fault::Delay(Duration::from_secs(12))));
        let outer = trial.start(&[&ALL[..], &options].concat());
        wait_until("the outer run uploads", || {
            trial.s3.requests(Operation::PutObject).iter().any(|put| put.key == "www/f")
        });
        trial.s3.rule(
            Rule::on(Operation::PutObject).key_contains("www/docs/").always().does(Fault::status(403, "AccessDenied")),
        );
        inner(&trial, "plain", &options).expect(3);
        let ended = outer.end().expect(3);
        assert!(trial.has("docs/old") && !trial.has("old"), "{state}: {}", ended.report);
        assert_eq!(ended.withheld_by("other_destination"), 1);
    }
}

#[test]
fn a_retired_destination_is_forgotten_with_its_marker() {
    let trial = Trial::new();
    let state = states(&trial)[0].clone();
    let options = [&ALL[..], &["--state", state.as_str()]].concat();
    inner(&trial, "plain", &options[3..]).expect(0);
    trial.write("f", "x");
    run(&trial, "sync", "plain", &options).expect(3);
    fs::remove_file(Path::new(&state).join("destinations/site=2fwww=2fdocs.json")).unwrap();
    run(&trial, "sync", "plain", &options).expect(0);
    assert_eq!(inner_names(&trial), 0);
}

#[test]
fn the_markers_cost_one_request_in_a_quiet_run() {
    let trial = Trial::new();
    let state = states(&trial)[1].clone();
    trial.write("f", "x");
    Trial::settle();
    let options = ["--state", state.as_str(), "--delete"];
    trial.sync(&options).expect(0);
    trial.sync(&options).expect(0);
    trial.s3.clear_log();
    trial.sync(&options).expect(0);
    let of_markers: Vec<_> = trial
        .s3
        .log()
        .into_iter()
        .filter(|request| format!("{request:?}").contains("destinations"))
        .map(|request| request.operation)
        .collect();
    assert_eq!(of_markers, [Operation::ListObjectsV2]);
    assert!(trial.s3.requests(WRITES).iter().all(|request| request.key.starts_with("of/")), "only the state");
}

#[test]
fn first_runs_on_several_destinations_mark_each_of_them() {
    for home in 0..2 {
        let trial = Trial::new();
        let state = states(&trial)[home].clone();
        trial.write("f", "x");
        thread::scope(|scope| {
            for number in 0..6 {
                let (trial, state) = (&trial, &state);
                scope.spawn(move || trial.sync_to(&format!("s3://site/www/d{number}"), &["--state", state]).expect(0));
            }
        });
        let ended = trial.sync(&[&ALL[..], &["--state", state.as_str()]].concat()).expect(3);
        assert_eq!(ended.withheld_by("other_destination"), 6, "{state}");
    }
}
