//! The log: every request that the server received, in order of arrival.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::operation::{Operation, Operations};
use super::request::Request;

/// A logged request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The S3 operation.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// The bucket, or empty for a request without a bucket.
    pub bucket: String,
    /// The decoded key, or empty for a request on the bucket.
    pub key: String,
    /// The decoded query parameters.
    pub query: BTreeMap<String, String>,
    /// The headers and the checksums of a trailer. Names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// The length of the body without its `aws-chunked` framing.
    pub body_bytes: u64,
    /// The XML body of a POST. Empty for other methods.
    pub document: Bytes,
    /// The time by the host's clock at which the request had arrived.
    pub at: SystemTime,
    /// The status of the response, or 0 if the server has not responded or has reset the connection.
    pub status: u16,
    /// Whether a rule applied to the request.
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

/// The requests since the start or the last `clear`.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<LoggedRequest>,
    cleared: usize,
}

impl Log {
    /// Adds a request and returns its number.
    pub(super) fn add(&mut self, request: LoggedRequest) -> usize {
        self.entries.push(request);
        self.cleared + self.entries.len() - 1
    }

    /// Records the status of a response, unless the log was cleared after the request.
    pub(super) fn responded(&mut self, number: usize, status: u16) {
        let entry = number.checked_sub(self.cleared).and_then(|place| self.entries.get_mut(place));
        if let Some(entry) = entry {
            entry.status = status;
        }
    }

    pub(super) fn clear(&mut self) {
        self.cleared += self.entries.len();
        self.entries.clear();
    }

    pub(super) fn of(&self, operations: &Operations) -> impl Iterator<Item = &LoggedRequest> {
        self.entries.iter().filter(|request| operations.contain(request.operation))
    }
}
