//! Pages of lists that are cut off between two entries: refused, requested again, and never taken for the whole list.

use std::fs;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{Trial, WRITES, random};

const MIB: usize = 1 << 20;
const LONG_AGO: Duration = Duration::from_secs(1000);
const ALL: [&str; 3] = ["--delete", "--max-delete", "100%"];
const IN_PARTS: [&str; 4] = ["--part-size", "5MiB", "--multipart-threshold", "5MiB"];

/// Files that are stored, and an orphan.
fn stored() -> Trial {
    let trial = Trial::new();
    for name in ["a", "b", "z"] {
        trial.write(name, name);
        trial.object(name, name, Duration::ZERO);
    }
    trial.object("orphan", "x", LONG_AGO);
    trial
}

#[test]
fn a_listing_that_is_cut_off_ends_every_command() {
    let trial = stored();
    let tree = trial.tree().display().to_string();
    for command in ["sync", "plan", "verify"] {
        trial.s3.clear_log();
        trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(Fault::CutDocument));
        let options = if command == "verify" { &[][..] } else { &ALL };
        let words = [&[command, &tree, "s3://site/www", "--mode", "plain", "--retries", "1"], options].concat();
        let run = trial.run_words(&words, &[]).expect(1);
        assert!(run.stderr.contains("cannot trust this listing: the response is cut off"), "{}", run.stderr);
        assert_eq!((trial.count(WRITES), trial.count(Operation::ListObjectsV2)), (0, 2), "{command}");
        trial.s3.clear_rules();
    }
    assert_eq!(trial.names().len(), 4);
}

#[test]
fn an_empty_source_is_seen_beside_a_listing_without_entries_that_is_cut_off() {
    let trial = Trial::new();
    trial.object("only", "x", LONG_AGO);
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(Fault::CutDocument));
    trial.sync(&ALL).expect(3);
    assert!(trial.has("only"));
}

#[test]
fn a_listing_that_is_cut_off_once_is_requested_again() {
    let trial = stored();
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).does(Fault::CutDocument));
    let run = trial.sync(&[&ALL[..], &["--compare", "size-only"]].concat()).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("unchanged"), run.counted("deleted"), run.counted("uploaded")), (3, 1, 0));
    assert_eq!(run.report["requests"]["retries"], 1);
}

#[test]
fn a_list_of_destinations_that_is_cut_off_deletes_no_inner_destination() {
    for times in [1, 100] {
        let trial = Trial::new();
        trial.s3.create_bucket("state");
        let state = ["--state", "s3://state/of/efs2s3", "--retries", "1"];
        let inner = trial.folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("i"), "inner").unwrap();
        let words = ["sync", inner.to_str().unwrap(), "s3://site/www/zdocs", "--mode", "plain"];
        trial.run_words(&[&words[..], &state].concat(), &[]).expect(0);
        trial.write("f", "outer");
        trial.sync(&state).expect(0);
        trial.s3.rule(
            Rule::on(Operation::ListObjectsV2).key_contains("destinations/").times(times).does(Fault::CutDocument),
        );
        let run = trial.sync(&[&ALL[..], &state].concat());
        assert!(trial.has("zdocs/i"), "{times}: {}", run.report);
        assert_eq!(run.code, if times == 1 { 3 } else { 1 }, "{}", run.stderr);
        assert!(times == 1 || run.stderr.contains("cut off"), "{}", run.stderr);
    }
}

#[test]
fn a_list_of_parts_that_is_cut_off_is_requested_again() {
    let trial = Trial::new();
    trial.write("big", random(16 * MIB));
    let state = trial.folder.path().join("state");
    let options = [&IN_PARTS[..], &["--state", state.to_str().unwrap(), "--concurrency", "1"]].concat();
    // The upload stays unfinished, because its abort fails.
    trial.s3.rule(Rule::on(Operation::UploadPart).skip(2).always().does(Fault::status(400, "InvalidRequest")));
    trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).always().does(Fault::status(403, "AccessDenied")));
    trial.sync(&options).expect(3);
    trial.s3.clear_rules();
    trial.s3.clear_log();
    trial.s3.rule(Rule::on(Operation::ListParts).does(Fault::CutDocument));
    trial.sync(&options).expect(0);
    trial.assert_same();
    assert_eq!((trial.count(Operation::ListParts), trial.count(Operation::UploadPart)), (2, 2));
}

/// The response to the first CreateMultipartUpload is lost, so the run lists the unfinished uploads of the key.
#[test]
fn a_list_of_uploads_that_is_cut_off_hides_no_duplicate() {
    for times in [1, 100] {
        let trial = Trial::new();
        trial.write("big", random(6 * MIB));
        let state = trial.folder.path().join("state");
        let options = [&IN_PARTS[..], &["--state", state.to_str().unwrap(), "--retries", "1"]].concat();
        trial.s3.rule(Rule::on(Operation::CreateMultipartUpload).does(Fault::ResetAfter));
        trial.s3.rule(Rule::on(Operation::ListMultipartUploads).times(times).does(Fault::CutDocument));
        trial.sync(&options).expect(0);
        trial.assert_same();
        assert_eq!(trial.s3.uploads().len(), usize::from(times > 1), "a list that S3 never sends whole shows nothing");
        trial.s3.clear_rules();
        trial.sync(&options).expect(0);
        assert_eq!(trial.s3.uploads().len(), 0, "the next run aborts the duplicate");
    }
}
