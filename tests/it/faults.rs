//! The fault matrix: each operation, each fault, at the first request, one in the middle, the last one, or all of them.
//!
//! After the run with the fault, no object is lost or torn, the exit code is true, and one run without faults repairs
//! everything. The outcomes are a table in `docs/reliability.md`, which this test compares with the runs;
//! `EFS2S3_WRITE_DOCS=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fake_aws::s3::{Fault, Object, Operation, Reply, Rule, S3Server, Seed};
use futures::StreamExt;

use crate::trial::{FinishedRun, Trial, WRITES};
use crate::within;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
const MARKS: [&str; 2] = ["<!-- matrix -->\n", "<!-- /matrix -->\n"];
/// The cells mostly wait for retries and timeouts.
const PARALLEL: usize = 100;
const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_hours(1);
/// One request at a time, so that the first, the middle and the last request are always the same.
const OPTIONS: [&str; 19] = [
    "s3://site/www",
    "--mode",
    "datasync",
    "--delete",
    "--max-delete",
    "100%",
    "--retries",
    "2",
    "--part-size",
    "5MiB",
    "--multipart-threshold",
    "5MiB",
    "--walkers",
    "2",
    "--allow-empty-source",
    "--concurrency",
    "1",
    "--list-concurrency",
    "1",
];
const OPERATIONS: [(&str, Operation); 10] = [
    ("ListObjectsV2", Operation::ListObjectsV2),
    ("HeadObject", Operation::HeadObject),
    ("PutObject", Operation::PutObject),
    ("CopyObject", Operation::CopyObject),
    ("CreateMultipartUpload", Operation::CreateMultipartUpload),
    ("UploadPart", Operation::UploadPart),
    ("CompleteMultipartUpload", Operation::CompleteMultipartUpload),
    ("AbortMultipartUpload", Operation::AbortMultipartUpload),
    ("DeleteObjects", Operation::DeleteObjects),
    ("DeleteObject", Operation::DeleteObject),
];
const POSITIONS: [&str; 4] = ["first", "middle", "last", "always"];

