//! A file that several processes append whole lines to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, OFlags, access, flock};

use crate::device::Device;
use crate::open_files::when_one_is_free;

/// A file or device that is only appended to.
#[derive(Debug)]
pub(super) enum Appended {
    File(AppendedFile),
    /// A pipe keeps a short write whole.
    Device(Device),
}

/// A regular file that is only appended to.
#[derive(Debug)]
pub(super) struct AppendedFile {
    path: PathBuf,
    file: File,
}

/// Checks that a file can be appended to, or created in its folder. Changes nothing.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(_) => access(path, Access::WRITE_OK)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Appended {
    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.append(lines),
            Self::Device(device) => {
                lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| device.write_all(line))
            }
        }
    }

    /// Writes the lines to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync(),
            Self::Device(_) => Ok(()),
        }
    }
}

impl AppendedFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Another process may have put a pipe in the place of the file.
        let open = |options: &mut OpenOptions| {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
            when_one_is_free(|| options.append(true).create(true).custom_flags(flags).open(path))
        };
        // Open for reading too, for the last byte, if this user may.
        let file = open(File::options().read(true)).or_else(|_| open(&mut File::options()))?;
        let stat = file.metadata()?;
        if !stat.is_file() {
            return Err(io::Error::other(
                "it was a regular file when the run started, and is another kind of file now",
            ));
        }
        if stat.nlink() > 1 {
            return Err(io::Error::other("it has another hard link, which may be in the source"));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends whole lines, all of them or none. Other runs may append to the same file.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        loop {
            // A file system without locks has no other run's lines either, or keeps short writes whole.
            let _ = flock(&self.file, FlockOperation::LockExclusive);
            if self.is_in_place() {
                break;
            }
            *self = Self::open(&self.path)?;
        }
        let written = self.append_locked(lines);
        let _ = flock(&self.file, FlockOperation::Unlock);
        written
    }

    fn append_locked(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(end) = length.checked_sub(1) {
            let _ = self.file.read_exact_at(&mut last, end);
        }
        // A run that was killed may have left a part of a line.
        let separator: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
        let written = self.file.write_all(&[separator, lines].concat());
        if written.is_err() {
            let _ = self.file.set_len(length);
        }
        written
    }

    /// Whether the path still names this file: its reader may have renamed it away.
    fn is_in_place(&self) -> bool {
        let identity = |stat: &fs::Metadata| (stat.dev(), stat.ino());
        let opened = self.file.metadata().ok().map(|stat| identity(&stat));
        fs::metadata(&self.path).ok().map(|stat| identity(&stat)) == opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_line_of_a_killed_run_stays_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "whole\npart").unwrap();
        let mut file = AppendedFile::open(&path).unwrap();
        file.append(b"a\nb\n").unwrap();
        file.append(b"c\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\npart\na\nb\nc\n");
    }
}
