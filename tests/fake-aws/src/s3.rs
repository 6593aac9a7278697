//! An S3 server in memory that fails on request.
//!
//! It implements the part of S3's API that a tool needs to list, read, write and delete objects, with path-style URLs. It
//! is strongly consistent, accepts any credentials and logs every request. A [`Rule`] makes a request meet a [`Fault`].
//! [`Settings`] make the server behave like other S3 servers.
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

mod checksum;
mod chunked;
mod clock;
mod complete;
mod condition;
mod connection;
mod delete;
mod delivery;
mod dispatch;
mod exchange;
mod fault;
mod gate;
mod get;
mod list;
mod log;
mod multipart;
mod object;
mod operation;
mod part;
mod put;
mod refusal;
mod reply;
mod request;
mod rule;
mod seed;
mod settings;
mod state;
mod store;
mod throttle;
mod uploads;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::listener::Listener;
use state::State;

pub use fault::{ChangePage, Fault, Hook, Responder};
pub use gate::Gate;
pub use log::LoggedRequest;
pub use multipart::UnfinishedUpload;
pub use object::Object;
pub use operation::{Operation, Operations};
pub use reply::Reply;
pub use rule::{Rule, When};
pub use seed::Seed;
pub use settings::{ConditionalWrites, ListOrder, ListingDialect, Settings};
pub use throttle::{Counts, Throttle};

/// The handle of a running server. The server stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct S3Server {
    state: Arc<State>,
    listener: Listener,
}

impl S3Server {
    /// Starts a server without buckets on the current Tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the server cannot listen on a port.
    pub async fn start() -> io::Result<Self> {
        let state = Arc::<State>::default();
        let listener = Listener::start(Arc::clone(&state), connection::serve).await?;
        Ok(Self { state, listener })
    }

    /// Starts a server without buckets on a new thread with a runtime of its own, for synchronous callers.
    ///
    /// # Errors
    /// Returns an error if the thread or its runtime cannot start, or if the server cannot listen on a port.
    pub fn start_blocking() -> io::Result<Self> {
        let state = Arc::<State>::default();
        let listener = Listener::start_thread("s3-server", Arc::clone(&state), connection::serve)?;
        Ok(Self { state, listener })
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// The time of the server's clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.state.store().now()
    }

    /// Creates a bucket, or keeps the existing one.
    pub fn create_bucket(&self, name: &str) {
        self.state.store().buckets.entry(name.to_owned()).or_default();
    }

    /// Enables versioning of a bucket: from now on, deletes add delete markers.
    pub fn enable_versioning(&self, bucket: &str) {
        self.state.store().buckets.entry(bucket.to_owned()).or_default().versioned = true;
    }

    /// The number of delete markers in a versioned bucket.
    #[must_use]
    pub fn delete_markers(&self, bucket: &str) -> u64 {
        self.state.store().bucket(bucket).map_or(0, |bucket| bucket.delete_markers)
    }

    /// Writes an object as another writer would. Creates the bucket if it is missing.
    pub fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>, seed: Seed) {
        let mut store = self.state.store();
        let object = store.seeded(body.into(), seed);
        let bucket = store.buckets.entry(bucket.to_owned()).or_default();
        bucket.objects.insert(key.to_owned(), object);
    }

    /// Puts an object back as it was, with its time: an older version whose successors were deleted.
    pub fn restore(&self, bucket: &str, key: &str, object: Object) {
        let mut store = self.state.store();
        store.buckets.entry(bucket.to_owned()).or_default().objects.insert(key.to_owned(), object);
    }

    /// Deletes an object as another writer would.
    pub fn remove(&self, bucket: &str, key: &str) {
        if let Ok(bucket) = self.state.store().bucket_mut(bucket) {
            bucket.delete(key);
        }
    }

    /// The keys that start with the prefix, in byte order.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.select(bucket, prefix, |key, _| key.to_owned())
    }

    /// The bodies of the objects below a prefix, by key.
    #[must_use]
    pub fn bodies(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Bytes> {
        let bodies = self.select(bucket, prefix, |key, object| (key.to_owned(), object.body.clone()));
        bodies.into_iter().collect()
    }

    /// The body of an object, or `None` if the object is missing.
    #[must_use]
    pub fn body(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.state.store().object(bucket, key).map(|object| object.body.clone())
    }

    /// An object, or `None` if it is missing.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Object> {
        self.state.store().object(bucket, key).cloned()
    }

    /// The unfinished multipart uploads, in the order of their upload IDs.
    #[must_use]
    pub fn uploads(&self) -> Vec<UnfinishedUpload> {
        let store = self.state.store();
        store.uploads.iter().map(|(id, upload)| UnfinishedUpload::new(id, upload)).collect()
    }

    /// Adds a multipart upload that another writer created `age` ago and did not finish.
    pub fn seed_upload(&self, bucket: &str, key: &str, age: Duration) {
        multipart::seed(&mut self.state.store(), bucket, key, age);
    }

    /// The requests since the start or [`S3Server::clear_log`], in order of arrival.
    ///
    /// The log omits a request whose body did not arrive completely.
    #[must_use]
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.state.log().of(&Operations::all()).cloned().collect()
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.state.log().clear();
    }

    /// The number of requests of these operations in the log.
    #[must_use]
    pub fn count(&self, operations: impl Into<Operations>) -> usize {
        self.state.log().of(&operations.into()).count()
    }

    /// The requests of these operations in the log.
    #[must_use]
    pub fn requests(&self, operations: impl Into<Operations>) -> Vec<LoggedRequest> {
        self.state.log().of(&operations.into()).cloned().collect()
    }

    /// Changes the settings.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state.store().settings);
    }

    /// Adds a rule. If several rules match a request, the first one applies.
    pub fn rule(&self, rule: Rule) {
        self.state.rules().push(rule);
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.state.rules().clear();
    }

    fn select<T>(&self, bucket: &str, prefix: &str, select: impl Fn(&str, &Object) -> T) -> Vec<T> {
        let store = self.state.store();
        let Ok(bucket) = store.bucket(bucket) else {
            return Vec::new();
        };
        let from = bucket.objects.range(prefix.to_owned()..);
        let under = from.take_while(|(key, _)| key.starts_with(prefix));
        under.map(|(key, object)| select(key, object)).collect()
    }
}
