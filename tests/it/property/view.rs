//! The view: what the source holds at one moment, by the keys that it should have at the destination.
//!
//! It reads the tree with the standard library alone, and shares no code with the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest key relative to the prefix `www/`.
const LONGEST_KEY: usize = 1024 - 4;

/// What the mode does with links and directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    DataSync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Directory,
}

/// What an object of the key should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// `None` if the file cannot be read.
    pub(super) content: Option<Arc<[u8]>>,
    pub(super) size: u64,
    pub(super) mtime_nanos: i128,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// A file that no object can hold, or only an object of an unknown key.
#[derive(Clone, Debug)]
pub(super) struct Unpublishable {
    /// The key, if it has one: the file cannot be read.
    pub(super) key: Option<String>,
    /// The nearest directory whose key is valid, with `/` at its end, or empty.
    pub(super) parent: String,
    pub(super) size: u64,
}

#[derive(Debug, Default)]
pub(super) struct View {
    /// Directories have keys with `/` at the end, in datasync mode only.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Every directory that can be read, without `/` at the end.
    pub(super) directories: BTreeSet<String>,
    /// Links that are broken or loops. Everything at or below these keys is unknown.
    pub(super) broken: BTreeSet<String>,
    /// Directories that cannot be read.
    pub(super) unread: BTreeSet<String>,
    pub(super) unpublishable: Vec<Unpublishable>,
    /// The directories on which something is mounted, without links to such directories.
    pub(super) mounts: BTreeSet<String>,
    /// The followed links to directories. They may lead into mounts.
    pub(super) links: BTreeSet<String>,
    /// All links, wherever they lead.
    pub(super) symlinks: BTreeSet<String>,
}

