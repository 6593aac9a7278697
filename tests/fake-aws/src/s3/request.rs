//! A request: an HTTP request as S3 understands it, its key decoded and its body without framing.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::chunked;
use super::operation::Operation;
use super::refusal::Refusal;

/// A request that was received whole.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) method: String,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Bytes,
    /// Why it cannot be understood; it is logged all the same.
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
            // Metadata need not be ASCII, so `to_str` would lose it.
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
            problem = problem.or_else(|| unmeasured(&headers));
        }
        Self { operation, method, bucket, key, query, headers, body, problem }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A number in the query; `None` if it is not given.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let parse = |text: &str| {
            let message = format!("Provided {name} not an integer or within integer range");
            text.parse().map_err(|_| Refusal::invalid_argument(&message))
        };
        self.parameter(name).filter(|text| !text.is_empty()).map(parse).transpose()
    }

    /// The number of a part, 1 to 10,000; `None` if it is not given.
    pub(super) fn part_number(&self) -> Result<Option<usize>, Refusal> {
        match self.number("partNumber")? {
            Some(number) if !(1..=10_000).contains(&number) => {
                Err(Refusal::invalid_argument("Part number must be an integer between 1 and 10000, inclusive"))
            }
            number => Ok(number),
        }
    }

    /// What a rule compares with the key: a listing has no key but a prefix.
    pub(super) fn place(&self) -> &str {
        if self.key.is_empty() { self.parameter("prefix").unwrap_or_default() } else { &self.key }
    }

    /// The bucket and key of `x-amz-copy-source`.
    pub(super) fn copy_source(&self) -> Option<(String, String)> {
        let source = self.header("x-amz-copy-source")?;
        let source = source.strip_prefix('/').unwrap_or(source);
        // A question mark of the key itself is encoded.
        let path = source.split_once('?').map_or(source, |(path, _)| path);
        let (bucket, key) = path.split_once('/')?;
        decode(bucket).zip(decode(key))
    }

    /// The request as a server would see it if its body had been damaged on the way.
    pub(super) fn corrupted(mut self) -> Self {
        let mut body = self.body.to_vec();
        if let Some(last) = body.last_mut() {
            *last ^= 1;
        }
        self.body = Bytes::from(body);
        self
    }
}

/// S3 wants to know the length of an upload before it begins.
fn unmeasured(headers: &BTreeMap<String, String>) -> Option<Refusal> {
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

/// In a query, unlike in a path, a plus is a blank.
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
