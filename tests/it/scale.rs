//! The requests and the memory that a run over a large tree needs.

use std::time::Duration;

use crate::trial::{FinishedRun, READS, Trial, WRITES};
use fake_aws::s3::{Fault, Operation, Rule};

const FILES: usize = 200_000;
/// Edits of the index stay in memory up to about 8 MiB. Sorting and compressing them takes as much again.
const EDITS: u64 = 2 * (20 << 20);
/// A run reads the index a few thousand rows ahead, through a window of zstd.
const READING: u64 = 2 * (8 << 20);

fn name(number: usize) -> String {
    format!("d{:03}/e{}/f{number:06}", number % 400, number / 400 % 5)
}

#[test]
fn unchanged_files_cost_only_listing_pages_and_little_memory() {
    let trial = Trial::new();
    for number in 0..FILES {
        trial.write(name(number), "x");
    }
    Trial::settle();
    for number in 0..FILES {
        trial.object(&name(number), "x", Duration::ZERO);
    }
    let peak = |run: &FinishedRun| run.report["peak_memory_bytes"].as_u64().unwrap();
    // A tenth of the files: they fill the eight ranges that are listed ahead, which take the same memory in any larger tree.
    let few = peak(&trial.sync(&["--include", "/d00*|/d01*|/d02*|/d03*", "--delete"]).expect(0));
    trial.s3.clear_log();
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(run.counted("unchanged"), 200_000);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    let lists = trial.count(Operation::ListObjectsV2);
    assert!((200..=230).contains(&lists), "{lists} LISTs for 200 pages");
    let many = peak(&run);
    assert!(many * 2 <= few * 3, "{few} bytes of memory for few files, {many} for many");
    assert!(many <= 64 << 20, "{many} bytes of memory");

    let state = trial.folder.path().join("state").display().to_string();
    let many = peak(&trial.sync(&["--delete", "--state", &state]).expect(0));
    assert!(many * 2 <= few * 3 + EDITS, "the first index: {few} bytes for few files, {many} for many");
    trial.s3.clear_log();
    let run = trial.sync(&["--delete", "--state", &state]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    let many = peak(&run);
    assert!(many * 2 <= few * 3 + READING, "reading the index: {few} bytes for few files, {many} for many");
}

/// The server responds to no LIST after the first until eight are in flight, as many as `--list-concurrency auto` allows.
#[test]
fn eight_ranges_are_listed_in_parallel() {
    let trial = Trial::new();
    for number in 0..25_000 {
        trial.write(format!("f{number:05}"), "x");
    }
    Trial::settle();
    for number in 0..25_000 {
        trial.object(&format!("f{number:05}"), "x", Duration::ZERO);
    }
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).skip(1).times(8).does(Fault::hold_until(8)));
    let run = trial.sync(&[]).expect(0);
    assert_eq!(run.counted("unchanged"), 25_000);
    let lists = trial.s3.requests(Operation::ListObjectsV2);
    assert_eq!(lists.iter().filter(|list| list.faulted && list.status == 200).count(), 8, "LISTs in flight");
}

#[test]
fn an_empty_destination_costs_one_list() {
    let trial = Trial::new();
    for number in 0..12_000 {
        trial.write(name(number), "x");
    }
    let run = trial.run_words(&["plan", &trial.tree().display().to_string(), "s3://site/www", "--mode", "plain"], &[]);
    assert_eq!(run.expect(0).stdout.lines().count(), 12_000);
    assert_eq!(trial.count(Operation::ListObjectsV2), 1);
}

#[test]
fn orphans_cost_a_third_more_listing_pages() {
    let trial = Trial::new();
    for number in 0..40_000 {
        trial.write(format!("f{number:06}"), "x");
    }
    Trial::settle();
    for number in 0..40_000 {
        trial.object(&format!("f{number:06}"), "x", Duration::ZERO);
    }
    for number in (0..40_000).step_by(100) {
        trial.object(&format!("f{number:06}-orphan"), "x", Duration::ZERO);
    }
    trial.sync(&["--delete"]).expect(0);
    let lists = trial.count(Operation::ListObjectsV2);
    // 41 pages, a third more, and the ranges that are shorter than three pages.
    assert!(lists <= 41 + 14 + 3, "{lists} LISTs for 41 pages");
    assert_eq!(trial.names().len(), 40_000);
}

#[test]
fn small_tree_with_a_huge_destination_takes_little_memory() {
    let trial = Trial::new();
    trial.write("a", "a");
    let few = trial.sync(&[]).expect(0).report["peak_memory_bytes"].as_u64().unwrap();
    for number in 0..FILES {
        trial.object(&name(number), "x", Duration::ZERO);
    }
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(run.counted("deletes_withheld"), 200_000);
    let many = run.report["peak_memory_bytes"].as_u64().unwrap();
    // Pending deletes are spilled to a file past a bound.
    assert!(many * 2 <= few * 3 + (32 << 20), "{few} bytes of memory for few objects, {many} for many");
}
