//! A look at one name in a directory: by the filter, by its name alone, and by one stat where these do not settle it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::directory::Directory;
use super::names::{Hint, Name};
use super::{Links, Walk, way};
use crate::filter::reserved;
use crate::source::entry::{Entry, EntryKind, FileEntry, Found, Problem, SkipReason, Stat};
use crate::source::operations::LastLink;
use crate::time::EpochNanos;

/// What a name turned out to be.
#[derive(Debug)]
pub(super) enum Item {
    /// Something that is emitted as it is.
    Entry(Entry),
    /// A directory that is to be read: what is emitted depends on whether it can be.
    Directory(Arc<Directory>, FileEntry),
}

impl Item {
    /// A name of `directory` about which the file system gives no answer.
    pub(super) fn unanswered(directory: &Directory, name: Name<'_>, problem: Problem) -> Self {
        Self::Entry(not_seen(name.hint, format!("{}{}", directory.key, escaped(name.bytes)), problem))
    }

    /// Whether its key ends in `/`.
    pub(super) fn has_slash(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.key.as_str().ends_with('/'),
            Self::Directory(..) => true,
        }
    }
}

/// Looks at the names in one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looker<'a> {
    pub(super) walk: &'a Walk,
    pub(super) directory: &'a Arc<Directory>,
    /// The open directory; without it names are looked up from the root.
    pub(super) open: Option<BorrowedFd<'a>>,
}

