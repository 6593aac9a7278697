//! Output that no process reads: a full pipe as stderr or stdout stops neither a run nor a stop request.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};
use rustix::fs::OFlags;

use crate::trial::{Run, Trial, wait_until};

const PLAIN: [&str; 3] = ["s3://site/www", "--mode", "plain"];

/// Creates a full pipe, which no process reads until the test reads from this file.
fn full_pipe(trial: &Trial) -> fs::File {
    let path = trial.folder.path().join("full");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut pipe = fs::File::options().read(true).write(true).custom_flags(flags).open(path).unwrap();
    loop {
        match pipe.write(b"\n") {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return pipe,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Starts the program with the full pipe in place of one of its descriptors.
fn start(trial: &Trial, descriptor: u32, words: &[&str]) -> Run {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec \"$@\" {descriptor}<>full"), "bash", env!("CARGO_BIN_EXE_efs2s3")]).args(words);
    // All failures are logged.
    trial.spawn(command, &[("RUST_LOG", "efs2s3=debug")])
}

#[test]
fn a_run_completes_although_no_process_reads_stderr() {
    let trial = Trial::new();
    for number in 0..20 {
        trial.write(format!("f{number}"), number.to_string());
    }
    // A line in the log.
    trial.write_raw_name(b"name-\xff", b"x");
    let pipe = full_pipe(&trial);
    let (source, state) = (trial.tree().display().to_string(), ["--state", "state", "--progress", "always"]);
    let run = start(&trial, 2, &[&["sync", &source][..], &PLAIN, &state].concat()).end();
    assert_eq!((run.code, run.report["exit_code"].as_u64()), (3, Some(3)), "{}", run.report);
    assert_eq!(trial.names().len(), 20);
    // The lease is released.
    trial.sync(&["--state", "state"]).expect(3);
    drop(pipe);
}

#[test]
fn a_stop_request_is_taken_although_no_process_reads_stderr() {
    let trial = Trial::new();
    for number in 0..50 {
        trial.write(format!("f{number}"), number.to_string());
    }
    let slow = Fault::before(|| thread::sleep(Duration::from_millis(300)));
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(slow));
    let pipe = full_pipe(&trial);
    let source = trial.tree().display().to_string();
    let run = start(&trial, 2, &[&["sync", &source][..], &PLAIN, &["--concurrency", "2"]].concat());
    trial.wait_for_requests(Operation::PutObject, 3);
    run.signal("-TERM");
    let run = run.end();
    assert_eq!((run.code, run.report["exit_code"].as_u64()), (143, Some(143)), "{}", run.report);
    assert!(run.counted("skipped") > 0, "{}", run.report);
    run.assert_adds_up();
    drop(pipe);
}

#[test]
fn a_second_signal_exits_although_no_process_reads_stderr() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::Stall(Duration::from_mins(2))));
    let pipe = full_pipe(&trial);
    let source = trial.tree().display().to_string();
    let run = start(&trial, 2, &[&["sync", &source][..], &PLAIN].concat());
    trial.wait_for_requests(Operation::PutObject, 1);
    run.signal("-TERM");
    // The kernel drops a signal that is already pending.
    run.signal("-INT");
    let run = run.end();
    assert!([130, 143].contains(&run.code), "{}", run.code);
    assert!(run.report.is_null(), "the process exits before it writes a report: {}", run.report);
    drop(pipe);
}

#[test]
fn log_lines_that_no_process_reads_are_dropped_and_counted() {
    let trial = Trial::new();
    for number in 0..15_000 {
        let name = [format!("{number:06}").as_bytes(), &[0xff; 200]].concat();
        trial.write_raw_name(&name, b"");
    }
    trial.write("last", "1");
    let pipe = full_pipe(&trial);
    trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::Delay(Duration::from_secs(2))));
    let source = trial.tree().display().to_string();
    let run = start(&trial, 2, &[&["sync", &source][..], &PLAIN].concat());
    // The walk has logged its failures before the last file is stored.
    trial.wait_for_requests(Operation::PutObject, 1);
    let path = trial.folder.path().join("full");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        // Ends when the program and this test have closed the pipe.
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    drop(pipe);
    assert_eq!(run.end().code, 3);
    let log = reading.join().unwrap();
    assert!(log.contains("dropped the oldest log lines"), "{} bytes", log.len());
    assert!(log.contains("1 uploaded"), "the newest lines are kept");
}

#[test]
fn a_stop_request_ends_every_command_whose_results_no_process_reads() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("orphan", "o", Duration::from_secs(1000));
    let pipe = full_pipe(&trial);
    let source = trial.tree().display().to_string();
    let report = trial.folder.path().join("report").display().to_string();
    trial.sync_to("s3://site/other", &["--report", &report]).expect(0);
    let tree = source.as_str();
    for words in [
        &["plan", tree, "s3://site/www", "--mode", "plain", "--exit-code"][..],
        &["plan", tree, "s3://site/www", "--mode", "plain", "-o", "/dev/stdout"],
        &["sync", tree, "s3://site/www", "--mode", "plain", "--dry-run"],
        &["verify", tree, "s3://site/www", "--mode", "plain"],
        &["verify", tree, "s3://site/other", "--mode", "plain", "--report", "-"],
        &["ranges", tree, "s3://site/www", "--mode", "plain", "--count", "2"],
        &["report", "merge", "--report", "-", &report],
    ] {
        let run = start(&trial, 1, words);
        wait_until(&format!("a thread waits for the reader: {words:?}"), || waits_for_reader(&run));
        run.signal("-TERM");
        assert_eq!(run.end().code, 143, "{words:?}");
    }
    drop(pipe);
}

/// Whether a thread of the program is in the system call `write`, `poll` or `ppoll`, on x86-64 or on Arm.
fn waits_for_reader(run: &Run) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", run.pid())).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let call = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        ["1 0x", "64 0x", "7 0x", "271 0x", "73 0x"].iter().any(|write| call.starts_with(write))
    })
}
