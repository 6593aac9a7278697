//! Unseen files: those that came to their names after the walk had read the directory there.
//!
//! A rename during the walk, from a name that the walk has still to read to one that it has read, shows the file at neither
//! name: its object is an orphan, and the only copy of its content. So before deletes, each directory that the walk read is
//! statted again. The times of a directory change with each name that comes or goes. Only in those that changed, the
//! names are read again:
//!
//! - A file is unseen if its ctime is not older than the directory's was, because a rename sets the ctime of the file. It
//!   is seen if the walk has seen it unchanged under the same name (`source/seen_files`).
//! - A directory is unseen, with all that is below it, if the walk did not read it under this name. A move of a directory
//!   sets its ctime, and no time below it.
//! - A directory that was replaced by another one is unseen with all that is below it. So is one that was replaced by a
//!   followed link to a directory.
//!
//! One `ENOENT` does not prove that a name is gone here either: `source/place`, `source/later_reads`.
//!
//! The cost is one stat for each directory, and nothing if there are no orphans.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rustix::io::Errno;

use super::Source;
use super::entry::{EntryKind, Found, Nameless, Problem, Stat};
use super::later_reads::{LaterReads, names_of};
use super::mount_points::{DescendedPath, LastPart};
use super::names::{KindHint, Name, Names};
use super::operations::{AllowedLinks, LastLink, Operations};
use super::place::{CallError, Place, is_absence};
use super::read_directories::{ReadDirectories, ReadDirectory};
use super::root::Root;
use super::seen_files::Fingerprints;
use super::sizes::{Places, Sizes};
use super::stale::looked_up;
use super::walk::nameless::nameless;
use super::walk::{Links, WalkOptions, is_leftover, named_path};
use crate::filter::reserved::is_reserved;
use crate::time::EpochNanos;

/// How many directories or names one call stats.
const STATS_PER_CALL: usize = 64;
/// How far the clocks that stamp the times of one file system may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);

/// What the walk did not see.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// The sizes of the files, also of those below unseen directories.
    pub(crate) sizes: Sizes,
    /// The latest mtime of the files.
    pub(crate) latest_mtime: Option<EpochNanos>,
    /// When the walk started, by the host's clock.
    pub(crate) walk_started: Option<EpochNanos>,
    /// How many files and directories there are, without what is below the directories.
    pub(crate) count: u64,
    /// Why the check ended early: the file or directory, the error, and what to do.
    pub(crate) error: Option<String>,
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
    File {
        size_bytes: u64,
        mtime: EpochNanos,
    },
    /// A directory, unless the walk has read the one with this inode under this key. Ends in `/`.
    Directory(String, (u64, u64)),
    /// A file or directory that can have no key.
    Nameless(Vec<u8>),
    /// The call on this path failed.
    Failed(Vec<u8>, Problem),
}

/// What the calls of this check need.
#[derive(Clone)]
struct Check {
    root: Arc<Root>,
    operations: Arc<Operations>,
    options: WalkOptions,
    seen: Arc<Fingerprints>,
}

impl Source {
    /// Compares the directories that a walk read with what they are now.
    pub(crate) async fn unseen(&self, read: &ReadDirectories) -> Unseen {
        let mut unseen = Unseen::default();
        unseen.walk_started = read.started();
        unseen.error = self.find_unseen(read, &mut unseen).await.err();
        let places = std::mem::take(&mut unseen.places);
        if !places.is_empty() {
            let latest = self.learn_sizes(places, &mut unseen.sizes).await;
            unseen.latest_mtime = unseen.latest_mtime.max(latest);
        }
        unseen
    }

