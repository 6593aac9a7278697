//! Unseen files: those that came to their names after the walk had read the directory there.
//!
//! A rename during the walk, from a name that the walk has still to read to one that it has read, shows the file at neither
//! name: its object is an orphan, and the only copy of its content. So before deletes, each directory that the walk read is
//! statted again. The times of a directory change with each name that comes or goes. Only in those that changed, the
//! names are read again:
//!
//! - A file is unseen if its ctime is not older than the directory's was, because a rename sets the ctime of the file.
//! - A directory is unseen, with all that is below it, if the walk did not read it under this name. A move of a directory
//!   sets its ctime, and no time below it.
//! - A directory that was replaced by another one is unseen with all that is below it.
//!
//! The cost is one stat for each directory, and nothing if there are no orphans.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, Found, Problem};
use super::operations::{AllowedLinks, LastLink, Operations};
use super::read_directories::{ReadDirectories, ReadDirectory};
use super::root::Root;
use super::sizes::{Places, Sizes};
use super::walk::{WalkOptions, is_leftover, named_path};
use crate::filter::reserved::is_reserved;
use crate::time::EpochNanos;

/// How many directories or names one call stats.
const STATS_PER_CALL: usize = 64;
/// How far the clocks that stamp the times of one file system may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);
const BUFFER_BYTES: usize = 32 << 10;

/// What the walk did not see.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// The sizes of the files, also of those below unseen directories.
    pub(crate) sizes: Sizes,
    /// How many files and directories there are, without what is below the directories.
    pub(crate) count: u64,
    places: Places,
}

/// What a directory is now.
enum Now {
    Unchanged,
    /// It does not exist any more. What was in it is elsewhere, in a directory that changed.
    Gone,
    /// Names came or went. They came at this time or later.
    Changed {
        since: EpochNanos,
    },
    /// Another directory is in its place.
    Replaced,
    Failed(Problem),
}

/// A name in a directory that changed.
enum New {
    /// The walk has seen it, or it is not part of the sync.
    Nothing,
    File(u64),
    /// A directory, unless the walk has read it. Ends in `/`.
    Directory(String),
    /// A file or directory that can have no key.
    Nameless(Vec<u8>),
    Failed(Problem),
}

/// What the calls of this check need.
#[derive(Clone)]
struct Check {
    root: Arc<Root>,
    operations: Arc<Operations>,
    options: WalkOptions,
}

impl Source {
    /// Compares the directories that a walk read with what they are now.
    pub(crate) async fn unseen(&self, read: &ReadDirectories) -> Unseen {
        let mut unseen = Unseen::default();
        if let Err(why) = self.find_unseen(read, &mut unseen).await {
            unseen.count += 1;
            unseen.sizes.all(why);
        }
        let places = std::mem::take(&mut unseen.places);
        if !places.is_empty() {
            self.learn_sizes(places, &mut unseen.sizes).await;
        }
        unseen
    }

    async fn find_unseen(&self, read: &ReadDirectories, unseen: &mut Unseen) -> Result<(), String> {
        let lost = |error| format!("cannot keep the list of directories in the temporary folder: {error}");
        let check = Check {
            root: Arc::clone(&self.root),
            operations: Arc::clone(&self.operations),
            options: self.walk.clone(),
        };
        let chunks = read.take().map_err(lost)?;
        let chunks = futures::stream::iter(chunks).chunks(STATS_PER_CALL);
        let mut statted =
            Box::pin(chunks.map(|chunk| self.stat_again(&check, chunk)).buffered(self.walk.walkers.max(1)));
        // Directories that may be unseen, by the key: those that the walk read come later.
        let mut directories = BTreeSet::new();
        let mut below_replaced: Option<String> = None;
        while let Some(chunk) = statted.next().await {
            for (directory, now) in chunk.map_err(lost)? {
                let key = directory.key.as_str();
                while directories.first().is_some_and(|first: &String| first.as_str() < key) {
                    unseen.extend_below(&directories.pop_first().unwrap_or_default());
                }
                directories.remove(key);
                if below_replaced.as_ref().is_some_and(|replaced| key.starts_with(replaced.as_str())) {
                    continue;
                }
                match now {
                    Now::Unchanged | Now::Gone => {}
                    Now::Failed(problem) => return Err(problem.message),
                    Now::Replaced => {
                        unseen.extend_below(key);
                        below_replaced = Some(key.to_owned());
                    }
                    Now::Changed { since } => {
                        self.read_again(&check, &directory, since, unseen, &mut directories).await?;
                    }
                }
            }
        }
        for key in &directories {
            unseen.extend_below(key);
        }
        Ok(())
    }

    async fn stat_again(
        &self,
        check: &Check,
        chunk: Vec<std::io::Result<ReadDirectory>>,
    ) -> std::io::Result<Vec<(ReadDirectory, Now)>> {
        let chunk = chunk.into_iter().collect::<std::io::Result<Vec<_>>>()?;
        let first = chunk.first().map(|directory| directory.key.to_string()).unwrap_or_default();
        let (check, directories) = (check.clone(), chunk.clone());
        let stat = move || directories.iter().map(|directory| check.now(directory)).collect::<Vec<_>>();
        let now = match self.call_timeout().run("stat", &first, stat).await {
            Ok(now) => now,
            Err(problem) => chunk.iter().map(|_| Now::Failed(problem.clone())).collect(),
        };
        Ok(chunk.into_iter().zip(now).collect())
    }

