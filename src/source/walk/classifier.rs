//! A classifier: decides what the names in one directory are, by the filter, by the name alone, or else by one stat.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::context::WalkContext;
use super::directory::Directory;
use super::link_path::{self, Target};
use super::nameless::nameless;
use super::options::Links;
use crate::filter::reserved;
use crate::source::entry::{Entry, EntryKind, FileEntry, Found, Nameless, Problem, SkipReason, Stat, Unknown};
use crate::source::mount_points::{DescendedPath, LastPart};
use crate::source::names::{KindHint, Name};
use crate::source::operations::LastLink;
use crate::source::place::{CallError, is_absence};

/// What a name is.
#[derive(Debug)]
pub(super) enum Item {
    /// An entry to emit unchanged.
    Entry(Entry),
    /// A directory, emitted after the walk has read it.
    Directory(Arc<Directory>, FileEntry),
}

impl Item {
    /// A name of `directory` whose stat did not return in time.
    pub(super) fn timed_out(directory: &Directory, name: Name<'_>, problem: Problem) -> Self {
        let key = format!("{}{}", directory.key, escaped(name.bytes));
        Self::Entry(if std::str::from_utf8(name.bytes).is_ok() {
            unseen(name.hint, key, problem)
        } else {
            let path = [directory.key.as_bytes(), name.bytes].concat();
            Entry::new(key, Found::Nameless(hinted_kind(name.hint), Nameless::Failed(problem, path.into())))
        })
    }

    /// Whether its key ends in `/`.
    pub(super) fn has_slash(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.key.as_str().ends_with('/'),
            Self::Directory(..) => true,
        }
    }
}

/// Decides what the names in one directory are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classifier<'a> {
    pub(super) walk: &'a WalkContext,
    pub(super) directory: &'a Arc<Directory>,
    /// The open directory; without it, paths are relative to the root.
    pub(super) open: Option<BorrowedFd<'a>>,
}

