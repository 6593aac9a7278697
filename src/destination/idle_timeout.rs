//! The idle timeout: how long a request may go without progress before the attempt fails.
//!
//! 1. A dead socket must fail within seconds, and a slow one must not fail. So the time since the last byte counts.
//! 2. S3 can be silent for minutes on a healthy connection while it completes an upload or copies an object.
//! 3. The last bytes of a body are still in the kernel's buffer when the SDK has written them. They get time to drain.
//! 4. A response that drips is never idle and never ends. So a response must also deliver [`LEAST_BYTES`] in each
//!    [`LEAST_BYTES_WITHIN`] that the run waits for it. Time in which the run does other things does not count. A
//!    failure reduces the request limit, so many responses that share a slow link become fewer and faster.
//! 5. A response whose body is not observed must be complete within the idle timeout.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::document::WholeDocument;
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

/// The least that a response delivers within [`LEAST_BYTES_WITHIN`]: 1 KiB per second.
const LEAST_BYTES: u64 = 30 << 10;
const LEAST_BYTES_WITHIN: Duration = Duration::from_secs(30);

/// When a byte of a request last moved, and what its response shows apart from its content.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Progress>>);

#[derive(Debug)]
struct Progress {
    last: Instant,
    /// Known once the head of the response has arrived, if the response is observed.
    status: Option<u16>,
    /// Whether the body is a document that has its end. Known once the SDK has read it.
    document: Option<WholeDocument>,
}

impl Activity {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Progress { last: Instant::now(), status: None, document: None })))
    }

    pub(super) fn record(&self) {
        self.progress().last = Instant::now();
    }

    /// The HTTP status of the response, if it is observed.
    pub(super) fn status(&self) -> Option<u16> {
        self.progress().status
    }

    /// The proof that the response has the end of its document, if the response is observed.
    pub(super) fn document(&self) -> Option<WholeDocument> {
        self.progress().document
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once no byte has moved for `timeout`. Never returns once the head of an observed response has arrived:
    /// its body has limits of its own.
    pub(super) async fn idle_for(&self, timeout: Duration) {
        loop {
            let deadline = match *self.progress() {
                Progress { status: Some(_), .. } => None,
                Progress { last, .. } => Some(last + timeout),
            };
            match deadline {
                None => std::future::pending().await,
                Some(deadline) if Instant::now() >= deadline => return,
                Some(deadline) => tokio::time::sleep_until(deadline).await,
            }
        }
    }
}

/// Why the run stops waiting for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stalled {
    #[error("no response: no byte moved for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the response is too slow: fewer than {} KiB arrived within {} s", LEAST_BYTES >> 10, LEAST_BYTES_WITHIN.as_secs())]
    Slow,
}

impl Stalled {
    /// Returns the stall that caused an error, if one did.
    pub(super) fn cause_of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref().copied())
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

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        self.progress().status = Some(response.status().as_u16());
        let received = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(ObservedResponse::new(received));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The SDK keeps the body of a document in memory. The content of an object is a stream.
        self.progress().document = context.response().body().bytes().and_then(WholeDocument::of);
        Ok(())
    }
}

/// The body of a response. Fails if it stalls.
#[derive(Debug)]
struct ObservedResponse {
    body: SdkBody,
    pace: Pace,
    /// Since when the reader waits for the next piece.
    waiting_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl ObservedResponse {
    fn new(body: SdkBody) -> Self {
        let timer = Box::pin(tokio::time::sleep(IDLE_TIMEOUT));
        Self { body, pace: Pace::default(), waiting_since: None, timer }
    }
}

impl Body for ObservedResponse {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let now = Instant::now();
        if let Poll::Ready(frame) = frame {
            let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| now - since);
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => return Poll::Ready(frame),
            };
            return Poll::Ready(match self.pace.received(waited, bytes) {
                Ok(()) => frame,
                Err(stalled) => Some(Err(stalled.into())),
            });
        }
        if self.waiting_since.is_none() {
            self.waiting_since = Some(now);
            let deadline = now + IDLE_TIMEOUT.min(self.pace.rest());
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let is_silent = self.waiting_since.is_some_and(|since| now - since >= IDLE_TIMEOUT);
        let stalled = if is_silent { Stalled::Silent(IDLE_TIMEOUT) } else { Stalled::Slow };
        Poll::Ready(Some(Err(stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

/// How much of a response has arrived in the current time span.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts a piece that arrived after the reader had waited this long for it.
    fn received(&mut self, waited: Duration, bytes: usize) -> Result<(), Stalled> {
        self.waited += waited;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.bytes >= LEAST_BYTES {
            *self = Self::default();
        }
        if self.waited < LEAST_BYTES_WITHIN { Ok(()) } else { Err(Stalled::Slow) }
    }

    /// How long the reader may still wait for the least number of bytes.
    fn rest(&self) -> Duration {
        LEAST_BYTES_WITHIN.saturating_sub(self.waited)
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

    /// A body that sends a piece of this many bytes after each pause.
    fn pieces(bytes: usize, every: Duration, count: usize) -> ObservedResponse {
        let pieces = futures::stream::unfold(0, move |sent| async move {
            if sent == count {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; bytes]))), sent + 1))
        });
        ObservedResponse::new(SdkBody::from_body_1_x(Pieces(std::sync::Mutex::new(Box::pin(
            futures::StreamExt::fuse(pieces),
        )))))
    }

    type Frames = Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

    struct Pieces(std::sync::Mutex<Frames>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.lock().unwrap().as_mut().poll_next(cx)
        }
    }

    async fn read(mut body: ObservedResponse, pause: Duration) -> Result<usize, Option<Stalled>> {
        let mut bytes = 0;
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|error| Stalled::cause_of(&*error))?;
            bytes += frame.data_ref().map_or(0, Bytes::len);
            tokio::time::sleep(pause).await;
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_drips_is_abandoned_and_a_slow_one_is_not() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        assert_eq!(read(pieces(1, 4 * second, 100), Duration::ZERO).await, Err(Some(Stalled::Slow)));
        assert_eq!(start.elapsed(), LEAST_BYTES_WITHIN);
        let slow = read(pieces(4 << 10, 3 * second, 1000), Duration::ZERO);
        assert_eq!(slow.await, Ok(4_096_000), "an hour at more than 1 KiB per second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_without_a_byte_is_silent() {
        let silent = read(pieces(1, Duration::from_mins(1), 1), Duration::ZERO).await;
        assert_eq!(silent, Err(Some(Stalled::Silent(IDLE_TIMEOUT))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_reader_does_not_count() {
        let body = pieces(1, Duration::from_millis(10), 50);
        assert_eq!(read(body, Duration::from_mins(1)).await, Ok(50));
    }
}
