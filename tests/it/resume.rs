//! Unfinished uploads of killed runs: the next run resumes or aborts them. And runs killed at random moments.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{FinishedRun, Run, Trial, WRITES};

const MIB: usize = 1 << 20;
const IN_PARTS: [&str; 6] = ["--part-size", "5MiB", "--multipart-threshold", "5MiB", "--lease-ttl", "2s"];

fn state(trial: &Trial) -> String {
    trial.folder.path().join("state").display().to_string()
}

fn random(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(7).fill(&mut content);
    content
}

/// A file of ten parts.
fn with_a_large_file() -> Trial {
    let trial = Trial::new();
    trial.write("d/large", random(50 * MIB));
    Trial::settle();
    trial
}

fn start(trial: &Trial, state: &str) -> Run {
    trial.start(&[&IN_PARTS[..], &["--delete", "--state", state]].concat())
}

/// Kills a run after it has sent four of the parts.
fn kill_in_the_middle(trial: &Trial, state: &str) {
    trial.s3.rule(Rule::on(Operation::UploadPart).skip(4).always().does(Fault::Stall(Duration::from_mins(1))));
    let run = start(trial, state);
    trial.wait_for_requests(Operation::UploadPart, 10);
    run.signal("-KILL");
    run.end();
    trial.s3.clear_rules();
    trial.s3.clear_log();
}

/// The next run, after the killed run's lease has expired. Its own lease lasts a minute, because a run that loses its lease
/// on a busy machine keeps its records for the next run.
fn next_run(trial: &Trial, state: &str) -> FinishedRun {
    let options = [&IN_PARTS[..4], &["--lease-ttl", "1m", "--delete", "--state", state]].concat();
    loop {
        let ended = trial.start(&options).end();
        if ended.code != 11 {
            return ended.expect(0);
        }
        thread::sleep(Duration::from_millis(300));
    }
}

fn open_uploads(trial: &Trial) -> Vec<String> {
    trial.s3.uploads().into_iter().map(|upload| upload.key).collect()
}

#[test]
fn next_run_resumes_the_upload_of_a_killed_run_and_sends_only_missing_parts() {
    for home in [None, Some("s3://states/here")] {
        let trial = with_a_large_file();
        trial.s3.create_bucket("states");
        let state = home.map_or_else(|| state(&trial), str::to_owned);
        trial.s3.seed_upload("site", "www/d/large", Duration::from_hours(1));
        trial.s3.seed_upload("site", "www/other", Duration::ZERO);
        kill_in_the_middle(&trial, &state);
        assert_eq!(open_uploads(&trial).len(), 3);
        let ended = next_run(&trial, &state);
        trial.assert_same();
        assert_eq!(trial.count(Operation::UploadPart), 6, "S3 had four of them");
        assert_eq!(trial.count(Operation::CreateMultipartUpload), 0);
        assert_eq!(ended.report["requests"]["list_parts"], 1);
        let mut unfinished = open_uploads(&trial);
        unfinished.sort();
        assert_eq!(unfinished, ["www/d/large", "www/other"], "uploads of other programs stay");
        trial.s3.clear_log();
        next_run(&trial, &state);
        assert_eq!(trial.count([Operation::ListParts, Operation::AbortMultipartUpload]), 0, "the record is deleted");
    }
}

#[test]
fn upload_of_a_changed_file_is_aborted_and_restarted() {
    let trial = with_a_large_file();
    kill_in_the_middle(&trial, &state(&trial));
    let mut content = random(50 * MIB);
    content[0] ^= 1;
    trial.write("d/large", content);
    next_run(&trial, &state(&trial));
    trial.assert_same();
    assert_eq!(trial.count(Operation::UploadPart), 10);
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn upload_with_other_headers_is_aborted_and_restarted() {
    let trial = with_a_large_file();
    let state = state(&trial);
    kill_in_the_middle(&trial, &state);
    thread::sleep(Duration::from_millis(2200));
    let options = [&IN_PARTS[..], &["--state", &state, "--cache-control", "max-age=60"]].concat();
    trial.sync(&options).expect(0);
    assert_eq!(trial.stored("d/large").headers["cache-control"], "max-age=60");
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn upload_of_a_deleted_file_is_aborted() {
    let trial = with_a_large_file();
    trial.write("another", "1");
    kill_in_the_middle(&trial, &state(&trial));
    trial.remove("d/large");
    next_run(&trial, &state(&trial));
    trial.assert_same();
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn upload_recorded_without_an_id_is_found_and_aborted() {
    let trial = with_a_large_file();
    let state = state(&trial);
    trial.s3.seed_upload("site", "www/d/large", Duration::from_hours(1));
    trial.s3.seed_upload("site", "www/d/large2", Duration::ZERO);
    // S3 creates the upload, but its response never arrives.
    trial
        .s3
        .rule(Rule::on(Operation::CreateMultipartUpload).does(Fault::after(|| thread::sleep(Duration::from_secs(5)))));
    let run = start(&trial, &state);
    while trial.s3.uploads().len() < 3 {
        thread::sleep(Duration::from_millis(10));
    }
    run.signal("-KILL");
    run.end();
    trial.s3.clear_rules();
    next_run(&trial, &state);
    trial.assert_same();
    let mut unfinished = open_uploads(&trial);
    unfinished.sort();
    assert_eq!(unfinished, ["www/d/large", "www/d/large2"], "uploads of other programs stay");
}

#[test]
fn failed_abort_is_retried_by_the_next_run() {
    let trial = with_a_large_file();
    let state = state(&trial);
    kill_in_the_middle(&trial, &state);
    trial.remove("d/large");
    trial.write("another", "1");
    Trial::settle();
    trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).always().does(Fault::status(403, "AccessDenied")));
    let ended = next_run(&trial, &state);
    assert!(ended.stderr.contains("cannot abort"), "{}", ended.stderr);
    trial.s3.clear_rules();
    next_run(&trial, &state);
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn failed_abort_is_retried_although_the_file_was_uploaded_again() {
    let trial = with_a_large_file();
    let state = state(&trial);
    kill_in_the_middle(&trial, &state);
    trial.write("d/large", random(51 * MIB));
    trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).always().does(Fault::status(403, "AccessDenied")));
    next_run(&trial, &state);
    trial.assert_same();
    assert_eq!(open_uploads(&trial), ["www/d/large"]);
    trial.s3.clear_rules();
    next_run(&trial, &state);
    assert_eq!(open_uploads(&trial), [""; 0]);
}

