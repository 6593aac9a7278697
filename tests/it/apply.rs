//! `efs2s3 apply`: it does what a reviewed plan lists, and skips lines whose file or object has changed since.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{FinishedRun, Trial, WRITES};

const HOUR: Duration = Duration::from_hours(1);

/// Two new files, two changed ones and two orphans, planned.
fn planned(options: &[&str]) -> Trial {
    let trial = Trial::new();
    for name in ["changed1", "changed2", "new1", "new2", "same"] {
        trial.write(name, format!("now {name}"));
    }
    Trial::settle();
    for name in ["changed1", "changed2", "orphan1", "orphan2"] {
        trial.object(name, format!("then {name}"), HOUR);
    }
    trial.object("same", "now same", Duration::ZERO);
    plan(&trial, options);
    trial
}

fn plan(trial: &Trial, options: &[&str]) {
    trial.plan(&[&["--delete", "-o", "plan.jsonl"], options].concat()).expect(0);
    trial.s3.clear_log();
}

fn apply(trial: &Trial, options: &[&str]) -> FinishedRun {
    trial.run_words(&[&["apply", "plan.jsonl"], options].concat(), &[])
}

#[test]
fn apply_does_exactly_what_the_plan_lists() {
    let trial = planned(&[]);
    let ended = apply(&trial, &[]).expect(0);
    trial.assert_same();
    assert_eq!((ended.counted("uploaded"), ended.counted("deleted")), (4, 2));
    assert_eq!(trial.count(Operation::ListObjectsV2), 0, "apply reads only the keys of the plan");
    trial.s3.clear_log();
    let ended = apply(&trial, &[]).expect(0);
    assert_eq!((ended.counted("unchanged"), ended.counted("failed"), trial.count(WRITES)), (4, 0, 0));
    let skipped = ended.stderr.matches("skipped lines of the plan that are done already").count();
    assert!(skipped == 1 && ended.stderr.contains("lines=6"), "{}", ended.stderr);
    ended.assert_adds_up();
    // A line counts as done only if the object has the content of the file.
    trial.object("new1", "NOW new1", Duration::ZERO);
    assert_eq!(apply(&trial, &[]).expect(3).only_failure()["key"], "www/new1");
    assert_eq!(trial.objects()["new1"], b"NOW new1");
}

#[test]
fn lines_that_the_plan_itself_leaves_out_are_refused() {
    let trial = Trial::new();
    trial.write("a", "a");
    trial.write("out/new", "n");
    Trial::settle();
    for name in ["orphan", "out/old", "x/.aws-datasync/y"] {
        trial.object(name, "o", HOUR);
    }
    let source = trial.tree().display().to_string();
    let words = ["plan", &source, "s3://site/www", "--exclude", "/out", "--delete", "-o", "plan.jsonl"];
    trial.run_words(&words, &[]).expect(0);
    let path = trial.folder.path().join("plan.jsonl");
    let mut lines = fs::read_to_string(&path).unwrap();
    let delete = lines.lines().find(|line| line.contains("\"action\":\"delete\"")).unwrap().to_owned();
    let edited = [("out/old", "www/out/old"), ("x/.aws-datasync/y", "www/x/.aws-datasync/y")];
    for (_, key) in edited {
        lines += &delete.replace("www/orphan", key);
        lines.push('\n');
    }
    lines += &forged("www/out/new", &trial.tree().join("out/new"));
    fs::write(&path, &lines).unwrap();
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!(ended.failed_keys(), ["www/out/old", "www/x/.aws-datasync/y", "www/out/new"]);
    assert!(trial.has("out/old") && trial.has("x/.aws-datasync/y") && !trial.has("out/new") && trial.has("a"));
    ended.assert_adds_up();
    fs::write(&path, format!("{lines}\n{delete}\n")).unwrap();
    trial.s3.clear_log();
    let ended = apply(&trial, &[]).expect(2);
    assert!(ended.stderr.contains("repeats the key www/orphan") && trial.s3.log().is_empty(), "{}", ended.stderr);
}

