//! The memory that the container may use, or that the machine has, and the address space of the process.

use rustix::process::{Resource, getrlimit};

const LEAST_BYTES: u64 = 64 << 20;
const MOST_BYTES: u64 = 1 << 30;

/// Returns the default of `--memory`: a quarter of the memory, within bounds.
pub(super) fn default_budget_bytes() -> u64 {
    let limits = [cgroup_v2(), cgroup_v1(), machine(), getrlimit(Resource::As).current];
    let available = limits.into_iter().flatten().min().unwrap_or(MOST_BYTES);
    (available / 4).clamp(LEAST_BYTES, MOST_BYTES)
}

fn cgroup_v2() -> Option<u64> {
    read_number("/sys/fs/cgroup/memory.max")
}

fn cgroup_v1() -> Option<u64> {
    read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes")
}

/// Returns `None` for `max`, which means no limit.
fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn machine() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_lies_within_its_bounds() {
        assert!((LEAST_BYTES..=MOST_BYTES).contains(&default_budget_bytes()));
        assert!(machine().is_some_and(|bytes| bytes > LEAST_BYTES));
    }
}
