//! A connection: HTTP/1.1 with one client, which a fault can reset.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::delivery::{Cut, SentBody};
use super::exchange::respond;
use super::request::Request;
use super::state::State;

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, state: Arc<State>) {
    let requests = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|request| handle(request, Arc::clone(&state), Arc::clone(&requests)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await
        && error.source().and_then(|cause| cause.downcast_ref()) == Some(&Cut::Reset)
    {
        // Closing a socket without lingering resets it.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
    // Like S3, the server carries out a request even if the client has disconnected.
    let unfinished = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
    unfinished.join_all().await;
}

/// Reads a request and responds to it on a task of its own, which outlives the connection.
async fn handle(
    request: HttpRequest<Incoming>,
    state: Arc<State>,
    requests: Arc<Mutex<JoinSet<()>>>,
) -> Result<Response<SentBody>, Box<dyn Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = Request::new(&parts, body);
    let (sender, receiver) = oneshot::channel();
    {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        while requests.try_join_next().is_some() {}
        requests.spawn(async move {
            let _ = sender.send(respond(state, request).await);
        });
    }
    receiver.await?
}
