//! The check of the mount points that earlier runs remember: whether their file systems are mounted now.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, Found, Unknown};
use super::mount_points::{Gone, MountPoint, MountPoints, MountPointsByPath};
use super::operations::{LastLink, Operations};
use super::root::Root;
use super::walk::{Links, WalkOptions, named_path};
use crate::filter::reserved::is_reserved;

/// What a lookup of a remembered mount point shows.
enum MountState {
    Mounted,
    /// A directory or file is there, and nothing is mounted on it.
    Bare,
    Absent,
    /// The first followed link on its path was removed from a directory that can be read, and nothing is in its place: its
    /// files are no longer part of the source, mounted or not.
    LinkRemoved,
}

impl Source {
    /// Takes over the mount points that earlier runs remember, and checks which of the mounts are missing now.
    pub(crate) async fn remember_mount_points(&mut self, mut remembered: MountPointsByPath) {
        remembered.retain(|path, mount_point| concerns(&self.walk, path, *mount_point));
        if remembered.is_empty() {
            return;
        }
        let (root, operations, options) = (Arc::clone(&self.root), Arc::clone(&self.operations), self.walk.clone());
        let (first, points) = (remembered.keys().next().cloned().unwrap_or_default(), remembered.clone());
        let check = move || -> Vec<(String, MountState)> {
            let checked = |(path, point): (String, MountPoint)| {
                let state = state_of(&root, &operations, &options, &path, point);
                (path, state)
            };
            points.into_iter().map(checked).collect()
        };
        // If the check fails, the walk meets the same trouble.
        let checked = self.walk.call_timeout().run("stat", &first, check).await.unwrap_or_default();
        let allow_missing = self.walk.mount_points.allow_missing;
        let mut mount_points = MountPoints::new(allow_missing);
        mount_points.remembered = remembered;
        let mut missing = BTreeSet::new();
        for (path, state) in checked {
            // What a missing mount hides proves nothing about the links in it.
            let is_hidden = matches!(state, MountState::LinkRemoved) && lies_below(&path, &missing);
            let state = if is_hidden { MountState::Absent } else { state };
            if matches!(state, MountState::Bare | MountState::Absent) {
                missing.insert(path.clone());
            }
            let gone = match state {
                MountState::LinkRemoved => {
                    tracing::info!(path, "the link to another file system is missing: its files count as deleted");
                    Gone::LinkRemoved
                }
                MountState::Bare | MountState::Absent if allow_missing => {
                    tracing::warn!(
                        path,
                        "no file system is mounted here any more: with --allow-missing-mounts, its files count as deleted"
                    );
                    Gone::MissingAllowed
                }
                MountState::Mounted => continue,
                MountState::Bare => {
                    warn_of_missing(&path);
                    continue;
                }
                MountState::Absent => {
                    warn_of_missing(&path);
                    mount_points.absent.push(path);
                    continue;
                }
            };
            mount_points.remembered.remove(&path);
            if covers(&self.walk, &path, gone) {
                mount_points.gone.insert(path, gone);
            }
        }
        self.walk.mount_points = Arc::new(mount_points);
    }

    /// The mount points inside the source.
    pub(crate) fn mount_points(&self) -> &MountPoints {
        &self.walk.mount_points
    }
}

fn warn_of_missing(path: &str) {
    tracing::warn!(
        path,
        "no file system is mounted here, where an earlier run found one: this run neither writes nor deletes anything at \
         or below this path"
    );
}

/// Whether one of these paths leads to it.
fn lies_below(path: &str, above: &BTreeSet<String>) -> bool {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end)).any(|directory| above.contains(directory))
}

/// Whether the followed link with this path was removed and nothing is in its place. If a part of the path is still a link,
/// what is missing behind it may be the mount itself.
fn is_link_removed(root: &Root, operations: &Operations, link: &str) -> bool {
    let ends = link.match_indices('/').map(|(end, _)| end).chain([link.len()]);
    for part in ends.filter_map(|end| link.get(..end)) {
        match operations.fresh_stat(root.fd(), part.as_bytes(), LastLink::Keep) {
            Ok(stat) if stat.kind == EntryKind::Symlink => return false,
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Whether the run covers all that was below this mount point. A filter leaves out objects that a later run may delete; if
/// the mount may be missing, that is accepted.
fn covers(options: &WalkOptions, path: &str, gone: Gone) -> bool {
    let keys = options.tree_range.keys();
    let is_in_range = keys.contains(path.as_bytes()) && keys.contains_all_below(format!("{path}/").as_bytes());
    is_in_range && (gone == Gone::MissingAllowed || options.filter.admits_all())
}

/// Whether a run with these options walks to the mount point.
fn concerns(options: &WalkOptions, path: &str, mount_point: MountPoint) -> bool {
    let keys = options.tree_range.keys();
    let below = format!("{path}/");
    let is_in_range = keys.contains(path.as_bytes()) || keys.may_contain_below(below.as_bytes());
    let mut directories = below.match_indices('/').filter_map(|(end, _)| below.get(..=end));
    is_in_range
        && (!mount_point.through_link || options.links == Links::Follow)
        && !(options.skip_reserved && is_reserved(path))
        && !directories.any(|directory| options.filter.excludes_directory(directory))
}

fn state_of(
    root: &Root,
    operations: &Operations,
    options: &WalkOptions,
    path: &str,
    remembered: MountPoint,
) -> MountState {
    let stat = |path: &[u8]| operations.fresh_stat(root.fd(), path, LastLink::Keep);
    // The path is compared with this one mount point: another one that is missing has its own check.
    let options = WalkOptions { mount_points: Arc::new(MountPoints::with(path, remembered)), ..options.clone() };
    match named_path::descend(root, operations, &options, path, stat) {
        Err(Errno::NOENT | Errno::NOTDIR) => match remembered.first_link(path) {
            Some(link) if is_link_removed(root, operations, link) => MountState::LinkRemoved,
            _ => MountState::Absent,
        },
        Ok(Found::Unknown(_, Unknown::MissingMount { .. })) => MountState::Bare,
        // Whatever hides it is unknown or out of scope itself, and the walk meets the same error.
        Err(_) | Ok(_) => MountState::Mounted,
    }
}
