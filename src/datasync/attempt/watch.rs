//! The watch over one execution: when its status, or the lack of one, shows that it cannot finish in time.
//!
//! | stage | verdict |
//! |---|---|
//! | `QUEUED`, `LAUNCHING` | queued too long |
//! | `PREPARING` (all counters may stay 0) | prepared too long |
//! | `TRANSFERRING`, `VERIFYING` | stalled: no counter changed within the stall limit |
//! | `CANCELLING` | timed out, after the limit of a cancel |
//! | any stage before the end | timed out, after the limit in total |
//! | every poll failed within the stall limit | of the last error |

use std::time::Duration;

use tokio::time::Instant;

use super::limits::StageLimits;
use super::verdict::AttemptVerdict;
use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{Execution, Status};

/// How long DataSync may not know an execution.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);

/// What the polls have shown, and when.
#[derive(Debug)]
pub(super) struct Watch {
    limits: StageLimits,
    started: Instant,
    last_response: Instant,
    stage: Option<(Status, Instant)>,
    counters: Vec<i64>,
    last_change: Instant,
}

impl Watch {
    pub(super) fn new(limits: StageLimits, now: Instant) -> Self {
        Self { limits, started: now, last_response: now, stage: None, counters: Vec::new(), last_change: now }
    }

    /// Takes the response to a poll; returns a verdict if the execution has ended or exceeded a limit.
    pub(super) fn polled(&mut self, execution: &Execution, now: Instant) -> Option<AttemptVerdict> {
        self.last_response = now;
        if execution.status.is_terminal() {
            return Some(AttemptVerdict::of_ended(execution));
        }
        let since = match self.stage {
            Some((stage, since)) if stage == execution.status => since,
            // The first poll does not show how long the stage has lasted.
            None => self.started,
            Some(_) => {
                self.last_change = now;
                now
            }
        };
        self.stage = Some((execution.status, since));
        if self.counters != execution.counters {
            self.counters.clone_from(&execution.counters);
            self.last_change = now;
        }
        let (status, StageLimits { queue, prepare, stall, total, cancel, .. }) = (&execution.status_name, self.limits);
        let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let in_this_stage = match execution.status {
            Status::Queued => over(since, queue).then(|| AttemptVerdict::queued_too_long(status, queue)),
            Status::Preparing => over(since, prepare).then(|| AttemptVerdict::prepared_too_long(prepare)),
            Status::Transferring => over(self.last_change, stall).then(|| AttemptVerdict::stalled(status, stall)),
            Status::Cancelling => over(since, cancel).then(|| AttemptVerdict::timed_out(status, cancel)),
            Status::Other | Status::Succeeded | Status::Failed => None,
        };
        in_this_stage.or_else(|| over(self.started, total).then(|| AttemptVerdict::timed_out(status, total)))
    }

