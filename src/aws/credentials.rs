//! The credentials of all AWS clients of the process (`DESIGN.md#own-credentials`).
//!
//! ```text
//! valid, and not due       use them
//! valid, and due           use them, and ask the source for new ones meanwhile; a failure changes nothing
//! missing, ended, rejected wait for the source: it is asked again for a bounded time if it may respond later
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::error_kind::ErrorKind;
use super::error_response::ErrorForm;
use super::no_credentials::{ATTEMPT_TIMEOUT, NoCredentials, PATIENCE};
use super::{ConnectError, Service};

/// How long before their end credentials are due, at most; a quarter of their life if that is shorter.
const AHEAD: Duration = Duration::from_mins(5);
/// The longest pause before the first retry. It doubles with each retry.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long credentials that the source could not renew are not due.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How often a request is sent again with other credentials.
const MOST_RENEWALS: u32 = 3;
/// A fetch that is older may be at the end of its time when a request starts to wait for it.
const YOUNG_FETCH: Duration = Duration::from_secs(5);
/// How long new credentials are used that have ended already by this host's clock, which may be wrong.
const LEAST_LIFE: Duration = Duration::from_mins(1);

/// The credentials of the process. Clones share them.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Shelf>);

/// Which credentials a request was signed with: the credentials that the source returned as the n-th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// Creates the provider of the settings, and reads the settings files again.
pub(super) type Load =
    Box<dyn Fn() -> BoxFuture<'static, Result<SharedCredentialsProvider, ConnectError>> + Send + Sync>;

type Fetch = Shared<BoxFuture<'static, Result<(), NoCredentials>>>;

struct Shelf {
    load: Load,
    provider: tokio::sync::Mutex<Option<SharedCredentialsProvider>>,
    held: Mutex<Held>,
}

/// What the source has returned so far.
#[derive(Default)]
struct Held {
    current: Option<Current>,
    generation: Generation,
    /// The last credentials that AWS rejected.
    rejected: Option<Keys>,
    fetch: Option<(Instant, Fetch)>,
    /// Whether the end of the current credentials was logged.
    has_logged_end: bool,
}

struct Current {
    keys: Keys,
    generation: Generation,
    due: Option<SystemTime>,
    ends: Option<SystemTime>,
}

impl Credentials {
    pub(super) fn new(load: Load) -> Self {
        Self(Arc::new(Shelf { load, provider: tokio::sync::Mutex::default(), held: Mutex::default() }))
    }

    /// Returns once there are valid credentials.
    ///
    /// # Errors
    /// Returns an error if the source has none, or does not return any within its time.
    pub(crate) async fn ready(&self) -> Result<Generation, NoCredentials> {
        self.valid().await.map(|(_, generation)| generation)
    }

    /// Drops credentials that AWS rejected, and asks their source for others. Returns whether there are others now.
    pub(crate) async fn renew(&self, rejected: Generation) -> bool {
        if self.0.reject(rejected) {
            tracing::debug!("AWS rejects the credentials: asking their source for others");
            *self.0.provider.lock().await = None;
        }
        self.valid().await.is_ok_and(|(keys, _)| !self.0.has_rejected(&keys))
    }