/// A run over other keys finds the upload of a killed run if the key is one of its own, and leaves it alone if not.
#[test]
fn an_upload_of_a_killed_run_is_resumed_whatever_its_key_range() {
    let (all, around, before) = (&[][..], &["--range-to", "e"][..], &["--range-to", "c"][..]);
    for (killed, next, is_resumed) in
        [(around, all, true), (all, around, true), (around, &["--range-after", "d"], true), (all, before, false)]
    {
        let trial = with_a_large_file();
        let state = state(&trial);
        trial.s3.rule(Rule::on(Operation::UploadPart).skip(4).always().does(Fault::Stall(Duration::from_mins(1))));
        let run = trial.start(&[&IN_PARTS[..], &["--state", &state], killed].concat());
        trial.wait_for_requests(Operation::UploadPart, 10);
        run.signal("-KILL");
        run.end();
        trial.s3.clear_rules();
        trial.s3.clear_log();
        thread::sleep(Duration::from_millis(2200));
        trial.sync(&[&IN_PARTS[..4], &["--state", &state], next].concat()).expect(0);
        let requests = (trial.count(Operation::ListParts), trial.count(Operation::UploadPart));
        assert_eq!(requests, if is_resumed { (1, 6) } else { (0, 0) }, "{killed:?}, then {next:?}");
        assert_eq!(open_uploads(&trial).len(), usize::from(!is_resumed), "{killed:?}, then {next:?}");
        // A key range that does not have the key left the record for the next run.
        trial.sync(&[&IN_PARTS[..4], &["--state", &state]].concat()).expect(0);
        trial.assert_same();
        assert_eq!(open_uploads(&trial), [""; 0], "{killed:?}, then {next:?}");
    }
}

#[test]
fn damaged_record_is_deleted() {
    let trial = with_a_large_file();
    let state = state(&trial);
    kill_in_the_middle(&trial, &state);
    let mut folders = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|path| path.to_string_lossy().ends_with("uploads")).unwrap();
    for record in fs::read_dir(&folder).unwrap() {
        fs::write(record.unwrap().path(), "{").unwrap();
    }
    let ended = next_run(&trial, &state);
    assert!(ended.stderr.contains("the record of an upload is damaged"), "{}", ended.stderr);
    trial.assert_same();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// The number of runs to kill; a longer suite sets more.
fn kills() -> usize {
    std::env::var("EFS2S3_KILLS").map_or(10, |text| text.parse().unwrap())
}

#[test]
fn one_clean_run_after_any_number_of_kills_completes_the_sync_and_leaves_no_upload() {
    let seed = std::env::var("EFS2S3_KILL_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    let in_the_middle: usize = thread::scope(|scope| {
        let schedules = (0..8).map(|schedule| scope.spawn(move || kill_repeatedly(seed.wrapping_add(schedule))));
        schedules.collect::<Vec<_>>().into_iter().map(|schedule| schedule.join().unwrap()).sum()
    });
    assert!(in_the_middle > 0, "no run was killed in the middle of an upload");
}

/// Returns how many of the runs left an unfinished upload.
fn kill_repeatedly(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let trial = Trial::new();
    let state = state(&trial);
    let (mut files, mut in_the_middle) = (BTreeMap::new(), 0);
    let slowly = Fault::Delay(Duration::from_millis(30));
    trial.s3.rule(Rule::on(WRITES).always().does(slowly));
    for _ in 0..kills() {
        for _ in 0..random.usize(1..8) {
            let name = format!("d{}/f{}", random.u8(0..3), random.u8(0..12));
            if random.u8(0..4) == 0 && files.remove(&name).is_some() {
                trial.remove(&name);
            } else {
                let size = if random.u8(0..3) == 0 { 6 * MIB } else { random.usize(0..9000) };
                let content = vec![random.u8(..); size];
                trial.write(&name, &content);
                files.insert(name, content);
            }
        }
        let run = start(&trial, &state);
        thread::sleep(Duration::from_millis(random.u64(0..2500)));
        run.signal("-KILL");
        run.end();
        in_the_middle += usize::from(!open_uploads(&trial).is_empty());
        // No object is torn: each holds the whole content of this or of an earlier version.
        for (name, body) in trial.objects() {
            let whole = body.first().map(|&byte| vec![byte; body.len()]).unwrap_or_default();
            assert!(body == whole, "{name} is torn (EFS2S3_KILL_SEED={seed})");
        }
        thread::sleep(Duration::from_millis(u64::from(random.u8(0..2)) * 2300));
    }
    Trial::settle();
    next_run(&trial, &state);
    trial.assert_same();
    assert_eq!(open_uploads(&trial), [""; 0], "EFS2S3_KILL_SEED={seed}");
    trial.s3.clear_log();
    next_run(&trial, &state);
    assert_eq!(trial.count(WRITES), 0);
    in_the_middle
}
