//! A file system whose reads of one file never end, as on a hard mount whose server is away.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, Request,
};

const NAMES: [&str; 3] = ["a", "hangs", "z"];
const CONTENT: &[u8] = b"content";

/// The mounted file system: `a` and `z` can be read, `hangs` cannot.
pub(crate) struct HangingMount {
    folder: tempfile::TempDir,
    state: Arc<State>,
    session: Option<fuser::BackgroundSession>,
}

#[derive(Default)]
struct State {
    healed: AtomicBool,
    /// Dropping an answer would be an answer.
    unanswered: Mutex<Vec<ReplyData>>,
}

struct HangingFs(Arc<State>);

impl HangingMount {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::default());
        let session =
            fuser::spawn_mount(HangingFs(Arc::clone(&state)), folder.path(), &fuser::Config::default()).unwrap();
        Self { folder, state, session: Some(session) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How many reads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state.unanswered.lock().unwrap().len()
    }

    /// Lets the waiting reads fail, so that the threads in them, and with them their process, can end.
    pub(crate) fn heal(&self) {
        self.state.healed.store(true, Ordering::Relaxed);
        self.state.unanswered.lock().unwrap().clear();
    }
}

impl Drop for HangingMount {
    fn drop(&mut self) {
        self.heal();
        let _ = std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status();
        drop(self.session.take());
    }
}

fn attributes(inode: INodeNo) -> FileAttr {
    let directory = inode.0 == 1;
    FileAttr {
        ino: inode,
        size: if directory { 0 } else { u64::try_from(CONTENT.len()).unwrap() },
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if directory { FileType::Directory } else { FileType::RegularFile },
        perm: if directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 512,
    }
}

fn inodes() -> impl Iterator<Item = (&'static str, INodeNo)> {
    NAMES.into_iter().zip((2..).map(INodeNo))
}

impl Filesystem for HangingFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match inodes().find(|(known, _)| *known == name) {
            Some((_, inode)) => reply.entry(&Duration::ZERO, &attributes(inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attributes(inode));
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for ((name, inode), next) in inodes().zip(1..).skip(usize::try_from(offset).unwrap()) {
            if reply.add(inode, next, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if inode == INodeNo(3) && !self.0.healed.load(Ordering::Relaxed) {
            return self.0.unanswered.lock().unwrap().push(reply);
        }
        reply.data(CONTENT.get(usize::try_from(offset).unwrap()..).unwrap_or_default());
    }
}