impl Classifier<'_> {
    /// Decides what the name is, with at most one stat, and one for each step of a followed link.
    pub(super) fn classify(&self, name: Name<'_>) -> Item {
        let Ok(text) = std::str::from_utf8(name.bytes) else {
            return Item::Entry(self.nameless(name));
        };
        match self.by_name_alone(name.hint, text) {
            Ok(entry) => Item::Entry(entry),
            Err(key) => self.by_stat(name, key),
        }
    }

    /// Whether the key of the name, or a key below it, may be in the tree range.
    pub(super) fn may_be_in_range(&self, name: Name<'_>) -> bool {
        let path = [self.directory.key.as_bytes(), name.bytes].concat();
        let (is_file, is_directory) = match name.hint {
            // Nameless: such a directory is not walked, and one run counts it.
            _ if std::str::from_utf8(name.bytes).is_err() => (true, false),
            KindHint::File | KindHint::Special => (true, false),
            KindHint::Directory => (false, true),
            KindHint::Symlink | KindHint::Unknown => (true, true),
        };
        self.walk.options.tree_range.may_take(&path, is_file, is_directory)
    }

    /// Whether only a stat shows the kind of the name's entry.
    pub(super) fn undecided(&self, name: Name<'_>) -> bool {
        match name.hint {
            KindHint::Unknown => true,
            KindHint::Symlink => {
                self.walk.options.links == Links::Follow
                    && std::str::from_utf8(name.bytes).is_ok_and(|text| self.by_name_alone(name.hint, text).is_err())
            }
            KindHint::File | KindHint::Directory | KindHint::Special => false,
        }
    }

    /// Returns the entry if the name and its hint are enough, else the key without a `/`.
    fn by_name_alone(&self, hint: KindHint, text: &str) -> Result<Entry, String> {
        let kind = hinted_kind(hint);
        let key = format!("{}{text}", self.directory.key);
        let found = match hint {
            KindHint::Directory => return self.directory_by_key(kind, key + "/").map_err(without_slash),
            KindHint::File => self
                .file_by_key(kind, &key)
                .or_else(|| leftover(text))
                .or_else(|| self.walk.options.names_only.then_some(Found::Named(kind))),
            KindHint::Special => Some(Found::Special),
            KindHint::Symlink => self.link_by_key(&key),
            KindHint::Unknown => self.too_long(kind, &key),
        };
        match found {
            Some(found) => Ok(Entry::new(key, found)),
            None => Err(key),
        }
    }

    /// The entry of a name that is not UTF-8.
    fn nameless(&self, name: Name<'_>) -> Entry {
        let path = [self.directory.key.as_bytes(), name.bytes].concat();
        let (kind, found) = self.found_nameless(name, &path);
        let slash = if kind == EntryKind::Directory { "/" } else { "" };
        Entry::new(format!("{}{}{slash}", self.directory.key, escaped(name.bytes)), Found::Nameless(kind, found))
    }

    fn found_nameless(&self, name: Name<'_>, path: &[u8]) -> (EntryKind, Nameless) {
        let rule = |kind| nameless(&self.walk.options, kind, path);
        let is_followed =
            |found: &Nameless| matches!(found, Nameless::Failed(..)) && self.walk.options.links == Links::Follow;
        let kind = hinted_kind(name.hint);
        match name.hint {
            KindHint::Unknown => {}
            KindHint::Symlink if is_followed(&rule(kind)) => {}
            KindHint::File | KindHint::Directory | KindHint::Special | KindHint::Symlink => return (kind, rule(kind)),
        }
        let stat = match self.stat(name, path) {
            Ok(stat) => stat,
            Err(CallError::Gone) => return (kind, Nameless::Skipped(SkipReason::Vanished)),
            Err(_) => return (kind, rule(kind)),
        };
        let found = rule(stat.kind);
        if stat.kind != EntryKind::Symlink || !is_followed(&found) {
            return (stat.kind, found);
        }
        let of_target = match self.follow(name.bytes, path, &stat) {
            Ok(Ok(target)) if self.directory.lies_in(target.stat.inode) => Nameless::Skipped(SkipReason::LinkLoop),
            Ok(Ok(target)) => rule(target.stat.kind),
            Ok(Err(Unknown::BrokenLink)) => Nameless::Skipped(SkipReason::BrokenLink),
            Ok(Err(Unknown::LinkLoop)) => Nameless::Skipped(SkipReason::LinkLoop),
            Ok(Err(Unknown::TooManyLinks | Unknown::MissingMount { .. })) | Err(_) => found,
        };
        (EntryKind::Symlink, of_target)
    }

    fn file_by_key(&self, kind: EntryKind, key: &str) -> Option<Found> {
        if self.walk.options.filter.admits(key) {
            self.reserved(kind, key).or_else(|| self.too_long(kind, key))
        } else {
            Some(Found::Filtered(kind))
        }
    }

    fn reserved(&self, kind: EntryKind, key: &str) -> Option<Found> {
        let is_reserved = self.walk.options.skip_reserved && reserved::is_reserved_name(name_in(key));
        is_reserved.then_some(Found::Skipped(kind, SkipReason::ReservedPath))
    }

    fn link_by_key(&self, key: &str) -> Option<Found> {
        match self.walk.options.links {
            // The target may be a directory with included keys.
            Links::Follow | Links::Skip if self.walk.options.filter.excludes_directory(&format!("{key}/")) => {
                Some(Found::Filtered(EntryKind::Symlink))
            }
            Links::Skip => {
                let reserved = self.reserved(EntryKind::Symlink, key);
                let skipped = Found::Skipped(EntryKind::Symlink, SkipReason::LinkNotFollowed);
                reserved.or_else(|| self.too_long(EntryKind::Symlink, key)).or(Some(skipped))
            }
            Links::Follow => self.reserved(EntryKind::Symlink, key).or_else(|| self.too_long(EntryKind::Symlink, key)),
            Links::Keep => self.file_by_key(EntryKind::Symlink, key),
        }
    }

    /// Returns the entry of a directory that is not walked, else its key. `key` ends in `/`.
    fn directory_by_key(&self, kind: EntryKind, key: String) -> Result<Entry, String> {
        let limit = self.walk.options.max_key_bytes;
        if self.walk.options.filter.excludes_directory(&key) {
            Ok(Entry::new(key, Found::Filtered(kind)))
        } else if let Some(found) = self.reserved(kind, &key) {
            Ok(Entry::new(key, found))
        } else if key.len() >= limit {
            // The key has no room for a name of one byte.
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
        let stat = match self.stat(name, key.as_bytes()) {
            Ok(stat) => stat,
            Err(error) => return Item::Entry(not_statted(name.hint, key, error)),
        };
        match stat.kind {
            EntryKind::File => self.file(name, key, stat, None),
            EntryKind::Directory => self.directory(key, stat, None),
            EntryKind::Special => Item::Entry(Entry::new(key, Found::Special)),
            EntryKind::Symlink => self.link(name, key, &stat),
        }
    }

    fn link(&self, name: Name<'_>, key: String, link: &Stat) -> Item {
        // If its kind was unknown before the stat, the rules for the link's own key were not applied yet.
        if let Some(found) = self.link_by_key(&key) {
            return Item::Entry(Entry::new(key, found));
        }
        if self.walk.options.links == Links::Keep {
            if self.is_missing_mount(&key, link, None) {
                return Item::Entry(missing_mount(EntryKind::Symlink, key, true));
            }
            let (inherited, through_link) = (self.directory.inherited_ctime, self.directory.through_link());
            return Item::Entry(Entry::new(key, Found::Symlink(FileEntry::new(*link, inherited, through_link))));
        }
        let target = match self.follow(name.bytes, key.as_bytes(), link) {
            Ok(Ok(target)) => target,
            Ok(Err(unknown)) => return Item::Entry(Entry::new(key, Found::Unknown(EntryKind::Symlink, unknown))),
            Err(errno) => return Item::Entry(failed(KindHint::Symlink, key, errno)),
        };
        match target.stat.kind {
            EntryKind::File => self.file(name, key, target.stat, Some(&target)),
            EntryKind::Directory if self.directory.lies_in(target.stat.inode) => {
                Item::Entry(Entry::new(key, Found::Unknown(EntryKind::Symlink, Unknown::LinkLoop)))
            }
            EntryKind::Directory => self.directory(key, target.stat, Some(&target)),
            EntryKind::Special | EntryKind::Symlink => Item::Entry(Entry::new(key, Found::Special)),
        }
    }

    fn file(&self, name: Name<'_>, key: String, stat: Stat, target: Option<&Target>) -> Item {
        let kind = if target.is_some() { EntryKind::Symlink } else { EntryKind::File };
        let leftover = || std::str::from_utf8(name.bytes).ok().filter(|_| target.is_none()).and_then(leftover);
        let found = self.file_by_key(kind, &key).or_else(leftover);
        if found.is_none() && self.is_missing_mount(&key, &stat, target) {
            return Item::Entry(missing_mount(kind, key, true));
        }
        let found = found.unwrap_or_else(|| {
            let inherited = self.directory.inherited_ctime;
            Found::File(match target {
                Some(target) => {
                    FileEntry::behind_link(stat, inherited.max(Some(target.link_path_ctime)), target.link_text_md5)
                }
                None => FileEntry::new(stat, inherited, self.directory.through_link()),
            })
        });
        Item::Entry(Entry::new(key, found))
    }

    fn directory(&self, key: String, stat: Stat, target: Option<&Target>) -> Item {
        match self.directory_by_key(EntryKind::Directory, key + "/") {
            Ok(entry) => Item::Entry(entry),
            Err(key) => {
                let is_missing = self.is_missing_mount(key.strip_suffix('/').unwrap_or(&key), &stat, target);
                let directory = Directory::below(self.directory, key, &stat, target);
                if is_missing {
                    let hides_files = !directory.is_empty(self.walk);
                    return Item::Entry(missing_mount(EntryKind::Directory, directory.key, hides_files));
                }
                let entry = FileEntry::new(stat, directory.inherited_ctime, directory.through_link());
                Item::Directory(Arc::new(directory), entry)
            }
        }
    }

    /// Notes a mount, and returns whether one is missing that was there in an earlier run.
    fn is_missing_mount(&self, path: &str, stat: &Stat, target: Option<&Target>) -> bool {
        let last = target.map_or_else(|| LastPart::of(self.directory.device(), stat), Target::last_part);
        let first_link = self.directory.first_link().or(target.map(|_| path.len()));
        self.walk.options.mount_points.is_missing(path, DescendedPath::new(last, first_link))
    }

    fn stat(&self, name: Name<'_>, path: &[u8]) -> Result<Stat, CallError> {
        match self.call(name.bytes, path, |base, path| self.walk.operations.stat(base, path, LastLink::Keep)) {
            Ok(stat) if name.hint.fits(stat.kind) => Ok(stat),
            Err(errno) if !is_absence(errno) => Err(CallError::Failed(errno)),
            first => self.directory.settle(self.walk, name.bytes, name.hint, first),
        }
    }

    fn follow(&self, name: &[u8], path: &[u8], link: &Stat) -> Result<Result<Target, Unknown>, Errno> {
        let links_before = self.directory.links;
        let device = self.directory.device();
        self.call(name, path, |base, path| {
            link_path::follow(&self.walk.operations, base, path, link, device, links_before)
        })
    }

    fn call<T>(
        &self,
        name: &[u8],
        path: &[u8],
        call: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let root = self.walk.root.fd();
        let first = match self.open {
            Some(open) => call(open, name),
            None => call(root, path),
        };
        match first {
            // Another client may have replaced the file, or the directory that is held open.
            Err(Errno::STALE) => call(root, path),
            result => result,
        }
    }
}

