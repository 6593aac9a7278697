//! What follows an attempt with DataSync: a pure decision.

use crate::cli::Policy;
use crate::datasync::attempt::verdict::VerdictKind;

/// What a run does after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowUp {
    /// End the run: the destination matches, or the run must stop.
    Nothing,
    /// Sync directly after a success: to prove it, or to delete under the guards.
    Compare,
    /// Sync directly, because DataSync did not do it.
    FallBack,
    /// End the run: another client cancelled the execution.
    Cancelled,
    /// End the run: the policy forbids the direct sync.
    Forbidden,
}

/// The end of an attempt, and what the options require.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempted {
    pub(super) verdict: VerdictKind,
    /// Whether a success shows that the destination matches.
    pub(super) is_proven: bool,
    /// Whether the run compares after each success: to audit, or to delete itself.
    pub(super) always_compares: bool,
    pub(super) policy: Policy,
    pub(super) stop_requested: bool,
}

impl Attempted {
    /// Decides what follows. The first row that applies counts:
    ///
    /// | stop request | verdict | otherwise | follow-up |
    /// |---|---|---|---|
    /// | yes | any | | `Nothing` |
    /// | | interrupted | | `Nothing` |
    /// | | succeeded | proven, and the run does not always compare | `Nothing` |
    /// | | succeeded | | `Compare` |
    /// | | any | `--policy datasync-only` | `Forbidden` |
    /// | | cancelled | | `Cancelled` |
    /// | | any | | `FallBack` |
    pub(super) const fn follow_up(self) -> FollowUp {
        let Self { verdict, is_proven, always_compares, policy, stop_requested } = self;
        if stop_requested || matches!(verdict, VerdictKind::Interrupted) {
            FollowUp::Nothing
        } else if matches!(verdict, VerdictKind::Succeeded) {
            if is_proven && !always_compares { FollowUp::Nothing } else { FollowUp::Compare }
        } else if matches!(policy, Policy::DatasyncOnly) {
            FollowUp::Forbidden
        } else if matches!(verdict, VerdictKind::Cancelled) {
            FollowUp::Cancelled
        } else {
            FollowUp::FallBack
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempted(verdict: VerdictKind) -> Attempted {
        let policy = Policy::DatasyncFirst;
        Attempted { verdict, is_proven: true, always_compares: false, policy, stop_requested: false }
    }

    #[test]
    fn a_success_ends_the_run_only_if_it_proves_enough() {
        let success = attempted(VerdictKind::Succeeded);
        assert_eq!(success.follow_up(), FollowUp::Nothing);
        assert_eq!(Attempted { is_proven: false, ..success }.follow_up(), FollowUp::Compare);
        assert_eq!(Attempted { always_compares: true, ..success }.follow_up(), FollowUp::Compare);
        let only = Attempted { policy: Policy::DatasyncOnly, ..success };
        assert_eq!(only.follow_up(), FollowUp::Nothing);
        assert_eq!(Attempted { is_proven: false, ..only }.follow_up(), FollowUp::Compare);
    }

    #[test]
    fn any_other_verdict_falls_back_unless_the_policy_forbids_it() {
        for verdict in VerdictKind::ALL {
            if matches!(verdict, VerdictKind::Succeeded | VerdictKind::Interrupted) {
                continue;
            }
            let cancelled = verdict == VerdictKind::Cancelled;
            let expected = if cancelled { FollowUp::Cancelled } else { FollowUp::FallBack };
            assert_eq!(attempted(verdict).follow_up(), expected, "{verdict:?}");
            let only = Attempted { policy: Policy::DatasyncOnly, ..attempted(verdict) };
            assert_eq!(only.follow_up(), FollowUp::Forbidden, "{verdict:?}");
        }
    }

    #[test]
    fn a_stop_request_ends_the_run_after_any_verdict() {
        assert_eq!(attempted(VerdictKind::Interrupted).follow_up(), FollowUp::Nothing);
        for verdict in VerdictKind::ALL {
            let stopped = Attempted { stop_requested: true, is_proven: false, ..attempted(verdict) };
            assert_eq!(stopped.follow_up(), FollowUp::Nothing, "{verdict:?}");
        }
    }
}
