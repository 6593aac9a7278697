//! A connection: HTTP/1.1 with one client, which a fault may reset.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::answer::{Shared, answer};
use super::delivery::{Cut, SentBody};
use super::request::Request;

type Failure = Box<dyn Error + Send + Sync>;

/// Serves connections until the sender of `stop` is dropped.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                // The usual cause is that there are no file descriptors left for the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Without it a small answer may wait 40 ms for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let requests = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|request| {
        let (shared, requests) = (Arc::clone(&shared), Arc::clone(&requests));
        exchange(request, shared, requests)
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await
        && error.source().and_then(|cause| cause.downcast_ref()) == Some(&Cut::Reset)
    {
        // Closing a socket without lingering resets it.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
    // A request whose client has gone is carried out all the same, as S3 does.
    let left = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
    left.join_all().await;
}

/// Reads a request and answers it on a task of its own, which outlives the connection.
async fn exchange(
    request: HttpRequest<Incoming>,
    shared: Arc<Shared>,
    requests: Arc<Mutex<JoinSet<()>>>,
) -> Result<Response<SentBody>, Failure> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = Request::new(&parts, body);
    let (sender, receiver) = oneshot::channel();
    {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        while requests.try_join_next().is_some() {}
        requests.spawn(async move {
            let _ = sender.send(answer(shared, request).await);
        });
    }
    receiver.await?
}
