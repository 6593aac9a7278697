//! An object: a body with its headers, times and checksums.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::checksum::{self, hex};
use super::clock;
use super::refusal::Refusal;
use super::request::Request;

/// The header with the storage class.
pub(super) const STORAGE_CLASS: &str = "x-amz-storage-class";
/// The header with the encryption.
pub(super) const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// The header with the redirect of a static website.
pub(super) const REDIRECT: &str = "x-amz-website-redirect-location";

/// The header with the tags, which no response repeats.
pub(super) const TAGS: &str = "x-amz-tagging";

const USER_METADATA: &str = "x-amz-meta-";
const USER_METADATA_LIMIT_BYTES: usize = 2048;
const KEPT: [&str; 14] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    STORAGE_CLASS,
    ENCRYPTION,
    "x-amz-server-side-encryption-aws-kms-key-id",
    REDIRECT,
    TAGS,
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
];

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The body.
    pub body: Bytes,
    /// The `ETag` without quotes.
    pub etag: String,
    /// When the object was written, or when its multipart upload was created.
    pub modified: SystemTime,
    /// The stored headers, including user metadata. Names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// The sizes of the parts in bytes. Empty if the object was written in one request.
    pub part_sizes_bytes: Vec<u64>,
    /// The checksum headers of a response to a read with `x-amz-checksum-mode`.
    pub checksums: BTreeMap<String, String>,
}

impl Object {
    /// The storage class, by default `STANDARD`.
    #[must_use]
    pub fn storage_class(&self) -> &str {
        self.headers.get(STORAGE_CLASS).map_or("STANDARD", String::as_str)
    }

    /// The value of one user metadata header, whose name is `x-amz-meta-{name}`.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.headers.get(&format!("{USER_METADATA}{name}")).map(String::as_str)
    }

    /// The tags by their keys.
    #[must_use]
    pub fn tags(&self) -> BTreeMap<String, String> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = self.headers.get(TAGS).into_iter().flat_map(|query| query.split('&'));
        pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
    }

    /// The length of the body in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::try_from(self.body.len()).unwrap_or(u64::MAX)
    }

    /// Whether a client must restore the object before it can read it.
    pub(super) fn is_archived(&self) -> bool {
        matches!(self.storage_class(), "GLACIER" | "DEEP_ARCHIVE")
    }

    /// The value of `Last-Modified`.
    pub(super) fn last_modified(&self) -> String {
        clock::http_date(self.modified)
    }
}

/// Returns the headers of a request that are stored with the object.
pub(super) fn kept_headers(request: &Request) -> Result<BTreeMap<String, String>, Refusal> {
    let mut kept = BTreeMap::new();
    let mut metadata_bytes = 0;
    for (name, value) in &request.headers {
        if let Some(short) = name.strip_prefix(USER_METADATA) {
            metadata_bytes += short.len() + value.len();
        } else if !KEPT.contains(&name.as_str()) {
            continue;
        }
        if name == "content-encoding" {
            // The framing is not a property of the object.
            let codings: Vec<&str> = value
                .split(',')
                .map(str::trim)
                .filter(|coding| !coding.is_empty() && *coding != "aws-chunked")
                .collect();
            if !codings.is_empty() {
                kept.insert(name.clone(), codings.join(","));
            }
        } else {
            kept.insert(name.clone(), value.clone());
        }
    }
    if metadata_bytes > USER_METADATA_LIMIT_BYTES {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(Refusal::new(400, "MetadataTooLarge", message));
    }
    Ok(kept)
}

/// Returns the `ETag` of a multipart object: the MD5 of the parts' MD5s, and the number of parts.
pub(super) fn multipart_etag<'a>(digests: impl IntoIterator<Item = &'a [u8; 16]>) -> String {
    let digests: Vec<[u8; 16]> = digests.into_iter().copied().collect();
    let whole = checksum::md5(digests.as_flattened());
    format!("{}-{}", hex(&whole), digests.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multipart_etag_is_the_md5_of_the_md5s_and_their_count() {
        let etag = multipart_etag([&checksum::md5(b"a"), &checksum::md5(b"b")]);
        assert_eq!(etag, "96e024ba2074fe77e8e965ba43a704be-2");
    }
}
