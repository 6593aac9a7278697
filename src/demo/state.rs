//! A sync with a state: an object that another writer replaced, a killed run, a plan that the user reviews, and a
//! verification.

use std::path::Path;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule, Seed};

use super::stage::{DemoError, Expected, Stage, ensure, settle};

const LARGE_BYTES: usize = 24 << 20;
const IN_PARTS: [&str; 6] = ["--part-size", "5MiB", "--multipart-threshold", "5MiB", "--lease-ttl", "1s"];

pub(super) fn run(stage: &mut Stage) -> Result<(), DemoError> {
    let state_folder = stage.beside("state");
    let with_state = ["--delete", "--state", &state_folder];
    let files = stage.tree.files();
    stage
        .print("\n\nThe same site with a state, in which runs keep an index of the objects, a lease and their unfinished uploads.")?;
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", files)] })?;

    settle();
    stage.title("Another writer replaces an object by one of the same size: the run sees it in the listing")?;
    let key = stage.server.keys(stage.bucket, "www/").into_iter().find(|key| is_page(key)).unwrap_or_default();
    let size = stage.server.body(stage.bucket, &key).map_or(0, |body| body.len());
    stage.server.put(stage.bucket, &key, vec![b'x'; size], Seed::default());
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", 1)] })?;
    stage.matches()?;

    stage.title("A run is killed in the middle of a large upload: the next run uploads only the missing parts")?;
    std::fs::write(stage.tree.root().join("film.mp4"), vec![7; LARGE_BYTES])?;
    let hang = Fault::Stall(Duration::from_secs(30));
    stage.server.rule(Rule::on(Operation::UploadPart).skip(3).always().does(hang));
    let in_parts = [&["sync"], &with_state[..], &IN_PARTS[..]].concat();
    let (server, before) = (stage.server.clone(), stage.server.count(Operation::UploadPart));
    stage.kill_when(&in_parts, move || server.count(Operation::UploadPart) >= before + 5)?;
    stage.server.clear_rules();
    std::thread::sleep(Duration::from_millis(2500));
    let report = stage.step(&in_parts, &Expected { exit_code: 0, counts: &[("uploaded", 1)] })?;
    let sent = report.pointer("/requests/upload_part").and_then(serde_json::Value::as_u64);
    ensure(sent == Some(2) && stage.server.uploads().is_empty(), "the run uploaded parts that S3 already had")?;
    stage.matches()?;

    settle();
    stage.title("The user reviews a plan and applies it: `apply` skips a file that has changed since")?;
    let plan = stage.beside("plan.jsonl");
    let pages = stage.tree.contents()?.into_keys().filter(|name| is_page(name)).take(2).collect::<Vec<_>>();
    let [first, second] = pages.as_slice() else {
        return Err(DemoError::Unexpected("no pages".to_owned()));
    };
    std::fs::write(stage.tree.root().join(first), "<p>reviewed</p>")?;
    std::fs::write(stage.tree.root().join(second), "<p>reviewed</p>")?;
    stage.step(&["plan", "--delete", "-o", &plan], &Expected { exit_code: 0, counts: &[("uploaded", 2)] })?;
    std::fs::write(stage.tree.root().join(second), "<p>not reviewed</p>")?;
    let refused = Expected { exit_code: 3, counts: &[("uploaded", 1), ("failed", 1)] };
    stage.program(&format!("apply {plan}"), &["apply", &plan], &[], &refused)?;

    settle();
    stage.title("`verify` reads every file and downloads no object")?;
    let objects = stage.server.keys(stage.bucket, "www/").len();
    stage.step(&["verify", "--delete"], &Expected { exit_code: 10, counts: &[("uploaded", 1)] })?;
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", 1)] })?;
    stage.step(&["verify", "--delete"], &Expected { exit_code: 0, counts: &[("failed", 0)] })?;
    stage.print(&format!("\nVerified {objects} objects."))
}

fn is_page(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "html")
}
