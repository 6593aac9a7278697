//! The command line: options, environment, config file, output and error messages.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fake_aws::datasync::{DataSyncServer, ServiceFault};
use fake_aws::s3::{Fault, Operation, Operations, Rule, Seed};
use serde_json::Value;

use crate::trial::{FinishedRun, READS, Run, SECRETS, Trial, WRITES, random};

const MIB: usize = 1 << 20;
/// An age greater than that of anything in a trial.
const LONG_AGO: Duration = Duration::from_secs(1000);
/// Small files in one request, larger ones in parts of 5 MiB.
const IN_PARTS: [&str; 4] = ["--part-size", "5MiB", "--multipart-threshold", "6MiB"];
/// Unsets the trial's credentials.
const NO_CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SESSION_TOKEN", "")];

/// Parses lines of JSON.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// One file or object for each action of a sync.
fn one_of_each() -> Trial {
    let trial = Trial::new();
    trial.object("equal", "same", LONG_AGO);
    trial.write("equal", "same");
    trial.object("a-size", "old", LONG_AGO);
    trial.write("a-size", "newer");
    trial.object("d/content", "old", LONG_AGO);
    trial.write("d/content", "new");
    trial.write("z-new", "new file");
    trial.object("b-orphan", "gone", LONG_AGO);
    trial.object("z/orphan", "gone too", LONG_AGO);
    trial
}

/// Action, key, reason and size of each line of a plan or a changes file.
fn fields(lines: &[Value]) -> Vec<(String, String, String, u64)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let fields = |line: &Value| {
        (text(line, "action"), text(line, "key"), text(line, "reason"), line["size"].as_u64().unwrap_or(0))
    };
    lines.iter().map(fields).collect()
}

// --- plan ---

#[test]
fn plan_writes_nothing_and_lists_what_sync_then_does() {
    let trial = one_of_each();
    let plan = trial.plan(&["--delete"]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
    let planned = lines(&plan.stdout);
    let keys: Vec<(&str, &str)> =
        planned.iter().map(|line| (line["action"].as_str().unwrap(), line["key"].as_str().unwrap())).collect();
    let expected = [
        ("upload", "www/a-size"),
        ("upload", "www/d/content"),
        ("upload", "www/z-new"),
        ("delete", "www/b-orphan"),
        ("delete", "www/z/orphan"),
    ];
    assert_eq!(keys, expected, "in key order, deletes last");
    assert_eq!(planned[0]["etag"], trial.stored("a-size").etag);
    assert!(planned[2]["etag"].is_null());
    assert_eq!(planned[3]["etag"], trial.stored("b-orphan").etag);
    assert!(planned[0]["source_mtime_ns"].is_number() && planned[0]["source_ctime_ns"].is_number());

    let changes = trial.folder.path().join("changes.jsonl");
    let run = trial.sync(&["--delete", "--changes", changes.to_str().unwrap()]).expect(0);
    trial.assert_same();
    let done = lines(&fs::read_to_string(&changes).unwrap());
    let without_size = |(action, key, reason, size)| {
        let size = if action == "delete" { 0 } else { size };
        (action, key, reason, size)
    };
    let planned: BTreeSet<_> = fields(&planned).into_iter().map(without_size).collect();
    assert_eq!(fields(&done).into_iter().collect::<BTreeSet<_>>(), planned);
    assert_eq!(done.len(), 5);
    for (name, count) in [("uploaded", 3), ("deleted", 2), ("unchanged", 1)] {
        assert_eq!((run.counted(name), plan.counted(name)), (count, count), "{name}");
    }
    plan.assert_adds_up();
}

#[test]
fn plan_file_starts_with_its_source_destination_and_options() {
    let trial = one_of_each();
    let path = trial.folder.path().join("plan.jsonl");
    let to_stdout = trial.plan(&["--delete"]).expect(0);
    let run = trial.plan(&["--delete", "--max-delete", "7", "-o", path.to_str().unwrap()]).expect(0);
    assert_eq!(run.stdout, "");
    assert_eq!(trial.count(WRITES), 0);
    let mut written = lines(&fs::read_to_string(path).unwrap());
    let header = written.remove(0);
    assert_eq!(header["plan"], 1);
    assert_eq!(header["source"], trial.tree().to_str().unwrap());
    assert_eq!(header["destination"], "s3://site/www/");
    assert_eq!(header["options"]["max_delete"], serde_json::json!(["7"]));
    assert_eq!(header["options"]["mode"], serde_json::json!(["plain"]));
    let is_option = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(header["options"].as_object().unwrap().keys().all(is_option), "{}", header["options"]);
    assert_eq!(
        run.counted("deleted"),
        u64::try_from(fields(&written).iter().filter(|line| line.0 == "delete").count()).unwrap()
    );
    assert!(run.stderr.contains("to upload") && run.stderr.contains("to delete"), "{}", run.stderr);
    assert!(header["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(written, lines(&to_stdout.stdout));
}

#[test]
fn plan_lists_kept_objects_only_with_all() {
    let trial = one_of_each();
    let kept = |options: &[&str]| {
        let lines = fields(&lines(&trial.plan(options).expect(0).stdout));
        lines.into_iter().filter(|(action, ..)| action == "keep").map(|(_, key, ..)| key).collect::<Vec<_>>()
    };
    assert_eq!(kept(&["--delete"]), [""; 0]);
    assert_eq!(kept(&["--delete", "--all"]), ["www/equal"]);
}

#[test]
fn plan_exits_with_10_if_changes_remain() {
    let trial = one_of_each();
    trial.plan(&["--delete"]).expect(0);
    let run = trial.plan(&["--delete", "--exit-code"]).expect(10);
    assert_eq!(run.report["exit_code"], 10);
    trial.sync(&["--delete"]).expect(0);
    trial.plan(&["--delete", "--exit-code"]).expect(0);
    trial.object("orphan", "o", LONG_AGO);
    trial.plan(&["--delete", "--exit-code"]).expect(10);
    trial.plan(&["--exit-code"]).expect(0);
}

#[test]
fn dry_run_prints_the_plan() {
    let trial = one_of_each();
    let plan = trial.plan(&["--delete"]).expect(0);
    let by_flag = trial.sync(&["--delete", "--dry-run"]).expect(0);
    let by_variable = trial.start_with(&["--delete"], &[("EFS2S3_DRY_RUN", "true")]).end().expect(0);
    assert_eq!(trial.count(WRITES), 0);
    assert_eq!((by_flag.stdout.as_str(), by_variable.stdout.as_str()), (plan.stdout.as_str(), plan.stdout.as_str()));
    assert_eq!(lines(&plan.stdout).len(), 5);
}

#[test]
fn plan_omits_deletes_that_sync_would_withhold() {
    let trial = one_of_each();
    let run = trial.plan(&["--delete", "--max-delete", "1"]).expect(3);
    assert_eq!(fields(&lines(&run.stdout)).iter().filter(|(action, ..)| action == "delete").count(), 0);
    assert_eq!(run.withheld_by("limit"), 2);
    assert!(run.stderr.contains("--max-delete 2"), "{}", run.stderr);
}

// --- stdout and stderr ---

#[test]
fn sync_writes_only_a_requested_report_to_stdout() {
    let trial = one_of_each();
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("3 uploaded"), "{}", run.stderr);
    let run = trial.sync(&["--report", "-"]).expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["schema"], &report["counts"]["files"]), (&1.into(), &4.into()));
}

