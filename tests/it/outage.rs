//! Outages, throttling and slow responses: what a run waits for, and what it gives up.
//!
//! `EFS2S3_OUTAGE_FILES` and `EFS2S3_OUTAGE_PHASE_SECONDS` make the soak longer.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fake_aws::s3::{Fault, Operation, Operations, Reply, Rule, Throttle};

use crate::trial::{FinishedRun, Trial};

const PATIENT: [&str; 2] = ["--outage-timeout", "1m"];

fn tree(files: usize) -> Trial {
    let trial = Trial::new();
    for file in 0..files {
        trial.write(format!("d{}/f{file}", file % 4), file.to_string());
    }
    trial
}

/// How often the log says that requests fail, and that they succeed again.
fn outage_lines(run: &FinishedRun) -> (usize, usize) {
    (run.stderr.matches("retrying until no request").count(), run.stderr.matches(" again after ").count())
}

/// Syncs while these operations fail until twelve seconds after the start.
fn outage(trial: &Trial, operations: impl Into<Operations>, fault: Fault, options: &[&str]) -> FinishedRun {
    let away = Rule::on(operations).always().during(|time| time < Duration::from_secs(12));
    trial.s3.rule(away.does(fault));
    trial.sync(&[&PATIENT[..], options].concat())
}

#[test]
fn a_run_outlasts_an_outage_of_any_kind_and_operation() {
    let unavailable = || Fault::custom(|_| Some(Reply { status: 503, headers: Vec::new(), body: "busy".into() }));
    let parts = ["--part-size", "5MiB", "--multipart-threshold", "5MiB"];
    let state = ["--state", "s3://state/of"];
    let delete = ["--delete", "--max-delete", "100%"];
    let cases: [(Operations, Fault, &[&str]); 8] = [
        (Operation::ListObjectsV2.into(), Fault::status(500, "InternalError"), &[]),
        (Operation::ListObjectsV2.into(), Fault::ResetBefore, &[]),
        (Operation::PutObject.into(), Fault::status(503, "SlowDown"), &[]),
        (Operation::PutObject.into(), Fault::ErrorInside200("InternalError"), &[]),
        (Operation::DeleteObjects.into(), unavailable(), &delete),
        ([Operation::CreateMultipartUpload, Operation::UploadPart].into(), Fault::status(500, "InternalError"), &parts),
        (Operation::CompleteMultipartUpload.into(), Fault::ErrorInside200("SlowDown"), &parts),
        (Operations::all(), Fault::TruncatedBody, &state),
    ];
    std::thread::scope(|scope| {
        for (operations, fault, options) in cases {
            scope.spawn(move || {
                let trial = tree(24);
                trial.s3.create_bucket("state");
                trial.write("large", vec![b'x'; 11 << 20]);
                trial.object("orphan", "o", Duration::from_hours(1));
                let title = format!("{operations:?} {fault:?}");
                let run = outage(&trial, operations, fault, options);
                assert_eq!(run.code, 0, "{title}: {}", run.stderr);
                assert_eq!(run.counted("uploaded"), 25, "{title}");
                assert_eq!(trial.has("orphan"), options != delete, "{title}");
            });
        }
    });
}

#[test]
fn an_outage_is_logged_once_and_the_progress_line_continues() {
    let trial = tree(24);
    trial.write("large", vec![b'x'; 3 << 20]);
    let first = OnceLock::new();
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::custom(move |_| {
        let is_away = first.get_or_init(Instant::now).elapsed() < Duration::from_secs(14);
        is_away.then(|| Reply::error(503, "SlowDown", "Please reduce your request rate.", ""))
    })));
    let run = trial.sync(&[&PATIENT[..], &["--progress", "always"]].concat()).expect(0);
    assert_eq!(outage_lines(&run), (1, 1), "{}", run.stderr);
    let warning = "S3 refuses PutObject (SlowDown (HTTP 503): Please reduce your request rate): retrying until no request has \
                   succeeded for 1m (--outage-timeout) bucket=\"site\"";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    assert!(run.stderr.matches(" 0 uploaded (0 B)").count() >= 2, "no counter moves: {}", run.stderr);
    let shows_sent = |line: &str| line.contains(" 0 uploaded (0 B), 0 deleted, 0 failed, ") && line.ends_with(" sent");
    assert!(run.stderr.lines().any(shows_sent), "the line shows what is sent of a file in flight: {}", run.stderr);
}

