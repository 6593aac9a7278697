//! Sending a request: counted, limited, timed out, and retried if that may help (`DESIGN.md#own-retries`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::error::{ErrorKind, S3Error};
use super::limit::{RequestLimit, RequestPermit};
use super::operation::{Operation, Requests};
use super::patience::{Progress, patience};
use crate::exit_code::ExitCode;
use crate::fence::Fence;
use crate::shutdown::Shutdown;

/// The wait before the first retry; doubled for each further one, with full jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// Sends requests.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) limit: RequestLimit,
    pub(super) requests: Arc<Requests>,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) retries: u32,
    pub(super) fence: Fence,
    pub(super) shutdown: Shutdown,
}

impl Sender {
    /// Sends what `attempt` builds until it is answered well, refused for good, or tried `retries` times more.
    pub(super) async fn send<T, E, F>(
        &self,
        operation: Operation,
        body_bytes: usize,
        attempt: impl Fn(Progress) -> F,
    ) -> Result<T, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.send_checked(operation, body_bytes, attempt, |_| Ok(())).await
    }

    /// As [`Self::send`], with a look at the answer: what `check` refuses counts as an answer that went wrong on its way.
    pub(super) async fn send_checked<T, E, F>(
        &self,
        operation: Operation,
        body_bytes: usize,
        attempt: impl Fn(Progress) -> F,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Result<T, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tried = 0;
        loop {
            let error = match Box::pin(self.once(operation, body_bytes, tried > 0, &attempt)).await {
                Ok(answer) => match check(&answer) {
                    Ok(()) => return Ok(answer),
                    Err(what) => S3Error::local(operation, ErrorKind::Transient, what),
                },
                Err(error) => error,
            };
            if !error.kind.is_worth_retrying() || tried >= self.retries {
                return Err(error);
            }
            tracing::debug!(%error, attempt = tried + 1, "will be tried again");
            self.back_off(operation, tried).await?;
            tried += 1;
        }
    }

    async fn once<T, E, F>(
        &self,
        operation: Operation,
        body_bytes: usize,
        is_retry: bool,
        attempt: impl Fn(Progress) -> F,
    ) -> Result<T, S3Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let _permit = self.admit(operation, body_bytes).await?;
        // As late as can be: the process may have been stopped until now.
        if operation.writes() && !self.fence.may_write() {
            self.shutdown.request(ExitCode::LeaseHeld);
            return Err(asked_to_stop(operation));
        }
        self.requests.count(operation, is_retry);
        let progress = Progress::start();
        let patience = patience(operation, body_bytes);
        let answer = tokio::select! {
            // An answer that came while nobody looked is no silence.
            biased;
            answer = attempt(progress.clone()) => answer.map_err(|error| S3Error::from_sdk(operation, &error)),
            () = progress.silent_for(patience) => {
                let silence = format!("no answer and no byte moved for {} s", patience.as_secs());
                Err(S3Error::local(operation, ErrorKind::Unreachable, silence))
            }
        };
        match &answer {
            Ok(_) => self.limit.on_success(),
            Err(error) if error.kind == ErrorKind::Throttled => {
                self.requests.count_throttled();
                self.limit.on_throttled(Instant::now());
            }
            Err(error) if error.kind == ErrorKind::Unreachable => self.limit.on_throttled(Instant::now()),
            Err(_) => {}
        }
        answer
    }

    /// Waits until the request may leave. What would be new work does not, once the run is asked to stop.
    async fn admit(&self, operation: Operation, body_bytes: usize) -> Result<RequestPermit<'_>, S3Error> {
        let turn = async {
            let permit = self.limit.acquire().await;
            // A request without a body, such as an abort, waits for no other's bytes.
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
        ) {
            return Ok(turn.await);
        }
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Err(asked_to_stop(operation)),
            permit = turn => Ok(permit),
        }
    }

    async fn back_off(&self, operation: Operation, tried: u32) -> Result<(), S3Error> {
        let ceiling = FIRST_BACKOFF.saturating_mul(1 << tried.min(16)).min(LONGEST_BACKOFF);
        let pause = tokio::time::sleep(ceiling.mul_f64(fastrand::f64()));
        // Cleaning up goes on while the run ends.
        if operation == Operation::AbortMultipartUpload {
            pause.await;
            return Ok(());
        }
        tokio::select! {
            () = pause => Ok(()),
            () = self.shutdown.requested() => Err(asked_to_stop(operation)),
        }
    }
}

fn asked_to_stop(operation: Operation) -> S3Error {
    S3Error::local(operation, ErrorKind::Interrupted, "the run was asked to stop")
}

/// A limit of bytes a second, kept over the whole run: who sends pays first.
#[derive(Debug)]
pub(super) struct Bandwidth {
    bytes_per_second: f64,
    paid_until: Mutex<Option<tokio::time::Instant>>,
}

impl Bandwidth {
    #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second as f64, paid_until: Mutex::new(None) }
    }

    #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "a body has at most 5 GiB")]
    async fn wait_for(&self, bytes: usize) {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let paid = {
            let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = tokio::time::Instant::now();
            let paid = paid_until.unwrap_or(now).max(now) + price;
            *paid_until = Some(paid);
            paid
        };
        tokio::time::sleep_until(paid).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_bandwidth_holds_over_many_senders_at_once() {
        let bandwidth = Bandwidth::new(1_000_000);
        let begin = tokio::time::Instant::now();
        futures::future::join_all((0..10).map(|_| bandwidth.wait_for(500_000))).await;
        assert_eq!(begin.elapsed().as_secs(), 5);
    }
}
