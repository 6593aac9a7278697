//! Limits: how much the run does in parallel, and how much memory and bandwidth it takes.

use super::memory;
use crate::cli::LimitArgs;

/// Enough for a bucket that takes 3,500 writes per second at about 50 ms each; the run learns the limit in force.
const CONCURRENCY: usize = 256;
const LIST_CONCURRENCY: usize = 8;

#[derive(Debug)]
pub(super) struct Limits {
    pub(super) concurrency: usize,
    pub(super) list_concurrency: usize,
    pub(super) memory_bytes: u64,
    /// Bytes per second.
    pub(super) bandwidth: Option<u64>,
    pub(super) retries: u32,
}

impl Limits {
    pub(super) fn new(args: &LimitArgs) -> Self {
        Self {
            concurrency: args.concurrency.or(CONCURRENCY),
            list_concurrency: args.list_concurrency.or(LIST_CONCURRENCY),
            memory_bytes: args.memory.unwrap_or_else(memory::default_budget_bytes),
            bandwidth: args.bandwidth,
            retries: args.retries,
        }
    }
}
