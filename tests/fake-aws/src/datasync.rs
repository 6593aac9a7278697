//! A DataSync that does what it is told: its JSON protocol over HTTP, one task, and executions that go by a script.
//!
//! An execution that succeeds may really copy ([`mod@reference`]). Requests meet the [`Trouble`] that was ordered for them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub mod reference;
mod service;

pub use service::{Cancel, Script, Service, Trouble};

/// How long a request that meets silence is held.
const SILENCE: Duration = Duration::from_mins(10);

/// A server; it stops when its last handle is dropped.
#[derive(Clone, Debug)]
pub struct DataSyncServer {
    service: Arc<Mutex<Service>>,
    address: SocketAddr,
    /// Dropped with the last handle.
    _running: Arc<oneshot::Sender<()>>,
}

impl DataSyncServer {
    /// Starts a server with a task in this partition and region, on a thread and a runtime of its own.
    ///
    /// # Errors
    /// When the thread, its runtime or its port cannot be had.
    pub fn start(partition: &str, region: &str) -> io::Result<Self> {
        let service = Arc::new(Mutex::new(Service::new(partition, region)));
        let (sender, receiver) = mpsc::channel();
        let serving = Arc::clone(&service);
        std::thread::Builder::new().name("datasync-server".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let listening = runtime.and_then(|runtime| {
                let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
                let address = listener.local_addr()?;
                Ok((runtime, listener, address))
            });
            match listening {
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
                Ok((runtime, listener, address)) => {
                    let (running, stop) = oneshot::channel();
                    let _ = sender.send(Ok((address, running)));
                    runtime.block_on(accept(&listener, &serving, stop));
                    runtime.shutdown_background();
                }
            }
        })?;
        let (address, running) = receiver.recv().map_err(io::Error::other)??;
        Ok(Self { service, address, _running: Arc::new(running) })
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The task's ARN.
    #[must_use]
    pub fn task_arn(&self) -> String {
        self.service().task_arn().to_owned()
    }

    /// Changes the task, or how its executions go from now on.
    pub fn change(&self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service());
    }

    /// Begins an execution as somebody else would; returns its ARN.
    #[must_use]
    pub fn begin(&self) -> String {
        self.service().begin()
    }

    /// The requests so far: operation and body.
    #[must_use]
    pub fn log(&self) -> Vec<(String, Value)> {
        self.service().log.clone()
    }

    /// How many requests of an operation there were.
    #[must_use]
    pub fn count(&self, operation: &str) -> usize {
        self.service().log.iter().filter(|(seen, _)| seen == operation).count()
    }

    /// The operations that were asked for.
    #[must_use]
    pub fn operations(&self) -> BTreeSet<String> {
        self.service().log.iter().map(|(operation, _)| operation.clone()).collect()
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: &TcpListener, service: &Arc<Mutex<Service>>, mut stop: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, Arc::clone(service)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

async fn serve(stream: TcpStream, service: Arc<Mutex<Service>>) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| exchange(request, &service));
    // A request that meets a reset ends its connection, which is the fault that was ordered.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

async fn exchange(request: Request<Incoming>, service: &Mutex<Service>) -> io::Result<Response<Full<Bytes>>> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answered = service.lock().unwrap_or_else(PoisonError::into_inner).answer(&operation, &body);
    match answered {
        Ok(answer) => Ok(reply(200, &answer)),
        Err(Trouble::Error { status, code, message }) => {
            let error = serde_json::json!({ "__type": code, "message": message, "errorCode": code });
            Ok(reply(status, &error))
        }
        Err(Trouble::Reset) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Err(Trouble::Silence) => {
            tokio::time::sleep(SILENCE).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        }
    }
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status.try_into().unwrap_or_default();
    let json = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