/// Whether `key` is `top` or lies below it.
pub(super) fn is_at_or_below(key: &str, top: &str) -> bool {
    key.strip_prefix(top.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the program skips the file `name` in each mode: what an NFS client leaves of a removed open file.
fn is_leftover(name: &str) -> bool {
    name.strip_prefix(".nfs").is_some_and(|rest| rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether DataSync never copies or deletes this key.
pub(super) fn is_reserved(key: &str) -> bool {
    key.split('/').any(|name| name.ends_with(".snapshot") || [".aws-datasync", ".awssync", ".zfs"].contains(&name))
}

impl View {
    /// Reads the tree below `source`, which may be a link.
    pub(super) fn of(source: &Path, mode: Mode) -> Self {
        let mut view = Self::default();
        let root = fs::canonicalize(source).unwrap();
        let mut above = Vec::new();
        view.read(&root, "", true, mode, &mut above);
        let points = visible_mount_points();
        let is_mounted = |key: &&String| fs::canonicalize(root.join(key)).is_ok_and(|path| points.contains(&path));
        let directories =
            view.directories.union(&view.unread).filter(|key| !key.is_empty() && !view.links.contains(*key));
        view.mounts = directories.filter(is_mounted).cloned().collect();
        view
    }

    /// Whether no part of this path is a link, and one of them is not there, in a directory that can be read.
    pub(super) fn proves_absent(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for part in ends.map(|end| &path[..end]) {
            if self.symlinks.contains(part) || self.unread.contains(part) {
                return false;
            }
            if !self.directories.contains(part) {
                return !self.entries.contains_key(path);
            }
        }
        false
    }

    fn read(&mut self, folder: &Path, prefix: &str, is_valid: bool, mode: Mode, above: &mut Vec<(u64, u64)>) {
        let Ok(entries) = fs::read_dir(folder) else {
            if is_valid {
                self.unread.insert(prefix.trim_end_matches('/').to_owned());
            }
            return;
        };
        if is_valid {
            self.directories.insert(prefix.trim_end_matches('/').to_owned());
        }
        let meta = fs::metadata(folder).unwrap();
        above.push((meta.dev(), meta.ino()));
        for name in entries.map(|entry| entry.unwrap().file_name()) {
            let path = folder.join(&name);
            let key = name.to_str().filter(|_| is_valid).map(|name| format!("{prefix}{name}"));
            self.entry(&path, prefix, key, mode, above);
        }
        above.pop();
    }

    /// `key` is `None` if the name or that of a directory above cannot be a key.
    fn entry(&mut self, path: &Path, parent: &str, key: Option<String>, mode: Mode, above: &mut Vec<(u64, u64)>) {
        let Ok(own) = fs::symlink_metadata(path) else {
            // Unlike `read_dir`, a stat needs the permission to search.
            return;
        };
        if key.as_deref().is_some_and(|key| mode == Mode::DataSync && is_reserved(key)) {
            return;
        }
        let is_link = own.file_type().is_symlink();
        if is_link {
            self.symlinks.extend(key.clone());
        }
        let meta = match (is_link, mode) {
            (true, Mode::DataSync) => {
                let target = fs::read_link(path).unwrap().into_os_string().into_encoded_bytes();
                if let Some(key) = key.filter(|key| key.len() <= LONGEST_KEY) {
                    self.insert(key, Kind::Link, Some(target), &own);
                }
                return;
            }
            (true, Mode::Plain) => match fs::metadata(path) {
                Ok(meta) if !(meta.is_dir() && above.contains(&(meta.dev(), meta.ino()))) => meta,
                Ok(_) | Err(_) => {
                    self.broken.extend(key);
                    return;
                }
            },
            (false, _) => own,
        };
        if meta.is_dir() {
            let valid = key.filter(|key| key.len() < LONGEST_KEY);
            if is_link {
                self.links.extend(valid.clone());
            }
            let prefix = valid.as_ref().map_or_else(|| parent.to_owned(), |key| format!("{key}/"));
            self.read(path, &prefix, valid.is_some(), mode, above);
            if let Some(key) = valid.filter(|key| mode == Mode::DataSync && !self.unread.contains(key)) {
                self.insert(format!("{key}/"), Kind::Directory, Some(Vec::new()), &meta);
            }
            return;
        }
        if !is_link && path.file_name().and_then(|name| name.to_str()).is_some_and(is_leftover) {
            return;
        }
        let content = fs::read(path).ok();
        let key = key.filter(|key| key.len() <= LONGEST_KEY);
        if key.is_none() || content.is_none() {
            let unpublishable = Unpublishable { key: key.clone(), parent: parent.to_owned(), size: meta.len() };
            self.unpublishable.push(unpublishable);
        }
        if let Some(key) = key {
            self.insert(key, Kind::File, content, &meta);
        }
    }

    fn insert(&mut self, key: String, kind: Kind, content: Option<Vec<u8>>, meta: &fs::Metadata) {
        let entry = Entry {
            kind,
            size: content.as_ref().map_or(meta.len(), |content| content.len().try_into().unwrap()),
            content: content.map(Into::into),
            mtime_nanos: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
        };
        self.entries.insert(key, entry);
    }
}

/// The paths below `root` on which something is mounted, relative to it.
pub(super) fn mount_points(root: &Path) -> Vec<PathBuf> {
    let mounts = mounts();
    let below = mounts.iter().filter_map(|mount| mount.point.strip_prefix(root).ok());
    below.filter(|relative| !relative.as_os_str().is_empty()).map(Path::to_owned).collect()
}

/// The mount points that a path leads to. A later mount on a directory above hides the others.
fn visible_mount_points() -> BTreeSet<PathBuf> {
    let mounts = mounts();
    let mut hidden: BTreeSet<u64> = BTreeSet::new();
    loop {
        let is_hidden = |mount: &&Mount| {
            let is_over = |other: &Mount| {
                other.parent == mount.parent && other.point != mount.point && mount.point.starts_with(&other.point)
            };
            hidden.contains(&mount.parent) || mounts.iter().any(is_over)
        };
        let found: BTreeSet<u64> = mounts.iter().filter(is_hidden).map(|mount| mount.id).collect();
        if found == hidden {
            return mounts
                .iter()
                .filter(|mount| !hidden.contains(&mount.id))
                .map(|mount| mount.point.clone())
                .collect();
        }
        hidden = found;
    }
}

struct Mount {
    id: u64,
    /// The mount in which the mount point lies.
    parent: u64,
    point: PathBuf,
}

fn mounts() -> Vec<Mount> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.split(|byte| *byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(fields.get(4)?)));
        Some(Mount { id: number(fields[0])?, parent: number(fields[1])?, point })
    });
    mounts.collect()
}

/// The kernel writes a blank, a tab, a line break and a backslash as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'\\', [a, b, c, after @ ..]) = (first, tail) {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    bytes
}