#[test]
fn a_server_that_is_gone_ends_the_run_after_the_outage_timeout() {
    let not_listed = "S3 did not accept ListObjectsV2 for bucket 'site' for ";
    for (operation, fault, code, advice) in [
        (Operation::ListObjectsV2, Fault::status(503, "SlowDown"), 1, not_listed),
        (
            Operation::PutObject,
            Fault::ResetBefore,
            1,
            "then run again; if outages last longer, pass a longer --outage-timeout",
        ),
        (
            Operation::PutObject,
            Fault::status(503, "SlowDown"),
            3,
            "SlowDown (HTTP 503): This failure is injected: S3 accepted no PutObject for ",
        ),
    ] {
        let trial = tree(100);
        trial.s3.rule(Rule::on(operation).always().does(fault));
        let run = trial.sync(&["--outage-timeout", "3s"]).expect(code);
        assert!(run.time >= Duration::from_secs(3), "{:?}", run.time);
        assert_eq!(run.counted("uploaded"), 0);
        if code == 1 {
            assert!(run.stderr.contains(advice), "{}", run.stderr);
            let reaches = format!("cannot reach bucket 'site' at {} for ", trial.s3.url());
            assert!(operation != Operation::PutObject || run.stderr.contains(&reaches), "{}", run.stderr);
            assert!(!run.stderr.contains("not sent"), "{}", run.stderr);
            continue;
        }
        let (mut ids, mut unsent) = (BTreeSet::new(), 0);
        for failure in run.report["failures"].as_array().unwrap() {
            let message = failure["message"].as_str().unwrap();
            assert!(message.contains(advice) && message.ends_with("the next run tries again"), "{message}");
            match failure["request_id"].as_str() {
                Some(id) => assert!(ids.insert(id.to_owned()), "the request of another key: {failure}"),
                None => unsent += 1,
            }
            assert_eq!(failure["request_id"].is_null(), message.starts_with("not sent"), "{failure}");
        }
        assert!(ids.len() > 1 && unsent > 1, "{} {unsent}", ids.len());
    }
}

#[test]
fn each_retry_of_a_delete_names_its_keys() {
    // S3 reads no XML that holds the second name.
    for (operation, first, keys) in
        [(Operation::DeleteObjects, "orphan1", 2), (Operation::DeleteObject, "o\u{fffe}", 1)]
    {
        let trial = tree(1);
        for orphan in [first, "orphan2", "orphan3"].into_iter().take(keys) {
            trial.object(orphan, "o", Duration::from_hours(1));
        }
        trial.s3.rule(Rule::on(operation).does(Fault::status(500, "InternalError")));
        let options = ["--delete", "--max-delete", "100%"];
        let run = trial.start_with(&options, &[("RUST_LOG", "debug")]).end().expect(0);
        let retry = run.stderr.lines().find(|line| line.contains("retrying this request")).unwrap();
        assert!(retry.contains(&format!("key=www/{first} keys={keys}")), "{retry}");
    }
}

