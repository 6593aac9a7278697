//! The mount table of this process: which file system, and which directory of it, is mounted where.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// The mounts, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct MountTable(Vec<Mount>);

/// A line of the mount table (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    id: u64,
    /// The number of the file system, such as `0:44`.
    pub(crate) number: String,
    /// The mounted directory, as a path inside the file system.
    pub(crate) root: String,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The type of the file system, such as `nfs4`.
    pub(crate) kind: String,
    /// What is mounted: a device, or a server and the directory that it exports.
    pub(crate) device: String,
}

impl MountTable {
    /// Reads the table; it is empty on a system that has none.
    pub(crate) fn read() -> Self {
        // A name in the table need not be UTF-8.
        Self::parse(&String::from_utf8_lossy(&std::fs::read(MOUNT_TABLE).unwrap_or_default()))
    }

    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Mount::parse).collect())
    }

    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.0
    }

    /// Returns the mount with this ID.
    pub(crate) fn mount(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// Returns the mount that a path without links is on.
    pub(crate) fn mount_of(&self, path: &Path) -> Option<&Mount> {
        // A mount may hide others below its point, so the longest point is only the second choice.
        let by_id = path.ancestors().find_map(mount_id).and_then(|id| self.mount(id));
        by_id.filter(|mount| path.starts_with(&mount.point)).or_else(|| self.longest_of(path))
    }

    /// Returns the mount with the longest point above the path.
    pub(crate) fn longest_of(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.as_os_str().len())
    }
}

/// Returns the number of the mount that a path is on, if the path exists and the kernel knows (Linux 5.8).
fn mount_id(path: &Path) -> Option<u64> {
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let id = before.next()?.parse().ok()?;
        let (number, root) = (before.nth(1)?.to_owned(), unescaped(before.next()?));
        let point = PathBuf::from(unescaped(before.next()?));
        let mut after = after.split(' ');
        let (kind, device) = (after.next()?.to_owned(), unescaped(after.next()?));
        Some(Self { id, number, root, point, kind, device })
    }
}

/// Replaces the octal escapes of spaces and the like.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = "43 22 0:44 /sub /mnt/with\\040space rw shared:1 - nfs4 fs-0123.efs:/exported rw";
        let table = MountTable::parse(line);
        let [mount] = table.mounts() else { panic!("{table:?}") };
        assert_eq!((mount.id, mount.number.as_str(), mount.root.as_str()), (43, "0:44", "/sub"));
        assert_eq!(mount.point, Path::new("/mnt/with space"));
        assert_eq!((mount.kind.as_str(), mount.device.as_str()), ("nfs4", "fs-0123.efs:/exported"));
        assert!(MountTable::parse("nonsense\n1 2\n").mounts().is_empty());
    }

    #[test]
    fn the_mount_of_a_path_is_the_one_that_the_kernel_uses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let table = MountTable::read();
        let mount = table.mount_of(&path.join("not/there")).unwrap();
        assert!(path.starts_with(&mount.point), "{mount:?}");
    }
}