#[test]
fn closed_stdout_does_not_end_a_run() {
    let trial = Trial::new();
    for number in 0..3000 {
        trial.write(format!("{number:04}-{}", "n".repeat(100)), "1");
    }
    let source = trial.tree().display().to_string();
    let mut plan = trial.start_words(&["plan", &source, "s3://site/www", "--mode", "plain"], &[]);
    plan.close_stdout();
    let plan = plan.end().expect(0);
    assert_eq!(plan.counted("uploaded"), 3000, "the plan continues to its end");
    let mut run = trial.start(&["--dry-run", "--report", "-"]);
    run.close_stdout();
    run.end().expect(0);
}

/// The output on a terminal of a run that logs a warning.
fn on_a_terminal(environment: &[(&str, &str)], options: &str) -> String {
    let trial = Trial::new();
    trial.write_raw_name(b"caf\xe9", b"1");
    let program = env!("CARGO_BIN_EXE_efs2s3");
    let words = format!("{program} sync {} s3://site/www --mode plain {options}", trial.tree().display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &words, "/dev/null"]);
    trial.spawn(command, environment).end().expect(3).stdout
}

#[test]
fn log_is_coloured_only_on_terminals_without_no_color() {
    let options = "--progress never";
    assert!(on_a_terminal(&[], options).contains('\u{1b}'));
    let plain = on_a_terminal(&[("NO_COLOR", "1")], options);
    assert!(plain.contains("not_utf8") && !plain.contains('\u{1b}'), "{plain:?}");
    let trial = Trial::new();
    trial.write_raw_name(b"caf\xe9", b"1");
    let run = trial.sync(&[]).expect(3);
    assert!(run.stderr.contains("not_utf8") && !run.stderr.contains(['\u{1b}', '\r']), "{:?}", run.stderr);
}

#[test]
fn log_lines_are_json_with_log_format_json() {
    let trial = Trial::new();
    trial.write_raw_name(b"caf\xe9", b"1");
    trial.write("a", "1");
    let run = trial.sync(&["--log-format", "json"]).expect(3);
    let log = lines(&run.stderr);
    assert!(log.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()), "{log:?}");
    let failure = log.iter().find(|line| line["kind"] == "not_utf8").unwrap();
    assert_eq!((failure["level"].as_str(), failure["operation"].as_str()), (Some("WARN"), Some("name")));
    let last = log.last().unwrap()["message"].as_str().unwrap();
    assert!(last.contains("1 uploaded") && last.contains("exit 3"), "{last}");
}

// --- usage ---

