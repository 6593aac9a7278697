//! Renewal: keeps a lease valid, and ends the run that has lost it.
//!
//! | a renewal | the fence | the run |
//! |---|---|---|
//! | succeeds before the lease expires | stays open | continues |
//! | does not succeed before that | closes | waits until a renewal ends, for up to the outage timeout: nothing is written meanwhile |
//! | then succeeds: no other run took the lease over, or one that overlaps | opens again | continues |
//! | finds that another run took one of them over, or that the lease was deleted | stays closed | stops |
//! | fails for the last time | stays closed | stops |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{LeaseHolder, LeaseRecord, LeaseStatus, LostLease, content, now, status};
use crate::exit_code::ExitCode;
use crate::fence::Fence;
use crate::state::{ExpectedVersion, StateError, Version};

const RENEWALS: u32 = 3;
/// The longest pause before a renewal that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the run knows of its lease.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: LeaseRecord,
    pub(super) version: Version,
    /// When the renewal was started up to which the run holds the lease without a gap.
    renewed: Instant,
    /// What renewals have sent whose responses are missing: the state may hold one of them.
    pub(super) unproven: Vec<Bytes>,
}

/// Why a renewal did not succeed.
#[derive(Debug)]
pub(super) enum NotRenewed {
    /// Another run has taken over this lease, or one that overlaps.
    TakenOver(String),
    Deleted,
    State(StateError),
    /// The state did not respond until the run stopped waiting.
    Silence,
}

impl From<StateError> for NotRenewed {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Held {
    pub(super) const fn new(record: LeaseRecord, version: Version, renewed: Instant) -> Self {
        Self { record, version, renewed, unproven: Vec::new() }
    }
}

/// Closes the fence when the lease is renewed no more, also if the task ends with its run.
struct ClosingFence<'a>(&'a Fence);

impl Drop for ClosingFence<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Renews the lease until it is lost.
pub(super) async fn renew(holder: Arc<LeaseHolder>) {
    let _closing = ClosingFence(&holder.fence);
    let pause = holder.times.ttl / RENEWALS;
    let mut next = Instant::now() + pause;
    let mut last_error = None;
    let mut has_expired = false;
    loop {
        tokio::time::sleep_until(next).await;
        // The lock is held until the run knows how the renewal ended.
        let mut held = holder.held.lock().await;
        let (expires, gives_up) = (holder.expires(&held), holder.gives_up(&held));
        let result = tokio::select! {
            biased;
            result = holder.renew_once(&mut held) => result,
            () = expiring(expires, gives_up, &mut has_expired) => Err(NotRenewed::Silence),
        };
        match result {
            Ok(()) => {
                if has_expired && holder.fence.may_write() {
                    tracing::warn!("renewed the lease, which no other run took over: continuing");
                    has_expired = false;
                }
                last_error = None;
                next = held.renewed + pause;
            }
            Err(NotRenewed::State(error)) if holder.may_retry(&held, &error) => {
                if last_error.is_none() {
                    tracing::warn!(%error, "cannot renew the lease: trying again");
                }
                last_error = Some(error);
                next = Instant::now() + pause.min(LONGEST_PAUSE);
            }
            // The last attempt had no time left.
            Err(NotRenewed::Silence) if let Some(error) = last_error.take() => {
                return holder.lose(&NotRenewed::State(error), held.renewed.elapsed());
            }
            Err(lost) => return holder.lose(&lost, held.renewed.elapsed()),
        }
    }
}

/// Logs that the lease has expired, and returns when the run stops waiting for its renewal.
async fn expiring(expires: Instant, gives_up: Instant, has_expired: &mut bool) {
    tokio::time::sleep_until(expires).await;
    if !*has_expired {
        let patience = humantime::format_duration(gives_up - expires);
        tracing::warn!(
            "cannot renew the lease, and it has expired: writing nothing until it is renewed, or until the renewal fails, \
             at the latest after {patience}"
        );
        *has_expired = true;
    }
    tokio::time::sleep_until(gives_up).await;
}

impl LeaseHolder {
    /// When the lease expires, unless it is renewed.
    fn expires(&self, held: &Held) -> Instant {
        held.renewed + self.times.ttl
    }

    /// When the run stops, unless the lease is renewed.
    fn gives_up(&self, held: &Held) -> Instant {
        self.expires(held) + self.times.outage_timeout
    }