fn faults() -> [(&'static str, Fault); 20] {
    [
        ("400 InvalidRequest", Fault::status(400, "InvalidRequest")),
        ("403 AccessDenied", Fault::status(403, "AccessDenied")),
        ("404 NoSuchKey", Fault::status(404, "NoSuchKey")),
        ("404 with a page", Fault::page_in_front(404, "text/html", "<html>404 Not Found</html>")),
        ("409 ConditionalRequestConflict", Fault::status(409, "ConditionalRequestConflict")),
        ("412 PreconditionFailed", Fault::status(412, "PreconditionFailed")),
        ("429 TooManyRequests", Fault::status(429, "TooManyRequests")),
        ("500 InternalError", Fault::status(500, "InternalError")),
        ("503 SlowDown", Fault::status(503, "SlowDown")),
        ("reset before the effect", Fault::ResetBefore),
        ("reset after the effect", Fault::ResetAfter),
        ("no response, then a reset", Fault::Stall(Duration::from_secs(1))),
        ("response truncated", Fault::TruncatedBody),
        ("document cut off, with a length that fits", Fault::CutDocument),
        ("error inside 200", Fault::ErrorInside200("InternalError")),
        ("request body damaged in transit", Fault::CorruptBody),
        ("response with a wrong ETag", Fault::WrongEtag),
        ("200 with a login page", Fault::login_page()),
        ("200 with an empty body", Fault::custom(|_| Some(Reply::empty(200)))),
        ("200 without an ETag", Fault::MissingEtag),
    ]
}

/// The tree, the bucket before the run, and the number of requests of each operation in a run without faults.
struct Stage {
    home: Trial,
    before: BTreeMap<String, Object>,
    requests: BTreeMap<&'static str, usize>,
}

struct Cell {
    operation: (&'static str, Operation),
    fault: (&'static str, Fault),
    position: &'static str,
}

/// The totals of the matrix.
#[derive(Default)]
struct Figures {
    runs: AtomicU64,
    faults: AtomicU64,
}

/// A tree with several files to upload, to rewrite and to delete.
async fn stage(with_parts: bool) -> Stage {
    let home = Trial::on(S3Server::start().await.unwrap());
    for number in 0..3 {
        home.write(format!("same/{number}"), format!("same {number}"));
        home.write(format!("changed/{number}"), format!("changed {number}"));
        home.write(format!("new/{number}"), format!("new {number}"));
        let path = home.write(format!("rewritten/{number}"), format!("rewritten {number}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    if with_parts {
        for number in 0..2 {
            home.write(format!("parts/{number}"), vec![b'a' + number; 5 * MIB + 100]);
        }
    }
    // Many cells start at once: the measured difference of the clocks may be seconds then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    run(&home, &home.s3).await.expect(0);
    let mut before = BTreeMap::new();
    for key in home.s3.keys("site", "www/") {
        let mut object = home.s3.object("site", &key).unwrap();
        if key.starts_with("www/new/") && !key.ends_with('/') || key == "www/parts/1" {
            continue;
        }
        if key.starts_with("www/changed/") && !key.ends_with('/') || key == "www/parts/0" {
            object.body = format!("before {key}").into();
        } else if key.starts_with("www/rewritten/") && !key.ends_with('/') {
            object.headers.insert("x-amz-meta-file-permissions".to_owned(), "0100644".to_owned());
        }
        before.insert(key, object);
    }
    let orphan = before["www/same/0"].clone();
    for name in ["orphan/0", "orphan/1", "orphan/2", "orphan/\u{1}0", "orphan/\u{1}1"] {
        before.insert(format!("www/{name}"), orphan.clone());
    }
    let mut stage = Stage { home, before, requests: BTreeMap::new() };
    let trial = stage.trial().await;
    run(&stage.home, &trial.s3).await.expect(0);
    for (name, operation) in OPERATIONS {
        // To test aborts, one upload fails.
        let count = if operation == Operation::AbortMultipartUpload { 1 } else { trial.count(operation) };
        stage.requests.insert(name, count);
    }
    stage
}

impl Stage {
    /// A server with the bucket before the run.
    async fn trial(&self) -> Trial {
        let trial = Trial::on(S3Server::start().await.unwrap());
        trial.s3.settings(|settings| settings.page_size = 5);
        for (key, Object { body, headers, .. }) in &self.before {
            let is_older = ["rewritten", "changed", "parts"].iter().any(|name| key.contains(name));
            let age = if is_older { HOUR } else { Duration::ZERO };
            trial.s3.put("site", key, body.clone(), Seed { age, headers: headers.clone(), ..Seed::default() });
        }
        trial
    }
}

async fn run(home: &Trial, s3: &S3Server) -> FinishedRun {
    let source = home.tree().display().to_string();
    let words = [&["sync", &source], &OPTIONS[..]].concat();
    within::run_on(s3, &words, None).await
}

/// Runs a cell and returns its outcome in a few words.
async fn cell(stage: &Stage, cell: &Cell, figures: &Figures) -> String {
    let Cell { operation: (name, operation), fault: (fault_name, fault), position } = cell;
    let title = format!("{name}, {fault_name}, {position}");
    let trial = stage.trial().await;
    let count = u64::try_from(stage.requests[name]).unwrap();
    assert!(count > 0, "{title}: the run sends no such request");
    let rule = Rule::on(*operation);
    let rule = match *position {
        "first" => rule,
        "middle" => rule.skip(count / 2),
        "last" => rule.skip(count - 1),
        _ => rule.always(),
    };
    trial.s3.rule(rule.does(fault.clone()));
    if *operation == Operation::AbortMultipartUpload {
        let refused = Rule::on(Operation::UploadPart).key_contains("parts/0").always();
        trial.s3.rule(refused.does(Fault::status(400, "InvalidRequest")));
    }
    let ended = run(&stage.home, &trial.s3).await;
    let met = if *position == "always" { trial.count(*operation) } else { 1 };
    figures.faults.fetch_add(u64::try_from(met).unwrap(), Ordering::Relaxed);
    check(stage, &trial, &ended, &title);

    trial.s3.clear_rules();
    let repaired = run(&stage.home, &trial.s3).await;
    assert_eq!(repaired.code, 0, "{title}: the next run: {}", repaired.report);
    assert_eq!(trial.objects(), stage.home.objects(), "{title}: after the next run");
    for number in 0..3 {
        let rewritten = trial.stored(&format!("rewritten/{number}"));
        assert_eq!(rewritten.metadata("file-permissions"), Some("0100600"), "{title}: after the next run");
    }
    figures.runs.fetch_add(2, Ordering::Relaxed);
    if *position == "always" {
        trial.s3.clear_log();
        run(&stage.home, &trial.s3).await;
        assert_eq!(trial.count(WRITES), 0, "{title}: the run after that writes");
        figures.runs.fetch_add(1, Ordering::Relaxed);
    }
    outcome(&ended)
}

/// Checks what must hold after the run with the fault.
fn check(stage: &Stage, trial: &Trial, ended: &FinishedRun, title: &str) {
    let (wanted, found) = (stage.home.objects(), trial.objects());
    let report = &ended.report;
    assert!([0, 1, 3].contains(&ended.code), "{title}: exit {}: {report}", ended.code);
    for (key, object) in &stage.before {
        let name = key.strip_prefix("www/").unwrap();
        match found.get(name) {
            None => assert!(!wanted.contains_key(name), "{title}: {name} is lost: {report}"),
            Some(body) => {
                let is_whole = *body == object.body || wanted.get(name) == Some(body);
                assert!(is_whole, "{title}: {name} is torn: {report}");
            }
        }
    }
    for (name, body) in &found {
        let is_known = stage.before.contains_key(&format!("www/{name}")) || wanted.get(name) == Some(body);
        assert!(is_known, "{title}: {name} is torn: {report}");
    }
    // The run believes a server that responds to a delete with 404. S3 never does.
    let is_lie = title.starts_with("Delete") && title.contains("404 NoSuchKey");
    if ended.code == 0 && !is_lie {
        let withheld =
            report["withheld_because"].as_array().unwrap().iter().filter_map(|entry| entry["keys"].as_array());
        let withheld: Vec<String> =
            withheld.flatten().map(|key| key.as_str().unwrap()["www/".len()..].to_owned()).collect();
        let found: BTreeMap<_, _> = found.clone().into_iter().filter(|(name, _)| !withheld.contains(name)).collect();
        assert_eq!(found, wanted, "{title}: exit 0, and the bucket is wrong");
    }
    let is_new_missing = wanted.keys().any(|name| !found.contains_key(name));
    if ended.code == 1 || is_new_missing {
        let orphans = found.keys().filter(|name| !wanted.contains_key(*name)).count();
        assert_eq!(orphans, 5, "{title}: deleted although a new object is missing: {report}");
    }
    if ended.code != 1 {
        ended.assert_adds_up();
    }
}

fn outcome(ended: &FinishedRun) -> String {
    let withheld = if ended.counted("deletes_withheld") > 0 { ", no deletes" } else { "" };
    match ended.code {
        0 if ended.report["requests"]["retries"].as_u64() > Some(0) => "retried".to_owned(),
        0 => "no harm".to_owned(),
        1 => "exit 1".to_owned(),
        code => format!("exit {code}{withheld}"),
    }
}

fn table(outcomes: &BTreeMap<(&str, &str, &str), String>) -> String {
    let mut text = String::new();
    for (operation, _) in OPERATIONS {
        let _ = write!(text, "\n### {operation}\n\n| fault | {} |\n|---|---|---|---|---|\n", POSITIONS.join(" | "));
        for (fault, _) in faults() {
            let cells: Vec<&str> = POSITIONS.iter().map(|place| &*outcomes[&(operation, fault, *place)]).collect();
            let _ = writeln!(text, "| {fault} | {} |", cells.join(" | "));
        }
    }
    text + "\n"
}

#[test]
fn no_fault_loses_objects_and_next_run_repairs_all() {
    within::apart("faults::no_fault_loses_objects_and_next_run_repairs_all", || {
        within::runtime().block_on(matrix());
    });
}

async fn matrix() {
    let (small, with_parts) = futures::future::join(stage(false), stage(true)).await;
    let figures = Figures::default();
    let mut cells = Vec::new();
    for operation in OPERATIONS {
        for fault in faults() {
            for position in POSITIONS {
                cells.push(Cell { operation, fault: fault.clone(), position });
            }
        }
    }
    let stage_of = |cell: &Cell| {
        let is_of_parts = cell.operation.0.contains("Multipart") || cell.operation.0.contains("Part");
        if is_of_parts { &with_parts } else { &small }
    };
    let outcomes = futures::stream::iter(&cells).map(async |each| {
        let key = (each.operation.0, each.fault.0, each.position);
        (key, cell(stage_of(each), each, &figures).await)
    });
    let outcomes: BTreeMap<_, _> = outcomes.buffer_unordered(PARALLEL).collect().await;
    let (runs, faults) = (figures.runs.into_inner(), figures.faults.into_inner());
    let table = format!(
        "\n{} cells, {runs} runs, more than {} faults; objects lost: 0, objects torn: 0.\n{}",
        cells.len(),
        faults / 100 * 100,
        table(&outcomes)
    );
    compare_with_document(&table);
}

fn compare_with_document(table: &str) {
    let document = fs::read_to_string(Path::new(DOCUMENT)).unwrap();
    let (head, rest) = document.split_once(MARKS[0]).unwrap();
    let (written, tail) = rest.split_once(MARKS[1]).unwrap();
    if std::env::var_os("EFS2S3_WRITE_DOCS").is_some() {
        fs::write(DOCUMENT, format!("{head}{}{table}{}{tail}", MARKS[0], MARKS[1])).unwrap();
        return;
    }
    // If a fault meets every request, the number of requests varies.
    let rows = |text: &str| text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect::<Vec<_>>();
    let (before, now) = (rows(written), rows(table));
    assert_eq!(before.len(), now.len(), "docs/reliability.md has other rows (EFS2S3_WRITE_DOCS=1 writes it)");
    let differing: Vec<_> = before.iter().zip(&now).filter(|(before, now)| before != now).collect();
    assert!(differing.is_empty(), "docs/reliability.md differs (EFS2S3_WRITE_DOCS=1 writes it): {differing:?}");
}
