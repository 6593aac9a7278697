//! The link path: every step of resolving a followed link.
//!
//! An untouched link leads to other files if another link on its path is changed, or if a directory on its path is
//! moved into place. No time of the files or of the link itself shows this. So the walk resolves the link step by step,
//! with one `readlink` for each link and one `statx` for each step. The last `statx` is that of the target.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::object::md5_of;
use crate::source::entry::{EntryKind, Stat, Unknown};
use crate::source::mount_points::{LastPart, mounts_between};
use crate::source::operations::Operations;
use crate::source::resolution::{Step, resolve};
use crate::time::EpochNanos;

/// What a followed link leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) struct Target {
    pub(in crate::source) stat: Stat,
    /// The latest time at which a part of the link path was put in its place.
    pub(in crate::source) link_path_ctime: EpochNanos,
    /// How many links the whole path has, with those before this link.
    pub(in crate::source) links: usize,
    /// How many mounts the link path goes down into.
    mounts: u32,
    /// The MD5 of the link's own text, if the text is as long as the file that the link leads to.
    pub(in crate::source) link_text_md5: Option<[u8; 16]>,
}

impl Target {
    /// What the last part of the link's path is: of a link to a file, no mount counts.
    pub(in crate::source) fn last_part(&self) -> LastPart {
        LastPart::Followed(if self.stat.kind == EntryKind::Directory { self.mounts } else { 0 })
    }
}

/// Follows the link at `path`, in a directory on this device, with as many links on the path before it as `links_before`.
pub(in crate::source) fn follow(
    operations: &Operations,
    base: BorrowedFd<'_>,
    path: &[u8],
    link: &Stat,
    mut device: u64,
    links_before: usize,
) -> Result<Result<Target, Unknown>, Errno> {
    let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let place = path.get(..name_at).unwrap_or_default().to_vec();
    let first = Step { place, path: path.to_vec(), stat: *link };
    let (mut link_path_ctime, mut links, mut mounts) = (link.ctime, links_before, 0);
    let resolved = resolve(operations, base, first, b"", &mut links, |stat, name| {
        let in_place = if stat.kind == EntryKind::Symlink { Some(stat.ctime) } else { stat.moved_at() };
        link_path_ctime = in_place.map_or(link_path_ctime, |in_place| link_path_ctime.max(in_place));
        if stat.kind == EntryKind::Directory {
            // These names lead up, or nowhere.
            let is_down = !matches!(name, b"/" | b"." | b"..");
            mounts += if is_down { mounts_between(device, stat) } else { 0 };
            device = stat.inode.0;
        }
    });
    match resolved {
        Ok(stat) => {
            // Few links are: only these cost another `readlink`.
            let is_as_long = stat.kind == EntryKind::File && stat.size_bytes == link.size_bytes;
            let text = is_as_long.then(|| operations.readlink(base, path)).and_then(Result::ok);
            let link_text_md5 = text.map(|text| md5_of(&text));
            Ok(Ok(Target { stat, link_path_ctime, links, mounts, link_text_md5 }))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Err(Unknown::BrokenLink)),
        Err(Errno::MLINK) => Ok(Err(Unknown::TooManyLinks)),
        Err(errno) => Err(errno),
    }
}
