//! Whether the source has something of a name, looked at afresh: the last look before a delete.
//!
//! NFS caches that a name is absent, for as long as the directory's own attributes are. Opening the directory first asks
//! the server for these (close-to-open consistency), and the stat that follows is one that no cache answers.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, Problem};
use super::operations::{LastLink, LinksOnTheWay, Operations};
use super::read::{ReadError, blocking};
use super::root::Root;
use super::walk::Links;
use crate::key::RelativeKey;

/// How many names one thread looks up.
const NAMES_A_THREAD: usize = 64;

/// What a fresh look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Something that the walk would emit, or that must not be taken for gone.
    There,
    /// Nothing: the walk would emit nothing for this key.
    Gone,
    /// It could not be seen.
    Unknown(Problem),
}

impl Source {
    /// Looks for what stands at each of these keys, in their order.
    pub async fn presences(&self, keys: Vec<RelativeKey>) -> Vec<Presence> {
        let looks = keys.chunks(NAMES_A_THREAD).map(|keys| self.presences_of_some(keys));
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    async fn presences_of_some(&self, keys: &[RelativeKey]) -> Vec<Presence> {
        let (root, operations, names) = (Arc::clone(&self.root), Arc::clone(&self.operations), keys.to_vec());
        let first = keys.first().map_or("", RelativeKey::as_str);
        let links = self.walk.links;
        let look = blocking(self.patience(), "stat", first, move || {
            Ok(names.iter().map(|key| presence(&root, &operations, key.as_str(), links)).collect::<Vec<_>>())
        });
        match look.await {
            Ok(found) => found,
            Err(ReadError::Problem(problem)) => vec![Presence::Unknown(problem); keys.len()],
            // `blocking` reports these of calls that fail, and this one cannot.
            Err(ReadError::Vanished | ReadError::Changed) => vec![Presence::There; keys.len()],
        }
    }
}

fn presence(root: &Root, operations: &Operations, key: &str, links: Links) -> Presence {
    let looked = match links {
        Links::Follow | Links::Skip => is_there(root, operations, key),
        Links::Keep => stands_there_itself(root, operations, key),
    };
    match looked {
        Ok(true) => Presence::There,
        // A link that leads back to itself on the way: nothing is behind it.
        Ok(false) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Presence::Gone,
        Err(errno) => Presence::Unknown(Problem::of("stat", errno)),
    }
}

/// Where links stand for themselves: what is behind one is not there, and the link is there, whatever it leads to.
fn stands_there_itself(root: &Root, operations: &Operations, key: &str) -> Result<bool, Errno> {
    let (parent, name, wants_directory) = parts(key);
    let parent = match operations.open_directory(root.fd(), parent.as_bytes(), LinksOnTheWay::None) {
        Err(Errno::LOOP) => return Ok(false),
        opened => opened?,
    };
    let kind = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Keep)?.kind;
    Ok((kind == EntryKind::Directory) == wants_directory)
}

/// The directory, the name in it, and whether a directory is meant.
fn parts(key: &str) -> (&str, &str, bool) {
    let path = key.strip_suffix('/').unwrap_or(key);
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    (parent, name, key.ends_with('/'))
}

fn is_there(root: &Root, operations: &Operations, key: &str) -> Result<bool, Errno> {
    let (parent, name, wants_directory) = parts(key);
    let parent = operations.open_directory(root.fd(), parent.as_bytes(), LinksOnTheWay::Any)?;
    let mut kind = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Keep)?.kind;
    if kind == EntryKind::Symlink {
        // A link that leads nowhere is there all the same.
        let target = operations.fresh_stat(parent.as_fd(), name.as_bytes(), LastLink::Follow);
        kind = target.map_or(EntryKind::Symlink, |target| target.kind);
    }
    Ok((kind == EntryKind::Directory) == wants_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_name_is_there_and_what_has_it_as_another_kind_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        std::fs::write(path.join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("broken")).unwrap();
        std::os::unix::fs::symlink("d", path.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
        let root = Root::open(path).unwrap();
        for (key, expected) in [
            ("d/f", Presence::There),
            ("d/", Presence::There),
            ("d/e/", Presence::There),
            ("broken", Presence::There),
            ("link/f", Presence::There),
            ("link/", Presence::There),
            ("loop", Presence::There),
            ("loop/f", Presence::Gone),
            ("loop/f/g", Presence::Gone),
            ("link", Presence::Gone),
            ("d", Presence::Gone),
            ("d/f/", Presence::Gone),
            ("d/f/g", Presence::Gone),
            ("d/none", Presence::Gone),
            ("none/f", Presence::Gone),
        ] {
            assert_eq!(presence(&root, &Operations::default(), key, Links::Follow), expected, "{key}");
        }
        for (key, expected) in [
            ("d/f", Presence::There),
            ("d/", Presence::There),
            ("broken", Presence::There),
            ("link", Presence::There),
            ("link/", Presence::Gone),
            ("link/f", Presence::Gone),
            ("loop/f", Presence::Gone),
            ("d", Presence::Gone),
            ("d/f/g", Presence::Gone),
            ("none/f", Presence::Gone),
        ] {
            assert_eq!(presence(&root, &Operations::default(), key, Links::Keep), expected, "{key}, links kept");
        }
    }
}
