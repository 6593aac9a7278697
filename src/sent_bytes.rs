//! The bytes of request bodies that the program has sent. Each attempt counts, as on the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes sent so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentBytes(Arc<AtomicU64>);

impl SentBytes {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
