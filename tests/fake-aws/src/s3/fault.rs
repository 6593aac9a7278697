//! A fault: what happens to a request instead of the regular response.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::log::LoggedRequest;
use super::reply::Reply;

/// Takes the names of a listing page and whether it is truncated, and returns what the server sends instead.
pub type ChangePage = Arc<dyn Fn(Vec<String>, bool) -> (Vec<String>, bool) + Send + Sync>;
/// Runs while a request is in flight, and may block.
pub type Hook = Arc<dyn Fn() + Send + Sync>;
/// Returns the response to a request, or `None` to let the server respond. May block.
pub type Responder = Arc<dyn Fn(&LoggedRequest) -> Option<Reply> + Send + Sync>;

/// How long [`Fault::hold_until`] waits for more requests.
const HOLD_LIMIT: Duration = Duration::from_secs(10);

/// What happens to a request to which a rule applies.
#[derive(Clone)]
pub enum Fault {
    /// The server responds with an error and does not carry out the request.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code in the XML.
        code: &'static str,
        /// More headers, such as `Retry-After`.
        headers: Vec<(&'static str, String)>,
    },
    /// The server resets the connection and does not carry out the request.
    ResetBefore,
    /// The server carries out the request, then resets the connection.
    ResetAfter,
    /// The server waits this long, then resets the connection. It does not carry out the request.
    Stall(Duration),
    /// The server waits this long, then carries out the request and responds, even if the client has disconnected.
    Delay(Duration),
    /// The server holds requests until enough of them wait at the same time. See [`Fault::hold_until`].
    Hold(Arc<Gate>),
    /// The server responds with status 200 and an error in the body, and does not carry out the request.
    ErrorInside200(&'static str),
    /// The server sends the body of the correct response in small pieces.
    TrickleBody {
        /// The length of a piece in bytes.
        piece_bytes: usize,
        /// The pause before each piece.
        pause: Duration,
    },
    /// The server sends half of the body of the correct response, waits this long, then resets the connection.
    StallMidBody(Duration),
    /// The server sends half of the body of the correct response, then closes the connection.
    TruncatedBody,
    /// The server sends the beginning of the correct document, with a length that fits: without the last entry of a list and
    /// what follows it, or without the end of the root element.
    CutDocument,
    /// The last bit of the request body flips on the way. The result is `BadDigest` if the request has a digest, otherwise
    /// a damaged object. An empty body does not change.
    CorruptBody,
    /// The server carries out the request, but each `ETag` in the response is wrong.
    WrongEtag,
    /// The server carries out the request, but the response has no `ETag`.
    MissingEtag,
    /// A listing page has other keys, or another value of `IsTruncated`. The next page starts after the last key of the
    /// changed page. If the changed page has no keys, the next page has the keys that it should have had.
    Page(ChangePage),
    /// The hook runs, then the server carries out the request.
    Before(Hook),
    /// The server carries out the request, then the hook runs, then the server responds.
    After(Hook),
    /// The function responds. If it returns `None`, the server does.
    Custom(Responder),
    /// Something in front of the server responds, so the response has no request ID. The server does not get the request.
    InFront(Reply),
}

impl Fault {
    /// [`Fault::Status`] without more headers.
    #[must_use]
    pub fn status(status: u16, code: &'static str) -> Self {
        Self::Status { status, code, headers: Vec::new() }
    }

    /// Holds each request until `count` requests wait at the same time. Then the server carries out all of them, and holds
    /// no more.
    ///
    /// The server responds to a request that has waited 10 seconds without success with status 400 and the code `HoldTimedOut`,
    /// which clients do not retry. A held request counts even if its client disconnects, so the client's timeout must be
    /// longer than that.
    #[must_use]
    pub fn hold_until(count: usize) -> Self {
        Self::Hold(Arc::new(Gate::new(count, HOLD_LIMIT)))
    }

    /// [`Fault::Page`] of a closure.
    pub fn page(change: impl Fn(Vec<String>, bool) -> (Vec<String>, bool) + Send + Sync + 'static) -> Self {
        Self::Page(Arc::new(change))
    }

    /// [`Fault::Before`] of a closure.
    pub fn before(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(hook))
    }

    /// [`Fault::After`] of a closure.
    pub fn after(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(hook))
    }

    /// Something in front of the server responds with status 200 and a page that asks to log in. The server does not get
    /// the request.
    #[must_use]
    pub fn login_page() -> Self {
        Self::page_in_front(200, "text/html", "<!DOCTYPE html><html><body>Please log in.</body></html>")
    }

    /// [`Fault::InFront`] of a page.
    #[must_use]
    pub fn page_in_front(status: u16, content_type: &str, body: &'static str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self::InFront(Reply { status, headers, body: body.into() })
    }

    /// [`Fault::Custom`] of a closure.
    pub fn custom(responder: impl Fn(&LoggedRequest) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(responder))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, code, .. } => write!(f, "Status({status} {code})"),
            Self::ResetBefore => f.write_str("ResetBefore"),
            Self::ResetAfter => f.write_str("ResetAfter"),
            Self::Stall(time) => write!(f, "Stall({time:?})"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::Hold(gate) => write!(f, "Hold(until {})", gate.count),
            Self::ErrorInside200(code) => write!(f, "ErrorInside200({code})"),
            Self::TrickleBody { piece_bytes, pause } => {
                write!(f, "TrickleBody({piece_bytes} bytes every {pause:?})")
            }
            Self::StallMidBody(time) => write!(f, "StallMidBody({time:?})"),
            Self::TruncatedBody => f.write_str("TruncatedBody"),
            Self::CutDocument => f.write_str("CutDocument"),
            Self::CorruptBody => f.write_str("CorruptBody"),
            Self::WrongEtag => f.write_str("WrongEtag"),
            Self::MissingEtag => f.write_str("MissingEtag"),
            Self::Page(_) => f.write_str("Page"),
            Self::Before(_) => f.write_str("Before"),
            Self::After(_) => f.write_str("After"),
            Self::Custom(_) => f.write_str("Custom"),
            Self::InFront(reply) => write!(f, "InFront({})", reply.status),
        }
    }
}
