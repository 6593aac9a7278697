//! The source itself: where its path leads, what is mounted there, and that nothing leads out of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use fake_aws::s3::{Fault, Operation, Rule, Seed};

use crate::trial::{FinishedRun, READS, Trial, WRITES};

const MODES: [&str; 2] = ["plain", "datasync"];

/// A file system that is mounted until the end of the test.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: PathBuf, words: &[&str]) -> Self {
        fs::create_dir_all(&place).unwrap();
        let mounted = Command::new("mount").args(words).arg(&place).status();
        assert!(mounted.unwrap().success(), "these tests need root");
        Self(place)
    }

    fn tmpfs(place: PathBuf) -> Self {
        Self::at(place, &["-t", "tmpfs", "tmpfs"])
    }

    fn bind(place: PathBuf, from: &Path) -> Self {
        Self::at(place, &["--bind", from.to_str().unwrap()])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Two releases with equal names and sizes, well before the first run.
fn releases(below: &str) -> Trial {
    let trial = Trial::new();
    for number in ["40", "41"] {
        let folder = at(&trial, &format!("releases/{number}/{below}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..3 {
            fs::write(folder.join(format!("f{file}")), format!("release {number} file {file}")).unwrap();
        }
    }
    // Longer than the margin and the resolution of LastModified together.
    Trial::settle();
    std::thread::sleep(std::time::Duration::from_secs(1));
    trial
}

fn at(trial: &Trial, name: &str) -> PathBuf {
    trial.folder.path().join(name)
}

fn sync(trial: &Trial, source: &Path, mode: &str, options: &[&str]) -> FinishedRun {
    trial.s3.clear_log();
    let source = source.to_str().unwrap();
    trial.run_words(&[&["sync", source, "s3://site/www", "--delete", "--mode", mode], options].concat(), &[])
}

#[track_caller]
fn assert_published(trial: &Trial, release: &str) {
    let objects = trial.objects();
    for file in 0..3 {
        let content = String::from_utf8_lossy(&objects[&format!("f{file}")]).into_owned();
        assert_eq!(content, format!("release {release} file {file}"));
    }
}

/// A run that sends listings and nothing else, and reads no file.
#[track_caller]
fn assert_quiet(trial: &Trial, run: FinishedRun) {
    let ended = run.expect(0);
    assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0), "{:?}", trial.s3.log());
    assert_eq!(ended.report["bytes"]["read_for_compare"], 0);
}

