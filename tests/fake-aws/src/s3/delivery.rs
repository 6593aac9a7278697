//! A delivery: how the body of a reply is sent, in one piece, slowly or only in part.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use tokio::time::Sleep;

use super::reply::Reply;

/// The pause before a disconnect. In this time, the client receives what was sent before.
const FLUSH: Duration = Duration::from_millis(20);

/// How a connection ends without a complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A TCP reset.
    Reset,
    /// An orderly close in the middle of a response.
    Close,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault ends the connection")
    }
}

impl std::error::Error for Cut {}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Whole,
    Trickle { piece_bytes: usize, pause: Duration },
    StallMidway(Duration),
    CloseMidway,
}

/// Returns the HTTP response for a reply.
pub(super) fn response(reply: Reply, pace: Pace, head: bool) -> Response<SentBody> {
    let length = reply.body.len();
    let body = if head { SentBody::default() } else { SentBody::new(reply.body, pace) };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status.try_into().unwrap_or_default();
    let headers = response.headers_mut();
    for (name, value) in &reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
    // An error response to HEAD has neither a body nor a length.
    let without_length = matches!(reply.status, 204 | 304) || (head && reply.status >= 300);
    if !without_length && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A body that is sent in steps.
#[derive(Debug, Default)]
pub(super) struct SentBody {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Step {
    Send(Bytes),
    Pause(Duration),
    Cut(Cut),
}

impl SentBody {
    fn new(mut body: Bytes, pace: Pace) -> Self {
        let half = body.len() / 2;
        let steps = match pace {
            Pace::Whole if body.is_empty() => VecDeque::new(),
            Pace::Whole => VecDeque::from([Step::Send(body)]),
            Pace::Trickle { piece_bytes, pause } => {
                let mut steps = VecDeque::new();
                while !body.is_empty() {
                    let piece = body.split_to(piece_bytes.clamp(1, body.len()));
                    steps.extend([Step::Pause(pause), Step::Send(piece)]);
                }
                steps
            }
            Pace::StallMidway(time) => {
                VecDeque::from([Step::Send(body.split_to(half)), Step::Pause(time), Step::Cut(Cut::Reset)])
            }
            Pace::CloseMidway => {
                VecDeque::from([Step::Send(body.split_to(half)), Step::Pause(FLUSH), Step::Cut(Cut::Close)])
            }
        };
        Self { steps, pause: None }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Cut(cut)) => return Poll::Ready(Some(Err(cut))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }
}