impl Looker<'_> {
    /// What the name is. Asks the file system at most once, and once a step for a link that is followed.
    pub(super) fn look(&self, name: Name<'_>) -> Item {
        match self.by_name_alone(name) {
            Ok(entry) => Item::Entry(entry),
            Err(key) => self.by_stat(name, key),
        }
    }

    /// Whether the name, or something below it, may lie in the section that the walk is for.
    pub(super) fn may_be_wanted(&self, name: Name<'_>) -> bool {
        let path = [self.directory.key.as_bytes(), name.bytes].concat();
        let (is_file, is_directory) = match name.hint {
            Hint::File | Hint::Special => (true, false),
            Hint::Directory => (false, true),
            // It is not looked into.
            Hint::Symlink | Hint::Unknown if std::str::from_utf8(name.bytes).is_err() => (true, false),
            Hint::Symlink | Hint::Unknown => (true, true),
        };
        self.walk.options.section.may_take(&path, is_file, is_directory)
    }

    /// Whether the kind of what the name will be emitted as is open until it is looked at.
    pub(super) fn undecided(&self, name: Name<'_>) -> bool {
        match name.hint {
            Hint::Unknown => true,
            Hint::Symlink => self.walk.options.links == Links::Follow && self.by_name_alone(name).is_err(),
            Hint::File | Hint::Directory | Hint::Special => false,
        }
    }

    /// The entry, where the name and its hint tell enough; else its key, without a `/`.
    fn by_name_alone(&self, name: Name<'_>) -> Result<Entry, String> {
        let kind = hinted_kind(name.hint);
        let Ok(text) = std::str::from_utf8(name.bytes) else {
            let slash = if kind == EntryKind::Directory { "/" } else { "" };
            let key = format!("{}{}{slash}", self.directory.key, escaped(name.bytes));
            return Ok(Entry::new(key, Found::Nameless(kind, Problem::not_utf8())));
        };
        let key = format!("{}{text}", self.directory.key);
        let found = match name.hint {
            Hint::Directory => return self.directory_by_key(kind, key + "/").map_err(without_slash),
            Hint::File => self
                .file_by_key(kind, &key)
                .or_else(|| leftover(text))
                .or_else(|| self.walk.options.names_only.then_some(Found::Named(kind))),
            Hint::Special => Some(Found::Special),
            Hint::Symlink => self.link_by_key(&key),
            Hint::Unknown => self.too_long(kind, &key),
        };
        match found {
            Some(found) => Ok(Entry::new(key, found)),
            None => Err(key),
        }
    }

    fn file_by_key(&self, kind: EntryKind, key: &str) -> Option<Found> {
        if self.walk.options.filter.admits(key) {
            self.reserved(kind, key).or_else(|| self.too_long(kind, key))
        } else {
            Some(Found::Filtered(kind))
        }
    }

    fn reserved(&self, kind: EntryKind, key: &str) -> Option<Found> {
        let is_reserved = self.walk.options.leave_reserved && reserved::is_reserved_name(name_in(key));
        is_reserved.then_some(Found::Skipped(kind, SkipReason::ReservedPath))
    }

    fn link_by_key(&self, key: &str) -> Option<Found> {
        match self.walk.options.links {
            Links::Skip => {
                let skipped = Found::Skipped(EntryKind::Symlink, SkipReason::LinkNotFollowed);
                self.file_by_key(EntryKind::Symlink, key).or(Some(skipped))
            }
            // It may lead to a directory in which something is included.
            Links::Follow if self.walk.options.filter.excludes_directory(&format!("{key}/")) => {
                Some(Found::Filtered(EntryKind::Symlink))
            }
            Links::Follow => self.reserved(EntryKind::Symlink, key).or_else(|| self.too_long(EntryKind::Symlink, key)),
            Links::Keep => self.file_by_key(EntryKind::Symlink, key),
        }
    }

    /// The entry of a directory that is not to be read, else its key; `key` ends in `/`.
    fn directory_by_key(&self, kind: EntryKind, key: String) -> Result<Entry, String> {
        let limit = self.walk.options.max_key_bytes;
        if self.walk.options.filter.excludes_directory(&key) {
            Ok(Entry::new(key, Found::Filtered(kind)))
        } else if let Some(found) = self.reserved(kind, &key) {
            Ok(Entry::new(key, found))
        } else if key.len() >= limit {
            // Not even a name of one byte fits behind it.
            let problem = Problem::key_too_long(key.len() + 1, limit);
            Ok(Entry::new(key, Found::Failed(kind, problem)))
        } else {
            Err(key)
        }
    }

    fn too_long(&self, kind: EntryKind, key: &str) -> Option<Found> {
        let limit = self.walk.options.max_key_bytes;
        (key.len() > limit).then(|| Found::Failed(kind, Problem::key_too_long(key.len(), limit)))
    }

    fn by_stat(&self, name: Name<'_>, key: String) -> Item {
        let stat = match self.stat(name.bytes, &key, LastLink::Keep) {
            Ok(stat) => stat,
            Err(errno) => return Item::Entry(failed(name.hint, key, errno)),
        };
        if name.hint != Hint::Unknown && stat.kind != hinted_kind(name.hint) {
            return Item::Entry(vanished(name.hint, key));
        }
        match stat.kind {
            EntryKind::File => self.file(name, key, stat, None),
            EntryKind::Directory => self.directory(key, stat, None),
            EntryKind::Special => Item::Entry(Entry::new(key, Found::Special)),
            EntryKind::Symlink => self.link(name, key, &stat),
        }
    }

    fn link(&self, name: Name<'_>, key: String, link: &Stat) -> Item {
        // Where its kind was unknown until now, what could be said without a stat has not been said.
        if let Some(found) = self.link_by_key(&key) {
            return Item::Entry(Entry::new(key, found));
        }
        if self.walk.options.links == Links::Keep {
            return Item::Entry(Entry::new(key, Found::Symlink(self.standing_for_itself(*link))));
        }
        let skipped = |reason| Found::Skipped(EntryKind::Symlink, reason);
        match self.follow(name.bytes, &key, link) {
            Ok((target, way)) => match target.kind {
                EntryKind::File => self.file(name, key, target, Some(way)),
                EntryKind::Directory if self.directory.lies_in(target.inode) => {
                    Item::Entry(Entry::new(key, skipped(SkipReason::LinkLoop)))
                }
                EntryKind::Directory => self.directory(key, target, Some(way)),
                EntryKind::Special | EntryKind::Symlink => Item::Entry(Entry::new(key, Found::Special)),
            },
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                Item::Entry(Entry::new(key, skipped(SkipReason::BrokenLink)))
            }
            Err(errno) => Item::Entry(failed(Hint::Symlink, key, errno)),
        }
    }

    fn file(&self, name: Name<'_>, key: String, stat: Stat, way: Option<EpochNanos>) -> Item {
        let kind = if way.is_some() { EntryKind::Symlink } else { EntryKind::File };
        let leftover = || std::str::from_utf8(name.bytes).ok().filter(|_| way.is_none()).and_then(leftover);
        let found = self.file_by_key(kind, &key).or_else(leftover).unwrap_or_else(|| {
            let lent = self.directory.lent.max(way);
            Found::File(FileEntry {
                stat,
                effective_ctime: lent.map_or(stat.ctime, |lent| lent.max(stat.ctime)),
                through_link: self.directory.through_link || way.is_some(),
            })
        });
        Item::Entry(Entry::new(key, found))
    }

    fn directory(&self, key: String, stat: Stat, way: Option<EpochNanos>) -> Item {
        match self.directory_by_key(EntryKind::Directory, key + "/") {
            Ok(entry) => Item::Entry(entry),
            Err(key) => {
                let directory = Directory::below(self.directory, key, &stat, way);
                let entry = FileEntry {
                    stat,
                    effective_ctime: directory.lent.map_or(stat.ctime, |lent| lent.max(stat.ctime)),
                    through_link: directory.through_link,
                };
                Item::Directory(Arc::new(directory), entry)
            }
        }
    }

    /// The entry of something that no link leads to.
    fn standing_for_itself(&self, stat: Stat) -> FileEntry {
        FileEntry {
            stat,
            effective_ctime: self.directory.lent.map_or(stat.ctime, |lent| lent.max(stat.ctime)),
            through_link: self.directory.through_link,
        }
    }

    fn stat(&self, name: &[u8], key: &str, last: LastLink) -> Result<Stat, Errno> {
        self.ask(name, key, |base, path| self.walk.operations.stat(base, path, last))
    }

    /// What a link leads to, and when the way there was laid.
    fn follow(&self, name: &[u8], key: &str, link: &Stat) -> Result<(Stat, EpochNanos), Errno> {
        self.ask(name, key, |base, path| way::follow(&self.walk.operations, base, path, link))
    }

    fn ask<T>(
        &self,
        name: &[u8],
        key: &str,
        ask: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let root = self.walk.root.fd();
        let first = match self.open {
            Some(open) => ask(open, name),
            None => ask(root, key.as_bytes()),
        };
        match first {
            // Somebody may have replaced it, or the directory that is held open.
            Err(Errno::STALE) => ask(root, key.as_bytes()),
            result => result,
        }
    }
}

