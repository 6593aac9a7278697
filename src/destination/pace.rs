//! The pace of requests: how many may be sent in a second. The run learns it from S3's refusals.
//!
//! There is no limit until S3 refuses a request with `SlowDown` or the like. From then on:
//!
//! 1. *A refusal reduces the rate*, to the share of requests that S3 has accepted since the last reduction: to a half at
//!    the least, and to 90 % at the most. Refusals of requests that were sent before the last reduction do not count.
//! 2. *Each accepted request increases the rate.* Below the rate that S3 last accepted, it grows fast, so that the run
//!    recovers within seconds after an outage. From there it reaches the rate of the last refusal after [`CLIMB`] or more
//!    requests, so that few are refused. If S3 refuses none there, the rate grows with itself.
//! 3. *S3 refuses few requests:* if it has refused more than [`REFUSALS_EARNED`] allows, the rate grows slower.
//! 4. *Only requests that had to wait count*: others do not show that S3 accepts this rate.
//!
//! Reads and writes have paces of their own, as S3 limits them apart.

use std::time::Duration;

use tokio::time::Instant;

/// A reduction leaves at most this share of the rate, and at least the other.
const MOST_LEFT: f64 = 0.9;
const LEAST_LEFT: f64 = 0.5;
/// How many responses show the share of accepted requests.
const SAMPLE: u32 = 20;
/// With fewer responses, the next reduction waits for this long.
const REDUCTION_INTERVAL: Duration = Duration::from_millis(100);
/// The rate reaches that of the last refusal after at least this many accepted requests.
const CLIMB: u32 = 100;
/// The lowest rate, in requests per second.
const LEAST_RATE: f64 = 0.5;
/// The lowest rate after the first refusal: a few requests at the start do not show what S3 accepts.
const LEAST_FIRST_RATE: f64 = 20.0;
/// What one accepted request adds at least while the rate grows fast, in requests per second.
const LEAST_STEP: f64 = 5.0;
/// Requests that come late may be sent together if they are late by no more than this.
const CREDIT: Duration = Duration::from_millis(10);
/// How many refusals each accepted request makes up for. With more of them, the rate grows [`CAREFUL`] times slower.
const REFUSALS_EARNED: f64 = 0.01;
const CAREFUL: f64 = 10.0;
/// Refusals do not matter any more after this time without a reduction.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);
/// The most refusals that are made up for in advance.
const MOST_EARNED: f64 = 5.0;

/// The pace of one kind of requests.
#[derive(Debug)]
pub(super) struct Pace {
    /// Requests per second, once S3 has refused one.
    rate: Option<f64>,
    /// Below this rate, the rate grows fast.
    accepted_rate: f64,
    /// The rate at the last reduction.
    refused_rate: f64,
    reduced_at: Option<Instant>,
    /// The responses to requests that were sent since the last reduction.
    accepted: u32,
    refused: u32,
    /// How many requests were accepted since the rate has been above [`Self::accepted_rate`].
    climbed: u32,
    in_flight: u32,
    /// Accepted requests times [`REFUSALS_EARNED`], less the refusals. Below zero, S3 has refused too many.
    earned: f64,
    /// The first request, and how many were accepted since.
    started: Option<Instant>,
    accepted_in_all: u32,
    /// When the next request may be sent.
    next: Option<Instant>,
}

/// When a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) at: Instant,
    /// Whether the request had to wait for the pace.
    is_paced: bool,
}

/// What the response to a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Accepted,
    Refused,
    /// Neither.
    Nothing,
}

