//! The idle timeout: how long a request may go without progress before the attempt fails.
//!
//! 1. A dead socket must fail within seconds, and a slow one must not fail. So the time since the last byte counts.
//! 2. S3 can be silent for minutes on a healthy connection while it completes an upload or copies an object.
//! 3. On a slow uplink, most of a body is in the buffers of the HTTP client and of the kernel. So a byte counts when S3
//!    acknowledges it: the request follows the [`send_queue`](super::send_queue) of its connection. Where several
//!    requests share a connection (HTTP/2), each of them counts the bytes of all.
//! 4. A response that drips is never idle and never ends. So a response must also deliver [`LEAST_BYTES`] in each
//!    [`LEAST_BYTES_WITHIN`] that the run waits for it. Time in which the run does other things does not count. A
//!    failure reduces the request limit, so many responses that share a slow link become fewer and faster.
//! 5. A response whose body is not observed must be complete within the idle timeout.
//! 6. S3 can also be silent before a list or a delete of many keys. So each attempt that ended this way doubles the time
//!    for the next one, up to [`MOST_PATIENT`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::document::WholeDocument;
use super::operation::Operation;
use super::send_queue::{Connection, SAMPLE_INTERVAL, SEND_QUEUES};
use crate::sent_bytes::SentBytes;

/// A healthy request is never idle for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that [`IDLE_TIMEOUT`] becomes.
const MOST_PATIENT: Duration = Duration::from_mins(1);
/// The same while S3 completes an upload or copies an object ("can take several minutes", S3 API reference).
const LONG_IDLE_TIMEOUT: Duration = Duration::from_mins(3);
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
    /// Names the connection, once the request has one.
    connection: Option<CaptureSmithyConnection>,
    /// How long the response may be silent once it has started.
    silence: Duration,
    /// Counts the bytes of the body that the connection takes.
    sent: SentBytes,
}

tokio::task_local! {
    /// The activity of the request that this task sends.
    static CURRENT: Activity;
}

impl Activity {
    pub(super) fn start(silence: Duration, sent: SentBytes) -> Self {
        let progress = Progress { last: Instant::now(), status: None, document: None, connection: None, silence, sent };
        Self(Arc::new(Mutex::new(progress)))
    }

    /// Sends a request, whose connection this activity follows.
    pub(super) async fn follow<F: Future>(&self, request: F) -> F::Output {
        CURRENT.scope(self.clone(), request).await
    }

    pub(super) fn record(&self) {
        self.progress().last = Instant::now();
    }

    /// Records that the connection took a piece of the body.
    fn record_sent(&self, bytes: usize) {
        let mut progress = self.progress();
        progress.last = Instant::now();
        progress.sent.add(bytes);
    }