#[test]
fn a_wrong_clock_is_named() {
    let trial = tree(1);
    let skewed = |operation| Rule::on(operation).always().does(Fault::status(403, "RequestTimeTooSkewed"));
    trial.s3.rule(skewed(Operation::PutObject));
    let advice = "the clock of this host differs too much from S3's: correct it";
    let failed = trial.start_with(&["--retries", "1"], &[("RUST_LOG", "debug")]).end().expect(3);
    let retry = failed.stderr.lines().find(|line| line.contains("retrying this request")).unwrap();
    assert!(retry.contains("key=d0/f0") && retry.contains("pause="), "{retry}");
    assert!(failed.only_failure()["message"].as_str().unwrap().contains(advice), "{}", failed.report);
    trial.s3.clear_rules();
    trial.s3.rule(skewed(Operation::ListObjectsV2));
    let failed = trial.sync(&["--retries", "1"]).expect(1);
    assert!(failed.stderr.contains(advice), "{}", failed.stderr);
}

#[test]
fn a_stop_request_ends_an_outage() {
    let trial = tree(10);
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::status(503, "SlowDown")));
    let run = trial.start(&PATIENT);
    trial.wait_for_requests(Operation::PutObject, 10);
    let stopped = Instant::now();
    run.signal("-TERM");
    run.end().expect(143);
    assert!(stopped.elapsed() < Duration::from_secs(50), "{:?}", stopped.elapsed());
}

#[test]
fn errors_of_single_keys_in_a_delete_response_are_retried() {
    for (code, retried) in [("SlowDown", true), ("InternalError", true), ("AccessDenied", false)] {
        let trial = tree(1);
        for orphan in 0..10 {
            trial.object(&format!("orphan{orphan}"), "o", Duration::from_hours(1));
        }
        let errors = (0..3).map(|key| format!("<Error><Key>www/orphan{key}</Key><Code>{code}</Code></Error>"));
        let deleted = (3..10).map(|key| format!("<Deleted><Key>www/orphan{key}</Key></Deleted>"));
        let body = errors.chain(deleted).collect::<String>();
        let s3 = trial.s3.clone();
        trial.s3.rule(Rule::on(Operation::DeleteObjects).does(Fault::custom(move |_| {
            (3..10).for_each(|key| s3.remove("site", &format!("www/orphan{key}")));
            let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
            Some(Reply { status: 200, headers, body: format!("<DeleteResult>{body}</DeleteResult>").into() })
        })));
        let options = ["--delete", "--max-delete", "100%"];
        let run = trial.start_with(&options, &[("RUST_LOG", "debug")]).end().expect(if retried { 0 } else { 3 });
        let lines = run.stderr.lines().filter(|line| line.contains("S3 did not delete these keys"));
        let named = lines.filter(|line| line.contains("key=www/orphan2") && line.contains("keys=3")).count();
        assert_eq!(named, usize::from(retried), "{}", run.stderr);
        assert_eq!(run.counted("deleted"), if retried { 10 } else { 7 }, "{code}");
        assert_eq!(trial.count(Operation::DeleteObjects), if retried { 2 } else { 1 }, "{code}");
        let second = trial.s3.requests(Operation::DeleteObjects).pop().unwrap();
        let is_rest = !String::from_utf8_lossy(&second.document).contains("orphan5");
        assert_eq!(is_rest, retried, "{code}: only the keys that failed are sent again");
    }
}

#[test]
fn a_slow_list_or_delete_gets_more_time_with_each_attempt() {
    std::thread::scope(|scope| {
        for operation in [Operation::ListObjectsV2, Operation::DeleteObjects] {
            scope.spawn(move || {
                let trial = tree(1);
                trial.object("orphan", "o", Duration::from_hours(1));
                trial.s3.rule(Rule::on(operation).always().does(Fault::Delay(Duration::from_secs(20))));
                let options = ["--outage-timeout", "5m", "--delete", "--max-delete", "100%"];
                trial.start(&options).end_within(Duration::from_mins(5)).expect(0);
                let attempts = trial.count(operation);
                assert!((2..4).contains(&attempts), "15 s are too short, and 30 s suffice, or 60 s: {attempts}");
                assert!(!trial.has("orphan"));
            });
        }
    });
}

