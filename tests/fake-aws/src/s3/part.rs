//! A part of a multipart upload: `UploadPart` and `UploadPartCopy`.

use std::time::SystemTime;

use aws_smithy_types::base64;
use bytes::Bytes;

use super::checksum::{Algorithm, Digests, hex};
use super::clock;
use super::condition;
use super::multipart::upload;
use super::put::{encryption, source};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::Xml;

/// A part that was uploaded.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) md5: [u8; 16],
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    /// The checksum that was sent with the part, or S3's default checksum.
    pub(super) checksum: Option<(Algorithm, String)>,
}

impl Part {
    /// The length of the body in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        u64::try_from(self.body.len()).unwrap_or(u64::MAX)
    }

    /// Returns the checksum by this algorithm, or `None` if the part has none and the server does not implement it.
    pub(super) fn raw_checksum(&self, algorithm: Algorithm) -> Option<Vec<u8>> {
        match &self.checksum {
            Some((stored, value)) if *stored == algorithm => base64::decode(value).ok(),
            Some(_) | None => algorithm.compute(&self.body),
        }
    }
}

/// Stores a part.
pub(super) fn put(store: &mut Store, request: &Request, digests: &Digests) -> Result<Reply, Refusal> {
    let number = required_part_number(request)?;
    upload(store, request)?;
    digests.check()?;
    let etag = insert(store, request, number, request.body.clone(), digests)?;
    let upload = upload(store, request)?;
    let mut reply = Reply::empty(200).with("ETag", format!("\"{etag}\""));
    if let Some((algorithm, value)) = digests.checksum.as_ref().filter(|_| store.settings.checksums) {
        reply = reply.with(algorithm.header(), value.clone());
    }
    Ok(reply.with_all(encryption(&upload.headers)))
}

/// Copies a part from another object.
pub(super) fn copy(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    let number = required_part_number(request)?;
    upload(store, request)?;
    let source = source(store, request)?;
    condition::of_source(request, source)?;
    let body = match request.header("x-amz-copy-source-range") {
        None => source.body.clone(),
        Some(range) => {
            let (first, last) = copy_range(range, source.body.len()).ok_or_else(|| {
                Refusal::invalid_argument(
                    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are \
                     the zero-based offsets of the first and last bytes to copy",
                )
            })?;
            source.body.slice(first..=last)
        }
    };
    let digests = Digests::of_copied(&body);
    let etag = insert(store, request, number, body, &digests)?;
    let modified = store.now();
    let document = Xml::document("CopyPartResult", |xml| {
        xml.etag(&etag);
        xml.text("LastModified", &clock::iso(modified));
    });
    Ok(Reply::xml(200, document).with_all(encryption(&upload(store, request)?.headers)))
}

fn copy_range(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < length).then_some((first, last))
}

fn required_part_number(request: &Request) -> Result<usize, Refusal> {
    let number = request.part_number()?;
    number.ok_or_else(|| Refusal::invalid_argument("This request has no part number"))
}

/// Adds or replaces a part and returns its `ETag`.
fn insert(
    store: &mut Store,
    request: &Request,
    number: usize,
    body: Bytes,
    digests: &Digests,
) -> Result<String, Refusal> {
    let headers = upload(store, request)?.headers.clone();
    let etag = store.etag(&headers, hex(&digests.md5));
    let modified = store.now();
    let part = Part { body, md5: digests.md5, etag: etag.clone(), modified, checksum: digests.checksum.clone() };
    let id = request.parameter("uploadId").unwrap_or_default();
    let upload = store.uploads.get_mut(id).ok_or_else(Refusal::no_such_upload)?;
    upload.parts.insert(number, part);
    Ok(etag)
}
