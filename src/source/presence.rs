//! A presence: whether the source has a file for a key, checked just before a delete.
//!
//! An NFS client caches that a name is absent, for as long as it caches the attributes of the directory. Opening the
//! directory first fetches these attributes from the server (close-to-open consistency). The stat that follows goes past
//! all caches.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::Source;
use super::entry::{Cover, Entry, EntryKind, FileEntry, Found, Problem, Unknown};
use super::operations::{AllowedLinks, LastLink, Operations};
use super::root::Root;
use super::stale::looked_up;
use super::walk::{Links, WalkOptions, named_path};
use crate::key::{RelativeKey, SourcePath};

/// How many keys one thread checks.
const KEYS_PER_THREAD: usize = 64;

/// Whether the source has a file for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The walk would emit an entry for the key, or a rule leaves the key out of the sync.
    Present,
    /// The walk would emit nothing for the key.
    Absent,
    /// What the source has there is out of sight.
    Unknown,
    /// The check failed.
    Failed(Problem),
}

impl Source {
    /// Checks each of these keys; the results are in the same order.
    pub(crate) async fn presences(&self, keys: Vec<RelativeKey>) -> Vec<Presence> {
        let checks = keys.chunks(KEYS_PER_THREAD).map(|keys| self.presences_in_chunk(keys));
        futures::future::join_all(checks).await.into_iter().flatten().collect()
    }

    async fn presences_in_chunk(&self, keys: &[RelativeKey]) -> Vec<Presence> {
        let (root, operations, names) = (Arc::clone(&self.root), Arc::clone(&self.operations), keys.to_vec());
        let requirements = Arc::clone(&self.requirements);
        let first = keys.first().map_or("", RelativeKey::as_str);
        let options = self.walk.clone();
        let check = move || {
            let mut check = Check::new(&root, &operations, &options);
            let presences: Vec<Presence> = names.iter().map(|key| check.presence(key)).collect();
            // Only after the checks: what they saw was the source until now.
            match requirements.check(&root) {
                Ok(()) if root.is_in_place(&operations) => presences,
                Ok(()) => vec![Presence::Failed(Problem::source_replaced()); names.len()],
                Err(unmet) => vec![Presence::Failed(Problem::unmet(&unmet)); names.len()],
            }
        };
        let found = self.call_timeout().run("stat", first, check).await;
        found.unwrap_or_else(|problem| vec![Presence::Failed(problem); keys.len()])
    }
}

/// The check of some keys in order.
struct Check<'a> {
    root: &'a Root,
    operations: &'a Operations,
    options: &'a WalkOptions,
    /// The last directory above a key, and what was found there: most keys have the directory of the one before.
    above: Option<(String, Result<Found, Errno>)>,
    /// The last mount point at or above a key, and whether its mount is missing.
    mount_point: Option<(String, Result<bool, Errno>)>,
}

impl<'a> Check<'a> {
    fn new(root: &'a Root, operations: &'a Operations, options: &'a WalkOptions) -> Self {
        Self { root, operations, options, above: None, mount_point: None }
    }

    fn presence(&mut self, key: &RelativeKey) -> Presence {
        if SourcePath::of(key).is_none() {
            return Presence::Failed(Problem::not_a_path());
        }
        match looked_up(|| self.entry(key)) {
            Ok(entry) => entry.presence_of(key),
            Err(Errno::NOENT | Errno::NOTDIR) => Presence::Absent,
            Err(errno) => Presence::Failed(Problem::of("stat", errno)),
        }
    }

    /// The entry that the walk would emit at the path of this key, or the one above it that covers the key.
    fn entry(&mut self, key: &RelativeKey) -> Result<Entry, Errno> {
        let path = key.as_str().strip_suffix('/').unwrap_or(key.as_str());
        if let Some(place) = self.options.mount_points.nearest(path)
            && self.is_missing_mount(place)?
        {
            let missing = Unknown::MissingMount { hides_files: false };
            return Ok(Entry::new(place, Found::Unknown(EntryKind::Directory, missing)));
        }
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let opened = self.open(above);
        // Only if links are kept, an open without links shows that no link hides what is below.
        if self.options.links != Links::Keep && above != "." {
            let entry = Entry::new(above, self.found_above(above)?);
            if entry.cover_of(key).is_some() {
                return Ok(entry);
            }
        }
        let stat = self.operations.fresh_stat(opened?.as_fd(), name.as_bytes(), LastLink::Keep)?;
        if stat.kind == EntryKind::Symlink && self.options.links != Links::Keep {
            return Ok(Entry::new(path, self.descend(path)?));
        }
        let entry = FileEntry::new(stat, None, false);
        Ok(Entry::new(
            path,
            match stat.kind {
                EntryKind::Directory => Found::Directory(entry),
                EntryKind::Symlink => Found::Symlink(entry),
                EntryKind::File => Found::File(entry),
                EntryKind::Special => Found::Special,
            },
        ))
    }