#[test]
fn apply_skips_lines_whose_file_or_object_has_changed() {
    let trial = planned(&[]);
    trial.write("changed1", "changed after the plan");
    trial.object("changed2", "written by another writer", Duration::ZERO);
    trial.object("orphan1", "written by another writer", Duration::ZERO);
    trial.write("orphan2", "back again");
    let ended = apply(&trial, &[]).expect(3);
    let objects = trial.objects();
    assert_eq!(objects["changed1"], b"then changed1");
    assert_eq!(objects["changed2"], b"written by another writer");
    assert_eq!(objects["orphan1"], b"written by another writer");
    assert_eq!(objects["orphan2"], b"then orphan2");
    assert_eq!((&objects["new1"][..], &objects["new2"][..]), (&b"now new1"[..], &b"now new2"[..]));
    assert_eq!((ended.counted("failed"), ended.withheld_by("changed_since_plan")), (2, 2));
    for name in ["changed1", "changed2", "orphan1", "orphan2"] {
        assert!(ended.stderr.contains(&format!("www/{name}")), "{name}: {}", ended.stderr);
    }
}

#[test]
fn skipped_new_file_withholds_the_deletes() {
    let trial = planned(&[]);
    trial.remove("new1");
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!(ended.withheld_by("uploads"), 2, "the new file may be a renamed one");
    assert!(trial.has("orphan1") && trial.has("new2"));
    let message = ended.report["withheld_because"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("withheld 2 deletes: 1 new file ") && message.ends_with("Make a new plan"),
        "{message}"
    );
    assert!(ended.stderr.contains("the file was removed since the plan was made"), "{}", ended.stderr);
}

#[test]
fn apply_keeps_new_objects_and_accepts_missing_orphans() {
    let trial = planned(&[]);
    trial.object("new1", "of another writer", Duration::ZERO);
    trial.s3.remove("site", "www/orphan1");
    apply(&trial, &[]).expect(3);
    assert_eq!(trial.objects()["new1"], b"of another writer");
    let trial = planned(&[]);
    trial.s3.remove("site", "www/orphan1");
    apply(&trial, &[]).expect(0);
    trial.assert_same();
}

#[test]
fn apply_does_not_overwrite_a_concurrent_write() {
    let trial = planned(&[]);
    let (s3, once) = (trial.s3.clone(), std::sync::Once::new());
    let write = move || once.call_once(|| s3.put("site", "www/changed1", "quick", fake_aws::s3::Seed::default()));
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("changed1").does(Fault::before(write)));
    apply(&trial, &[]).expect(3);
    assert_eq!(trial.objects()["changed1"], b"quick");
}

#[test]
fn apply_keeps_a_flag_that_a_variable_set_to_1_for_the_plan() {
    let trial = Trial::new();
    trial.object("orphan", "x", HOUR);
    let source = trial.tree().display().to_string();
    let words = ["plan", &source, "s3://site/www", "--mode", "plain", "--delete", "-o", "plan.jsonl"];
    trial.run_words(&words, &[("EFS2S3_ALLOW_EMPTY_SOURCE", "1")]).expect(0);
    assert_eq!(apply(&trial, &[]).expect(0).counted("deleted"), 1);
}

#[test]
fn an_empty_source_deletes_nothing() {
    let trial = planned(&[]);
    fs::rename(trial.tree(), trial.folder.path().join("away")).unwrap();
    fs::create_dir(trial.tree()).unwrap();
    let plan = fs::read_to_string(trial.folder.path().join("plan.jsonl")).unwrap();
    let deletes = plan.lines().enumerate().filter(|(number, line)| *number == 0 || line.contains("\"delete\""));
    let deletes: Vec<&str> = deletes.map(|(_, line)| line).collect();
    fs::write(trial.folder.path().join("plan.jsonl"), deletes.join("\n")).unwrap();
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!(ended.withheld_by("empty_source"), 2);
    assert!(trial.has("orphan1") && trial.has("orphan2"));
}

#[test]
fn apply_does_only_the_remaining_lines() {
    let trial = planned(&["--all"]);
    let path = trial.folder.path().join("plan.jsonl");
    let plan = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = plan.lines().filter(|line| !line.contains("orphan2") && !line.contains("new2")).collect();
    fs::write(&path, kept.join("\n")).unwrap();
    let ended = apply(&trial, &[]).expect(0);
    assert_eq!((ended.counted("uploaded"), ended.counted("deleted")), (3, 1));
    assert!(trial.has("orphan2") && !trial.has("new2") && !trial.has("orphan1"));
}

