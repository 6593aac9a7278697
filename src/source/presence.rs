//! A presence: whether the source has a file for a key, checked just before a delete.
//!
//! An NFS client caches that a name is absent, for as long as it caches the attributes of the directory. Opening the
//! directory first fetches these attributes from the server (close-to-open consistency). The stat that follows goes past
//! all caches.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, Problem};
use super::operations::{AllowedLinks, LastLink, Operations};
use super::root::Root;
use super::walk::Links;
use crate::key::RelativeKey;

/// How many keys one thread checks.
const KEYS_PER_THREAD: usize = 64;

/// Whether the source has a file for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The walk would emit an entry for the key, or the source may have one.
    Present,
    /// The walk would emit nothing for the key.
    Absent,
    /// The check failed.
    Unknown(Problem),
}

impl Source {
    /// Checks each of these keys; the results are in the same order.
    pub(crate) async fn presences(&self, keys: Vec<RelativeKey>) -> Vec<Presence> {
        let checks = keys.chunks(KEYS_PER_THREAD).map(|keys| self.presences_in_chunk(keys));
        futures::future::join_all(checks).await.into_iter().flatten().collect()
    }

    async fn presences_in_chunk(&self, keys: &[RelativeKey]) -> Vec<Presence> {
        let (root, operations, names) = (Arc::clone(&self.root), Arc::clone(&self.operations), keys.to_vec());
        let first = keys.first().map_or("", RelativeKey::as_str);
        let links = self.walk.links;
        let check = move || names.iter().map(|key| presence(&root, &operations, key.as_str(), links)).collect();
        let found = self.call_timeout().run("stat", first, check).await;
        found.unwrap_or_else(|problem| vec![Presence::Unknown(problem); keys.len()])
    }
}

fn presence(root: &Root, operations: &Operations, key: &str, links: Links) -> Presence {
    let exists = match links {
        Links::Follow | Links::Skip => exists_through_links(root, operations, key),
        Links::Keep => exists_without_links(root, operations, key),
    };
    match exists {
        Ok(true) => Presence::Present,
        // `LOOP`: a link on the path leads back to itself, so no file is behind it.
        Ok(false) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Presence::Absent,
        Err(errno) => Presence::Unknown(Problem::of("stat", errno)),
    }
}

/// If links are copied as links, nothing exists behind one, and a link exists whatever its target.
fn exists_without_links(root: &Root, operations: &Operations, key: &str) -> Result<bool, Errno> {
    let (parent, name, wants_directory) = parts(key);
    let parent = match operations.open_directory(root.fd(), parent.as_bytes(), AllowedLinks::None) {
        Err(Errno::LOOP) => return Ok(false),
        opened => opened?,
    };
    let kind = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Keep)?.kind;
    Ok((kind == EntryKind::Directory) == wants_directory)
}

/// The directory, the name in it, and whether the key is that of a directory.
fn parts(key: &str) -> (&str, &str, bool) {
    let path = key.strip_suffix('/').unwrap_or(key);
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    (parent, name, key.ends_with('/'))
}

fn exists_through_links(root: &Root, operations: &Operations, key: &str) -> Result<bool, Errno> {
    let (parent, name, wants_directory) = parts(key);
    let parent = operations.open_directory(root.fd(), parent.as_bytes(), AllowedLinks::Any)?;
    let mut kind = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Keep)?.kind;
    if kind == EntryKind::Symlink {
        // A broken link is present too.
        let target = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Follow);
        kind = target.map_or(EntryKind::Symlink, |target| target.kind);
    }
    Ok((kind == EntryKind::Directory) == wants_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_present_only_if_a_file_of_its_kind_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        std::fs::write(path.join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("broken")).unwrap();
        std::os::unix::fs::symlink("d", path.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
        let root = Root::open(path).unwrap();
        for (key, expected) in [
            ("d/f", Presence::Present),
            ("d/", Presence::Present),
            ("d/e/", Presence::Present),
            ("broken", Presence::Present),
            ("link/f", Presence::Present),
            ("link/", Presence::Present),
            ("loop", Presence::Present),
            ("loop/f", Presence::Absent),
            ("loop/f/g", Presence::Absent),
            ("link", Presence::Absent),
            ("d", Presence::Absent),
            ("d/f/", Presence::Absent),
            ("d/f/g", Presence::Absent),
            ("d/none", Presence::Absent),
            ("none/f", Presence::Absent),
        ] {
            assert_eq!(presence(&root, &Operations::default(), key, Links::Follow), expected, "{key}");
        }
        for (key, expected) in [
            ("d/f", Presence::Present),
            ("d/", Presence::Present),
            ("broken", Presence::Present),
            ("link", Presence::Present),
            ("link/", Presence::Absent),
            ("link/f", Presence::Absent),
            ("loop/f", Presence::Absent),
            ("d", Presence::Absent),
            ("d/f/g", Presence::Absent),
            ("none/f", Presence::Absent),
        ] {
            assert_eq!(presence(&root, &Operations::default(), key, Links::Keep), expected, "{key}, links kept");
        }
    }
}
