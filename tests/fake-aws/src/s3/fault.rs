//! A fault: what a rule makes of a request instead of a plain answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::log::LoggedRequest;
use super::reply::Reply;

/// Changes the names of a listing page and whether it is truncated.
pub type ChangePage = Arc<dyn Fn(Vec<String>, bool) -> (Vec<String>, bool) + Send + Sync>;
/// Does something while a request is under way; it may block.
pub type Hook = Arc<dyn Fn() + Send + Sync>;
/// Answers a request itself, or leaves it to the server; it may block.
pub type Answer = Arc<dyn Fn(&LoggedRequest) -> Option<Reply> + Send + Sync>;

/// What happens to a request that a rule meets.
#[derive(Clone)]
pub enum Fault {
    /// An error answer; nothing is done.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code in the XML.
        code: &'static str,
        /// Further headers, such as `Retry-After`.
        headers: Vec<(&'static str, String)>,
    },
    /// The connection is reset; nothing is done.
    ResetBefore,
    /// The request is carried out, then the connection is reset.
    ResetAfter,
    /// Silence for this long, then a reset; nothing is done.
    Stall(Duration),
    /// Silence for this long, then the request is carried out and answered, even if its client has gone.
    Delay(Duration),
    /// Status 200 and an error with this code in the body; nothing is done.
    ErrorInside200(&'static str),
    /// The right answer, its body sent in small pieces.
    TrickleBody {
        /// The length of a piece in bytes.
        piece_bytes: usize,
        /// The pause before each piece.
        pause: Duration,
    },
    /// The right answer up to the middle of its body, then silence for this long and a reset.
    StallMidBody(Duration),
    /// The right answer up to the middle of its body, then the connection is closed.
    TruncatedBody,
    /// The server receives the body with its last bit flipped: `BadDigest` if the request says what the body adds up to,
    /// otherwise a damaged object. An empty body is received as it is.
    CorruptBody,
    /// The request is carried out, and each `ETag` in the answer is wrong.
    WrongEtag,
    /// A listing page with other keys or another truncation. The next page follows the last key that is shown; a page
    /// without keys that says it is truncated is followed by the keys it would have shown.
    Page(ChangePage),
    /// The hook runs, then the request is carried out and answered.
    Before(Hook),
    /// The request is carried out, then the hook runs, then the answer is sent.
    After(Hook),
    /// The function answers; the server does if it gives `None`.
    Custom(Answer),
}

impl Fault {
    /// An error answer without further headers.
    #[must_use]
    pub fn status(status: u16, code: &'static str) -> Self {
        Self::Status { status, code, headers: Vec::new() }
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

    /// [`Fault::Custom`] of a closure.
    pub fn custom(answer: impl Fn(&LoggedRequest) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(answer))
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
            Self::ErrorInside200(code) => write!(f, "ErrorInside200({code})"),
            Self::TrickleBody { piece_bytes, pause } => {
                write!(f, "TrickleBody({piece_bytes} bytes every {pause:?})")
            }
            Self::StallMidBody(time) => write!(f, "StallMidBody({time:?})"),
            Self::TruncatedBody => f.write_str("TruncatedBody"),
            Self::CorruptBody => f.write_str("CorruptBody"),
            Self::WrongEtag => f.write_str("WrongEtag"),
            Self::Page(_) => f.write_str("Page"),
            Self::Before(_) => f.write_str("Before"),
            Self::After(_) => f.write_str("After"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}
