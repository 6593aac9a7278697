//! A mount: what file system the source lies on, and what kind of mount `--require-mount` asks for.
//!
//! The ID of a mount identifies it. Its path does not: another mount may lie over it.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

use crate::mount_table::MountTable;

/// What the source must be mounted as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequiredMount {
    /// It need not be a mount point.
    #[default]
    None,
    /// A mount point. A bind mount of any folder is one.
    Any,
    /// A mount point of a file system of this type, such as `nfs4`.
    OfType(FileSystemType),
}

/// The type of a file system, as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemType(String);

impl FromStr for RequiredMount {
    type Err = String;

    /// `true` and `false` as for an option without a value, or a type.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Self::Any),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(Self::None),
            _ if text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) =>
            {
                Ok(Self::OfType(FileSystemType(text.to_owned())))
            }
            _ => Err(format!("'{text}' is not a type of file system: write it as nfs4, the type of a mounted EFS")),
        }
    }
}

impl fmt::Display for FileSystemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the type of the file system on which an open directory lies. `None` if the kernel does not show it.
pub(super) fn file_system_type(directory: BorrowedFd<'_>) -> Option<FileSystemType> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd())).ok()?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
    type_in(&MountTable::read(), id)
}

fn type_in(table: &MountTable, id: u64) -> Option<FileSystemType> {
    table.mount(id).map(|mount| FileSystemType(mount.kind.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn require_mount_is_a_flag_or_a_type() {
        let read = |text: &str| text.parse::<RequiredMount>();
        assert_eq!((read("true"), read("1")), (Ok(RequiredMount::Any), Ok(RequiredMount::Any)));
        assert_eq!((read("false"), read("0")), (Ok(RequiredMount::None), Ok(RequiredMount::None)));
        for name in ["nfs4", "ext4", "fuse.sshfs", "9p"] {
            assert_eq!(read(name), Ok(RequiredMount::OfType(FileSystemType(name.to_owned()))));
        }
        for text in ["", " ", "nfs 4", "-nfs4", "/mnt/efs"] {
            assert!(read(text).unwrap_err().contains("nfs4"), "{text}");
        }
    }

    #[test]
    fn the_id_of_a_mount_shows_its_type() {
        let table = "22 1 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                     30 1 259:1 / /mnt/a\\040-\\040b rw - ext4 /dev/a rw\n\
                     31 30 0:50 / /mnt/a\\040-\\040b rw master:1 - nfs4 fs-1.efs:/ rw,vers=4.1\n\
                     3 1 0:3 / /proc rw - proc proc rw\n";
        let table = MountTable::parse(table);
        let found = |id| type_in(&table, id).map(|found| found.to_string());
        assert_eq!(found(30).as_deref(), Some("ext4"));
        assert_eq!(found(31).as_deref(), Some("nfs4"), "mounted over the other one");
        assert_eq!(found(3).as_deref(), Some("proc"));
        assert_eq!(found(2), None);
    }

    #[test]
    fn the_type_of_an_open_directory_is_that_of_its_mount() {
        use std::os::fd::AsFd;
        let type_of = |path: &str| file_system_type(std::fs::File::open(path).unwrap().as_fd()).unwrap().to_string();
        assert_eq!(type_of("/proc"), "proc");
        assert_eq!(type_of("/proc/self"), "proc");
    }
}
