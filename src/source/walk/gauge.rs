//! A gauge: how much of something the walk holds, as the sum of its holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much is held now, and the peak.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    pub(super) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

/// A part of a gauge's sum; dropping the hold subtracts it.
#[derive(Debug)]
pub(super) struct Hold {
    gauge: Arc<Gauge>,
    amount: usize,
}

impl Hold {
    pub(super) fn new(gauge: &Arc<Gauge>, amount: usize) -> Self {
        let mut hold = Self { gauge: Arc::clone(gauge), amount: 0 };
        hold.add(amount);
        hold
    }

    pub(super) fn add(&mut self, amount: usize) {
        self.amount += amount;
        let before = self.gauge.now.fetch_add(amount, Ordering::Relaxed);
        self.gauge.peak.fetch_max(before + amount, Ordering::Relaxed);
    }

    pub(super) fn set(&mut self, amount: usize) {
        if let Some(more) = amount.checked_sub(self.amount) {
            self.add(more);
        } else {
            self.release(self.amount - amount);
        }
    }

    pub(super) fn release(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.gauge.now.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release(self.amount);
    }
}