#[test]
fn usage_error_exits_with_2_before_any_request() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    let sync = |more: &[&'static str]| {
        [vec!["sync".to_owned(), source.clone()], more.iter().map(|word| (*word).to_owned()).collect()].concat()
    };
    let cases: Vec<(Vec<String>, &str)> = vec![
        (vec!["frobnicate".to_owned()], "frobnicate"),
        (vec![], "Usage"),
        (vec!["sync".to_owned()], "<DIR>"),
        (sync(&[]), "<S3_URL>"),
        (sync(&["http://site/www"]), "s3://bucket/prefix"),
        (sync(&["s3://"]), "bucket name"),
        (sync(&["s3://Bad_Bucket!/x"]), "Bad_Bucket!"),
        (sync(&["s3://site/a//b"]), "a//b"),
        (sync(&["s3://site/www", "s3://site/other"]), "s3://site/other"),
        (sync(&["s3://site/www", "--no-such-flag"]), "--no-such-flag"),
        (sync(&["s3://site/www", "--max-delete", "many"]), "many"),
        (sync(&["s3://site/www", "--max-delete", "101%"]), "101%"),
        (sync(&["s3://site/www", "--part-size", "1KiB"]), "1KiB"),
        (sync(&["s3://site/www", "--part-size", "large"]), "large"),
        (sync(&["s3://site/www", "--concurrency", "0"]), "'0'"),
        (sync(&["s3://site/www", "--retries", "-1"]), "-1"),
        (sync(&["s3://site/www", "--bandwidth", "fast"]), "fast"),
        (sync(&["s3://site/www", "--memory", "1KiB"]), "1KiB"),
        (sync(&["s3://site/www", "--min-age", "soon"]), "soon"),
        (sync(&["s3://site/www", "--source-timeout", "0s"]), "longer than 0s"),
        (sync(&["s3://site/www", "--compare", "guess"]), "guess"),
        (sync(&["s3://site/www", "--checksum", "md4"]), "md4"),
        (sync(&["s3://site/www", "--sse", "rot13"]), "rot13"),
        (sync(&["s3://site/www", "--sse-kms-key-id", "key-1"]), "--sse aws:kms"),
        (sync(&["s3://site/www", "--content-type", "html"]), "EXT=TYPE"),
        (sync(&["s3://site/www", "--endpoint-url", "127.0.0.1:9000"]), "https://host"),
        (sync(&["s3://site/www", "--include", ""]), "include filter"),
        (sync(&["s3://site/www", "--config", "no-such-file.toml"]), "no-such-file.toml"),
        (sync(&["s3://site/www", "--log-format", "xml"]), "xml"),
    ];
    for (words, wrong) in cases {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = trial.run_words(&words, &[]);
        assert_eq!(run.code, 2, "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains(wrong), "{words:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{words:?}");
    }
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn help_and_version_go_to_stdout() {
    let trial = Trial::new();
    for words in [["--help"].as_slice(), &["sync", "--help"], &["plan", "-h"], &["--version"]] {
        let run = trial.run_words(words, &[]).expect(0);
        assert!(run.stdout.contains("efs2s3") && run.stderr.is_empty(), "{words:?}: {}", run.stderr);
    }
}

/// The options of a command's help, each with its text.
fn options_of(trial: &Trial, command: &str) -> Vec<(String, String)> {
    let help = trial.run_words(&[command, "--help"], &[]).expect(0).stdout;
    let mut options: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let words = line.trim_start().trim_start_matches([',', ' ']);
        let flag = words
            .split_once("--")
            .filter(|(before, _)| line.starts_with("  ") && (before.is_empty() || before.starts_with('-')));
        match flag {
            Some((_, name)) if line.len() - line.trim_start().len() <= 6 => {
                let end = name.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap_or(name.len());
                options.push((name[..end].to_owned(), String::new()));
            }
            _ => {
                if let Some((_, text)) = options.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    options
}

#[test]
fn every_option_shows_its_environment_variable() {
    let trial = Trial::new();
    for command in ["sync", "plan"] {
        let options = options_of(&trial, command);
        assert!(options.len() > 35, "{} options of {command}", options.len());
        for (name, text) in options {
            let variable = format!("[env: EFS2S3_{}=", name.replace('-', "_").to_uppercase());
            assert!(name == "help" || text.contains(&variable), "{command} --{name}: {text}");
        }
    }
}

// --- flag, environment, config file ---

fn config(trial: &Trial, text: &str) -> String {
    let path = trial.folder.path().join(format!("{:016x}.toml", fastrand::u64(..)));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn flag_overrides_environment_and_environment_overrides_config_file() {
    let trial = Trial::new();
    trial.write("a.html", "1");
    let file = config(
        &trial,
        r#"
        cache-control = "of-file"
        storage-class = "GLACIER_IR"
        content-type = ["html=text/of-file"]
        checksum = "crc32"
        "#,
    );
    let environment = [
        ("EFS2S3_CONFIG", file.as_str()),
        ("EFS2S3_CACHE_CONTROL", "of-environment"),
        ("EFS2S3_STORAGE_CLASS", "STANDARD_IA"),
        ("EFS2S3_CONTENT_TYPE", "html=text/of-environment"),
        ("EFS2S3_CHECKSUM", "crc32c"),
    ];
    let flags = [
        "--cache-control=of-flag",
        "--storage-class=ONEZONE_IA",
        "--content-type=html=text/of-flag",
        "--checksum=crc64nvme",
    ];
    let stored = |flags: &[&str], environment: &[(&str, &str)]| {
        trial.s3.remove("site", "www/a.html");
        trial.start_with(flags, environment).end().expect(0);
        let object = trial.stored("a.html");
        let header = |name: &str| object.headers[name].clone();
        let checksum = object.checksums.keys().find(|name| name.starts_with("x-amz-checksum-crc")).unwrap().clone();
        [header("cache-control"), header("x-amz-storage-class"), header("content-type"), checksum]
    };
    let of_file = ["of-file", "GLACIER_IR", "text/of-file", "x-amz-checksum-crc32"];
    let of_environment = ["of-environment", "STANDARD_IA", "text/of-environment", "x-amz-checksum-crc32c"];
    let of_flag = ["of-flag", "ONEZONE_IA", "text/of-flag", "x-amz-checksum-crc64nvme"];
    assert_eq!(stored(&[], &environment[..1]), of_file);
    assert_eq!(stored(&["--config", &file], &[]), of_file);
    assert_eq!(stored(&[], &environment), of_environment);
    assert_eq!(stored(&flags, &environment), of_flag);
}

#[test]
fn numbers_and_switches_follow_the_same_precedence() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::status(500, "InternalError")));
    let file = config(&trial, "retries = 0\ndelete = true\n");
    let puts = |flags: &[&str], environment: &[(&str, &str)]| {
        trial.s3.clear_log();
        trial.start_with(flags, environment).end().expect(3);
        trial.count(Operation::PutObject)
    };
    assert_eq!(puts(&["--config", &file], &[]), 1);
    assert_eq!(puts(&["--config", &file], &[("EFS2S3_RETRIES", "1")]), 2);
    assert_eq!(puts(&["--config", &file, "--retries", "2"], &[("EFS2S3_RETRIES", "1")]), 3);
    trial.s3.clear_rules();

    let deletes = |flags: &[&str], environment: &[(&str, &str)]| {
        trial.object("orphan", "o", LONG_AGO);
        trial.start_with(flags, environment).end().expect(0);
        !trial.has("orphan")
    };
    assert!(deletes(&["--config", &file], &[]));
    assert!(!deletes(&["--config", &file], &[("EFS2S3_DELETE", "false")]));
    assert!(!deletes(&[], &[("EFS2S3_DELETE", "0")]));
    assert!(deletes(&[], &[("EFS2S3_DELETE", "true")]));
    assert!(deletes(&["--delete"], &[("EFS2S3_DELETE", "false")]));
}

#[test]
fn the_environment_alone_configures_a_run() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    let environment =
        [("EFS2S3_SOURCE", source.as_str()), ("EFS2S3_DESTINATION", "s3://site/www"), ("EFS2S3_MODE", "plain")];
    trial.run_words(&["sync"], &environment).expect(0);
    trial.assert_same();
    let file = config(&trial, &format!("source = {source:?}\ndestination = \"s3://site/other\"\nmode = \"plain\"\n"));
    trial.run_words(&["sync", "--config", &file], &[]).expect(0);
    assert!(trial.s3.object("site", "other/a").is_some());
}

#[test]
fn an_empty_environment_variable_counts_as_not_set() {
    let trial = Trial::new();
    trial.write("a", "1");
    let options = options_of(&trial, "sync");
    let variables = options.iter().filter(|(name, _)| !matches!(name.as_str(), "help" | "report"));
    let variables: Vec<String> =
        variables.map(|(name, _)| format!("EFS2S3_{}", name.replace('-', "_").to_uppercase())).collect();
    let mut environment: Vec<(&str, &str)> = variables.iter().map(|name| (name.as_str(), "")).collect();
    assert!(environment.len() > 30, "{}", environment.len());
    let file = config(&trial, "cache-control = \"of-file\"\n");
    trial.start_with(&["--config", &file], &environment).end().expect(0);
    assert_eq!(trial.stored("a").headers["cache-control"], "of-file");
    environment.extend([("EFS2S3_SOURCE", ""), ("EFS2S3_DESTINATION", "")]);
    let run = trial.run_words(&["sync"], &environment).expect(2);
    assert!(run.stderr.contains("<DIR>") && run.stderr.contains("<S3_URL>"), "{}", run.stderr);
}

#[test]
fn config_file_error_names_the_mistake() {
    let trial = Trial::new();
    trial.write("a", "1");
    let cases = [
        ("cache-contrl = \"x\"\n", "cache-contrl"),
        ("retries = \"often\"\n", "often"),
        ("part-size = \"1KiB\"\n", "1KiB"),
        ("retries = { a = 1 }\n", "retries"),
        ("retries = \n", "config file"),
        ("config = \"other.toml\"\n", "config"),
        ("[[header]]\npattern = \"*.a\"\ncach_control = \"x\"\n", "cach_control"),
        ("[[header]]\ncache_control = \"x\"\n", "pattern"),
    ];
    for (text, wrong) in cases {
        let run = trial.sync(&["--config", &config(&trial, text)]);
        assert_eq!(run.code, 2, "{text}: {}", run.stderr);
        assert!(run.stderr.contains(wrong), "{text}: {}", run.stderr);
    }
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn header_rule_with_an_invalid_header_value_is_refused() {
    let trial = Trial::new();
    trial.write("a", "1");
    for rule in ["cache_control = \"a\\r\\nx-evil: 1\"", "content_type = \"text/ü\"", "content_encoding = \"\""] {
        let file = config(&trial, &format!("[[header]]\npattern = \"*\"\n{rule}\n"));
        let run = trial.sync(&["--config", &file]);
        assert_eq!(run.code, 2, "{rule}: {}", run.stderr);
    }
    assert_eq!(trial.count(Operations::all()), 0);
}

// --- secrets ---

#[test]
fn no_secret_appears_in_any_output_at_any_level() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.write("denied", "2");
    trial.write("big", random(7 * MIB));
    trial.object("orphan", "o", LONG_AGO);
    trial.s3.create_bucket("state");
    let on_put = || Rule::on(Operation::PutObject);
    trial.s3.rule(on_put().key_contains("denied").always().does(Fault::status(403, "AccessDenied")));
    trial.s3.rule(on_put().does(Fault::status(500, "InternalError")));
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(Fault::ResetBefore));
    for level in ["trace", "trace,aws_smithy_runtime=trace,aws_config=trace,hyper=trace,aws_runtime=trace"] {
        let options = [&IN_PARTS[..], &["--delete", "--log-format", "json", "--state", "s3://state/here"]].concat();
        let run = trial.start_with(&options, &[("RUST_LOG", level)]).end().expect(3);
        assert!(run.stderr.contains("\"DEBUG\"") || run.stderr.contains("\"TRACE\""), "{}", run.stderr);
        let verified = trial.run_words(&["verify", "tree", "s3://site/www", "--mode", "plain"], &[("RUST_LOG", level)]);
        trial.plan(&["-o", "plan.jsonl"]);
        let applied = trial.run_words(&["apply", "plan.jsonl"], &[("RUST_LOG", level)]);
        let kept: Vec<_> = trial.s3.bodies("state", "").into_values().collect();
        let plan = fs::read_to_string(trial.folder.path().join("plan.jsonl")).unwrap();
        let everything = format!(
            "{}{}{}{}{}{plan}{}",
            run.stdout,
            run.stderr,
            run.report,
            verified.stderr,
            applied.stderr,
            String::from_utf8_lossy(&kept.concat())
        );
        for secret in SECRETS.into_iter().chain(["AKIDTRIAL", "Signature=", "AWS4-HMAC"]) {
            assert!(!everything.contains(secret), "{secret}");
        }
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(Fault::ResetBefore));
    }
}

