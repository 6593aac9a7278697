//! A result file: a file that appears as a whole or not at all, a device, or stdout.
//!
//! The file is written beside its place and then renamed. It is created before the command contacts anything, so that a
//! path that cannot be written is an error before the work, not after it.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::device::Device;
use crate::open_files::when_one_is_free;
use crate::result_place::ResultPlace;

/// A file for a result.
#[derive(Debug)]
pub(crate) enum ResultFile {
    /// A temporary file in the same folder, which is renamed to this path.
    Whole(PathBuf, NamedTempFile),
    /// An existing pipe, terminal or other device, which is written to directly.
    Device(Device),
    /// Stdout. If its reader is gone (`| head`), the rest is dropped without an error.
    Stdout,
}

impl ResultFile {
    /// Prepares to write to a place.
    ///
    /// # Errors
    /// Returns an error if the place cannot be written.
    pub(crate) fn create(place: &ResultPlace) -> io::Result<Self> {
        if place.is_stdout() {
            return Ok(Self::Stdout);
        }
        if let Some(device) = place.device() {
            return Ok(Self::Device(device.clone()));
        }
        let path = place.path();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let readable: Permissions = PermissionsExt::from_mode(0o644);
        let file = when_one_is_free(|| {
            tempfile::Builder::new().prefix(".efs2s3-").permissions(readable.clone()).tempfile_in(folder)
        })?;
        Ok(Self::Whole(path.to_owned(), file))
    }

    /// Renames the file to its place.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written to its end or renamed.
    pub(crate) fn publish(self) -> io::Result<()> {
        match self {
            Self::Whole(path, file) => {
                file.as_file().sync_all()?;
                file.persist(path).map(|_| ()).map_err(|error| error.error)
            }
            mut unnamed @ (Self::Device(_) | Self::Stdout) => unnamed.flush(),
        }
    }
}

impl Write for ResultFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Whole(_, file) => file.write(bytes),
            Self::Device(device) => device.write(bytes),
            Self::Stdout => unless_closed(io::stdout().write(bytes), bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Whole(_, file) => file.flush(),
            Self::Device(device) => device.flush(),
            Self::Stdout => unless_closed(io::stdout().flush(), ()),
        }
    }
}

/// Replaces the error of a pipe without a reader by `dropped`.
fn unless_closed<T>(written: io::Result<T>, dropped: T) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(dropped),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        std::fs::write(&path, "old").unwrap();
        let mut file = ResultFile::create(&ResultPlace::anywhere(&path)).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        file.publish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        drop(ResultFile::create(&ResultPlace::anywhere(&path)).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a file that is not published leaves nothing");
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let mut file = ResultFile::create(&ResultPlace::anywhere(Path::new("/dev/null"))).unwrap();
        file.write_all(b"gone").unwrap();
        file.publish().unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_no_place_for_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ResultFile::create(&ResultPlace::anywhere(&folder.path().join("none/file"))).is_err());
    }
}
