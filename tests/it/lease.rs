//! The lease: two runs on one destination, and a lease that is lost, damaged or cannot be stored.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::datasync::DataSyncServer;
use fake_aws::s3::{ConditionalWrites, Fault, Operation, Reply, Rule, S3Server};

use crate::odd_fs::{Fault as SourceFault, OddFs};
use crate::trial::{FinishedRun, Trial, WRITES, wait_until};

/// Places for a state: a directory next to the tree, and a prefix of another bucket.
fn homes(trial: &Trial) -> [String; 2] {
    trial.s3.create_bucket("state");
    [trial.folder.path().join("state").display().to_string(), "s3://state/of/efs2s3".to_owned()]
}

/// A trial with this many files. Each upload takes `each`.
fn slow(files: usize, each: Duration) -> Trial {
    let trial = Trial::new();
    for number in 0..files {
        trial.write(format!("f{number:02}"), "old");
    }
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/").always().does(Fault::Delay(each)));
    trial
}

/// The number of PutObject requests below `www/`.
fn uploads(server: &S3Server) -> usize {
    server.requests(Operation::PutObject).iter().filter(|request| request.key.starts_with("www/")).count()
}

/// Repeats the run while another run holds the lease.
fn sync_when_free(trial: &Trial, options: &[&str]) -> FinishedRun {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let run = trial.sync(options);
        if run.code != 11 || Instant::now() > deadline {
            return run;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn second_run_exits_with_11_and_names_the_lease_holder() {
    for home in 0..2 {
        let trial = slow(24, Duration::from_secs(1));
        let state = homes(&trial)[home].clone();
        let options = ["--state", state.as_str(), "--concurrency", "2", "--delete"];
        let first = trial.start(&options);
        wait_until("the first run uploads", || uploads(&trial.s3) > 0);
        let second = trial.sync(&options).expect(11);
        assert!(uploads(&trial.s3) < 24, "the first run has not ended");
        assert!(second.stderr.contains("process ") && second.stderr.contains("last renewed"), "{}", second.stderr);
        assert_eq!((&second.report["exit_code"], second.counted("files")), (&11.into(), 0), "{state}");
        // A plan takes no lease.
        trial.plan(&[]).expect(0);
        first.end().expect(0);
        trial.assert_same();
        trial.s3.clear_log();
        let third = trial.sync(&options).expect(0);
        for (name, operation) in
            [("put", Operation::PutObject), ("get", Operation::GetObject), ("list", Operation::ListObjectsV2)]
        {
            assert_eq!(
                third.report["requests"][name],
                trial.count(operation),
                "{name}: the state's requests count too"
            );
        }
    }
}

#[test]
fn runs_on_two_destinations_hold_separate_leases() {
    let trial = slow(4, Duration::from_secs(2));
    let state = homes(&trial)[0].clone();
    let first = trial.start(&["--state", &state, "--concurrency", "1"]);
    wait_until("the first run uploads", || uploads(&trial.s3) > 0);
    trial.sync_to("s3://site/elsewhere", &["--state", &state]).expect(0);
    first.end().expect(0);
}

/// Whether the one lease of the state is released.
fn is_released(trial: &Trial, home: &str) -> bool {
    let record = match home.strip_prefix("s3://state/") {
        None => {
            let entries = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
            let lease = entries.into_iter().find(|path| path.to_string_lossy().ends_with(".lease.json"));
            fs::read(lease.unwrap()).unwrap()
        }
        Some(prefix) => {
            let bodies = trial.s3.bodies("state", prefix).into_iter();
            bodies.filter(|(key, _)| key.ends_with(".lease.json")).map(|(_, body)| body.to_vec()).next().unwrap()
        }
    };
    serde_json::from_slice::<serde_json::Value>(&record).unwrap()["released"] == true
}

#[test]
fn a_stop_before_the_source_responds_releases_the_lease() {
    for home in 0..2 {
        let trial = Trial::new();
        let state = homes(&trial)[home].clone();
        let odd = OddFs::mount(&trial.tree(), &["f"], &[("", SourceFault::OpenHangs)]);
        let run = trial.start(&["--state", &state]);
        wait_until("the run opens the source", || odd.hanging() > 0);
        run.signal("-TERM");
        run.wait_for_report();
        // A process ends only after its last system call.
        odd.release();
        run.end().expect(143);
        assert!(is_released(&trial, &state), "{state}");
    }
}

#[test]
fn a_stop_before_the_other_leases_are_read_releases_the_lease() {
    let trial = slow(1, Duration::ZERO);
    let state = homes(&trial)[1].clone();
    let hangs = Fault::Delay(Duration::from_mins(1));
    trial.s3.rule(Rule::on(Operation::ListObjectsV2).always().does(hangs));
    let run = trial.start(&["--state", &state]);
    trial.wait_for_requests(Operation::ListObjectsV2, 1);
    run.signal("-TERM");
    run.end().expect(143);
    assert!(is_released(&trial, &state));
    assert_eq!(uploads(&trial.s3), 0);
}

#[test]
fn lease_of_a_killed_run_is_taken_over_after_its_ttl() {
    for home in 0..2 {
        let trial = slow(12, Duration::from_secs(2));
        let state = homes(&trial)[home].clone();
        let options = ["--state", state.as_str(), "--lease-ttl", "12s", "--delete"];
        let first = trial.start(&options);
        wait_until("the first run uploads", || uploads(&trial.s3) > 0);
        first.signal("-KILL");
        trial.s3.clear_rules();
        trial.sync(&options).expect(11);
        sync_when_free(&trial, &options).expect(0);
        trial.assert_same();
        drop(first);
    }
}

#[test]
fn suspended_run_writes_nothing_after_its_lease_has_expired() {
    for home in 0..2 {
        let trial = slow(40, Duration::from_millis(300));
        let state = homes(&trial)[home].clone();
        let options = ["--state", state.as_str(), "--lease-ttl", "3s", "--concurrency", "2", "--delete"];
        let first = trial.start(&options);
        wait_until("the first run uploads", || uploads(&trial.s3) >= 4);
        first.signal("-STOP");
        thread::sleep(Duration::from_secs(1));
        trial.s3.clear_rules();
        for number in 0..40 {
            trial.write(format!("f{number:02}"), "new one");
        }
        sync_when_free(&trial, &options).expect(0);
        trial.assert_same();
        trial.s3.clear_log();
        first.signal("-CONT");
        let woken = first.end().expect(11);
        assert_eq!(woken.report["exit_code"], 11);
        let error = woken.report["error"].as_str().unwrap();
        assert!(error.contains("another run took over the lease"), "{error}");
        assert_eq!(uploads(&trial.s3), 0, "{state}");
        assert_eq!(trial.count([Operation::DeleteObject, Operation::DeleteObjects, Operation::CopyObject]), 0);
        trial.assert_same();
    }
}

#[test]
fn run_that_cannot_renew_its_lease_stops_with_exit_code_11() {
    let trial = slow(200, Duration::from_millis(200));
    let state = homes(&trial)[1].clone();
    let first = trial.start(&["--state", &state, "--lease-ttl", "2s", "--concurrency", "2"]);
    wait_until("the first run uploads", || uploads(&trial.s3) > 0);
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("of/efs2s3").always().does(denied));
    let run = first.end().expect(11);
    assert!(run.stderr.contains("lease"), "{}", run.stderr);
    assert!(run.counted("uploaded") < 200);
    run.assert_adds_up();
    let error = run.report["error"].as_str().unwrap();
    for part in
        ["cannot renew the lease for", "PutObject: AccessDenied", "another run may take the lease over", "longer"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!run.stderr.contains("stop request"), "{}", run.stderr);
}

#[test]
fn run_outlasts_an_outage_longer_than_its_lease_and_writes_nothing_meanwhile() {
    let ttl = Duration::from_secs(2);
    let trial = slow(60, Duration::from_millis(200));
    let state = homes(&trial)[1].clone();
    let options = ["--state", &state, "--lease-ttl", "2s", "--concurrency", "2", "--outage-timeout", "1m"];
    let first = trial.start(&options);
    wait_until("the first run uploads", || uploads(&trial.s3) > 0);
    let away = Rule::on(Operation::PutObject).key_contains("lease.json").always();
    let away = away.during(|time| time < Duration::from_secs(8));
    trial.s3.rule(away.does(Fault::status(503, "ServiceUnavailable")));
    let run = first.end().expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("failed")), (60, 0));
    assert!(run.stderr.contains("writing nothing until it is renewed"), "{}", run.stderr);
    let puts = trial.s3.requests(Operation::PutObject);
    let renewals = puts.iter().filter(|put| put.key.ends_with("lease.json") && put.status == 200);
    let renewals: Vec<_> = renewals.map(|put| put.at).collect();
    let gap =
        renewals.windows(2).map(|pair| (pair[0], pair[1])).max_by_key(|(from, to)| to.duration_since(*from).unwrap());
    let (from, to) = gap.unwrap();
    assert!(to.duration_since(from).unwrap() > 2 * ttl);
    let uploads = puts.iter().filter(|put| put.key.starts_with("www/"));
    let (while_expired, after): (Vec<_>, Vec<_>) =
        uploads.map(|put| put.at).filter(|at| *at > from + ttl + Duration::from_secs(3)).partition(|at| *at < to);
    assert!(while_expired.is_empty() && !after.is_empty(), "{while_expired:?} {after:?}");
}