    /// Takes the error of a failed poll; returns a verdict if waiting cannot help, or has lasted too long.
    pub(super) fn poll_failed(&self, error: &ServiceError, now: Instant) -> Option<AttemptVerdict> {
        let silent = now.saturating_duration_since(self.last_response);
        let is_permanent = match error.kind {
            ServiceErrorKind::Denied | ServiceErrorKind::UnknownTask | ServiceErrorKind::Stopped => true,
            // DataSync may not know yet what it has just started.
            ServiceErrorKind::UnknownExecution => silent >= UNKNOWN_LIMIT,
            // The source of the credentials may have others later, and the network may be another one.
            ServiceErrorKind::Credentials
            | ServiceErrorKind::NoCredentials
            | ServiceErrorKind::Refused
            | ServiceErrorKind::Throttled
            | ServiceErrorKind::Unavailable
            | ServiceErrorKind::Settings
            | ServiceErrorKind::Unreachable => false,
        };
        let in_total = now.saturating_duration_since(self.started);
        (is_permanent || silent >= self.limits.stall || in_total >= self.limits.total)
            .then(|| AttemptVerdict::of_error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::VerdictKind;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: StageLimits = StageLimits {
        poll_interval: SECOND,
        queue: Duration::from_secs(10),
        prepare: Duration::from_mins(1),
        stall: Duration::from_secs(20),
        total: Duration::from_mins(2),
        cancel: Duration::from_secs(5),
    };

    fn execution(status: Status, counter: i64) -> Execution {
        Execution { status, counters: vec![0, counter], ..Execution::showing("ANY") }
    }

    /// The first verdict and its second, if each second's poll shows what `show` returns.
    fn verdict(show: impl Fn(u32) -> Execution) -> Option<(VerdictKind, u32)> {
        let started = Instant::now();
        let mut watch = Watch::new(LIMITS, started);
        let mut poll = |second| watch.polled(&show(second), started + SECOND * second);
        (1..200).find_map(|second| poll(second).map(|verdict| (verdict.kind, second)))
    }

    #[test]
    fn each_stage_has_its_own_limit() {
        assert_eq!(verdict(|_| execution(Status::Queued, 0)), Some((VerdictKind::QueuedTooLong, 10)));
        assert_eq!(verdict(|_| execution(Status::Preparing, 0)), Some((VerdictKind::PreparedTooLong, 60)));
        assert_eq!(
            verdict(|_| execution(Status::Transferring, 7)),
            Some((VerdictKind::Stalled, 21)),
            "since the first poll"
        );
        assert_eq!(verdict(|_| execution(Status::Other, 0)), Some((VerdictKind::TimedOut, 120)));
    }

    #[test]
    fn changing_counters_prevent_a_stall_but_not_the_total_limit() {
        let changing = verdict(|second| execution(Status::Transferring, i64::from(second / 19)));
        assert_eq!(changing, Some((VerdictKind::TimedOut, 120)));
        assert_eq!(
            verdict(|second| execution(Status::Transferring, i64::from(second / 50))),
            Some((VerdictKind::Stalled, 21))
        );
    }

    #[test]
    fn each_new_stage_starts_its_own_limit() {
        let stages = verdict(|second| match second {
            0..9 => execution(Status::Queued, 0),
            9..60 => execution(Status::Preparing, 0),
            _ => execution(Status::Transferring, 0),
        });
        assert_eq!(stages, Some((VerdictKind::Stalled, 80)), "twenty seconds after the stage changed");
        let ended = verdict(|second| execution(if second < 9 { Status::Queued } else { Status::Succeeded }, 0));
        assert_eq!(ended, Some((VerdictKind::Succeeded, 9)));
        assert_eq!(verdict(|_| execution(Status::Failed, 0)), Some((VerdictKind::Failed, 1)));
    }

    #[test]
    fn single_failed_polls_are_tolerated_and_constant_failure_is_not() {
        let started = Instant::now();
        let mut watch = Watch::new(LIMITS, started);
        let error = |kind| ServiceError { kind, code: None, message: String::new() };
        let unreachable = error(ServiceErrorKind::Unreachable);
        assert_eq!(watch.poll_failed(&unreachable, started + 19 * SECOND), None);
        assert_eq!(watch.polled(&execution(Status::Preparing, 0), started + 19 * SECOND), None);
        assert_eq!(watch.poll_failed(&unreachable, started + 38 * SECOND), None);
        let ended = watch.poll_failed(&unreachable, started + 39 * SECOND).unwrap();
        assert_eq!(ended.kind, VerdictKind::Unreachable);
        let denied = watch.poll_failed(&error(ServiceErrorKind::Denied), started + 20 * SECOND).unwrap();
        assert_eq!(denied.kind, VerdictKind::AccessDenied, "waiting cannot change that");
        let unknown = error(ServiceErrorKind::UnknownExecution);
        let limits = StageLimits { stall: Duration::from_mins(1), ..LIMITS };
        let watch = Watch::new(limits, started);
        assert_eq!(watch.poll_failed(&unknown, started + 29 * SECOND), None, "it may have just started");
        assert_eq!(watch.poll_failed(&unknown, started + 30 * SECOND).unwrap().kind, VerdictKind::UnknownTask);
    }
}
