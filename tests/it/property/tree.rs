//! The tree: the source of a case, what surrounds it, and the edits of both. Clones share them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::mount;
use super::story::{ALIKE, Edit, Layout, NAMES_PER_STORY, SIZES, Target, Unpublishable};
use super::view::{Mode, View};

/// More entries than this, and links to directories could multiply them without end.
const MOST_ENTRIES: usize = 400;
/// Directories beside the source, to which links lead and which are mounted in it.
const OUTSIDE: usize = 3;

/// A directory, and what is mounted on it: the directory outside of this number, or a fresh file system.
type Mount = (PathBuf, Option<usize>);

#[derive(Clone)]
pub(super) struct Tree {
    pub(super) folder: PathBuf,
    /// The source as the program gets it. It may be a link.
    pub(super) source: PathBuf,
    layout: Layout,
    pub(super) names: [&'static str; NAMES_PER_STORY],
    /// Makes every content of 8 bytes or more unique.
    version: Arc<AtomicU64>,
    /// Device and inode of each directory that was moved.
    moved: Arc<Mutex<BTreeSet<(u64, u64)>>>,
    mounts: Arc<Mutex<Vec<Mount>>>,
    was_mounted_over: Arc<AtomicBool>,
}

impl Tree {
    /// Takes the empty directory `tree` in `folder` as the source, and creates what surrounds it.
    pub(super) fn new(folder: &Path, layout: Layout, names: [&'static str; NAMES_PER_STORY]) -> Self {
        let source = match layout {
            Layout::Direct => folder.join("tree"),
            Layout::BehindLink => {
                symlink("tree", folder.join("current")).unwrap();
                folder.join("current")
            }
            Layout::BelowAncestor => {
                fs::create_dir(folder.join("live")).unwrap();
                fs::rename(folder.join("tree"), folder.join("live/tree")).unwrap();
                folder.join("live/tree")
            }
        };
        let tree = Self {
            folder: folder.to_owned(),
            source,
            layout,
            names,
            version: Arc::new(AtomicU64::new(1 << 56 | 1)),
            moved: Arc::default(),
            mounts: Arc::default(),
            was_mounted_over: Arc::default(),
        };
        for number in 0..OUTSIDE {
            fs::create_dir_all(tree.outside(number)).unwrap();
            tree.fill_outside(number);
        }
        tree
    }

    pub(super) fn view(&self, mode: Mode) -> View {
        View::of(&self.source, mode)
    }

    pub(super) fn content(&self, size: usize) -> Vec<u8> {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        version.to_le_bytes().into_iter().cycle().take(size).collect()
    }

    fn outside(&self, number: usize) -> PathBuf {
        self.folder.join(format!("outside/{number}"))
    }

    fn fill_outside(&self, number: usize) {
        for name in [1, 2] {
            let _ = fs::write(self.outside(number).join(self.names[name]), self.content(8));
        }
    }

    fn path(&self, names: &[usize]) -> PathBuf {
        names.iter().fold(self.source.clone(), |path, name| path.join(self.names[*name]))
    }

    /// Picks a path in the tree, without following links.
    fn pick(&self, pick: usize, is_wanted: impl Fn(&fs::Metadata) -> bool) -> Option<PathBuf> {
        let mut all = Vec::new();
        collect(&self.source, &mut all);
        all.retain(|path| path.symlink_metadata().is_ok_and(|meta| is_wanted(&meta)));
        all.sort();
        let place = pick.checked_rem(all.len())?;
        Some(all.swap_remove(place))
    }

    pub(super) fn pick_file(&self, pick: usize) -> Option<PathBuf> {
        self.pick(pick, fs::Metadata::is_file)
    }

    /// The keys of some files. A manifest may name what NFS leaves, which no other run copies.
    pub(super) fn pick_keys(&self, picks: &[usize]) -> Vec<String> {
        let picked = picks.iter().filter_map(|pick| self.pick_file(*pick));
        let picked = picked.filter(|path| !path.to_string_lossy().contains("/.nfs"));
        let keys = picked.filter_map(|path| Some(path.strip_prefix(&self.source).unwrap().to_str()?.to_owned()));
        // A manifest may not name a longer path.
        keys.filter(|key| key.len() <= 1024).collect()
    }

    /// Overwrites a file in place with content of the same size.
    pub(super) fn rewrite_in_place(&self, path: &Path) -> Option<()> {
        let file = fs::File::options().write(true).open(path).ok()?;
        let size = usize::try_from(file.metadata().ok()?.len()).ok()?;
        file.write_all_at(&self.content(size), 0).ok()
    }

    /// Makes the edit. Returns `None` if the tree does not allow it.
    #[expect(clippy::too_many_lines, reason = "a line or two for each edit")]
    pub(super) fn edit(&self, edit: &Edit) -> Option<()> {
        let any = |_: &fs::Metadata| true;
        match edit {
            Edit::Write(names, size) => {
                let path = self.path(names);
                fs::create_dir_all(path.parent()?).ok()?;
                fs::write(path, self.content(SIZES[*size])).ok()
            }
            Edit::Rewrite(pick, back) => {
                let path = self.pick_file(*pick)?;
                let meta = path.metadata().ok()?;
                let before = meta.modified().ok()?;
                fs::write(&path, self.content(usize::try_from(meta.len()).ok()?)).ok()?;
                let time = match back {
                    None => return Some(()),
                    Some(true) => before,
                    Some(false) => SystemTime::now() - Duration::from_hours(1),
                };
                fs::File::options().write(true).open(path).ok()?.set_modified(time).ok()
            }
            Edit::Remove(pick) => {
                let path = self.pick(*pick, any)?;
                if path.symlink_metadata().ok()?.is_dir() {
                    fs::remove_dir_all(path).ok()
                } else {
                    fs::remove_file(path).ok()
                }
            }
            Edit::Rename(pick, names) => {
                let (from, to) = (self.pick(*pick, any)?, self.path(names));
                fs::create_dir_all(to.parent()?).ok()?;
                fs::rename(&from, &to).ok()?;
                self.record_move(&to)
            }
            Edit::SwapAlike => {
                let [one, other] = ALIKE.map(|name| self.path(&[name]));
                if one.is_symlink() || other.is_symlink() || !one.is_dir() || !other.is_dir() {
                    return None;
                }
                self.swap(&one, &other)
            }
            Edit::Chmod(pick, tight) => {
                let path = self.pick(*pick, |meta| !meta.is_symlink() && meta.mode().trailing_zeros() < 9)?;
                let mode = if *tight { 0o700 } else { 0o755 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).ok()
            }
            Edit::Link(names, target) => {
                let path = self.path(names);
                let target = self.target(target, &path)?;
                fs::create_dir_all(path.parent()?).ok()?;
                symlink(target, &path).ok()?;
                self.unless_too_many(&path)
            }
            Edit::Turn(pick, target) => {
                let path = self.pick(*pick, fs::Metadata::is_symlink)?;
                let (target, before) = (self.target(target, &path)?, fs::read_link(&path).ok()?);
                turn(&path, &target)?;
                if self.has_too_many() {
                    return turn(&path, &before);
                }
                Some(())
            }
            Edit::HardLink(pick, names) => {
                let (from, to) = (self.pick_file(*pick)?, self.path(names));
                fs::create_dir_all(to.parent()?).ok()?;
                fs::hard_link(from, to).ok()
            }
            Edit::Hide(pick, how) => self.hide(*pick, *how),
            Edit::Lock(pick) => {
                let path = self.pick(*pick, |meta| !meta.is_symlink())?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o0)).ok()
            }
            Edit::Unlock => {
                self.unlock();
                Some(())
            }
            Edit::Leftover(which) => match which % 3 {
                0 => fs::create_dir(self.source.join("lost+found")).ok(),
                1 => fs::write(self.source.join(".nfs000000000000a1b2"), self.content(8)).ok(),
                _ => {
                    let folder = self.source.join("hourly.snapshot");
                    fs::create_dir_all(&folder).ok()?;
                    fs::write(folder.join(self.names[1]), self.content(8)).ok()
                }
            },
            Edit::Empty => {
                let aside = self.folder.join("emptied");
                fs::create_dir(&aside).ok()?;
                self.move_all(&self.source, &aside)
            }
            Edit::Refill => {
                let aside = self.folder.join("emptied");
                self.move_all(&aside, &self.source)?;
                fs::remove_dir(aside).ok()
            }
            Edit::TurnSource => self.turn_source(),
            Edit::Mount(names, number) => {
                let path = self.path(names);
                fs::create_dir_all(path.parent()?).ok()?;
                fs::create_dir(&path).ok()?;
                let path = fs::canonicalize(path).ok()?;
                self.mount(&path, *number)?;
                self.mounts.lock().unwrap().push((path, *number));
                Some(())
            }
            Edit::Unmount(pick) => {
                let mounts = self.mounts.lock().unwrap();
                mount::unmount(&mounts.get(pick.checked_rem(mounts.len())?)?.0)
            }
            Edit::Remount(pick) => {
                let mounts = self.mounts.lock().unwrap();
                let (path, number) = mounts.get(pick.checked_rem(mounts.len())?)?;
                self.mount(path, *number)
            }
            Edit::MountOver(number) => {
                let root = fs::canonicalize(&self.source).ok()?;
                if mount::is_mounted(&root) {
                    return None;
                }
                self.was_mounted_over.store(true, Ordering::Relaxed);
                match number {
                    None => mount::fresh(&root),
                    Some(number) => mount::bind(&self.outside(*number), &root),
                }
            }
            Edit::UnmountOver => mount::unmount(&fs::canonicalize(&self.source).ok()?),
        }
    }