#[test]
fn a_renewal_without_its_response_does_not_count_as_a_take_over() {
    let trial = slow(40, Duration::from_millis(200));
    let state = homes(&trial)[1].clone();
    let options = ["--state", &state, "--lease-ttl", "3s", "--concurrency", "2", "--retries", "0"];
    let first = trial.start(&options);
    wait_until("the first run uploads", || uploads(&trial.s3) > 0);
    let lost = Rule::on(Operation::PutObject).key_contains("lease.json");
    trial.s3.rule(lost.does(Fault::ResetAfter));
    let run = first.end().expect(0);
    assert!(run.stderr.contains("cannot renew the lease: trying again"), "{}", run.stderr);
    assert_eq!(run.counted("uploaded"), 40);
}

#[test]
fn damaged_lease_counts_as_held_until_its_ttl_has_passed() {
    let trial = slow(0, Duration::ZERO);
    trial.write("a", "1");
    let state = homes(&trial)[0].clone();
    let options = ["--state", state.as_str(), "--lease-ttl", "12s"];
    trial.sync(&options).expect(0);
    let mut files = fs::read_dir(&state).unwrap().flatten().map(|entry| entry.path());
    let lease = files.find(|path| path.to_str().unwrap().ends_with("lease.json")).unwrap();
    fs::write(&lease, "{\"schema\":").unwrap();
    let run = trial.sync(&options).expect(11);
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    sync_when_free(&trial, &options).expect(0);
}

