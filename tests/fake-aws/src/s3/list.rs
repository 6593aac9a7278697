//! A page of a listing: `ListObjectsV2`.

use std::cmp::Ordering;
use std::ops::Bound;

use aws_smithy_types::base64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::clock;
use super::fault::ChangePage;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::settings::{ListOrder, ListingDialect, Settings};
use super::store::{Bucket, Store};
use super::xml::Xml;

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The parameters of a listing.
struct Query<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// The name that the page starts after. Empty for the first page.
    after: String,
    max_keys: usize,
}

/// Returns one page. `change` can replace its names and its truncation.
pub(super) fn page(store: &Store, request: &Request, change: Option<&ChangePage>) -> Result<Reply, Refusal> {
    let bucket = store.bucket(&request.bucket)?;
    let settings = &store.settings;
    let names = Names::of(request, settings)?;
    let query = Query {
        prefix: request.parameter("prefix").unwrap_or_default(),
        delimiter: request.parameter("delimiter").filter(|delimiter| !delimiter.is_empty()),
        after: after(request)?,
        max_keys: request.number("max-keys")?.unwrap_or(1000),
    };
    let (mut page, mut truncated) = names_of_page(bucket, settings, &query);
    if let Some(change) = change {
        (page, truncated) = change(page, truncated);
    }
    // The next page starts after the last name of this one. If `change` removed all names, the next page has them.
    let next = truncated.then(|| token(page.last().unwrap_or(&query.after)));
    let (prefixes, keys): (Vec<&String>, Vec<&String>) = page.iter().partition(|name| rolled(name, &query).is_some());
    let document = Xml::document("ListBucketResult", |xml| {
        xml.text("Name", &request.bucket);
        xml.text("Prefix", &names.encode(query.prefix));
        if let Some(delimiter) = query.delimiter {
            xml.text("Delimiter", &names.encode(delimiter));
        }
        if let Some(start) = request.parameter("start-after") {
            xml.text("StartAfter", &names.encode(start));
        }
        if let Some(token) = request.parameter("continuation-token") {
            xml.text("ContinuationToken", token);
        }
        xml.text("KeyCount", &page.len().to_string());
        xml.text("MaxKeys", &query.max_keys.to_string());
        if names.url {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if truncated { "true" } else { "false" });
        if let Some(token) = &next {
            xml.text("NextContinuationToken", token);
        }
        for key in keys {
            xml.node("Contents", |xml| contents(xml, bucket, key, &names));
        }
        for prefix in prefixes {
            xml.node("CommonPrefixes", |xml| {
                xml.text("Prefix", &names.encode(prefix));
            });
        }
    });
    Ok(Reply::xml(200, document))
}

fn contents(xml: &mut Xml, bucket: &Bucket, key: &str, names: &Names) {
    xml.text("Key", &names.encode(key));
    // `change` can add a key that has no object.
    let Some(object) = bucket.objects.get(key) else {
        xml.text("LastModified", &clock::iso(std::time::SystemTime::UNIX_EPOCH));
        xml.etag("d41d8cd98f00b204e9800998ecf8427e");
        xml.text("Size", "0");
        xml.text("StorageClass", "STANDARD");
        return;
    };
    xml.text("LastModified", &clock::iso(object.modified));
    xml.etag(&object.etag);
    xml.text("Size", &object.size_bytes().to_string());
    xml.text("StorageClass", object.storage_class());
}

/// Returns the keys and common prefixes of the page in order, and whether more follow.
fn names_of_page(bucket: &Bucket, settings: &Settings, query: &Query) -> (Vec<String>, bool) {
    let limit = query.max_keys.min(settings.page_size).min(1000);
    let mut names: Vec<String> = Vec::new();
    if limit == 0 {
        return (names, false);
    }
    for key in keys_after(bucket, settings.list_order, query) {
        let name = rolled(key, query).unwrap_or(key);
        let seen = names.last().map_or(query.after.as_str(), String::as_str);
        if name == seen {
            continue;
        }
        if names.len() == limit {
            return (names, true);
        }
        names.push(name.to_owned());
    }
    (names, false)
}

