//! A named path: one path of a manifest or plan, statted as the walk would stat it.

use rustix::io::Errno;

use super::link_path;
use super::options::{Links, WalkOptions};
use crate::filter::reserved::is_reserved;
use crate::key::SourcePath;
use crate::source::entry::{EntryKind, FileEntry, Found, Problem, SkipReason, Stat, Unknown};
use crate::source::mount_points::{DescendedPath, LastPart};
use crate::source::operations::{LastLink, Operations};
use crate::source::root::Root;

/// Returns what the walk would find at this path, relative to the root.
pub(in crate::source) fn stat(root: &Root, operations: &Operations, options: &WalkOptions, path: &SourcePath) -> Found {
    let path = path.as_str();
    if !options.filter.admits(path) {
        return Found::Filtered(EntryKind::File);
    }
    if options.skip_reserved && is_reserved(path) {
        return Found::Skipped(EntryKind::File, SkipReason::ReservedPath);
    }
    if path.len() > options.max_key_bytes {
        return Found::Failed(EntryKind::File, Problem::key_too_long(path.len(), options.max_key_bytes));
    }
    let (bare, wants_directory) = path.strip_suffix('/').map_or((path, false), |bare| (bare, true));
    let stat = |path: &[u8]| operations.stat(root.fd(), path, LastLink::Keep);
    match descend(root, operations, options, bare, stat) {
        Ok(Found::Directory(_)) if !wants_directory => {
            Found::Failed(EntryKind::Directory, Problem::named_and_directory())
        }
        Ok(Found::File(_) | Found::Symlink(_) | Found::Special) if wants_directory => missing(),
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => missing(),
        Err(errno) => Found::Failed(EntryKind::File, Problem::of("stat", errno)),
    }
}

fn missing() -> Found {
    Found::Failed(EntryKind::File, Problem::named_and_missing())
}

/// Stats each part of the path, down to the first that covers what is below it.
pub(in crate::source) fn descend(
    root: &Root,
    operations: &Operations,
    options: &WalkOptions,
    path: &str,
    stat: impl Fn(&[u8]) -> Result<Stat, Errno>,
) -> Result<Found, Errno> {
    let mut directory = stat(b".")?;
    let mut inherited = root.inherited_ctime().max(directory.moved_at());
    let mut above = vec![directory.inode];
    let (mut links, mut first_link) = (0, None);
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        let here = path.get(..end).unwrap_or(path);
        let is_last = end == path.len();
        let mut stat = stat(here.as_bytes())?;
        let (mut last, mut link_text_md5) = (LastPart::of(directory.inode.0, &stat), None);
        let is_link = stat.kind == EntryKind::Symlink;
        if is_link && options.links == Links::Skip {
            return Ok(Found::Skipped(EntryKind::Symlink, SkipReason::LinkNotFollowed));
        }
        if is_link && options.links == Links::Follow {
            match link_path::follow(operations, root.fd(), here.as_bytes(), &stat, directory.inode.0, links)? {
                Ok(target) if above.contains(&target.stat.inode) => {
                    return Ok(Found::Unknown(EntryKind::Symlink, Unknown::LinkLoop));
                }
                Ok(target) => {
                    last = target.last_part();
                    (stat, links) = (target.stat, target.links);
                    first_link = first_link.or(Some(end));
                    inherited = inherited.max(Some(target.link_path_ctime));
                    link_text_md5 = target.link_text_md5;
                }
                Err(unknown) => return Ok(Found::Unknown(EntryKind::Symlink, unknown)),
            }
        }
        let through_link = links > 0;
        if options.mount_points.is_missing(here, DescendedPath::new(last, first_link)) {
            return Ok(Found::Unknown(stat.kind, Unknown::MissingMount { hides_files: true }));
        }
        if stat.kind == EntryKind::Directory {
            inherited = inherited.max(stat.moved_at());
            above.push(stat.inode);
            directory = stat;
        } else if !is_last {
            // If links are copied as links, nothing exists behind one.
            return Err(Errno::NOTDIR);
        }
        if is_last {
            let entry = FileEntry { link_text_md5, ..FileEntry::new(stat, inherited, through_link) };
            return Ok(match stat.kind {
                EntryKind::Directory => Found::Directory(entry),
                EntryKind::File => Found::File(entry),
                EntryKind::Symlink if is_link && options.links == Links::Keep => Found::Symlink(entry),
                EntryKind::Symlink | EntryKind::Special => Found::Special,
            });
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::filter::Filter;

    fn found(folder: &std::path::Path, links: Links, path: &str) -> Found {
        let filter = Arc::new(Filter::new(None, Some("*.tmp")).unwrap());
        let options = WalkOptions { links, max_key_bytes: 20, filter, ..WalkOptions::for_tests() };
        stat(&Root::open(folder).unwrap(), &Operations::default(), &options, &path.parse().unwrap())
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