    /// Reads the names of a directory that changed, and finds those that came since.
    async fn read_again(
        &self,
        check: &Check,
        directory: &ReadDirectory,
        since: EpochNanos,
        unseen: &mut Unseen,
        directories: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        let key = directory.key.as_str();
        let (reader, to_read) = (check.clone(), directory.clone());
        let names = self.call_timeout().run("readdir", key, move || reader.names(&to_read)).await;
        let names = match names.map_err(|problem| problem.message)? {
            Ok(names) => names,
            // It is gone by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(Problem::of("readdir", errno).message),
        };
        let chunks = futures::stream::iter(names).chunks(STATS_PER_CALL);
        let stat = |names: Vec<Vec<u8>>| {
            let (check, directory) = (check.clone(), directory.clone());
            let stat = move || names.iter().map(|name| check.name(&directory, name, since)).collect::<Vec<_>>();
            self.call_timeout().run("stat", key, stat)
        };
        let mut statted = Box::pin(chunks.map(stat).buffered(self.walk.walkers.max(1)));
        while let Some(chunk) = statted.next().await {
            for new in chunk.map_err(|problem| problem.message)? {
                match new {
                    New::Nothing => {}
                    New::Failed(problem) => return Err(problem.message),
                    New::Directory(key) => {
                        directories.insert(key);
                    }
                    New::File(size) => {
                        unseen.count += 1;
                        unseen.sizes.add(size);
                    }
                    New::Nameless(path) => {
                        unseen.count += 1;
                        unseen.places.add(&path);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Unseen {
    fn extend_below(&mut self, key: &str) {
        self.count += 1;
        self.places.add(if key.is_empty() { b"." } else { key.as_bytes() });
    }
}

impl Check {
    fn now(&self, directory: &ReadDirectory) -> Now {
        let path = directory.key.as_str().strip_suffix('/').unwrap_or(".");
        let last = if directory.through_link { LastLink::Follow } else { LastLink::Keep };
        match self.operations.fresh_stat(self.root.fd(), path.as_bytes(), last) {
            Ok(now) if now.kind != EntryKind::Directory => Now::Gone,
            Ok(now) if directory.is_unchanged(&now) => Now::Unchanged,
            Ok(now) if directory.inode != now.inode => Now::Replaced,
            Ok(now) => Now::Changed { since: directory.ctime.min(now.ctime).minus(CLOCKS_DIFFER) },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Now::Gone,
            Err(errno) => Now::Failed(Problem::of("stat", errno)),
        }
    }

    fn names(&self, directory: &ReadDirectory) -> Result<Vec<Vec<u8>>, Errno> {
        let path = directory.key.as_str().strip_suffix('/').unwrap_or(".");
        let links = if directory.through_link { AllowedLinks::Any } else { AllowedLinks::None };
        let open = self.operations.open_directory(self.root.fd(), path.as_bytes(), links)?;
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut first = true;
        while self.operations.read_names(open.as_fd(), buffer.spare_capacity_mut(), first, |name, _| {
            names.push(name.to_vec());
        })? {
            first = false;
        }
        Ok(names)
    }

    fn name(&self, directory: &ReadDirectory, name: &[u8], since: EpochNanos) -> New {
        let path = [directory.key.as_bytes(), name].concat();
        let fresh = |path: &[u8]| self.operations.fresh_stat(self.root.fd(), path, LastLink::Keep);
        match fresh(&path) {
            Ok(stat) if stat.ctime < since => return New::Nothing,
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return New::Nothing,
            Err(errno) => return New::Failed(Problem::of("stat", errno)),
        }
        let Ok(key) = String::from_utf8(path) else {
            return New::Nameless([directory.key.as_bytes(), name].concat());
        };
        let (filter, range) = (&self.options.filter, &self.options.tree_range);
        if self.options.skip_reserved && is_reserved(&key) {
            return New::Nothing;
        }
        match named_path::descend(&self.root, &self.operations, &self.options, &key, fresh) {
            Ok(Found::File(entry) | Found::Symlink(entry)) => {
                let is_leftover = name.rsplit(|&byte| byte == b'/').next().is_some_and(is_leftover);
                if is_leftover || !filter.admits(&key) || !range.keys().contains(key.as_bytes()) {
                    New::Nothing
                } else {
                    New::File(entry.stat.size_bytes)
                }
            }
            Ok(Found::Directory(_)) => {
                let key = key + "/";
                let is_out = filter.excludes_directory(&key) || !range.reaches(&key);
                if is_out { New::Nothing } else { New::Directory(key) }
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => New::Nothing,
            Err(errno) => New::Failed(Problem::of("stat", errno)),
        }
    }
}
