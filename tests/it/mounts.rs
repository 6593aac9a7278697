//! File systems mounted inside the source: if one of them is missing, what belongs there is unknown, not deleted.
//!
//! Each run has a mount namespace of its own, so no mount outlives it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{FinishedRun, Trial};

const HOUR: Duration = Duration::from_hours(1);
/// Lets a run delete whatever it does not withhold.
const ALL: [&str; 3] = ["--delete", "--max-delete", "100%"];

/// Whether this process may mount file systems in a namespace of its own; says so if a test is skipped.
#[expect(clippy::print_stderr, reason = "the reader of the test's output should know what it skips")]
fn may_mount() -> bool {
    let script = ["--mount", "sh", "-c", "mount -t tmpfs none /mnt"];
    let status = Command::new("unshare").args(script).stderr(Stdio::null()).status();
    let may = status.is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: mounting in a namespace of its own is not allowed here (it needs CAP_SYS_ADMIN)");
    }
    may
}

/// A tree of three files, with a mount point `uploads`. The folder `disk` outside holds the file system for it.
fn trial() -> Trial {
    let trial = Trial::new();
    for name in ["a", "m/b", "z"] {
        trial.write(name, name);
    }
    fs::create_dir_all(trial.tree().join("uploads")).unwrap();
    let disk = trial.folder.path().join("disk");
    fs::create_dir_all(disk.join("deep")).unwrap();
    for name in ["u0", "u1", "deep/u2"] {
        fs::write(disk.join(name), "picture").unwrap();
    }
    trial
}

const HIDDEN: [&str; 3] = ["uploads/deep/u2", "uploads/u0", "uploads/u1"];

/// Runs the program in a namespace where a script, in the folder of the trial, has mounted something.
fn with(trial: &Trial, script: &str, words: &[&str]) -> FinishedRun {
    let script = format!("set -e; {script}\nexec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_efs2s3")]).args(words);
    trial.spawn(command, &[]).end()
}

const BIND: &str = "mount --bind disk tree/uploads";
const NOTHING: &str = "";

/// `efs2s3 COMMAND TREE s3://site/www` in a mode, with these options.
fn run(trial: &Trial, script: &str, command: &str, mode: &str, options: &[&str]) -> FinishedRun {
    let source = trial.tree().display().to_string();
    with(trial, script, &[&[command, source.as_str(), "s3://site/www", "--mode", mode], options].concat())
}

fn state(trial: &Trial) -> String {
    trial.folder.path().join("state").display().to_string()
}

/// A plain sync with the state in a folder and with deletes.
fn sync(trial: &Trial, script: &str, options: &[&str]) -> FinishedRun {
    let state = state(trial);
    run(trial, script, "sync", "plain", &[&ALL[..], &["--state", &state], options].concat())
}