/// Returns the common prefix that represents a key in this listing, if any.
fn rolled<'k>(key: &'k str, query: &Query) -> Option<&'k str> {
    let delimiter = query.delimiter?;
    let rest = key.strip_prefix(query.prefix)?;
    let length = query.prefix.len() + rest.find(delimiter)? + delimiter.len();
    key.get(..length)
}

fn keys_after<'b>(bucket: &'b Bucket, order: ListOrder, query: &'b Query) -> Box<dyn Iterator<Item = &'b str> + 'b> {
    let (prefix, after) = (query.prefix, query.after.as_str());
    let from = |start: Bound<&'b str>| {
        let keys = bucket.objects.range::<str, _>((start, Bound::Unbounded));
        keys.map(|(key, _)| key.as_str()).take_while(move |key| key.starts_with(prefix))
    };
    match order {
        ListOrder::Bytes if after > prefix => Box::new(from(Bound::Excluded(after))),
        ListOrder::Bytes => Box::new(from(Bound::Included(prefix))),
        ListOrder::DirectoriesFirst => {
            let mut keys: Vec<&str> = from(Bound::Included(prefix))
                .filter(|key| after.is_empty() || by_component(key, after) == Ordering::Greater)
                .collect();
            keys.sort_unstable_by(|a, b| by_component(a, b));
            Box::new(keys.into_iter())
        }
    }
}

/// Compares paths component by component: the slash sorts before any other byte.
fn by_component(a: &str, b: &str) -> Ordering {
    // UTF-8 has no byte 0xFF, so adding 1 keeps the order.
    let rank = |byte: u8| {
        if byte == b'/' { 0 } else { byte.saturating_add(1) }
    };
    a.bytes().map(rank).cmp(b.bytes().map(rank))
}

/// Returns the name that the page starts after: the token's, otherwise `start-after`.
fn after(request: &Request) -> Result<String, Refusal> {
    let Some(token) = request.parameter("continuation-token") else {
        return Ok(request.parameter("start-after").unwrap_or_default().to_owned());
    };
    token
        .strip_prefix("after.")
        .and_then(|name| base64::decode(name).ok())
        .and_then(|name| String::from_utf8(name).ok())
        .ok_or_else(|| Refusal::invalid_argument("The continuation token provided is incorrect"))
}

fn token(after: &str) -> String {
    format!("after.{}", base64::encode(after))
}

/// How names are encoded in a response.
pub(super) struct Names {
    /// Whether the response has `EncodingType=url`.
    pub(super) url: bool,
    plus: bool,
}

impl Names {
    pub(super) fn of(request: &Request, settings: &Settings) -> Result<Self, Refusal> {
        let requested = match request.parameter("encoding-type") {
            None | Some("") => false,
            Some("url") => true,
            Some(_) => {
                let message = "Invalid Encoding Method specified in Request";
                return Err(Refusal::invalid_argument(message));
            }
        };
        Ok(Self {
            url: requested && settings.listing != ListingDialect::Ignored,
            plus: settings.listing == ListingDialect::S3,
        })
    }

    pub(super) fn encode(&self, name: &str) -> String {
        if !self.url {
            return name.to_owned();
        }
        let encoded = utf8_percent_encode(name, ENCODED).to_string();
        if self.plus {
            // A percent sign in the name is `%25` here, so each `%20` is a space.
            encoded.replace("%20", "+")
        } else {
            encoded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_first_in_the_order_of_components() {
        let mut keys = ["a-b/x", "a!", "a/x", "a", "b"];
        keys.sort_by(|a, b| by_component(a, b));
        assert_eq!(keys, ["a", "a/x", "a!", "a-b/x", "b"]);
    }

    #[test]
    fn a_space_is_a_plus_on_s3_and_percent_20_elsewhere() {
        let s3 = Names { url: true, plus: true };
        assert_eq!(s3.encode("a b+c%20/é"), "a+b%2Bc%2520/%C3%A9");
        let other = Names { url: true, plus: false };
        assert_eq!(other.encode("a b+c"), "a%20b%2Bc");
    }
}