#[test]
fn delete_lines_below_a_header_without_deletes_are_refused() {
    let trial = planned(&[]);
    let path = trial.folder.path().join("plan.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    trial.plan(&["-o", "plan.jsonl"]).expect(0);
    let header = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    let edited: Vec<&str> = std::iter::once(header.as_str()).chain(lines.lines().skip(1)).collect();
    fs::write(&path, edited.join("\n")).unwrap();
    trial.s3.clear_log();
    let ended = apply(&trial, &[]).expect(2);
    assert!(ended.stderr.contains("line 6") && ended.stderr.contains("without --delete"), "{}", ended.stderr);
    assert_eq!(trial.s3.log().len(), 0);
}

#[test]
fn a_delete_waits_for_a_new_file_of_its_size_whose_line_was_removed() {
    let trial = Trial::new();
    for name in ["renamed", "other", "empty/"] {
        trial.object(name, if name == "empty/" { "" } else { "the content" }, HOUR);
    }
    for (name, content) in [("new", "the content"), ("new2", "the content"), ("more", "more"), ("same", "s")] {
        trial.write(name, content);
    }
    trial.object("orphan", "of another size", HOUR);
    Trial::settle();
    plan(&trial, &[]);
    let path = trial.folder.path().join("plan.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let without = |what: &str| {
        let kept: Vec<&str> = whole.lines().filter(|line| !line.contains(what)).collect();
        fs::write(&path, kept.join("\n")).unwrap();
    };
    without("www/new2");
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!((ended.withheld_by("may_be_renamed"), ended.counted("deleted")), (2, 2), "{}", ended.report);
    assert!(ended.stderr.contains("new_files_of_size"), "{}", ended.stderr);
    assert!(trial.has("renamed") && trial.has("other") && !trial.has("orphan") && trial.has("new"));
    // The line of a file of another size withholds nothing.
    without("www/more");
    assert_eq!(apply(&trial, &[]).expect(0).counted("deleted"), 2);
    assert!(!trial.has("renamed") && !trial.has("other") && trial.has("new2"));
}

#[test]
fn apply_takes_options_and_header_rules_from_the_plan() {
    let trial = Trial::new();
    trial.write("page.html", "<p>");
    Trial::settle();
    let config = trial.folder.path().join("config.toml");
    fs::write(&config, "cache-control = 'max-age=1'\n[[header]]\npattern = '*.html'\ncontent_encoding = 'br'\n")
        .unwrap();
    plan(&trial, &["--config", &config.display().to_string(), "--storage-class", "STANDARD_IA"]);
    let elsewhere = [("EFS2S3_CACHE_CONTROL", "no-store"), ("EFS2S3_MODE", "datasync"), ("EFS2S3_EXCLUDE", "*")];
    trial.run_words(&["apply", "plan.jsonl"], &elsewhere).expect(0);
    let stored = trial.stored("page.html");
    assert_eq!(stored.headers["cache-control"], "max-age=1");
    assert_eq!(stored.headers["content-encoding"], "br");
    assert_eq!(stored.headers["x-amz-storage-class"], "STANDARD_IA");
    assert_eq!(stored.metadata("file-mtime"), None, "plain, as in the plan");
}

#[test]
fn apply_writes_directories_links_and_metadata() {
    let trial = Trial::new();
    trial.write("d/file", "content");
    trial.link("file", "d/link");
    Trial::settle();
    let source = trial.tree().display().to_string();
    let words = ["sync", &source, "s3://site/www", "--mode", "datasync"];
    trial.run_words(&words, &[]).expect(0);
    fs::set_permissions(trial.tree().join("d/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(trial.tree().join("new")).unwrap();
    trial.link("elsewhere", "new/link");
    Trial::settle();
    trial.run_words(&["plan", &source, "s3://site/www", "--mode", "datasync", "-o", "plan.jsonl"], &[]).expect(0);
    trial.s3.clear_log();
    let ended = apply(&trial, &[]).expect(0);
    assert_eq!((ended.counted("uploaded"), ended.counted("metadata_rewritten")), (2, 1));
    assert_eq!(trial.stored("d/file").metadata("file-permissions"), Some("0100600"));
    assert_eq!(trial.stored("new/link").body, "elsewhere");
    trial.s3.clear_log();
    trial.run_words(&words, &[]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
}

#[test]
fn invalid_plan_is_refused_before_any_request() {
    let trial = planned(&[]);
    let path = trial.folder.path().join("plan.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let (header, lines) = whole.split_once('\n').unwrap();
    let newer = header.replace("\"plan\":1", "\"plan\":2");
    for (text, message) in [
        (String::new(), "is not a plan that can be applied"),
        (lines.to_owned(), "is not a plan that can be applied"),
        (newer, "has another version"),
        (format!("{header}\n{lines}{{\"action\":\"upl"), "is not a plan line"),
        (format!("{header}\n{}", lines.replace("\"upload\"", "\"explode\"")), "line 2 of plan.jsonl"),
        (whole.replace("s3://site/www", "http://x"), "write a destination as s3://bucket/prefix"),
    ] {
        fs::write(&path, text).unwrap();
        let ended = apply(&trial, &[]).expect(2);
        assert!(ended.stderr.contains(message), "{message}: {}", ended.stderr);
    }
    fs::remove_file(&path).unwrap();
    let ended = apply(&trial, &[]).expect(2);
    assert!(ended.stderr.contains("cannot read the plan"), "{}", ended.stderr);
    assert!(trial.s3.log().is_empty());
}

#[test]
fn plan_line_of_another_destination_is_refused() {
    let trial = planned(&[]);
    let path = trial.folder.path().join("plan.jsonl");
    let plan = fs::read_to_string(&path).unwrap();
    fs::write(&path, plan.replace("\"key\":\"www/", "\"key\":\"www2/")).unwrap();
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!((ended.counted("failed"), trial.count(WRITES)), (4, 0));
}

#[test]
fn apply_with_state_saves_a_report_and_an_index() {
    let trial = planned(&[]);
    let state = trial.folder.path().join("state").display().to_string();
    apply(&trial, &["--state", &state]).expect(0);
    let runs: Vec<_> = fs::read_dir(format!("{state}/runs")).unwrap().collect();
    assert_eq!(runs.len(), 1);
    fs::rename(trial.tree(), trial.folder.path().join("moved")).unwrap();
    fs::rename(trial.folder.path().join("moved"), trial.tree()).unwrap();
    trial.s3.clear_log();
    trial.sync(&["--delete", "--state", &state]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
}

#[test]
fn apply_uses_the_state_of_its_plan() {
    let trial = Trial::new();
    let at = |name: &str| trial.tree().join(name);
    trial.write("a/x", "one");
    trial.write("b/x", "two");
    Trial::settle();
    // The plan is applied in another folder.
    plan(&trial, &["--state", "state"]);
    let plan = trial.folder.path().join("plan.jsonl").display().to_string();
    let mut command = Command::new("env");
    command.args(["--chdir=/", env!("CARGO_BIN_EXE_efs2s3"), "apply", &plan]);
    trial.spawn(command, &[]).end().expect(0);
    assert_eq!(fs::read_dir(trial.folder.path().join("state/runs")).unwrap().count(), 1);
    // Two directories are swapped, and a newer entry in each hides that from all times.
    for (from, to) in [("a", "aside"), ("b", "a"), ("aside", "b")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    trial.write("a/later", "x");
    trial.write("b/later", "x");
    trial.sync(&["--delete", "--state", "state"]).expect(0);
    trial.assert_same();
}

/// A plan line that uploads the file at `path` under a key.
fn forged(key: &str, path: &std::path::Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::metadata(path).unwrap();
    let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
    let line = serde_json::json!({
        "action": "upload", "key": key, "reason": "absent", "size": stat.size(), "etag": null,
        "source_mtime_ns": nanos(stat.mtime(), stat.mtime_nsec()),
        "source_ctime_ns": nanos(stat.ctime(), stat.ctime_nsec()),
    });
    line.to_string()
}

#[test]
fn lines_whose_key_is_not_a_path_of_the_source_are_refused_by_name() {
    for mode in ["plain", "datasync"] {
        let trial = Trial::new();
        let secret = trial.folder.path().join("secret");
        fs::write(&secret, "secret of another folder").unwrap();
        trial.write("d/inside", "inside");
        trial.link("d", "l");
        Trial::settle();
        trial.object("a//b", "1", HOUR);
        let source = trial.tree().display().to_string();
        let words = ["plan", &source, "s3://site/www", "--mode", mode, "--delete", "-o", "plan.jsonl"];
        trial.run_words(&words, &[]).expect(0);
        let plan = trial.folder.path().join("plan.jsonl");
        let mut lines = fs::read_to_string(&plan).unwrap();
        let inside = trial.tree().join("d/inside");
        let keys = [
            ("www/../secret", &secret),
            ("www/l/../../secret", &secret),
            ("www/d/../../secret", &secret),
            ("www/./d/inside", &inside),
            ("www/d//inside", &inside),
            ("www//d/inside", &inside),
            ("www/d/../d/inside", &inside),
        ];
        for (key, path) in keys {
            lines.push_str(&forged(key, path));
            lines.push('\n');
        }
        let etag = trial.stored("a//b").etag.trim_matches('"').to_owned();
        let delete = serde_json::json!({
            "action": "delete", "key": "www/a//b", "reason": "orphan", "size": 1, "etag": etag,
            "source_mtime_ns": null, "source_ctime_ns": null,
        });
        lines += &delete.to_string();
        lines.push('\n');
        fs::write(&plan, lines).unwrap();
        trial.s3.clear_log();
        let ended = apply(&trial, &[]).expect(3);
        let failed = ended.failed_keys();
        for (key, _) in keys {
            assert!(failed.iter().any(|failed| failed == key), "{mode} {key}: {failed:?}");
        }
        assert!(failed.contains(&"www/a//b".to_owned()) && trial.has("a//b"), "{mode}");
        assert!(!trial.objects().values().any(|content| content.starts_with(b"secret")), "{mode}");
        assert!(trial.has("d/inside"), "{mode}: the other lines are carried out");
        ended.assert_adds_up();
    }
}

#[test]
fn a_delete_line_whose_object_cannot_be_read_is_a_failed_delete() {
    let trial = planned(&[]);
    trial
        .s3
        .rule(Rule::on(Operation::HeadObject).key_contains("orphan1").always().does(Fault::status(403, "Forbidden")));
    let ended = apply(&trial, &[]).expect(3);
    assert_eq!((ended.counted("failed"), ended.counted("deletes_failed"), ended.counted("deleted")), (0, 1, 1));
    assert!(trial.has("orphan1") && !trial.has("orphan2"));
    ended.assert_adds_up();
}

/// A bucket policy that demands this encryption with each write.
fn demand(trial: &Trial, encryption: &'static str) {
    let unless_encrypted = Fault::custom(move |request| {
        let sent = request.headers.get("x-amz-server-side-encryption").map(String::as_str);
        (sent != Some(encryption)).then(|| fake_aws::s3::Reply::error(403, "AccessDenied", "Access Denied", ""))
    });
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(unless_encrypted));
}

#[test]
fn apply_takes_the_encryption_that_a_bucket_policy_demands() {
    let trial = planned(&[]);
    trial.s3.create_bucket("state");
    demand(&trial, "aws:kms");
    let state = ["--state", "s3://state/of"];
    let denied = apply(&trial, &state).expect(1);
    let advice = "a bucket policy may also demand --sse";
    assert!(denied.stderr.contains(advice), "{}", denied.stderr);
    apply(&trial, &[&state[..], &["--sse", "aws:kms", "--sse-kms-key-id", "key-1"]].concat()).expect(0);
    trial.assert_same();
    let key = "x-amz-server-side-encryption-aws-kms-key-id";
    let puts = trial.s3.requests(Operation::PutObject);
    assert!(puts.iter().filter(|put| put.status == 200).all(|put| put.headers[key] == "key-1"));
}

#[test]
fn encryption_that_apply_is_given_replaces_that_of_the_plan() {
    let trial = planned(&["--sse", "aws:kms", "--sse-kms-key-id", "key-1"]);
    demand(&trial, "AES256");
    trial.run_words(&["apply", "plan.jsonl"], &[("EFS2S3_SSE", "AES256")]).expect(0);
    trial.assert_same();
    let key = "x-amz-server-side-encryption-aws-kms-key-id";
    assert!(trial.s3.requests(Operation::PutObject).iter().all(|put| !put.headers.contains_key(key)));
}
