//! The changes file: appended, complete lines only, and no change missing without an error.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};
use serde_json::Value;

use crate::trial::{Trial, random, wait_until};

/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);

/// The keys of the lines below the prefix. Each line is complete.
#[track_caller]
fn keys(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let key = |line: &str| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned();
    let mut keys: Vec<String> = text.lines().map(|line| key(line).strip_prefix("www/").unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn runs_append_and_one_that_cannot_start_changes_nothing() {
    let trial = Trial::new();
    let (path, state) = (trial.folder.path().join("changes"), trial.folder.path().join("state").display().to_string());
    let changes = ["--changes", path.to_str().unwrap(), "--state", &state];
    let missing = ["sync", "none", "s3://site/www", "--changes", path.to_str().unwrap()];
    trial.run_words(&missing, &[]).expect(1);
    assert!(!path.exists(), "a run that cannot start creates no file");
    trial.write("first", "1");
    trial.sync(&changes).expect(0);
    trial.write("second", "2");
    trial.sync(&changes).expect(0);
    assert_eq!(keys(&path), ["first", "second"]);

    trial.run_words(&missing, &[]).expect(1);
    trial.sync(&[&changes[..], &["--require-mount"]].concat()).expect(1);
    trial.sync(&[&changes[..], &["--part-size", "1KiB"]].concat()).expect(2);
    // Another run holds the lease.
    trial.write("third", "3");
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::Delay(Duration::from_secs(12))));
    let holder = trial.start(&changes);
    trial.wait_for_requests(Operation::PutObject, 3);
    trial.sync(&changes).expect(11);
    assert_eq!(keys(&path), ["first", "second"]);
    holder.end().expect(0);
    assert_eq!(keys(&path), ["first", "second", "third"]);
}

#[test]
fn a_killed_run_has_recorded_each_change_that_it_made() {
    let trial = Trial::new();
    for number in 0..20 {
        trial.write(format!("a{number:02}"), "x");
    }
    trial.write("z", "x");
    Trial::settle();
    // The last upload hangs, so the run waits with the others done. Nothing but a kill ends it.
    let hangs = Fault::Stall(Duration::from_secs(80));
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("z").always().does(hangs));
    let path = trial.folder.path().join("changes");
    fs::write(&path, "{\"key\":\"www/before\"}\n{\"key\":\"www/to").unwrap();
    let run = trial.start(&["--changes", path.to_str().unwrap()]);
    wait_until("the others are stored", || trial.names().len() == 20);
    thread::sleep(Duration::from_secs(1));
    run.signal("-KILL");
    run.end();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"key\":\"www/before\"}\n{\"key\":\"www/to\n{"), "{text}");
    assert_eq!(text.lines().count(), 22, "{text}");
}

#[test]
fn a_change_is_recorded_although_its_file_then_fails() {
    let trial = Trial::new();
    let file = trial.write("a", "1");
    Trial::settle();
    // S3 stores the object. Then the file cannot be looked up any more.
    let folder = trial.folder.path().join("folder");
    let moved = folder.clone();
    let swap = Fault::before(move || {
        fs::rename(&file, &moved).unwrap();
        fs::create_dir(&file).unwrap();
    });
    trial.s3.rule(Rule::on(Operation::PutObject).does(swap));
    let path = trial.folder.path().join("changes");
    trial.sync(&["--changes", path.to_str().unwrap()]);
    assert!(trial.has("a"));
    assert_eq!(keys(&path), ["a"]);
}

#[test]
fn lines_that_cannot_be_written_are_exit_3_and_the_sync_goes_on() {
    let trial = Trial::new();
    for number in 0..30 {
        trial.write(format!("f{number:02}"), "x");
    }
    trial.object("orphan", "x", Duration::from_secs(1000));
    let run = trial.sync(&["--changes", "/dev/full", "--delete"]).expect(3);
    trial.assert_same();
    assert_eq!(run.stderr.matches("/dev/full").count(), 1, "{}", run.stderr);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("/dev/full") && error.contains("31 changes"), "{error}");
    assert_eq!((run.counted("uploaded"), run.counted("deleted"), run.counted("failed")), (30, 1, 0));
    trial.sync(&["--changes", "/dev/full"]).expect(0);
}

