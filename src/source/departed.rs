//! Departures: whether a file may have left its place during the walk.
//!
//! A name that leaves a directory sets the ctime of the directory. A directory that is renamed sets its own ctime. So if no
//! directory on the path of a key has changed since the walk started, there was no file at the key when it started.

use std::collections::HashMap;
use std::sync::Arc;

use super::Source;
use super::entry::{EntryKind, Stat};
use super::operations::{LastLink, Operations};
use super::place::is_absence;
use super::root::Root;
use crate::key::RelativeKey;
use crate::time::EpochNanos;

/// What a directory on the path of a key shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has not changed.
    Quiet,
    /// It has changed, or its stat failed.
    Changed,
    /// No directory has this name.
    Missing,
}

/// The checks of some keys.
struct Check {
    root: Arc<Root>,
    operations: Arc<Operations>,
    since: EpochNanos,
    places: HashMap<String, Place>,
}

impl Source {
    /// Returns for each key, at which there is no file, whether one may have left it at this time or later.
    pub(crate) async fn may_have_left(&self, keys: Vec<RelativeKey>, since: EpochNanos) -> Vec<bool> {
        let (root, operations) = (Arc::clone(&self.root), Arc::clone(&self.operations));
        let (count, first) = (keys.len(), keys.first().map(ToString::to_string).unwrap_or_default());
        let check = move || {
            let mut check = Check { root, operations, since, places: HashMap::new() };
            keys.iter().map(|key| check.may_have_left(key.as_str())).collect()
        };
        self.call_timeout().run("stat", &first, check).await.unwrap_or_else(|_| vec![true; count])
    }
}

impl Check {
    fn may_have_left(&mut self, key: &str) -> bool {
        let path = key.strip_suffix('/').unwrap_or(key);
        let mut deepest = ".";
        for (end, _) in path.match_indices('/') {
            let directory = path.get(..end).unwrap_or_default();
            match self.place(directory) {
                Place::Quiet => deepest = directory,
                Place::Changed => return true,
                Place::Missing => break,
            }
        }
        // The root itself is never renamed: only what was directly in it has left it.
        deepest == "." && self.place(".") != Place::Quiet
    }

    fn place(&mut self, path: &str) -> Place {
        if let Some(place) = self.places.get(path) {
            return *place;
        }
        let place = self.stat(path);
        self.places.insert(path.to_owned(), place);
        place
    }

    fn stat(&self, path: &str) -> Place {
        let stat = |last| self.operations.fresh_stat(self.root.fd(), path.as_bytes(), last);
        let is_quiet = |stat: &Stat| stat.ctime < self.since;
        match stat(LastLink::Keep) {
            Ok(link) if link.kind == EntryKind::Symlink => match stat(LastLink::Follow) {
                Ok(target) if is_quiet(&link) && is_quiet(&target) => Place::Quiet,
                _ => Place::Changed,
            },
            Ok(found) if found.kind != EntryKind::Directory => Place::Missing,
            Ok(found) if is_quiet(&found) => Place::Quiet,
            Err(errno) if is_absence(errno) => Place::Missing,
            Ok(_) | Err(_) => Place::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_path_without_changes_shows_that_no_file_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("quiet/below")).unwrap();
        std::fs::create_dir_all(folder.path().join("changed/below")).unwrap();
        std::os::unix::fs::symlink("quiet", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("changed", folder.path().join("to_changed")).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let since = EpochNanos::now();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(folder.path().join("changed/new"), "").unwrap();
        let root = Arc::new(Root::open(folder.path()).unwrap());
        let check =
            |since| Check { root: Arc::clone(&root), operations: Arc::default(), since, places: HashMap::new() };
        for (key, left) in [
            ("quiet/f", false),
            ("quiet/below/f", false),
            ("quiet/gone/f", false),
            ("link/f", false),
            ("f", false),
            ("gone/f", false),
            ("changed/f", true),
            ("changed/below/f", true),
            ("changed/gone/", true),
            ("to_changed/f", true),
        ] {
            assert_eq!(check(since).may_have_left(key), left, "{key}");
        }
        std::os::unix::fs::symlink("quiet", folder.path().join("new")).unwrap();
        for (key, left) in [("quiet/f", false), ("f", true), ("gone/f", true), ("new/f", true)] {
            assert_eq!(check(since).may_have_left(key), left, "{key}");
        }
    }
}
