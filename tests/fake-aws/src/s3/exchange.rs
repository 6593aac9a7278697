//! An exchange: a request, the fault that applies to it, and the response.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::Response;
use tokio::time::sleep;

use super::clock;
use super::delivery::{Cut, Pace, SentBody, response};
use super::dispatch::{digests, dispatch};
use super::fault::{ChangePage, Fault};
use super::log::LoggedRequest;
use super::reply::Reply;
use super::request::Request;
use super::state::State;

/// The message of an error response that a fault sends.
const INJECTED: &str = "This failure is injected.";

/// Logs a request, applies its fault and returns the response.
///
/// # Errors
/// Returns an error if the connection is to be reset instead.
pub(super) async fn respond(
    state: Arc<State>,
    request: Request,
) -> Result<Response<SentBody>, Box<dyn Error + Send + Sync>> {
    let fault = state.fault(&request);
    let number = state.log().add(LoggedRequest::new(&request, fault.is_some()));
    let head = request.method == "HEAD";
    let is_of_server = !matches!(fault, Some(Fault::InFront(_)));
    let (reply, pace) = match fault {
        None => (carry_out(&state, request, None).await?, Pace::Whole),
        Some(fault) => apply(&state, request, fault).await?,
    };
    let id = || format!("{:016X}", number + 1);
    let reply = if is_of_server { reply.with("x-amz-request-id", id()) } else { reply };
    let reply = if reply.header("date").is_some() {
        reply
    } else {
        let store = state.store();
        let now = if store.settings.date_of_proxy { SystemTime::now() } else { store.now() };
        reply.with("Date", clock::http_date(now))
    };
    state.log().responded(number, reply.status);
    Ok(response(reply, pace, head))
}

async fn apply(state: &Arc<State>, request: Request, fault: Fault) -> Result<(Reply, Pace), Cut> {
    let reply = match fault {
        Fault::Status { status, code, headers } => {
            let reply = Reply::error(status, code, INJECTED, &request.key);
            headers.into_iter().fold(reply, |reply, (name, value)| reply.with(name, value))
        }
        Fault::ErrorInside200(code) => Reply::error(200, code, INJECTED, &request.key),
        Fault::ResetBefore => return Err(Cut::Reset),
        Fault::ResetAfter => {
            carry_out(state, request, None).await?;
            return Err(Cut::Reset);
        }
        Fault::Stall(time) => {
            sleep(time).await;
            return Err(Cut::Reset);
        }
        Fault::Delay(time) => {
            sleep(time).await;
            carry_out(state, request, None).await?
        }
        Fault::Hold(gate) => match gate.pass().await {
            Ok(()) => carry_out(state, request, None).await?,
            Err(most) => {
                let message = format!("At most {most} of {} requests waited within {:?}.", gate.count, gate.limit);
                Reply::error(400, "HoldTimedOut", &message, &request.key)
            }
        },
        Fault::TrickleBody { piece_bytes, pause } => {
            return Ok((carry_out(state, request, None).await?, Pace::Trickle { piece_bytes, pause }));
        }
        Fault::StallMidBody(time) => return Ok((carry_out(state, request, None).await?, Pace::StallMidway(time))),
        Fault::TruncatedBody => return Ok((carry_out(state, request, None).await?, Pace::CloseMidway)),
        Fault::CutDocument => carry_out(state, request, None).await?.cut_off(),
        Fault::CorruptBody => carry_out(state, request.corrupted(), None).await?,
        Fault::WrongEtag => carry_out(state, request, None).await?.with_wrong_etag(),
        Fault::MissingEtag => carry_out(state, request, None).await?.without_etag(),
        Fault::Page(change) => carry_out(state, request, Some(change)).await?,
        Fault::Before(hook) => {
            blocking(move || hook()).await?;
            carry_out(state, request, None).await?
        }
        Fault::After(hook) => {
            let reply = carry_out(state, request, None).await?;
            blocking(move || hook()).await?;
            reply
        }
        Fault::InFront(reply) => reply,
        Fault::Custom(responder) => {
            let logged = LoggedRequest::new(&request, true);
            match blocking(move || responder(&logged)).await? {
                Some(reply) => reply,
                None => carry_out(state, request, None).await?,
            }
        }
    };
    Ok((reply, Pace::Whole))
}

/// Carries a request out on a blocking thread. It computes the digests of the body before it locks the store.
async fn carry_out(state: &Arc<State>, request: Request, change: Option<ChangePage>) -> Result<Reply, Cut> {
    let state = Arc::clone(state);
    blocking(move || {
        let digests = digests(&request);
        dispatch(&mut state.store(), &request, digests.as_ref(), change.as_ref())
    })
    .await
}

/// Runs work that may block. If the work panics, the connection is reset.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cut> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Cut::Reset)
}
