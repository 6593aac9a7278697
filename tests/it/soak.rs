//! Two schedules on one destination, with some runs killed: no two runs write concurrently, and no object is lost.
//!
//! `EFS2S3_SOAK_SECONDS` is the duration, and `EFS2S3_SOAK_SEED` determines edits and kills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{Trial, WRITES};

const FILES: usize = 40;
const SECONDS: u64 = 15;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn name(file: usize) -> String {
    format!("d{}/f{file:02}", file % 4)
}

/// The run that sent a request: each run has its own access key.
fn run_of(authorization: &str) -> String {
    let (_, credential) = authorization.split_once("Credential=").unwrap();
    credential.split('/').next().unwrap().to_owned()
}

#[test]
fn two_schedules_with_kills_never_write_concurrently() {
    let seed = number("EFS2S3_SOAK_SEED", fastrand::u64(..));
    let trial = Trial::new();
    for file in 0..FILES {
        trial.write(name(file), "0");
    }
    trial.write("large", vec![b'0'; 6 << 20]);
    // Slow writes, so that kills and other runs meet them.
    let slowly = Fault::Delay(Duration::from_millis(25));
    trial.s3.rule(Rule::on([Operation::PutObject, Operation::UploadPart]).always().does(slowly));
    let (stop, kills) = (AtomicBool::new(false), Mutex::new(0));
    thread::scope(|scope| {
        for schedule in 0..2 {
            let (trial, stop, kills) = (&trial, &stop, &kills);
            scope.spawn(move || keep_schedule(trial, schedule, fastrand::Rng::with_seed(seed ^ schedule), stop, kills));
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let end = Instant::now() + Duration::from_secs(number("EFS2S3_SOAK_SECONDS", SECONDS));
        let mut stored = BTreeSet::new();
        // On a busy machine it can take longer until the first kill meets a run.
        while Instant::now() < end || *kills.lock().unwrap() == 0 {
            // The first half of the files always exists. Other files are removed and written again.
            let file = random.usize(0..FILES);
            if file >= FILES / 2 && random.bool() {
                let _ = std::fs::remove_file(trial.tree().join(name(file)));
            } else {
                trial.write(name(file), random.u32(..).to_string());
            }
            thread::sleep(Duration::from_millis(random.u64(20..200)));
            let names = trial.names();
            for file in 0..FILES / 2 {
                let exists = names.contains(&name(file));
                assert!(exists || !stored.contains(&file), "{} is lost (EFS2S3_SOAK_SEED={seed})", name(file));
                if exists {
                    stored.insert(file);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(*kills.lock().unwrap() > 0, "no run was killed");
    assert_one_writer_at_a_time(&trial, seed);

    trial.s3.clear_rules();
    Trial::settle();
    let state = trial.folder.path().join("state").display().to_string();
    trial.sync(&options(&state)).expect(0);
    trial.assert_same();
    assert_eq!(trial.s3.uploads(), [], "EFS2S3_SOAK_SEED={seed}");
}

fn options(state: &str) -> Vec<&str> {
    let parts = ["--part-size", "5MiB", "--multipart-threshold", "5MiB"];
    [&["--delete", "--max-delete", "100%", "--lease-ttl", "1s", "--state", state], &parts[..]].concat()
}

fn keep_schedule(trial: &Trial, schedule: u64, mut random: fastrand::Rng, stop: &AtomicBool, kills: &Mutex<u64>) {
    let state = trial.folder.path().join("state").display().to_string();
    for run in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("AKIDSCHEDULE{schedule}RUN{run}");
        let started = trial.start_with(&options(&state), &[("AWS_ACCESS_KEY_ID", &key)]);
        let is_killed = random.bool();
        if is_killed {
            thread::sleep(Duration::from_millis(random.u64(50..2500)));
            started.signal("-KILL");
        }
        let ended = started.end();
        if is_killed && ended.code == -1 {
            *kills.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        assert!([-1, 0, 3, 11].contains(&ended.code), "exit {}: {}", ended.code, ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        thread::sleep(Duration::from_millis(random.u64(0..400)));
    }
}

/// Asserts that the writes of different runs do not alternate.
fn assert_one_writer_at_a_time(trial: &Trial, seed: u64) {
    let mut ended = BTreeMap::new();
    let mut last: Option<String> = None;
    let writes = trial.s3.log().into_iter().enumerate().filter(|(_, request)| WRITES.contains(&request.operation));
    for (place, request) in writes {
        let run = run_of(&request.headers["authorization"]);
        if last.as_ref() != Some(&run) {
            let before = ended.insert(run.clone(), place);
            assert_eq!(before, None, "{run} wrote after another run had written (EFS2S3_SOAK_SEED={seed})");
        }
        last = Some(run);
    }
    assert!(ended.len() > 1, "fewer than two runs wrote");
}
