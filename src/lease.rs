//! Lease: with a state, at most one run writes to a key at a time.
//!
//! 1. *Taking* a lease is one conditional write. A run takes over a lease that was not renewed for its time to live. The
//!    clock of the place where the lease is stored shows its age (`DESIGN.md#lease-clock`).
//! 2. *Holding* a lease is renewing it three times in each time to live. The run has lost the lease if a renewal finds
//!    another version stored, or if the renewal fails after it has expired, at the latest the outage timeout after that ([`renewal`]).
//! 3. *A suspended process may wake up late*, so the [`Fence`] closes once the time to live has passed since the last
//!    successful renewal was started. Conditional writes protect what is sent between that check and the request.
//! 4. *Releasing* a lease keeps its file with `released: true`, so that the generations keep counting.
//! 5. *Each key range has a lease of its own*. A run takes its lease, reads the other leases of the destination, and
//!    releases its own if a valid one overlaps. Of two runs that do this, at least one sees the other.
//! 6. *A server that ignores conditional writes* gives the same lease to two runs. The first run with a state on S3 finds
//!    this out, and the lease records where they work (`DESIGN.md#lease-probe`).
//! 7. *A damaged lease* counts as held by an unknown run until its time to live has passed since it was written.
//!
//! The exit code of a run that does not have its lease ([`LeaseError::exit_code`]):
//!
//! | the run | exit code |
//! |---|---|
//! | finds that another run holds the lease, at any time | 11 |
//! | fails to read or write the state before its work starts | 1 |
//! | fails to renew the lease during its work | 11: another run may take the lease over |

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::exit_code::ExitCode;
use crate::fence::Fence;
use crate::key_range::KeyRange;
use crate::scope::Scope;
use crate::shutdown::Shutdown;
use crate::state::{ExpectedVersion, State, StateError, StateRecord, Version};

mod renewal;

use renewal::{Held, NotRenewed, renew};

const SCHEMA: u32 = 1;
/// How often a run tries to take a lease that other runs change at the same time.
const ATTEMPTS: usize = 3;
const LEASE: &str = "lease.json";
const PARALLEL_READS: usize = 16;
/// How long a run tries to release its lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of its time to live by which a lease may seem to be released too early.
const RELEASE_MARGIN: u32 = 10;
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// How long a lease is valid without a renewal.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// After this time, another run may take the lease over.
    pub ttl: Duration,
    /// How long after that the run waits for a renewal that shows that no other run did.
    pub outage_timeout: Duration,
}

/// A lease that is held, and renewed until it is released or lost.
#[derive(Debug)]
pub struct Lease {
    holder: Arc<LeaseHolder>,
    /// A lease that is dropped without a release is renewed no more, and expires.
    renewing: AbortOnDropHandle<()>,
}

/// Why the run has no lease.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum LeaseError {
    #[error(
        "another run holds the lease on this destination: {holder}. Wait until that run ends; if its process is dead, the lease expires on its own"
    )]
    Held {
        /// The process, its host, and the time since the last renewal.
        holder: String,
    },
    #[error("cannot take the lease of this destination in the state: {0}")]
    State(#[from] StateError),
    /// The run took the lease, and lost it before its work started.
    #[error("{0}")]
    Lost(LostLease),
}

/// How the run lost its lease, as a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostLease {
    /// Another run took the lease over, or the lease was deleted.
    #[error("{0}")]
    ToAnother(String),
    /// The run could not renew the lease.
    #[error("{0}")]
    NotRenewed(String),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct LeaseRecord {
    schema: u32,
    destination: String,
    #[serde(default)]
    keys: KeyRange,
    generation: u64,
    host: String,
    pid: u32,
    renewed: String,
    ttl_seconds: f64,
    released: bool,
    /// The store on which conditional writes were seen to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conditional_writes: Option<String>,
}