#[track_caller]
fn assert_hidden(trial: &Trial, run: &FinishedRun, names: &[&str]) {
    let unknown = run.report["withheld_because"].as_array().unwrap().iter().find(|entry| entry["guard"] == "unknown");
    let unknown = unknown.unwrap_or_else(|| panic!("nothing withheld: {}", run.report["withheld_because"]));
    let keys = unknown["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
    let expected: BTreeSet<String> = names.iter().map(|name| format!("www/{name}")).collect();
    assert_eq!(keys.collect::<BTreeSet<_>>(), expected);
    assert!(unknown["message"].as_str().unwrap().contains("--allow-missing-mounts"), "{unknown}");
    assert!(names.iter().all(|name| trial.has(name)));
}

#[test]
fn what_a_run_over_an_empty_source_wrote_is_remembered() {
    if !may_mount() {
        return;
    }
    // The mount shows a directory of another mode, later. Without its row, its dates would show nothing when it is gone.
    let trial = Trial::new();
    fs::create_dir_all(trial.tree().join("d/hidden")).unwrap();
    trial.object("orphan", "o", HOUR);
    Trial::settle();
    let state = state(&trial);
    let options = ["--state", state.as_str(), "--delete", "--max-delete", "100%"];
    let sync = |script: &str, more: &[&str]| run(&trial, script, "sync", "datasync", &[&options[..], more].concat());
    let run = sync("mount -t tmpfs -o mode=1777 none tree/d", &[]).expect(3);
    assert_eq!(run.withheld_by("empty_source"), 1, "{}", run.report);
    let mode = || trial.stored("d/").headers["x-amz-meta-file-permissions"].clone();
    assert_eq!(mode(), "0041777");
    Trial::settle();
    sync(NOTHING, &["--allow-missing-mounts", "--allow-empty-source"]).expect(0);
    assert_eq!(mode(), "0040755");
}

#[test]
fn objects_of_a_missing_mount_stay_until_it_is_allowed_to_be_missing() {
    if !may_mount() {
        return;
    }
    for state in [None, Some("s3://states/of/site")] {
        for mode in ["plain", "datasync"] {
            let trial = trial();
            trial.s3.create_bucket("states");
            let folder = self::state(&trial);
            let options = [&ALL[..], &["--state", state.unwrap_or(&folder)]].concat();
            let sync = |script: &str, more: &[&str]| run(&trial, script, "sync", mode, &[&options[..], more].concat());
            sync(BIND, &[]).expect(0);
            assert!(HIDDEN.iter().all(|name| trial.has(name)));
            trial.object("orphan", "o", HOUR);
            trial.write("new", "n");
            let run = sync(NOTHING, &[]).expect(3);
            let own = [&HIDDEN[..], &["uploads/deep/", "uploads/"]].concat();
            assert_hidden(&trial, &run, if mode == "plain" { &HIDDEN } else { &own });
            assert!(trial.has("new") && !trial.has("orphan"), "the rest is synced");
            assert_eq!(run.report["skipped_because"]["missing_mount"], 1);
            run.assert_adds_up();

            sync(BIND, &[]).expect(0);
            sync(NOTHING, &[]).expect(3);
            let run = sync(NOTHING, &["--allow-missing-mounts"]).expect(0);
            assert_eq!(run.counted("deleted"), if mode == "plain" { 3 } else { 4 });
            assert!(HIDDEN.iter().all(|name| !trial.has(name)));
            trial.write("uploads/local", "on the disk of the host");
            sync(NOTHING, &[]).expect(0);
            assert!(trial.has("uploads/local"), "the mount is forgotten");
        }
    }
}

#[test]
fn nothing_is_written_at_or_below_a_missing_mount() {
    if !may_mount() {
        return;
    }
    for mode in ["plain", "datasync"] {
        let trial = trial();
        let state = state(&trial);
        let sync = |script: &str| run(&trial, script, "sync", mode, &[&ALL[..], &["--state", &state]].concat());
        sync(BIND).expect(0);
        let before = trial.objects();
        trial.write("uploads/u0", "the picture of another disk");
        trial.write("uploads/stray", "x");
        let run = sync(NOTHING).expect(3);
        assert_eq!(trial.objects(), before);
        assert_eq!(run.only_failure()["kind"], "missing_mount");
        run.assert_adds_up();
    }
}

#[test]
fn whatever_is_at_the_place_of_a_missing_mount_hides_its_objects() {
    type Change = (&'static str, fn(&Trial));
    if !may_mount() {
        return;
    }
    let changes: [Change; 4] = [
        ("absent", |_| {}),
        ("a file", |trial| drop(trial.write("uploads", "a file"))),
        ("a link to a directory", |trial| symlink("m", trial.tree().join("uploads")).unwrap()),
        ("a link to a file", |trial| symlink("a", trial.tree().join("uploads")).unwrap()),
    ];
    for (what, change) in changes {
        for mode in ["plain", "datasync"] {
            let trial = trial();
            let state = state(&trial);
            let sync = |script: &str, more: &[&str]| {
                run(&trial, script, "sync", mode, &[&ALL[..], &["--state", &state], more].concat())
            };
            sync(BIND, &[]).expect(0);
            let before = trial.objects();
            fs::remove_dir(trial.tree().join("uploads")).unwrap();
            change(&trial);
            trial.object("uploads", "at the place itself", HOUR);
            // A name between the two places of `uploads` in key order.
            trial.object("uploads-orphan", "an orphan", HOUR);
            trial.write("uploads.txt", "t");
            let run = sync(NOTHING, &[]).expect(3);
            assert_eq!(run.withheld_by("unknown"), if mode == "plain" { 4 } else { 6 }, "{what}, {mode}");
            assert!(before.keys().all(|name| trial.has(name)), "{what}, {mode}");
            assert!(trial.has("uploads.txt") && !trial.has("uploads-orphan"), "{what}, {mode}");
            assert_eq!(trial.objects()["uploads"], b"at the place itself", "{what}, {mode}");
            run.assert_adds_up();
        }
    }
}

#[test]
fn a_mount_that_is_missing_with_the_directory_above_it_hides_its_objects() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    fs::create_dir_all(trial.tree().join("x/y/z")).unwrap();
    sync(&trial, "mount --bind disk tree/x/y/z", &[]).expect(0);
    fs::remove_dir_all(trial.tree().join("x")).unwrap();
    trial.object("x/orphan", "o", HOUR);
    let run = sync(&trial, NOTHING, &[]).expect(3);
    assert_hidden(&trial, &run, &["x/y/z/deep/u2", "x/y/z/u0", "x/y/z/u1"]);
    assert!(!trial.has("x/orphan"));
    run.assert_adds_up();
}

#[test]
fn a_removed_link_to_another_file_system_is_forgotten() {
    if !may_mount() {
        return;
    }
    let outside = "mkdir -p outside/below; mount -t tmpfs none outside; mkdir -p outside/below; echo x > outside/o; \
                   mount -t tmpfs none outside/below; echo x > outside/below/p";
    for state in [None, Some("s3://states/of/site")] {
        let trial = trial();
        trial.s3.create_bucket("states");
        let folder = self::state(&trial);
        let options = [&ALL[..], &["--state", state.unwrap_or(&folder)]].concat();
        let sync = |script: &str| run(&trial, script, "sync", "plain", &options);
        trial.link("../outside", "link");
        trial.link("../../outside", "m/link");
        sync(outside).expect(0);
        let behind = ["link/below/p", "link/o", "m/link/below/p", "m/link/o"];
        assert!(behind.iter().all(|name| trial.has(name)));
        // As long as the link is there, the mounts are missing.
        let run = sync("mkdir -p outside").expect(3);
        assert_hidden(&trial, &run, &behind);
        for link in ["link", "m/link"] {
            fs::remove_file(trial.tree().join(link)).unwrap();
        }
        let run = sync("mkdir -p outside").expect(0);
        assert!(behind.iter().all(|name| !trial.has(name)), "{:?}", trial.names());
        assert_eq!(run.withheld_by("unknown"), 0);
        fs::create_dir(trial.tree().join("link")).unwrap();
        trial.write("link/local", "l");
        sync(NOTHING).expect(0);
        assert!(trial.has("link/local"), "the mounts are forgotten");
    }
}

/// The source is not mounted; a file may be at its place.
const NO_SOURCE: &str = "mkdir -p outside; mount -t tmpfs none outside; mount -t tmpfs none tree";

#[test]
fn a_run_that_a_guard_stops_or_that_deletes_nothing_forgets_no_mount() {
    type Row = (&'static str, &'static str, &'static [&'static str], i32);
    if !may_mount() {
        return;
    }
    let outside = "mkdir -p outside; mount -t tmpfs none outside; echo x > outside/o; echo x > outside/p; ";
    let rows: [Row; 10] = [
        ("", "sync", &[], 3),
        ("", "sync", &ALL, 3),
        ("", "sync", &["--delete", "--allow-missing-mounts"], 3),
        ("", "sync", &["--delete", "--range-after", "l", "--range-to", "v"], 3),
        ("", "plan", &["--delete"], 3),
        ("", "verify", &[], 3),
        ("; echo x > tree/placeholder", "sync", &[], 0),
        ("; echo x > tree/placeholder", "sync", &["--delete", "--max-delete", "1"], 3),
        ("; echo x > tree/placeholder", "sync", &["--delete", "--max-delete", "100%", "--exclude", "/link/*"], 0),
        ("; echo x > tree/placeholder", "sync", &["--delete", "--max-delete", "100%", "--dry-run"], 0),
    ];
    for (placeholder, command, options, code) in rows {
        let trial = trial();
        let state = state(&trial);
        trial.link("../outside", "link");
        sync(&trial, outside, &[]).expect(0);
        let options = [&["--state", &state], options].concat();
        let run = run(&trial, &format!("{NO_SOURCE}{placeholder}"), command, "plain", &options).expect(code);
        assert!(!run.stderr.contains("forgot"), "{options:?}: {}", run.stderr);
        let run = sync(&trial, "mkdir -p outside", &[]).expect(3);
        assert_hidden(&trial, &run, &["link/o", "link/p"]);
    }
}

