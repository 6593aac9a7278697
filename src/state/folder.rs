//! State in a folder. A write goes to a temporary file, which is synced and then renamed into place. A conditional write
//! takes a lock that ends with its process.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::record::{ExpectedVersion, StateRecord, Version};
use crate::hex::hex;
use crate::open_files::when_one_is_free;

/// A writer holds the lock for a few system calls only. One that holds it for longer was suspended.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// The names of temporary files start with this. Older ones than `STALE_AFTER` come from killed runs.
const TEMPORARY: &str = ".efs2s3-";
const STALE_AFTER: Duration = Duration::from_hours(6);

pub(super) fn read(path: &Path) -> io::Result<Option<StateRecord>> {
    let read = || {
        let content = Bytes::from(read_file(path)?);
        let written = fs::metadata(path)?.modified()?;
        // A new file shows the time by the file system's clock, which may be another machine's.
        let now = temporary(parent(path))?.as_file().metadata()?.modified()?;
        let age = now.duration_since(written).unwrap_or_default();
        Ok(StateRecord { version: version(&content), content, age })
    };
    if_present(read())
}

pub(super) fn replace(path: &Path, content: &[u8], expected: &ExpectedVersion) -> io::Result<Option<Version>> {
    // A folder that was moved or unmounted may return with the record in it.
    if matches!(expected, ExpectedVersion::Is(_)) && !parent(path).try_exists()? {
        return Err(io::Error::new(ErrorKind::NotFound, "its folder no longer exists"));
    }
    fs::create_dir_all(parent(path))?;
    let _lock = lock(&path.with_added_extension("lock"))?;
    let stored = if_present(read_file(path))?.map(|content| version(&content));
    let is_as_expected = match expected {
        ExpectedVersion::Any => true,
        ExpectedVersion::Absent => stored.is_none(),
        ExpectedVersion::Is(version) => stored.as_ref() == Some(version),
    };
    if !is_as_expected {
        return Ok(None);
    }
    write(path, content)?;
    Ok(Some(version(content)))
}

pub(super) fn open_file(path: &Path) -> io::Result<Option<File>> {
    if_present(when_one_is_free(|| File::open(path)))
}

pub(super) fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(folder)?;
    remove_stale(folder)?;
    temporary(folder)
}

pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(parent(path))?;
    let mut file = temporary(parent(path))?;
    file.write_all(content)?;
    persist(path, file)
}

pub(super) fn publish(path: &Path, file: NamedTempFile) -> io::Result<()> {
    fs::create_dir_all(parent(path))?;
    persist(path, file)
}

fn persist(path: &Path, file: NamedTempFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    when_one_is_free(|| File::open(parent(path)))?.sync_all()
}

pub(super) fn remove_version(path: &Path, expected: &Version) -> io::Result<bool> {
    let _lock = lock(&path.with_added_extension("lock"))?;
    if if_present(read_file(path))?.is_some_and(|content| version(&content) == *expected) {
        remove(path)?;
    }
    Ok(!path.try_exists()?)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    if_present(fs::remove_file(path)).map(|_| ())
}

/// `beginning` may start with the name of a folder below `folder`.
pub(super) fn names(folder: &Path, beginning: &str) -> io::Result<Vec<String>> {
    let below = beginning.rfind('/').map_or("", |slash| beginning.get(..=slash).unwrap_or_default());
    let list = || {
        let mut names = Vec::new();
        for entry in when_one_is_free(|| fs::read_dir(folder.join(below)))? {
            let name = format!("{below}{}", entry?.file_name().display());
            let is_lock = Path::new(&name).extension().is_some_and(|extension| extension == "lock");
            if name.starts_with(beginning) && !is_lock && !name.contains(TEMPORARY) {
                names.push(name);
            }
        }
        remove_stale(&folder.join(below))?;
        names.sort_unstable();
        Ok(names)
    };
    Ok(if_present(list())?.unwrap_or_default())
}

fn if_present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    when_one_is_free(|| fs::read(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    when_one_is_free(|| tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder))
}

/// Removes the temporary files of killed runs.
fn remove_stale(folder: &Path) -> io::Result<()> {
    for entry in when_one_is_free(|| fs::read_dir(folder))? {
        let entry = entry?;
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
        // Another run may have removed it.
        let written = entry.metadata().and_then(|stat| stat.modified());
        let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
        if is_ours && age.is_some_and(|age| age > STALE_AFTER) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn version(content: &[u8]) -> Version {
    Version(hex(&Sha256::digest(content)))
}

fn lock(path: &Path) -> io::Result<File> {
    let file = when_one_is_free(|| File::options().create(true).append(true).open(path))?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_TIMEOUT => std::thread::sleep(LOCK_RETRY),
            Err(errno) => return Err(errno.into()),
        }
    }
}
