//! The pending file: the lines of the requests in flight, so that the next run can append those of a run that was killed.
//!
//! It lies beside the changes file, as `.NAME.XXXXXX.pending`. Each line has a slot from before its request until the
//! changes file has the line, or the request has changed nothing. The run holds a lock on it and removes it at its end. A
//! file without a lock is of a run that was killed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::{Builder, NamedTempFile};

use crate::open_files::when_one_is_free;

/// The size of a slot. A key has up to 1,024 bytes, and JSON may write one byte as six.
pub(super) const SLOT_BYTES: usize = 8 << 10;
/// The most slots of a file: many times as many as a run has requests in flight.
pub(super) const MOST_SLOTS: u64 = 1 << 16;
const SUFFIX: &str = ".pending";
/// How many letters and digits of a name are random.
const RANDOM: usize = 6;

/// The place of a line in the file.
#[derive(Debug)]
pub(super) struct Slot(u64);

/// The folder of the pending files of a changes file, and how their names begin.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    prefix: OsString,
}

/// A name beside a changes file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A run may have given this name to its pending file.
    OfPending,
    /// The name begins and ends as that of a pending file, but no run has given it.
    Similar,
    Other,
}

/// The pending file of this run, which its first line creates.
#[derive(Debug)]
pub(super) struct PendingFile {
    /// The path of the changes file; `None` if this run has no pending file.
    beside: Option<PathBuf>,
    file: Option<(PathBuf, File)>,
    free: Vec<Slot>,
    slots: u64,
}

impl PendingFile {
    /// The pending file of a run that appends to this changes file.
    pub(super) const fn beside(path: PathBuf) -> Self {
        Self { beside: Some(path), file: None, free: Vec::new(), slots: 0 }
    }

    /// No pending file: the changes go to a device.
    pub(super) const fn none() -> Self {
        Self { beside: None, file: None, free: Vec::new(), slots: 0 }
    }

    /// Writes lines into slots of their own. Without a file they have none.
    pub(super) fn start(&mut self, lines: &[Vec<u8>]) -> Vec<Option<Slot>> {
        lines.iter().map(|line| self.start_one(line)).collect()
    }

    fn start_one(&mut self, line: &[u8]) -> Option<Slot> {
        if line.len() > SLOT_BYTES {
            return None;
        }
        let beside = self.beside.take()?;
        match self.write(&beside, line) {
            Ok(slot) => {
                self.beside = Some(beside);
                Some(slot)
            }
            Err(error) => {
                tracing::warn!(
                    path = %beside.display(),
                    %error,
                    "cannot write a file beside the changes file: if this run is killed, the changes file lacks what its \
                     requests in flight changed"
                );
                None
            }
        }
    }

    fn write(&mut self, beside: &Path, line: &[u8]) -> io::Result<Slot> {
        let slot = self.free_slot()?;
        let (_, file) = match &mut self.file {
            Some(file) => file,
            none @ None => none.insert(Place::beside(beside).create_locked()?),
        };
        file.write_all_at(line, slot.offset())?;
        Ok(slot)
    }

    fn free_slot(&mut self) -> io::Result<Slot> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        if self.slots >= MOST_SLOTS {
            return Err(io::Error::other("too many changes wait for the changes file"));
        }
        self.slots += 1;
        Ok(Slot(self.slots - 1))
    }

    /// Frees the slot of a line that no longer has to be remembered.
    pub(super) fn end(&mut self, slot: Slot) {
        if let Some((_, file)) = &self.file
            && file.write_all_at(b"-", slot.offset()).is_ok()
        {
            self.free.push(slot);
        }
    }

    /// Removes the file: the run has ended, and its report names what is missing in the changes file.
    pub(super) fn remove(&mut self) {
        if let Some((path, _)) = self.file.take() {
            let _ = fs::remove_file(path);
        }
        self.beside = None;
    }

    /// Leaves the file to the next run, because another process keeps the changes file locked. Returns an error message.
    pub(super) fn keep(&mut self) -> String {
        let file = self.file.take().map(|(path, _)| format!(". The next run appends the lines in {}", path.display()));
        format!("another process keeps a lock on it{}", file.unwrap_or_default())
    }
}

impl Slot {
    /// The start of the slot in the file.
    fn offset(&self) -> u64 {
        self.0 * u64::try_from(SLOT_BYTES).unwrap_or_default()
    }
}

impl<'a> Place<'a> {
    pub(super) fn beside(changes: &'a Path) -> Self {
        let folder = changes.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut prefix = OsString::from(".");
        prefix.push(changes.file_name().unwrap_or_default());
        prefix.push(".");
        Self { folder, prefix }
    }

    /// Creates a file, which is removed if it is not kept.
    pub(super) fn create(&self) -> io::Result<NamedTempFile> {
        let readable: Permissions = PermissionsExt::from_mode(0o644);
        when_one_is_free(|| {
            let mut builder = Builder::new();
            builder.prefix(&self.prefix).suffix(SUFFIX).rand_bytes(RANDOM).permissions(readable.clone());
            builder.tempfile_in(self.folder)
        })
    }

    /// Creates a file that is locked before another run can take it for that of a killed run.
    fn create_locked(&self) -> io::Result<(PathBuf, File)> {
        loop {
            let created = self.create()?;
            flock(created.as_file(), FlockOperation::LockExclusive)?;
            if created.as_file().metadata()?.nlink() > 0 {
                let (file, path) = created.keep().map_err(|error| error.error)?;
                return Ok((path, file));
            }
        }
    }

    /// What a name in the folder is.
    pub(super) fn name(&self, name: &OsStr) -> Name {
        let rest = name.as_encoded_bytes().strip_prefix(self.prefix.as_encoded_bytes());
        match rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes())) {
            Some(random) if random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric) => Name::OfPending,
            // The pending file of `a.b` is not one of `a`.
            Some(random) if !random.contains(&b'.') => Name::Similar,
            Some(_) | None => Name::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_run_gives_are_those_of_pending_files() {
        let place = Place::beside(Path::new("a"));
        for (name, is) in [
            (".a.Ab3dEf.pending", Name::OfPending),
            (".a.notes.pending", Name::Similar),
            (".a.Ab-dEf.pending", Name::Similar),
            (".a.b.Ab3dEf.pending", Name::Other),
            ("a.Ab3dEf.pending", Name::Other),
            (".a.pending", Name::Other),
        ] {
            assert_eq!(place.name(OsStr::new(name)), is, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let changes = folder.path().join("changes");
        let place = Place::beside(&changes);
        let created = place.create().unwrap();
        assert_eq!(place.name(created.path().file_name().unwrap()), Name::OfPending);
    }

    #[test]
    fn a_folder_that_cannot_hold_the_file_does_not_stop_the_run() {
        let mut pending = PendingFile::beside(PathBuf::from("/proc/none/changes"));
        assert!(pending.start(&[b"{}\n".to_vec()]).iter().all(Option::is_none));
    }
}
