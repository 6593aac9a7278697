//! Mounts in the private mount namespace of the test's process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::within;

/// Mounts a fresh file system.
pub(super) fn fresh(at: &Path) -> Option<()> {
    run(Command::new("mount").args(["-n", "-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at))
}

/// Mounts a directory at another place too.
pub(super) fn bind(from: &Path, at: &Path) -> Option<()> {
    run(Command::new("mount").args(["-n", "--bind"]).arg(from).arg(at))
}

pub(super) fn unmount(at: &Path) -> Option<()> {
    run(Command::new("umount").args(["-n", "-l"]).arg(at))
}

/// The mount points that the state remembers, of the outer destination.
pub(super) fn remembered(state: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(state).into_iter().flatten().map(|entry| entry.unwrap().path());
    let records = files.filter(|path| path.to_string_lossy().ends_with(".mounts.json"));
    let records = records.map(|path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap());
    let outer = records.filter(|record| record["destination"] == "s3://site/www/");
    outer.flat_map(|record| record["mount_points"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()).collect()
}

/// Whether something is mounted at this path, which has no links.
pub(super) fn is_mounted(at: &Path) -> bool {
    at.parent()
        .zip(at.file_name())
        .is_some_and(|(parent, name)| super::view::mount_points(parent).contains(&PathBuf::from(name)))
}

fn run(command: &mut Command) -> Option<()> {
    if !within::can_mount() {
        return None;
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok()?.success().then_some(())
}