/// The message of a wrong signature repeats the headers of the request.
#[test]
fn a_message_of_datasync_shows_no_session_token() {
    let trial = Trial::new();
    trial.write("a", "1");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    let message = format!(
        "The request signature does not match.\n\nThe Canonical String should have been\n'POST\nx-amz-security-token:{}\n'",
        SECRETS[1]
    );
    datasync.change(|service| {
        let fault = ServiceFault::error(400, "InvalidSignatureException", message);
        service.faults.push(("StartTaskExecution", u32::MAX, fault));
    });
    let environment = [("RUST_LOG", "debug"), ("AWS_ENDPOINT_URL_DATASYNC", &datasync.url())];
    let (tree, task) = (trial.tree().display().to_string(), datasync.task_arn());
    let run = trial.run_words(&["run", "--task-arn", &task, "--source", &tree], &environment).expect(0);
    let everything = format!("{}{}{}", run.stdout, run.stderr, run.report);
    assert!(everything.contains("The request signature does not match."), "{everything}");
    assert!(!everything.contains(SECRETS[1]), "{everything}");
}

// --- the report ---

/// The report's name of each operation.
const REPORTED: [(&str, Operation); 16] = [
    ("list", Operation::ListObjectsV2),
    ("head", Operation::HeadObject),
    ("put", Operation::PutObject),
    ("create_multipart_upload", Operation::CreateMultipartUpload),
    ("upload_part", Operation::UploadPart),
    ("complete_multipart_upload", Operation::CompleteMultipartUpload),
    ("abort_multipart_upload", Operation::AbortMultipartUpload),
    ("copy", Operation::CopyObject),
    ("upload_part_copy", Operation::UploadPartCopy),
    ("get", Operation::GetObject),
    ("get_object_attributes", Operation::GetObjectAttributes),
    ("get_object_tagging", Operation::GetObjectTagging),
    ("list_parts", Operation::ListParts),
    ("list_multipart_uploads", Operation::ListMultipartUploads),
    ("delete", Operation::DeleteObject),
    ("delete_objects", Operation::DeleteObjects),
];

