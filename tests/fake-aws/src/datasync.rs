//! A DataSync server: its JSON protocol over HTTP, one task, and executions that follow a script.
//!
//! An execution can copy files when it succeeds: [`mod@reference`] copies a tree like DataSync. [`Service::faults`] make
//! requests fail.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

mod execution;
pub mod reference;
mod service;
mod service_fault;
#[cfg(test)]
mod tests;

use crate::listener::Listener;

pub use execution::{EffectiveOptions, Script};
pub use service::{Cancel, Falsify, Service, Work};
pub use service_fault::ServiceFault;

/// How long the server holds a request that it does not respond to.
const SILENCE: Duration = Duration::from_mins(10);

/// The handle of a running server. The server stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DataSyncServer {
    service: Arc<Mutex<Service>>,
    listener: Listener,
}

impl DataSyncServer {
    /// Starts a server on a new thread with a runtime of its own. Its task is in this partition and region.
    ///
    /// # Errors
    /// Returns an error if the thread or its runtime cannot start, or if the server cannot listen on a port.
    pub fn start(partition: &str, region: &str) -> io::Result<Self> {
        let service = Arc::new(Mutex::new(Service::new(partition, region)));
        let listener = Listener::start_thread("datasync-server", Arc::clone(&service), serve)?;
        Ok(Self { service, listener })
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// The ARN of the task.
    #[must_use]
    pub fn task_arn(&self) -> String {
        self.service().task_arn().to_owned()
    }

    /// Changes the task, its future executions or the faults.
    pub fn change(&self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service());
    }

    /// Starts an execution as another client would, and returns its ARN.
    #[must_use]
    pub fn start_execution(&self) -> String {
        self.service().start_execution()
    }

    /// Lets the executions that have ended do their work now, as the next request would.
    pub fn settle(&self) {
        self.service().finish_executions();
    }

    /// The operations and bodies of the requests so far, in order of arrival.
    #[must_use]
    pub fn log(&self) -> Vec<(String, Value)> {
        self.service().log.clone()
    }

    /// The number of requests of an operation so far.
    #[must_use]
    pub fn count(&self, operation: &str) -> usize {
        self.service().log.iter().filter(|(seen, _)| seen == operation).count()
    }

    /// The operations of the requests so far.
    #[must_use]
    pub fn operations(&self) -> BTreeSet<String> {
        self.service().log.iter().map(|(operation, _)| operation.clone()).collect()
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        lock(&self.service)
    }
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a connection to its end.
async fn serve(stream: TcpStream, service: Arc<Mutex<Service>>) {
    let handler = service_fn(|request| handle(request, &service));
    // The error of a request ends its connection, which is the requested fault.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handler).await;
}

async fn handle(request: Request<Incoming>, service: &Mutex<Service>) -> io::Result<Response<Full<Bytes>>> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = lock(service).respond(&operation, &body);
    match result {
        Ok(body) => Ok(response(200, &body)),
        Err(ServiceFault::Error { status, code, message }) => {
            let error = serde_json::json!({ "__type": code, "message": message, "errorCode": code });
            Ok(response(status, &error))
        }
        Err(ServiceFault::Reset) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Err(ServiceFault::Silence) => {
            tokio::time::sleep(SILENCE).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        }
    }
}

fn response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status.try_into().unwrap_or_default();
    let json = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