/// What the run and the task that renews its lease share.
#[derive(Debug)]
struct LeaseHolder {
    state: Arc<State>,
    scope: Scope,
    name: String,
    times: LeaseTimes,
    fence: Fence,
    shutdown: Shutdown,
    held: tokio::sync::Mutex<Held>,
    lost: OnceLock<LostLease>,
}

enum LeaseStatus {
    Free { generation: u64, keys: KeyRange, released: bool },
    Held { by: String, keys: KeyRange },
}

/// What the other leases of the destination show.
#[derive(Debug, Default)]
struct OtherLeases {
    /// The holder of a lease with some of the same keys.
    overlapping: Option<String>,
    /// Whether one of them records that conditional writes work.
    has_proof: bool,
}

impl LeaseError {
    /// The exit code of a run that ends with this error before its work starts.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Held { .. } | Self::Lost(LostLease::ToAnother(_)) => ExitCode::LeaseHeld,
            Self::State(_) | Self::Lost(LostLease::NotRenewed(_)) => ExitCode::Fatal,
        }
    }
}

impl Lease {
    /// Takes the lease of a scope. The run is requested to stop if it loses the lease.
    ///
    /// # Errors
    /// Returns an error if another run holds this lease or one that overlaps, or if the state cannot be read or written.
    pub async fn take(
        state: Arc<State>,
        scope: &Scope,
        times: LeaseTimes,
        shutdown: Shutdown,
    ) -> Result<Self, LeaseError> {
        // A timeout may be endless.
        let LeaseTimes { ttl, outage_timeout } = times;
        let times = LeaseTimes { ttl, outage_timeout: outage_timeout.min(LONGEST_WAIT) };
        let name = scope.file_name(LEASE);
        let renewed = Instant::now();
        let (record, version) = take(&state, &name, scope, ttl).await?;
        let fence = Fence::default();
        fence.open_until(renewed + ttl);
        let held = tokio::sync::Mutex::new(Held::new(record, version, renewed));
        let (scope, lost) = (scope.clone(), OnceLock::new());
        let holder = LeaseHolder { state, scope, name, times, fence, shutdown: shutdown.clone(), held, lost };
        let holder = Arc::new(holder);
        let renewing = AbortOnDropHandle::new(tokio::spawn(renew(Arc::clone(&holder))));
        let lease = Self { holder, renewing };
        let checked = tokio::select! {
            biased;
            checked = lease.check() => checked,
            // The time that is left is for the release.
            () = shutdown.stop_requested() => Err(StateError::Stopped.into()),
        };
        match checked {
            Ok(()) => Ok(lease),
            Err(error) => {
                // The error of the state says more than that the lease expired meanwhile.
                let is_of_state = matches!(&error, LeaseError::State(error) if !matches!(error, StateError::Stopped));
                let lost = lease.lost().filter(|lost| !is_of_state || matches!(lost, LostLease::ToAnother(_)));
                let lost = lost.map(LeaseError::Lost);
                lease.release().await;
                Err(lost.unwrap_or(error))
            }
        }
    }

    /// Checks that no other lease overlaps, and that the server of the state refuses conditional writes.
    async fn check(&self) -> Result<(), LeaseError> {
        match self.holder.others(None).await? {
            OtherLeases { overlapping: Some(holder), .. } => Err(LeaseError::Held { holder }),
            OtherLeases { has_proof, .. } => Ok(self.prove_conditions(has_proof).await?),
        }
    }

    /// Checks once that the server of the state refuses a conditional write; the next renewal records it.
    async fn prove_conditions(&self, has_proof: bool) -> Result<(), StateError> {
        let LeaseHolder { state, name, held, .. } = &*self.holder;
        let Some(store) = state.store().map(ToString::to_string) else {
            return Ok(());
        };
        let mut held = held.lock().await;
        if held.record.conditional_writes.as_ref() == Some(&store) {
            return Ok(());
        }
        if !has_proof {
            // If the condition is ignored, the lease becomes free.
            let probe = LeaseRecord { released: true, ..held.record.clone() };
            state.check_conditions(name, &content(&probe)).await?;
        }
        held.record.conditional_writes = Some(store);
        Ok(())
    }

