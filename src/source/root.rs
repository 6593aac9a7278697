//! The root: the opened source directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::mount::{FileSystemType, file_system_type};
use super::operations::{LastLink, Operations};
use super::root_path::RootPath;
use super::stale::looked_up;
use crate::key::SourcePath;
use crate::open_files::when_one_is_free;
use crate::time::EpochNanos;

/// How often the path is resolved again, if it leads elsewhere at that moment.
const ATTEMPTS: usize = 3;

/// The source directory, held open: every path is relative to it, even if its own path leads elsewhere later.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    /// The device and inode of the directory; `None` if it does not show them.
    inode: Option<(u64, u64)>,
    path: PathBuf,
    /// The latest time at which a part of its path was put in its place.
    inherited_ctime: Option<EpochNanos>,
}

/// Why the source directory cannot be opened; the run ends before it compares anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum RootError {
    #[error("the source {path} does not exist: check the path, and that its file system is mounted")]
    Missing { path: String },
    #[error("the source {path} is not a directory: pass the directory whose content the run copies")]
    NotADirectory { path: String },
    #[error(
        "this user has no permission to read the source {path}: run as a user who has it (on EFS: allow \
         elasticfilesystem:ClientRootAccess, or use an access point with a POSIX user who has it)"
    )]
    PermissionDenied { path: String },
    #[error("cannot open the source {path}: check that its file system is mounted and responds")]
    Io { path: String, source: std::io::Error },
}

impl Root {
    /// Opens `path`, which may be a link. This call hangs if the server of the mount is down.
    ///
    /// # Errors
    /// Returns an error if `path` is not a directory, or if this user must not read it.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let mut directory = open(path)?;
        for _ in 0..ATTEMPTS {
            // Resolved after the open: what is turned in between only makes the time later.
            let target = Operations::default().stat(directory.as_fd(), b".", LastLink::Keep);
            if let (Ok(opened), Ok(resolved)) = (target, RootPath::resolve(path))
                && opened.inode == resolved.target.inode
            {
                let inode = Some(opened.inode);
                return Ok(Self { directory, inode, path: path.to_owned(), inherited_ctime: resolved.latest });
            }
            directory = open(path)?;
        }
        tracing::warn!(path = %path.display(), "cannot see since when the path leads to the source: this run compares content");
        let inode = Operations::default().stat(directory.as_fd(), b".", LastLink::Keep).ok().map(|stat| stat.inode);
        Ok(Self { directory, inode, path: path.to_owned(), inherited_ctime: Some(EpochNanos::now()) })
    }

    /// Whether the path still leads to this directory. A link may be turned during the run, or another directory or file
    /// system put in its place: what the run reads then is no longer the source.
    pub(super) fn is_in_place(&self, operations: &Operations) -> bool {
        let path = self.path.as_os_str().as_bytes();
        let now = operations.fresh_stat(CWD, path, LastLink::Follow);
        now.is_ok_and(|now| Some(now.inode) == self.inode)
    }

    /// The path as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The ctime that all below the root inherit from its path.
    pub(super) const fn inherited_ctime(&self) -> Option<EpochNanos> {
        self.inherited_ctime
    }

    /// The type of the file system that the directory lies on, if the kernel shows it.
    pub(super) fn file_system_type(&self) -> Option<FileSystemType> {
        file_system_type(self.fd())
    }

    /// Whether the directory is a mount point (Linux: `STATX_ATTR_MOUNT_ROOT`).
    pub(super) fn is_mount_point(&self) -> bool {
        let statx = rustix::fs::statx(self.fd(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        statx.is_ok_and(|statx| statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Whether the directory contains this path.
    pub(super) fn holds(&self, path: &SourcePath) -> bool {
        rustix::fs::statx(self.fd(), path.as_str(), AtFlags::empty(), StatxFlags::BASIC_STATS).is_ok()
    }

    /// The directory to which every path is relative.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn open(path: &Path) -> Result<OwnedFd, RootError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    when_one_is_free(|| looked_up(|| rustix::fs::open(path, flags, Mode::empty())))
        .map_err(|errno| RootError::new(path, errno))
}

impl RootError {
    fn new(path: &Path, errno: Errno) -> Self {
        let path = path.display().to_string();
        match errno {
            Errno::NOENT => Self::Missing { path },
            Errno::NOTDIR => Self::NotADirectory { path },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied { path },
            _ => Self::Io { path, source: errno.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_source_and_a_file_are_refused_with_the_path_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Root::open(&folder.path().join("none")).unwrap_err();
        assert!(matches!(missing, RootError::Missing { .. }));
        assert!(missing.to_string().contains("/none does not exist: check"), "{missing}");

        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let not_a_directory = Root::open(&file).unwrap_err();
        assert!(matches!(not_a_directory, RootError::NotADirectory { .. }));
        assert!(not_a_directory.to_string().contains("/file is not a directory"), "{not_a_directory}");
    }
}