    /// When a byte last moved.
    pub(super) fn last(&self) -> Instant {
        self.progress().last
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
    /// its body has limits of its own. `has_body`: bytes of the request may be in the kernel for long.
    pub(super) async fn idle_for(&self, timeout: Duration, has_body: bool) {
        let mut seen = None;
        loop {
            let idle_at = match *self.progress() {
                Progress { status: Some(_), .. } => None,
                Progress { last, .. } => Some(last + timeout),
            };
            let Some(idle_at) = idle_at else { return std::future::pending().await };
            if Instant::now() >= idle_at {
                return;
            }
            let pause = if has_body { SAMPLE_INTERVAL } else { timeout };
            tokio::time::sleep_until(idle_at.min(Instant::now() + pause)).await;
            let Some(connection) = self.connection().filter(|_| has_body) else { continue };
            let found = SEND_QUEUES.bytes(connection).await.map(|bytes| (connection, bytes));
            if seen.is_some() && found.is_some() && found != seen {
                self.record();
            }
            seen = found;
        }
    }

    fn connection(&self) -> Option<Connection> {
        let captured = self.progress().connection.clone()?.get()?;
        Some(Connection { local: captured.local_addr()?, remote: captured.remote_addr()? })
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

/// Returns how long a response may be silent after this many silent attempts.
pub(super) fn silence(silences: u32) -> Duration {
    IDLE_TIMEOUT.saturating_mul(1 << silences.min(8)).min(MOST_PATIENT)
}

/// Returns the idle timeout of a request after this many silent attempts.
pub(super) fn idle_timeout(operation: Operation, silences: u32) -> Duration {
    if matches!(operation, Operation::CompleteMultipartUpload | Operation::Copy | Operation::UploadPartCopy) {
        return LONG_IDLE_TIMEOUT;
    }
    silence(silences)
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
        let take = self.rest.len().min(FRAME_BYTES);
        self.activity.record_sent(take);
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

/// Tells the activity of each request which connection it has.
#[derive(Debug)]
pub(super) struct FollowConnections;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for FollowConnections {
    fn name(&self) -> &'static str {
        "FollowConnections"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let connection = context.request().extension::<CaptureSmithyConnection>().cloned();
        // A request outside of `Activity::follow` has limits of its own.
        let _ = CURRENT.try_with(|activity| activity.progress().connection = connection);
        Ok(())
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
        let silence = {
            let mut progress = self.progress();
            progress.status = Some(response.status().as_u16());
            progress.silence
        };
        let received = std::mem::replace(response.body_mut(), SdkBody::taken());
        *response.body_mut() = SdkBody::from_body_1_x(ObservedResponse::new(received, silence));
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
    silence: Duration,
    pace: Pace,
    /// Since when the reader waits for the next piece.
    waiting_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl ObservedResponse {
    fn new(body: SdkBody, silence: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(silence));
        Self { body, silence, pace: Pace::new(LEAST_BYTES_WITHIN.max(silence)), waiting_since: None, timer }
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
            let deadline = now + self.silence.min(self.pace.rest());
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let is_silent = self.waiting_since.is_some_and(|since| now - since >= self.silence);
        let stalled = if is_silent { Stalled::Silent(self.silence) } else { Stalled::Slow };
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
#[derive(Debug)]
struct Pace {
    /// The time span.
    within: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(within: Duration) -> Self {
        Self { within, waited: Duration::ZERO, bytes: 0 }
    }

    /// Counts a piece that arrived after the reader had waited this long for it.
    fn received(&mut self, waited: Duration, bytes: usize) -> Result<(), Stalled> {
        self.waited += waited;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.bytes >= LEAST_BYTES {
            *self = Self::new(self.within);
        }
        if self.waited < self.within { Ok(()) } else { Err(Stalled::Slow) }
    }

    /// How long the reader may still wait for the least number of bytes.
    fn rest(&self) -> Duration {
        self.within.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::connection::ConnectionMetadata;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_timeout_starts_at_the_last_byte_that_moved() {
        let activity = Activity::start(IDLE_TIMEOUT, SentBytes::default());
        let begin = Instant::now();
        let mover = activity.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                mover.record();
            }
        });
        activity.idle_for(IDLE_TIMEOUT, true).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(115));
    }

    #[test]
    fn completing_and_copying_have_a_long_timeout() {
        assert_eq!(idle_timeout(Operation::CompleteMultipartUpload, 0), LONG_IDLE_TIMEOUT);
        assert_eq!(idle_timeout(Operation::Copy, 0), LONG_IDLE_TIMEOUT);
        assert_eq!(idle_timeout(Operation::Put, 0), IDLE_TIMEOUT);
    }

    #[test]
    fn each_silent_attempt_doubles_the_time_for_the_next_one() {
        let seconds = |silences| idle_timeout(Operation::DeleteObjects, silences).as_secs();
        assert_eq!([0, 1, 2, 3, 100].map(seconds), [15, 30, 60, 60, 60]);
    }

    /// A connection whose peer reads nothing, and as much to send as the kernels of both sides take.
    fn clogged() -> (Activity, std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        // Until the kernels have settled.
        for _ in 0..10 {
            while std::io::Write::write(&mut client, &[0; 4096]).is_ok() {}
            std::thread::sleep(Duration::from_millis(20));
        }
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let captured = CaptureSmithyConnection::new();
        captured.set_connection_retriever(move || {
            Some(
                ConnectionMetadata::builder()
                    .proxied(false)
                    .poison_fn(|| {})
                    .local_addr(local)
                    .remote_addr(remote)
                    .build(),
            )
        });
        let activity = Activity::start(IDLE_TIMEOUT, SentBytes::default());
        activity.progress().connection = Some(captured);
        (activity, client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_leave_the_kernel_are_progress() {
        let (activity, _client, mut server) = clogged();
        let begin = Instant::now();
        let peer = tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 20];
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!(std::io::Read::read(&mut server, &mut bytes).unwrap() > 0);
            }
            server
        });
        activity.idle_for(IDLE_TIMEOUT, true).await;
        let _server = peer.await.unwrap();
        // Bytes left after 10, 20 and 30 s.
        assert!(begin.elapsed().as_secs() >= 45, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_queue_stands_still_is_idle() {
        let (activity, _client, _server) = clogged();
        let begin = Instant::now();
        activity.idle_for(IDLE_TIMEOUT, true).await;
        // The kernels may exchange the last bytes during the first samples.
        assert!((15..=30).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
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
        ObservedResponse::new(
            SdkBody::from_body_1_x(Pieces(std::sync::Mutex::new(Box::pin(futures::StreamExt::fuse(pieces))))),
            IDLE_TIMEOUT,
        )
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