    /// Mounts a directory from outside, or a fresh file system with one file.
    fn mount(&self, path: &Path, number: Option<usize>) -> Option<()> {
        if mount::is_mounted(path) || fs::read_dir(path).ok()?.next().is_some() {
            return None;
        }
        if let Some(number) = number {
            return mount::bind(&self.outside(number), path);
        }
        mount::fresh(path)?;
        fs::write(path.join(self.names[1]), self.content(8)).ok()
    }

    fn target(&self, target: &Target, link: &Path) -> Option<PathBuf> {
        let relative = |path: PathBuf| {
            let depth = link.strip_prefix(&self.source).ok()?.components().count() - 1;
            let up: PathBuf = (0..depth).map(|_| "..").collect();
            Some(up.join(path.strip_prefix(&self.source).ok()?))
        };
        match target {
            Target::Nothing => Some(PathBuf::from("nowhere")),
            Target::Itself => Some(PathBuf::from(link.file_name()?)),
            Target::Outside(number) => Some(self.outside(*number)),
            Target::Inside(pick, absolute) => {
                let path = self.pick(*pick, |_| true)?;
                if *absolute { Some(path) } else { relative(path) }
            }
        }
    }

    /// Moves a path to a name that cannot be a key, or that cannot be read.
    fn hide(&self, pick: usize, how: Unpublishable) -> Option<()> {
        let from = self.pick(pick, |meta| !meta.is_symlink())?;
        let to = match how {
            Unpublishable::NotUtf8 => self.source.join(OsStr::from_bytes(b"not-\xff-utf8")),
            Unpublishable::TooLong => {
                let deep = (0..4).fold(self.source.clone(), |path, _| path.join("x".repeat(250)));
                fs::create_dir_all(&deep).ok()?;
                deep.join("y".repeat(60))
            }
            Unpublishable::Unreadable => self.source.join("unreadable"),
        };
        if to.starts_with(&from) || to.exists() {
            return None;
        }
        fs::rename(&from, &to).ok()?;
        if how == Unpublishable::Unreadable {
            fs::set_permissions(&to, fs::Permissions::from_mode(0o0)).ok()?;
        }
        self.record_move(&to)
    }