/// Asserts that the report counts each request that the server logged.
#[track_caller]
fn assert_counted(trial: &Trial, run: &FinishedRun) {
    for (name, operation) in REPORTED {
        assert_eq!(run.report["requests"][name], trial.count(operation), "{name}");
    }
    let reported = REPORTED.map(|(_, operation)| operation);
    assert_eq!(trial.count(reported), trial.count(Operations::all()));
    let throttled = trial.s3.log().into_iter().filter(|request| request.status == 503);
    assert_eq!(run.report["requests"]["throttled"], throttled.count());
}

#[test]
fn report_adds_up_and_counts_every_request() {
    let trial = one_of_each();
    trial.write("big", random(11 * MIB));
    let equal = random(7 * MIB);
    trial.s3.put("site", "www/parts", equal.clone(), Seed::aged(LONG_AGO).in_parts_of(6 * MIB));
    trial.write("parts", equal);
    trial.write("denied", "1");
    trial.write_raw_name(b"caf\xe9", b"of another size than the orphans");
    trial.write("left-out", "1");
    trial.link("nowhere", "broken");
    trial.object("odd\u{1}orphan", "o", LONG_AGO);
    trial.write("torn", random(7 * MIB));
    let denied = || Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("denied").always().does(denied()));
    trial.s3.rule(Rule::on(Operation::UploadPart).key_contains("torn").always().does(denied()));
    for operation in WRITES.into_iter().chain(READS).chain([Operation::ListObjectsV2]) {
        trial.s3.rule(Rule::on(operation).does(Fault::status(500, "InternalError")));
        trial.s3.rule(Rule::on(operation).does(Fault::status(503, "SlowDown")));
        trial.s3.rule(Rule::on(operation).does(Fault::ResetBefore));
    }
    let run = trial.sync(&[&IN_PARTS[..], &["--delete", "--exclude", "*/left-out"]].concat()).expect(3);
    run.assert_adds_up();
    for (name, count) in [
        ("files", 10),
        ("symlinks", 1),
        ("filtered", 1),
        ("skipped", 1),
        ("failed", 3),
        ("uploaded", 4),
        ("unchanged", 2),
    ] {
        assert_eq!(run.counted(name), count, "{name}: {}", run.report["counts"]);
    }
    // A new file that S3 refuses withholds the deletes.
    assert_eq!((run.withheld_by("uploads"), run.counted("objects")), (3, 7));
    trial.s3.clear_rules();
    assert_counted(&trial, &run);
    assert_eq!(run.report["requests"]["retries"], 3 * 7, "three for each operation that the run used");

    trial.s3.clear_log();
    let next = trial.sync(&[&IN_PARTS[..], &["--delete", "--exclude", "*/left-out"]].concat()).expect(3);
    next.assert_adds_up();
    assert_counted(&trial, &next);
    assert_eq!((next.counted("deleted"), next.counted("failed")), (3, 1));
    assert_eq!((trial.count(Operation::DeleteObjects), trial.count(Operation::DeleteObject)), (1, 1));
}

#[test]
fn report_counts_the_bytes_of_the_files() {
    let trial = one_of_each();
    let run = trial.sync(&[]).expect(0);
    let bytes = &run.report["bytes"];
    assert_eq!((bytes["source"].as_u64(), bytes["uploaded"].as_u64()), (Some(4 + 5 + 3 + 8), Some(5 + 3 + 8)));
    assert_eq!(bytes["read_for_compare"], 4 + 3);
}

// --- missing and unreachable things ---

/// Asserts exit code 1 within this time, and one error line that contains these words.
#[track_caller]
fn assert_one_line(run: FinishedRun, words: &[&str], within: Duration) {
    let run = run.expect(1);
    let is_whole = |line: &str| [" ERROR ", " WARN ", " INFO "].iter().any(|level| line.contains(level));
    assert!(run.stderr.lines().all(is_whole), "a message has several lines: {}", run.stderr);
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    for word in words {
        assert!(errors[0].contains(word), "{word}: {}", run.stderr);
    }
    assert!(run.time < within, "{:?}", run.time);
}

#[test]
fn unreachable_endpoint_is_named_within_30_seconds() {
    let trial = Trial::new();
    trial.write("a", "1");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let run = trial.sync(&["--endpoint-url", &url]);
    assert_eq!(run.report["exit_code"], 1);
    assert_one_line(run, &[&url, "cannot reach bucket"], Duration::from_secs(30));
}

#[test]
fn endpoint_that_never_responds_times_out() {
    let trial = Trial::new();
    trial.write("a", "1");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let run = trial.sync(&["--endpoint-url", &url, "--retries", "0"]);
    assert_one_line(run, &[&url, "cannot reach bucket"], Duration::from_secs(25));
}

#[test]
fn unknown_host_is_named_within_a_minute() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = trial.sync(&["--endpoint-url", "http://no-such-host.invalid"]);
    assert_one_line(run, &["no-such-host.invalid", "cannot reach bucket"], Duration::from_mins(1));
}

#[test]
fn missing_credentials_error_names_their_sources() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = trial.start_with(&[], &NO_CREDENTIALS).end();
    assert_eq!(trial.count(Operations::all()), 0);
    assert_one_line(run, &["no credentials", "AWS_ACCESS_KEY_ID"], Duration::from_secs(30));
}

