//! A FUSE file system that injects errors, wrong attributes and hanging calls.
//!
//! No call hangs forever: [`OddFs::release`] sends all responses that are held back. It runs when the test ends, and after a
//! minute at the latest. A test must not touch a path that hangs, because its threads would block each other. Only the
//! program under test may.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};

/// The longest time that a call can hang.
const MAX_HANG: Duration = Duration::from_mins(1);

/// The fault of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO.
    StatFails,
    StatHangs,
    OpenHangs,
    /// Stat shows the file or directory, and open or opendir fails, as if it did not exist.
    OpenNotFound(Absence),
    /// The same, the first time.
    OpenNotFoundOnce,
    /// The directory has newer times once it was opened, and its second open fails with ENOENT.
    ChangesAndNotFoundOnce,
    /// The directory has newer times once it was opened.
    ChangesOnOpen,
    /// Open finds the file, and read fails with ENOENT.
    ReadNotFound,
    /// The directory lists the name, and stat fails with ENOENT.
    Vanished,
    /// The same, but only the first read of the directory lists the name.
    ListedOnce,
    /// The first read of the directory does not list the name.
    ListedLater,
    /// The directory lists the name, and stat finds it once.
    FoundOnce,
    /// The directory lists the name as of another kind.
    ListedAsOtherKind,
    /// EIO.
    ReaddirFails,
    ReaddirHangs,
    /// ESTALE, the first times.
    ReaddirStale(usize),
    /// ESTALE for each read of a file that was opened among the first times.
    ReadStale(u64),
    /// The same for the first open, and the file no longer exists after that.
    ReadStaleAndGone,
    /// ESTALE for the first lookups of the name. The kernel repeats a lookup once.
    LookupStale(usize),
    /// EIO.
    ReadFails,
    ReadHangs,
    /// The first read of the directory lists a link, and stat shows a file or directory.
    ListedAsLink,
    /// A writer truncates the file when it is opened, and fills it again. The first stats show the new size with the old
    /// times.
    TruncatedOnOpen,
}

/// How a call says that a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    NoEntry,
    NotADirectory,
    Loop,
    NoDevice,
}

/// The time of the truncation, after 1970.
const TRUNCATED_AT: Duration = Duration::from_secs(1);
/// The number of stats that show the truncated file: one at the start of a read, and one at its end.
const TRUNCATED_STATS: usize = 2;

/// A file system that is in use cannot be unmounted.
const MAX_UNMOUNT: Duration = Duration::from_secs(3);

/// A mounted tree of directories (their names end with `/`) and files from 1970. The content of each file is its path.
pub(crate) struct OddFs {
    at: PathBuf,
    held: Arc<Held>,
    handles: Arc<Mutex<HashMap<String, u64>>>,
    session: Option<BackgroundSession>,
}

/// The responses that are held back; `None` after the release.
struct Held(Mutex<Option<Vec<HeldResponse>>>);

type HeldResponse = Box<dyn FnOnce() + Send>;

struct Odd {
    /// By inode number less 2.
    nodes: Vec<Node>,
    faults: HashMap<String, Fault>,
    held: Arc<Held>,
    stale: AtomicUsize,
    opens: AtomicUsize,
    /// The number of stats of a name with [`Fault::FoundOnce`].
    found: AtomicUsize,
    /// The number of times that a name was listed whose fault concerns the first time.
    listings: AtomicUsize,
    /// The number of handles of each file.
    handles: Arc<Mutex<HashMap<String, u64>>>,
    /// The number of stats since a file with [`Fault::TruncatedOnOpen`] was opened; `None` before.
    stats_since_open: Mutex<Option<usize>>,
}

struct Node {
    path: String,
    is_directory: bool,
}

impl OddFs {
    /// Mounts the file system on the directory `at`.
    pub(crate) fn mount(at: &Path, nodes: &[&str], faults: &[(&str, Fault)]) -> Self {
        let held = Arc::new(Held(Mutex::new(Some(Vec::new()))));
        let handles = Arc::<Mutex<HashMap<String, u64>>>::default();
        let node =
            |path: &&str| Node { path: path.trim_end_matches('/').to_owned(), is_directory: path.ends_with('/') };
        let odd = Odd {
            nodes: nodes.iter().map(node).collect(),
            faults: faults.iter().map(|(path, fault)| ((*path).to_owned(), *fault)).collect(),
            held: Arc::clone(&held),
            stale: AtomicUsize::new(0),
            opens: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
            listings: AtomicUsize::new(0),
            handles: Arc::clone(&handles),
            stats_since_open: Mutex::new(None),
        };
        let session = fuser::spawn_mount(odd, at, &fuser::Config::default()).unwrap();
        let late = Arc::downgrade(&held);
        thread::spawn(move || {
            thread::sleep(MAX_HANG);
            if let Some(held) = late.upgrade() {
                held.release();
            }
        });
        Self { at: at.to_owned(), held, handles, session: Some(session) }
    }

    fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        table.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == self.at))
    }

    /// The number of calls that hang.
    pub(crate) fn hanging(&self) -> usize {
        self.held.0.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// How often the file was opened.
    pub(crate) fn opens_of(&self, path: &str) -> u64 {
        self.handles.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// Sends all responses that are held back, and holds back no more.
    pub(crate) fn release(&self) {
        self.held.release();
    }
}

impl Drop for OddFs {
    fn drop(&mut self) {
        self.release();
        // Another process may have copied the mount into a namespace of its own: the file system then ends with that process.
        let session = self.session.take();
        thread::spawn(move || session.map(BackgroundSession::umount_and_join));
        for _ in 0..MAX_UNMOUNT.as_millis() / 10 {
            if !self.is_mounted() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

impl Held {
    fn back(&self, response: impl FnOnce() + Send + 'static) {
        match &mut *self.0.lock().unwrap() {
            Some(responses) => responses.push(Box::new(response)),
            None => response(),
        }
    }

    fn release(&self) {
        let responses = self.0.lock().unwrap().take();
        responses.into_iter().flatten().for_each(|response| response());
    }
}

impl Absence {
    fn errno(self) -> Errno {
        match self {
            Self::NoEntry => Errno::ENOENT,
            Self::NotADirectory => Errno::ENOTDIR,
            Self::Loop => Errno::ELOOP,
            Self::NoDevice => Errno::ENXIO,
        }
    }
}

impl Odd {
    fn node(&self, inode: INodeNo) -> Option<&Node> {
        self.nodes.get(usize::try_from(inode.0).unwrap().checked_sub(2)?)
    }

    /// Empty for the root.
    fn path_of(&self, inode: INodeNo) -> &str {
        self.node(inode).map_or("", |node| &node.path)
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        self.faults.get(path).copied()
    }

    fn opened(&self, inode: INodeNo, reply: ReplyOpen) {
        let fault = self.fault(self.path_of(inode));
        match fault {
            Some(Fault::OpenNotFound(absence)) => return reply.error(absence.errno()),
            Some(Fault::OpenNotFoundOnce) if self.opens.fetch_add(1, Ordering::Relaxed) == 0 => {
                return reply.error(Errno::ENOENT);
            }
            Some(Fault::ChangesAndNotFoundOnce) if self.opens.fetch_add(1, Ordering::Relaxed) == 1 => {
                return reply.error(Errno::ENOENT);
            }
            Some(Fault::ChangesOnOpen) => drop(self.opens.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        let handle = {
            let mut handles = self.handles.lock().unwrap();
            let handle = handles.entry(self.path_of(inode).to_owned()).or_default();
            *handle += 1;
            FileHandle(*handle)
        };
        let response = move || reply.opened(handle, FopenFlags::empty());
        if fault == Some(Fault::OpenHangs) { self.held.back(response) } else { response() }
    }

    fn find(&self, path: &str) -> Option<FileAttr> {
        let index = self.nodes.iter().position(|node| node.path == path)?;
        Some(self.attributes(INodeNo(u64::try_from(index).unwrap() + 2)))
    }

    /// The attributes of a file with [`Fault::TruncatedOnOpen`].
    fn with_truncation(&self, inode: INodeNo, honest: FileAttr) -> FileAttr {
        let mut stats = self.stats_since_open.lock().unwrap();
        match &mut *stats {
            Some(stats) if self.fault(self.path_of(inode)) == Some(Fault::TruncatedOnOpen) => {
                *stats += 1;
                if *stats <= TRUNCATED_STATS {
                    FileAttr { size: 0, ..honest }
                } else {
                    FileAttr { mtime: UNIX_EPOCH + TRUNCATED_AT, ctime: UNIX_EPOCH + TRUNCATED_AT, ..honest }
                }
            }
            _ => honest,
        }
    }

    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let file = self.node(inode).filter(|node| !node.is_directory);
        let faults = [Some(Fault::ChangesAndNotFoundOnce), Some(Fault::ChangesOnOpen)];
        let is_changed = faults.contains(&self.fault(self.path_of(inode))) && self.opens.load(Ordering::Relaxed) > 0;
        let changed = UNIX_EPOCH + if is_changed { Duration::from_secs(1) } else { Duration::ZERO };
        FileAttr {
            ino: inode,
            size: file.map_or(0, |file| u64::try_from(file.path.len()).unwrap()),
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: changed,
            ctime: changed,
            crtime: UNIX_EPOCH,
            kind: if file.is_some() { FileType::RegularFile } else { FileType::Directory },
            perm: if file.is_some() { 0o644 } else { 0o755 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 512,
        }
    }

    /// The inode, the kind in the directory entry, and the name of each child.
    fn children(&self, parent: &str) -> Vec<(INodeNo, FileType, String)> {
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        let child = |node: &Node| {
            let name = node.path.strip_prefix(&prefix).filter(|name| !name.is_empty() && !name.contains('/'))?;
            let attributes = self.find(&node.path)?;
            let kind = match (self.fault(&node.path), attributes.kind) {
                (Some(Fault::ListedOnce), _) if self.listings.fetch_add(1, Ordering::Relaxed) > 0 => return None,
                (Some(Fault::ListedLater), _) if self.listings.fetch_add(1, Ordering::Relaxed) == 0 => return None,
                (Some(Fault::ListedAsLink), _) if self.listings.fetch_add(1, Ordering::Relaxed) == 0 => {
                    FileType::Symlink
                }
                (Some(Fault::ListedAsOtherKind), FileType::Directory) => FileType::RegularFile,
                (Some(Fault::ListedAsOtherKind), _) => FileType::Directory,
                (_, kind) => kind,
            };
            Some((attributes.ino, kind, name.to_owned()))
        };
        self.nodes.iter().filter_map(child).collect()
    }
}

impl Filesystem for Odd {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // So that a name that hangs does not block other names in its directory.
        config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).unwrap();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_str().unwrap();
        let parent = self.path_of(parent);
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        match (self.fault(&path), self.find(&path)) {
            (Some(Fault::StatFails), _) => reply.error(Errno::EIO),
            (Some(Fault::Vanished | Fault::ListedOnce), _) | (_, None) => reply.error(Errno::ENOENT),
            (Some(Fault::FoundOnce), _) if self.found.fetch_add(1, Ordering::Relaxed) > 0 => reply.error(Errno::ENOENT),
            (Some(Fault::ReadStaleAndGone), _) if self.handles.lock().unwrap().contains_key(&path) => {
                reply.error(Errno::ENOENT);
            }
            (Some(Fault::LookupStale(times)), _) if self.stale.fetch_add(1, Ordering::Relaxed) < times => {
                reply.error(Errno::ESTALE);
            }
            (Some(Fault::StatHangs), Some(attributes)) => {
                self.held.back(move || reply.entry(&Duration::ZERO, &attributes, Generation(0)));
            }
            (_, Some(attributes)) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.with_truncation(inode, self.attributes(inode)));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.fault(self.path_of(inode)) == Some(Fault::TruncatedOnOpen) {
            self.stats_since_open.lock().unwrap().get_or_insert(0);
        }
        self.opened(inode, reply);
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.opened(inode, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let path = self.path_of(inode);
        let fault = self.fault(path);
        match fault {
            Some(Fault::ReaddirFails) => return reply.error(Errno::EIO),
            Some(Fault::ReaddirStale(times)) if self.stale.fetch_add(1, Ordering::Relaxed) < times => {
                return reply.error(Errno::ESTALE);
            }
            _ => {}
        }
        let children = self.children(path);
        let response = move || {
            for ((inode, kind, name), next) in children.into_iter().zip(1..).skip(usize::try_from(offset).unwrap()) {
                if reply.add(inode, next, kind, name) {
                    break;
                }
            }
            reply.ok();
        };
        if fault == Some(Fault::ReaddirHangs) { self.held.back(response) } else { response() }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let path = self.path_of(inode).to_owned();
        match self.fault(&path) {
            Some(Fault::ReadFails) => reply.error(Errno::EIO),
            Some(Fault::ReadNotFound) => reply.error(Errno::ENOENT),
            Some(Fault::ReadStale(opens)) if handle.0 <= opens => reply.error(Errno::ESTALE),
            Some(Fault::ReadStaleAndGone) => reply.error(Errno::ESTALE),
            fault => {
                let response = move || {
                    let from = path.len().min(usize::try_from(offset).unwrap());
                    let to = path.len().min(from + usize::try_from(size).unwrap());
                    reply.data(&path.as_bytes()[from..to]);
                };
                if fault == Some(Fault::ReadHangs) { self.held.back(response) } else { response() }
            }
        }
    }
}
