//! State in a folder. A write goes to a temporary file, which is synced and then renamed into place. A conditional write
//! takes a lock that ends with its process.
//!
//! A run creates the folder only if its first request finds none. A folder that disappears after that holds the records of
//! earlier runs, and may return with them: until then, each request fails.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
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

/// The folder of a state.
#[derive(Clone, Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    /// The folder that the run has found or created.
    found: Arc<OnceLock<FolderId>>,
}

/// Tells a folder from one on another file system.
#[derive(Clone, Copy, Debug)]
struct FolderId {
    device: u64,
    inode: u64,
}

/// Why a request to the folder failed.
#[derive(Debug)]
pub(super) enum FolderError {
    /// The folder no longer exists.
    Missing,
    /// The path leads to another file system than before.
    NotMounted,
    Io(io::Error),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl FolderId {
    /// The device number changes with a remount, and some file systems do not keep inode numbers.
    const fn is_elsewhere(self, other: Self) -> bool {
        self.device != other.device && self.inode != other.inode
    }
}

impl StateFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, found: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder is the one that the run has found. Returns whether there is a folder.
    fn check(&self) -> Result<bool, FolderError> {
        // The last step makes an automounter mount the folder.
        let now = match fs::metadata(self.path.join(".")) {
            Ok(stat) => FolderId { device: stat.dev(), inode: stat.ino() },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return if self.found.get().is_some() { Err(FolderError::Missing) } else { Ok(false) };
            }
            Err(error) => return Err(error.into()),
        };
        if self.found.get_or_init(|| now).is_elsewhere(now) { Err(FolderError::NotMounted) } else { Ok(true) }
    }

    /// Makes a read. What it does not find is absent only if the folder is still there.
    fn find<T>(&self, read: impl FnOnce() -> io::Result<T>) -> Result<Option<T>, FolderError> {
        if !self.check()? {
            return Ok(None);
        }
        let found = if_present(read())?;
        if found.is_none() {
            self.check()?;
        }
        Ok(found)
    }

    /// Returns the path of a name. Creates the folder if the run has not found one, and folders below it.
    fn place(&self, name: &str) -> Result<PathBuf, FolderError> {
        if !self.check()? {
            fs::create_dir_all(&self.path)?;
            self.check()?;
        }
        let path = self.path.join(name);
        let mut below = self.path.clone();
        for part in Path::new(name).parent().into_iter().flatten() {
            below.push(part);
            match fs::create_dir(&below) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(path)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<StateRecord>, FolderError> {
        let path = self.path.join(name);
        self.find(|| {
            let content = Bytes::from(read_file(&path)?);
            let written = fs::metadata(&path)?.modified()?;
            // A new file shows the time by the file system's clock, which may be another machine's.
            let now = temporary(parent(&path))?.as_file().metadata()?.modified()?;
            let age = now.duration_since(written).unwrap_or_default();
            Ok(StateRecord { version: version(&content), content, age })
        })
    }

    pub(super) fn replace(
        &self,
        name: &str,
        content: &[u8],
        expected: &ExpectedVersion,
    ) -> Result<Option<Version>, FolderError> {
        let path = self.place(name)?;
        let _lock = lock(&path.with_added_extension("lock"))?;
        let stored = if_present(read_file(&path))?.map(|content| version(&content));
        let is_as_expected = match expected {
            ExpectedVersion::Any => true,
            ExpectedVersion::Absent => stored.is_none(),
            ExpectedVersion::Is(version) => stored.as_ref() == Some(version),
        };
        if !is_as_expected {
            return Ok(None);
        }
        write(&path, content)?;
        Ok(Some(version(content)))
    }

    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, FolderError> {
        self.find(|| when_one_is_free(|| File::open(self.path.join(name))))
    }

    pub(super) fn new_file(&self) -> Result<NamedTempFile, FolderError> {
        self.place("")?;
        remove_stale(&self.path)?;
        Ok(temporary(&self.path)?)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        Ok(write(&self.place(name)?, content)?)
    }

    pub(super) fn publish(&self, name: &str, file: NamedTempFile) -> Result<(), FolderError> {
        Ok(persist(&self.place(name)?, file)?)
    }

    pub(super) fn remove_version(&self, name: &str, expected: &Version) -> Result<bool, FolderError> {
        let path = self.path.join(name);
        let removed = self.find(|| {
            let _lock = lock(&path.with_added_extension("lock"))?;
            if if_present(read_file(&path))?.is_some_and(|content| version(&content) == *expected) {
                fs::remove_file(&path)?;
            }
            Ok(!path.try_exists()?)
        })?;
        Ok(removed.unwrap_or(true))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), FolderError> {
        self.find(|| fs::remove_file(self.path.join(name))).map(|_| ())
    }

    /// `beginning` may start with the name of a folder below this one.
    pub(super) fn names(&self, beginning: &str) -> Result<Vec<String>, FolderError> {
        let below = beginning.rfind('/').map_or("", |slash| beginning.get(..=slash).unwrap_or_default());
        let names = self.find(|| {
            let mut names = Vec::new();
            for entry in when_one_is_free(|| fs::read_dir(self.path.join(below)))? {
                let name = format!("{below}{}", entry?.file_name().display());
                let is_lock = Path::new(&name).extension().is_some_and(|extension| extension == "lock");
                if name.starts_with(beginning) && !is_lock && !name.contains(TEMPORARY) {
                    names.push(name);
                }
            }
            remove_stale(&self.path.join(below))?;
            names.sort_unstable();
            Ok(names)
        })?;
        Ok(names.unwrap_or_default())
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = temporary(parent(path))?;
    file.write_all(content)?;
    persist(path, file)
}

fn persist(path: &Path, file: NamedTempFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    when_one_is_free(|| File::open(parent(path)))?.sync_all()
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