#[test]
fn a_disk_that_becomes_full_holds_complete_lines() {
    let trial = Trial::new();
    for number in 0..200 {
        trial.write(format!("f{number:03}"), "x");
    }
    let full = trial.folder.path().join("full");
    fs::create_dir(&full).unwrap();
    let kept = trial.folder.path().join("kept");
    // The file keeps what fits on the small disk.
    let script = format!(
        "mount -t tmpfs -o size=8k none {0} && head -c 4096 /dev/zero > {0}/other && \"$@\"; code=$?; cp {0}/file {1}; exit $code",
        full.display(),
        kept.display()
    );
    let (source, file) = (trial.tree().display().to_string(), full.join("file").display().to_string());
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        &script,
        "sh",
        env!("CARGO_BIN_EXE_efs2s3"),
        "sync",
        &source,
        "s3://site/www",
    ]);
    command.args(["--mode", "plain", "--concurrency", "2", "--changes", &file]);
    let run = trial.spawn(command, &[]).end().expect(3);
    assert!(run.report["error"].as_str().unwrap().contains("No space left"), "{}", run.report["error"]);
    trial.assert_same();
    let written = keys(&kept).len();
    assert!(written < 200, "{written}");
}

#[test]
fn a_pipe_that_closes_is_exit_3() {
    let trial = Trial::new();
    for number in 0..300 {
        trial.write(format!("f{number:03}"), "x");
    }
    Trial::settle();
    let pipe = trial.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::Delay(Duration::from_millis(20))));
    // Without a writer, this reader would wait in its open.
    let keeper = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let mut reader = fs::File::open(&pipe).unwrap();
    let run = trial.start(&["--changes", pipe.to_str().unwrap(), "--concurrency", "2"]);
    let mut some = [0; 40];
    reader.read_exact(&mut some).unwrap();
    drop((reader, keeper));
    let run = run.end().expect(3);
    assert!(run.report["error"].as_str().unwrap().contains("pipe"), "{}", run.report["error"]);
    trial.assert_same();
}

#[test]
fn the_reader_may_rename_the_file_away_during_a_run() {
    let trial = Trial::new();
    trial.write("a", "x");
    trial.write("b", "x");
    Trial::settle();
    let (path, read) = (trial.folder.path().join("changes"), trial.folder.path().join("read"));
    let (from, to) = (path.clone(), read.clone());
    let rename = Fault::before(move || {
        wait_until("the first line is written", || keys(&from).len() == 1);
        fs::rename(&from, &to).unwrap();
    });
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("b").does(rename));
    trial.sync(&["--changes", path.to_str().unwrap(), "--concurrency", "1"]).expect(0);
    assert_eq!((keys(&read), keys(&path)), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_change_without_proof_has_a_line_although_the_run_failed() {
    let trial = Trial::new();
    trial.write("put", "1");
    trial.write("big", random(7 << 20));
    trial.write("refused-after", "1");
    trial.object("orphan", "o", LONG_AGO);
    trial.object("orphan\u{1}", "o", LONG_AGO);
    Trial::settle();
    let deletes = [Operation::DeleteObjects, Operation::DeleteObject];
    let writes = [Operation::PutObject, Operation::CompleteMultipartUpload];
    // The first response is lost, and the retry is refused: the first request may have had its effect.
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("refused-after").does(Fault::ResetAfter));
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("refused-after").always().does(denied));
    trial.s3.rule(Rule::on(writes).always().does(Fault::ResetAfter));
    trial.s3.rule(Rule::on(deletes).always().does(Fault::ResetAfter));
    let path = trial.folder.path().join("changes");
    let in_parts = ["--part-size", "5MiB", "--multipart-threshold", "5MiB", "--retries", "1"];
    let options = [&["--changes", path.to_str().unwrap()], &in_parts[..]].concat();
    let run = trial.sync(&options).expect(3);
    assert_eq!((run.counted("failed"), run.counted("uploaded")), (3, 0));
    assert!(trial.has("put") && trial.has("big") && trial.has("refused-after"));
    assert_eq!(keys(&path), ["big", "put", "refused-after"]);
    // The next run finds the objects equal, and its deletes fail in the same way.
    let run = trial.sync(&[&options[..], &["--delete", "--max-delete", "100%"]].concat()).expect(3);
    assert_eq!((run.counted("unchanged"), run.counted("deletes_failed")), (3, 2));
    assert!(!trial.has("orphan") && !trial.has("orphan\u{1}"));
    // Each attempt without proof has a line of its own.
    let changed: BTreeSet<String> = keys(&path).into_iter().collect();
    assert_eq!(changed.iter().collect::<Vec<_>>(), ["big", "orphan", "orphan\u{1}", "put", "refused-after"]);
    assert_eq!(pending(&trial), 0);
}

