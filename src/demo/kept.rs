//! Nothing lost: a state that sees what was replaced, a killed run whose upload is gone on with, a plan that is looked at
//! before it is applied, and a verification of everything.

use std::path::Path;
use std::time::Duration;

use super::stage::{DemoError, Expected, Stage, ensure, settle};
use fake_aws::s3::{Fault, Operation, Rule, Seed};

const LARGE_BYTES: usize = 24 << 20;
const IN_PARTS: [&str; 6] = ["--part-size", "5MiB", "--multipart-threshold", "5MiB", "--lease-ttl", "1s"];

/// Tells it.
pub(super) fn tell(stage: &mut Stage) -> Result<(), DemoError> {
    let memory = stage.beside("state");
    let with_state = ["--delete", "--state", &memory];
    let files = stage.tree.files();
    stage
        .say("\n\nThe same site once more, with a state: what each object held, who writes, and what is under way.")?;
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", files)] })?;

    settle();
    stage.title("Somebody replaces an object by another one of the same size: the plain listing tells")?;
    let key = stage.server.keys(stage.bucket, "www/").into_iter().find(|key| is_page(key)).unwrap_or_default();
    let size = stage.server.body(stage.bucket, &key).map_or(0, |body| body.len());
    stage.server.put(stage.bucket, &key, vec![b'x'; size], Seed::default());
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", 1)] })?;
    stage.matches()?;

    stage.title("A run is killed in the middle of a large upload: the next one sends only what is missing")?;
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
    ensure(sent == Some(2) && stage.server.uploads().is_empty(), "parts that were there were sent again")?;
    stage.matches()?;

    settle();
    stage.title("A plan is looked at, and applied; what changes in between is refused")?;
    let plan = stage.beside("plan.jsonl");
    let pages = stage.tree.contents()?.into_keys().filter(|name| is_page(name)).take(2).collect::<Vec<_>>();
    let [first, second] = pages.as_slice() else {
        return Err(DemoError::Unexpected("no pages".to_owned()));
    };
    std::fs::write(stage.tree.root().join(first), "<p>reviewed</p>")?;
    std::fs::write(stage.tree.root().join(second), "<p>reviewed</p>")?;
    stage.step(&["plan", "--delete", "-o", &plan], &Expected { exit_code: 0, counts: &[("uploaded", 2)] })?;
    std::fs::write(stage.tree.root().join(second), "<p>not seen by anybody</p>")?;
    let refused = Expected { exit_code: 3, counts: &[("uploaded", 1), ("failed", 1)] };
    stage.program(&format!("apply {plan}"), &["apply", &plan], &[], &refused)?;

    settle();
    stage.title("Is everything there? Every file is read, no object is")?;
    let objects = stage.server.keys(stage.bucket, "www/").len();
    stage.step(&["verify", "--delete"], &Expected { exit_code: 10, counts: &[("uploaded", 1)] })?;
    stage.step(&[&["sync"], &with_state[..]].concat(), &Expected { exit_code: 0, counts: &[("uploaded", 1)] })?;
    stage.step(&["verify", "--delete"], &Expected { exit_code: 0, counts: &[("failed", 0)] })?;
    stage.say(&format!("\n{objects} objects, each verified."))
}

fn is_page(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "html")
}
