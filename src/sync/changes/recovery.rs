//! The recovery of pending files: appends to the changes file what the requests of killed runs may have changed.
//!
//! The lines are on disk in the changes file before their pending file is emptied. So a run that is killed between the two
//! leaves lines that the next run appends a second time, and loses none. A file that no killed run of this user can have
//! left stays as it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::de::IgnoredAny;

use super::file::AppendedFile;
use super::pending::{MOST_SLOTS, Name, Place, SLOT_BYTES};
use super::{Change, MOST_BATCH_BYTES};
use crate::key::MAX_KEY_BYTES;
use crate::open_files::when_one_is_free;
use crate::sync::plan_file::Action;

/// What the recovery did with a file.
#[derive(Debug)]
enum Recovered {
    /// The run that locked the file is still running.
    Alive,
    /// The changes file has this many lines more, and the pending file is gone.
    Gone(usize),
    /// The pending file is empty, but cannot be removed.
    Emptied(usize, io::Error),
    /// The pending file still has its lines.
    Kept(usize, io::Error),
}

/// Why nothing of a file is appended.
#[derive(Debug, thiserror::Error)]
enum Unrecovered {
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// Another process keeps the changes file locked.
    #[error("another process has a lock on the changes file")]
    Locked,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a file is not that of a killed run of this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Foreign {
    #[error("no run gives a file this name")]
    Name,
    #[error("it is not a regular file")]
    Kind,
    #[error("it has another hard link")]
    OtherLink,
    #[error("it belongs to the user {0}, whose runs append it")]
    Owner(u32),
    #[error("it has more than {} bytes", most_bytes())]
    Size,
    #[error("at byte {0} it holds something other than a line of a changes file")]
    Content(u64),
}

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
enum Held<'a> {
    Line(&'a [u8]),
    /// No line, or one that needs no recovery.
    Nothing,
    /// No run writes this.
    Foreign,
}

/// A file that holds slots only.
struct Checked(File);

/// Appends the lines of runs that were killed: their requests may have been carried out.
///
/// # Errors
/// Returns an error if another process keeps the changes file locked for this long. The pending files stay as they are.
pub(super) fn recover(changes: &Path, into: &mut AppendedFile, timeout: Duration) -> io::Result<()> {
    if into.lock(timeout)?.is_none() {
        return Err(locked(timeout));
    }
    let place = Place::beside(changes);
    let entries = match fs::read_dir(place.folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(
                path = %place.folder.display(),
                %error,
                "cannot look for the files of killed runs beside the changes file"
            );
            return Ok(());
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let recovered = match place.name(&entry.file_name()) {
            Name::Other => continue,
            Name::Similar => Err(Foreign::Name.into()),
            Name::OfPending => recover_one(&path, &place, into, timeout),
        };
        match recovered {
            Ok(recovered) => recovered.log(&path),
            Err(Unrecovered::Locked) => return Err(locked(timeout)),
            Err(Unrecovered::Foreign(reason)) => tracing::warn!(
                path = %path.display(),
                %reason,
                "kept a file that is named like that of a killed run: it cannot be one of this user. If its lines belong into \
                 the changes file, append them; then remove the file"
            ),
            Err(Unrecovered::Io(error)) => tracing::warn!(
                path = %path.display(),
                %error,
                "cannot append what the requests of a killed run may have changed: the keys are in this file"
            ),
        }
    }
    Ok(())
}

/// The error of a changes file that stays locked.
fn locked(timeout: Duration) -> io::Error {
    let message = format!(
        "another process has had a lock on it for {} seconds. The reader of the file must rename it before it takes the lock: \
         end that process, or name another file",
        timeout.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn recover_one(
    path: &Path,
    place: &Place<'_>,
    into: &mut AppendedFile,
    timeout: Duration,
) -> Result<Recovered, Unrecovered> {
    // Opening another kind of file can have an effect.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Foreign::Kind.into());
    }
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let opened = when_one_is_free(|| File::options().read(true).write(true).custom_flags(flags).open(path));
    let stat = match &opened {
        Ok(file) => file.metadata()?,
        Err(_) => fs::symlink_metadata(path)?,
    };
    if !stat.is_file() {
        return Err(Foreign::Kind.into());
    }
    if !is_own(&stat, place) {
        return Err(Foreign::Owner(stat.uid()).into());
    }
    let file = opened?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Recovered::Alive),
        // A file system without locks cannot show that the run has ended.
        Err(errno) => return Err(io::Error::from(errno).into()),
    }
    match file.metadata()?.nlink() {
        // Another run has recovered it.
        0 => return Ok(Recovered::Alive),
        1 => {}
        _ => return Err(Foreign::OtherLink.into()),
    }
    let file = Checked::new(file)?;
    let lines = file.append_to(into, timeout)?;
    let emptied = file.0.set_len(0).and_then(|()| file.0.sync_all());
    Ok(match (fs::remove_file(path), emptied) {
        (Ok(()), _) => Recovered::Gone(lines),
        (Err(error), Ok(())) => Recovered::Emptied(lines, error),
        (Err(error), Err(_)) => Recovered::Kept(lines, error),
    })
}