fn turn(link: &Path, target: impl AsRef<Path>) {
    let new = link.with_file_name("turned");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

#[test]
fn a_source_link_turned_to_another_release_is_seen() {
    for mode in MODES {
        let trial = releases("public");
        let link = at(&trial, "current");
        symlink("releases/40", &link).unwrap();
        symlink(at(&trial, "current/public"), at(&trial, "site")).unwrap();
        let source = at(&trial, "site");
        Trial::settle();
        sync(&trial, &source, mode, &[]).expect(0);
        assert_quiet(&trial, sync(&trial, &source, mode, &[]));
        turn(&link, "releases/41");
        // The link must be older than the objects, by the margin.
        Trial::settle();
        sync(&trial, &source, mode, &[]).expect(0);
        assert_published(&trial, "41");
        assert_quiet(&trial, sync(&trial, &source, mode, &[]));
    }
}

#[test]
fn a_source_link_turned_during_a_run_ends_its_writes_and_deletes() {
    for (mode, turned_at) in [
        ("plain", Operation::PutObject),
        ("plain", Operation::ListObjectsV2),
        ("datasync", Operation::PutObject),
        ("datasync", Operation::ListObjectsV2),
    ] {
        let trial = releases("");
        let link = at(&trial, "current");
        symlink("releases/40", &link).unwrap();
        for number in ["40", "41"] {
            fs::write(at(&trial, &format!("releases/{number}/only-{number}")), number).unwrap();
        }
        trial.object("only-41", "41", std::time::Duration::from_secs(1000));
        Trial::settle();
        let turned = link.clone();
        let turn = Fault::before(move || turn(&turned, "releases/41"));
        trial.s3.rule(Rule::on(turned_at).times(1).does(turn));
        let run = sync(&trial, &link, mode, &["--concurrency", "1"]).expect(3);
        let kinds = run.report["failures"].as_array().unwrap().iter().map(|failure| failure["kind"].as_str().unwrap());
        assert_eq!(kinds.collect::<BTreeSet<_>>(), BTreeSet::from(["source_replaced"]), "{mode}");
        // The first write may have been on its way.
        let written = trial.count(WRITES);
        assert!(written <= usize::from(turned_at == Operation::PutObject), "{written} writes");
        assert!(trial.names().contains("only-41"), "the new release has this file");
        Trial::settle();
        sync(&trial, &link, mode, &[]).expect(0);
        assert_published(&trial, "41");
        assert!(!trial.names().contains("only-40") && trial.names().contains("only-41"));
    }
}

#[test]
fn a_directory_swapped_above_the_source_is_seen() {
    for mode in MODES {
        let trial = releases("a/public");
        fs::rename(at(&trial, "releases/40"), at(&trial, "live")).unwrap();
        let source = at(&trial, "live/a/public");
        Trial::settle();
        sync(&trial, &source, mode, &[]).expect(0);
        assert_quiet(&trial, sync(&trial, &source, mode, &[]));
        fs::rename(at(&trial, "live"), at(&trial, "old")).unwrap();
        fs::rename(at(&trial, "releases/41"), at(&trial, "live")).unwrap();
        sync(&trial, &source, mode, &[]).expect(0);
        assert_published(&trial, "41");
    }
}

#[test]
fn a_turned_source_link_concerns_manifests_plans_and_relative_paths() {
    let trial = releases("");
    let link = at(&trial, "current");
    symlink("releases/40", &link).unwrap();
    fs::write(at(&trial, "manifest.csv"), "f0\nf1\nf2\n").unwrap();
    Trial::settle();
    sync(&trial, &link, "plain", &[]).expect(0);
    let manifest = at(&trial, "manifest.csv").display().to_string();
    assert_eq!(sync(&trial, &link, "plain", &["--from-manifest", &manifest]).expect(0).counted("unchanged"), 3);
    turn(&link, "releases/41");
    let plan = at(&trial, "plan.jsonl").display().to_string();
    // Relative to the folder in which the program runs.
    trial
        .run_words(&["plan", "./releases/../current/.", "s3://site/www", "--mode", "plain", "-o", &plan], &[])
        .expect(0);
    let lines = fs::read_to_string(&plan).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"upload\"")).count(), 3, "{lines}");
    sync(&trial, &link, "plain", &["--from-manifest", &manifest]).expect(0);
    assert_published(&trial, "41");
    turn(&link, "releases/40");
    trial.run_words(&["plan", link.to_str().unwrap(), "s3://site/www", "--mode", "plain", "-o", &plan], &[]).expect(0);
    trial.run_words(&["apply", &plan], &[]).expect(0);
    assert_published(&trial, "40");
}

#[test]
fn another_mount_over_the_source_is_seen_with_a_state() {
    for mode in MODES {
        let trial = releases("");
        let (place, state) = (at(&trial, "mnt"), at(&trial, "state").display().to_string());
        let sync = |trial: &Trial| sync(trial, &at(trial, "mnt"), mode, &["--state", &state]);
        let first = Mounted::bind(place.clone(), &at(&trial, "releases/40"));
        sync(&trial).expect(0);
        Trial::settle();
        assert_quiet(&trial, sync(&trial));
        drop(first);
        let _second = Mounted::bind(place, &at(&trial, "releases/41"));
        sync(&trial).expect(0);
        assert_published(&trial, "41");
        assert_quiet(&trial, sync(&trial));
    }
}

#[test]
fn a_file_system_rolled_back_is_seen_with_a_state() {
    let trial = Trial::new();
    let place = at(&trial, "mnt");
    let state = at(&trial, "state").display().to_string();
    let _mounted = Mounted::tmpfs(place.clone());
    fs::create_dir(place.join("snapshot")).unwrap();
    fs::create_dir(place.join("now")).unwrap();
    // A snapshot keeps the inode numbers and all times.
    fs::write(place.join("snapshot/page"), "version 1").unwrap();
    Trial::settle();
    fs::write(place.join("now/page"), "version 2").unwrap();
    Trial::settle();
    let source = at(&trial, "served");
    let live = Mounted::bind(source.clone(), &place.join("now"));
    sync(&trial, &source, "plain", &["--state", &state]).expect(0);
    drop(live);
    let _rolled_back = Mounted::bind(source.clone(), &place.join("snapshot"));
    sync(&trial, &source, "plain", &["--state", &state]).expect(0);
    assert_eq!(trial.objects()["page"], b"version 1");
}

