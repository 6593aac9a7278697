//! The boundary of a directory tree: whether a path leads into it, directly or through links, `..` and bind mounts.
//!
//! A bind mount shows a directory of the tree at another path, and no directory above that path is one of the tree. So two
//! paths are compared by where they are inside their file system, as the mount table shows it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::mount_table::{Mount, MountTable};

/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;
/// How long the file system of the root may take to respond.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The tree below a directory, and what is mounted inside it.
#[derive(Debug)]
pub(crate) struct Boundary {
    root: PathBuf,
    /// The device and inode of the root, if it exists.
    identity: Option<(u64, u64)>,
    table: MountTable,
    regions: Vec<Position>,
}

/// A directory of a file system, whatever it is mounted on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    file_system: String,
    path: PathBuf,
}

impl Boundary {
    /// The boundary of the tree below `root`, which need not exist. If its file system does not respond, only paths that
    /// start with `root` are inside.
    pub(crate) fn of(root: &Path) -> Self {
        let (sender, receiver) = mpsc::channel();
        let path = root.to_owned();
        // The call can hang forever, and with it its thread.
        thread::spawn(move || sender.send(Self::in_table(&path, MountTable::read())));
        receiver.recv_timeout(TIMEOUT).unwrap_or_else(|_| Self {
            root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
            identity: None,
            table: MountTable::default(),
            regions: Vec::new(),
        })
    }

    fn in_table(root: &Path, table: MountTable) -> Self {
        let root = resolved(root);
        let inside = table.mounts().iter().filter(|mount| mount.point.starts_with(&root) && mount.point != root);
        let inside = inside.flat_map(|mount| positions(mount, Path::new("")));
        let regions = inside.chain(positions_of(&table, &root)).collect();
        Self { identity: identity(&root), root, table, regions }
    }

    /// Whether the tree contains this path, or would if the path existed.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let path = resolved(path);
        path.starts_with(&self.root)
            || path.ancestors().any(|above| self.identity.is_some() && identity(above) == self.identity)
            || positions_of(&self.table, &path)
                .any(|position| self.regions.iter().any(|region| region.contains(&position)))
    }
}

impl Position {
    fn contains(&self, other: &Self) -> bool {
        self.file_system == other.file_system && other.path.starts_with(&self.path)
    }
}

/// Returns where a path without links is inside its file system.
fn positions_of<'a>(table: &'a MountTable, path: &'a Path) -> impl Iterator<Item = Position> + 'a {
    table.mount_of(path).into_iter().flat_map(|mount| {
        let below = path.strip_prefix(&mount.point).unwrap_or(Path::new(""));
        positions(mount, below)
    })
}

/// Returns where a path below a mount is inside its file system: by the number of the file system, and by its server, of
/// which two mounts may be two file systems to the kernel.
fn positions(mount: &Mount, below: &Path) -> Vec<Position> {
    let inside = Path::new("/").join(mount.root.trim_start_matches('/')).join(below);
    let mut positions = vec![Position { file_system: mount.number.clone(), path: inside.clone() }];
    // The server of a mount through TLS is this machine, whatever it leads to.
    if let Some((server, exported)) = mount.device.split_once(":/")
        && mount.kind.starts_with("nfs")
        && server != "127.0.0.1"
        && server != "localhost"
    {
        let path = Path::new("/").join(exported).join(inside.strip_prefix("/").unwrap_or(&inside));
        positions.push(Position { file_system: server.to_owned(), path });
    }
    positions
}

/// Returns the device and inode of a directory.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|stat| (stat.dev(), stat.ino()))
}

/// Returns the path with its links and `..` resolved. The rest of a path that does not exist stays as it is.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    follow(&path, &mut { MOST_LINKS })
}

fn follow(path: &Path, links_left: &mut usize) -> PathBuf {
    let mut seen = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::RootDir | Component::Prefix(_) | Component::CurDir => {}
            Component::ParentDir => drop(seen.pop()),
            Component::Normal(name) => {
                seen.push(name);
                if *links_left > 0
                    && let Ok(target) = fs::read_link(&seen)
                {
                    *links_left -= 1;
                    seen.pop();
                    seen = follow(&seen.join(target), links_left);
                }
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_resolved_also_if_it_does_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("tree/d")).unwrap();
        symlink("tree/d", top.join("link")).unwrap();
        symlink(top.join("tree/new"), top.join("dangling")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        for (path, expected) in [
            ("tree/d/../x", "tree/x"),
            ("link/x", "tree/d/x"),
            ("link/../x", "tree/x"),
            ("none/../link/x/y", "tree/d/x/y"),
            ("dangling", "tree/new"),
            ("dangling/x", "tree/new/x"),
            ("./tree//d/.", "tree/d"),
        ] {
            assert_eq!(resolved(&top.join(path)), top.join(expected), "{path}");
        }
        resolved(&top.join("loop/x"));
    }

    #[test]
    fn paths_into_a_tree_are_inside() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("tree/d")).unwrap();
        symlink("tree/d", top.join("link")).unwrap();
        symlink("tree", top.join("source")).unwrap();
        for source in ["tree", "source", "tree/d/..", "link/.."] {
            let boundary = Boundary::of(&top.join(source));
            for path in ["tree", "tree/report", "tree/new/report", "link/report", "none/../tree/x", "source/d/x"] {
                assert!(boundary.contains(&top.join(path)), "{source}: {path}");
            }
            for path in ["report", "tree-2/report", "tree/../report", "none/report"] {
                assert!(!boundary.contains(&top.join(path)), "{source}: {path}");
            }
        }
    }

    const TABLE: &str = "\
22 1 259:1 / / rw - ext4 /dev/root rw
30 22 259:1 /srv/site/img /exports/img rw - ext4 /dev/root rw
31 22 259:2 / /srv/site/disk rw - xfs /dev/sdb rw
32 22 259:2 /deep /media/deep rw - xfs /dev/sdb rw
40 22 0:44 / /mnt/efs rw - nfs4 fs-0123.efs.us-east-1.amazonaws.com:/ rw
41 22 0:45 / /mnt/reports rw - nfs4 fs-0123.efs.us-east-1.amazonaws.com:/site/reports rw
42 22 0:46 / /mnt/tls rw - nfs4 127.0.0.1:/ rw
43 22 0:47 / /mnt/other-tls rw - nfs4 127.0.0.1:/site rw
";

    #[test]
    fn bind_mounts_and_mounts_of_the_same_export_are_inside() {
        let contains = |root: &str, path: &str| {
            let table = MountTable::parse(TABLE);
            Boundary::in_table(Path::new(root), table).contains(Path::new(path))
        };
        assert!(contains("/srv/site", "/exports/img/report"), "a directory of the source, mounted elsewhere");
        assert!(!contains("/srv/site/css", "/exports/img/report"));
        assert!(!contains("/exports/img", "/srv/site/report") && contains("/exports/img", "/srv/site/img/report"));
        assert!(contains("/srv/site", "/media/deep/x"), "of a file system that is mounted inside the source");
        assert!(contains("/mnt/efs/site", "/mnt/reports/x") && !contains("/mnt/efs/site/www", "/mnt/reports/x"));
        assert!(!contains("/mnt/tls", "/mnt/other-tls/x"), "two mounts through TLS may be two file systems");
        assert!(!contains("/srv/site", "/srv/site-2/x") && !contains("/mnt/efs", "/srv/x"));
    }
}