#[test]
fn unreachable_credentials_endpoint_is_named_within_30_seconds() {
    let trial = Trial::new();
    trial.write("a", "1");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/credentials");
    let environment = [&NO_CREDENTIALS[..], &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())]].concat();
    let run = trial.start_with(&[], &environment).end();
    assert_eq!(trial.count(Operations::all()), 0);
    assert_one_line(run, &["cannot fetch the credentials", "refused"], Duration::from_secs(30));
}

#[test]
fn missing_profile_is_named() {
    let trial = Trial::new();
    trial.write("a", "1");
    let environment = [&NO_CREDENTIALS[..], &[("AWS_PROFILE", "no-such-profile")]].concat();
    let run = trial.start_with(&[], &environment).end();
    assert_eq!(trial.count(Operations::all()), 0);
    assert_one_line(run, &["no-such-profile"], Duration::from_secs(30));
}

#[test]
fn missing_region_is_an_error_without_an_endpoint() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = trial.start_with(&[], &[("AWS_REGION", ""), ("AWS_ENDPOINT_URL", "")]).end();
    assert_one_line(run, &["no region is set", "AWS_REGION"], Duration::from_secs(30));
}

#[test]
fn endpoint_flag_overrides_s3_variable_overrides_general_variable() {
    let trial = Trial::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (down, url) = (format!("http://{closed}"), trial.s3.url());
    trial.write("a", "1");
    let of_s3 = [("AWS_ENDPOINT_URL", down.as_str()), ("AWS_ENDPOINT_URL_S3", url.as_str())];
    trial.start_with(&[], &of_s3).end().expect(0);
    trial.assert_same();
    let both_down = [("AWS_ENDPOINT_URL", down.as_str()), ("AWS_ENDPOINT_URL_S3", down.as_str())];
    trial.start_with(&["--endpoint-url", &url], &both_down).end().expect(0);
    let of_flag = [("EFS2S3_ENDPOINT_URL", url.as_str())];
    trial.start_with(&[], &[&both_down[..], &of_flag].concat()).end().expect(0);
}

#[test]
fn a_profile_gives_endpoint_region_and_credentials() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.settings(|settings| settings.required_access_key = Some("AKIDPROFILE".to_owned()));
    let aws = trial.folder.path().join(".aws");
    fs::create_dir(&aws).unwrap();
    let profile = format!(
        "[profile other]\nregion = eu-north-1\nendpoint_url = {}\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n",
        trial.s3.url()
    );
    fs::write(aws.join("config"), profile).unwrap();
    let environment =
        [&NO_CREDENTIALS[..], &[("AWS_PROFILE", "other"), ("AWS_ENDPOINT_URL", ""), ("AWS_REGION", "")]].concat();
    trial.start_with(&[], &environment).end().expect(0);
    trial.assert_same();
    let signed = trial.s3.log().remove(0).headers["authorization"].clone();
    assert!(signed.contains("/eu-north-1/s3/"), "{signed}");
}

#[test]
fn unusable_source_is_named_before_any_request() {
    let trial = Trial::new();
    let file = trial.write("file", "1");
    trial.object("orphan", "o", LONG_AGO);
    let missing = trial.folder.path().join("missing");
    for (source, what) in [(&file, "is not a directory"), (&missing, "does not exist")] {
        let source = source.display().to_string();
        let run = trial.run_words(&["sync", &source, "s3://site/www", "--mode", "plain", "--delete"], &[]);
        assert_eq!(run.report["exit_code"], 1);
        assert_one_line(run, &[&source, what], Duration::from_secs(10));
    }
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn unreadable_source_is_named_before_any_request() {
    use std::os::unix::fs::PermissionsExt;
    let trial = Trial::new();
    trial.write("a", "1");
    fs::set_permissions(trial.tree(), fs::Permissions::from_mode(0o700)).unwrap();
    let run = trial.sync_as_nobody(&["--delete"]);
    assert_one_line(
        run,
        &[trial.tree().to_str().unwrap(), "this user has no permission to read"],
        Duration::from_secs(10),
    );
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn unwritable_output_file_is_named_before_any_request() {
    let trial = Trial::new();
    trial.write("a", "1");
    let nowhere = trial.folder.path().join("no/such/folder/file").display().to_string();
    for (command, option, path) in [
        ("sync", "--report", &nowhere),
        ("sync", "--changes", &nowhere),
        ("plan", "--output", &nowhere),
        ("plan", "--report", &nowhere),
    ] {
        let source = trial.tree().display().to_string();
        let run = trial.run_words(&[command, &source, "s3://site/www", "--mode", "plain", option, path], &[]);
        assert_one_line(run, &[path, "cannot write"], Duration::from_secs(10));
    }
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn report_file_is_replaced_atomically() {
    let trial = Trial::new();
    trial.write("a", "1");
    let report = trial.folder.path().join("report.json");
    fs::write(&report, "the last one").unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let (path, read) = (report.clone(), std::sync::Arc::clone(&seen));
    let read_old = Fault::before(move || *read.lock().unwrap() = fs::read_to_string(&path).unwrap());
    trial.s3.rule(Rule::on(Operation::PutObject).does(read_old));
    trial.sync(&["--report", report.to_str().unwrap()]).expect(0);
    assert_eq!(*seen.lock().unwrap(), "the last one");
    let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["counts"]["uploaded"], 1);
    let left = fs::read_dir(trial.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with(".efs2s3")).count(), 0);
}

// --- a full disk ---

/// More orphans than fit in memory, a new file, and the path of a temporary directory that does not exist yet.
fn many_orphans() -> (Trial, PathBuf) {
    let trial = Trial::new();
    trial.write("new", "1");
    for number in 0..40_000 {
        trial.object(&format!("{number:06}-{}", "n".repeat(100)), "", LONG_AGO);
    }
    let temporary = trial.folder.path().join("temporary");
    (trial, temporary)
}

fn assert_withheld(trial: &Trial, run: FinishedRun) {
    let run = run.expect(3);
    assert_eq!(run.withheld_by("spill"), 40_000);
    assert_eq!((run.counted("deletes_withheld"), run.counted("deleted")), (40_000, 0));
    assert_eq!(run.counted("uploaded"), 1);
    assert!(trial.has("new"));
    assert_eq!(trial.names().len(), 40_001);
    assert!(run.stderr.contains("TMPDIR"), "{}", run.stderr);
}

#[test]
fn full_temporary_disk_withholds_deletes_but_not_uploads() {
    let (trial, temporary) = many_orphans();
    fs::create_dir(&temporary).unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$TMPDIR" && exec "$@""#;
    let source = trial.tree().display().to_string();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync", &source, "s3://site/www"]);
    command.args(["--mode", "plain", "--delete", "--max-delete", "100%"]);
    let run = trial.spawn(command, &[("TMPDIR", temporary.to_str().unwrap())]).end();
    assert_withheld(&trial, run);
}

#[test]
fn full_temporary_disk_fails_a_verify() {
    let (trial, temporary) = many_orphans();
    fs::create_dir(&temporary).unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$TMPDIR" && exec "$@""#;
    let source = trial.tree().display().to_string();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_efs2s3"),
        "verify",
        &source,
        "s3://site/www",
    ]);
    command.args(["--mode", "plain", "--delete"]);
    let run = trial.spawn(command, &[("TMPDIR", temporary.to_str().unwrap())]).end().expect(1);
    assert!(run.stderr.contains("TMPDIR"), "{}", run.stderr);
}

