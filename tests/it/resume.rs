//! Uploads that a run left when it was killed: gone on with, or aborted; and runs killed at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{Ended, Run, Trial, WRITES};

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

/// Kills a run that has sent some of the parts.
fn kill_in_the_middle(trial: &Trial, state: &str) {
    trial.s3.rule(Rule::on(Operation::UploadPart).skip(4).always().does(Fault::Stall(Duration::from_mins(1))));
    let run = start(trial, state);
    trial.await_requests(Operation::UploadPart, 10);
    run.signal("-KILL");
    run.end();
    trial.s3.clear_rules();
    trial.s3.clear_log();
}

/// The next run, once the lease of the one that was killed is over. Its own lasts, however busy the machine is: a run that is
/// late leaves its records to the next one.
fn next_run(trial: &Trial, state: &str) -> Ended {
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
fn the_next_run_goes_on_with_what_a_killed_one_left_and_sends_only_what_is_missing() {
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
        assert_eq!(trial.count(Operation::UploadPart), 6, "four were there");
        assert_eq!(trial.count(Operation::CreateMultipartUpload), 0);
        assert_eq!(ended.report["requests"]["list_parts"], 1);
        let mut left = open_uploads(&trial);
        left.sort();
        assert_eq!(left, ["www/d/large", "www/other"], "somebody else's stay");
        trial.s3.clear_log();
        start(&trial, &state).end().expect(0);
        assert_eq!(trial.count([Operation::ListParts, Operation::AbortMultipartUpload]), 0, "struck out");
    }
}

#[test]
fn an_upload_of_a_file_that_changed_is_aborted_and_begun_anew() {
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
fn an_upload_with_other_headers_is_aborted_and_begun_anew() {
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
fn an_upload_of_a_file_that_is_gone_is_aborted() {
    let trial = with_a_large_file();
    trial.write("another", "1");
    kill_in_the_middle(&trial, &state(&trial));
    trial.remove("d/large");
    next_run(&trial, &state(&trial));
    trial.assert_same();
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn an_upload_whose_id_nobody_heard_of_is_found_and_aborted() {
    let trial = with_a_large_file();
    let state = state(&trial);
    trial.s3.seed_upload("site", "www/d/large", Duration::from_hours(1));
    trial.s3.seed_upload("site", "www/d/large2", Duration::ZERO);
    // Created, and the answer never comes.
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
    let mut left = open_uploads(&trial);
    left.sort();
    assert_eq!(left, ["www/d/large", "www/d/large2"], "those are somebody else's");
}

#[test]
fn an_upload_that_cannot_be_aborted_is_tried_again_by_the_next_run() {
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
    start(&trial, &state).end().expect(0);
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn an_upload_that_cannot_be_aborted_is_remembered_although_its_file_is_sent_anew() {
    let trial = with_a_large_file();
    let state = state(&trial);
    kill_in_the_middle(&trial, &state);
    trial.write("d/large", random(51 * MIB));
    trial.s3.rule(Rule::on(Operation::AbortMultipartUpload).always().does(Fault::status(403, "AccessDenied")));
    next_run(&trial, &state);
    trial.assert_same();
    assert_eq!(open_uploads(&trial), ["www/d/large"]);
    trial.s3.clear_rules();
    start(&trial, &state).end().expect(0);
    assert_eq!(open_uploads(&trial), [""; 0]);
}

#[test]
fn a_damaged_record_is_struck_out() {
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

/// How many runs are killed; a longer suite sets more.
fn kills() -> usize {
    std::env::var("EFS2S3_KILLS").map_or(10, |text| text.parse().unwrap())
}

#[test]
fn after_any_number_of_kills_one_clean_run_makes_it_right_and_leaves_no_upload() {
    let seed = std::env::var("EFS2S3_KILL_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    let in_the_middle: usize = thread::scope(|scope| {
        let schedules = (0..8).map(|schedule| scope.spawn(move || killed_again_and_again(seed.wrapping_add(schedule))));
        schedules.collect::<Vec<_>>().into_iter().map(|schedule| schedule.join().unwrap()).sum()
    });
    assert!(in_the_middle > 0, "no run was killed in the middle of an upload");
}

/// How many of the runs left an upload.
fn killed_again_and_again(seed: u64) -> usize {
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
        // Nothing that is at the destination is torn: each object is whole, of this or of an earlier version.
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
    start(&trial, &state).end().expect(0);
    assert_eq!(trial.count(WRITES), 0);
    in_the_middle
}