#[test]
fn require_mount_with_a_type_refuses_other_file_systems() {
    let trial = Trial::new();
    trial.object("orphan", "1", std::time::Duration::from_secs(100));
    let (tmpfs, bound) = (at(&trial, "a place - with spaces"), at(&trial, "bound"));
    // Another mount lies below it, which does not count.
    let _below = Mounted::bind(tmpfs.clone(), Path::new("/proc"));
    let _tmpfs = Mounted::tmpfs(tmpfs.clone());
    fs::write(tmpfs.join("f"), "1").unwrap();
    let _bound = Mounted::bind(bound.clone(), &tmpfs);
    for (source, option, found) in [
        (&tmpfs, "--require-mount=nfs4", "is a mount point of type tmpfs"),
        (&bound, "--require-mount=nfs4", "is a mount point of type tmpfs"),
        (&trial.tree(), "--require-mount=tmpfs", "is not a mount point"),
    ] {
        for command in ["sync", "plan", "verify"] {
            let source = source.to_str().unwrap();
            let words = [command, source, "s3://site/www", "--mode", "plain", "--delete", option];
            let run = trial.run_words(&words, &[]).expect(1);
            assert!(run.stderr.contains(found) && run.stderr.contains(option), "{command} {option}: {}", run.stderr);
        }
    }
    assert_eq!(trial.s3.log().len(), 0, "no request");
    for option in ["--require-mount=tmpfs", "--require-mount=true", "--require-mount"] {
        sync(&trial, &tmpfs, "plain", &[option]).expect(0);
    }
    assert_eq!(trial.names(), BTreeSet::from(["f".to_owned()]));
}

#[test]
fn require_mount_in_the_environment_is_a_flag_or_a_type() {
    let trial = Trial::new();
    trial.write("f", "1");
    for (value, code) in [("false", 0), ("0", 0), ("", 0), ("true", 1), ("1", 1), ("nfs4", 1), ("n f s", 2)] {
        let run = trial.start_with(&[], &[("EFS2S3_REQUIRE_MOUNT", value)]).end().expect(code);
        assert!(code == 0 || run.stderr.contains("require-mount"), "{value}: {}", run.stderr);
    }
}

/// A run in which `openat2` fails with this error.
fn sync_without_openat2(trial: &Trial, errno: i32, mode: &str, options: &[&str]) -> FinishedRun {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/deny.py"));
    // The number is the same on every architecture.
    command.args(["437", &errno.to_string(), env!("CARGO_BIN_EXE_efs2s3"), "sync"]);
    command.arg(trial.tree()).args(["s3://site/www", "--mode", mode, "--delete"]).args(options);
    trial.spawn(command, &[]).end()
}

/// ENOSYS, EPERM and EINVAL.
const REFUSALS: [i32; 3] = [38, 1, 22];

#[test]
fn without_openat2_no_file_outside_the_source_is_published() {
    for errno in REFUSALS {
        for mode in MODES {
            let trial = Trial::new();
            fs::create_dir_all(at(&trial, "outside/below")).unwrap();
            fs::write(at(&trial, "outside/file"), "outside!").unwrap();
            fs::write(at(&trial, "outside/below/file"), "outside!").unwrap();
            for name in ["a", "b"] {
                trial.write(format!("{name}/d/file"), "inside!!");
                trial.write(format!("{name}/d/below/file"), "inside!!");
            }
            Trial::settle();
            let (tree, folder) = (trial.tree(), trial.folder.path().to_owned());
            trial.s3.rule(Rule::on(Operation::PutObject).times(1).does(Fault::before(move || {
                for name in ["a", "b"] {
                    let _ = fs::rename(tree.join(name).join("d"), folder.join(format!("moved-{name}")));
                    let _ = symlink(folder.join("outside"), tree.join(name).join("d"));
                }
            })));
            sync_without_openat2(&trial, errno, mode, &["--concurrency", "1"]);
            let leaked: Vec<_> = trial.objects().into_iter().filter(|(_, content)| content == b"outside!").collect();
            assert!(leaked.is_empty(), "{errno} {mode}: {leaked:?}");
        }
    }
}