#[test]
fn run_refuses_a_state_on_a_server_without_conditional_writes() {
    let trial = slow(1, Duration::ZERO);
    trial.s3.settings(|settings| settings.conditional_writes = ConditionalWrites::NotImplemented);
    let state = homes(&trial)[1].clone();
    let run = trial.sync(&["--state", &state]).expect(1);
    assert!(run.stderr.contains("keep the state in a folder"), "{}", run.stderr);
    assert_eq!(uploads(&trial.s3), 0);
}

/// The run has taken the lease, and the server of the state then refuses all writes: the probes, and the renewals.
#[test]
fn a_state_that_fails_before_the_work_starts_is_exit_code_1() {
    let trial = slow(1, Duration::ZERO);
    let state = homes(&trial)[1].clone();
    let fails = Fault::status(500, "InternalError");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("of/efs2s3").skip(1).always().does(fails));
    let run = trial.sync(&["--state", &state, "--lease-ttl", "1s", "--outage-timeout", "3s"]).expect(1);
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("cannot take the lease") || error.contains("cannot renew the lease"), "{error}");
    assert!(error.contains("PutObject: InternalError"), "{error}");
    assert_eq!((&run.report["exit_code"], uploads(&trial.s3)), (&1.into(), 0));
}

#[test]
fn unusable_state_ends_the_run_before_any_upload() {
    let trial = slow(1, Duration::ZERO);
    let run = trial.sync(&["--state", "/proc/no-state"]).expect(1);
    assert!(run.stderr.contains("/proc/no-state"), "{}", run.stderr);
    trial.sync(&["--state", "s3://no-such-bucket/state"]).expect(1);
    for state in ["s3://site/www/state", trial.tree().join("state").to_str().unwrap()] {
        trial.sync(&["--state", state]).expect(2);
    }
    trial.sync(&["--state", "/tmp/x", "--lease-ttl", "10ms"]).expect(2);
    assert_eq!(uploads(&trial.s3), 0);
}