#[test]
fn a_run_without_deletes_forgets_no_mount_that_is_allowed_to_be_missing() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    sync(&trial, BIND, &[]).expect(0);
    let state = state(&trial);
    let accepts = ["--allow-missing-mounts"];
    let run_without = |command: &str, options: &[&str]| {
        let run = run(&trial, NOTHING, command, "plain", &[&accepts[..], options].concat());
        assert!(!run.stderr.contains("forgot"), "{}", run.stderr);
        run
    };
    let run = run_without("sync", &["--state", &state]).expect(0);
    let kept = "--allow-missing-mounts has no effect on the record without --delete: the mount stays recorded";
    assert!(run.stderr.contains(&format!("{kept} path=\"uploads\"")), "{}", run.stderr);
    run_without("plan", &["--delete", "--state", &state]);
    for (command, options) in [("sync", &["--delete"][..]), ("sync", &[]), ("verify", &[])] {
        let range = ["--range-to", "a"];
        let run = run_without(command, &[options, &range].concat());
        let no_state = "--allow-missing-mounts has no effect without --state";
        assert!(run.stderr.contains(no_state), "{command}: {}", run.stderr);
    }
    assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &HIDDEN);
    sync(&trial, NOTHING, &accepts).expect(0);
    assert!(HIDDEN.iter().all(|name| !trial.has(name)));
}

