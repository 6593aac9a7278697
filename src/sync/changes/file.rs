//! A file that several processes append whole lines to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, OFlags, access, flock};
use rustix::io::Errno;

use crate::device::Device;
use crate::open_files::when_one_is_free;

/// How long a lock of another process is waited for, before a warning or an error says so.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_RETRY: Duration = Duration::from_millis(10);

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
    /// How long appends find the file locked until a warning says so.
    warn_after: Duration,
    /// Since when appends find the file locked.
    locked_since: Option<Instant>,
}

/// A file that no other process appends to, until this is dropped.
#[derive(Debug)]
pub(super) struct Locked<'a>(&'a AppendedFile);

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
    /// Appends whole lines. Returns `false` if another process keeps the lock of the file for this long.
    pub(super) fn append(&mut self, lines: &[u8], timeout: Duration) -> io::Result<bool> {
        match self {
            Self::File(file) => file.append(lines, timeout),
            Self::Device(device) => {
                lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| device.write_all(line))?;
                Ok(true)
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
        Ok(Self { path: path.to_owned(), file, warn_after: LOCK_TIMEOUT, locked_since: None })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends whole lines, all of them or none. Returns `false` if another process keeps the lock for this long.
    fn append(&mut self, lines: &[u8], timeout: Duration) -> io::Result<bool> {
        let start = Instant::now();
        let is_appended = self.lock(timeout)?.map(|locked| locked.append(lines)).transpose()?.is_some();
        if is_appended {
            self.locked_since = None;
            return Ok(true);
        }
        if self.locked_since.get_or_insert(start).elapsed() >= self.warn_after {
            self.locked_since = Some(Instant::now());
            tracing::warn!(
                path = %self.path.display(),
                "another process has had a lock on the changes file for {} seconds: its new lines wait in a file beside it. \
                 The reader of the file must rename it before it takes the lock",
                self.warn_after.as_secs()
            );
        }
        Ok(false)
    }

    /// Takes the lock, which other runs take for each write. Returns `None` if another process keeps it for this long.
    pub(super) fn lock(&mut self, timeout: Duration) -> io::Result<Option<Locked<'_>>> {
        let deadline = Instant::now() + timeout;
        loop {
            match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => return Ok(None),
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_RETRY),
                // A file system without locks has no other run's lines either, or keeps short writes whole.
                Ok(()) | Err(_) if self.is_in_place() => return Ok(Some(Locked(self))),
                Ok(()) | Err(_) => *self = Self::open(&self.path)?,
            }
        }
    }

    /// Whether the path still names this file: its reader may have renamed it away.
    fn is_in_place(&self) -> bool {
        let identity = |stat: &fs::Metadata| (stat.dev(), stat.ino());
        let opened = self.file.metadata().ok().map(|stat| identity(&stat));
        fs::metadata(&self.path).ok().map(|stat| identity(&stat)) == opened
    }
}

impl Locked<'_> {
    /// Appends whole lines, all of them or none.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = &self.0.file;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(end) = length.checked_sub(1) {
            let _ = file.read_exact_at(&mut last, end);
        }
        // A run that was killed may have left a part of a line.
        let separator: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
        let written = file.write_all(&[separator, lines].concat());
        if written.is_err() {
            let _ = file.set_len(length);
        }
        written
    }

    /// Writes the lines to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = flock(&self.0.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::super::captured_log::CapturedLog;
    use super::*;

    #[test]
    fn a_part_of_a_line_of_a_killed_run_stays_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "whole\npart").unwrap();
        let mut file = AppendedFile::open(&path).unwrap();
        assert!(file.append(b"a\nb\n", Duration::ZERO).unwrap());
        assert!(file.append(b"c\n", Duration::ZERO).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\npart\na\nb\nc\n");
    }

    #[test]
    fn a_file_that_stays_locked_is_one_warning_in_each_interval() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let hour = Duration::from_hours(1);
        let mut file = AppendedFile { warn_after: hour, ..AppendedFile::open(&path).unwrap() };
        let reader = File::open(&path).unwrap();
        flock(&reader, FlockOperation::LockExclusive).unwrap();
        let (log, _guard) = CapturedLog::start();
        for (warn_after, warnings) in [(hour, 0), (Duration::ZERO, 1), (hour, 1)] {
            file.warn_after = warn_after;
            assert!(!file.append(b"a\n", Duration::ZERO).unwrap());
            assert_eq!(log.count("another process has had a lock on the changes file"), warnings);
        }
        drop(reader);
        assert!(file.append(b"a\n", Duration::ZERO).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
    }

    #[test]
    fn a_lock_of_another_process_is_not_waited_for_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = AppendedFile::open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        flock(&reader, FlockOperation::LockExclusive).unwrap();
        assert!(file.lock(Duration::from_millis(50)).unwrap().is_none());
        drop(reader);
        file.lock(Duration::ZERO).unwrap().unwrap().append(b"a\n").unwrap();
        file.lock(Duration::ZERO).unwrap().unwrap().append(b"b\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
    }
}