fn missing_mount(kind: EntryKind, key: String, hides_files: bool) -> Entry {
    Entry::new(key, Found::Unknown(kind, Unknown::MissingMount { hides_files }))
}

/// The entry of a name whose stat shows nothing to copy.
fn not_statted(hint: KindHint, key: String, error: CallError) -> Entry {
    match (error, error.problem("stat")) {
        (CallError::Failed(errno), _) => failed(hint, key, errno),
        // A file may be a directory too.
        (CallError::OtherKind, Some(problem)) if hint == KindHint::File => unseen(KindHint::Unknown, key, problem),
        (_, Some(problem)) => unseen(hint, key, problem),
        (_, None) => vanished(hint, key),
    }
}

/// The entry of a name on which a call fails.
fn failed(hint: KindHint, key: String, errno: Errno) -> Entry {
    let problem = Problem::of("stat", errno);
    match (errno, hint) {
        (Errno::NAMETOOLONG, KindHint::Directory) => {
            Entry::new(key + "/", Found::Failed(EntryKind::Directory, problem))
        }
        (Errno::NAMETOOLONG, _) => Entry::new(key, Found::Failed(hinted_kind(hint), problem)),
        _ => unseen(hint, key, problem),
    }
}

/// The entry of a name that cannot be statted. If it may be a directory, all below it is unknown.
fn unseen(hint: KindHint, mut key: String, problem: Problem) -> Entry {
    match hint {
        KindHint::File | KindHint::Special => Entry::new(key, Found::Failed(hinted_kind(hint), problem)),
        KindHint::Directory => {
            key.push('/');
            Entry::new(key.clone(), Found::Unread { below: key, problem })
        }
        // It may be a file too.
        KindHint::Symlink | KindHint::Unknown => {
            let below = format!("{key}/");
            Entry::new(key, Found::Unread { below, problem })
        }
    }
}

fn vanished(hint: KindHint, key: String) -> Entry {
    let key = if hint == KindHint::Directory { key + "/" } else { key };
    Entry::new(key, Found::Skipped(hinted_kind(hint), SkipReason::Vanished))
}

/// An unknown kind counts as a file.
fn hinted_kind(hint: KindHint) -> EntryKind {
    match hint {
        KindHint::File | KindHint::Unknown => EntryKind::File,
        KindHint::Directory => EntryKind::Directory,
        KindHint::Symlink => EntryKind::Symlink,
        KindHint::Special => EntryKind::Special,
    }
}

/// A file that was removed while a client of the file server had it open.
fn leftover(name: &str) -> Option<Found> {
    is_leftover(name.as_bytes()).then_some(Found::Skipped(EntryKind::File, SkipReason::NfsLeftover))
}

/// Whether a name is that of such a file.
pub(in crate::source) fn is_leftover(name: &[u8]) -> bool {
    let digits = name.strip_prefix(b".nfs").unwrap_or_default();
    digits.len() >= 8 && digits.iter().all(u8::is_ascii_hexdigit)
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