    /// Opens the directory above a key, which fetches its attributes from the server.
    fn open(&self, above: &str) -> Result<OwnedFd, Errno> {
        let allowed = if self.options.links == Links::Keep { AllowedLinks::None } else { AllowedLinks::Any };
        match self.operations.open_directory(self.root.fd(), above.as_bytes(), allowed) {
            // If links are copied as links, nothing exists behind one.
            Err(Errno::LOOP) if self.options.links == Links::Keep => Err(Errno::NOTDIR),
            opened => opened,
        }
    }

    fn found_above(&mut self, above: &str) -> Result<Found, Errno> {
        if let Some((last, found)) = &self.above
            && last == above
        {
            return found.clone();
        }
        let found = self.descend(above);
        self.above = Some((above.to_owned(), found.clone()));
        found
    }

    fn is_missing_mount(&mut self, place: &str) -> Result<bool, Errno> {
        if let Some((last, is_missing)) = &self.mount_point
            && last == place
        {
            return *is_missing;
        }
        let is_missing = match self.descend(place) {
            Ok(Found::Unknown(_, Unknown::MissingMount { .. })) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(true),
            found => found.map(|_| false),
        };
        self.mount_point = Some((place.to_owned(), is_missing));
        is_missing
    }

    fn descend(&self, path: &str) -> Result<Found, Errno> {
        let stat = |path: &[u8]| self.operations.fresh_stat(self.root.fd(), path, LastLink::Keep);
        named_path::descend(self.root, self.operations, self.options, path, stat)
    }
}

impl Entry {
    /// What this entry covers the key with, if it does.
    fn cover_of(&self, key: &RelativeKey) -> Option<Cover> {
        let coverage = self.found.coverage(&self.key)?;
        coverage.includes(&self.key, key).then_some(coverage.cover)
    }

    /// What this entry, at the path of the key or above it, shows about the key.
    fn presence_of(&self, key: &RelativeKey) -> Presence {
        match self.cover_of(key) {
            Some(Cover::Unknown | Cover::Unread) => Presence::Unknown,
            Some(Cover::OutOfScope | Cover::Failed) => Presence::Present,
            None if matches!(self.found, Found::Directory(_)) == key.as_str().ends_with('/') => Presence::Present,
            None => Presence::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(root: &Root, key: &str, links: Links) -> Presence {
        let options = WalkOptions { links, ..WalkOptions::for_tests() };
        Check::new(root, &Operations::default(), &options).presence(&RelativeKey::new(key))
    }

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
            ("link/f", Presence::Present),
            ("link/", Presence::Present),
            ("link", Presence::Absent),
            ("d", Presence::Absent),
            ("d/f/", Presence::Absent),
            ("d/f/g", Presence::Absent),
            ("d/none", Presence::Absent),
            ("none/f", Presence::Absent),
        ] {
            assert_eq!(presence(&root, key, Links::Follow), expected, "{key}");
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
            assert_eq!(presence(&root, key, Links::Keep), expected, "{key}, links kept");
        }
    }

    #[test]
    fn what_a_link_hides_is_never_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let link = |target: &str, at: &str| std::os::unix::fs::symlink(target, path.join(at)).unwrap();
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        link("nowhere", "broken");
        link("d/nowhere/else", "deep");
        link("loop", "loop");
        link("two", "one");
        link("one", "two");
        link(".", "root");
        link("../..", "d/e/up");
        let root = Root::open(path).unwrap();
        for place in ["broken", "deep", "loop", "one", "root", "d/e/up"] {
            for below in ["", "/", "/f", "/d/", "/d/f/g"] {
                let key = format!("{place}{below}");
                assert_eq!(presence(&root, &key, Links::Follow), Presence::Unknown, "{key}");
                assert_eq!(presence(&root, &key, Links::Skip), Presence::Present, "{key} is out of scope");
                let kept = if below.is_empty() { Presence::Present } else { Presence::Absent };
                assert_eq!(presence(&root, &key, Links::Keep), kept, "{key}, links kept");
            }
        }
        for (key, expected) in [("brok", Presence::Absent), ("broken2", Presence::Absent), ("d/e/", Presence::Present)]
        {
            assert_eq!(presence(&root, key, Links::Follow), expected, "{key}");
        }
    }

    #[test]
    fn what_lies_behind_more_links_than_the_system_follows_is_never_absent() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..45 {
            let directory = folder.path().join(format!("pool/{number}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::os::unix::fs::symlink(format!("../{}", number + 1), directory.join("l")).unwrap();
        }
        let root = Root::open(&folder.path().join("pool/0")).unwrap();
        let followed = ["l"; 40].join("/");
        assert_eq!(presence(&root, &format!("{followed}/"), Links::Follow), Presence::Present);
        assert_eq!(presence(&root, &format!("{followed}/none"), Links::Follow), Presence::Absent);
        for key in [
            format!("{followed}/l"),
            format!("{followed}/l/"),
            format!("{followed}/l/none"),
            format!("{followed}/l/l/x"),
        ] {
            assert_eq!(presence(&root, &key, Links::Follow), Presence::Unknown, "{key}");
        }
    }
}
