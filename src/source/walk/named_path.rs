//! A named path: one path of a manifest or plan, statted as the walk would stat it.

use rustix::io::Errno;

use super::link_path;
use super::options::{Links, WalkOptions};
use crate::filter::reserved::is_reserved;
use crate::source::entry::{EntryKind, FileEntry, Found, Problem, SkipReason};
use crate::source::operations::{LastLink, Operations};
use crate::source::root::Root;

/// Returns what the walk would find at this path, relative to the root.
pub(in crate::source) fn stat(root: &Root, operations: &Operations, options: &WalkOptions, path: &str) -> Found {
    if !options.filter.admits(path) {
        return Found::Filtered(EntryKind::File);
    }
    if options.skip_reserved && is_reserved(path) {
        return Found::Skipped(EntryKind::File, SkipReason::ReservedPath);
    }
    if path.len() > options.max_key_bytes {
        return Found::Failed(EntryKind::File, Problem::key_too_long(path.len(), options.max_key_bytes));
    }
    stat_each_part(root, operations, options.links, path).unwrap_or_else(|errno| {
        let problem = match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Problem::named_and_missing(),
            _ => Problem::of("stat", errno),
        };
        Found::Failed(EntryKind::File, problem)
    })
}

/// A path that ends in `/` names a directory.
fn stat_each_part(root: &Root, operations: &Operations, links: Links, path: &str) -> Result<Found, Errno> {
    let (path, wants_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
    let of_root = operations.stat(root.fd(), b".", LastLink::Keep)?.moved_at();
    let mut inherited = root.inherited_ctime().max(of_root);
    let mut through_link = false;
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        let here = path.get(..end).unwrap_or(path).as_bytes();
        let is_last = end == path.len();
        let mut stat = operations.stat(root.fd(), here, LastLink::Keep)?;
        if stat.kind == EntryKind::Symlink {
            match links {
                Links::Skip => return Ok(Found::Skipped(EntryKind::Symlink, SkipReason::LinkNotFollowed)),
                Links::Keep if is_last && !wants_directory => {
                    return Ok(Found::Symlink(FileEntry::new(stat, inherited, through_link)));
                }
                // If links are copied as links, nothing exists behind one.
                Links::Keep => return Err(Errno::NOTDIR),
                Links::Follow => {
                    let (target, link_path_ctime) = link_path::follow(operations, root.fd(), here, &stat)?;
                    (stat, inherited, through_link) = (target, inherited.max(Some(link_path_ctime)), true);
                }
            }
        }
        match stat.kind {
            EntryKind::Directory if is_last && wants_directory => {
                return Ok(Found::Directory(FileEntry::new(stat, inherited, through_link)));
            }
            EntryKind::Directory if is_last => {
                return Ok(Found::Failed(EntryKind::Directory, Problem::named_and_directory()));
            }
            EntryKind::Directory => inherited = inherited.max(stat.moved_at()),
            _ if !is_last || wants_directory => return Err(Errno::NOTDIR),
            EntryKind::File => return Ok(Found::File(FileEntry::new(stat, inherited, through_link))),
            EntryKind::Symlink | EntryKind::Special => return Ok(Found::Special),
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::filter::Filter;

    fn found(folder: &std::path::Path, links: Links, path: &str) -> Found {
        let options = WalkOptions {
            walkers: 1,
            look_ahead_entries: 1,
            batch_entries: 1,
            source_timeout: Duration::from_mins(1),
            warn_after: Duration::from_mins(1),
            links,
            max_key_bytes: 20,
            filter: Arc::new(Filter::new(None, Some("*.tmp")).unwrap()),
            skip_reserved: true,
            tree_range: Arc::default(),
            names_only: false,
        };
        stat(&Root::open(folder).unwrap(), &Operations::default(), &options, path)
    }

    #[test]
    fn a_named_path_is_what_the_walk_would_find_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("d/e/f"), "x").unwrap();
        std::fs::write(at("x.tmp"), "x").unwrap();
        symlink("d", at("link")).unwrap();
        symlink("d/e/f", at("to-f")).unwrap();
        for links in [Links::Follow, Links::Keep, Links::Skip] {
            let found = |path| found(folder.path(), links, path);
            assert!(matches!(found("d/e/f"), Found::File(file) if !file.through_link && file.stat.size_bytes == 1));
            assert!(matches!(found("d/e"), Found::Failed(EntryKind::Directory, _)));
            assert!(matches!(found("d/none"), Found::Failed(EntryKind::File, problem) if problem.kind == "not_found"));
            assert!(matches!(found("d/e/f/g"), Found::Failed(EntryKind::File, problem) if problem.kind == "not_found"));
            assert_eq!(found("x.tmp"), Found::Filtered(EntryKind::File));
            assert_eq!(found("a/.zfs"), Found::Skipped(EntryKind::File, SkipReason::ReservedPath));
            assert!(matches!(found("d/a-name-that-is-too-long"), Found::Failed(EntryKind::File, _)));
        }
        let followed = |path| found(folder.path(), Links::Follow, path);
        assert!(matches!(followed("link/e/f"), Found::File(file) if file.through_link));
        assert!(matches!(followed("to-f"), Found::File(file) if file.through_link && file.stat.size_bytes == 1));
        let kept = |path| found(folder.path(), Links::Keep, path);
        assert!(matches!(kept("to-f"), Found::Symlink(link) if link.stat.size_bytes == 5));
        assert!(matches!(kept("link/e/f"), Found::Failed(..)));
    }
}
