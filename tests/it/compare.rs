//! When a file is uploaded, and when its object is left alone.

use std::time::Duration;

use crate::trial::{READS, Trial, WRITES};

/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);

#[test]
fn nothing_changed_costs_listings_alone() {
    let trial = Trial::new();
    for number in 0..2400 {
        trial.write(format!("d{:02}/f{number:04}.txt", number % 40), number.to_string());
    }
    Trial::settle();
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    trial.s3.clear_log();
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    assert_eq!(trial.s3.log().len(), 3, "2,400 objects are three pages");
    assert_eq!(run.counted("unchanged"), 2400);
}

#[test]
fn touched_but_equal_is_not_uploaded() {
    let trial = Trial::new();
    trial.object("a", "same", LONG_AGO);
    trial.write("a", "same");
    let run = trial.sync(&[]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
    assert_eq!(run.report["bytes"]["read_for_compare"], 4);
}
