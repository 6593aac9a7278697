//! The operations: the system calls on the source, each of them counted.
//!
//! EFS meters every call, and a walk of a million files costs more than its listings. So the counts are exact, and the
//! report has them. `stat` and `open` count calls. `readdir` counts the `getdents64` calls, of 32 KiB each, that returned
//! entries or failed (an empty directory without `.` and `..` counts one). The last call of each directory returns
//! nothing: the NFS client responds to it without the server, so it is not counted.
//!
//! A path without links is opened by one `openat2`. If the kernel or a sandbox refuses that call, the path is opened
//! part by part, and no part may be a link. The results and the errors are the same (`DESIGN.md#without-openat2`).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;

use super::entry::{EntryKind, Stat};
use super::stale::looked_up;
use crate::open_files::when_one_is_free;
use crate::time::EpochNanos;

/// The counts of calls to the file system.
#[derive(Debug, Default)]
pub struct Operations {
    /// Batches of directory entries.
    pub readdir: AtomicU64,
    /// `statx`.
    pub stat: AtomicU64,
    /// `open`, of directories and files.
    pub open: AtomicU64,
    /// `readlink`.
    pub readlink: AtomicU64,
    /// Whether the system has `openat2`, once it is known.
    has_openat2: OnceLock<bool>,
}

/// Whether to follow a link that is the last part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLink {
    Follow,
    Keep,
}

/// Which parts of a path may be links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowedLinks {
    None,
    NotLast,
    Any,
}

impl LastLink {
    const fn flags(self) -> AtFlags {
        match self {
            Self::Follow => AtFlags::empty(),
            Self::Keep => AtFlags::SYMLINK_NOFOLLOW,
        }
    }
}

impl Operations {
    /// Stats `path`, relative to `base`.
    pub(crate) fn stat(&self, base: BorrowedFd<'_>, path: &[u8], last: LastLink) -> Result<Stat, Errno> {
        looked_up(|| self.stat_with(base, path, last.flags()))
    }

    fn stat_with(&self, base: BorrowedFd<'_>, path: &[u8], flags: AtFlags) -> Result<Stat, Errno> {
        self.stat.fetch_add(1, Ordering::Relaxed);
        rustix::fs::statx(base, path, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
            .map(|statx| stat_of(&statx))
    }

    /// Returns the target of the link at `path`, relative to `base`.
    pub(crate) fn readlink(&self, base: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        looked_up(|| {
            self.readlink.fetch_add(1, Ordering::Relaxed);
            rustix::fs::readlinkat(base, path, Vec::new()).map(std::ffi::CString::into_bytes)
        })
    }

    /// Opens the directory at `path`, relative to `base`, for reading.
    pub(crate) fn open_directory(
        &self,
        base: BorrowedFd<'_>,
        path: &[u8],
        links: AllowedLinks,
    ) -> Result<OwnedFd, Errno> {
        self.open(base, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, links)
    }

    fn open(&self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags, links: AllowedLinks) -> Result<OwnedFd, Errno> {
        let not_last = flags | OFlags::NOFOLLOW;
        looked_up(|| {
            self.open.fetch_add(1, Ordering::Relaxed);
            when_one_is_free(|| match links {
                AllowedLinks::Any => rustix::fs::openat(base, path, flags, Mode::empty()),
                AllowedLinks::NotLast => rustix::fs::openat(base, path, not_last, Mode::empty()),
                AllowedLinks::None if *self.has_openat2.get_or_init(|| has_openat2(base)) => {
                    rustix::fs::openat2(base, path, flags, Mode::empty(), WITHOUT_LINKS)
                }
                AllowedLinks::None => open_part_by_part(base, path, not_last),
            })
        })
    }

    /// Opens the file at `path`, relative to `base`, for reading; never waits for a FIFO's other end.
    pub(crate) fn open_file(&self, base: BorrowedFd<'_>, path: &[u8], links: AllowedLinks) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open(base, path, flags, links)
    }

    /// Stats `path` past all caches: on NFS, the stat goes to the server.
    pub(crate) fn fresh_stat(&self, base: BorrowedFd<'_>, path: &[u8], last: LastLink) -> Result<Stat, Errno> {
        looked_up(|| self.stat_with(base, path, last.flags() | AtFlags::STATX_FORCE_SYNC))
    }

    /// Stats an open file past all caches.
    pub(crate) fn fresh_stat_of(&self, file: &impl AsFd) -> Result<Stat, Errno> {
        self.stat_with(file.as_fd(), b"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC)
    }

    /// Reads the next batch of names in `directory`; false if there are no more. `first`: no batch has been read yet.
    pub(crate) fn read_names(
        &self,
        directory: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
        first: bool,
        mut each: impl FnMut(&[u8], FileType),
    ) -> Result<bool, Errno> {
        let mut entries = RawDir::new(directory, buffer);
        let mut counted = false;
        let mut count = || {
            if !std::mem::replace(&mut counted, true) {
                self.readdir.fetch_add(1, Ordering::Relaxed);
            }
        };
        loop {
            match entries.next() {
                Some(Ok(entry)) => {
                    count();
                    let name = entry.file_name().to_bytes();
                    if name != b"." && name != b".." {
                        each(name, entry.file_type());
                    }
                    if entries.is_buffer_empty() {
                        return Ok(true);
                    }
                }
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => {
                    count();
                    return Err(errno);
                }
                None => {
                    if first {
                        count();
                    }
                    return Ok(false);
                }
            }
        }
    }
}

const WITHOUT_LINKS: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// How a directory is held for the next part of a path: without reading it, which takes no permission.
const PART: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether `openat2` works. It is missing before Linux 5.6 (`ENOSYS`), and some sandboxes refuse it (`EPERM`). Another
/// kernel could not know a flag (`EINVAL`) or a field (`E2BIG`). A stale directory and a lack of descriptors show nothing.
fn has_openat2(directory: BorrowedFd<'_>) -> bool {
    let opened = rustix::fs::openat2(directory, ".", PART, Mode::empty(), WITHOUT_LINKS);
    matches!(opened, Ok(_) | Err(Errno::STALE | Errno::MFILE | Errno::NFILE))
}

/// Opens a path none of whose parts is a link, as `openat2` does.
fn open_part_by_part(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    let flags = if path.ends_with(b"/") { flags | OFlags::DIRECTORY } else { flags };
    let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let mut parent: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let within = parent.as_ref().map_or(base, AsFd::as_fd);
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let is_last = parts.peek().is_none();
        match rustix::fs::openat(within, part, if is_last { flags } else { PART }, Mode::empty()) {
            // `O_DIRECTORY` hides that the part is a link.
            Err(Errno::NOTDIR) if rustix::fs::readlinkat(within, part, Vec::new()).is_ok() => return Err(Errno::LOOP),
            Ok(opened) if is_last => return Ok(opened),
            opened => parent = Some(opened?),
        }
    }
    rustix::fs::openat(base, ".", flags, Mode::empty())
}

fn stat_of(statx: &Statx) -> Stat {
    let mode = u32::from(statx.stx_mode);
    let kind = kind_of(FileType::from_raw_mode(mode));
    Stat {
        kind,
        size_bytes: if kind == EntryKind::Directory { 0 } else { statx.stx_size },
        mtime: nanos(&statx.stx_mtime),
        ctime: nanos(&statx.stx_ctime),
        atime: nanos(&statx.stx_atime),
        mode,
        uid: statx.stx_uid,
        gid: statx.stx_gid,
        inode: (rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor), statx.stx_ino),
        seen_at: EpochNanos::now(),
        is_mount_point: statx.stx_attributes.intersects(StatxAttributes::MOUNT_ROOT | StatxAttributes::AUTOMOUNT),
    }
}