#[test]
fn without_openat2_a_run_does_the_same() {
    for errno in REFUSALS {
        for mode in MODES {
            let trial = Trial::new();
            for name in ["a/b/c/f", "a/b/g", "h"] {
                trial.write(name, name);
            }
            trial.link("a/b", "to-directory");
            Trial::settle();
            // Orphans behind a name that is a file, a link or a directory, or absent.
            let orphans = ["a/b/gone", "h/below", "none/below", "a/b/g/below"];
            for orphan in orphans {
                trial.object(orphan, "1", std::time::Duration::from_secs(100));
            }
            let run = sync_without_openat2(&trial, errno, mode, &[]).expect(0);
            assert_eq!(run.counted("deleted"), 4, "{errno} {mode}");
            let other = Trial::new();
            let words = ["sync", trial.tree().to_str().unwrap(), "s3://site/www", "--mode", mode, "--delete"]
                .map(str::to_owned);
            let with = other.run_words(&words.each_ref().map(String::as_str), &[]).expect(0);
            assert_eq!(trial.names(), other.names(), "{errno} {mode}");
            assert_eq!(run.report["source_operations"]["readdir"], with.report["source_operations"]["readdir"]);
        }
    }
}

#[test]
fn a_sentinel_outside_the_source_is_a_usage_error() {
    let trial = Trial::new();
    fs::write(at(&trial, "outside"), "x").unwrap();
    trial.write("d/inside", "x");
    let absolute = trial.tree().join("d/inside").display().to_string();
    for sentinel in ["../outside", &absolute, "d/../../outside", "d/../d/inside", "./d/inside", "d//inside", "", "."] {
        let run = trial.sync(&["--sentinel", sentinel]).expect(2);
        assert!(run.stderr.contains("--sentinel"), "{sentinel}: {}", run.stderr);
    }
    assert_eq!(trial.s3.log().len(), 0);
    trial.start_with(&[], &[("EFS2S3_SENTINEL", "../outside")]).end().expect(2);
    trial.sync(&["--sentinel", "d/inside"]).expect(0);
}

#[test]
fn a_busy_directory_is_no_failure() {
    let trial = Trial::new();
    trial.write("f", "1");
    fs::create_dir(trial.tree().join("cache")).unwrap();
    let options = ["--exclude", "/cache/*", "--delete"];
    trial.datasync(&options).expect(0);
    let change = |tree: PathBuf| {
        let path = tree.join("cache/session");
        if path.exists() { fs::remove_file(path).unwrap() } else { fs::write(path, "x").unwrap() }
    };
    // The directory changes before and after each request that concerns it.
    for operation in [Operation::HeadObject, Operation::CopyObject, Operation::PutObject] {
        let tree = trial.tree();
        let rule = Rule::on(operation).key_contains("cache/").always();
        trial.s3.rule(rule.does(Fault::after(move || change(tree.clone()))));
    }
    for attempt in 0..2 {
        change(trial.tree());
        let run = trial.datasync(&options).expect(0);
        assert_eq!(run.counted("metadata_rewritten"), 1, "{attempt}");
        run.assert_adds_up();
    }
    // Its object has a body, and another one is absent.
    trial.object("cache/", "a body", std::time::Duration::from_secs(1000));
    fs::create_dir(trial.tree().join("new")).unwrap();
    let run = trial.datasync(&options).expect(0);
    assert_eq!(run.counted("uploaded"), 2);
    assert_eq!(trial.objects()["cache/"], b"");
}

#[test]
fn a_stop_while_the_manifest_is_fetched_is_not_an_error() {
    let trial = Trial::new();
    trial.write("f", "1");
    trial.s3.create_bucket("lists");
    trial.s3.put("lists", "m.csv", "f\n", Seed::default());
    trial.s3.rule(Rule::on(Operation::GetObject).always().does(Fault::Stall(std::time::Duration::from_secs(80))));
    for state in ["", "state"] {
        trial.s3.clear_log();
        let run = trial.start_with(&["--from-manifest", "s3://lists/m.csv"], &[("EFS2S3_STATE", state)]);
        trial.wait_for_requests(Operation::GetObject, 1);
        run.signal("-TERM");
        let run = run.end().expect(143);
        assert_eq!((&run.report["exit_code"], &run.report["error"]), (&143.into(), &serde_json::Value::Null));
    }
}
