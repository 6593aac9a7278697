//! Random trees, edits and faults: each report is true, and a run without faults repairs everything.
//!
//! The seed of a case determines its story (`story`): its mode, whether it has a state, the dialect of its server, its tree,
//! edits and troubles. `case` lets the story happen. After each run, `oracle` compares the objects with what the source held
//! at each moment of the run (`view`). The oracle shares no code with the program.
//!
//! A few cases run the program. Most run the same pipeline within this process, where dropping a run kills it. Those mostly
//! wait for files to settle, so hundreds of them run in parallel.
//!
//! `EFS2S3_PROPERTY_CASES` is the number of cases within this process; a tenth as many run the program.
//! `EFS2S3_PROPERTY_SEED` is the seed of the first one. To repeat a case that failed, set its seed and one case.
//! `EFS2S3_PROPERTY_SHRINKS` is the number of smaller versions of it to try.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::within;
use case::{Place, tell};
use story::story;

mod case;
mod execution;
mod filter;
mod mount;
mod oracle;
mod scope;
mod story;
mod tree;
mod view;

/// Cases within this process. A tenth as many run the program, one process for each run.
const CASES: u64 = 500;
const PARALLEL: usize = 20;
const PARALLEL_WITHIN: usize = 250;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn cases() -> u64 {
    number("EFS2S3_PROPERTY_CASES", CASES)
}

/// Runs the case of this seed. Returns the error if it fails.
fn run_seed(seed: u64, place: &Place) -> Option<String> {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: number("EFS2S3_PROPERTY_SHRINKS", 0).try_into().unwrap(),
        ..Config::default()
    };
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runs = if matches!(place, Place::Program) { 20 } else { 0 };
    let result = runner.run(&story(runs), |story| {
        tell(&story, place.clone());
        Ok(())
    });
    let error = result.err()?;
    Some(format!("EFS2S3_PROPERTY_SEED={seed} EFS2S3_PROPERTY_CASES=1 fails: {error}"))
}

fn run_seeds(cases: u64, parallel: usize, place: &Place) {
    let first = number("EFS2S3_PROPERTY_SEED", 1);
    let last = first + cases;
    let next = AtomicU64::new(first);
    let failures: Vec<String> = thread::scope(|scope| {
        let worker = || {
            let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            seeds.take_while(|seed| *seed < last).filter_map(|seed| run_seed(seed, place)).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..parallel).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn reports_stay_true_under_faults_and_a_clean_run_converges() {
    within::apart("property::reports_stay_true_under_faults_and_a_clean_run_converges", || {
        run_seeds(cases().div_ceil(10), PARALLEL, &Place::Program);
    });
}

#[test]
fn reports_stay_true_and_runs_converge_within_this_process() {
    within::apart("property::reports_stay_true_and_runs_converge_within_this_process", || {
        let runtime = within::runtime();
        run_seeds(cases(), PARALLEL_WITHIN, &Place::Within(runtime.handle().clone()));
    });
}