fn kind_of(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            EntryKind::Special
        }
    }
}

fn nanos(time: &StatxTimestamp) -> EpochNanos {
    EpochNanos(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    /// The inodes that a path leads to, opened as a directory and as a file.
    fn opened(operations: &Operations, base: &File, path: &str) -> [Result<u64, Errno>; 2] {
        let inode = |opened: OwnedFd| operations.fresh_stat_of(&opened).unwrap().inode.1;
        let path = path.as_bytes();
        [
            operations.open_directory(base.as_fd(), path, AllowedLinks::None).map(inode),
            operations.open_file(base.as_fd(), path, AllowedLinks::None).map(inode),
        ]
    }

    #[test]
    fn without_openat2_the_results_and_the_errors_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/e/f"), "x").unwrap();
        fs::write(at("file"), "x").unwrap();
        for (link, target) in [("to-d", "d"), ("d/out", "/"), ("to-f", "d/e/f"), ("loop", "loop"), ("broken", "none")] {
            symlink(target, at(link)).unwrap();
        }
        let base = File::open(folder.path()).unwrap();
        let (with, without) = (Operations::default(), Operations::default());
        without.has_openat2.set(false).unwrap();
        for path in [
            ".",
            "d",
            "d/e",
            "d/e/f",
            "d/e/",
            "d//e",
            "./d/./e",
            "file",
            "file/",
            "file/x",
            "d/none",
            "none/f",
            "to-d",
            "to-d/",
            "to-d/e",
            "to-d/e/f",
            "d/out",
            "d/out/etc",
            "to-f",
            "loop",
            "loop/x",
            "broken",
            "broken/x",
            "/",
            "/etc",
            "..",
            "../x",
            "d/e/f/g",
        ] {
            assert_eq!(opened(&without, &base, path), opened(&with, &base, path), "{path}");
        }
        assert_eq!(without.open.load(Ordering::Relaxed), with.open.load(Ordering::Relaxed));
        assert_eq!(opened(&without, &base, "d/out/etc"), [Err(Errno::LOOP), Err(Errno::LOOP)]);
    }
}
