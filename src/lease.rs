//! The lease: at most one run writes to a key at a time, where a state is given.
//!
//! 1. *Taking it* is one conditional write. A lease that was not renewed for its time to live is taken over; its age is told
//!    by the clock of where it is kept, not by the holder's.
//! 2. *Holding it* is renewing it, three times in each time to live. A renewal that meets another lease in its place has lost
//!    it; so has a holder that could not renew in time.
//! 3. *A process may be stopped and wake up late*: no write is sent once the time to live has passed since the last renewal
//!    was begun ([`Fence`]). What lies between that look and the sending is for the conditional writes.
//! 4. *Giving it back* leaves it as released, so that the generations go on counting.
//! 5. *Ranges* have a lease each. Whoever has taken one looks at the others of the destination, and gives it back where one
//!    is held whose keys overlap: of two that look after they have taken theirs, one at least sees the other.
//! 6. *Damaged*, it counts as held by nobody knows whom until the time to live has passed since it was written.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::exit_code::ExitCode;
use crate::fence::Fence;
use crate::key_range::KeyRange;
use crate::scope::Scope;
use crate::shutdown::Shutdown;
use crate::state::{Expected, Remembered, State, StateError, Version};

const SCHEMA: u32 = 1;
/// How often a lease is looked at that somebody else changes at the same time.
const TRIES: usize = 3;
const RENEWALS: u32 = 3;
const LEASE: &str = "lease.json";
const LOOKS_AT_ONCE: usize = 16;

/// A lease that is held, and renewed until it is given back.
#[derive(Debug)]
pub struct Lease {
    keeper: Arc<Keeper>,
    renewing: JoinHandle<()>,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another run has it.
    #[error(
        "another run works on this destination: {holder}. Wait for its end; if it is dead, its lease ends by itself"
    )]
    Held {
        /// Who, and when it was last heard of.
        holder: String,
    },
    /// The state cannot be used.
    #[error("the lease cannot be taken: {0}")]
    State(#[from] StateError),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Record {
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
}

#[derive(Debug)]
struct Keeper {
    state: Arc<State>,
    name: String,
    ttl: Duration,
    fence: Fence,
    shutdown: Shutdown,
    held: tokio::sync::Mutex<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    record: Record,
    version: Version,
    /// The last renewal that went well was begun then.
    renewed: Instant,
}

impl Lease {
    /// Takes the lease of a scope.
    ///
    /// # Errors
    /// Where another run holds it, or the state cannot be used.
    pub async fn take(state: Arc<State>, scope: &Scope, ttl: Duration, shutdown: Shutdown) -> Result<Self, LeaseError> {
        let name = scope.file_name(LEASE);
        let begun = Instant::now();
        let (record, version) = take(&state, &name, scope, ttl).await?;
        let fence = Fence::default();
        fence.open_until(begun + ttl);
        let held = tokio::sync::Mutex::new(Held { record, version, renewed: begun });
        let keeper = Arc::new(Keeper { state, name, ttl, fence, shutdown, held });
        let renewing = tokio::spawn(renew(Arc::clone(&keeper)));
        let lease = Self { keeper, renewing };
        match lease.rival(scope).await {
            Ok(None) => Ok(lease),
            rival => {
                lease.release().await;
                Err(rival
                    .map_or_else(LeaseError::from, |holder| LeaseError::Held { holder: holder.unwrap_or_default() }))
            }
        }
    }

    /// Who holds a lease of keys that this one is of too.
    async fn rival(&self, scope: &Scope) -> Result<Option<String>, StateError> {
        let Keeper { state, name, ttl, .. } = &*self.keeper;
        let mut names = state.names(&scope.ranges_folder()).await?;
        names.push(Scope::whole(scope.destination.clone()).file_name(LEASE));
        names.retain(|other| other.ends_with(LEASE) && other != name);
        let mut found = futures::stream::iter(names.iter().map(|other| state.look(other))).buffered(LOOKS_AT_ONCE);
        while let Some(found) = found.next().await {
            let Some(found) = found? else {
                continue;
            };
            if let Judgement::Held { by, keys } = judge(&found, *ttl)
                && keys.overlaps(&scope.keys)
            {
                return Ok(Some(format!("{by}, on {keys}")));
            }
        }
        Ok(None)
    }

    /// Returns the fence that is open while the lease is valid.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.keeper.fence.clone()
    }

    /// Gives the lease back.
    pub async fn release(self) {
        let Keeper { state, name, held, .. } = &*self.keeper;
        // A renewal that is under way comes to its end first.
        let held = held.lock().await;
        self.renewing.abort();
        let Held { record, version, .. } = held.clone();
        let released = Record { released: true, renewed: now(), ..record };
        // What was taken over meanwhile has another version, and stays.
        if let Err(error) = state.replace(name, content(&released), &Expected::Is(version)).await {
            tracing::warn!(%error, "the lease cannot be given back: it ends by itself");
        }
    }
}

