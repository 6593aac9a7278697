//! The link path: every step of resolving a followed link.
//!
//! An untouched link leads to other files if another link on its path is changed, or if a directory on its path is
//! moved into place. No time of the files or of the link itself shows this. So the walk resolves the link step by step,
//! with one `readlink` for each link and one `statx` for each step. The last `statx` is that of the target.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::source::entry::{EntryKind, Stat};
use crate::source::operations::Operations;
use crate::source::resolution::{Step, resolve};
use crate::time::EpochNanos;

/// Returns the stat of what the link at `path` leads to, and the latest time at which a part of its link path was put in
/// its place.
pub(super) fn follow(
    operations: &Operations,
    base: BorrowedFd<'_>,
    path: &[u8],
    link: &Stat,
) -> Result<(Stat, EpochNanos), Errno> {
    let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let place = path.get(..name_at).unwrap_or_default().to_vec();
    let first = Step { place, path: path.to_vec(), stat: *link };
    let mut latest = link.ctime;
    let target = resolve(operations, base, first, b"", |stat| {
        let in_place = if stat.kind == EntryKind::Symlink { Some(stat.ctime) } else { stat.moved_at() };
        latest = in_place.map_or(latest, |in_place| latest.max(in_place));
    })?;
    Ok((target, latest))
}
