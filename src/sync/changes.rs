//! The changes file: a JSON line for each key that was written or deleted, so that a CDN can be invalidated.
//!
//! A thread appends the lines as soon as they arrive, whole lines only, and syncs them to disk within a second. So a run
//! that is killed loses no line of a change that it made a second before. The run never replaces or shortens the file: its
//! reader renames it away, and the run then creates a new one.
//!
//! Each write and delete has an [`Intent`] from before its request. The next run appends the intents that were open when a
//! run was killed. So a line may name a key that did not change; no key that changed lacks a line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

mod file;
mod intent;
mod pending;
mod recovery;

use super::plan_file::Action;
use super::reason::Reason;
use crate::counted::counted;
use crate::key::ObjectKey;
use crate::result_place::ResultPlace;
use file::{Appended, AppendedFile, LOCK_TIMEOUT};
pub(crate) use intent::Intent;
use pending::{PendingFile, Slot};

/// How many lines wait for the file at most, each of some 200 bytes.
const MOST_WAITING: usize = 4096;
/// The largest write.
const MOST_BATCH_BYTES: usize = 256 << 10;
/// How many bytes of lines wait while another process has a lock on the file.
const MOST_LOCKED_BYTES: usize = 4 << 20;
/// The wait between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the run waits for the lock: less than [`TIMEOUT`], after which the thread counts as stuck.
const LAST_LOCK_TIMEOUT: Duration = Duration::from_secs(25);
/// How old a written line is at most before it is synced to disk.
const SYNC_AFTER: Duration = Duration::from_millis(500);
/// How long the file may take to accept a line.
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(5);

/// The place of the changes file, if the command line names one.
#[derive(Clone, Debug, Default)]
pub struct Changes(Option<ResultPlace>);

/// The changes file of a run that may write. Clones write to the same file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangesWriter(Option<Arc<Writer>>);

/// One line of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Change {
    action: Action,
    key: ObjectKey,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    to_thread: SyncSender<Message>,
    /// Lines that the thread did not accept in time.
    refused: AtomicU64,
    /// Whether the thread did not write an intent in time. No request waits for it a second time.
    is_slow: AtomicBool,
}

#[derive(Debug)]
enum Message {
    /// Requests are about to be sent that may make these changes.
    Intents { lines: Vec<Vec<u8>>, slots: tokio::sync::oneshot::Sender<Vec<Option<Slot>>> },
    /// A request has ended, and may have made a change.
    Ended { slot: Option<Slot>, line: Option<Vec<u8>> },
    /// Ends the thread, which responds with its result.
    End(std::sync::mpsc::Sender<Result<(), Lost>>),
}

/// Lines that the file does not have yet.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// The slots that are free once the file has the lines.
    ended: Vec<Slot>,
}

/// Lines that are not in the file.
#[derive(Debug)]
struct Lost {
    lines: u64,
    error: String,
}

impl Changes {
    /// Checks that a file can be appended to at this place. Creates nothing: a run that cannot start leaves the file as it
    /// is.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or created in its folder.
    pub(crate) fn at(place: ResultPlace) -> io::Result<Self> {
        if place.device().is_none() {
            file::check(place.path())?;
        }
        Ok(Self(Some(place)))
    }

    /// Opens the file, and creates it if it does not exist. Appends what killed runs may have changed.
    ///
    /// # Errors
    /// Returns what failed, with the path. A file that another process keeps locked is an error, because the run would lose
    /// lines: it has changed nothing yet.
    pub(crate) fn open(self) -> Result<ChangesWriter, String> {
        self.open_within(LOCK_TIMEOUT)
    }

