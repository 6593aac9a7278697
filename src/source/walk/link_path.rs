//! The link path: every step of resolving a followed link.
//!
//! An untouched link leads to other files if another link on its path is changed, or if a directory on its path is
//! moved into place. No time of the files or of the link itself shows this. So the walk resolves the link step by step,
//! with one `readlink` for each link and one `statx` for each step. The last `statx` is that of the target.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::directory::moved_at;
use crate::source::entry::{EntryKind, Stat};
use crate::source::operations::{LastLink, Operations};
use crate::time::EpochNanos;

/// The limit of Linux (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Returns the stat of what the link at `path` leads to, and the latest time at which a part of its link path was put in
/// its place.
pub(super) fn follow(
    operations: &Operations,
    base: BorrowedFd<'_>,
    path: &[u8],
    link: &Stat,
) -> Result<(Stat, EpochNanos), Errno> {
    let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let mut place = path.get(..name_at).unwrap_or_default().to_vec();
    let mut here = path.to_vec();
    let (mut stat, mut latest) = (*link, link.ctime);
    // The steps ahead, the next one last.
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    loop {
        if stat.kind == EntryKind::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            latest = latest.max(stat.ctime);
            let target = operations.readlink(base, &here)?;
            ahead.extend(target.rsplit(|&byte| byte == b'/').filter(|step| !step.is_empty()).map(<[u8]>::to_vec));
            if target.starts_with(b"/") {
                place.clear();
                ahead.push(b"/".to_vec());
            }
        } else if stat.kind == EntryKind::Directory {
            latest = moved_at(&stat).map_or(latest, |moved| latest.max(moved));
            place = here;
            place.push(b'/');
        } else if !ahead.is_empty() {
            return Err(Errno::NOTDIR);
        }
        let Some(step) = ahead.pop() else {
            return Ok((stat, latest));
        };
        here = [place.as_slice(), step.as_slice()].concat();
        stat = operations.stat(base, &here, LastLink::Keep)?;
    }
}