    /// Sends a request once there are credentials, and again with others if AWS rejects them.
    ///
    /// # Errors
    /// Returns an error if there are no credentials.
    pub(crate) async fn send<T, E, F>(
        &self,
        service: Service,
        request: impl Fn() -> F,
    ) -> Result<Result<T, SdkError<E, Response>>, NoCredentials>
    where
        F: Future<Output = Result<T, SdkError<E, Response>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut renewals = 0;
        loop {
            let generation = Box::pin(self.ready()).await?;
            let response = Box::pin(request()).await;
            let is_rejected = |error| ErrorKind::of(service, ErrorForm::Document, error) == ErrorKind::Expired;
            if !response.as_ref().is_err_and(is_rejected)
                || renewals == MOST_RENEWALS
                || !Box::pin(self.renew(generation)).await
            {
                return Ok(response);
            }
            renewals += 1;
        }
    }

    async fn valid(&self) -> Result<(Keys, Generation), NoCredentials> {
        let mut is_last = false;
        loop {
            let fetch = {
                let mut held = self.0.held();
                let now = SystemTime::now();
                if let Some(current) = held.current.as_ref().filter(|current| current.is_valid(now)) {
                    let found = (current.keys.clone(), current.generation);
                    if current.is_due(now) && held.fetch.is_none() {
                        drop(self.start_fetch(&mut held));
                    }
                    return Ok(found);
                }
                if let Some((started, fetch)) = &held.fetch {
                    is_last |= started.elapsed() < YOUNG_FETCH;
                    fetch.clone()
                } else {
                    is_last = true;
                    self.start_fetch(&mut held)
                }
            };
            let fetched = fetch.clone().await;
            // Its task may have ended with its runtime.
            self.0.held().fetch.take_if(|(_, other)| other.ptr_eq(&fetch));
            match fetched {
                Ok(()) => {}
                Err(error) if is_last => return Err(error),
                Err(_) => is_last = true,
            }
        }
    }

    /// Starts a task that asks the source: a request that is dropped must not end it.
    fn start_fetch(&self, held: &mut Held) -> Fetch {
        let home = Arc::clone(&self.0);
        let task = tokio::spawn(async move { home.fetch().await });
        let fetch = task.map(|ended| ended.unwrap_or_else(|_| Err(NoCredentials::unfinished()))).boxed().shared();
        held.fetch = Some((Instant::now(), fetch.clone()));
        fetch
    }
}

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the source until it returns credentials, for a bounded time.
    async fn fetch(&self) -> Result<(), NoCredentials> {
        let started = Instant::now();
        let mut ceiling = FIRST_PAUSE;
        let fetched = loop {
            let asked = self.ask().await;
            let patience = match &asked {
                // Credentials without an end do not change by themselves.
                Ok(keys) if self.has_rejected(keys) => keys.expiry().map(|_| PATIENCE),
                Ok(_) => None,
                Err(error) => error.patience,
            };
            let pause = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
            if patience.is_none_or(|patience| started.elapsed() + pause >= patience) {
                break asked;
            }
            let error = asked.err().map(|error| error.message);
            if let Some((error, patience)) = error.as_ref().zip(patience) {
                self.log_end(error, patience.saturating_sub(started.elapsed()));
            }
            tracing::debug!(error, "asking the source of the credentials again");
            tokio::time::sleep(pause).await;
            ceiling = (ceiling * 2).min(LONGEST_PAUSE);
        };
        let mut held = self.held();
        held.fetch = None;
        match fetched {
            Ok(keys) => {
                held.generation.0 += 1;
                held.current = Some(Current::new(keys, held.generation, SystemTime::now()));
                held.has_logged_end = false;
                Ok(())
            }
            Err(error) => {
                let now = SystemTime::now();
                if let Some(current) = held.current.as_mut().filter(|current| current.is_valid(now)) {
                    current.due = Some(now + AFTER_FAILURE);
                    let until = current.ends.map(|ends| format!(" until they end at {}", time_of_day(ends)));
                    let until = until.unwrap_or_default();
                    tracing::warn!(%error, "cannot renew the credentials: using the old ones{until}");
                }
                Err(error)
            }
        }
    }

    /// Logs once that the credentials have ended while their source fails.
    fn log_end(&self, error: &str, left: Duration) {
        let mut held = self.held();
        let now = SystemTime::now();
        let Some(ended) = held.current.as_ref().and_then(|current| current.ends).filter(|ends| *ends <= now) else {
            return;
        };
        if !std::mem::replace(&mut held.has_logged_end, true) {
            let (ended, left) = (time_of_day(ended), humantime::format_duration(Duration::from_secs(left.as_secs())));
            tracing::warn!(
                error,
                "the credentials ended at {ended}, and their source still fails: retrying for up to {left}"
            );
        }
    }

    async fn ask(&self) -> Result<Keys, NoCredentials> {
        let provider = self.provider().await.map_err(|error| NoCredentials::permanent(&error.to_string()))?;
        match tokio::time::timeout(ATTEMPT_TIMEOUT, provider.provide_credentials()).await {
            Ok(keys) => keys.map_err(|error| NoCredentials::from(&error)),
            Err(_) => Err(NoCredentials::from(&CredentialsError::provider_timed_out(ATTEMPT_TIMEOUT))),
        }
    }

    async fn provider(&self) -> Result<SharedCredentialsProvider, ConnectError> {
        let mut provider = self.provider.lock().await;
        if let Some(provider) = &*provider {
            return Ok(provider.clone());
        }
        Ok(provider.insert((self.load)().await?).clone())
    }

    /// Drops the credentials if they are these. Returns whether they were.
    fn reject(&self, rejected: Generation) -> bool {
        let mut held = self.held();
        let dropped = held.current.take_if(|current| current.generation == rejected);
        let Some(current) = dropped else {
            return false;
        };
        held.rejected = Some(current.keys);
        true
    }

    /// Whether these are the last credentials that AWS rejected.
    fn has_rejected(&self, keys: &Keys) -> bool {
        self.held().rejected.as_ref().is_some_and(|rejected| {
            (rejected.access_key_id(), rejected.session_token()) == (keys.access_key_id(), keys.session_token())
        })
    }
}

