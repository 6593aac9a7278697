//! A request: an HTTP request as S3 reads it, with a decoded key and a body without framing.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::chunked;
use super::operation::Operation;
use super::refusal::Refusal;

/// A request that has arrived completely.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) method: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Bytes,
    /// The reason why the server cannot read the request. The log contains the request anyway.
    pub(super) problem: Option<Refusal>,
}

impl Request {
    pub(super) fn new(parts: &Parts, received: Bytes) -> Self {
        let path = parts.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let decoded = decode(bucket).zip(decode(key));
        let query = parse_query(parts.uri.query().unwrap_or_default());
        let mut headers = BTreeMap::new();
        for (name, value) in &parts.headers {
            // `to_str` fails for metadata that is not ASCII.
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(name.as_str().to_owned(), value);
        }
        let mut problem = None;
        let body = if chunked::is_framed(&headers) {
            chunked::decode(&received, &mut headers).unwrap_or_else(|refusal| {
                problem = Some(refusal);
                Bytes::new()
            })
        } else {
            received
        };
        if decoded.is_none() {
            let message = "Couldn't parse the specified URI.";
            problem = Some(Refusal::new(400, "InvalidURI", message));
        }
        let (bucket, key) = decoded.unwrap_or_default();
        let method = parts.method.as_str().to_owned();
        let operation = Operation::of(&method, &key, &query, &headers);
        if matches!(operation, Operation::PutObject | Operation::UploadPart) {
            problem = problem.or_else(|| without_length(&headers));
        }
        Self { operation, method, bucket, key, query, headers, body, problem }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Returns a number from the query, or `None` if it is missing.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let parse = |text: &str| {
            let message = format!("Provided {name} not an integer or within integer range");
            text.parse().map_err(|_| Refusal::invalid_argument(&message))
        };
        self.parameter(name).filter(|text| !text.is_empty()).map(parse).transpose()
    }

    /// Returns the part number, 1 to 10,000, or `None` if it is missing.
    pub(super) fn part_number(&self) -> Result<Option<usize>, Refusal> {
        match self.number("partNumber")? {
            Some(number) if !(1..=10_000).contains(&number) => {
                Err(Refusal::invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
            }
            number => Ok(number),
        }
    }

    /// The text that a rule matches: the key, or the prefix of a listing.
    pub(super) fn place(&self) -> &str {
        if self.key.is_empty() { self.parameter("prefix").unwrap_or_default() } else { &self.key }
    }

    /// The bucket and key of `x-amz-copy-source`.
    pub(super) fn copy_source(&self) -> Option<(String, String)> {
        let source = self.header("x-amz-copy-source")?;
        let source = source.strip_prefix('/').unwrap_or(source);
        // A question mark in the key is percent-encoded.
        let path = source.split_once('?').map_or(source, |(path, _)| path);
        let (bucket, key) = path.split_once('/')?;
        decode(bucket).zip(decode(key))
    }

    /// Flips the last bit of the body.
    pub(super) fn corrupted(mut self) -> Self {
        let mut body = self.body.to_vec();
        if let Some(last) = body.last_mut() {
            *last ^= 1;
        }
        self.body = Bytes::from(body);
        self
    }
}

/// Returns an error if an upload has no length: S3 demands it in a header.
fn without_length(headers: &BTreeMap<String, String>) -> Option<Refusal> {
    if chunked::is_framed(headers) || headers.contains_key("content-length") {
        return None;
    }
    if headers.contains_key("transfer-encoding") {
        return Some(Refusal::not_implemented("Transfer-Encoding"));
    }
    let message = "You must provide the Content-Length HTTP header.";
    Some(Refusal::new(411, "MissingContentLength", message))
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// Decodes a query, in which a plus is a space.
fn parse_query(query: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}