/// The entry of a name of which a stat fails.
fn failed(hint: Hint, key: String, errno: Errno) -> Entry {
    let problem = Problem::of("stat", errno);
    match (errno, hint) {
        (Errno::NOENT, _) => vanished(hint, key),
        (Errno::NAMETOOLONG, Hint::Directory) => Entry::new(key + "/", Found::Failed(EntryKind::Directory, problem)),
        (Errno::NAMETOOLONG, _) => Entry::new(key, Found::Failed(hinted_kind(hint), problem)),
        _ => not_seen(hint, key, problem),
    }
}

/// The entry of a name that cannot be looked at. Where a directory may stand there, all below it is unknown.
fn not_seen(hint: Hint, mut key: String, problem: Problem) -> Entry {
    match hint {
        Hint::File | Hint::Special => Entry::new(key, Found::Failed(hinted_kind(hint), problem)),
        Hint::Directory | Hint::Symlink | Hint::Unknown => {
            key.push('/');
            Entry::new(key.clone(), Found::Unknown { below: key, problem })
        }
    }
}

fn vanished(hint: Hint, key: String) -> Entry {
    let key = if hint == Hint::Directory { key + "/" } else { key };
    Entry::new(key, Found::Skipped(hinted_kind(hint), SkipReason::Vanished))
}

/// Where nothing tells the kind it is called a file.
fn hinted_kind(hint: Hint) -> EntryKind {
    match hint {
        Hint::File | Hint::Unknown => EntryKind::File,
        Hint::Directory => EntryKind::Directory,
        Hint::Symlink => EntryKind::Symlink,
        Hint::Special => EntryKind::Special,
    }
}

/// A file that was removed while a client of the file server had it open.
fn leftover(name: &str) -> Option<Found> {
    let digits = name.strip_prefix(".nfs")?;
    let is_one = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then_some(Found::Skipped(EntryKind::File, SkipReason::NfsLeftover))
}

/// The last name of a key.
fn name_in(key: &str) -> &str {
    let path = key.strip_suffix('/').unwrap_or(key);
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn without_slash(mut key: String) -> String {
    key.pop();
    key
}

/// The name with `\xNN` for each byte that is not UTF-8.
pub(super) fn escaped(name: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