#[test]
fn run_holds_its_lease_while_it_polls_datasync() {
    let trial = Trial::new();
    trial.write("a", "1");
    let state = homes(&trial)[0].clone();
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| {
        service.script = vec![("TRANSFERRING", Duration::from_secs(15)), ("SUCCESS", Duration::ZERO)];
    });
    let first = trial.start_run(&datasync, &["--state", &state, "--stall-timeout", "1m", "--timeout", "2m"]);
    wait_until("the run polls", || datasync.count("DescribeTaskExecution") > 0);
    let second = trial.run(&datasync, &["--state", &state]).expect(11);
    assert!(second.stderr.contains("another run"), "{}", second.stderr);
    assert_eq!(trial.count(WRITES), 0);
    first.end().expect(0);
    datasync.change(|service| service.script = vec![("SUCCESS", Duration::ZERO)]);
    trial.run(&datasync, &["--state", &state]).expect(0);
}

#[test]
fn state_on_a_server_that_ignores_conditions_is_refused() {
    let trial = slow(1, Duration::ZERO);
    trial.s3.settings(|settings| settings.conditional_writes = ConditionalWrites::Ignored);
    let [folder, state] = homes(&trial);
    for attempt in 0..2 {
        let run = trial.sync(&["--state", &state]).expect(1);
        for part in ["conditional writes", "If-None-Match", "'state'", "keep the state in a folder"] {
            assert!(run.stderr.contains(part), "{attempt} {part}: {}", run.stderr);
        }
        assert_eq!(uploads(&trial.s3), 0);
    }
    trial.sync(&["--state", &folder]).expect(0);
}

#[test]
fn state_on_a_server_that_ignores_only_if_match_is_refused() {
    let trial = slow(1, Duration::ZERO);
    let state = homes(&trial)[1].clone();
    let s3 = trial.s3.clone();
    let ignores = move |request: &fake_aws::s3::LoggedRequest| {
        let is_ignored = request.headers.contains_key("if-match");
        s3.settings(|settings| {
            settings.conditional_writes = if is_ignored { ConditionalWrites::Ignored } else { ConditionalWrites::On };
        });
        None
    };
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::custom(ignores)));
    let run = trial.sync(&["--state", &state]).expect(1);
    assert!(run.stderr.contains("If-Match"), "{}", run.stderr);
    assert_eq!(uploads(&trial.s3), 0);
}

#[test]
fn conditional_writes_are_probed_once_for_a_destination() {
    let trial = slow(1, Duration::ZERO);
    let state = homes(&trial)[1].clone();
    let requests = |options: &[&str]| {
        trial.s3.clear_log();
        let options = [&["--state", &state], options].concat();
        let run = trial.sync(&options).expect(0);
        (run.report["requests"]["put"].as_u64().unwrap(), run.report["requests"]["head"].as_u64().unwrap())
    };
    let (first, _) = requests(&[]);
    let what = "the file, the lease taken and released, two probes, the index, the served destination and the report";
    assert_eq!(first, 8, "{what}");
    assert_eq!(requests(&[]), (3, 0), "the lease, taken and released, and the report");
    // The lease of a key range is another one. It finds the proof in the first, and has an index of its own.
    assert_eq!(requests(&["--range-after", "a"]), (4, 0));
}

