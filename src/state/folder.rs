//! State in a folder: a file is written beside its place, synced, and moved into it, under a lock that dies with its holder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{Expected, Remembered, StateError, Version};

/// The lock is held for a few system calls; who holds it for longer was stopped.
const LOCKED_AT_MOST: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);
/// What is being written has such a name; what is older than this was left by a run that was killed.
const UNFINISHED: &str = ".efs2s3-";
const LEFT_BEHIND: Duration = Duration::from_hours(6);

pub(super) fn look(folder: &Path, name: &str) -> Result<Option<Remembered>, StateError> {
    let path = folder.join(name);
    let looked = || -> io::Result<Remembered> {
        let content = Bytes::from(fs::read(&path)?);
        let written = fs::metadata(&path)?.modified()?;
        // The time by the clock of the file system, which may be another machine's.
        let now = temporary(folder)?.as_file().metadata()?.modified()?;
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
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
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
        let mut file = temporary(folder)?;
        file.write_all(content)?;
        persist(folder, &path, file)?;
        Ok(Some(version(content)))
    };
    written().map_err(|source| StateError::Folder { path: path.display().to_string(), source })
}

pub(super) fn read_file(path: &Path) -> Result<Option<File>, StateError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Folder { path: path.display().to_string(), source }),
    }
}

pub(super) fn new_file(folder: &Path) -> Result<NamedTempFile, StateError> {
    let new = || {
        fs::create_dir_all(folder)?;
        sweep(folder)?;
        temporary(folder)
    };
    new().map_err(|source| StateError::Folder { path: folder.display().to_string(), source })
}

pub(super) fn publish(folder: &Path, name: &str, file: NamedTempFile) -> Result<(), StateError> {
    let path = folder.join(name);
    let published = || {
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        persist(folder, &path, file)
    };
    published().map_err(|source| StateError::Folder { path: path.display().to_string(), source })
}

pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    let path = folder.join(name);
    let home = path.parent().unwrap_or(folder);
    let written = || {
        fs::create_dir_all(home)?;
        let mut file = temporary(home)?;
        file.write_all(content)?;
        persist(home, &path, file)
    };
    written().map_err(|source| StateError::Folder { path: path.display().to_string(), source })
}

pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| StateError::Folder { path: path.display().to_string(), source }),
    }
}

/// `beginning` may name a folder below this one, and the beginning of names in it.
pub(super) fn names(folder: &Path, beginning: &str) -> Result<Vec<String>, StateError> {
    let below = beginning.rfind('/').map_or("", |slash| beginning.get(..=slash).unwrap_or_default());
    let listed = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.join(below))? {
            let name = format!("{below}{}", entry?.file_name().display());
            let is_lock = Path::new(&name).extension().is_some_and(|extension| extension == "lock");
            if name.starts_with(beginning) && !is_lock && !name.contains(UNFINISHED) {
                names.push(name);
            }
        }
        sweep(&folder.join(below))?;
        names.sort_unstable();
        Ok(names)
    };
    match listed() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| StateError::Folder { path: folder.display().to_string(), source }),
    }
}

fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)
}

fn persist(folder: &Path, path: &Path, file: NamedTempFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(path.parent().unwrap_or(folder))?.sync_all()
}

/// Removes what runs that were killed left half written.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        // Another run may have removed it.
        let written = entry.metadata().and_then(|stat| stat.modified());
        let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
        if is_ours && age.is_some_and(|age| age > LEFT_BEHIND) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
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
