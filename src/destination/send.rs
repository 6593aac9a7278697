//! Sending a request: counted, limited, timed out, and retried if that may help (`DESIGN.md#own-retries`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use super::error::{ErrorKind, S3Error};
use super::idle_timeout::{Activity, Stalled, idle_timeout, silence};
use super::limit::{RequestLimit, RequestPermit};
use super::operation::{Operation, Requests};
use super::outage::{Attempts, Outages};
use super::proof::Unproven;
use super::sent_content::{OwnContent, SentContent};
use crate::aws::{Credentials, Generation};
use crate::fence::Fence;
use crate::shutdown::Shutdown;

/// The longest wait before the first retry. It doubles with each retry. Each wait is random between 0 and the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Sends requests.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) credentials: Credentials,
    /// Why no request may be sent, if that is so.
    pub(super) why_foreign: Option<String>,
    pub(super) limit: RequestLimit,
    pub(super) requests: Arc<Requests>,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) outages: Outages,
    pub(super) fence: Fence,
    pub(super) shutdown: Shutdown,
}

impl Sender {
    /// Sends a request without a body, until it succeeds or the run gives it up. `attempt` builds each attempt, and `read`
    /// takes from the response what proves its effect.
    pub(super) async fn send<T, U, E, F>(
        &self,
        operation: Operation,
        attempt: impl Fn(Activity) -> F,
        read: impl Fn(T) -> Result<U, Unproven>,
    ) -> Result<U, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.send_or_confirm(operation, 0, attempt, read, async || None, &OwnContent).await
    }

    /// Like [`Self::send`], with a body. If a response lacks the proof, `confirm` may find out whether the request had its
    /// effect all the same. Before each retry, the `content` must still be current.
    pub(super) async fn send_or_confirm<T, U, E, F, C>(
        &self,
        operation: Operation,
        body_bytes: usize,
        attempt: impl Fn(Activity) -> F,
        read: impl Fn(T) -> Result<U, Unproven>,
        confirm: impl Fn() -> C,
        content: &dyn SentContent,
    ) -> Result<U, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
        C: Future<Output = Option<U>>,
    {
        let mut attempts = Attempts::of(operation);
        let mut may_have_effect = false;
        loop {
            let send = async |activity| attempt(activity).await.map_err(|error| S3Error::from_sdk(operation, &error));
            let error = match Box::pin(self.send_once(&mut attempts, body_bytes, send, &read)).await {
                Ok(read) => return Ok(read),
                // A 404 may mean that an earlier attempt has completed the upload, even if the response is cut off.
                Err(Failed { lacks_proof, error }) if lacks_proof || may_have_effect && error.status == Some(404) => {
                    if let Some(confirmed) = confirm().await {
                        self.outages.succeeded(operation, attempts.silences);
                        return Ok(confirmed);
                    }
                    error
                }
                Err(Failed { error, .. }) => error,
            };
            may_have_effect |= error.may_have_effect;
            self.retry(&mut attempts, error).await.map_err(|error| error.after(may_have_effect))?;
            if !content.is_current().await {
                let error = S3Error::local(operation, ErrorKind::Outdated, "the file changed before a retry");
                return Err(error.after(may_have_effect));
            }
        }
    }

    /// Waits before the next attempt of a request that failed.
    ///
    /// # Errors
    /// Returns the error if the run gives the request up.
    pub(super) async fn retry(&self, attempts: &mut Attempts, error: S3Error) -> Result<(), S3Error> {
        let left = match self.outages.time_left(attempts, &error) {
            Ok(left) => left,
            Err(given_up) => return Err(S3Error { given_up: given_up.map(Box::new), ..error }),
        };
        // The last attempt is at the end of the time that is left.
        let pause = pause(attempts.retries).min(left);
        tracing::debug!(%error, attempt = attempts.retries + 1, ?pause, "retrying this request");
        attempts.silences += u32::from(error.is_stalled);
        attempts.last = Some(error);
        self.back_off(attempts.operation, pause).await?;
        attempts.starts_again();
        Ok(())
    }

    /// Like [`Self::retry`], for a part of a request that failed inside a response with status 200.
    pub(super) async fn retry_inside(&self, attempts: &mut Attempts, error: &S3Error) -> Result<(), S3Error> {
        if error.kind == ErrorKind::Throttled {
            self.limit.throttled_inside(attempts.operation);
        }
        let left = match self.outages.time_left_inside(attempts, error) {
            Ok(left) => left,
            Err(given_up) => return Err(S3Error { given_up: Some(Box::new(given_up)), ..error.clone() }),
        };
        attempts.last = Some(error.clone());
        self.back_off(attempts.operation, pause(attempts.retries).min(left)).await?;
        attempts.starts_again();
        Ok(())
    }

    async fn send_once<T, U>(
        &self,
        attempts: &mut Attempts,
        body_bytes: usize,
        send: impl AsyncFnOnce(Activity) -> Result<T, S3Error>,
        read: impl FnOnce(T) -> Result<U, Unproven>,
    ) -> Result<U, Failed> {
        let admission = self.admit(attempts, body_bytes).await.map_err(S3Error::unsent)?;
        self.send_admitted(admission, attempts, body_bytes, send, read).await
    }

    /// Sends one attempt that has been admitted.
    pub(super) async fn send_admitted<T, U>(
        &self,
        Admission { mut permit, generation }: Admission<'_>,
        attempts: &mut Attempts,
        body_bytes: usize,
        send: impl AsyncFnOnce(Activity) -> Result<T, S3Error>,
        read: impl FnOnce(T) -> Result<U, Unproven>,
    ) -> Result<U, Failed> {
        let operation = attempts.operation;
        // The last step before the request: the process may have been suspended until now.
        if operation.writes() && !self.fence.may_write() {
            let message = "the lease expired before the request was sent";
            return Err(S3Error::local(operation, ErrorKind::Transient, message).unsent().into());
        }
        self.requests.count(operation, attempts.retries > 0);
        let silences = attempts.silences.max(self.outages.silences(operation));
        let activity = Activity::start(silence(silences), self.requests.sent_bytes.clone());
        let timeout = idle_timeout(operation, silences);
        let result = tokio::select! {
            // A response that has arrived counts, even if the timeout has passed too.
            biased;
            result = activity.follow(send(activity.clone())) => result,
            () = activity.idle_for(timeout, body_bytes > 0) => Err(S3Error::stalled(operation, Stalled::Silent(timeout))),
        };
        let result = match result {
            Err(error) if error.kind == ErrorKind::Expired => Err(self.with_other_credentials(error, generation).await),
            result => result,
        };
        let result = result.map_err(Failed::from).and_then(|response| {
            read(response).map_err(|unproven| Failed {
                lacks_proof: unproven.is_missing,
                error: S3Error::local(operation, ErrorKind::Transient, unproven.message).in_doubt(),
            })
        });
        match &result {
            Ok(_) => {
                permit.succeeded();
                self.outages.succeeded(operation, silences);
            }
            Err(Failed { error, .. }) => {
                if error.kind == ErrorKind::Throttled {
                    self.requests.count_throttled();
                    permit.throttled();
                } else if error.kind == ErrorKind::Unreachable {
                    permit.unreachable();
                }
                self.outages.failed(attempts, activity.last(), error);
            }
        }
        result
    }

    /// Waits until there are valid credentials: not as a part of the request, whose silence ends it.
    pub(super) async fn credentials_for(&self, operation: Operation) -> Result<Generation, S3Error> {
        if let Some(why) = &self.why_foreign {
            return Err(S3Error::local(operation, ErrorKind::Unusable, why));
        }
        tokio::select! {
            biased;
            ready = self.credentials.ready() => {
                ready.map_err(|error| S3Error::local(operation, ErrorKind::Settings, error.to_string()))
            }
            () = self.shutdown.requested() => Err(interrupted(operation)),
        }
    }

    /// Returns the error of a request whose credentials S3 rejected: it can be retried if there are others now.
    async fn with_other_credentials(&self, error: S3Error, rejected: Generation) -> S3Error {
        tokio::select! {
            biased;
            renewed = self.credentials.renew(rejected) => {
                S3Error { kind: if renewed { error.kind } else { ErrorKind::Credentials }, ..error }
            }
            () = self.shutdown.requested() => interrupted(error.operation),
        }
    }

    /// Waits until the request can be sent.
    pub(super) async fn admit(&self, attempts: &mut Attempts, body_bytes: usize) -> Result<Admission<'_>, S3Error> {
        let admission = self.admission(attempts, body_bytes).await;
        attempts.started = Instant::now();
        admission
    }

    async fn admission(&self, attempts: &mut Attempts, body_bytes: usize) -> Result<Admission<'_>, S3Error> {
        self.pass_fence(attempts).await?;
        let permit = self.turn(attempts, body_bytes).await?;
        let generation = self.credentials_for(attempts.operation).await?;
        Ok(Admission { permit, generation })
    }

    /// Waits until the run's lease allows the request. In an outage the lease can expire, and the run may renew it later
    /// (`DESIGN.md#expired-lease`).
    async fn pass_fence(&self, attempts: &mut Attempts) -> Result<(), S3Error> {
        let operation = attempts.operation;
        if !operation.writes() || self.fence.may_write() {
            return Ok(());
        }
        let is_open = tokio::select! {
            biased;
            is_open = self.fence.opened() => is_open,
            () = self.shutdown.requested() => false,
        };
        if !is_open {
            return Err(interrupted(operation));
        }
        // The wait is no failure of S3, and the renewal shows that S3 responds again.
        attempts.progressed();
        self.outages.ended(operation);
        Ok(())
    }

    /// Waits for the turn of a request. After a shutdown request, new work is refused.
    async fn turn(&self, attempts: &Attempts, body_bytes: usize) -> Result<RequestPermit<'_>, S3Error> {
        let operation = attempts.operation;
        let turn = async {
            let permit = self.limit.acquire(operation).await;
            // A request without a body, such as an abort, does not wait for bandwidth.
            if let Some(bandwidth) = self.bandwidth.as_ref().filter(|_| body_bytes > 0) {
                bandwidth.wait_for(body_bytes).await;
            }
            permit
        };
        if !matches!(
            operation,
            Operation::List
                | Operation::Put
                | Operation::Copy
                | Operation::CreateMultipartUpload
                | Operation::UploadPart
                | Operation::Delete
                | Operation::DeleteObjects
        ) {
            return Ok(turn.await);
        }
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Err(interrupted(operation)),
            permit = turn => Ok(permit),
            error = self.outages.over(attempts) => Err(error),
        }
    }

    /// Waits before a retry.
    pub(super) async fn back_off(&self, operation: Operation, pause: Duration) -> Result<(), S3Error> {
        let pause = tokio::time::sleep(pause);
        // The run cleans up after a shutdown request too.
        if operation == Operation::AbortMultipartUpload {
            pause.await;
            return Ok(());
        }
        tokio::select! {
            () = pause => Ok(()),
            () = self.shutdown.requested() => Err(interrupted(operation)),
        }
    }
}

