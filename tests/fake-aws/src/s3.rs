//! An S3 server in memory that fails on purpose.
//!
//! It speaks enough of S3's API, path style, for a tool that lists, reads, writes and deletes objects. It is strongly
//! consistent, takes any credentials, logs every request, and meets requests with the [`Fault`]s of its [`Rule`]s.
//! [`Settings`] make it behave as other servers do.
//!
//! ```
//! # use std::time::Duration;
//! # use fake_aws::s3::{Fault, Operation, Rule, S3Server, Seed};
//! let s3 = S3Server::start_blocking()?;
//! s3.put("site", "old.html", "<p>", Seed::aged(Duration::from_secs(3600)));
//! s3.rule(Rule::on(Operation::PutObject).key_contains("new").does(Fault::status(503, "SlowDown")));
//! assert_eq!(s3.keys("site", ""), ["old.html"]);
//! assert_eq!(s3.count(Operation::PutObject), 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod answer;
mod checksum;
mod chunked;
mod clock;
mod complete;
mod condition;
mod connection;
mod delete;
mod delivery;
mod fault;
mod get;
mod list;
mod log;
mod multipart;
mod object;
mod operation;
mod perform;
mod put;
mod refusal;
mod reply;
mod request;
mod rule;
mod seed;
mod settings;
mod store;
mod uploads;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use answer::Shared;

pub use fault::{Answer, ChangePage, Fault, Hook};
pub use log::LoggedRequest;
pub use multipart::OpenUpload;
pub use object::Object;
pub use operation::{Operation, Operations};
pub use reply::Reply;
pub use rule::{Rule, When};
pub use seed::Seed;
pub use settings::{ConditionalWrites, ListOrder, ListingDialect, Settings};

/// A running server. Clones are handles of the same one; it stops when the last is dropped.
#[derive(Clone, Debug)]
pub struct S3Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    _running: Arc<oneshot::Sender<()>>,
}

impl S3Server {
    /// Starts a server without buckets on a free port of 127.0.0.1, on the current Tokio runtime.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start() -> io::Result<Self> {
        let (server, serving) = Self::listen().await?;
        tokio::spawn(serving);
        Ok(server)
    }

    /// Starts a server on a thread and a runtime of its own, for synchronous callers.
    ///
    /// # Errors
    /// When the thread, its runtime or its port cannot be had.
    pub fn start_blocking() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().name("s3-server".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("s3-server")
                .enable_all()
                .build();
            let started = runtime.and_then(|runtime| {
                let listening = runtime.block_on(Self::listen());
                listening.map(|(server, serving)| (server, serving, runtime))
            });
            match started {
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
                Ok((server, serving, runtime)) => {
                    // Only the caller's handles keep the server running.
                    let _ = sender.send(Ok(server));
                    runtime.block_on(serving);
                    // A hook that sleeps is not waited for.
                    runtime.shutdown_background();
                }
            }
        })?;
        receiver.recv().map_err(io::Error::other)?
    }

    async fn listen() -> io::Result<(Self, impl Future<Output = ()> + Send)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (running, stop) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let serving = connection::accept(listener, Arc::clone(&shared), stop);
        let server = Self { shared, address, _running: Arc::new(running) };
        Ok((server, serving))
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The time by the server's clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.shared.store().now()
    }

    /// Creates a bucket; one that exists stays as it is.
    pub fn create_bucket(&self, name: &str) {
        self.shared.store().buckets.entry(name.to_owned()).or_default();
    }

    /// Turns versioning of a bucket on: deletes leave markers from now on.
    pub fn enable_versioning(&self, bucket: &str) {
        self.shared.store().buckets.entry(bucket.to_owned()).or_default().versioned = true;
    }

    /// How many delete markers a versioned bucket has.
    #[must_use]
    pub fn delete_markers(&self, bucket: &str) -> u64 {
        self.shared.store().bucket(bucket).map_or(0, |bucket| bucket.delete_markers)
    }

    /// Puts an object as another tool left it, in a bucket that is created if need be.
    pub fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>, seed: Seed) {
        let mut store = self.shared.store();
        let object = store.seeded(body.into(), seed);
        let bucket = store.buckets.entry(bucket.to_owned()).or_default();
        bucket.objects.insert(key.to_owned(), object);
    }

    /// Removes an object as another tool would.
    pub fn remove(&self, bucket: &str, key: &str) {
        if let Ok(bucket) = self.shared.store().bucket_mut(bucket) {
            bucket.delete(key);
        }
    }

    /// The keys that begin with the prefix, in byte order.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.select(bucket, prefix, |key, _| key.to_owned())
    }

    /// The bodies under a prefix by whole key.
    #[must_use]
    pub fn bodies(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Bytes> {
        let bodies = self.select(bucket, prefix, |key, object| (key.to_owned(), object.body.clone()));
        bodies.into_iter().collect()
    }

    /// The body of an object.
    #[must_use]
    pub fn body(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.shared.store().object(bucket, key).map(|object| object.body.clone())
    }

    /// An object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Object> {
        self.shared.store().object(bucket, key).cloned()
    }

    /// The open multipart uploads, by upload id.
    #[must_use]
    pub fn uploads(&self) -> Vec<OpenUpload> {
        let store = self.shared.store();
        store.uploads.iter().map(|(id, upload)| OpenUpload::new(id, upload)).collect()
    }

    /// Begins a multipart upload as another tool left it `age` ago.
    pub fn leave_upload(&self, bucket: &str, key: &str, age: Duration) {
        multipart::left_open(&mut self.shared.store(), bucket, key, age);
    }

    /// Every request since the start or [`S3Server::clear_log`], in order of arrival.
    ///
    /// A request whose body was not received whole is not among them.
    #[must_use]
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.shared.log().entries().to_vec()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.shared.log().clear();
    }

    /// How many requests of an operation, or of some, the log has.
    #[must_use]
    pub fn count(&self, operations: impl Into<Operations>) -> usize {
        let operations = operations.into();
        let log = self.shared.log();
        log.entries().iter().filter(|request| operations.contain(request.operation)).count()
    }

    /// The requests of an operation, or of some, in the log.
    #[must_use]
    pub fn requests(&self, operations: impl Into<Operations>) -> Vec<LoggedRequest> {
        let operations = operations.into();
        let log = self.shared.log();
        let requests = log.entries().iter();
        requests.filter(|request| operations.contain(request.operation)).cloned().collect()
    }

    /// Changes how the server behaves from now on.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.store().settings);
    }

    /// Adds a rule. A request meets the fault of the first rule that is for it.
    pub fn rule(&self, rule: Rule) {
        self.shared.rules().push(rule);
    }

    /// Drops all rules.
    pub fn clear_rules(&self) {
        self.shared.rules().clear();
    }

    fn select<T>(&self, bucket: &str, prefix: &str, select: impl Fn(&str, &Object) -> T) -> Vec<T> {
        let store = self.shared.store();
        let Ok(bucket) = store.bucket(bucket) else {
            return Vec::new();
        };
        let from = bucket.objects.range(prefix.to_owned()..);
        let under = from.take_while(|(key, _)| key.starts_with(prefix));
        under.map(|(key, object)| select(key, object)).collect()
    }
}
