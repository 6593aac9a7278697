//! The root path: every step from `/` to the source directory, links resolved.
//!
//! If a link on it leads elsewhere now, or another directory was moved into its place, the source has other files, and no
//! time below the source shows this. So what is below inherits the time (`DESIGN.md#the-path-of-the-source`).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::entry::{EntryKind, Stat};
use super::operations::{LastLink, Operations};
use super::resolution::{Step, resolve};
use crate::time::EpochNanos;

/// Where a path leads, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct RootPath {
    /// The directory at its end.
    pub(super) target: Stat,
    /// The latest time at which a link, or a directory of the same file system, was put in its place.
    pub(super) latest: Option<EpochNanos>,
}

impl RootPath {
    /// Resolves `path` step by step. The report does not count these calls: they are the same few in each run.
    pub(super) fn resolve(path: &Path) -> Result<Self, Errno> {
        let operations = Operations::default();
        let path = std::path::absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOENT))?;
        let root = operations.stat(CWD, b"/", LastLink::Keep)?;
        let first = Step { place: Vec::new(), path: b"/".to_vec(), stat: root };
        let (mut links, mut directories) = (None, Vec::new());
        let target = resolve(&operations, CWD, first, path.as_os_str().as_bytes(), &mut 0, |stat, _| {
            if stat.kind == EntryKind::Symlink {
                links = links.max(Some(stat.ctime));
            } else {
                directories.push(*stat);
            }
        })?;
        let on_same_device = directories.iter().filter(|directory| directory.inode.0 == target.inode.0);
        Ok(Self { target, latest: on_same_device.filter_map(Stat::moved_at).max().max(links) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use super::*;

    fn latest(path: &Path) -> EpochNanos {
        RootPath::resolve(path).unwrap().latest.unwrap_or(EpochNanos(0))
    }

    /// A time after everything that was done so far, and before everything that is done later.
    fn now() -> EpochNanos {
        std::thread::sleep(Duration::from_millis(20));
        let now = EpochNanos::now();
        std::thread::sleep(Duration::from_millis(20));
        now
    }

    #[test]
    fn each_link_of_the_path_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("releases/41/public")).unwrap();
        for (link, target) in [
            ("last", "releases/41/public"),
            ("in-the-middle", "releases/41"),
            ("to-a-link", "in-the-middle"),
            ("parent", "releases/41/../41"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        symlink(at("to-a-link"), at("absolute")).unwrap();
        let paths = ["last", "in-the-middle/public", "to-a-link/public", "absolute/public/", "parent/./public"];
        let before = now();
        for path in paths {
            let target = RootPath::resolve(&at(path)).unwrap().target;
            assert_eq!(target.inode.1, std::os::unix::fs::MetadataExt::ino(&fs::metadata(at(path)).unwrap()), "{path}");
            assert!(latest(&at(path)) < before, "{path}");
        }
        for (turned, target, concerned) in [
            ("last", "releases/41/public", &["last"][..]),
            ("in-the-middle", "releases/41", &["in-the-middle/public", "to-a-link/public", "absolute/public/"]),
            ("parent", "releases/41", &["parent/./public"]),
        ] {
            let before = now();
            fs::remove_file(at(turned)).unwrap();
            symlink(target, at(turned)).unwrap();
            for path in paths {
                assert_eq!(latest(&at(path)) > before, concerned.contains(&path), "{path} when {turned} was turned");
            }
        }
    }

    #[test]
    fn each_directory_that_was_moved_or_changed_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("new/site/public")).unwrap();
        fs::create_dir_all(at("beside")).unwrap();
        let before = now();
        fs::rename(at("new"), at("live")).unwrap();
        assert!(latest(&at("live/site/public")) > before);
        assert!(latest(&at("beside")) < before);
        let before = now();
        fs::set_permissions(at("live/site"), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(latest(&at("beside/../live/site/public")) > before);
        // A change of its content says nothing about its place.
        let before = now();
        fs::write(at("live/site/file"), "x").unwrap();
        assert!(latest(&at("live/site/public")) < before);
    }

    #[test]
    fn directories_of_other_file_systems_do_not_count() {
        // A container creates the mount point of /proc when it starts, and so the directory that the mount covers.
        let resolved = RootPath::resolve(Path::new("/proc/sys")).unwrap();
        let root = RootPath::resolve(Path::new("/")).unwrap();
        assert_ne!(resolved.target.inode.0, root.target.inode.0);
        let of_proc = ["/proc", "/proc/sys"].map(|path| RootPath::resolve(Path::new(path)).unwrap().target);
        assert_eq!(resolved.latest, of_proc.iter().filter_map(Stat::moved_at).max());
    }

    #[test]
    fn a_path_that_does_not_resolve_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        assert_eq!(RootPath::resolve(&folder.path().join("loop")).unwrap_err(), Errno::LOOP);
        assert_eq!(RootPath::resolve(&folder.path().join("none/x")).unwrap_err(), Errno::NOENT);
    }
}
