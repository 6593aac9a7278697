//! The direct sync in plain mode: a first sync, a run without changes, a day of edits, and two mistakes.

use serde_json::Value;

use super::stage::{DemoError, Expected, Stage, ensure};
use super::tree;

pub(super) fn run(stage: &mut Stage) -> Result<(), DemoError> {
    let files = stage.tree.files();
    stage.print(&format!(
        "The assets of a website: {files} files in {} folders, copied to an S3 bucket.",
        tree::FOLDERS
    ))?;

    stage.title("The first sync uploads everything, the large file in parts")?;
    stage.step(&["sync", "--delete"], &Expected { exit_code: 0, counts: &[("uploaded", files), ("failed", 0)] })?;
    stage.matches()?;

    stage.title("Without changes, a run only lists the bucket")?;
    let report = stage
        .step(&["sync", "--delete"], &Expected { exit_code: 0, counts: &[("unchanged", files), ("uploaded", 0)] })?;
    let requests =
        |name: &str| report.pointer(&format!("/requests/{name}")).and_then(Value::as_u64).unwrap_or(u64::MAX);
    ensure(
        requests("put") + requests("head") + requests("get") == 0,
        "a run without changes sent requests for single objects",
    )?;

    stage.title("A day of edits: pages are changed, restored with their old dates, touched, renamed and deleted")?;
    let day = stage.tree.edit()?;
    stage.print("`plan` shows what a sync would do, and writes nothing:")?;
    stage.step(
        &["plan", "--delete"],
        &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
    )?;
    stage.step(
        &["sync", "--delete"],
        &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
    )?;
    stage.matches()?;

    stage.title("Half of the site is moved away by mistake: a guard withholds the deletes")?;
    let lost = stage.tree.lose_images()?;
    stage.step(
        &["sync", "--delete"],
        &Expected { exit_code: 3, counts: &[("deleted", 0), ("deletes_withheld", lost)] },
    )?;
    stage.print("If the files were moved on purpose, pass the option that the message names:")?;
    stage.step(
        &["sync", "--delete", "--max-delete", &lost.to_string()],
        &Expected { exit_code: 0, counts: &[("deleted", lost)] },
    )?;
    stage.matches()?;

    stage.title("The file system is not mounted, so the source is empty: the run deletes nothing")?;
    stage.tree.unmount()?;
    let objects = stage.server.keys(stage.bucket, "").len();
    stage.step(&["sync", "--delete", "--max-delete", "100%"], &Expected { exit_code: 3, counts: &[("deleted", 0)] })?;
    ensure(
        stage.server.keys(stage.bucket, "").len() == objects,
        "the run deleted objects although the source is empty",
    )?;
    stage.print(&format!("\nAll {objects} objects still exist."))
}
