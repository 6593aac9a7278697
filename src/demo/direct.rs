//! The direct sync in plain mode: a first sync, nothing to do, a day of edits, and two mistakes that delete nothing.

use serde_json::Value;

use super::stage::{DemoError, Expected, Stage, ensure};
use super::tree;

/// Tells it.
pub(super) fn tell(stage: &mut Stage) -> Result<(), DemoError> {
    let files = stage.tree.files();
    stage.say(&format!("A site's assets: {files} files in {} folders, served from an S3 bucket.", tree::FOLDERS))?;

    stage.title("First sync: everything goes up, one large file in parts")?;
    stage.step(&["sync", "--delete"], &Expected { exit_code: 0, counts: &[("uploaded", files), ("failed", 0)] })?;
    stage.matches()?;

    stage.title("Nothing changed: a listing, and no request a file")?;
    let report = stage
        .step(&["sync", "--delete"], &Expected { exit_code: 0, counts: &[("unchanged", files), ("uploaded", 0)] })?;
    let requests =
        |name: &str| report.pointer(&format!("/requests/{name}")).and_then(Value::as_u64).unwrap_or(u64::MAX);
    ensure(
        requests("put") + requests("head") + requests("get") == 0,
        "a run with nothing to do asked for single objects",
    )?;

    stage.title("An editor's day: pages changed, one restored with its old date, one only touched, a folder renamed, some deleted")?;
    let day = stage.tree.edit()?;
    stage.say("What would be done (`plan` writes nothing):")?;
    stage.step(
        &["plan", "--delete"],
        &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
    )?;
    stage.step(
        &["sync", "--delete"],
        &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
    )?;
    stage.matches()?;

    stage.title("A folder with half of the site is moved away by mistake: no mass deletion")?;
    let lost = stage.tree.lose_images()?;
    stage.step(
        &["sync", "--delete"],
        &Expected { exit_code: 3, counts: &[("deleted", 0), ("deletes_withheld", lost)] },
    )?;
    stage.say("It was meant? Then with the flag that the message names:")?;
    stage.step(
        &["sync", "--delete", "--max-delete", &lost.to_string()],
        &Expected { exit_code: 0, counts: &[("deleted", lost)] },
    )?;
    stage.matches()?;

    stage.title("The file system is not mounted: the folder is there, and empty")?;
    stage.tree.unmount()?;
    let objects = stage.server.keys(stage.bucket, "").len();
    stage.step(&["sync", "--delete", "--max-delete", "100%"], &Expected { exit_code: 3, counts: &[("deleted", 0)] })?;
    ensure(stage.server.keys(stage.bucket, "").len() == objects, "an empty source deleted something")?;
    stage.say(&format!("\nAll {objects} objects are still there."))
}