/// Returns a random time to wait before the next retry.
pub(super) fn pause(retries: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << retries.min(16)).min(MAX_BACKOFF).mul_f64(fastrand::f64())
}

/// The permission to send one request now: its turn, and valid credentials.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    permit: RequestPermit<'a>,
    generation: Generation,
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: S3Error,
    /// Whether there was a response, and it lacks the proof of its effect.
    pub(super) lacks_proof: bool,
}

impl From<S3Error> for Failed {
    fn from(error: S3Error) -> Self {
        Self { error, lacks_proof: false }
    }
}

/// The error of a request that a stop request prevents.
pub(super) fn interrupted(operation: Operation) -> S3Error {
    S3Error::local(operation, ErrorKind::Interrupted, "a shutdown was requested")
}

/// A limit of bytes per second for the whole run. A request waits for the time of its bytes before it is sent.
#[derive(Debug)]
pub(super) struct Bandwidth {
    bytes_per_second: f64,
    /// The time up to which requests have used the bandwidth.
    used_until: Mutex<Option<tokio::time::Instant>>,
}

impl Bandwidth {
    #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second as f64, used_until: Mutex::new(None) }
    }

    #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "a body has at most 5 GiB")]
    async fn wait_for(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let end = {
            let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = tokio::time::Instant::now();
            let end = used_until.unwrap_or(now).max(now) + time;
            *used_until = Some(end);
            end
        };
        tokio::time::sleep_until(end).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_bandwidth_limits_concurrent_requests_together() {
        let bandwidth = Bandwidth::new(1_000_000);
        let start = tokio::time::Instant::now();
        futures::future::join_all((0..10).map(|_| bandwidth.wait_for(500_000))).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