#[test]
fn a_run_over_a_key_range_forgets_only_a_mount_that_lies_wholly_in_it() {
    if !may_mount() {
        return;
    }
    let allowed = |range: [&'static str; 2]| ["--allow-missing-mounts", range[0], range[1]];
    for (range, left) in
        [(["--range-after", "uploads/deep/u2"], &HIDDEN[..1]), (["--range-to", "uploads/u0"], &HIDDEN[2..])]
    {
        let trial = trial();
        sync(&trial, BIND, &[]).expect(0);
        sync(&trial, NOTHING, &allowed(range)).expect(0);
        assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), left);
    }
    let trial = trial();
    sync(&trial, BIND, &[]).expect(0);
    let run = sync(&trial, NOTHING, &allowed(["--range-after", "m"])).expect(0);
    assert!(run.stderr.contains("forgot the file system"), "{}", run.stderr);
    trial.write("uploads/local", "on the disk of the host");
    sync(&trial, NOTHING, &[]).expect(0);
    assert!(trial.has("uploads/local"), "the mount is forgotten");
}

#[test]
fn a_mount_behind_a_link_is_missing_if_anything_is_in_the_place_of_the_link() {
    type Change = fn(&Trial);
    if !may_mount() {
        return;
    }
    let media = "mkdir -p outside/media; mount -t tmpfs none outside/media; echo x > outside/media/o";
    let changes: [Change; 3] = [
        |trial| fs::create_dir(trial.tree().join("link")).unwrap(),
        |trial| drop(trial.write("link/page", "p")),
        |trial| drop(trial.write("link", "a file")),
    ];
    for change in changes {
        let trial = trial();
        trial.link("../outside", "link");
        sync(&trial, media, &[]).expect(0);
        assert!(trial.has("link/media/o"));
        fs::remove_file(trial.tree().join("link")).unwrap();
        change(&trial);
        assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &["link/media/o"]);
    }
}