    /// Returns the fence, which is open while the lease is valid.
    pub(crate) fn fence(&self) -> Fence {
        self.holder.fence.clone()
    }

    /// How the run has lost the lease, if that is so.
    pub(crate) fn lost(&self) -> Option<LostLease> {
        self.holder.lost.get().cloned()
    }

    /// Releases the lease; only for a short time, because the lease expires on its own.
    pub async fn release(self) {
        if let Err(error) = tokio::time::timeout(RELEASE_TIMEOUT, self.try_release())
            .await
            .unwrap_or_else(|_| Err(format!("the state did not accept it within {} s", RELEASE_TIMEOUT.as_secs())))
        {
            tracing::warn!(error, "cannot release the lease: it expires on its own");
        }
    }

    async fn try_release(&self) -> Result<(), String> {
        let LeaseHolder { state, name, held, .. } = &*self.holder;
        // The lock waits for a renewal in flight.
        let held = held.lock().await;
        self.renewing.abort();
        let released = LeaseRecord { released: true, renewed: now(), ..held.record.clone() };
        let replace = async |version: &Version| {
            state.replace(name, content(&released), &ExpectedVersion::Is(version.clone())).await
        };
        let mut version = held.version.clone();
        let mut replaced = replace(&version).await;
        if matches!(replaced, Ok(None)) && !held.unproven.is_empty() {
            // The state may hold what a renewal of this run sent.
            version = match self.holder.find_own(&held).await {
                Ok(own) => own,
                Err(NotRenewed::State(error)) => return Err(error.to_string()),
                Err(_) => return Ok(()),
            };
            replaced = replace(&version).await;
        }
        // If another run took the lease over, its version differs and stays.
        let Err(error) = replaced else {
            return Ok(());
        };
        // A full disk takes no new record.
        if state.remove_version(name, version).await.unwrap_or_default() {
            return Ok(());
        }
        Err(error.to_string())
    }
}

impl LeaseHolder {
    /// Reads the other leases of the destination. After the expiry of a lease renewed at `renewed`, those count too whose
    /// runs may have found it expired.
    async fn others(&self, renewed: Option<Instant>) -> Result<OtherLeases, StateError> {
        let mut found = OtherLeases::default();
        let Self { state, scope, name, times, .. } = self;
        let mut names = state.names(&scope.ranges_folder()).await?;
        names.push(Scope::whole(scope.destination.clone()).file_name(LEASE));
        names.retain(|other| other.ends_with(LEASE) && other != name);
        let reads = names.into_iter().map(|other| {
            let state = Arc::clone(state);
            async move { state.read(&other).await }
        });
        let mut others = futures::stream::iter(reads).buffered(PARALLEL_READS);
        while let Some(other) = others.next().await {
            let Some(other) = other? else {
                continue;
            };
            found.has_proof |=
                proof(&other).is_some_and(|store| state.store().is_some_and(|own| own.to_string() == store));
            let (by, keys) = match status(&other, times.ttl) {
                LeaseStatus::Held { by, keys } => (by, keys),
                LeaseStatus::Free { keys, released, .. }
                    if renewed.is_some_and(|renewed| other.age <= self.age_in_doubt(renewed, released)) =>
                {
                    ("a run that has released it since".to_owned(), keys)
                }
                LeaseStatus::Free { .. } => continue,
            };
            if keys.overlaps(&scope.keys) {
                found.overlapping = Some(format!("{by}, on {keys}"));
                break;
            }
        }
        Ok(found)
    }

    /// The age up to which a lease that is free now may be that of a run that found this one expired. Such a run releases
    /// its lease after that. If it has not released it, it may have written its file long before it read the others.
    fn age_in_doubt(&self, renewed: Instant, released: bool) -> Duration {
        let ttl = self.times.ttl;
        let valid = if released { ttl.saturating_sub(ttl / RELEASE_MARGIN) } else { Duration::ZERO };
        renewed.elapsed().saturating_sub(valid)
    }
}