#[test]
fn a_rewrite_without_proof_has_a_line() {
    let trial = Trial::new();
    let file = trial.write("a", "1");
    Trial::settle();
    trial.datasync(&[]).expect(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    Trial::settle();
    trial.s3.rule(Rule::on(Operation::CopyObject).always().does(Fault::ResetAfter));
    let path = trial.folder.path().join("changes");
    trial.datasync(&["--retries", "1", "--changes", path.to_str().unwrap()]).expect(3);
    assert_eq!(keys(&path), ["a"]);
}

#[test]
fn a_change_that_s3_refuses_has_no_line() {
    let trial = Trial::new();
    trial.write("put", "1");
    trial.write("big", random(7 << 20));
    trial.object("orphan", "o", LONG_AGO);
    trial.object("orphan\u{1}", "o", LONG_AGO);
    Trial::settle();
    let all =
        [Operation::PutObject, Operation::CompleteMultipartUpload, Operation::DeleteObjects, Operation::DeleteObject];
    trial.s3.rule(Rule::on(all).always().does(Fault::status(403, "AccessDenied")));
    let path = trial.folder.path().join("changes");
    let in_parts = ["--part-size", "5MiB", "--multipart-threshold", "5MiB", "--retries", "1"];
    let options = [&["--changes", path.to_str().unwrap()], &in_parts[..]].concat();
    trial.sync(&options);
    assert!(trial.count(Operation::PutObject) > 0 && trial.count(Operation::CompleteMultipartUpload) > 0);
    trial.remove("put");
    trial.remove("big");
    trial.sync(&[&options[..], &["--delete", "--max-delete", "100%", "--allow-empty-source"]].concat());
    assert!(trial.count(Operation::DeleteObjects) > 0);
    assert_eq!(keys(&path), [""; 0]);
    assert_eq!(pending(&trial), 0);
}

#[test]
fn the_next_run_appends_what_a_killed_run_may_have_changed() {
    for (names, orphans, operation) in
        [(vec!["a", "b"], vec![], Operation::PutObject), (vec![], vec!["x", "y"], Operation::DeleteObjects)]
    {
        let trial = Trial::new();
        trial.write("kept", "1");
        for name in &names {
            trial.write(name, "1");
        }
        for name in &orphans {
            trial.object(name, "o", LONG_AGO);
        }
        trial.object("kept", "1", LONG_AGO);
        Trial::settle();
        // S3 carries the requests out, although the run no longer lives.
        trial.s3.rule(Rule::on(operation).always().does(Fault::Delay(Duration::from_secs(10))));
        let path = trial.folder.path().join("changes");
        let options = ["--changes", path.to_str().unwrap(), "--delete", "--max-delete", "100%"];
        let run = trial.start(&options);
        let requests = if orphans.is_empty() { names.len() } else { 1 };
        trial.wait_for_requests(operation, requests);
        // Another run with the same file takes nothing from a run that lives.
        fs::create_dir(trial.folder.path().join("empty")).unwrap();
        trial.run_words(&["sync", "empty", "s3://site/other", "--changes", options[1]], &[]).expect(0);
        assert_eq!((keys(&path), pending(&trial)), (vec![], 1));
        run.signal("-KILL");
        run.end();
        let is_done = || if orphans.is_empty() { trial.has("a") && trial.has("b") } else { !trial.has("x") };
        wait_until("S3 has carried the requests out", is_done);
        trial.s3.clear_rules();
        assert_eq!(pending(&trial), 1);
        fs::remove_file(&path).unwrap();
        let next = trial.sync(&options).expect(0);
        assert_eq!((next.counted("uploaded"), next.counted("deleted")), (0, 0));
        let changed = if orphans.is_empty() { names } else { orphans };
        assert_eq!(keys(&path), changed, "{operation:?}");
        assert_eq!(pending(&trial), 0);
        trial.sync(&options).expect(0);
        assert_eq!(keys(&path), changed, "{operation:?}: once");
    }
}

/// The line of a killed run in its file beside the changes file.
const KILLED: &str = "{\"action\":\"upload\",\"key\":\"www/killed\",\"reason\":\"absent\",\"size\":1}\n";

#[test]
fn the_file_of_a_killed_run_that_cannot_be_removed_is_appended_once() {
    let trial = Trial::new();
    trial.write("a", "1");
    let (path, file) = (trial.folder.path().join("changes"), trial.folder.path().join(".changes.AbCdEf.pending"));
    fs::write(&file, KILLED).unwrap();
    let (source, path_text) = (trial.tree().display().to_string(), path.to_str().unwrap());
    for _ in 0..2 {
        // A mount point cannot be removed.
        let script = format!("mount --bind {0} {0} && exec \"$@\"", file.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync", &source]);
        command.args(["s3://site/www", "--mode", "plain", "--changes", path_text]);
        let run = trial.spawn(command, &[]).end().expect(0);
        assert!(run.stderr.contains("cannot remove this empty file"), "{}", run.stderr);
        assert!(run.stderr.contains(file.to_str().unwrap()), "{}", run.stderr);
        assert_eq!(keys(&path), ["a", "killed"]);
    }
    trial.sync(&["--changes", path_text]).expect(0);
    assert_eq!((keys(&path).len(), pending(&trial)), (2, 0));
}

#[test]
fn a_file_that_is_only_named_like_that_of_a_killed_run_stays() {
    let trial = Trial::new();
    trial.write("a", "1");
    let path = trial.folder.path().join("changes");
    let beside = |random: &str| trial.folder.path().join(format!(".changes.{random}.pending"));
    let notes = trial.folder.path().join("notes");
    fs::write(&notes, KILLED).unwrap();
    symlink(&notes, beside("symlnk")).unwrap();
    fs::hard_link(&notes, beside("linked")).unwrap();
    fs::write(beside("twoIn1"), KILLED.repeat(2)).unwrap();
    fs::write(beside("nolong"), "my notes\n").unwrap();
    fs::write(beside("notes"), KILLED).unwrap();
    fs::create_dir(beside("folder")).unwrap();
    fs::File::create(beside("sparse")).unwrap().set_len(1 << 40).unwrap();
    let names = ["symlnk", "linked", "twoIn1", "nolong", "notes", "folder", "sparse"];
    let run = trial.sync(&["--changes", path.to_str().unwrap()]).expect(0);
    assert_eq!(keys(&path), ["a"]);
    for name in names {
        let path = beside(name);
        assert!(path.symlink_metadata().is_ok(), "{name} stays");
        assert!(run.stderr.contains(path.to_str().unwrap()), "{name}: {}", run.stderr);
    }
    assert_eq!(run.stderr.matches("WARN").count(), names.len(), "{}", run.stderr);
}

/// How many files of runs in flight or killed lie beside the changes file.
fn pending(trial: &Trial) -> usize {
    let names = fs::read_dir(trial.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with(".changes.") && name.ends_with(".pending")))
        .count()
}
