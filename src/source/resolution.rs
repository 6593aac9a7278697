//! A resolution: every step from a path to what it leads to, with one `statx` for each step and one `readlink` for each
//! link.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::entry::{EntryKind, Stat};
use super::operations::{LastLink, Operations};

/// The limit of Linux (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// One step of a resolution.
#[derive(Debug)]
pub(super) struct Step {
    /// The directory of the step: empty, or ending in `/`.
    pub(super) place: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
}

/// Resolves `rest` from the first step on, passes each link and directory to `each`, with its name, and returns the stat
/// of the target. `links` counts the links on the whole path.
///
/// # Errors
/// `LOOP` if a link leads back to itself, `MLINK` if there are more links than the system follows.
pub(super) fn resolve(
    operations: &Operations,
    base: BorrowedFd<'_>,
    first: Step,
    rest: &[u8],
    links: &mut usize,
    mut each: impl FnMut(&Stat, &[u8]),
) -> Result<Stat, Errno> {
    let Step { mut place, path: mut here, mut stat } = first;
    // The steps ahead, the next one last.
    let mut ahead: Vec<Vec<u8>> = steps(rest).collect();
    let mut name = Vec::new();
    // The links whose own steps are not all done, and how many steps were ahead of each.
    let mut resolving: Vec<((u64, u64), usize)> = Vec::new();
    let mut is_loop = false;
    loop {
        if stat.kind == EntryKind::Symlink {
            *links += 1;
            is_loop |= resolving.iter().any(|(inode, _)| *inode == stat.inode);
            if *links > MAX_LINKS {
                return Err(if is_loop { Errno::LOOP } else { Errno::MLINK });
            }
            resolving.push((stat.inode, ahead.len()));
            each(&stat, &name);
            let target = operations.readlink(base, &here)?;
            ahead.extend(steps(&target));
            if target.starts_with(b"/") {
                place.clear();
                ahead.push(b"/".to_vec());
            }
        } else if stat.kind == EntryKind::Directory {
            each(&stat, &name);
            place = here;
            place.push(b'/');
        } else if !ahead.is_empty() {
            return Err(Errno::NOTDIR);
        }
        let Some(step) = ahead.pop() else {
            return Ok(stat);
        };
        resolving.retain(|(_, steps)| ahead.len() >= *steps);
        here = [place.as_slice(), step.as_slice()].concat();
        name = step;
        stat = operations.stat(base, &here, LastLink::Keep)?;
    }
}

/// The parts of a path, the first one last.
fn steps(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.rsplit(|&byte| byte == b'/').filter(|step| !step.is_empty()).map(<[u8]>::to_vec)
}
