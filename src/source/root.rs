//! The opened source directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// The source directory, held open: what is below it is looked up from here, wherever the path leads to later.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

/// Why the source directory cannot be used; the run ends before anything is compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Nothing is there.
    #[error("the source {path} does not exist: check the path, and that its file system is mounted")]
    Missing {
        /// The path as given.
        path: String,
    },
    /// Something else is there.
    #[error("the source {path} is not a directory: name the directory whose content is to be copied")]
    NotADirectory {
        /// The path as given.
        path: String,
    },
    /// It may not be read.
    #[error(
        "the source {path} cannot be read by this user: run as a user who may read it (on EFS: allow \
         elasticfilesystem:ClientRootAccess, or use an access point with a fitting POSIX user)"
    )]
    PermissionDenied {
        /// The path as given.
        path: String,
    },
    /// Anything else.
    #[error("the source {path} cannot be opened: check that its file system is mounted and answers")]
    Io {
        /// The path as given.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Root {
    /// Opens `path`, following links to it. On a mount whose server is away this can hang, like any first touch of it.
    ///
    /// # Errors
    ///
    /// When there is no directory at `path`, or it may not be read.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { directory, path: path.to_owned() }),
            Err(errno) => Err(RootError::new(path, errno)),
        }
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is mounted here (Linux: `STATX_ATTR_MOUNT_ROOT`).
    #[must_use]
    pub fn is_mount_point(&self) -> bool {
        let statx = rustix::fs::statx(self.fd(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        statx.is_ok_and(|statx| statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Whether something is at this path below.
    #[must_use]
    pub fn holds(&self, path: &Path) -> bool {
        rustix::fs::statx(self.fd(), path, AtFlags::empty(), StatxFlags::BASIC_STATS).is_ok()
    }

    /// The open directory, from which everything below is looked up.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
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
