//! A folder of the state that disappears while a run uses it: the run creates nothing in its place.

use std::fs;
use std::process::Command;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};

use crate::trial::{FinishedRun, Run, Trial, wait_until};

/// Short times: the run stops soon after the folder has disappeared.
const OPTIONS: [&str; 7] = ["--delete", "--lease-ttl", "2s", "--outage-timeout", "2s", "--concurrency", "2"];

/// A trial whose uploads take long.
fn slow() -> Trial {
    let trial = Trial::new();
    for number in 0..200 {
        trial.write(format!("f{number:03}"), "content");
    }
    let each = Fault::Delay(Duration::from_millis(200));
    trial.s3.rule(Rule::on(Operation::PutObject).key_contains("www/").always().does(each));
    trial
}

/// Lets the folder disappear once the run uploads.
fn ended(trial: &Trial, run: Run, disappear: impl FnOnce()) -> FinishedRun {
    wait_until("the run uploads", || trial.count(Operation::PutObject) > 0);
    disappear();
    let run = run.end().expect(11);
    let error = run.report["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("cannot renew the lease for "), "{error}");
    for other in ["does not respond", "--outage-timeout", "Check that this user"] {
        assert!(!error.contains(other), "{other}: {error}");
    }
    run
}

fn is_report(name: &str) -> bool {
    name.starts_with("runs")
}

#[test]
fn a_folder_of_the_state_that_disappears_is_not_created_again() {
    let trial = slow();
    let (state, moved) = (trial.folder.path().join("state"), trial.folder.path().join("moved"));
    let text = state.display().to_string();
    let options = [&OPTIONS[..], &["--state", &text]].concat();
    let run = ended(&trial, trial.start(&options), || fs::rename(&state, &moved).unwrap());
    assert!(!state.exists(), "no report and no lock");
    let gone = format!("the folder of the state, {text}, no longer exists: restore or remount it, then run again");
    assert!(run.report["error"].as_str().unwrap().ends_with(&gone), "{}", run.report["error"]);
    assert!(!run.stderr.contains("Check that this user"), "{}", run.stderr);
    // The records are there for the next run.
    let names = || fs::read_dir(&moved).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names().any(|name| name.ends_with("lease.json")) && !names().any(|name| is_report(&name)));
    fs::rename(&moved, &state).unwrap();
    trial.s3.clear_rules();
    let free = || trial.sync(&["--state", &text]).code == 0;
    wait_until("the lease has expired", free);
    trial.assert_same();
}

#[test]
fn nothing_is_written_below_a_state_that_is_no_longer_mounted() {
    let script = "mkdir state && mount -t tmpfs none state || exit 77
        (while ! test -e unmount; do sleep 0.05; done; umount -l state; : >unmounted) </dev/null >/dev/null 2>&1 &
        exec \"$@\"";
    let trial = slow();
    let at = |name: &str| trial.folder.path().join(name);
    let (tree, text) = (trial.tree().display().to_string(), at("state").display().to_string());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_efs2s3"), "sync", &tree, "s3://site/www"]);
    command.args(OPTIONS).args(["--state", &text]);
    let may_mount = Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]).status();
    if !may_mount.is_ok_and(|status| status.success()) {
        return;
    }
    let run = ended(&trial, trial.spawn(command, &[]), || {
        fs::write(at("unmount"), "").unwrap();
        wait_until("the state is unmounted", || at("unmounted").exists());
    });
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains(&format!("the folder of the state, {text}, is now on another file system")), "{error}");
    assert_eq!(fs::read_dir(at("state")).unwrap().count(), 0, "the bare mount point stays empty");
}