#[test]
fn a_throttling_bucket_is_used_and_few_requests_are_refused() {
    let trial = tree(3000);
    let throttle = Throttle::new(200.0, 200.0);
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(throttle.fault()));
    let run = trial.sync(&PATIENT).expect(0);
    assert_eq!(outage_lines(&run), (0, 0), "{}", run.stderr);
    let counts = throttle.counts();
    assert_eq!((counts.accepted, run.counted("uploaded")), (3000, 3000));
    assert!(f64::from(counts.refused) <= 0.05 * f64::from(counts.refused + counts.accepted), "{counts:?}");
    assert!(f64::from(counts.accepted) >= 0.9 * counts.offered, "{counts:?}");
}

/// Such as Ceph's gateway, whose response to CompleteMultipartUpload has no ETag.
#[test]
fn writes_that_a_head_confirms_are_not_an_outage() {
    let trial = tree(40);
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::MissingEtag));
    trial.s3.rule(Rule::on(Operation::HeadObject).always().does(Fault::Delay(Duration::from_millis(100))));
    let run = trial.sync(&["--outage-timeout", "2s", "--concurrency", "1"]).expect(0);
    assert_eq!(run.counted("uploaded"), 40);
    assert!(!run.stderr.contains("retrying"), "{}", run.stderr);
}

// --- the soak ---

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The kind of failure at this time, or `None` in a good phase. Each good phase is followed by a bad one.
fn failing(time: Duration, phase: Duration) -> Option<u128> {
    let phases = time.as_millis() / phase.as_millis();
    (phases % 2 == 1).then_some(phases / 2 % 4)
}

#[expect(clippy::print_stderr, reason = "the figures of a long run")]
#[test]
fn a_run_with_a_state_outlasts_good_and_bad_phases() {
    let count = number("EFS2S3_OUTAGE_FILES", 1000);
    let files = usize::try_from(count).unwrap();
    let phase = Duration::from_secs(number("EFS2S3_OUTAGE_PHASE_SECONDS", 2));
    let trial = tree(files);
    trial.s3.create_bucket("state");
    trial.object("orphan", "o", Duration::from_hours(1));
    let kinds = [
        Fault::status(503, "SlowDown"),
        Fault::ResetBefore,
        Fault::Stall(phase.min(Duration::from_secs(20))),
        Fault::Delay(phase / 2),
    ];
    for (kind, fault) in (0..).zip(kinds) {
        let bad = Rule::on(Operations::all()).always().during(move |time| failing(time, phase) == Some(kind));
        trial.s3.rule(bad.does(fault));
    }
    // Four at a time need a little more than four good phases, so that the run meets all kinds.
    let put = 17 * phase / u32::try_from(files).unwrap();
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::Delay(put)));
    let options = ["--state", "s3://state/of", "--concurrency", "4", "--delete", "--max-delete", "100%"];
    let options = [&options[..], &["--lease-ttl", "10m", "--outage-timeout", "5m"]].concat();
    let run = trial.start(&options).end_within(Duration::from_mins(1) + 40 * phase).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("deleted"), run.counted("failed")), (count, 1, 0));
    assert_eq!(trial.s3.uploads(), []);
    let good = (0..).map(|step| step * phase / 20).take_while(|time| *time < run.time);
    let good: Duration = good.filter(|time| failing(*time, phase).is_none()).map(|_| phase / 20).sum();
    let needed = 17 * phase / 4;
    let requests = &run.report["requests"];
    eprintln!(
        "{files} files, {phase:?} phases: {:.0} s, of which {:.0} s good; {:.0} s needed; {} retries, {} throttled",
        run.time.as_secs_f64(),
        good.as_secs_f64(),
        needed.as_secs_f64(),
        requests["retries"],
        requests["throttled"]
    );
    let quiet = trial.sync(&options);
    assert_eq!((quiet.code, quiet.counted("unchanged")), (0, count));
}