impl Current {
    fn new(keys: Keys, generation: Generation, now: SystemTime) -> Self {
        let ends = keys.expiry().map(|ends| if ends > now { ends } else { now + LEAST_LIFE });
        let due = ends.and_then(|ends| {
            let life = ends.duration_since(now).ok()?;
            ends.checked_sub((life / 4).min(AHEAD).mul_f64(0.8 + fastrand::f64() / 5.0))
        });
        Self { keys, generation, due, ends }
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.due.is_some_and(|due| now >= due)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl ProvideCredentials for Credentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let provided = async {
            let valid = self.valid().await;
            valid.map(|(keys, _)| keys).map_err(|error| CredentialsError::provider_error(error.message))
        };
        future::ProvideCredentials::new(provided)
    }
}

/// Returns a time as it is shown in a log line.
fn time_of_day(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Keys of this name, or an error.
    type Response = Result<&'static str, fn() -> CredentialsError>;

    /// A source whose n-th response is the n-th of these, or else the last one: keys of this name, or an error.
    #[derive(Clone, Debug)]
    struct Source {
        responses: Arc<Vec<Response>>,
        asked: Arc<AtomicUsize>,
    }

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            let response = self.responses.get(number).or(self.responses.last()).unwrap();
            future::ProvideCredentials::ready(match response {
                Ok(name) => Ok(keys(name, Some(Duration::from_hours(1)))),
                Err(error) => Err(error()),
            })
        }
    }

    fn keys(name: &str, life: Option<Duration>) -> Keys {
        Keys::new(name, "s", None, life.map(|life| SystemTime::now() + life), "test")
    }

    fn credentials(responses: &[Response]) -> (Credentials, Arc<AtomicUsize>) {
        let source = Source { responses: Arc::new(responses.to_vec()), asked: Arc::default() };
        let asked = Arc::clone(&source.asked);
        let load = move || {
            let source = source.clone();
            async move { Ok(SharedCredentialsProvider::new(source)) }.boxed()
        };
        (Credentials::new(Box::new(load)), asked)
    }

    fn busy() -> CredentialsError {
        CredentialsError::provider_error("Non-success status from HTTP credential provider: StatusCode(429)")
    }

    fn silent() -> CredentialsError {
        CredentialsError::provider_error("no route")
    }

    async fn name(credentials: &Credentials) -> Result<String, NoCredentials> {
        credentials.valid().await.map(|(keys, _)| keys.access_key_id().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_one_fetch_and_its_failure() {
        let (credentials, asked) = credentials(&[Err(busy), Err(busy), Ok("a")]);
        let found = futures::future::join_all((0..20).map(|_| name(&credentials))).await;
        assert!(found.iter().all(|found| found.as_deref() == Ok("a")));
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_asked_for_a_bounded_time() {
        let cases: [(Response, u64, u64); 2] = [(Err(busy), 50, 60), (Err(silent), 15, 20)];
        for (error, least, most) in cases {
            let (credentials, _) = credentials(&[error]);
            let started = Instant::now();
            let failed = futures::future::join_all((0..20).map(|_| name(&credentials))).await;
            assert!(failed.iter().all(Result::is_err));
            assert!((least..=most).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_keeps_valid_credentials() {
        let (credentials, asked) = credentials(&[Ok("a"), Err(busy)]);
        assert_eq!(name(&credentials).await.as_deref(), Ok("a"));
        credentials.0.held().current.as_mut().unwrap().due = Some(SystemTime::now());
        for _ in 0..3 {
            assert_eq!(name(&credentials).await.as_deref(), Ok("a"), "does not wait for the source");
            tokio::time::sleep(Duration::from_mins(2)).await;
        }
        assert!(asked.load(Ordering::SeqCst) > 2, "the source was asked meanwhile");
        credentials.0.held().current.as_mut().unwrap().ends = Some(SystemTime::now());
        assert!(name(&credentials).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_credentials_is_logged_once_while_their_source_fails() {
        let failure = || CredentialsError::provider_error("StatusCode(500)");
        let (credentials, _) = credentials(&[Ok("a"), Err(failure), Err(failure), Err(failure), Ok("b")]);
        assert_eq!(name(&credentials).await.as_deref(), Ok("a"));
        credentials.0.log_end("before the end", PATIENCE);
        assert!(!credentials.0.held().has_logged_end);
        credentials.0.held().current.as_mut().unwrap().ends = Some(SystemTime::now());
        credentials.0.log_end("after the end", PATIENCE);
        assert!(credentials.0.held().has_logged_end);
        assert_eq!(name(&credentials).await.as_deref(), Ok("b"));
        assert!(!credentials.0.held().has_logged_end, "of the new credentials");
    }

    #[tokio::test(start_paused = true)]
    async fn due_credentials_are_replaced_without_a_wait() {
        let (credentials, _) = credentials(&[Ok("a"), Ok("b")]);
        assert_eq!(name(&credentials).await.as_deref(), Ok("a"));
        credentials.0.held().current.as_mut().unwrap().due = Some(SystemTime::now());
        assert_eq!(name(&credentials).await.as_deref(), Ok("a"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(name(&credentials).await.as_deref(), Ok("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_credentials_are_replaced_once_for_all_requests() {
        let (credentials, asked) = credentials(&[Ok("a"), Ok("a"), Ok("b"), Ok("c")]);
        let rejected = credentials.ready().await.unwrap();
        let renewed = futures::future::join_all((0..20).map(|_| credentials.renew(rejected))).await;
        assert!(renewed.into_iter().all(|renewed| renewed));
        assert_eq!((name(&credentials).await.as_deref(), asked.load(Ordering::SeqCst)), (Ok("b"), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_without_others_is_asked_for_a_bounded_time() {
        let (credentials, _) = credentials(&[Ok("a")]);
        let rejected = credentials.ready().await.unwrap();
        let started = Instant::now();
        assert!(!credentials.renew(rejected).await);
        assert!(started.elapsed() <= PATIENCE);
        assert_eq!(name(&credentials).await.as_deref(), Ok("a"), "AWS may accept them later");
    }

    #[test]
    fn credentials_are_due_before_they_end() {
        let now = SystemTime::now();
        for (life, least, most) in [(3600, 240, 300), (60, 12, 15)] {
            let current = Current::new(keys("a", Some(Duration::from_secs(life))), Generation(1), now);
            let before = current.ends.unwrap().duration_since(current.due.unwrap()).unwrap().as_secs();
            assert!((least..=most).contains(&before), "{before}");
        }
        assert!(Current::new(keys("a", None), Generation(1), now).due.is_none());
        let ended = Keys::new("a", "s", None, now.checked_sub(Duration::from_secs(9)), "test");
        assert!(Current::new(ended, Generation(1), now).is_valid(now), "the clock of this host may be wrong");
    }
}