#[test]
fn a_mount_in_place_of_a_link_into_several_mounts_is_not_missing() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    trial.link("../outside/below", "link");
    let outside = "mkdir -p outside; mount -t tmpfs none outside; mkdir outside/below; \
                   mount -t tmpfs none outside/below; echo x > outside/below/o; echo x > outside/below/p";
    sync(&trial, outside, &[]).expect(0);
    assert!(trial.has("link/o") && trial.has("link/p"));
    fs::remove_file(trial.tree().join("link")).unwrap();
    fs::create_dir(trial.tree().join("link")).unwrap();
    // Nothing is mounted on the directory: the mount may be missing.
    assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &["link/o", "link/p"]);
    let mounted = "mount -t tmpfs none tree/link; echo new > tree/link/o";
    fs::write(trial.folder.path().join("manifest"), "link/o\n").unwrap();
    let state = state(&trial);
    run(&trial, mounted, "sync", "plain", &["--from-manifest", "manifest", "--state", &state]).expect(0);
    assert_eq!(trial.objects()["link/o"], b"new\n");
    sync(&trial, mounted, &[]).expect(0);
    assert!(!trial.has("link/p"));
    // The state remembers the mount as it is now.
    assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &["link/o"]);
}

#[test]
fn a_record_that_does_not_know_the_link_keeps_its_mounts() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    trial.link("../outside", "link");
    sync(&trial, "mkdir -p outside; mount -t tmpfs none outside; echo x > outside/o", &[]).expect(0);
    let names = fs::read_dir(state(&trial)).unwrap().flatten().map(|entry| entry.path());
    let path = names.into_iter().find(|path| path.to_string_lossy().ends_with(".mounts.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(record["mount_points"]["link"].as_object_mut().unwrap().remove("first_link").is_some());
    fs::write(&path, record.to_string()).unwrap();
    fs::remove_file(trial.tree().join("link")).unwrap();
    assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &["link/o"]);
}

#[test]
fn a_link_on_a_missing_mount_is_not_removed() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    let elsewhere = "mkdir -p outside; mount -t tmpfs none outside; echo x > outside/o";
    symlink(trial.folder.path().join("outside"), trial.folder.path().join("disk/link")).unwrap();
    sync(&trial, &format!("{elsewhere}; {BIND}"), &[]).expect(0);
    assert!(trial.has("uploads/link/o"));
    let run = sync(&trial, elsewhere, &[]).expect(3);
    assert_hidden(&trial, &run, &[&HIDDEN[..], &["uploads/link/o"]].concat());
    // The run has not forgotten where the link leads.
    let run = sync(&trial, &format!("mkdir -p outside; {BIND}"), &[]).expect(3);
    assert_hidden(&trial, &run, &["uploads/link/o"]);
    sync(&trial, &format!("{elsewhere}; {BIND}"), &[]).expect(0);
    // Nor is one behind another link that is still there.
    let trial = self::trial();
    fs::create_dir(trial.folder.path().join("links")).unwrap();
    symlink("../outside", trial.folder.path().join("links/to")).unwrap();
    trial.link("../links", "links");
    sync(&trial, elsewhere, &[]).expect(0);
    assert!(trial.has("links/to/o"));
    fs::remove_file(trial.folder.path().join("links/to")).unwrap();
    let run = sync(&trial, elsewhere, &[]).expect(3);
    assert_hidden(&trial, &run, &["links/to/o"]);
}