impl Slot {
    /// The slot of a request that was sent later.
    pub(super) const fn sent_at(self, at: Instant) -> Self {
        Self { at, ..self }
    }
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            rate: None,
            accepted_rate: f64::INFINITY,
            refused_rate: f64::INFINITY,
            reduced_at: None,
            accepted: 0,
            refused: 0,
            climbed: 0,
            in_flight: 0,
            earned: 0.0,
            started: None,
            accepted_in_all: 0,
            next: None,
        }
    }

    /// Takes the next slot.
    pub(super) fn slot(&mut self, now: Instant) -> Slot {
        self.started.get_or_insert(now);
        self.in_flight += 1;
        let Some(rate) = self.rate else {
            return Slot { at: now, is_paced: false };
        };
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let is_paced = self.next.is_some_and(|next| next > earliest);
        let at = self.next.unwrap_or(earliest).max(earliest);
        self.next = Some(at + Duration::from_secs_f64(1.0 / rate));
        Slot { at: at.max(now), is_paced }
    }

    /// Learns from the end of a request.
    pub(super) fn ended(&mut self, slot: Slot, shown: Shown, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let is_new = self.reduced_at.is_none_or(|reduced_at| slot.at > reduced_at);
        match shown {
            Shown::Accepted => {
                self.accepted_in_all += 1;
                self.earned = (self.earned + REFUSALS_EARNED).min(MOST_EARNED);
                self.accepted += u32::from(is_new);
                if slot.is_paced && is_new {
                    self.grow(now);
                }
            }
            Shown::Refused if is_new => self.refused(now),
            Shown::Refused | Shown::Nothing => {}
        }
    }

    /// Learns from a refusal.
    pub(super) fn refused(&mut self, now: Instant) {
        self.earned -= 1.0;
        self.refused += 1;
        self.reduce(now);
    }

    fn grow(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let in_flight = f64::from(self.in_flight.max(1));
        self.rate = Some(if rate < self.accepted_rate {
            (rate + (rate / in_flight.max(8.0)).max(LEAST_STEP)).min(self.accepted_rate)
        } else {
            self.climbed += 1;
            let is_recent = self.reduced_at.is_some_and(|reduced_at| now - reduced_at < FORGIVEN_AFTER);
            let care = if self.earned < 0.0 && is_recent { CAREFUL } else { 1.0 };
            let climb = f64::from(CLIMB).max(8.0 * in_flight) * care;
            if f64::from(self.climbed) <= climb {
                rate + self.refused_rate * (1.0 - MOST_LEFT) / climb
            } else {
                rate * (1.0 + 1.0 / (8.0 * in_flight).max(100.0))
            }
        });
    }

    fn reduce(&mut self, now: Instant) {
        let responses = self.accepted + self.refused;
        match self.rate {
            None => {
                let time = self.started.map_or(Duration::ZERO, |started| now - started).as_secs_f64().max(1.0);
                self.rate = Some((f64::from(self.accepted_in_all) / time).max(LEAST_FIRST_RATE));
            }
            Some(rate) => {
                let is_known = responses >= SAMPLE;
                if !is_known && self.reduced_at.is_some_and(|reduced_at| now - reduced_at < REDUCTION_INTERVAL) {
                    return;
                }
                let share = f64::from(self.accepted) / f64::from(responses.max(1));
                let left = if is_known { share.clamp(LEAST_LEFT, MOST_LEFT) } else { MOST_LEFT };
                let reduced = (rate * left).max(LEAST_RATE);
                self.refused_rate = rate;
                // If everything is refused, S3 will accept again what it accepted before.
                if self.accepted > 0 {
                    self.accepted_rate = reduced;
                }
                self.rate = Some(reduced);
            }
        }
        self.reduced_at = Some(now);
        (self.accepted, self.refused, self.climbed) = (0, 0, 0);
    }
}

