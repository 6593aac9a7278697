//! Patience: how long a request may be silent before it is given up.
//!
//! 1. A dead socket must be given up within seconds, a slow one must not: what counts is the last byte that moved.
//! 2. Completing and copying are silent for many seconds on a healthy connection, while S3 puts gigabytes together.
//! 3. The last bytes of a body sit in the kernel's buffer when the connection has taken them: they get time to drain.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::operation::Operation;

/// Silence that a healthy request never shows.
const SILENCE: Duration = Duration::from_secs(15);
/// The same while S3 completes an upload or copies an object ("can take several minutes", S3 API reference).
const LONG_SILENCE: Duration = Duration::from_mins(3);
/// What a kernel buffers of a connection at most (Linux: the default of `tcp_wmem`), and the slowest rate it drains at.
const BUFFERED_BYTES: usize = 4 << 20;
const SLOWEST_BYTES_PER_SECOND: usize = 256 << 10;
/// How much the connection takes at a time.
const FRAME_BYTES: usize = 256 << 10;

/// When a request last moved.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing has moved for so long.
    pub(super) async fn silent_for(&self, patience: Duration) {
        loop {
            let give_up_at = self.last() + patience;
            if Instant::now() >= give_up_at {
                return;
            }
            tokio::time::sleep_until(give_up_at).await;
        }
    }
}

/// How long this operation may be silent, with a body of so many bytes.
pub(super) fn patience(operation: Operation, body_bytes: usize) -> Duration {
    if matches!(operation, Operation::CompleteMultipartUpload | Operation::Copy | Operation::UploadPartCopy) {
        return LONG_SILENCE;
    }
    let drain_seconds = body_bytes.min(BUFFERED_BYTES) / SLOWEST_BYTES_PER_SECOND;
    SILENCE + Duration::from_secs(u64::try_from(drain_seconds).unwrap_or(u64::MAX))
}

/// A body in memory that notes each piece the connection takes.
#[derive(Debug)]
pub(super) struct WatchedBody {
    rest: Bytes,
    progress: Progress,
}

impl WatchedBody {
    pub(super) fn new(body: Bytes, progress: Progress) -> Self {
        Self { rest: body, progress }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.progress.moved();
        let take = self.rest.len().min(FRAME_BYTES);
        let frame = self.rest.split_to(take);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Progress {
    fn name(&self) -> &'static str {
        "Progress"
    }

    /// Watches the answer's body too: a long one over a slow connection is no silence.
    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.moved();
        let body = context.response_mut().body_mut();
        let received = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(WatchedAnswer { body: received, progress: self.clone() });
        Ok(())
    }
}

/// The body of an answer that notes each piece that arrives.
#[derive(Debug)]
struct WatchedAnswer {
    body: SdkBody,
    progress: Progress,
}

impl Body for WatchedAnswer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.progress.moved();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_counts_is_the_last_byte_that_moved() {
        let progress = Progress::start();
        let begin = Instant::now();
        let mover = progress.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                mover.moved();
            }
        });
        progress.silent_for(SILENCE).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(115));
    }

    #[test]
    fn completing_and_copying_may_be_silent_for_long() {
        assert_eq!(patience(Operation::CompleteMultipartUpload, 0), LONG_SILENCE);
        assert_eq!(patience(Operation::Copy, 0), LONG_SILENCE);
        assert_eq!(patience(Operation::Put, 1), SILENCE);
    }

    #[test]
    fn bytes_in_the_kernels_buffer_get_time_to_drain() {
        assert_eq!(patience(Operation::UploadPart, 5 << 30), SILENCE + Duration::from_secs(16));
    }
}