#[test]
fn every_kind_of_mount_is_remembered() {
    if !may_mount() {
        return;
    }
    let tmpfs = "mount -t tmpfs none tree/uploads; cp -r disk/. tree/uploads";
    // The link leads to a directory of another file system, outside the source and below its mount point.
    let linked = "mount -t tmpfs none outside; mkdir -p outside/in/it; cp -r disk/. outside/in/it";
    let nested =
        "mount --bind disk tree/uploads; mount -t tmpfs none tree/uploads/deep; cp disk/deep/u2 tree/uploads/deep";
    for (script, later) in [(tmpfs, NOTHING), (linked, NOTHING), (nested, NOTHING), (nested, BIND)] {
        let trial = trial();
        fs::create_dir_all(trial.folder.path().join("outside/in/it")).unwrap();
        if script == linked {
            fs::remove_dir(trial.tree().join("uploads")).unwrap();
            symlink(trial.folder.path().join("outside/in/it"), trial.tree().join("uploads")).unwrap();
        }
        sync(&trial, script, &[]).expect(0);
        sync(&trial, script, &[]).expect(0);
        let run = sync(&trial, later, &[]).expect(3);
        assert_hidden(&trial, &run, if later == BIND { &HIDDEN[..1] } else { &HIDDEN });
    }

    let trial = trial();
    trial.write("conf", "");
    sync(&trial, "mount --bind disk/u0 tree/conf", &[]).expect(0);
    let run = sync(&trial, NOTHING, &[]).expect(3);
    assert_hidden(&trial, &run, &["conf"]);
    assert_eq!(trial.objects()["conf"], b"picture", "not overwritten by what the mount covered");
}

#[test]
fn filters_key_ranges_and_manifests_forget_no_mount() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    sync(&trial, BIND, &[]).expect(0);
    // Below a directory that the filters leave out, nothing is seen, and nothing is withheld.
    sync(&trial, NOTHING, &["--exclude", "/uploads"]).expect(0);
    sync(&trial, NOTHING, &["--include", "/m"]).expect(0);
    sync(&trial, NOTHING, &["--range-to", "n"]).expect(0);
    sync(&trial, NOTHING, &["--range-after", "uploads/zzz"]).expect(0);
    fs::write(trial.folder.path().join("manifest"), "a\n").unwrap();
    let state = state(&trial);
    run(&trial, NOTHING, "sync", "plain", &["--from-manifest", "manifest", "--state", &state]).expect(0);
    run(&trial, NOTHING, "plan", "plain", &["--allow-missing-mounts", "--delete", "--state", &state]).expect(0);
    for (range, hidden) in
        [(["--range-after", "uploads/deep/u2"], &HIDDEN[1..]), (["--range-to", "uploads/u0"], &HIDDEN[..2])]
    {
        let run = sync(&trial, NOTHING, &range).expect(3);
        assert_hidden(&trial, &run, hidden);
    }
    assert_hidden(&trial, &sync(&trial, NOTHING, &[]).expect(3), &HIDDEN);

    // A manifest that names a file of the missing file system.
    trial.write("uploads/u0", "another picture");
    fs::write(trial.folder.path().join("manifest"), "uploads/u0\n").unwrap();
    let run = run(&trial, NOTHING, "sync", "plain", &["--from-manifest", "manifest", "--state", &state]).expect(3);
    assert_eq!(run.only_failure()["kind"], "missing_mount");
    assert_eq!(trial.objects()["uploads/u0"], b"picture");
}

#[test]
fn a_mount_that_only_one_of_several_ranges_sees_is_known_to_all() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    for range in [["--range-to", "m"], ["--range-after", "m"]] {
        sync(&trial, BIND, &range).expect(0);
    }
    let run = sync(&trial, NOTHING, &["--range-after", "n"]).expect(3);
    assert_hidden(&trial, &run, &HIDDEN);
}

#[test]
fn each_key_range_that_a_missing_mount_reaches_reports_the_files_that_hide_there() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    sync(&trial, BIND, &[]).expect(0);
    trial.write("uploads/x", "a file of the local disk");
    // No object of the missing file system has a key in the second range, but the hidden file does.
    trial.object("z1", "a file of the local disk", HOUR);
    for range in [["--range-to", "uploads/deep"], ["--range-after", "uploads/u9"]] {
        let run = sync(&trial, NOTHING, &range).expect(3);
        assert_eq!(run.only_failure()["kind"], "missing_mount", "{range:?}");
        run.assert_adds_up();
    }
    // The orphan may be the old name of the hidden file.
    assert!(trial.has("z1"));
    sync(&trial, NOTHING, &["--range-after", "v"]).expect(0);
}

