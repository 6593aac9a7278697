//! The pending file: the lines of the requests in flight, so that the next run can append those of a run that was killed.
//!
//! It lies beside the changes file, as `.NAME.XXXXXX.pending`. Each line has a slot from before its request until the
//! changes file has the line, or the request has changed nothing. The run holds a lock on it and removes it at its end. A
//! file without a lock is of a run that was killed.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::MOST_BATCH_BYTES;
use super::file::AppendedFile;
use crate::open_files::when_one_is_free;

/// The size of a slot. A key has up to 1,024 bytes, and JSON may write one byte as six.
const SLOT_BYTES: usize = 8 << 10;
const SUFFIX: &str = ".pending";

/// The place of a line in the file.
#[derive(Debug)]
pub(super) struct Slot(u64);

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
        let beside = self.beside.as_ref().filter(|_| line.len() <= SLOT_BYTES)?;
        let written = match &self.file {
            Some(_) => Ok(()),
            None => create(beside).map(|created| self.file = Some(created)),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            Slot(self.slots - 1)
        });
        let written = written.and_then(|()| match &self.file {
            Some((_, file)) => file.write_all_at(line, slot.offset()),
            None => Ok(()),
        });
        if let Err(error) = written {
            tracing::warn!(
                path = %beside.display(),
                %error,
                "cannot write a file beside the changes file: if this run is killed, the changes file lacks what its \
                 requests in flight changed"
            );
            self.beside = None;
            return None;
        }
        Some(slot)
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
}

impl Slot {
    /// The start of the slot in the file.
    fn offset(&self) -> u64 {
        self.0 * u64::try_from(SLOT_BYTES).unwrap_or_default()
    }
}

/// Creates a file that is locked before another run can take it for that of a killed run.
fn create(beside: &Path) -> io::Result<(PathBuf, File)> {
    let (folder, prefix) = place(beside);
    let readable: Permissions = PermissionsExt::from_mode(0o644);
    loop {
        let created = when_one_is_free(|| {
            tempfile::Builder::new().prefix(&prefix).suffix(SUFFIX).permissions(readable.clone()).tempfile_in(folder)
        })?;
        flock(created.as_file(), FlockOperation::LockExclusive)?;
        if created.as_file().metadata()?.nlink() > 0 {
            let (file, path) = created.keep().map_err(|error| error.error)?;
            return Ok((path, file));
        }
    }
}

/// The folder of the pending files, and how their names begin.
fn place(beside: &Path) -> (&Path, OsString) {
    let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = OsString::from(".");
    prefix.push(beside.file_name().unwrap_or_default());
    prefix.push(".");
    (folder, prefix)
}

/// Appends the lines of runs that were killed: their requests may have been carried out.
pub(super) fn recover(beside: &Path, into: &mut AppendedFile) {
    let (folder, prefix) = place(beside);
    let (prefix, suffix) = (prefix.as_encoded_bytes(), SUFFIX.as_bytes());
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let unique = name.as_encoded_bytes().strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        if unique.is_none_or(|unique| unique.contains(&b'.')) {
            continue;
        }
        let path = entry.path();
        match recover_one(&path, into) {
            Ok(None) => {}
            Ok(Some(lines)) => tracing::info!(
                path = %path.display(),
                lines,
                "an earlier run was killed: appended to the changes file what its requests in flight may have changed"
            ),
            Err(error) => tracing::warn!(
                path = %path.display(),
                %error,
                "cannot append what the requests of a killed run may have changed: the keys are in this file"
            ),
        }
    }
}

/// Returns how many lines it has appended; `None` if the run of this file is still alive.
fn recover_one(path: &Path, into: &mut AppendedFile) -> io::Result<Option<usize>> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let file = when_one_is_free(|| File::options().read(true).write(true).custom_flags(flags).open(path))?;
    // A file system without locks cannot show that the run has ended.
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || file.metadata()?.nlink() == 0 {
        return Ok(None);
    }
    let (mut slot, mut found) = (vec![0; SLOT_BYTES], 0);
    let mut lines = Vec::new();
    for offset in (0..file.metadata()?.len()).step_by(SLOT_BYTES) {
        let length = read_up_to(&file, &mut slot, offset)?;
        if let Some(line) = line_of(slot.get(..length).unwrap_or_default()) {
            lines.extend_from_slice(line);
            found += 1;
        }
        if lines.len() >= MOST_BATCH_BYTES {
            into.append(&lines)?;
            lines.clear();
        }
    }
    if !lines.is_empty() {
        into.append(&lines)?;
    }
    if found > 0 {
        into.sync()?;
    }
    fs::remove_file(path)?;
    Ok(Some(found))
}

/// The line of a slot that is in use. A run that is killed during the write of a line has not sent its request.
fn line_of(slot: &[u8]) -> Option<&[u8]> {
    let end = slot.iter().position(|byte| *byte == b'\n')?;
    let (line, _) = slot.split_at_checked(end + 1)?;
    let is_whole = line.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    is_whole.then_some(line)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + u64::try_from(length).unwrap_or_default())? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| format!("{{\"key\":\"{name}\"}}\n").into_bytes()).collect()
    }

    #[test]
    fn lines_of_a_killed_run_are_appended_once_and_those_of_a_live_run_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        let mut file = AppendedFile::open(&path).unwrap();
        let mut live = PendingFile::beside(path.clone());
        live.start(&lines(&["live"]));
        let mut killed = PendingFile::beside(path.clone());
        let long = "k".repeat(6000);
        let slots = killed.start(&lines(&["a", &long, "c"]));
        for slot in slots.into_iter().flatten().take(1) {
            killed.end(slot);
        }
        killed.start(&lines(&["d"]));
        drop(killed);
        for _ in 0..2 {
            recover(&path, &mut file);
        }
        let expected: Vec<u8> = lines(&["d", &long, "c"]).concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        live.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn more_lines_than_one_write_holds_are_recovered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        let mut file = AppendedFile::open(&path).unwrap();
        let mut killed = PendingFile::beside(path.clone());
        let written = vec![lines(&["k".repeat(6000).as_str()]).concat(); 100];
        killed.start(&written);
        drop(killed);
        recover(&path, &mut file);
        assert_eq!(fs::read(&path).unwrap(), written.concat());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_slot_without_a_whole_line_is_no_change() {
        for slot in [&b"-\"key\":1}\n"[..], b"{\"key\":", b"{\"ke\n", b"", b"\0\0"] {
            assert_eq!(line_of(slot), None, "{slot:?}");
        }
        assert_eq!(line_of(b"{\"key\":1}\nrest"), Some(&b"{\"key\":1}\n"[..]));
    }

    #[test]
    fn a_folder_that_cannot_hold_the_file_does_not_stop_the_run() {
        let mut pending = PendingFile::beside(PathBuf::from("/proc/none/changes"));
        assert!(pending.start(&lines(&["a"])).iter().all(Option::is_none));
    }
}