async fn take(state: &State, name: &str, scope: &Scope, ttl: Duration) -> Result<(LeaseRecord, Version), LeaseError> {
    for _ in 0..ATTEMPTS {
        let (expected, generation, conditional_writes) = match state.read(name).await? {
            None => (ExpectedVersion::Absent, 1, None),
            Some(record) => match status(&record, ttl) {
                LeaseStatus::Free { generation, .. } => {
                    let proof = proof(&record);
                    (ExpectedVersion::Is(record.version), generation + 1, proof)
                }
                LeaseStatus::Held { by, .. } => return Err(LeaseError::Held { holder: by }),
            },
        };
        let record = LeaseRecord {
            schema: SCHEMA,
            destination: scope.destination.to_string(),
            keys: scope.keys.clone(),
            generation,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            renewed: now(),
            ttl_seconds: ttl.as_secs_f64(),
            released: false,
            conditional_writes,
        };
        if let Some(version) = state.replace(name, content(&record), &expected).await? {
            return Ok((record, version));
        }
    }
    Err(LeaseError::Held { holder: "a run that takes it right now".to_owned() })
}

fn status(record: &StateRecord, ttl: Duration) -> LeaseStatus {
    let age = humantime::format_duration(Duration::from_secs(record.age.as_secs()));
    match serde_json::from_slice::<LeaseRecord>(&record.content) {
        Ok(lease) if lease.schema == SCHEMA => {
            let its_ttl = Duration::try_from_secs_f64(lease.ttl_seconds).unwrap_or(ttl);
            if lease.released || record.age > its_ttl {
                LeaseStatus::Free { generation: lease.generation, keys: lease.keys, released: lease.released }
            } else {
                let left =
                    humantime::format_duration(Duration::from_secs(its_ttl.saturating_sub(record.age).as_secs()));
                let (pid, host) = (lease.pid, lease.host);
                let by = format!("process {pid} on {host}, last renewed {age} ago, expires in {left} if not renewed");
                LeaseStatus::Held { by, keys: lease.keys }
            }
        }
        _ if record.age > ttl => LeaseStatus::Free { generation: 0, keys: KeyRange::default(), released: false },
        // The keys of a damaged lease are unknown, so it covers all keys.
        _ => LeaseStatus::Held {
            by: format!("an unknown run (the lease is damaged), last renewed {age} ago"),
            keys: KeyRange::default(),
        },
    }
}

/// Returns the store on which a lease records that conditional writes work.
fn proof(record: &StateRecord) -> Option<String> {
    serde_json::from_slice::<LeaseRecord>(&record.content).ok()?.conditional_writes
}

