//! Files that come back while the delete of their object waits for its next attempt.

use std::fs;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Reply, Rule};

use crate::trial::Trial;

const LONG_AGO: Duration = Duration::from_secs(1000);
const DELETES: [Operation; 2] = [Operation::DeleteObject, Operation::DeleteObjects];
/// What an attempt ends with: its name, and the status and the S3 error code of the response.
type Refusal = (&'static str, u16, &'static str);

/// A file with its object, and orphans.
fn trial(orphans: &[&str]) -> Trial {
    let trial = Trial::new();
    trial.write("kept", "kept");
    trial.object("kept", "kept", LONG_AGO);
    for name in orphans {
        trial.object(name, "orphan", LONG_AGO);
    }
    trial
}

/// Lets the first delete request fail, while the file at `name` comes back.
fn comes_back(trial: &Trial, name: &'static str, (_, status, code): Refusal, deletes: bool) {
    let (s3, path) = (trial.s3.clone(), trial.tree().join(name));
    trial.s3.rule(Rule::on(DELETES).does(Fault::custom(move |_| {
        if deletes {
            s3.remove("site", &format!("www/{name}"));
        }
        fs::write(&path, "back").unwrap();
        Some(Reply::error(status, code, "injected", ""))
    })));
}

/// The names of two orphans that go into a batch, and of two that need a request of their own each.
const FORMS: [[&str; 2]; 2] = [["a", "b"], ["a\u{1}", "b\u{1}"]];

#[test]
fn a_file_that_is_back_before_the_next_attempt_keeps_its_object() {
    for refusal in [("throttled", 503, "SlowDown"), ("without batches", 501, "NotImplemented")] {
        for [name, other] in FORMS.into_iter().filter(|[name, _]| refusal.1 == 503 || *name == "a") {
            let what = format!("{}, {name:?}", refusal.0);
            let trial = trial(&[name, other]);
            comes_back(&trial, name, refusal, false);
            let run = trial.sync(&["--delete"]).expect(0);
            assert!(trial.has(name) && !trial.has(other), "{what}");
            assert_eq!((run.withheld_by("still_gone"), run.counted("deleted")), (1, 1), "{what}");
        }
    }
}

#[test]
fn a_file_that_is_back_before_the_next_attempt_for_its_key_keeps_its_object() {
    let trial = trial(&["a", "orphan"]);
    let path = trial.tree().join("a");
    trial.s3.rule(Rule::on(Operation::DeleteObjects).does(Fault::ErrorInside200("SlowDown")));
    trial.s3.rule(Rule::on(Operation::DeleteObjects).does(Fault::custom(move |_| {
        fs::write(&path, "back").unwrap();
        Some(Reply::error(503, "SlowDown", "injected", ""))
    })));
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(trial.has("a") && !trial.has("orphan"));
    assert_eq!((run.withheld_by("still_gone"), run.counted("deleted")), (1, 1));
}

#[test]
fn a_file_that_is_back_before_its_line_of_a_plan_is_repeated_keeps_its_object() {
    let trial = trial(&["a", "b"]);
    trial.plan(&["--delete", "-o", "plan.jsonl"]).expect(0);
    comes_back(&trial, "a", ("throttled", 503, "SlowDown"), false);
    let run = trial.run_words(&["apply", "plan.jsonl"], &[]).expect(0);
    assert!(trial.has("a") && !trial.has("b"));
    assert_eq!((run.withheld_by("still_gone"), run.counted("deleted")), (1, 1));
}

#[test]
fn each_single_delete_follows_a_lookup_of_its_own() {
    let trial = trial(&["1\u{1}", "2\u{1}"]);
    let path = trial.tree().join("2\u{1}");
    let back = Fault::before(move || fs::write(&path, "back").unwrap());
    trial.s3.rule(Rule::on(Operation::DeleteObject).does(back));
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(!trial.has("1\u{1}") && trial.has("2\u{1}"));
    assert_eq!(run.withheld_by("still_gone"), 1);
}

