//! A streak: failures in a row, which show whether one key is bad or nothing can be written to the bucket.

use crate::destination::error::{ErrorKind, S3Error};

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Streak {
    any_success: bool,
    last: Option<(ErrorKind, Option<String>)>,
    length: usize,
}

/// If this many of the first uploads fail alike, all will.
const HOPELESS_FROM_THE_START: usize = 10;
/// If this many uploads in a row cannot be sent, the server is down.
const SERVER_GONE: usize = 20;

impl Streak {
    /// Records a success.
    pub(super) fn succeeded(&mut self) {
        *self = Self { any_success: true, ..Self::default() };
    }

    /// Records a failure, and returns whether no other upload can succeed.
    pub(super) fn failed(&mut self, error: &S3Error) -> bool {
        let this = (error.kind, error.code.clone());
        self.length = if self.last.as_ref() == Some(&this) { self.length + 1 } else { 1 };
        self.last = Some(this);
        match error.kind {
            ErrorKind::Unusable => true,
            ErrorKind::Unreachable | ErrorKind::Transient | ErrorKind::Throttled => self.length >= SERVER_GONE,
            ErrorKind::Denied | ErrorKind::Refused | ErrorKind::NotImplemented | ErrorKind::NotFound => {
                !self.any_success && self.length >= HOPELESS_FROM_THE_START
            }
            ErrorKind::Precondition | ErrorKind::Interrupted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::operation::Operation;

    fn error(kind: ErrorKind, code: &str) -> S3Error {
        S3Error {
            operation: Operation::Put,
            kind,
            code: Some(code.to_owned()),
            message: String::new(),
            request_id: None,
            region: None,
        }
    }

    #[test]
    fn the_first_uploads_failing_alike_end_the_run() {
        let mut streak = Streak::default();
        let denied = error(ErrorKind::Denied, "AccessDenied");
        assert!((1..HOPELESS_FROM_THE_START).all(|_| !streak.failed(&denied)));
        assert!(streak.failed(&denied));
    }

    #[test]
    fn one_key_after_another_that_is_refused_ends_nothing_once_one_went_well() {
        let mut streak = Streak::default();
        streak.succeeded();
        assert!((0..1000).all(|_| !streak.failed(&error(ErrorKind::Denied, "AccessDenied"))));
        assert!((0..1000).all(|_| !streak.failed(&error(ErrorKind::Precondition, "PreconditionFailed"))));
    }

    #[test]
    fn different_failures_are_no_streak() {
        let mut streak = Streak::default();
        for _ in 0..100 {
            assert!(!streak.failed(&error(ErrorKind::Refused, "InvalidRequest")));
            assert!(!streak.failed(&error(ErrorKind::Denied, "AccessDenied")));
        }
    }

    #[test]
    fn a_server_that_goes_away_ends_the_run() {
        let mut streak = Streak::default();
        streak.succeeded();
        let gone = error(ErrorKind::Unreachable, "");
        assert!((1..SERVER_GONE).all(|_| !streak.failed(&gone)));
        assert!(streak.failed(&gone));
    }
}
