//! Stale handles (`ESTALE`): another client of the file server replaces or removes what the run has open.

use std::time::Duration;

use crate::odd_fs::{Fault, OddFs};
use crate::trial::{FinishedRun, Trial};

const LONG_AGO: Duration = Duration::from_secs(1000);

fn skipped_because(run: &FinishedRun, reason: &str) -> u64 {
    run.report["skipped_because"][reason].as_u64().unwrap_or(0)
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_opened_from_its_path_again() {
    for (mode, stale_opens) in [("plain", 1), ("plain", 2), ("datasync", 2)] {
        let trial = Trial::new();
        let odd = OddFs::mount(&trial.tree(), &["a", "d/", "d/f"], &[("d/f", Fault::ReadStale(stale_opens))]);
        let run = trial.sync(&["--delete", "--mode", mode]).expect(0);
        assert_eq!(trial.objects()["d/f"], &b"d/f"[..], "{mode}");
        assert_eq!((run.counted("failed"), odd.opens_of("d/f")), (0, stale_opens + 1), "{mode}");
        run.assert_adds_up();
    }
}

#[test]
fn a_comparison_reads_a_replaced_file_again_and_uploads_nothing() {
    let trial = Trial::new();
    trial.object("f", "f", LONG_AGO);
    {
        let _odd = OddFs::mount(&trial.tree(), &["f"], &[("f", Fault::ReadStale(2))]);
        let run = trial.sync(&["--compare", "checksum"]).expect(0);
        assert_eq!((run.counted("unchanged"), trial.s3.uploads().len()), (1, 0));
    }
    let _odd = OddFs::mount(&trial.tree(), &["f"], &[("f", Fault::ReadStale(2))]);
    let source = trial.tree().display().to_string();
    trial.run_words(&["verify", &source, "s3://site/www", "--mode", "plain"], &[]).expect(0);
}

#[test]
fn a_file_that_is_stale_each_time_fails_alone_and_keeps_its_object() {
    let trial = Trial::new();
    trial.object("f", "other", LONG_AGO);
    let odd = OddFs::mount(&trial.tree(), &["a", "f"], &[("f", Fault::ReadStale(u64::MAX))]);
    let run = trial.sync(&["--delete"]).expect(3);
    let failure = run.only_failure();
    assert_eq!((failure["kind"].as_str(), failure["key"].as_str()), (Some("stale"), Some("www/f")));
    assert!(failure["message"].as_str().unwrap().contains("opened this path 3 times"), "{failure}");
    assert_eq!((odd.opens_of("f"), &trial.objects()["f"][..]), (3, &b"other"[..]));
    assert!(trial.has("a"));
    run.assert_adds_up();
}

#[test]
fn verify_does_not_call_a_stale_file_different() {
    let trial = Trial::new();
    trial.object("f", "f", LONG_AGO);
    let _odd = OddFs::mount(&trial.tree(), &["f"], &[("f", Fault::ReadStale(u64::MAX))]);
    let source = trial.tree().display().to_string();
    let run = trial.run_words(&["verify", &source, "s3://site/www", "--mode", "plain"], &[]).expect(3);
    assert_eq!(run.stdout, "");
}

#[test]
fn a_file_that_is_removed_while_it_is_read_has_vanished() {
    let trial = Trial::new();
    let _odd = OddFs::mount(&trial.tree(), &["a", "f"], &[("f", Fault::ReadStaleAndGone)]);
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((skipped_because(&run, "vanished"), trial.has("f"), trial.has("a")), (1, false, true));
    run.assert_adds_up();
}

#[test]
fn a_stale_directory_is_read_from_its_path_again() {
    let trial = Trial::new();
    trial.object("stale/old", "other", LONG_AGO);
    let _odd = OddFs::mount(&trial.tree(), &["a", "stale/", "stale/f"], &[("stale", Fault::ReaddirStale(2))]);
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.has("stale/f"), run.counted("deleted")), (true, 1));
}

#[test]
fn a_stat_that_meets_a_stale_handle_is_made_again() {
    for place in ["d", "d/f"] {
        let trial = Trial::new();
        let _odd = OddFs::mount(&trial.tree(), &["a", "d/", "d/f"], &[(place, Fault::LookupStale(3))]);
        trial.sync(&["--delete"]).expect(0);
        assert!(trial.has("d/f"), "{place}");
    }
}
