//! An entry: what the walk found at one place of the source.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;
use crate::time::EpochNanos;

/// The kind of a name in the source.
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

/// The result of one `statx`: what a decision needs, and what shows that a path leads to another file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The kind of the file.
    pub kind: EntryKind,
    /// The size of its object in bytes: of a link, that of the target's name; of a directory, 0.
    pub size_bytes: u64,
    /// Last change of the content, which any program can set.
    pub mtime: EpochNanos,
    /// Last change of content or attributes, which no program can set.
    pub ctime: EpochNanos,
    /// Last read, if the file system records it.
    pub atime: EpochNanos,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device and inode number: the identity of the file.
    pub inode: (u64, u64),
    /// When the stat was made, by the host's clock.
    pub seen_at: EpochNanos,
    /// Whether a file system is mounted at the path of this stat, or is going to be at its first use.
    pub is_mount_point: bool,
}

impl Stat {
    /// When a directory itself was moved, or its mode or owner changed. A change of its content sets both its times.
    pub(super) fn moved_at(&self) -> Option<EpochNanos> {
        (self.ctime > self.mtime).then_some(self.ctime)
    }

    /// Whether it has content that could be read while it changes. A directory has none, so its object is never torn.
    pub(crate) fn has_content(&self) -> bool {
        self.kind != EntryKind::Directory
    }

    /// Whether `other` shows the same file with the same content: inode, size and times. The size of a link is not
    /// compared: a link cannot be changed, only replaced, and not every file system reports its size. Directories have
    /// no content that could differ.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        if !self.has_content() && !other.has_content() {
            return true;
        }
        self.inode == other.inode
            && (self.size_bytes == other.size_bytes || self.kind == EntryKind::Symlink)
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }
}

/// Why the run skips an entry although nothing failed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The directory had the name when the walk read it. At the stat, it was missing or of another kind.
    Vanished,
    /// A link to nothing, if links are followed.
    BrokenLink,
    /// A link to a directory above it, if links are followed.
    LinkLoop,
    /// A place where an earlier run found another file system mounted, which is missing now.
    MissingMount,
    /// A link, with `--symlinks skip`.
    LinkNotFollowed,
    /// `.nfs…`: a file that was removed while a client had it open.
    NfsLeftover,
    /// A name that DataSync reserves or never copies: `.aws-datasync`, `….snapshot`.
    ReservedPath,
    /// Younger than `--min-age`.
    TooYoung,
    /// The object differs, with `--overwrite never`.
    NotOverwritten,
    /// The run was interrupted first.
    Interrupted,
}

/// What went wrong at one place of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `readdir`, `stat`, `readlink`, `open`, `read` or `name`.
    pub operation: &'static str,
    /// A short name for machines: `permission_denied`, `io_error`, `stale`, `timed_out`, `not_utf8`, `key_too_long`, …
    pub kind: &'static str,
    /// What happened and what to do, without the path.
    pub message: String,
}

/// One item of the walk. Items come in strictly ascending byte order of `key`, except [`Found::Nameless`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path relative to the source; a directory's ends in `/`.
    /// Of a [`Found::Nameless`] it only shows the name, with `\xNN` for each byte that is not UTF-8.
    pub key: RelativeKey,
    /// What was found there.
    pub found: Found,
}

/// What was found at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A regular file.
    File(FileEntry),
    /// A symbolic link that is copied as a link.
    Symlink(FileEntry),
    /// A directory; its content follows as entries of its own.
    Directory(FileEntry),
    /// A device, socket or FIFO.
    Special,
    /// A name that was not statted, in a walk of names alone.
    Named(EntryKind),
    /// Skipped, although nothing failed.
    Skipped(EntryKind, SkipReason),
    /// An exclude matches it, or no include does. A filtered directory is not walked and covers all keys below it.
    Filtered(EntryKind),
    /// This entry alone failed; its object stays.
    Failed(EntryKind, Problem),
    /// Its name is not UTF-8, so no key and no object can have it. Such a directory is not walked.
    Nameless(EntryKind, Nameless),
    /// What belongs here is out of sight, so it is unknown at this key and below it.
    Unknown(EntryKind, Unknown),
    /// A directory that the walk could not read from this key on: never empty.
    Unread {
        /// The directory, ending in `/`; empty for the root. The walk read no key below it, from the entry's own on.
        below: String,
        /// Why.
        problem: Problem,
    },
}

/// What an entry without a key is to the sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nameless {
    /// A rule leaves it out of the sync.
    Filtered,
    /// Skipped, although nothing failed.
    Skipped(SkipReason),
    /// A device, socket or FIFO.
    Special,
    /// It would be part of the sync: a failure of this entry. The last field is its path relative to the source.
    Failed(Problem, Box<[u8]>),
}

