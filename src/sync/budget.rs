//! The byte budget: how much file content may be in memory at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Counted in units, so that a terabyte fits the semaphore's numbers.
const UNIT_BYTES: u64 = 1024;

/// The byte budget. It is fair: the longest wait is served first.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    units: u32,
    semaphore: Semaphore,
}

/// A permit for part of the budget, returned when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct BudgetPermit<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl ByteBudget {
    /// A budget of `bytes` in total.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { units, semaphore: Semaphore::new(permits) }
    }

    /// Waits for `bytes`, or for the whole budget if it is smaller, so that a large request gets through alone.
    pub(crate) async fn take(&self, bytes: u64) -> BudgetPermit<'_> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        // The semaphore is never closed.
        BudgetPermit { _permit: self.semaphore.acquire_many(units).await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn more_than_there_is_waits_for_all_and_gets_through() {
        let budget = ByteBudget::new(4096);
        let small = budget.take(1).await;
        assert!(budget.take(1 << 40).now_or_never().is_none());
        drop(small);
        let all = budget.take(1 << 40).await;
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
        assert!(budget.take(0).now_or_never().is_some());
    }
}
