//! The idle timeout: how long a request may go without a byte moving before the attempt fails.
//!
//! 1. A dead socket must fail within seconds, and a slow one must not fail. So the time since the last byte counts.
//! 2. S3 can be silent for minutes on a healthy connection while it completes an upload or copies an object.
//! 3. The last bytes of a body are still in the kernel's buffer when the SDK has written them. They get time to drain.

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

/// A healthy request is never idle for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The same while S3 completes an upload or copies an object ("can take several minutes", S3 API reference).
const LONG_IDLE_TIMEOUT: Duration = Duration::from_mins(3);
/// The most that a kernel buffers for a connection (Linux: the default of `tcp_wmem`).
const BUFFERED_BYTES: usize = 4 << 20;
/// The slowest uplink that has time to drain that buffer.
const SLOWEST_BYTES_PER_SECOND: usize = 256 << 10;
/// How much of a body the connection gets at a time.
const FRAME_BYTES: usize = 256 << 10;

/// When a byte of a request or its response last moved.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once no byte has moved for `timeout`.
    pub(super) async fn idle_for(&self, timeout: Duration) {
        loop {
            let deadline = self.last() + timeout;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Returns the idle timeout of a request with a body of this size.
pub(super) fn idle_timeout(operation: Operation, body_bytes: usize) -> Duration {
    if matches!(operation, Operation::CompleteMultipartUpload | Operation::Copy | Operation::UploadPartCopy) {
        return LONG_IDLE_TIMEOUT;
    }
    let drain_seconds = body_bytes.min(BUFFERED_BYTES) / SLOWEST_BYTES_PER_SECOND;
    IDLE_TIMEOUT + Duration::from_secs(u64::try_from(drain_seconds).unwrap_or(u64::MAX))
}

/// The body of a request, in memory. Records each piece that the connection takes.
#[derive(Debug)]
pub(super) struct ObservedBody {
    rest: Bytes,
    activity: Activity,
}

impl ObservedBody {
    pub(super) fn new(body: Bytes, activity: Activity) -> Self {
        Self { rest: body, activity }
    }
}

impl Body for ObservedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.activity.record();
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
impl Intercept for Activity {
    fn name(&self) -> &'static str {
        "Activity"
    }

    /// Records the response's body too: a long one may take its time on a slow connection.
    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.record();
        let body = context.response_mut().body_mut();
        let received = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(ObservedResponse { body: received, activity: self.clone() });
        Ok(())
    }
}

/// The body of a response. Records each piece that arrives.
#[derive(Debug)]
struct ObservedResponse {
    body: SdkBody,
    activity: Activity,
}

impl Body for ObservedResponse {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.activity.record();
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
    async fn the_timeout_starts_at_the_last_byte_that_moved() {
        let activity = Activity::start();
        let begin = Instant::now();
        let mover = activity.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                mover.record();
            }
        });
        activity.idle_for(IDLE_TIMEOUT).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(115));
    }

    #[test]
    fn completing_and_copying_have_a_long_timeout() {
        assert_eq!(idle_timeout(Operation::CompleteMultipartUpload, 0), LONG_IDLE_TIMEOUT);
        assert_eq!(idle_timeout(Operation::Copy, 0), LONG_IDLE_TIMEOUT);
        assert_eq!(idle_timeout(Operation::Put, 1), IDLE_TIMEOUT);
    }

    #[test]
    fn bytes_in_the_kernel_buffer_get_time_to_drain() {
        assert_eq!(idle_timeout(Operation::UploadPart, 5 << 30), IDLE_TIMEOUT + Duration::from_secs(16));
    }
}