/// Whether a file has the owner that the files of this run have in the same folder. A file server may give them another
/// owner than the process has.
fn is_own(stat: &fs::Metadata, place: &Place<'_>) -> bool {
    let owner_here = || Some(place.create().ok()?.as_file().metadata().ok()?.uid());
    stat.uid() == geteuid().as_raw() || owner_here() == Some(stat.uid())
}

/// The size of the largest pending file.
fn most_bytes() -> u64 {
    MOST_SLOTS * u64::try_from(SLOT_BYTES).unwrap_or(u64::MAX)
}

impl Recovered {
    fn log(&self, path: &Path) {
        let path = path.display();
        if let Self::Gone(lines) | Self::Emptied(lines, _) | Self::Kept(lines, _) = self {
            tracing::info!(
                %path,
                lines,
                "an earlier run was killed, or ended while the changes file was locked: appended what it may have changed"
            );
        }
        match self {
            Self::Alive | Self::Gone(_) => {}
            Self::Emptied(_, error) => {
                tracing::warn!(%path, %error, "cannot remove this empty file of a killed run: remove it");
            }
            Self::Kept(_, error) => tracing::warn!(
                %path,
                %error,
                "cannot remove this file of a killed run: each run appends its lines again until you remove it"
            ),
        }
    }
}

impl Checked {
    /// Reads all slots of a file once, so that nothing of a file that is another's is appended.
    fn new(file: File) -> Result<Self, Unrecovered> {
        if file.metadata()?.len() > most_bytes() {
            return Err(Foreign::Size.into());
        }
        let checked = Self(file);
        checked.for_each_slot(|offset, held| match held {
            Held::Foreign => Err(Foreign::Content(offset).into()),
            Held::Line(_) | Held::Nothing => Ok(()),
        })?;
        Ok(checked)
    }

    /// Appends the lines, and returns how many. They are then on disk.
    fn append_to(&self, into: &mut AppendedFile, timeout: Duration) -> Result<usize, Unrecovered> {
        let (mut lines, mut found) = (Vec::new(), 0);
        let mut append = |lines: &mut Vec<u8>| {
            if !lines.is_empty() {
                let locked = into.lock(timeout)?.ok_or(Unrecovered::Locked)?;
                locked.append(lines)?;
                locked.sync()?;
                lines.clear();
            }
            Ok(())
        };
        self.for_each_slot(|_, held| {
            if let Held::Line(line) = held {
                lines.extend_from_slice(line);
                found += 1;
            }
            if lines.len() < MOST_BATCH_BYTES { Ok(()) } else { append(&mut lines) }
        })?;
        append(&mut lines)?;
        Ok(found)
    }

