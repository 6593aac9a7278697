//! An answer: a request met by the fault of the first rule that is for it, or carried out plainly.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Response;
use tokio::time::sleep;

use super::clock;
use super::delivery::{Cut, Pace, SentBody, response};
use super::fault::{ChangePage, Fault};
use super::log::{Log, LoggedRequest};
use super::perform::{digests, perform};
use super::reply::Reply;
use super::request::Request;
use super::rule::Rule;
use super::store::Store;

/// What all connections share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    store: Mutex<Store>,
    log: Mutex<Log>,
    rules: Mutex<Vec<Rule>>,
}

impl Shared {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(super) fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        lock(&self.rules)
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.rules();
        rules.iter_mut().find_map(|rule| rule.meets(request.operation, request.place()))
    }
}

/// A panic of a test's closure must not hide what the test asserts afterwards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs a request, lets its fault happen and gives the answer, if there is to be one.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request,
) -> Result<Response<SentBody>, Box<dyn Error + Send + Sync>> {
    let fault = shared.fault(&request);
    let number = shared.log().add(LoggedRequest::new(&request, fault.is_some()));
    let head = request.method == "HEAD";
    let (reply, pace) = match fault {
        None => (carry_out(&shared, request, None).await?, Pace::Whole),
        Some(fault) => meet(&shared, request, fault).await?,
    };
    let reply = reply.with("x-amz-request-id", format!("{:016X}", number + 1));
    let reply = match reply.header("date") {
        Some(_) => reply,
        None => reply.with("Date", clock::http_date(shared.store().now())),
    };
    shared.log().answered(number, reply.status);
    Ok(response(reply, pace, head))
}

async fn meet(
    shared: &Arc<Shared>,
    request: Request,
    fault: Fault,
) -> Result<(Reply, Pace), Box<dyn Error + Send + Sync>> {
    let whole = |reply| Ok((reply, Pace::Whole));
    match fault {
        Fault::Status { status, code, headers } => {
            let reply = Reply::error(status, code, "This failure is injected.", &request.key);
            whole(headers.into_iter().fold(reply, |reply, (name, value)| reply.with(name, value)))
        }
        Fault::ResetBefore => Err(Cut::Reset.into()),
        Fault::ResetAfter => {
            carry_out(shared, request, None).await?;
            Err(Cut::Reset.into())
        }
        Fault::Stall(time) => {
            sleep(time).await;
            Err(Cut::Reset.into())
        }
        Fault::Delay(time) => {
            sleep(time).await;
            whole(carry_out(shared, request, None).await?)
        }
        Fault::ErrorInside200(code) => whole(Reply::error(200, code, "This failure is injected.", &request.key)),
        Fault::TrickleBody { piece_bytes, pause } => {
            let reply = carry_out(shared, request, None).await?;
            Ok((reply, Pace::Trickle { piece_bytes, pause }))
        }
        Fault::StallMidBody(time) => Ok((carry_out(shared, request, None).await?, Pace::StallMidway(time))),
        Fault::TruncatedBody => Ok((carry_out(shared, request, None).await?, Pace::CloseMidway)),
        Fault::CorruptBody => whole(carry_out(shared, request.corrupted(), None).await?),
        Fault::WrongEtag => whole(carry_out(shared, request, None).await?.with_wrong_etag()),
        Fault::Page(change) => whole(carry_out(shared, request, Some(change)).await?),
        Fault::Before(hook) => {
            blocking(move || hook()).await?;
            whole(carry_out(shared, request, None).await?)
        }
        Fault::After(hook) => {
            let reply = carry_out(shared, request, None).await?;
            blocking(move || hook()).await?;
            whole(reply)
        }
        Fault::Custom(custom) => {
            let logged = LoggedRequest::new(&request, true);
            match blocking(move || custom(&logged)).await? {
                Some(reply) => whole(reply),
                None => whole(carry_out(shared, request, None).await?),
            }
        }
    }
}

/// Carries a request out. Digests of large bodies take a while, and so they are made outside the lock and off the
/// runtime's threads.
async fn carry_out(shared: &Arc<Shared>, request: Request, change: Option<ChangePage>) -> Result<Reply, Cut> {
    let shared = Arc::clone(shared);
    blocking(move || {
        let digests = digests(&request);
        perform(&mut shared.store(), &request, digests.as_ref(), change.as_ref())
    })
    .await
}

/// Runs what may block. If it panics, its request has no answer.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cut> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Cut::Reset)
}