/// Runs a command in a mount namespace where the directory `full` is a full file system.
fn on_a_full_disk(trial: &Trial, command: &str, option: &str) -> FinishedRun {
    let folder = trial.folder.path().join("full");
    fs::create_dir_all(&folder).unwrap();
    let script = r#"mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero > full/all && exec "$@""#;
    let (source, path) = (trial.tree().display().to_string(), folder.join("file").display().to_string());
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_efs2s3"), command, &source]);
    unshare.args(["s3://site/www", "--mode", "plain", option, &path]);
    trial.spawn(unshare, &[]).end()
}

#[test]
fn full_disk_loses_the_report_but_no_upload() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = on_a_full_disk(&trial, "sync", "--changes").expect(3);
    assert!(run.stderr.contains("cannot write the changes file"), "{}", run.stderr);
    trial.assert_same();
    trial.write("b", "2");
    let run = on_a_full_disk(&trial, "sync", "--report");
    assert_one_line(run, &["full/file", "cannot write", "No space left"], Duration::from_secs(20));
    trial.assert_same();
    trial.s3.clear_log();
    let run = on_a_full_disk(&trial, "plan", "--output");
    assert_one_line(run, &["full/file", "cannot write", "No space left"], Duration::from_secs(10));
    assert_eq!(trial.count(Operations::all()), 0, "the header of the plan is written before the first request");
}

#[test]
fn missing_temporary_directory_withholds_deletes_but_not_uploads() {
    let (trial, temporary) = many_orphans();
    let options = ["--delete", "--max-delete", "100%"];
    let run = trial.start_with(&options, &[("TMPDIR", temporary.to_str().unwrap())]).end();
    assert_withheld(&trial, run);
    fs::create_dir(&temporary).unwrap();
    trial.start_with(&options, &[("TMPDIR", temporary.to_str().unwrap())]).end().expect(0);
    trial.assert_same();
}

#[test]
fn empty_endpoint_variable_counts_as_not_set() {
    let trial = Trial::new();
    trial.write("a", "1");
    let url = trial.s3.url();
    let run = |nothing: &str, name: &str| {
        let mut command = Command::new("env");
        command.arg(nothing).arg(env!("CARGO_BIN_EXE_efs2s3")).arg("sync").arg(trial.tree());
        command.args(["s3://site/www", "--mode", "plain"]);
        trial.spawn(command, &[(name, &url)]).end().expect(0);
    };
    run("AWS_ENDPOINT_URL=", "AWS_ENDPOINT_URL_S3");
    run("AWS_ENDPOINT_URL_S3=", "AWS_ENDPOINT_URL");
    trial.assert_same();
}

#[test]
fn progress_always_logs_progress_lines() {
    let trial = Trial::new();
    trial.write("a", "1");
    assert!(!trial.sync(&[]).expect(0).stderr.contains("files seen"));
    assert!(trial.sync(&["--progress", "always"]).expect(0).stderr.contains("1 file seen"));
}

#[test]
fn low_open_file_limit_is_raised() {
    let trial = Trial::new();
    for number in 0..300 {
        trial.write(format!("d{number}/f"), "x");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 48 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync"]);
    command.arg(trial.tree()).args(["s3://site/www", "--mode", "plain"]);
    trial.spawn(command, &[]).end().expect(0);
    trial.assert_same();
}

#[test]
fn a_run_stays_below_a_low_limit_of_open_files() {
    for options in [&[][..], &["--concurrency", "256"], &["--concurrency", "256", "--walkers", "64"]] {
        let trial = Trial::new();
        for number in 0..600 {
            trial.write(format!("d{}/e{}/f{number}", number % 40, number % 7), number.to_string());
        }
        trial.write("large", vec![b'x'; 17 << 20]);
        trial.object("orphan", "x", Duration::from_secs(1000));
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync"]);
        command.arg(trial.tree()).args(["s3://site/www", "--mode", "plain", "--delete", "--state"]);
        command.arg(state.path()).args(options);
        let run = trial.spawn(command, &[]).end().expect(0);
        trial.assert_same();
        assert_eq!((run.counted("failed"), run.counted("deleted")), (0, 1), "{options:?}");
        let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.contains("(ulimit -Hn)")).collect();
        let expected = match options.len() {
            0 => ["slower: using --concurrency 5, not 256", "slower: using --walkers 4, not 64"],
            2 => ["--concurrency 256 needs more than 64 open files", "slower: using --walkers 4, not 64"],
            _ => ["--concurrency 256 needs more than 64 open files", "--walkers 64 needs more than 64 open files"],
        };
        assert_eq!(warnings.len(), expected.len(), "{}", run.stderr);
        assert!(expected.iter().all(|text| run.stderr.contains(text)), "{}", run.stderr);
    }
}