    fn open_within(self, timeout: Duration) -> Result<ChangesWriter, String> {
        let Some(place) = self.0 else {
            return Ok(ChangesWriter::default());
        };
        let path = place.given().to_owned();
        let (file, pending) = if let Some(device) = place.device() {
            (Appended::Device(device.clone()), PendingFile::none())
        } else {
            let file = AppendedFile::open(place.path())
                .and_then(|mut file| recovery::recover(place.path(), &mut file, timeout).map(|()| file))
                .map_err(|error| format!("cannot write the changes file to {}: {error}", path.display()))?;
            (Appended::File(file), PendingFile::beside(place.path().to_owned()))
        };
        let (to_thread, messages) = sync_channel(MOST_WAITING);
        thread::Builder::new()
            .spawn(move || append_all(file, pending, &messages, LAST_LOCK_TIMEOUT))
            .map_err(|error| format!("cannot start a thread for the changes file {}: {error}", path.display()))?;
        Ok(ChangesWriter(Some(Arc::new(Writer {
            path,
            to_thread,
            refused: AtomicU64::new(0),
            is_slow: AtomicBool::new(false),
        }))))
    }
}

impl ChangesWriter {
    /// Records that a write is about to be requested.
    pub(crate) async fn intend_write(
        &self,
        key: ObjectKey,
        action: Action,
        reason: Reason,
        size: Option<u64>,
    ) -> Intent {
        let mut intents = self.intend(std::iter::once(Change { action, key, reason, size })).await;
        intents.pop().unwrap_or_else(Intent::unnoted)
    }

    /// Records that deletes are about to be requested. Returns an intent for each key, in the same order.
    pub(crate) async fn intend_deletes(&self, keys: impl Iterator<Item = ObjectKey>) -> Vec<Intent> {
        let (action, reason) = (Action::Delete, Reason::Orphan);
        self.intend(keys.map(|key| Change { action, key, reason, size: None })).await
    }

    async fn intend(&self, changes: impl Iterator<Item = Change>) -> Vec<Intent> {
        let Some(writer) = &self.0 else {
            return changes.map(|_| Intent::unnoted()).collect();
        };
        let lines: Vec<Vec<u8>> = changes.map(|change| change.line()).collect();
        let mut slots = Vec::new();
        if !writer.has_refused() && !writer.is_slow.load(Ordering::Relaxed) {
            let (sender, response) = tokio::sync::oneshot::channel();
            let is_sent = writer.send(Message::Intents { lines: lines.clone(), slots: sender }, TIMEOUT);
            match tokio::time::timeout(TIMEOUT, response).await {
                Ok(Ok(written)) if is_sent => slots = written,
                _ => writer.note_slow(),
            }
        }
        let slots = slots.into_iter().chain(std::iter::repeat_with(|| None));
        lines.into_iter().zip(slots).map(|(line, slot)| Intent::new(Arc::clone(writer), line, slot)).collect()
    }

    /// Writes what still waits. Returns an error if changes are missing in the file.
    pub(crate) fn finish(&self) -> Option<String> {
        let writer = self.0.as_ref()?;
        let (sender, result) = channel();
        let in_time = writer.send(Message::End(sender), TIMEOUT).then(|| result.recv_timeout(TIMEOUT).ok()).flatten();
        let refused = writer.refused.load(Ordering::Relaxed);
        let (lines, error) = match in_time {
            Some(Ok(())) if refused == 0 => return None,
            Some(Ok(())) => (Some(refused), "it did not respond in time".to_owned()),
            Some(Err(Lost { lines, error })) => (Some(lines + refused), error),
            None => (None, "it does not respond, or another process has a lock on it".to_owned()),
        };
        let path = writer.path.display();
        let missing = match lines {
            Some(lines) => counted(lines, "change of this run is", "changes of this run are"),
            None => "some changes of this run are".to_owned(),
        };
        Some(format!(
            "cannot write the changes file to {path}: {error}. {missing} not in it: invalidate \
             everything, or read them from the bucket"
        ))
    }
}

impl Lost {
    /// What is lost from this error on.
    fn since(lines: u64, error: &io::Error) -> Self {
        tracing::warn!(
            %error,
            "cannot write the changes file: it lacks what this run changes from now on, also if this run is killed"
        );
        Self { lines, error: error.to_string() }
    }
}