#[test]
fn an_error_of_the_state_names_its_bucket_and_what_to_do() {
    let trial = slow(1, Duration::ZERO);
    let state = homes(&trial)[1].clone();
    let run = trial.sync(&["--state", "s3://no-such-bucket/state"]).expect(1);
    assert!(run.stderr.contains("the bucket 'no-such-bucket' does not exist: check the name"), "{}", run.stderr);
    let denied = Fault::status(403, "AccessDenied");
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("of/efs2s3").always().does(denied));
    let run = trial.sync(&["--state", &state]).expect(1);
    assert!(run.stderr.contains("'state'") && run.stderr.contains("allow s3:"), "{}", run.stderr);
    let run = trial.sync(&["--state", "/proc/no-state"]).expect(1);
    assert!(run.stderr.contains("/proc/no-state") && run.stderr.contains("Check that"), "{}", run.stderr);
}

#[test]
fn a_lease_on_a_disk_that_became_full_is_released() {
    let trial = Trial::new();
    trial.write("a", "x");
    Trial::settle();
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::Delay(Duration::from_secs(10))));
    fs::create_dir(trial.folder.path().join("state")).unwrap();
    let script = "mount -t tmpfs -o size=256k none state && \"$@\" & run=$!
        until ls state/destinations/*.json; do sleep 0.02; done; sleep 0.2
        dd if=/dev/zero of=state/junk bs=4k
        wait $run; code=$?; ls state > left; exit $code";
    let source = trial.tree().display().to_string();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync", &source]);
    command.args(["s3://site/www", "--mode", "plain", "--state", "state"]);
    let ended = trial.spawn(command, &[]).end().expect(0);
    let left = fs::read_to_string(trial.folder.path().join("left")).unwrap();
    assert!(left.contains("junk") && !left.contains(".lease.json\n"), "{left}: {}", ended.stderr);
}

#[test]
fn a_release_that_fails_takes_only_seconds_and_counts_as_time_of_the_run() {
    let trial = Trial::new();
    trial.write("a", "x");
    let state = homes(&trial)[1].clone();
    let is_stored = trial.s3.clone();
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("lease").always().does(Fault::custom(move |_| {
        let ends = !is_stored.keys("state", "").iter().all(|key| !key.contains("runs/"));
        ends.then(|| Reply { status: 500, headers: Vec::new(), body: String::new().into() })
    })));
    let run = trial.sync(&["--state", &state, "--outage-timeout", "5m"]).expect(0);
    assert!(run.stderr.contains("cannot release the lease: it expires on its own"), "{}", run.stderr);
    assert!(run.time < Duration::from_mins(1), "{:?}", run.time);
    let total = run.report["seconds"]["total"].as_f64().unwrap();
    assert!(total >= 10.0, "the release took 10 s of {total}");
}

#[test]
fn a_run_whose_lease_has_expired_starts_no_execution() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("a", "0", Duration::from_hours(1));
    let state = homes(&trial)[1].clone();
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    // The lease records that the conditional writes work.
    trial.sync(&["--state", &state]).expect(0);
    let away = Rule::on(Operation::PutObject).key_contains("lease.json").skip(1).always();
    trial.s3.rule(away.does(Fault::status(503, "ServiceUnavailable")));
    let slow = Rule::on(Operation::ListObjectsV2).key_matches(|key| !key.contains("efs2s3")).always();
    trial.s3.rule(slow.does(Fault::Delay(Duration::from_secs(4))));
    let run = trial.run(&datasync, &["--state", &state, "--lease-ttl", "2s", "--outage-timeout", "8s"]).expect(11);
    assert!(run.stderr.contains("cannot renew the lease for"), "{}", run.stderr);
    let error = run.report["error"].as_str().unwrap();
    assert_eq!(error.matches("--outage-timeout").count(), 1, "the advice is there once: {error}");
    assert_eq!(datasync.count("StartTaskExecution"), 0, "{}", run.stderr);
}