    fn for_each_slot(&self, mut each: impl FnMut(u64, Held<'_>) -> Result<(), Unrecovered>) -> Result<(), Unrecovered> {
        let mut slot = vec![0; SLOT_BYTES];
        for offset in (0..self.0.metadata()?.len()).step_by(SLOT_BYTES) {
            let length = read_up_to(&self.0, &mut slot, offset)?;
            each(offset, Held::by(slot.get(..length).unwrap_or_default()))?;
        }
        Ok(())
    }
}

impl<'a> Held<'a> {
    /// What a slot holds. A run that is killed during the write of a line has not sent its request.
    fn by(slot: &'a [u8]) -> Self {
        const START: &[u8] = b"{\"action\":\"";
        let mut lines = slot.split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        // What follows is the rest of longer lines that the slot held before.
        if is_change(first) && !lines.any(is_change) {
            return Held::Line(first);
        }
        // A free slot has another first byte.
        let is_free_or_torn = slot.get(1..START.len()) == START.get(1..)
            && matches!(slot.first(), Some(b'{' | b'-'))
            && serde_json::from_slice::<IgnoredAny>(first).is_err();
        if is_free_or_torn || slot.iter().all(|byte| *byte == 0) { Held::Nothing } else { Held::Foreign }
    }
}

/// Whether a line is one that a run writes into a changes file.
fn is_change(line: &[u8]) -> bool {
    line.ends_with(b"\n")
        && serde_json::from_slice::<Change>(line).is_ok_and(|Change { action, key, .. }| {
            action != Action::Keep && (1..=MAX_KEY_BYTES).contains(&key.as_str().len())
        })
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
    use std::os::unix::fs::symlink;

    use super::super::pending::PendingFile;
    use super::*;

    fn lines(names: &[&str]) -> Vec<Vec<u8>> {
        let line =
            |name: &&str| format!("{{\"action\":\"upload\",\"key\":\"{name}\",\"reason\":\"absent\",\"size\":1}}\n");
        names.iter().map(|name| line(name).into_bytes()).collect()
    }

    #[test]
    fn lines_of_a_killed_run_are_appended_once_and_those_of_a_live_run_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        let mut file = AppendedFile::open(&path).unwrap();
        let mut live = PendingFile::beside(path.clone());
        live.start(&lines(&["live"]));
        let mut killed = PendingFile::beside(path.clone());
        let long = "\\u0001".repeat(1000);
        let slots = killed.start(&lines(&["a", &long, "c"]));
        for slot in slots.into_iter().flatten().take(1) {
            killed.end(slot);
        }
        killed.start(&lines(&["d"]));
        drop(killed);
        for _ in 0..2 {
            recover(&path, &mut file, Duration::ZERO).unwrap();
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
        let written = vec![lines(&["\\u0001".repeat(1000).as_str()]).concat(); 100];
        killed.start(&written);
        drop(killed);
        recover(&path, &mut file, Duration::ZERO).unwrap();
        assert_eq!(fs::read(&path).unwrap(), written.concat());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// What is done to a file that is named like that of a killed run.
    type Spoil = fn(&Path);

    /// Writes a file that is named like that of a killed run, and returns what becomes of it.
    fn recovered(content: &[u8], change: impl FnOnce(&Path)) -> (Result<Recovered, Unrecovered>, String) {
        let folder = tempfile::tempdir().unwrap();
        let (changes, path) = (folder.path().join("changes"), folder.path().join(".changes.AbCdEf.pending"));
        let mut file = AppendedFile::open(&changes).unwrap();
        fs::write(&path, content).unwrap();
        change(&path);
        let recovered = recover_one(&path, &Place::beside(&changes), &mut file, Duration::ZERO);
        let is_gone = matches!(recovered, Ok(Recovered::Gone(_)));
        assert_eq!(fs::symlink_metadata(&path).is_err(), is_gone, "{recovered:?}");
        (recovered, fs::read_to_string(changes).unwrap())
    }

    #[test]
    fn a_file_that_no_run_can_have_left_stays_and_adds_no_line() {
        let line = lines(&["a"]).concat();
        let content = |content: &[u8], offset| (content.to_vec(), Foreign::Content(offset));
        let mut second = line.clone();
        second.resize(SLOT_BYTES, 0);
        second.extend_from_slice(b"notes\n");
        for (content, reason) in [
            content(b"notes\n", 0),
            content(b"{\"key\":\"a\"}\n", 0),
            content(&lines(&["a", "b"]).concat(), 0),
            content(&second, 8192),
        ] {
            let (recovered, appended) = recovered(&content, |_| {});
            assert!(matches!(recovered, Err(Unrecovered::Foreign(found)) if found == reason), "{recovered:?}");
            assert_eq!(appended, "");
        }
        let other_places: [(Spoil, Foreign); 5] = [
            (|path| fs::hard_link(path, path.with_extension("link")).unwrap(), Foreign::OtherLink),
            (
                |path| {
                    fs::rename(path, path.with_extension("target")).unwrap();
                    symlink(path.with_extension("target"), path).unwrap();
                },
                Foreign::Kind,
            ),
            (
                |path| {
                    fs::remove_file(path).unwrap();
                    fs::create_dir(path).unwrap();
                },
                Foreign::Kind,
            ),
            (|path| File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap(), Foreign::Size),
            (|path| std::os::unix::fs::chown(path, Some(65534), None).unwrap(), Foreign::Owner(65534)),
        ];
        // Only root may give a file away.
        for (change, reason) in other_places.into_iter().take(if geteuid().is_root() { 5 } else { 4 }) {
            let (recovered, appended) = recovered(&line, change);
            assert!(matches!(recovered, Err(Unrecovered::Foreign(found)) if found == reason), "{recovered:?}");
            assert_eq!(appended, "");
        }
        let (recovered, appended) = recovered(&line, |_| {});
        assert!(matches!(recovered, Ok(Recovered::Gone(1))), "{recovered:?}");
        assert_eq!(appended.into_bytes(), line);
    }

    #[test]
    fn a_slot_holds_a_line_nothing_or_what_no_run_writes() {
        let line = lines(&["a"]).concat();
        let free = [b"-", line.get(1..).unwrap()].concat();
        let too_long = lines(&["k".repeat(1025).as_str()]).concat();
        let whole = [&line[..], b"rest of a longer line\n"].concat();
        assert_eq!(Held::by(&whole), Held::Line(&line));
        for slot in [&free[..], b"{\"action\":\"uplo", b"{\"action\":\"uplo\n", b"\0\0", b""] {
            assert_eq!(Held::by(slot), Held::Nothing, "{slot:?}");
        }
        let unknown = b"{\"action\":\"upload\",\"key\":\"a\",\"reason\":\"absent\",\"new\":1}\n";
        let kept = b"{\"action\":\"keep\",\"key\":\"a\",\"reason\":\"absent\"}\n";
        let two = lines(&["a", "b"]).concat();
        for slot in [&too_long[..], unknown, kept, &two, b"{}\n", b"-\n", b"notes", b"\0notes", b"{\"ke"] {
            assert_eq!(Held::by(slot), Held::Foreign, "{slot:?}");
        }
    }

    #[test]
    fn a_pending_file_stays_while_another_process_has_a_lock_on_the_changes_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        let mut file = AppendedFile::open(&path).unwrap();
        let mut killed = PendingFile::beside(path.clone());
        killed.start(&lines(&["a"]));
        drop(killed);
        let reader = File::open(&path).unwrap();
        flock(&reader, FlockOperation::LockExclusive).unwrap();
        let error = recover(&path, &mut file, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("rename"), "{error}");
        assert_eq!((fs::read(&path).unwrap().len(), fs::read_dir(folder.path()).unwrap().count()), (0, 2));
        drop(reader);
        recover(&path, &mut file, Duration::ZERO).unwrap();
        assert_eq!(fs::read(&path).unwrap(), lines(&["a"]).concat());
    }
}
