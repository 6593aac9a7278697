//! A throttle: refuses requests above a rate, as S3 does while it has too few partitions for a prefix.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::reply::Reply;

/// A bucket of tokens. It fills at a rate, and each accepted request takes one.
///
/// A machine that is busy with something else stops the client and the server. So a pause of more than [`LONGEST_PAUSE`]
/// between two requests counts as no longer than that.
#[derive(Debug)]
pub struct Throttle {
    per_second: f64,
    burst: f64,
    state: Mutex<State>,
}

const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct State {
    tokens: f64,
    filled: Option<Instant>,
    counts: Counts,
}

/// What a throttle has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// The requests that it let pass.
    pub accepted: u32,
    /// The requests that it refused.
    pub refused: u32,
    /// The requests that it would have let pass between the first and the last one.
    pub offered: f64,
}

impl Throttle {
    /// Returns a throttle that lets `per_second` requests pass, and up to `burst` at once after a pause.
    #[must_use]
    pub fn new(per_second: f64, burst: f64) -> Arc<Self> {
        let counts = Counts { offered: burst, ..Counts::default() };
        Arc::new(Self { per_second, burst, state: Mutex::new(State { tokens: burst, filled: None, counts }) })
    }

    /// The fault that refuses requests with 503 `SlowDown`.
    #[must_use]
    pub fn fault(self: &Arc<Self>) -> Fault {
        let throttle = Arc::clone(self);
        Fault::custom(move |_| {
            let slow_down = || Reply::error(503, "SlowDown", "Please reduce your request rate.", "");
            (!throttle.takes(Instant::now())).then(slow_down)
        })
    }

    /// What the throttle has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn takes(&self, now: Instant) -> bool {
        let mut state = self.state();
        let pause = state.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        let new = pause.min(LONGEST_PAUSE).as_secs_f64() * self.per_second;
        state.filled = Some(now);
        state.tokens = (state.tokens + new).min(self.burst);
        state.counts.offered += new;
        if state.tokens < 1.0 {
            state.counts.refused += 1;
            return false;
        }
        state.tokens -= 1.0;
        state.counts.accepted += 1;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_lets_its_rate_pass() {
        let (throttle, start) = (Throttle::new(100.0, 10.0), Instant::now());
        for millisecond in 0..1000 {
            throttle.takes(start + Duration::from_millis(millisecond));
        }
        let Counts { accepted, refused, offered } = throttle.counts();
        assert!(
            (105..=110).contains(&accepted) && accepted + refused == 1000,
            "{accepted} accepted, {refused} refused"
        );
        assert!((offered - 110.0).abs() < 1.0, "{offered}");
    }
}