#[cfg(test)]
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "simulated times"
)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// A bucket that takes `rate` requests per second, and `burst` at once; and an outage that refuses everything.
    struct Bucket {
        rate: f64,
        burst: f64,
        latency: f64,
        outage: std::ops::Range<f64>,
    }

    /// What became of a run, and the share of requests that were refused.
    struct Outcome {
        seconds: f64,
        refused: f64,
    }

    /// A response: when it arrives, how often its request was retried, whether it was accepted, and its slot.
    type Response = Reverse<(u64, u32, bool, u64, bool)>;

    /// Sends requests, each again until it is accepted, with up to `most` in flight, in simulated time.
    fn simulate(bucket: &Bucket, files: u32, most: usize) -> Outcome {
        let mut random = fastrand::Rng::with_seed(7);
        let (zero, mut pace) = (Instant::now(), Pace::new());
        let at = |seconds: f64| zero + Duration::from_secs_f64(seconds);
        // A request that is ready to be sent, and one whose response arrives: at nanoseconds, its retries.
        let mut ready: BinaryHeap<Reverse<(u64, u32)>> = (0..files).map(|_| Reverse((0, 0))).collect();
        let mut responses: BinaryHeap<Response> = BinaryHeap::new();
        let (mut now, mut tokens, mut filled) = (0.0_f64, bucket.burst, 0.0);
        let (mut accepted, mut refused) = (0, 0);
        let nanos = |seconds: f64| (seconds * 1e9) as u64;
        // As the request limit: from 32, one more for each limit's worth of accepted requests.
        let (mut in_flight, mut grown_at) = (32, 0);
        while accepted < files {
            if accepted as usize >= grown_at + in_flight {
                grown_at = accepted as usize;
                in_flight = (in_flight + 1).min(most);
            }
            let response = responses.peek().map(|Reverse(r)| r.0);
            let request = ready.peek().map(|Reverse(r)| r.0).filter(|_| responses.len() < in_flight);
            let sends = match (request, response) {
                (Some(request), Some(response)) => request.max(nanos(now)) <= response,
                (request, _) => request.is_some(),
            };
            if sends {
                let Reverse((time, retries)) = ready.pop().unwrap();
                now = now.max(time as f64 / 1e9);
                let slot = pace.slot(at(now));
                // The slot is in order; until then responses arrive.
                let sent = (slot.at - zero).as_secs_f64();
                while let Some(Reverse(r)) = responses.peek().copied().filter(|Reverse(r)| r.0 <= nanos(sent)) {
                    responses.pop();
                    settle(&mut pace, r, zero, &mut ready, &mut random, &mut accepted);
                }
                now = now.max(sent);
                tokens = (tokens + (now - filled) * bucket.rate).min(bucket.burst);
                filled = now;
                let is_accepted = tokens >= 1.0 && !bucket.outage.contains(&now);
                tokens -= f64::from(u8::from(is_accepted));
                refused += u32::from(!is_accepted);
                let arrives = nanos(now + bucket.latency * (0.8 + 0.4 * random.f64()));
                responses.push(Reverse((arrives, retries, is_accepted, nanos(sent), slot.is_paced)));
            } else {
                let Reverse(response) = responses.pop().unwrap();
                now = now.max(response.0 as f64 / 1e9);
                settle(&mut pace, response, zero, &mut ready, &mut random, &mut accepted);
            }
        }
        Outcome { seconds: now, refused: f64::from(refused) / f64::from(refused + files) }
    }

    fn settle(
        pace: &mut Pace,
        (time, retries, is_accepted, sent, is_paced): (u64, u32, bool, u64, bool),
        zero: Instant,
        ready: &mut BinaryHeap<Reverse<(u64, u32)>>,
        random: &mut fastrand::Rng,
        accepted: &mut u32,
    ) {
        let shown = if is_accepted { Shown::Accepted } else { Shown::Refused };
        let slot = Slot { at: zero + Duration::from_nanos(sent), is_paced };
        pace.ended(slot, shown, zero + Duration::from_nanos(time));
        if is_accepted {
            *accepted += 1;
        } else {
            let ceiling = 200_000_000_u64.saturating_mul(1 << retries.min(16)).min(5_000_000_000);
            ready.push(Reverse((time + random.u64(0..ceiling), retries + 1)));
        }
    }

    #[test]
    fn a_throttling_bucket_is_used_and_few_requests_are_refused() {
        for (rate, files) in [(100.0, 3000), (200.0, 4000), (500.0, 5000), (500.0, 20_000), (3000.0, 30_000)] {
            for (burst, latency) in [(0.5, 0.005), (1.0, 0.01), (1.0, 0.02)] {
                let bucket = Bucket { rate, burst: burst * rate, latency, outage: 0.0..0.0 };
                let Outcome { seconds, refused } = simulate(&bucket, files, 256);
                let used = (f64::from(files) - bucket.burst) / rate / seconds;
                assert!(used >= 0.9 && refused <= 0.05, "{used} used, {refused} refused: {rate}, {burst}, {latency}");
            }
        }
    }

    #[test]
    fn the_rate_recovers_after_an_outage() {
        let bucket = Bucket { rate: 500.0, burst: 500.0, latency: 0.02, outage: 3.0..13.0 };
        let Outcome { seconds, refused } = simulate(&bucket, 20_000, 256);
        // 39 s for the files, and 10 s for the outage.
        assert!(seconds < 54.0 && refused < 0.05, "{seconds} s, {refused} refused");
    }

    #[test]
    fn nothing_waits_until_a_request_is_refused() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        for _ in 0..1000 {
            let slot = pace.slot(now);
            assert_eq!(slot.at, now);
            pace.ended(slot, Shown::Accepted, now);
        }
        let slots = [pace.slot(now), pace.slot(now)];
        pace.ended(slots[0], Shown::Refused, now);
        pace.ended(slots[1], Shown::Refused, now);
        assert!(pace.rate.is_some_and(|rate| rate > 900.0), "{pace:?}: refusals of one moment count once");
    }
}