#[test]
fn plan_verify_and_apply_know_missing_mounts() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    let state = state(&trial);
    sync(&trial, BIND, &[]).expect(0);
    let with_state = [&ALL[..], &["--state", &state]].concat();
    let planned = run(&trial, NOTHING, "plan", "plain", &with_state).expect(3);
    assert_eq!((planned.stdout.as_str(), planned.withheld_by("unknown")), ("", 3));
    let verified = run(&trial, NOTHING, "verify", "plain", &with_state).expect(3);
    assert!(verified.stderr.contains("3 objects not compared"), "{}", verified.stderr);
    run(&trial, BIND, "verify", "plain", &with_state).expect(0);

    // A plan made while the file system is mounted, and applied when it is not.
    trial.object("uploads/orphan", "o", HOUR);
    fs::write(trial.folder.path().join("disk/u1"), "another picture").unwrap();
    run(&trial, BIND, "plan", "plain", &[&with_state[..], &["-o", "plan.jsonl"]].concat()).expect(0);
    trial.write("uploads/u1", "another picture");
    let applied = with(&trial, NOTHING, &["apply", "plan.jsonl", "--state", &state]).expect(3);
    assert_eq!((applied.withheld_by("unknown"), applied.counted("failed")), (1, 1));
    assert!(trial.has("uploads/orphan") && trial.objects()["uploads/u1"] == b"picture");

    // A plan that accepts the missing mount deletes its objects.
    let accepted = [&with_state[..], &["--allow-missing-mounts", "-o", "accepted.jsonl"]].concat();
    run(&trial, NOTHING, "plan", "plain", &accepted).expect(0);
    with(&trial, NOTHING, &["apply", "accepted.jsonl", "--state", &state]).expect(0);
    assert!(!trial.has("uploads/orphan") && !trial.has("uploads/u0"));
}

#[test]
fn only_a_new_mount_writes_the_record_and_no_state_means_no_memory() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    let record = || {
        let names = fs::read_dir(state(&trial)).unwrap().flatten().map(|entry| entry.path());
        names.into_iter().find(|path| path.to_string_lossy().ends_with(".mounts.json"))
    };
    sync(&trial, NOTHING, &[]).expect(0);
    assert_eq!(record(), None, "nothing is mounted inside the source");
    sync(&trial, BIND, &[]).expect(0);
    let written = |path: &std::path::Path| (fs::metadata(path).unwrap().modified().unwrap(), fs::read(path).unwrap());
    let path = record().unwrap();
    let before = written(&path);
    for script in [BIND, NOTHING, BIND] {
        sync(&trial, script, &["--exclude", "/m"]);
        assert_eq!(written(&path), before);
    }

    fs::write(&path, "{").unwrap();
    let run = sync(&trial, NOTHING, &[]).expect(1);
    assert!(run.stderr.contains("mounts.json") && run.stderr.contains("delete this file"), "{}", run.stderr);
    assert!(trial.has("uploads/u0"));

    // Without state, a missing mount looks like deleted files: the documentation says so.
    self::run(&trial, NOTHING, "sync", "plain", &ALL).expect(0);
    assert!(!trial.has("uploads/u0"));
}

#[test]
fn a_link_that_loses_its_target_hides_its_objects() {
    let trial = Trial::new();
    let outside = trial.folder.path().join("outside");
    fs::create_dir_all(outside.join("in/it")).unwrap();
    for name in ["u0", "in/it/u1"] {
        fs::write(outside.join(name), "picture").unwrap();
    }
    trial.write("a", "a");
    trial.link(&outside, "direct");
    trial.link(outside.join("in/it"), "to-the-inside");
    trial.link("direct/in", "through-another");
    trial.sync(&["--delete"]).expect(0);
    let behind = ["direct/in/it/u1", "direct/u0", "through-another/it/u1", "to-the-inside/u1"];
    assert!(behind.iter().all(|name| trial.has(name)));
    fs::rename(&outside, trial.folder.path().join("gone")).unwrap();
    trial.object("orphan", "o", HOUR);
    let run = trial.sync(&ALL).expect(3);
    assert_hidden(&trial, &run, &behind);
    assert!(!trial.has("orphan"));
    let verified =
        trial.run_words(&["verify", trial.tree().to_str().unwrap(), "s3://site/www", "--mode", "plain"], &[]);
    let verified = verified.expect(3);
    assert!(verified.stderr.contains("4 objects not compared"), "{}", verified.stderr);
    let planned = trial.plan(&ALL).expect(3);
    assert_eq!((planned.stdout.as_str(), planned.withheld_by("unknown")), ("", 4));

    fs::rename(trial.folder.path().join("gone"), &outside).unwrap();
    trial.sync(&ALL).expect(0);
    // A link turned to a directory above it.
    fs::remove_file(trial.tree().join("direct")).unwrap();
    trial.link(".", "direct");
    let run = trial.sync(&ALL).expect(3);
    assert_hidden(&trial, &run, &["direct/in/it/u1", "direct/u0", "through-another/it/u1"]);
}

