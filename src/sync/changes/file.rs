//! A file that several processes append whole lines to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, access, flock};

/// A file or device that is only appended to.
#[derive(Debug)]
pub(super) struct AppendedFile {
    path: PathBuf,
    file: File,
    is_regular: bool,
}

/// Checks that a file can be appended to, or created in its folder. Changes nothing.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => access(path, Access::WRITE_OK)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl AppendedFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Without a reader, a pipe must not be open for reading here. A file is: for its last byte, if this user may.
        let is_device = path.metadata().is_ok_and(|there| !there.is_file());
        let opened = File::options().read(!is_device).append(true).create(!is_device).open(path);
        let file = opened.or_else(|_| File::options().append(true).create(!is_device).open(path))?;
        let is_regular = file.metadata()?.is_file();
        Ok(Self { path: path.to_owned(), file, is_regular })
    }

    /// Appends whole lines, all of them or none. Other runs may append to the same file.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.is_regular {
            // A pipe keeps a short write whole.
            return lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| self.file.write_all(line));
        }
        loop {
            // A file system without locks has no other run's lines either, or keeps short writes whole.
            let _ = flock(&self.file, FlockOperation::LockExclusive);
            if self.is_in_place() {
                break;
            }
            *self = Self::open(&self.path)?;
            if !self.is_regular {
                return self.append(lines);
            }
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

    /// Writes the lines to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
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