    fn swap(&self, one: &Path, other: &Path) -> Option<()> {
        let aside = self.folder.join("aside");
        fs::rename(one, &aside).ok()?;
        fs::rename(other, one).ok()?;
        fs::rename(&aside, other).ok()?;
        self.record_move(one)?;
        self.record_move(other)
    }

    fn unless_too_many(&self, link: &Path) -> Option<()> {
        if self.has_too_many() { fs::remove_file(link).ok() } else { Some(()) }
    }

    fn has_too_many(&self) -> bool {
        let view = self.view(Mode::Plain);
        view.entries.len() + view.directories.len() > MOST_ENTRIES
    }

    /// Makes the other release, with the same names and sizes as the source and other contents, unless the source has no
    /// other place.
    pub(super) fn make_other_release(&self) {
        let Some(other) = self.other_release() else {
            return;
        };
        fs::create_dir_all(&other).unwrap();
        self.copy_alike(&fs::canonicalize(&self.source).unwrap(), &other);
    }

    fn other_release(&self) -> Option<PathBuf> {
        match self.layout {
            Layout::Direct => None,
            Layout::BehindLink => Some(self.folder.join("other")),
            Layout::BelowAncestor => Some(self.folder.join("next/tree")),
        }
    }

    fn copy_alike(&self, from: &Path, to: &Path) {
        for entry in fs::read_dir(from).into_iter().flatten().map(Result::unwrap) {
            let (path, copy) = (entry.path(), to.join(entry.file_name()));
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                fs::create_dir(&copy).unwrap();
                self.copy_alike(&path, &copy);
            } else if meta.is_symlink() {
                symlink(fs::read_link(&path).unwrap(), &copy).unwrap();
            } else {
                fs::write(&copy, self.content(meta.len().try_into().unwrap())).unwrap();
            }
        }
    }

    fn turn_source(&self) -> Option<()> {
        match self.layout {
            Layout::Direct => None,
            _ if !self.other_release()?.exists() => None,
            Layout::BehindLink => {
                let now = fs::read_link(&self.source).ok()?;
                turn(&self.source, Path::new(if now == Path::new("tree") { "other" } else { "tree" }))
            }
            Layout::BelowAncestor => self.swap(&self.folder.join("live"), &self.folder.join("next")),
        }
    }

    fn move_all(&self, from: &Path, to: &Path) -> Option<()> {
        for entry in fs::read_dir(from).ok()?.map(Result::unwrap) {
            let path = to.join(entry.file_name());
            if fs::rename(entry.path(), &path).is_ok() {
                self.record_move(&path);
            }
        }
        Some(())
    }

    fn record_move(&self, path: &Path) -> Option<()> {
        let meta = path.symlink_metadata().ok()?;
        if meta.is_dir() {
            self.moved.lock().unwrap().insert((meta.dev(), meta.ino()));
        }
        Some(())
    }

    pub(super) fn has_moved(&self) -> bool {
        !self.moved.lock().unwrap().is_empty()
    }

    /// Renews what shows a move or a mount. Without a state, or after a kill, a run misses a moved directory if an entry was
    /// created in it since, and another file system of the same names, sizes and older times.
    pub(super) fn renew_moved(&self) {
        let mut all = Vec::new();
        collect(&self.source, &mut all);
        let moved = self.moved.lock().unwrap();
        for path in all {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() && moved.contains(&(meta.dev(), meta.ino())) {
                fs::set_permissions(path, meta.permissions()).unwrap();
            }
        }
        drop(moved);
        self.renew_mounted(|meta| !meta.is_symlink());
    }

    /// Renews the ctime of this file or directory, if it has one.
    pub(super) fn renew(&self, key: &str) {
        let path = self.source.join(key);
        if let Ok(meta) = path.symlink_metadata()
            && !meta.is_symlink()
        {
            fs::set_permissions(path, meta.permissions()).unwrap();
        }
    }

    /// Renews what shows a mount, in directories or files of the kind that the caller wants.
    pub(super) fn renew_mounted(&self, is_wanted: impl Fn(&fs::Metadata) -> bool) {
        let over = self.was_mounted_over.load(Ordering::Relaxed).then(|| fs::canonicalize(&self.source).unwrap());
        for path in self.mounts.lock().unwrap().iter().map(|(path, _)| path).chain(&over) {
            let mut all = vec![path.clone()];
            collect(path, &mut all);
            for path in all {
                if let Ok(meta) = path.symlink_metadata()
                    && is_wanted(&meta)
                {
                    fs::set_permissions(path, meta.permissions()).unwrap();
                }
            }
        }
    }

    fn unlock(&self) {
        // A directory shows its entries only once it is unlocked.
        for _ in 0..5 {
            let mut all = Vec::new();
            collect(&self.source, &mut all);
            for path in all {
                let meta = path.symlink_metadata().unwrap();
                if !meta.is_symlink() && meta.mode().trailing_zeros() >= 9 {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
                }
            }
        }
    }

    /// Removes everything that keeps a run from publishing the whole source.
    pub(super) fn repair(&self, mode: Mode) {
        self.edit(&Edit::UnmountOver);
        self.unlock();
        self.edit(&Edit::Refill);
        // What came back may be locked too.
        self.unlock();
        let root = fs::canonicalize(&self.source).unwrap();
        for path in super::view::mount_points(&root).into_iter().map(|key| root.join(key)) {
            // It was moved with a directory above it, or lies in a directory that is removed below.
            if cannot_be_key(&path) || !self.mounts.lock().unwrap().iter().any(|(mount, _)| *mount == path) {
                mount::unmount(&path);
            }
        }
        for (path, number) in self.mounts.lock().unwrap().iter() {
            // What was written into the empty directory would be hidden.
            if !cannot_be_key(path) && !mount::is_mounted(path) && path.is_dir() {
                let _ = fs::remove_dir_all(path).and_then(|()| fs::create_dir(path));
                self.mount(path, *number);
            }
        }
        self.unlock();
        // Links lead there.
        let outside = self.folder.join("outside");
        Self { source: outside.clone(), ..self.clone() }.unlock();
        let mut all = Vec::new();
        collect(&self.source, &mut all);
        collect(&outside, &mut all);
        for path in all.iter().rev().filter(|path| cannot_be_key(path)) {
            let is_directory = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            let _ = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        for _ in 0..5 {
            for key in self.view(mode).broken {
                let _ = fs::remove_file(self.source.join(key));
            }
        }
        let _ = fs::write(self.source.join("last"), self.content(8));
    }

    /// Unmounts everything, so that the folder can be removed.
    pub(super) fn dismantle(&self) {
        let folder = fs::canonicalize(&self.folder).unwrap();
        for key in super::view::mount_points(&folder) {
            mount::unmount(&folder.join(key));
        }
        self.unlock();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().map(Result::unwrap) {
            Self { source: entry.path(), ..self.clone() }.unlock();
        }
    }
}

/// Whether no object can have the key of this path.
fn cannot_be_key(path: &Path) -> bool {
    path.to_str().is_none() || path.as_os_str().len() > 1000
}

/// Replaces a link in one step.
fn turn(link: &Path, target: &Path) -> Option<()> {
    let new = link.with_file_name("turning");
    symlink(target, &new).ok()?;
    fs::rename(new, link).ok()
}

/// Everything below a directory, without following links.
fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        all.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), all);
        }
    }
}
