//! What the walk found at one place of the source tree.

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;
use crate::time::EpochNanos;

/// The kind of thing that a name in the source stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file, or a followed link to one.
    File,
    /// A directory, or a followed link to one.
    Directory,
    /// A symbolic link that was not followed.
    Symlink,
    /// A device, a socket or a FIFO: never opened, never copied.
    Special,
}

/// What one `statx` told: everything that a decision needs, and what shows that a path leads to another file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The kind of what was looked at.
    pub kind: EntryKind,
    /// Size in bytes of what an object would hold of it: of a link the target's name, of a directory nothing.
    pub size_bytes: u64,
    /// Last change of the content, which any program can set.
    pub mtime: EpochNanos,
    /// Last change of content or attributes, which nobody can set.
    pub ctime: EpochNanos,
    /// Last read, as far as the file system keeps it.
    pub atime: EpochNanos,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device and inode number: the identity of the file.
    pub inode: (u64, u64),
}

/// Why an entry is left out without being a failure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The name was there when the directory was read, and gone (or of another kind) when it was looked at.
    Vanished,
    /// A link that leads nowhere, where links are followed.
    BrokenLink,
    /// A link that leads back to a directory above it, where links are followed.
    LinkLoop,
    /// A link, with `--symlinks skip`.
    LinkNotFollowed,
    /// `.nfs…`: a file that was removed while a client had it open.
    NfsLeftover,
    /// A name that DataSync keeps for itself or never copies: `.aws-datasync`, `….snapshot`.
    ReservedPath,
    /// Younger than `--min-age`.
    TooYoung,
    /// There is another object, and `--overwrite never`.
    NotOverwritten,
    /// The run was interrupted before its turn came.
    Interrupted,
}

/// What went wrong at one place of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `readdir`, `stat`, `readlink`, `open`, `read` or `name`.
    pub operation: &'static str,
    /// A short name for machines: `permission_denied`, `io_error`, `stale`, `timed_out`, `not_utf8`, `key_too_long`, …
    pub kind: &'static str,
    /// What a person reads: what happened and what to do, without the path.
    pub message: String,
}

/// One item of the walk. Items come in strictly ascending byte order of `key`, but for [`Found::Nameless`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path below the source root as an object key below the prefix; a directory's ends in `/`.
    /// Of a [`Found::Nameless`] it is only a way to show it: a `\xNN` stands for each byte that is not UTF-8.
    pub key: RelativeKey,
    /// What was found there.
    pub found: Found,
}

/// What was found at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A regular file.
    File(FileEntry),
    /// A symbolic link that stands for itself.
    Symlink(FileEntry),
    /// A directory; what is in it follows as entries of its own.
    Directory(FileEntry),
    /// A device, socket or FIFO.
    Special,
    /// Something that is there and was not looked at, in a walk of names alone.
    Named(EntryKind),
    /// Left out, for a reason that is no failure.
    Skipped(EntryKind, SkipReason),
    /// An exclude matches it, or no include does. A filtered directory is not walked and stands for all below it.
    Filtered(EntryKind),
    /// This entry alone could not be taken; what it is called at the destination stays.
    Failed(EntryKind, Problem),
    /// Its name is not UTF-8, so it can have no key, and no object can be called like it. A directory is not walked.
    Nameless(EntryKind, Problem),
    /// A directory of which the rest, from this key on, could not be seen: unknown, never empty.
    Unknown {
        /// The directory, ending in `/`; empty for the root. Every key below it, from the entry's own on, is unknown.
        below: String,
        /// Why.
        problem: Problem,
    },
}

/// A file of one of the three kinds that objects can stand for, and what must be known to read it safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// What `statx` told of the file itself (of the target, for a followed link).
    pub stat: Stat,
    /// The latest of the file's ctime, the ctime of each followed link that leads to it, and the ctime of each directory
    /// above it, or on the way of such a link, that is newer than that directory's mtime (it was moved or re-moded itself).
    pub effective_ctime: EpochNanos,
    /// Whether any part of the path is a followed link.
    pub through_link: bool,
}

impl Entry {
    pub(super) fn new(key: impl Into<String>, found: Found) -> Self {
        Self { key: RelativeKey::new(key), found }
    }
}

impl Found {
    /// The prefix of keys that this entry answers for besides its own: nothing under it is an orphan.
    #[must_use]
    pub fn covers<'a>(&'a self, key: &'a RelativeKey) -> Option<&'a str> {
        match self {
            Self::Unknown { below, .. } => Some(below),
            Self::Filtered(EntryKind::Directory)
            | Self::Failed(EntryKind::Directory, _)
            | Self::Skipped(EntryKind::Directory, _) => Some(key.as_str()),
            Self::Filtered(_)
            | Self::Failed(..)
            | Self::Skipped(..)
            | Self::Nameless(..)
            | Self::File(_)
            | Self::Symlink(_)
            | Self::Directory(_)
            | Self::Special
            | Self::Named(_) => None,
        }
    }
}