    /// Renews the lease once.
    async fn renew_once(&self, held: &mut Held) -> Result<(), NotRenewed> {
        let started = Instant::now();
        let record = LeaseRecord { renewed: now(), ..held.record.clone() };
        let sent = content(&record);
        held.unproven.push(sent.clone());
        let Some(version) = self.state.replace(&self.name, sent, &ExpectedVersion::Is(held.version.clone())).await?
        else {
            // The state may hold what an earlier renewal sent. When it was stored is unknown: the next renewal counts.
            held.version = self.find_own(held).await?;
            held.unproven.clear();
            return Ok(());
        };
        (held.record, held.version) = (record, version);
        held.unproven.clear();
        if Instant::now() >= self.expires(held)
            && let Some(by) = self.others(Some(held.renewed)).await?.overlapping
        {
            return Err(NotRenewed::TakenOver(by));
        }
        held.renewed = started;
        self.fence.open_until(started + self.times.ttl);
        Ok(())
    }

    /// Returns the version of the stored lease, if this run has written it.
    pub(super) async fn find_own(&self, held: &Held) -> Result<Version, NotRenewed> {
        let Some(stored) = self.state.read(&self.name).await? else {
            return Err(NotRenewed::Deleted);
        };
        if held.unproven.contains(&stored.content) {
            return Ok(stored.version);
        }
        Err(NotRenewed::TakenOver(match status(&stored, self.times.ttl) {
            LeaseStatus::Held { by, .. } => by,
            LeaseStatus::Free { .. } => "a run that has released it since".to_owned(),
        }))
    }

    /// Whether another renewal may succeed. S3 was asked for the outage timeout; a folder was asked once.
    fn may_retry(&self, held: &Held, error: &StateError) -> bool {
        let until = if error.was_retried() { self.expires(held) } else { self.gives_up(held) };
        Instant::now() < until
    }

    /// Stops the run, which has lost its lease.
    fn lose(&self, lost: &NotRenewed, since: Duration) {
        let seconds = since.as_secs();
        let has_expired = since >= self.times.ttl;
        let lost = match lost {
            NotRenewed::TakenOver(by) if has_expired => LostLease::ToAnother(format!(
                "another run took over the lease ({by}), which this run could not renew for {seconds} s: stopping. If outages \
                 last this long, pass a longer --lease-ttl"
            )),
            NotRenewed::TakenOver(by) => {
                LostLease::ToAnother(format!("another run took over the lease ({by}): stopping"))
            }
            NotRenewed::Deleted => LostLease::ToAnother(format!(
                "the lease was deleted from the state ({}): stopping. Check that the state is mounted and that nothing \
                 cleans it up, then run again",
                self.name
            )),
            NotRenewed::State(error) => {
                let why = match error {
                    // The error says what to do.
                    StateError::FolderMissing { .. } | StateError::FolderNotMounted { .. } => "",
                    StateError::S3 { is_outage: true, .. } => MAY_BE_TAKEN_OVER,
                    StateError::S3 { is_outage: false, .. }
                    | StateError::Folder { .. }
                    | StateError::Temporary { .. }
                    | StateError::Stopped
                    | StateError::NoConditions { .. } => PASS_A_LONGER_TIMEOUT,
                };
                cannot_renew(seconds, &error.to_string(), why)
            }
            NotRenewed::Silence => cannot_renew(seconds, "the state does not respond", PASS_A_LONGER_TIMEOUT),
        };
        if self.shutdown.exit_code().is_some() {
            tracing::debug!("{lost}");
            return;
        }
        // The report contains it.
        let _ = self.lost.set(lost);
        self.shutdown.request(ExitCode::LeaseHeld);
    }
}

/// Why a run without its lease stops.
const MAY_BE_TAKEN_OVER: &str = ": stopping, because another run may take the lease over";
/// The same, and what to do in outages.
const PASS_A_LONGER_TIMEOUT: &str = ": stopping, because another run may take the lease over. If outages last this long, \
                                     pass a longer --outage-timeout";

fn cannot_renew(seconds: u64, error: &str, why: &str) -> LostLease {
    LostLease::NotRenewed(format!("cannot renew the lease for {seconds} s: {error}{why}"))
}