fn content(record: &LeaseRecord) -> Bytes {
    serde_json::to_vec_pretty(record).unwrap_or_default().into()
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RelativeKey;

    const TTL: Duration = Duration::from_millis(600);

    fn state() -> (tempfile::TempDir, Arc<State>, Scope) {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::in_folder(folder.path().to_owned(), Shutdown::default()));
        (folder, state, Scope::whole("s3://site/www".parse().unwrap()))
    }

    async fn take(state: &Arc<State>, scope: &Scope, shutdown: &Shutdown) -> Result<Lease, LeaseError> {
        let times = LeaseTimes { ttl: TTL, outage_timeout: TTL };
        Lease::take(Arc::clone(state), scope, times, shutdown.clone()).await
    }

    #[tokio::test]
    async fn one_run_at_a_time_holds_the_lease_of_a_destination() {
        let (_folder, state, destination) = state();
        let first = take(&state, &destination, &Shutdown::default()).await.unwrap();
        let held = take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        assert!(held.to_string().contains(&format!("process {}", std::process::id())), "{held}");
        let elsewhere = Scope::whole("s3://site/other".parse().unwrap());
        take(&state, &elsewhere, &Shutdown::default()).await.unwrap();
        tokio::time::sleep(TTL * 2).await;
        take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        first.release().await;
        let second = take(&state, &destination, &Shutdown::default()).await.unwrap();
        assert_eq!(second.holder.held.lock().await.record.generation, 2);
    }

    #[tokio::test]
    async fn lease_not_renewed_is_taken_over_and_its_holder_may_not_write() {
        let (_folder, state, destination) = state();
        let first = take(&state, &destination, &Shutdown::default()).await.unwrap();
        let fence = first.fence();
        first.renewing.abort();
        assert!(fence.may_write());
        tokio::time::sleep(TTL + TTL / 2).await;
        assert!(!fence.may_write());
        let second = take(&state, &destination, &Shutdown::default()).await.unwrap();
        first.release().await;
        take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        second.release().await;
    }

    #[tokio::test]
    async fn holder_of_a_replaced_lease_stops_with_exit_code_11() {
        let (folder, state, destination) = state();
        let shutdown = Shutdown::default();
        let _first = take(&state, &destination, &shutdown).await.unwrap();
        let file = folder.path().join(destination.file_name(LEASE));
        std::fs::write(&file, "damaged").unwrap();
        tokio::time::timeout(TTL, shutdown.requested()).await.unwrap();
        assert_eq!(shutdown.exit_code(), Some(ExitCode::LeaseHeld));
        // The damaged lease counts as held until its time to live has passed.
        let unknown = take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        assert!(unknown.to_string().contains("damaged"), "{unknown}");
        tokio::time::sleep(TTL + TTL / 2).await;
        take(&state, &destination, &Shutdown::default()).await.unwrap();
    }

    /// A lease whose state cannot be written until it has expired. `meanwhile` is what another run does in that time.
    async fn expired(meanwhile: impl AsyncFnOnce(Arc<State>, Scope)) -> (bool, Option<String>) {
        expired_after(async |_, _| {}, meanwhile).await
    }

    /// The same; `before` is what another run does before the lease has expired.
    async fn expired_after(
        before: impl AsyncFnOnce(Arc<State>, Scope),
        meanwhile: impl AsyncFnOnce(Arc<State>, Scope),
    ) -> (bool, Option<String>) {
        let (folder, state, whole) = state();
        let keys = KeyRange::new(RelativeKey::new("b"), RelativeKey::new("d")).unwrap();
        let scope = Scope { keys, ..whole.clone() };
        let times = LeaseTimes { ttl: TTL, outage_timeout: Duration::from_mins(1) };
        let lease = Lease::take(Arc::clone(&state), &scope, times, Shutdown::default()).await.unwrap();
        before(Arc::clone(&state), whole.clone()).await;
        let moved = folder.path().with_extension("moved");
        std::fs::rename(folder.path(), &moved).unwrap();
        std::fs::write(folder.path(), "not a folder").unwrap();
        tokio::time::sleep(TTL * 2).await;
        assert!(!lease.fence().may_write());
        meanwhile(Arc::new(State::in_folder(moved.clone(), Shutdown::default())), whole).await;
        std::fs::remove_file(folder.path()).unwrap();
        std::fs::rename(&moved, folder.path()).unwrap();
        (lease.fence().opened().await, lease.lost().map(|lost| lost.to_string()))
    }

    #[tokio::test]
    async fn an_expired_lease_is_renewed_unless_a_run_held_one_that_overlaps() {
        assert_eq!(expired(async |_, _| {}).await, (true, None));
        let other = async |state: Arc<State>, whole: Scope, after: &str, to: &str| {
            let keys = KeyRange::new(RelativeKey::new(after), RelativeKey::new(to)).unwrap();
            take(&state, &Scope { keys, ..whole }, &Shutdown::default()).await.unwrap().release().await;
        };
        let beside = expired(async |state, whole| other(state, whole, "d", "f").await).await;
        assert_eq!(beside, (true, None));
        // This run finds the lease before it has expired, and exits.
        let refused = async |state: Arc<State>, whole: Scope| {
            let keys = KeyRange::new(RelativeKey::new("c"), RelativeKey::new("f")).unwrap();
            take(&state, &Scope { keys, ..whole }, &Shutdown::default()).await.unwrap_err();
        };
        assert_eq!(expired_after(refused, async |_, _| {}).await, (true, None));
        let (may_write, lost) = expired(async |state, whole| other(state, whole, "c", "f").await).await;
        assert!(!may_write && lost.unwrap().contains("another run took over the lease"));
    }

    #[tokio::test]
    async fn a_lease_is_renewed_once_the_folder_of_the_state_is_back() {
        let (folder, state, destination) = state();
        let times = LeaseTimes { ttl: TTL, outage_timeout: Duration::from_mins(1) };
        let lease = Lease::take(Arc::clone(&state), &destination, times, Shutdown::default()).await.unwrap();
        let moved = folder.path().with_extension("moved");
        std::fs::rename(folder.path(), &moved).unwrap();
        tokio::time::sleep(TTL * 2).await;
        assert!(!lease.fence().may_write() && !folder.path().exists());
        std::fs::rename(&moved, folder.path()).unwrap();
        assert!(lease.fence().opened().await, "{:?}", lease.lost());
    }

    #[test]
    fn a_lease_of_another_run_is_exit_code_11_and_a_state_that_fails_is_exit_code_1() {
        let text = String::new;
        let lost = |lost| LeaseError::Lost(lost).exit_code();
        assert_eq!(LeaseError::Held { holder: text() }.exit_code(), ExitCode::LeaseHeld);
        assert_eq!(lost(LostLease::ToAnother(text())), ExitCode::LeaseHeld);
        assert_eq!(lost(LostLease::NotRenewed(text())), ExitCode::Fatal);
        assert_eq!(LeaseError::State(StateError::Stopped).exit_code(), ExitCode::Fatal);
    }

    #[tokio::test]
    async fn release_replaces_what_a_renewal_stored_without_a_response() {
        let (_folder, state, destination) = state();
        let first = take(&state, &destination, &Shutdown::default()).await.unwrap();
        {
            let mut held = first.holder.held.lock().await;
            let sent = content(&LeaseRecord { renewed: "later".to_owned(), ..held.record.clone() });
            let expected = ExpectedVersion::Is(held.version.clone());
            state.replace(&first.holder.name, sent.clone(), &expected).await.unwrap().unwrap();
            held.unproven.push(sent);
        }
        first.release().await;
        take(&state, &destination, &Shutdown::default()).await.unwrap();
    }

    #[tokio::test]
    async fn runs_hold_leases_concurrently_unless_their_key_ranges_overlap() {
        let (_folder, state, whole) = state();
        let range = |after: &str, to: &str| {
            let keys = KeyRange::new(RelativeKey::new(after), RelativeKey::new(to)).unwrap();
            Scope { keys, ..whole.clone() }
        };
        let first = take(&state, &range("", "m"), &Shutdown::default()).await.unwrap();
        let second = take(&state, &range("m", ""), &Shutdown::default()).await.unwrap();
        for overlapping in [whole.clone(), range("a", "b"), range("l", "n"), range("x", "")] {
            let held = take(&state, &overlapping, &Shutdown::default()).await.unwrap_err();
            assert!(held.to_string().contains("on keys"), "{held}");
        }
        first.release().await;
        take(&state, &range("a", "b"), &Shutdown::default()).await.unwrap().release().await;
        second.release().await;
        let all = take(&state, &whole, &Shutdown::default()).await.unwrap();
        take(&state, &range("", "m"), &Shutdown::default()).await.unwrap_err();
        all.release().await;
        take(&state, &range("", "m"), &Shutdown::default()).await.unwrap();
    }
}