#[test]
fn a_link_that_breaks_after_the_plan_hides_its_objects_from_apply() {
    let trial = Trial::new();
    let outside = trial.folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("changed"), "now").unwrap();
    trial.object("link/changed", "then", HOUR);
    trial.write("a", "a");
    trial.link(&outside, "link");
    trial.object("link/orphan", "o", HOUR);
    trial.object("orphan", "o", HOUR);
    trial.plan(&[&ALL[..], &["-o", "plan.jsonl"]].concat()).expect(0);
    fs::remove_dir_all(&outside).unwrap();
    let run = trial.run_words(&["apply", "plan.jsonl"], &[]).expect(3);
    assert_hidden(&trial, &run, &["link/orphan"]);
    assert!(!trial.has("orphan") && trial.has("a"));
    assert_eq!(run.counted("failed"), 1, "the upload of link/changed");
}

#[test]
fn more_than_forty_links_on_one_path_are_a_failure_that_names_the_key() {
    let trial = Trial::new();
    let pool = trial.folder.path().join("pool");
    for number in 0..45 {
        let directory = pool.join(number.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), "content").unwrap();
        symlink(pool.join((number + 1).to_string()), directory.join("l")).unwrap();
    }
    trial.link(pool.join("0"), "l");
    let followed = ["l"; 40].join("/");
    trial.object(&format!("{followed}/l/file"), "once", HOUR);
    trial.object("orphan", "o", HOUR);
    let run = trial.sync(&ALL).expect(3);
    assert!(trial.has(&format!("{followed}/file")) && !trial.has("orphan"));
    assert_eq!(run.only_failure()["kind"], "too_many_links");
    assert_eq!(run.failed_keys(), [format!("www/{followed}/l")]);
    assert_hidden(&trial, &run, &[&format!("{followed}/l/file")]);
    run.assert_adds_up();
    // Files below it may have keys of another key range.
    let below = trial.sync(&["--range-after", &format!("{followed}/l/g")]).expect(3);
    assert_eq!(below.only_failure()["kind"], "too_many_links");
}

#[test]
fn a_page_in_front_of_the_state_hides_no_missing_mount() {
    if !may_mount() {
        return;
    }
    let trial = trial();
    trial.s3.create_bucket("states");
    let options = [&ALL[..], &["--state", "s3://states/of/site"]].concat();
    let sync = |script: &str, more: &[&str]| run(&trial, script, "sync", "plain", &[&options[..], more].concat());
    sync(BIND, &[]).expect(0);
    let page = |times: u64| {
        let page = Fault::page_in_front(404, "text/plain; charset=utf-8", "404 page not found\n");
        Rule::on(Operation::GetObject).key_contains("mounts").times(times).does(page)
    };
    trial.s3.rule(page(2));
    assert_hidden(&trial, &sync(NOTHING, &[]).expect(3), &HIDDEN);
    trial.s3.clear_rules();
    trial.s3.rule(page(u64::MAX));
    let ended = sync(NOTHING, &["--retries", "1"]).expect(1);
    assert!(ended.stderr.contains("between this program and S3"), "{}", ended.stderr);
    assert!(HIDDEN.iter().all(|name| trial.has(name)));
}