impl Change {
    fn line(&self) -> Vec<u8> {
        // Strings and numbers always serialize.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl Writer {
    /// Whether the file did not accept a line in time. The run then waits for it no longer.
    fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) > 0
    }

    /// Notes that the thread did not write an intent in time.
    fn note_slow(&self) {
        if !self.is_slow.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                path = %self.path.display(),
                "the changes file does not respond: if this run is killed, the changes file lacks what its requests in \
                 flight changed"
            );
        }
    }

    /// Passes the end of an intent on to the thread.
    fn pass_on(&self, message: Message) {
        let timeout = if self.has_refused() { Duration::ZERO } else { TIMEOUT };
        let has_line = matches!(&message, Message::Ended { line: Some(_), .. });
        if !self.send(message, timeout) && has_line {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes a message on to the thread. Waits while too many wait there.
    fn send(&self, mut message: Message, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            match self.to_thread.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Full(unsent)) if Instant::now() < deadline => message = unsent,
                Err(_) => return false,
            }
            thread::sleep(RETRY);
        }
    }
}

/// Appends lines until the run ends. After the first error it only counts them: a file with holes would look whole.
fn append_all(mut file: Appended, mut pending: PendingFile, messages: &Receiver<Message>, last_lock_timeout: Duration) {
    let mut lost: Option<Lost> = None;
    let mut batch = Batch::default();
    // Lines that are written and not yet synced, and since when.
    let mut unsynced: Option<(Instant, u64)> = None;
    loop {
        let until_sync = unsynced.map(|(since, _)| SYNC_AFTER.saturating_sub(since.elapsed()));
        let until_append = (batch.lines > 0).then_some(LOCK_PAUSE);
        let first = match until_sync.into_iter().chain(until_append).min() {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => messages.recv_timeout(timeout),
        };
        let mut end = None;
        let mut next = match first {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(message) = next.take() {
            match message {
                Message::Intents { lines, slots } => {
                    // The slots are freed no longer.
                    let _ = slots.send(if lost.is_none() { pending.start(&lines) } else { Vec::new() });
                }
                Message::Ended { slot, line } => {
                    batch.ended.extend(slot);
                    batch.lines += u64::from(line.is_some());
                    batch.bytes.extend(line.into_iter().flatten());
                }
                Message::End(sender) => end = Some(sender),
            }
            next = if end.is_none() && batch.bytes.len() < MOST_BATCH_BYTES { messages.try_recv().ok() } else { None };
        }
        // While the file is locked, the lines of a killed run are in the pending file.
        let lock_timeout = match &end {
            Some(_) => last_lock_timeout,
            None if batch.bytes.len() < MOST_LOCKED_BYTES => Duration::ZERO,
            None => LOCK_TIMEOUT,
        };
        let appended = match &lost {
            None if batch.lines > 0 => file.append(&batch.bytes, lock_timeout),
            None | Some(_) => Ok(true),
        };
        match appended {
            Ok(true) => {
                let Batch { lines, ended, .. } = std::mem::take(&mut batch);
                if let Some(lost) = &mut lost {
                    lost.lines += lines;
                } else {
                    for slot in ended {
                        pending.end(slot);
                    }
                    if lines > 0 {
                        let (since, before) = unsynced.unwrap_or((Instant::now(), 0));
                        unsynced = Some((since, before + lines));
                    }
                }
            }
            Ok(false) => {}
            Err(error) => lost = Some(Lost::since(std::mem::take(&mut batch).lines, &error)),
        }
        if let Some((since, lines)) = unsynced
            && (end.is_some() || since.elapsed() >= SYNC_AFTER)
        {
            unsynced = None;
            if let Err(error) = file.sync() {
                let lost = lost.get_or_insert_with(|| Lost::since(0, &error));
                lost.lines += lines;
            }
        }
        if let Some(sender) = end {
            let result = if batch.lines > 0 {
                Err(Lost { lines: batch.lines, error: pending.keep() })
            } else {
                pending.remove();
                lost.map_or(Ok(()), Err)
            };
            let _ = sender.send(result);
            return;
        }
    }
}

#[cfg(test)]
mod captured_log;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::captured_log::CapturedLog;
    use super::*;
    use crate::key::{Prefix, RelativeKey};

    fn changes(path: &Path) -> ChangesWriter {
        Changes::at(ResultPlace::anywhere(path)).unwrap().open().unwrap()
    }

    fn note(writer: &ChangesWriter, name: &str) {
        let key = Prefix::new("www").unwrap().object_key(&RelativeKey::new(name));
        let change = Change { action: Action::Upload, key, reason: Reason::Absent, size: Some(1) };
        drop(Intent::new(Arc::clone(writer.0.as_ref().unwrap()), change.line(), None));
    }

    fn keys(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        lines.filter_map(|line| Some(line.ok()?["key"].as_str()?.to_owned())).collect()
    }

    #[test]
    fn lines_are_appended_and_appear_while_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        std::fs::write(&path, "{\"key\":\"before\"}\n{\"key\":\"to").unwrap();
        let checked = Changes::at(ResultPlace::anywhere(&path)).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("\"to"), "checking writes nothing");
        let writer = checked.open().unwrap();
        note(&writer, "a");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&path).unwrap().ends_with("}\n") {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(keys(&path), ["before", "www/a"]);
        for number in 0..10_000 {
            note(&writer, &number.to_string());
        }
        assert_eq!(writer.finish(), None);
        assert_eq!(keys(&path).len(), 10_002);
    }

    #[test]
    fn runs_append_to_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        thread::scope(|scope| {
            for run in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let writer = changes(path);
                    (0..1000).for_each(|number| note(&writer, &format!("{run}/{number}")));
                    assert_eq!(writer.finish(), None);
                });
            }
        });
        assert_eq!(keys(&path).len(), 4000);
    }

    #[test]
    fn a_file_that_was_renamed_away_gets_a_successor() {
        let folder = tempfile::tempdir().unwrap();
        let (path, read) = (folder.path().join("changes"), folder.path().join("read"));
        let writer = changes(&path);
        note(&writer, "a");
        while !path.exists() || keys(&path).is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        std::fs::rename(&path, &read).unwrap();
        note(&writer, "b");
        assert_eq!(writer.finish(), None);
        assert_eq!((keys(&read), keys(&path)), (vec!["www/a".to_owned()], vec!["www/b".to_owned()]));
    }

    #[test]
    fn a_failed_write_is_an_error_that_names_the_file_and_counts_the_lines() {
        let writer = changes(Path::new("/dev/full"));
        note(&writer, "a");
        thread::sleep(Duration::from_millis(50));
        note(&writer, "b");
        let error = writer.finish().unwrap();
        assert!(error.contains("/dev/full") && error.contains("2 changes"), "{error}");
        assert_eq!(ChangesWriter::default().finish(), None);
    }

    #[test]
    fn after_a_failed_write_no_intent_is_kept_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let full = Appended::Device(ResultPlace::anywhere(Path::new("/dev/full")).device().unwrap().clone());
        let pending = PendingFile::beside(folder.path().join("changes"));
        let (to_thread, messages) = sync_channel(8);
        let thread = thread::spawn(move || append_all(full, pending, &messages, Duration::ZERO));
        let intend = || {
            let (slots, response) = tokio::sync::oneshot::channel();
            to_thread.send(Message::Intents { lines: vec![b"{}\n".to_vec()], slots }).unwrap();
            response.blocking_recv().unwrap().pop().flatten()
        };
        let slot = intend();
        assert!(slot.is_some());
        to_thread.send(Message::Ended { slot, line: Some(b"{}\n".to_vec()) }).unwrap();
        let tries = (0..1000).take_while(|_| intend().is_some()).inspect(|_| thread::sleep(RETRY)).count();
        assert!(tries < 1000);
        drop(to_thread);
        thread.join().unwrap();
    }

    #[test]
    fn lines_wait_in_the_pending_file_while_another_process_keeps_the_file_locked() {
        for is_freed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("changes");
            let mut file = AppendedFile::open(&path).unwrap();
            let reader = std::fs::File::open(&path).unwrap();
            reader.lock().unwrap();
            let (to_thread, messages) = sync_channel(8);
            let (locked, pending) = (AppendedFile::open(&path).unwrap(), PendingFile::beside(path.clone()));
            let timeout = if is_freed { TIMEOUT } else { Duration::ZERO };
            let thread = thread::spawn(move || append_all(Appended::File(locked), pending, &messages, timeout));
            for name in ["a", "b", "c"] {
                let key = Prefix::new("www").unwrap().object_key(&RelativeKey::new(name));
                let line = Change { action: Action::Upload, key, reason: Reason::Absent, size: Some(1) }.line();
                let (slots, response) = tokio::sync::oneshot::channel();
                to_thread.send(Message::Intents { lines: vec![line.clone()], slots }).unwrap();
                let slot = response.blocking_recv().unwrap().pop().flatten();
                assert!(slot.is_some(), "no request waits for the lock");
                to_thread.send(Message::Ended { slot, line: Some(line) }).unwrap();
            }
            let reader = (!is_freed).then_some(reader);
            let (sender, result) = channel();
            to_thread.send(Message::End(sender)).unwrap();
            let result = result.recv().unwrap();
            thread.join().unwrap();
            if let Some(reader) = reader {
                let Lost { lines, error } = result.unwrap_err();
                assert!(lines == 3 && error.contains("The next run") && error.contains(".pending"), "{error}");
                assert_eq!(keys(&path), [""; 0]);
                drop(reader);
                recovery::recover(&path, &mut file, Duration::ZERO).unwrap();
            }
            assert_eq!(keys(&path), ["www/a", "www/b", "www/c"]);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_another_process_keeps_locked_is_an_error_before_the_first_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        let reader = std::fs::File::create(&path).unwrap();
        reader.lock().unwrap();
        let open = || Changes::at(ResultPlace::anywhere(&path)).unwrap().open_within(Duration::ZERO);
        let error = open().unwrap_err();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("lock"), "{error}");
        drop(reader);
        assert_eq!(open().unwrap().finish(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_accepts_no_intent_in_time_is_one_warning_and_no_further_wait() {
        let (log, _guard) = CapturedLog::start();
        // Nothing reads the messages.
        let (to_thread, messages) = sync_channel(8);
        let (refused, is_slow) = (AtomicU64::new(0), AtomicBool::new(false));
        let writer = Writer { path: PathBuf::from("changes"), to_thread, refused, is_slow };
        let writer = ChangesWriter(Some(Arc::new(writer)));
        let key = Prefix::new("www").unwrap().object_key(&RelativeKey::new("a"));
        let start = tokio::time::Instant::now();
        let first = writer.intend_deletes(std::iter::once(key.clone())).await;
        let second = writer.intend_deletes(std::iter::once(key)).await;
        assert_eq!(start.elapsed().as_secs(), TIMEOUT.as_secs());
        assert_eq!(log.count("WARN"), 1);
        assert_eq!(log.count("the changes file does not respond"), 1);
        assert_eq!(messages.try_iter().count(), 1);
        drop((first, second));
        let lines = messages.try_iter().filter(|message| matches!(message, Message::Ended { line: Some(_), .. }));
        assert_eq!(lines.count(), 2, "each request has its line");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none/changes");
        assert!(Changes::at(ResultPlace::anywhere(&missing)).is_err());
        Changes::at(ResultPlace::anywhere(&folder.path().join("new"))).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
