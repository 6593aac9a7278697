//! The watch over one execution: when what is seen, or not seen any more, tells that it will not do its work in time.
//!
//! | stage | ends with |
//! |---|---|
//! | `QUEUED`, `LAUNCHING` | queued too long |
//! | `PREPARING` (counters may be 0 all the time) | prepared too long |
//! | `TRANSFERRING`, `VERIFYING` | stalled: no counter moved for so long |
//! | any other that has not ended | timed out, as all of them |
//! | nothing heard at all for as long as a stall | what the last request failed with |

use std::time::Duration;

use tokio::time::Instant;

use super::Limits;
use super::verdict::Verdict;
use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{Execution, Status};

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    begun: Instant,
    heard: Instant,
    stage: Option<(Status, Instant)>,
    counters: Vec<i64>,
    moved: Instant,
}

impl Watch {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, begun: now, heard: now, stage: None, counters: Vec::new(), moved: now }
    }

    /// The execution was looked at.
    pub(super) fn hear(&mut self, execution: &Execution, now: Instant) -> Option<Verdict> {
        self.heard = now;
        if execution.status.is_terminal() {
            return Some(Verdict::of_ended(Some(execution)));
        }
        let since = match self.stage {
            Some((stage, since)) if stage == execution.status => since,
            // The first look does not tell for how long it has been so.
            None => self.begun,
            Some(_) => {
                self.moved = now;
                now
            }
        };
        self.stage = Some((execution.status, since));
        if self.counters != execution.counters {
            self.counters.clone_from(&execution.counters);
            self.moved = now;
        }
        let (status, Limits { queue, prepare, stall, total, .. }) = (&execution.status_name, self.limits);
        let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let in_this_stage = match execution.status {
            Status::Waiting => over(since, queue).then(|| Verdict::queued_too_long(status, queue)),
            Status::Preparing => over(since, prepare).then(|| Verdict::prepared_too_long(prepare)),
            Status::Moving => over(self.moved, stall).then(|| Verdict::stalled(status, stall)),
            Status::UnderWay | Status::Succeeded | Status::Failed => None,
        };
        in_this_stage.or_else(|| over(self.begun, total).then(|| Verdict::timed_out(status, total)))
    }

    /// The execution could not be looked at.
    pub(super) fn miss(&self, error: &ServiceError, now: Instant) -> Option<Verdict> {
        let is_for_good = matches!(error.kind, ServiceErrorKind::Denied | ServiceErrorKind::Unknown);
        let silent = now.saturating_duration_since(self.heard);
        let in_all = now.saturating_duration_since(self.begun);
        (is_for_good || silent >= self.limits.stall || in_all >= self.limits.total).then(|| Verdict::of_error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::VerdictKind;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits {
        poll_interval: SECOND,
        queue: Duration::from_secs(10),
        prepare: Duration::from_mins(1),
        stall: Duration::from_secs(20),
        total: Duration::from_mins(2),
        cancel: Duration::from_secs(5),
    };

    fn execution(status: Status, counter: i64) -> Execution {
        Execution {
            status,
            status_name: format!("{status:?}"),
            counters: vec![0, counter],
            line: String::new(),
            started: None,
            error_code: None,
            error_detail: None,
            filters: (None, None),
            files_failed: 0,
        }
    }

    /// The verdict, and after how many seconds, where each second shows what the function tells.
    fn watched(show: impl Fn(u32) -> Execution) -> Option<(VerdictKind, u32)> {
        let begun = Instant::now();
        let mut watch = Watch::new(LIMITS, begun);
        (1..200)
            .find_map(|second| watch.hear(&show(second), begun + SECOND * second).map(|verdict| (verdict.kind, second)))
    }

    #[test]
    fn each_stage_has_its_own_limit() {
        assert_eq!(watched(|_| execution(Status::Waiting, 0)), Some((VerdictKind::QueuedTooLong, 10)));
        assert_eq!(watched(|_| execution(Status::Preparing, 0)), Some((VerdictKind::PreparedTooLong, 60)));
        assert_eq!(watched(|_| execution(Status::Moving, 7)), Some((VerdictKind::Stalled, 21)), "from the first look");
        assert_eq!(watched(|_| execution(Status::UnderWay, 0)), Some((VerdictKind::TimedOut, 120)));
    }

    #[test]
    fn counters_that_move_keep_it_alive_until_the_time_is_over_in_all() {
        let moving = watched(|second| execution(Status::Moving, i64::from(second / 19)));
        assert_eq!(moving, Some((VerdictKind::TimedOut, 120)));
        assert_eq!(
            watched(|second| execution(Status::Moving, i64::from(second / 50))),
            Some((VerdictKind::Stalled, 21))
        );
    }

    #[test]
    fn a_stage_begins_anew_when_it_changes() {
        let stages = watched(|second| match second {
            0..9 => execution(Status::Waiting, 0),
            9..60 => execution(Status::Preparing, 0),
            _ => execution(Status::Moving, 0),
        });
        assert_eq!(stages, Some((VerdictKind::Stalled, 80)), "twenty seconds after it began to move");
        let ended = watched(|second| execution(if second < 9 { Status::Waiting } else { Status::Succeeded }, 0));
        assert_eq!(ended, Some((VerdictKind::Succeeded, 9)));
        assert_eq!(watched(|_| execution(Status::Failed, 0)), Some((VerdictKind::Failed, 1)));
    }

    #[test]
    fn a_look_that_fails_now_and_then_ends_nothing_and_silence_does() {
        let begun = Instant::now();
        let mut watch = Watch::new(LIMITS, begun);
        let error = |kind| ServiceError { kind, code: None, message: String::new() };
        let silent = error(ServiceErrorKind::Unreachable);
        assert_eq!(watch.miss(&silent, begun + 19 * SECOND), None);
        assert_eq!(watch.hear(&execution(Status::Preparing, 0), begun + 19 * SECOND), None);
        assert_eq!(watch.miss(&silent, begun + 38 * SECOND), None);
        let verdict = watch.miss(&silent, begun + 39 * SECOND).unwrap();
        assert_eq!(verdict.kind, VerdictKind::Unreachable);
        let denied = watch.miss(&error(ServiceErrorKind::Denied), begun + 20 * SECOND).unwrap();
        assert_eq!(denied.kind, VerdictKind::AccessDenied, "that does not change by waiting");
    }
}
