//! The mount of the source: whether the mount table shows the folder that the task copies.
//!
//! The mount table names the file system and the exported folder. A mount through TLS hides the file system: its server
//! is 127.0.0.1. An access point hides the folder: the task's folder is relative to the root of the access point.

use std::path::Path;

use super::TaskSource;
use crate::mount_table::MountTable;

/// What the mount table shows about the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountEvidence {
    /// The source is the task's folder.
    Same,
    /// The source is not the task's folder: what is mounted, and what the task copies.
    Other(String),
    /// The mount table does not show the folder, for this reason.
    Hidden(String),
}

/// Returns what the mount table shows about `source`.
pub(crate) fn of_mount(source: &Path, task: &TaskSource) -> MountEvidence {
    let source = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    compare(&MountTable::read(), &source, task)
}

fn compare(table: &MountTable, source: &Path, task: &TaskSource) -> MountEvidence {
    let TaskSource::Efs { file_system, folder, access_point } = task else {
        return MountEvidence::Hidden("the task's source is not an EFS location".to_owned());
    };
    let Some(mount) = table.longest_of(source) else {
        return MountEvidence::Hidden("the mount table does not show what is mounted there".to_owned());
    };
    if !mount.kind.starts_with("nfs") {
        return MountEvidence::Hidden(format!("the folder is on a file system of type {}, not on NFS", mount.kind));
    }
    let (server, exported) = mount.device.split_once(":/").unwrap_or((&mount.device, ""));
    let Some(mounted) = server.split('.').find(|part| part.starts_with("fs-")) else {
        return MountEvidence::Hidden(format!("the mount goes through {server}, which hides the file system"));
    };
    if mounted != file_system {
        return MountEvidence::Other(format!("{mounted} is mounted there, and the task copies {file_system}"));
    }
    if *access_point {
        return MountEvidence::Hidden("an access point hides which folder the task copies".to_owned());
    }
    let below = source.strip_prefix(&mount.point).unwrap_or(Path::new(""));
    let seen = Path::new("/").join(exported).join(mount.root.trim_start_matches('/')).join(below);
    if same_folder(&seen, Path::new(folder)) {
        MountEvidence::Same
    } else {
        MountEvidence::Other(format!(
            "the folder {} of {mounted} is mounted there, and the task copies {folder}",
            seen.display()
        ))
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
40 22 0:44 / /mnt/efs rw,relatime shared:2 - nfs4 fs-0123.efs.us-east-1.amazonaws.com:/ rw,vers=4.1
41 22 0:45 / /mnt/sub rw,relatime - nfs4 fs-0123.efs.us-east-1.amazonaws.com:/sub/dir rw,vers=4.1
42 22 0:46 / /mnt/tls rw,relatime - nfs4 127.0.0.1:/ rw,vers=4.1
43 22 0:44 /sub /mnt/with\\040space rw - nfs4 fs-0123.efs.us-east-1.amazonaws.com:/ rw
";

    fn task(file_system: &str, folder: &str, access_point: bool) -> TaskSource {
        TaskSource::Efs { file_system: file_system.into(), folder: folder.into(), access_point }
    }

    #[test]
    fn the_mount_table_shows_same_other_or_hidden() {
        let evidence =
            |source: &str, task: &TaskSource| match compare(&MountTable::parse(TABLE), Path::new(source), task) {
                MountEvidence::Same => "same",
                MountEvidence::Other(_) => "other",
                MountEvidence::Hidden(_) => "hidden",
            };
        let (whole, sub) = (task("fs-0123", "/", false), task("fs-0123", "/sub/dir", false));
        assert_eq!(evidence("/mnt/efs", &whole), "same");
        assert_eq!(evidence("/mnt/efs/sub/dir", &sub), "same");
        assert_eq!(evidence("/mnt/sub", &sub), "same");
        assert_eq!(evidence("/mnt/with space/dir", &sub), "same");
        assert_eq!(evidence("/mnt/efs", &sub), "other");
        assert_eq!(evidence("/mnt/efs/sub", &whole), "other");
        assert_eq!(evidence("/mnt/efs", &task("fs-9999", "/", false)), "other");
        assert_eq!(
            evidence("/mnt/efs", &task("fs-9999", "/", true)),
            "other",
            "the file system differs, whatever the folder is"
        );
        assert_eq!(evidence("/mnt/efs", &task("fs-0123", "/sub", true)), "hidden");
        assert_eq!(evidence("/mnt/tls", &whole), "hidden");
        assert_eq!(evidence("/srv", &whole), "hidden");
        assert_eq!(
            compare(&MountTable::default(), Path::new("/x"), &whole),
            MountEvidence::Hidden("the mount table does not show what is mounted there".into())
        );
    }
}
