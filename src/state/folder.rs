//! State in a folder: a file is written beside its place, synced, and moved into it, under a lock that dies with its holder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{Expected, Remembered, StateError, Version};

/// The lock is held for a few system calls; who holds it for longer was stopped.
const LOCKED_AT_MOST: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

pub(super) fn look(folder: &Path, name: &str) -> Result<Option<Remembered>, StateError> {
    let path = folder.join(name);
    let looked = || -> io::Result<Remembered> {
        let content = Bytes::from(fs::read(&path)?);
        let written = fs::metadata(&path)?.modified()?;
        // The time by the clock of the file system, which may be another machine's.
        let now = NamedTempFile::new_in(folder)?.as_file().metadata()?.modified()?;
        let age = now.duration_since(written).unwrap_or_default();
        Ok(Remembered { version: version(&content), content, age })
    };
    match looked() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Folder { path: path.display().to_string(), source }),
    }
}

pub(super) fn replace(
    folder: &Path,
    name: &str,
    content: &[u8],
    expected: &Expected,
) -> Result<Option<Version>, StateError> {
    let path = folder.join(name);
    let written = || -> io::Result<Option<Version>> {
        fs::create_dir_all(folder)?;
        let _lock = lock(&folder.join(format!("{name}.lock")))?;
        let found = match fs::read(&path) {
            Ok(content) => Some(version(&content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_as_expected = match expected {
            Expected::Anything => true,
            Expected::Absent => found.is_none(),
            Expected::Is(version) => found.as_ref() == Some(version),
        };
        if !is_as_expected {
            return Ok(None);
        }
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(folder)?.sync_all()?;
        Ok(Some(version(content)))
    };
    written().map_err(|source| StateError::Folder { path: path.display().to_string(), source })
}

/// Contents of one name differ from writing to writing: each holds its time.
fn version(content: &[u8]) -> Version {
    Version(Sha256::digest(content).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCKED_AT_MOST => std::thread::sleep(RETRY),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The path with all links in it followed, as far as it is there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors()
        .find_map(|there| {
            let rest = path.strip_prefix(there).ok()?;
            Some(fs::canonicalize(there).ok()?.join(rest))
        })
        .unwrap_or(path)
}