/// What hides the content of a place, although no call to the file system failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A link that leads nowhere or to itself, if links are followed.
    BrokenLink,
    /// A link to a directory above it, if links are followed.
    LinkLoop,
    /// More links on its path than the system follows. A failure of this entry.
    TooManyLinks,
    /// The file system that an earlier run found here is not mounted.
    MissingMount {
        /// Whether something else may be here now, which is not copied: a failure of this entry.
        hides_files: bool,
    },
}

/// What an entry that is not copied proves about the objects at its key and below it. An object that is covered is not an
/// orphan. Of two covers the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cover {
    /// A rule leaves these keys out of the sync: normal.
    OutOfScope,
    /// The entry failed or vanished by itself; the run settles it, not its objects.
    Failed,
    /// The walk could not read what is there. Without `--ignore-errors` this withholds every delete (guard `walk`).
    Unread,
    /// What is there is out of sight (guard `unknown`).
    Unknown,
}

/// The keys that an entry covers: its own, and those that begin with `below`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage<'a> {
    /// What is proven about them.
    pub cover: Cover,
    /// The common beginning of the other keys.
    pub below: Option<Cow<'a, str>>,
}

/// A file, link or directory that an object can hold, and what is needed to read it safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Of the file itself; of a followed link, that of the target.
    pub stat: Stat,
    /// The latest of the file's own ctime and its inherited ctime: that of each followed link on its path, and that of
    /// each directory on its path whose ctime is newer than its mtime (it was moved, or its mode or owner changed).
    pub effective_ctime: EpochNanos,
    /// Whether any part of the path is a followed link.
    pub through_link: bool,
    /// The MD5 of a followed link's own text, if the text is as long as the file that the link leads to. The other mode
    /// stores the text at the link's key.
    pub link_text_md5: Option<[u8; 16]>,
}

impl Entry {
    pub(super) fn new(key: impl Into<Box<str>>, found: Found) -> Self {
        Self { key: RelativeKey::new(key), found }
    }
}

impl FileEntry {
    pub(super) fn new(stat: Stat, inherited_ctime: Option<EpochNanos>, through_link: bool) -> Self {
        let effective_ctime = inherited_ctime.map_or(stat.ctime, |inherited| inherited.max(stat.ctime));
        Self { stat, effective_ctime, through_link, link_text_md5: None }
    }

    /// The entry of a file to which a followed link leads.
    pub(super) fn behind_link(
        stat: Stat,
        inherited_ctime: Option<EpochNanos>,
        link_text_md5: Option<[u8; 16]>,
    ) -> Self {
        Self { link_text_md5, ..Self::new(stat, inherited_ctime, true) }
    }
}

impl Found {
    /// Returns what this entry covers, if it is not copied: the one answer to what its objects are. The merge of both
    /// sides, the re-check before a delete and `apply` use it.
    #[must_use]
    pub fn coverage<'a>(&'a self, key: &'a RelativeKey) -> Option<Coverage<'a>> {
        let own = |cover| Some(Coverage { cover, below: None });
        let all = |cover| {
            let key = key.as_str();
            let below = if key.is_empty() || key.ends_with('/') { key.into() } else { format!("{key}/").into() };
            Some(Coverage { cover, below: Some(below) })
        };
        match self {
            Self::Unread { below, .. } => {
                Some(Coverage { cover: Cover::Unread, below: Some(Cow::Borrowed(below.as_str())) })
            }
            Self::Unknown(..) => all(Cover::Unknown),
            Self::Filtered(EntryKind::Directory)
            | Self::Skipped(EntryKind::Directory, SkipReason::ReservedPath)
            // If links are skipped, what a link leads to is out of scope.
            | Self::Skipped(EntryKind::Symlink, SkipReason::LinkNotFollowed | SkipReason::ReservedPath) => {
                all(Cover::OutOfScope)
            }
            Self::Failed(EntryKind::Directory, _) | Self::Skipped(EntryKind::Directory, _) => all(Cover::Failed),
            Self::Filtered(_) | Self::Special | Self::Skipped(_, SkipReason::ReservedPath | SkipReason::NfsLeftover) => {
                own(Cover::OutOfScope)
            }
            Self::Failed(..) | Self::Skipped(..) => own(Cover::Failed),
            Self::Nameless(..) | Self::File(_) | Self::Symlink(_) | Self::Directory(_) | Self::Named(_) => None,
        }
    }
}

impl Unknown {
    /// Whether files that should be copied may be at the key or below it. Then each run whose keys they can have fails.
    pub(crate) const fn hides_files(&self) -> bool {
        match self {
            Self::MissingMount { hides_files } => *hides_files,
            Self::TooManyLinks => true,
            Self::BrokenLink | Self::LinkLoop => false,
        }
    }
}

impl Coverage<'_> {
    /// Whether the entry at `place` covers this key.
    pub(super) fn includes(&self, place: &RelativeKey, key: &RelativeKey) -> bool {
        place == key || self.below.as_deref().is_some_and(|below| key.as_str().starts_with(below))
    }
}