#[test]
fn a_run_stays_below_a_low_limit_of_its_address_space() {
    for limit in ["400000", "200000"] {
        let trial = Trial::new();
        for number in 0..200 {
            trial.write(format!("d{}/f{number}", number % 7), number.to_string());
        }
        for large in ["a", "b", "c", "d", "e"] {
            trial.write(format!("large-{large}"), large.repeat(40 << 20));
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync"]);
        // Together, the large files do not fit into the limit.
        command.arg(trial.tree()).args(["s3://site/www", "--mode", "plain", "--multipart-threshold", "64MiB"]);
        command.env_remove("MALLOC_ARENA_MAX");
        let run = trial.spawn(command, &[]).end().expect(0);
        trial.assert_same();
        assert_eq!(run.counted("uploaded"), 205, "{limit}");
    }
}

#[test]
fn a_walk_uses_as_many_threads_as_the_system_allows() {
    let trial = Trial::new();
    for number in 0..60 {
        trial.write(format!("d{}/f{number}", number % 7), number.to_string());
    }
    let run = as_a_user(&trial, "ulimit -u 60").expect(0);
    trial.assert_same();
    let warnings = run.stderr.matches("the system does not allow 64 threads for the walk").count();
    assert_eq!(warnings, 1, "{}", run.stderr);
    assert!(run.stderr.contains("pass --walkers"), "{}", run.stderr);
}

#[test]
fn too_few_threads_for_any_run_are_named() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = as_a_user(&trial, "ulimit -u 2").expect(1);
    assert!(run.stderr.contains("cannot start the threads of the program"), "{}", run.stderr);
    assert!(run.stderr.contains("ulimit -u") && !run.stderr.contains("panicked"), "{}", run.stderr);
    assert_eq!(trial.count(Operations::all()), 0);
}

#[test]
fn a_terminal_gets_no_line_without_progress() {
    let trial = Trial::new();
    trial.write("a", "1");
    let run = start_as_a_user(&trial, "ulimit -u 2", true).end().expect(1);
    assert!(run.stdout.contains("cannot start the threads of the program"), "{}", run.stdout);
    assert!(run.stdout.trim_end().ends_with("container)"), "{:?}", run.stdout);
}

#[test]
fn progress_on_a_terminal_needs_no_further_thread() {
    let trial = Trial::new();
    trial.write("a", "1");
    let pipe = trial.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let run = start_as_a_user(&trial, "export EFS2S3_FROM_MANIFEST=pipe", true);
    // The run has the threads that it needs once it reads the pipe, and has shown no progress.
    let mut manifest = fs::File::options().write(true).open(&pipe).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let program = fs::read_to_string(children).unwrap().trim().to_owned();
    let mut limit = user_command();
    limit.args(["prlimit", "--pid", &program, "--nproc=1"]);
    assert!(limit.status().unwrap().success());
    manifest.write_all(b"a\n").unwrap();
    drop(manifest);
    let run = run.end();
    assert!(run.stdout.contains("file seen") && !run.stdout.contains("panicked"), "{}", run.stdout);
    run.expect(0);
    trial.assert_same();
}

#[test]
fn the_progress_line_fits_the_terminal_and_is_removed_before_each_result() {
    const COLUMNS: usize = 40;
    let trial = Trial::new();
    for number in 0..300 {
        trial.write(format!("f{number}"), "1");
    }
    for (command, code) in [("plan", 0), ("verify", 10)] {
        let program = env!("CARGO_BIN_EXE_efs2s3");
        let words = format!("stty rows 24 cols {COLUMNS}; exec '{program}' {command} tree s3://site/www --mode plain");
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--flush", "--return", "--command", &words, "/dev/null"]);
        let shown = trial.spawn(terminal, &[]).end().expect(code).stdout;
        let results = shown.lines().filter(|line| line.contains("www/f"));
        let mut count = 0;
        for result in results {
            // What is left of the line after it was last erased.
            let left = result.rsplit("\u{1b}[2K").next().unwrap();
            assert!(!left.contains("seen"), "{command}: {left:?}");
            count += 1;
        }
        assert_eq!(count, 300, "{command}: {shown:?}");
        let lines: Vec<&str> = shown.split(['\r', '\n', '\u{1b}']).filter(|text| text.contains(" seen")).collect();
        assert!(!lines.is_empty(), "{command}: {shown:?}");
        for line in lines {
            let text = line.trim_start_matches("[2K");
            assert!(text.chars().count() <= COLUMNS, "{command}: {text:?}");
        }
    }
}

/// Syncs after a command of the shell, as a user with no other process: root has no limit on its threads.
fn as_a_user(trial: &Trial, limit: &str) -> FinishedRun {
    start_as_a_user(trial, limit, false).end()
}

/// Starts a sync like [`as_a_user`], on a terminal if wanted: what the terminal shows is then on stdout.
fn start_as_a_user(trial: &Trial, limit: &str, on_terminal: bool) -> Run {
    // A file that this process has open for writing cannot be executed: a fork of another test may still hold it.
    let program = trial.folder.path().join("program");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_efs2s3")).arg(program).status().unwrap().success());
    fs::set_permissions(trial.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let run = format!("{limit} && exec ./program sync tree s3://site/www --mode plain");
    let mut command = user_command();
    command.args(["bash", "-c", &run]);
    if on_terminal {
        let words: Vec<&str> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        let words = format!("exec setpriv '{}'", words.join("' '"));
        command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &words, "/dev/null"]);
    }
    trial.spawn(command, &[])
}

/// Runs what is added to it as the user of this test.
fn user_command() -> Command {
    let user = (100_000 + std::process::id()).to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command
}

#[test]
fn an_unusable_temporary_folder_is_named() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.create_bucket("state");
    let run = trial.start_with(&["--state", "s3://state/here"], &[("TMPDIR", "/nonexistent")]).end().expect(0);
    let stderr = &run.stderr;
    assert!(stderr.contains("the temporary folder /nonexistent: ") && stderr.contains("set TMPDIR"), "{stderr}");
    assert!(!stderr.contains("the state's folder"), "{stderr}");
    trial.assert_same();
}
