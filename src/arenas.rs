//! The arenas of the allocator (glibc): how much of a limit on the address space (`ulimit -v`) they may take.
//!
//! Each thread soon has an arena of its own, up to eight for each processor, and each reserves [`ARENA_BYTES`]. Together
//! they can reserve all that the limit allows. The next allocation that fits into none of them then aborts the program.
//! Only a variable that is there at the start of a process limits their number without unsafe code.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// The address space of an arena.
const ARENA_BYTES: u64 = 64 << 20;
/// The arenas reserve at most this part of the limit, but there is always one.
const SHARE_OF_ADDRESSES: u64 = 4;

/// Starts this program again in the same process if its address space is limited and the number of arenas is not. If
/// that fails, the program continues.
pub fn limit() {
    let Some(limit) = getrlimit(Resource::As).current else { return };
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let _ = again.args(arguments).env(VARIABLE, affordable_in(limit).to_string()).exec();
}

fn affordable_in(limit_bytes: u64) -> u64 {
    (limit_bytes / SHARE_OF_ADDRESSES / ARENA_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_leave_most_of_the_address_space() {
        assert_eq!(affordable_in(100_000 << 10), 1);
        assert_eq!(affordable_in(400_000 << 10), 1);
        assert_eq!(affordable_in(4 << 30), 16);
    }
}