    async fn find_unseen(&self, read: &ReadDirectories, unseen: &mut Unseen) -> Result<(), String> {
        let lost = |error| format!("cannot keep the list of directories in the temporary folder: {error}");
        let check = Check {
            root: Arc::clone(&self.root),
            operations: Arc::clone(&self.operations),
            options: self.walk.clone(),
            seen: Arc::new(read.take_files()),
        };
        let chunks = read.take().map_err(lost)?;
        let chunks = futures::stream::iter(chunks).chunks(STATS_PER_CALL);
        let mut statted =
            Box::pin(chunks.map(|chunk| self.stat_again(&check, chunk)).buffered(self.walk.walkers.max(1)));
        // Directories that may be unseen, by the key: those that the walk read come later.
        let mut directories = BTreeMap::<String, (u64, u64)>::new();
        let mut below_replaced: Option<String> = None;
        while let Some(chunk) = statted.next().await {
            for (directory, now) in chunk.map_err(lost)? {
                let key = directory.key.as_str();
                while let Some(first) = directories.first_entry()
                    && first.key().as_str() < key
                {
                    unseen.extend_below(&first.remove_entry().0);
                }
                let now = now.with_found(&directory, directories.remove(key));
                if below_replaced.as_ref().is_some_and(|replaced| key.starts_with(replaced.as_str())) {
                    continue;
                }
                match now {
                    Now::Unchanged | Now::Gone => {}
                    Now::Failed(problem) => return Err(cannot("stat", key.as_bytes(), &problem)),
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
        for key in directories.keys() {
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
        directories: &mut BTreeMap<String, (u64, u64)>,
    ) -> Result<(), String> {
        let key = directory.key.as_str();
        let (reader, to_read) = (check.clone(), directory.clone());
        let names = self.call_timeout().run("readdir", key, move || reader.names(&to_read)).await;
        let names = match names
            .and_then(|names| names.or_else(|error| error.problem("readdir").map_or(Ok(Names::default()), Err)))
        {
            Ok(names) => names,
            Err(problem) => return Err(cannot("read", key.as_bytes(), &problem)),
        };
        let (names, later_reads) = (Arc::new(names), Arc::new(LaterReads::default()));
        let chunks = futures::stream::iter((0..names.len()).step_by(STATS_PER_CALL));
        let stat = |first: usize| {
            let (check, directory) = (check.clone(), directory.clone());
            let (names, later_reads) = (Arc::clone(&names), Arc::clone(&later_reads));
            let stat = move || {
                let chunk = (first..first + STATS_PER_CALL).map_while(|index| names.get(index));
                chunk.map(|name| check.name(&directory, name, &later_reads, since)).collect::<Vec<_>>()
            };
            self.call_timeout().run("stat", key, stat)
        };
        let mut statted = Box::pin(chunks.map(stat).buffered(self.walk.walkers.max(1)));
        while let Some(chunk) = statted.next().await {
            for new in chunk.map_err(|problem| cannot("stat the names in", key.as_bytes(), &problem))? {
                match new {
                    New::Nothing => {}
                    New::Failed(path, problem) => return Err(cannot("stat", &path, &problem)),
                    New::Directory(key, inode) => {
                        directories.insert(key, inode);
                    }
                    New::File { size_bytes, mtime } => {
                        unseen.count += 1;
                        unseen.sizes.add(size_bytes);
                        unseen.latest_mtime = unseen.latest_mtime.max(Some(mtime));
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

impl Now {
    /// With what was found under the key of the directory when its parent was read again, just after the stat.
    fn with_found(self, directory: &ReadDirectory, found: Option<(u64, u64)>) -> Self {
        match (self, found) {
            (Self::Gone, Some(_)) => Self::Replaced,
            (Self::Unchanged | Self::Changed { .. }, Some(inode)) if inode != directory.inode => Self::Replaced,
            (now, _) => now,
        }
    }
}

impl Check {
    fn now(&self, directory: &ReadDirectory) -> Now {
        // The walk would follow a link here too, even if it found a directory.
        let last = if self.options.links == Links::Follow { LastLink::Follow } else { LastLink::Keep };
        let stat = |path: &[u8]| self.operations.fresh_stat(self.root.fd(), path, last);
        match self.call(directory, stat) {
            Ok(now) if now.kind != EntryKind::Directory => Now::Gone,
            Ok(now) if directory.inode != now.inode => Now::Replaced,
            Ok(now) if directory.is_unchanged(&now) => Now::Unchanged,
            Ok(now) => Now::Changed { since: directory.ctime.min(now.ctime).minus(CLOCKS_DIFFER) },
            Err(error) => error.problem("stat").map_or(Now::Gone, Now::Failed),
        }
    }

    fn names(&self, directory: &ReadDirectory) -> Result<Names, CallError> {
        self.call(directory, |path| {
            looked_up(|| {
                let open = self.operations.open_directory(self.root.fd(), path, self.links())?;
                names_of(&self.operations, open.as_fd())
            })
        })
    }

    /// Makes a call on the path of the directory, and confirms an error that says that it is gone. The root never is.
    fn call<T>(&self, directory: &ReadDirectory, call: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<T, CallError> {
        match directory.key.as_str().strip_suffix('/') {
            None => call(b".").map_err(CallError::Failed),
            Some(path) => {
                let place = Place::new(path, EntryKind::Directory, self.links());
                place.call(&self.operations, self.root.fd(), || call(path.as_bytes()))
            }
        }
    }

    fn links(&self) -> AllowedLinks {
        if self.options.links == Links::Follow { AllowedLinks::Any } else { AllowedLinks::None }
    }

    /// What a name is, by one stat, unless it is a link that the walk follows.
    fn name(&self, directory: &ReadDirectory, name: Name<'_>, later_reads: &LaterReads, since: EpochNanos) -> New {
        let path = [directory.key.as_bytes(), name.bytes].concat();
        let stat = || self.operations.fresh_stat(self.root.fd(), &path, LastLink::Keep);
        let statted = match stat() {
            // What kind it was before does not matter.
            Err(errno) if is_absence(errno) => {
                later_reads.settle(name.bytes, KindHint::Unknown, Err(errno), stat, || self.names(directory))
            }
            statted => statted.map_err(CallError::Failed),
        };
        let stat = match statted {
            Ok(stat) if stat.ctime >= since => stat,
            Ok(_) => return New::Nothing,
            Err(error) => return error.problem("stat").map_or(New::Nothing, |problem| New::Failed(path, problem)),
        };
        let key = match String::from_utf8(path) {
            Ok(key) => key,
            Err(error) => {
                return match nameless(&self.options, stat.kind, error.as_bytes()) {
                    Nameless::Failed(..) => New::Nameless(error.into_bytes()),
                    Nameless::Filtered | Nameless::Skipped(_) | Nameless::Special => New::Nothing,
                };
            }
        };
        if self.options.skip_reserved && is_reserved(&key) {
            return New::Nothing;
        }
        if stat.kind == EntryKind::Symlink && self.options.links == Links::Follow {
            let fresh = |path: &[u8]| self.operations.fresh_stat(self.root.fd(), path, LastLink::Keep);
            return match named_path::descend(&self.root, &self.operations, &self.options, &key, fresh) {
                Ok(Found::File(entry) | Found::Directory(entry)) => self.in_scope(key, &entry.stat),
                Ok(_) => New::Nothing,
                Err(errno) => New::Failed(key.into_bytes(), Problem::of("stat", errno)),
            };
        }
        let here = DescendedPath::behind(LastPart::of(directory.inode.0, &stat), directory.through_link);
        if self.options.mount_points.is_missing(&key, here) {
            return New::Nothing;
        }
        self.in_scope(key, &stat)
    }

    /// The file or directory, if it is part of the sync.
    fn in_scope(&self, key: String, stat: &Stat) -> New {
        let (filter, range) = (&self.options.filter, &self.options.tree_range);
        match stat.kind {
            EntryKind::Directory => {
                let key = key + "/";
                let is_out = filter.excludes_directory(&key) || !range.reaches(&key);
                if is_out { New::Nothing } else { New::Directory(key, stat.inode) }
            }
            EntryKind::Symlink if self.options.links == Links::Skip => New::Nothing,
            EntryKind::File | EntryKind::Symlink => {
                let is_leftover = is_leftover(key.rsplit('/').next().unwrap_or(&key).as_bytes());
                let is_out = is_leftover || !filter.admits(&key) || !range.keys().contains(key.as_bytes());
                if is_out || self.seen.include(&key, stat) {
                    New::Nothing
                } else {
                    New::File { size_bytes: stat.size_bytes, mtime: stat.mtime }
                }
            }
            EntryKind::Special => New::Nothing,
        }
    }
}

/// The error of a path that is read a second time, and what to do.
fn cannot(verb: &str, path: &[u8], problem: &Problem) -> String {
    let path = match path {
        b"" => "the source".into(),
        path => format!("'{}'", String::from_utf8_lossy(path)),
    };
    format!("cannot {verb} {path} again after the walk: {}", problem.message)
}
