//! Sending a request: counted, limited, timed out, and retried if that may help (`DESIGN.md#own-retries`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::error::{ErrorKind, S3Error};
use super::idle_timeout::{Activity, Stalled, idle_timeout};
use super::limit::{RequestLimit, RequestPermit};
use super::operation::{Operation, Requests};
use super::proof::Unproven;
use super::send_queue::SendQueues;
use crate::exit_code::ExitCode;
use crate::fence::Fence;
use crate::shutdown::Shutdown;

/// The longest wait before the first retry. It doubles with each retry. Each wait is random between 0 and the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(20);

/// Sends requests.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) limit: RequestLimit,
    pub(super) requests: Arc<Requests>,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) retries: u32,
    pub(super) queues: SendQueues,
    pub(super) fence: Fence,
    pub(super) shutdown: Shutdown,
}

impl Sender {
    /// Sends a request without a body, up to `1 + retries` times. `attempt` builds each attempt, and `read` takes from
    /// the response what proves its effect.
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
        self.send_or_confirm(operation, 0, attempt, read, async || None).await
    }

    /// Like [`Self::send`], with a body. If a response lacks the proof, `confirm` may find out whether the request had its
    /// effect all the same.
    pub(super) async fn send_or_confirm<T, U, E, F, C>(
        &self,
        operation: Operation,
        body_bytes: usize,
        attempt: impl Fn(Activity) -> F,
        read: impl Fn(T) -> Result<U, Unproven>,
        confirm: impl Fn() -> C,
    ) -> Result<U, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
        C: Future<Output = Option<U>>,
    {
        let mut retries = 0;
        loop {
            let send = async |activity| attempt(activity).await.map_err(|error| S3Error::from_sdk(operation, &error));
            let error = match Box::pin(self.send_once(operation, body_bytes, retries > 0, send)).await {
                Ok(response) => match read(response) {
                    Ok(read) => return Ok(read),
                    Err(unproven) => {
                        if unproven.is_missing
                            && let Some(confirmed) = confirm().await
                        {
                            return Ok(confirmed);
                        }
                        S3Error::local(operation, ErrorKind::Transient, unproven.message)
                    }
                },
                Err(error) => error,
            };
            if !error.kind.is_retryable() || retries >= self.retries {
                return Err(error);
            }
            tracing::debug!(%error, attempt = retries + 1, "retrying this request");
            self.back_off(operation, retries).await?;
            retries += 1;
        }
    }

    async fn send_once<T>(
        &self,
        operation: Operation,
        body_bytes: usize,
        is_retry: bool,
        send: impl AsyncFnOnce(Activity) -> Result<T, S3Error>,
    ) -> Result<T, S3Error> {
        let _permit = self.admit(operation, body_bytes).await?;
        // The last step before the request: the process may have been suspended until now.
        if operation.writes() && !self.fence.may_write() {
            self.shutdown.request(ExitCode::LeaseHeld);
            return Err(interrupted(operation));
        }
        self.requests.count(operation, is_retry);
        let activity = Activity::start();
        let timeout = idle_timeout(operation);
        let result = tokio::select! {
            // A response that has arrived counts, even if the timeout has passed too.
            biased;
            result = activity.follow(send(activity.clone())) => result,
            () = activity.idle_for(timeout, &self.queues) => {
                Err(S3Error::local(operation, ErrorKind::Unreachable, Stalled::Silent(timeout).to_string()))
            }
        };
        match &result {
            Ok(_) => self.limit.on_success(),
            Err(error) if error.kind == ErrorKind::Throttled => {
                self.requests.count_throttled();
                self.limit.on_throttled(Instant::now());
            }
            Err(error) if error.kind == ErrorKind::Unreachable => self.limit.on_throttled(Instant::now()),
            Err(_) => {}
        }
        result
    }

    /// Waits until the request can be sent. After a shutdown request, new work is refused.
    async fn admit(&self, operation: Operation, body_bytes: usize) -> Result<RequestPermit<'_>, S3Error> {
        let turn = async {
            let permit = self.limit.acquire().await;
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
        }
    }

    /// Waits before a retry.
    pub(super) async fn back_off(&self, operation: Operation, retries: u32) -> Result<(), S3Error> {
        let ceiling = FIRST_BACKOFF.saturating_mul(1 << retries.min(16)).min(MAX_BACKOFF);
        let pause = tokio::time::sleep(ceiling.mul_f64(fastrand::f64()));
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