#[test]
fn a_file_that_is_back_after_an_attempt_of_unknown_effect_makes_the_run_incomplete() {
    for [name, other] in FORMS {
        for deletes in [true, false] {
            let what = format!("{name:?}, deleted: {deletes}");
            let trial = trial(&[name, other]);
            comes_back(&trial, name, ("an error of S3", 500, "InternalError"), deletes);
            // The HEAD after the lookup needs the only request of the limit.
            let run = trial.sync(&["--delete", "--concurrency", "1"]).expect(3);
            assert_eq!((trial.has(name), trial.has(other)), (!deletes, false), "{what}");
            assert_eq!((run.counted("deletes_failed"), run.counted("deleted")), (1, 1), "{what}");
            let failure = run.only_failure();
            let effect = if deletes { "has already deleted" } else { "may still delete" };
            let message = failure["message"].as_str().unwrap();
            assert!(failure["key"] == format!("www/{name}") && message.contains(effect), "{what}: {message}");
            assert!(message.contains("the file exists again"), "{what}: {message}");
            Trial::settle();
            trial.sync(&["--delete"]).expect(0);
            trial.assert_same();
        }
    }
}

/// The response to a batch in which S3 refuses each key with a code of its own.
fn refused(codes: &[(&str, &str)]) -> Reply {
    let errors = codes.iter().map(|(name, code)| {
        format!("<Error><Key>www/{name}</Key><Code>{code}</Code><Message>injected</Message></Error>")
    });
    Reply::xml(200, format!("<DeleteResult>{}</DeleteResult>", errors.collect::<String>()))
        .with("x-amz-request-id", "injected")
}

#[test]
fn a_file_that_is_back_is_only_in_doubt_if_its_own_delete_may_have_had_an_effect() {
    let trial = trial(&["a", "b"]);
    let path = trial.tree().join("b");
    trial.s3.rule(Rule::on(Operation::DeleteObjects).does(Fault::custom(move |_| {
        fs::write(&path, "back").unwrap();
        Some(refused(&[("a", "InternalError"), ("b", "SlowDown")]))
    })));
    let run = trial.sync(&["--delete"]).expect(0);
    assert!(!trial.has("a") && trial.has("b"));
    assert_eq!((run.withheld_by("still_gone"), run.counted("deleted"), run.counted("deletes_failed")), (1, 1, 0));
    assert_eq!(trial.count([Operation::HeadObject]), 0);
}

#[test]
fn each_key_that_is_given_up_has_its_own_error() {
    let trial = trial(&["a", "b"]);
    let fails = Fault::custom(|_| Some(refused(&[("a", "InternalError"), ("b", "SlowDown")])));
    trial.s3.rule(Rule::on(Operation::DeleteObjects).always().does(fails));
    let run = trial.sync(&["--delete", "--retries", "1"]).expect(3);
    let failures = run.report["failures"].as_array().unwrap();
    for (failure, (name, code)) in failures.iter().zip([("a", "InternalError"), ("b", "SlowDown")]) {
        let message = failure["message"].as_str().unwrap();
        let is_own = failure["key"] == format!("www/{name}") && message.contains(code);
        assert!(is_own && message.contains("--retries 1"), "{name}: {message}");
    }
    assert_eq!(failures.len(), 2);
}

#[test]
fn an_undisturbed_delete_costs_one_lookup() {
    let [one, two] = [trial(&["a"]), trial(&["a", "b"])];
    let stats = |trial: &Trial| {
        let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(0);
        assert_eq!(trial.count(DELETES), 1);
        run.report["source_operations"]["stat"].as_u64().unwrap()
    };
    // The root is statted once for all of them.
    assert_eq!(stats(&two) - stats(&one), 1);
}

#[test]
fn a_stop_after_a_delete_without_a_response_does_not_count_the_object_as_kept() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("orphan", "o", Duration::from_hours(1));
    trial.s3.rule(Rule::on(Operation::DeleteObjects).always().does(Fault::ResetAfter));
    let run = trial.start(&["--delete", "--max-delete", "100%", "--outage-timeout", "1m"]);
    trial.wait_for_requests(Operation::DeleteObjects, 1);
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(!trial.has("orphan"));
    assert_eq!((run.counted("deletes_failed"), run.counted("deletes_withheld")), (1, 0), "{}", run.stderr);
    assert!(run.stderr.contains("S3 may have deleted the object"), "{}", run.stderr);
}