async fn take(state: &State, name: &str, scope: &Scope, ttl: Duration) -> Result<(Record, Version), LeaseError> {
    let mut holder = "it changes hands at this moment".to_owned();
    for _ in 0..TRIES {
        let (expected, generation) = match state.look(name).await? {
            None => (Expected::Absent, 1),
            Some(found) => match judge(&found, ttl) {
                Judgement::Free { generation } => (Expected::Is(found.version), generation + 1),
                Judgement::Held { by, .. } => return Err(LeaseError::Held { holder: by }),
            },
        };
        let record = Record {
            schema: SCHEMA,
            destination: scope.destination.to_string(),
            keys: scope.keys.clone(),
            generation,
            host: host(),
            pid: std::process::id(),
            renewed: now(),
            ttl_seconds: ttl.as_secs_f64(),
            released: false,
        };
        if let Some(version) = state.replace(name, content(&record), &expected).await? {
            return Ok((record, version));
        }
        "another run takes it at this moment".clone_into(&mut holder);
    }
    Err(LeaseError::Held { holder })
}

enum Judgement {
    Free {
        generation: u64,
    },
    /// Of damaged ones nobody knows the keys: they count as all.
    Held {
        by: String,
        keys: KeyRange,
    },
}

fn judge(found: &Remembered, ttl: Duration) -> Judgement {
    let age = humantime::format_duration(Duration::from_secs(found.age.as_secs()));
    match serde_json::from_slice::<Record>(&found.content) {
        Ok(record) if record.schema == SCHEMA => {
            let its_ttl = Duration::try_from_secs_f64(record.ttl_seconds).unwrap_or(ttl);
            if record.released || found.age > its_ttl {
                Judgement::Free { generation: record.generation }
            } else {
                let by = format!("process {} on {}, last heard of {age} ago", record.pid, record.host);
                Judgement::Held { by, keys: record.keys }
            }
        }
        _ if found.age > ttl => Judgement::Free { generation: 0 },
        _ => Judgement::Held {
            by: format!("its lease is damaged, so nobody knows whose it is; written {age} ago"),
            keys: KeyRange::default(),
        },
    }
}

/// Renews the lease until it is lost.
async fn renew(keeper: Arc<Keeper>) {
    let pause = keeper.ttl / RENEWALS;
    loop {
        tokio::time::sleep(pause).await;
        let mut held = keeper.held.lock().await;
        let begun = Instant::now();
        let record = Record { renewed: now(), ..held.record.clone() };
        let expected = Expected::Is(held.version.clone());
        match keeper.state.replace(&keeper.name, content(&record), &expected).await {
            Ok(Some(version)) => {
                keeper.fence.open_until(begun + keeper.ttl);
                *held = Held { record, version, renewed: begun };
            }
            Ok(None) => {
                tracing::error!("the lease was taken over by another run: this one ends");
                return keeper.shutdown.request(ExitCode::LeaseHeld);
            }
            Err(error) if held.renewed.elapsed() < keeper.ttl => {
                tracing::warn!(%error, "the lease cannot be renewed; trying again");
            }
            Err(error) => {
                tracing::error!(%error, "the lease could not be renewed in time: this run ends");
                return keeper.shutdown.request(ExitCode::LeaseHeld);
            }
        }
    }
}

fn content(record: &Record) -> Bytes {
    serde_json::to_vec_pretty(record).unwrap_or_default().into()
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RelativeKey;

    const TTL: Duration = Duration::from_millis(600);

    fn place() -> (tempfile::TempDir, Arc<State>, Scope) {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::Folder(folder.path().to_owned()));
        (folder, state, Scope::whole("s3://site/www".parse().unwrap()))
    }

    async fn take(state: &Arc<State>, scope: &Scope, shutdown: &Shutdown) -> Result<Lease, LeaseError> {
        Lease::take(Arc::clone(state), scope, TTL, shutdown.clone()).await
    }

    #[tokio::test]
    async fn one_holds_it_until_it_gives_it_back_and_another_destination_is_another_lease() {
        let (_folder, state, destination) = place();
        let first = take(&state, &destination, &Shutdown::default()).await.unwrap();
        let held = take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        assert!(held.to_string().contains(&format!("process {}", std::process::id())), "{held}");
        let elsewhere = Scope::whole("s3://site/other".parse().unwrap());
        take(&state, &elsewhere, &Shutdown::default()).await.unwrap();
        tokio::time::sleep(TTL * 2).await;
        take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        first.release().await;
        let second = take(&state, &destination, &Shutdown::default()).await.unwrap();
        assert_eq!(second.keeper.held.lock().await.record.generation, 2);
    }

    #[tokio::test]
    async fn one_that_is_not_renewed_is_taken_over_and_its_late_holder_may_not_write() {
        let (_folder, state, destination) = place();
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
    async fn a_holder_whose_lease_is_replaced_ends() {
        let (folder, state, destination) = place();
        let shutdown = Shutdown::default();
        let _first = take(&state, &destination, &shutdown).await.unwrap();
        let file = folder.path().join(destination.file_name(LEASE));
        std::fs::write(&file, "somebody else's").unwrap();
        tokio::time::timeout(TTL, shutdown.requested()).await.unwrap();
        assert_eq!(shutdown.exit_code(), Some(crate::exit_code::ExitCode::LeaseHeld));
        // Damaged, it is nobody's until its time has passed.
        let unknown = take(&state, &destination, &Shutdown::default()).await.unwrap_err();
        assert!(unknown.to_string().contains("damaged"), "{unknown}");
        tokio::time::sleep(TTL + TTL / 2).await;
        take(&state, &destination, &Shutdown::default()).await.unwrap();
    }

    #[tokio::test]
    async fn ranges_run_side_by_side_and_never_beside_one_that_overlaps() {
        let (_folder, state, whole) = place();
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
