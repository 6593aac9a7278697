//! The log: every request the server received, in order of arrival.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::operation::Operation;
use super::request::Request;

/// A request as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Which call it was.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// The bucket, empty if none was named.
    pub bucket: String,
    /// The key, decoded; empty for a call on the bucket.
    pub key: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The headers, names in lower case, with the checksums of a trailer.
    pub headers: BTreeMap<String, String>,
    /// The length of the body without its framing.
    pub body_bytes: u64,
    /// The XML body of a POST; empty for other methods, whose bodies are objects.
    pub document: Bytes,
    /// When it had been received, by the host's clock.
    pub at: SystemTime,
    /// The status of the answer; 0 while there is none, and for good if the connection was reset instead.
    pub status: u16,
    /// Whether a rule met it.
    pub faulted: bool,
}

impl LoggedRequest {
    pub(super) fn new(request: &Request, faulted: bool) -> Self {
        let document = if request.method == "POST" { request.body.clone() } else { Bytes::new() };
        Self {
            operation: request.operation,
            method: request.method.clone(),
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body_bytes: u64::try_from(request.body.len()).unwrap_or(u64::MAX),
            document,
            at: SystemTime::now(),
            status: 0,
            faulted,
        }
    }
}

/// The requests since the start or the last clearing.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<LoggedRequest>,
    cleared: usize,
}

impl Log {
    /// Adds a request and gives its number.
    pub(super) fn add(&mut self, request: LoggedRequest) -> usize {
        self.entries.push(request);
        self.cleared + self.entries.len() - 1
    }

    /// Notes the answer's status; a request that was cleared away meanwhile is not brought back.
    pub(super) fn answered(&mut self, number: usize, status: u16) {
        let entry = number.checked_sub(self.cleared).and_then(|place| self.entries.get_mut(place));
        if let Some(entry) = entry {
            entry.status = status;
        }
    }

    pub(super) fn clear(&mut self) {
        self.cleared += self.entries.len();
        self.entries.clear();
    }

    pub(super) fn entries(&self) -> &[LoggedRequest] {
        &self.entries
    }
}
