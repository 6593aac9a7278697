//! A multipart upload while it is open: its creation, its parts and its end without an object.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_smithy_types::base64;
use bytes::Bytes;

use super::checksum::{Algorithm, COMPOSITE, Digests, FULL_OBJECT, TYPE_HEADER, hex};
use super::clock;
use super::condition;
use super::object::kept_headers;
use super::put::{check_key, encryption, source};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::Xml;

/// A multipart upload that is neither completed nor aborted.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    /// The headers of the object to be.
    pub(super) headers: BTreeMap<String, String>,
    /// The checksum chosen at the start.
    pub(super) algorithm: Algorithm,
    /// Whether the object's checksum will be that of its parts' checksums.
    pub(super) composite: bool,
    pub(super) parts: BTreeMap<usize, Part>,
}

/// A part that was uploaded.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) md5: [u8; 16],
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    /// The checksum it was sent with.
    pub(super) checksum: Option<(Algorithm, String)>,
}

/// An open upload as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The bucket.
    pub bucket: String,
    /// The key of the object to be.
    pub key: String,
    /// The id that its parts name.
    pub upload_id: String,
    /// The sizes in bytes of the parts so far, by part number.
    pub parts: BTreeMap<usize, u64>,
    /// When it was created, by the server's clock.
    pub initiated: SystemTime,
}

impl OpenUpload {
    pub(super) fn new(upload_id: &str, upload: &Upload) -> Self {
        let size = |part: &Part| u64::try_from(part.body.len()).unwrap_or(u64::MAX);
        Self {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload_id.to_owned(),
            parts: upload.parts.iter().map(|(number, part)| (*number, size(part))).collect(),
            initiated: upload.initiated,
        }
    }
}

/// Begins an upload.
pub(super) fn create(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    check_key(&request.key)?;
    let (algorithm, composite) = chosen_checksum(request)?;
    let headers = store.encrypted(kept_headers(request)?);
    let mut reply_headers: Vec<(String, String)> =
        encryption(&headers).map(|(name, value)| (name.clone(), value.clone())).collect();
    for name in ["x-amz-checksum-algorithm", TYPE_HEADER] {
        if let Some(value) = request.header(name) {
            reply_headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let upload = Upload {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        initiated: store.now(),
        headers,
        algorithm,
        composite,
        parts: BTreeMap::new(),
    };
    let upload_id = add(store, upload);
    let document = Xml::document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", &request.bucket);
        xml.text("Key", &request.key);
        xml.text("UploadId", &upload_id);
    });
    let mut reply = Reply::xml(200, document);
    reply.headers.extend(reply_headers);
    Ok(reply)
}

/// An upload that another tool began `age` ago and left open.
pub(super) fn left_open(store: &mut Store, bucket: &str, key: &str, age: Duration) {
    let now = store.now();
    let upload = Upload {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        initiated: now.checked_sub(age).unwrap_or(now),
        headers: BTreeMap::new(),
        algorithm: Algorithm::Crc64Nvme,
        composite: false,
        parts: BTreeMap::new(),
    };
    add(store, upload);
}

fn add(store: &mut Store, upload: Upload) -> String {
    let upload_id = format!("upload-{:06}", store.next());
    store.uploads.insert(upload_id.clone(), upload);
    upload_id
}

/// The algorithm, and whether the checksum will be composite: the default for all but CRC64NVME, which cannot be.
fn chosen_checksum(request: &Request) -> Result<(Algorithm, bool), Refusal> {
    let algorithm = match request.header("x-amz-checksum-algorithm") {
        None => Algorithm::Crc64Nvme,
        Some(name) => Algorithm::named(name)
            .ok_or_else(|| Refusal::invalid_request("Checksum algorithm provided is unsupported."))?,
    };
    let full_possible = matches!(algorithm, Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme);
    match request.header(TYPE_HEADER) {
        Some(FULL_OBJECT) if full_possible => Ok((algorithm, false)),
        Some(COMPOSITE) if algorithm != Algorithm::Crc64Nvme => Ok((algorithm, true)),
        Some(_) => {
            Err(Refusal::invalid_request("The checksum type cannot be used with the specified checksum algorithm."))
        }
        None => Ok((algorithm, algorithm != Algorithm::Crc64Nvme)),
    }
}

/// Takes a part.
pub(super) fn part(store: &mut Store, request: &Request, digests: &Digests) -> Result<Reply, Refusal> {
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

/// Takes a part from another object.
pub(super) fn part_copy(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
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

/// Adds or replaces a part and gives its `ETag`.
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

/// Ends an upload without an object.
pub(super) fn abort(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    upload(store, request)?;
    store.uploads.remove(request.parameter("uploadId").unwrap_or_default());
    Ok(Reply::empty(204))
}

/// The open upload that the request names.
pub(super) fn upload<'a>(store: &'a Store, request: &Request) -> Result<&'a Upload, Refusal> {
    request
        .parameter("uploadId")
        .and_then(|id| store.uploads.get(id))
        .filter(|upload| upload.key == request.key && upload.bucket == request.bucket)
        .ok_or_else(Refusal::no_such_upload)
}

impl Part {
    /// Its checksum by an algorithm, computed unless it came with it; `None` for one that is not verified.
    pub(super) fn raw_checksum(&self, algorithm: Algorithm) -> Option<Vec<u8>> {
        match &self.checksum {
            Some((have, value)) if *have == algorithm => base64::decode(value).ok(),
            Some(_) | None => algorithm.compute(&self.body),
        }
    }
}

/// The checksum headers of an object of these parts.
pub(super) fn object_checksums(upload: &Upload, parts: &[Part], whole: &Bytes) -> BTreeMap<String, String> {
    let algorithm = upload.algorithm;
    let value = if upload.composite {
        let raw: Option<Vec<Vec<u8>>> = parts.iter().map(|part| part.raw_checksum(algorithm)).collect();
        raw.and_then(|raw| algorithm.compute(&raw.concat()))
            .map(|raw| format!("{}-{}", base64::encode(raw), parts.len()))
    } else {
        algorithm.compute(whole).map(base64::encode)
    };
    let kind = if upload.composite { COMPOSITE } else { FULL_OBJECT };
    value.map_or_else(BTreeMap::new, |value| {
        BTreeMap::from([(algorithm.header().to_owned(), value), (TYPE_HEADER.to_owned(), kind.to_owned())])
    })
}
