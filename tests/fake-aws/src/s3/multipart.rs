//! An unfinished multipart upload: its creation and its abort.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_smithy_types::base64;
use bytes::Bytes;

use super::checksum::{Algorithm, COMPOSITE, FULL_OBJECT, TYPE_HEADER};
use super::object::kept_headers;
use super::part::Part;
use super::put::{check_key, encryption};
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
    /// The headers of the future object.
    pub(super) headers: BTreeMap<String, String>,
    /// The checksum algorithm that the client chose at the creation.
    pub(super) algorithm: Algorithm,
    /// Whether the object's checksum is a checksum of the parts' checksums.
    pub(super) composite: bool,
    pub(super) parts: BTreeMap<usize, Part>,
}

/// A copy of the properties of an unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// The bucket.
    pub bucket: String,
    /// The key of the future object.
    pub key: String,
    /// The upload ID.
    pub upload_id: String,
    /// The sizes of the parts in bytes, by part number.
    pub parts: BTreeMap<usize, u64>,
    /// The time of the creation by the server's clock.
    pub initiated: SystemTime,
}

impl UnfinishedUpload {
    pub(super) fn new(upload_id: &str, upload: &Upload) -> Self {
        Self {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload_id.to_owned(),
            parts: upload.parts.iter().map(|(number, part)| (*number, part.size_bytes())).collect(),
            initiated: upload.initiated,
        }
    }
}

/// Creates an upload.
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

/// Adds an upload that another writer created `age` ago.
pub(super) fn seed(store: &mut Store, bucket: &str, key: &str, age: Duration) {
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

/// Returns the algorithm, and whether the checksum is composite. CRC64NVME cannot be composite, and the others are by default.
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

/// Ends an upload without an object.
pub(super) fn abort(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    upload(store, request)?;
    store.uploads.remove(request.parameter("uploadId").unwrap_or_default());
    Ok(Reply::empty(204))
}

/// Returns the upload of a request.
pub(super) fn upload<'a>(store: &'a Store, request: &Request) -> Result<&'a Upload, Refusal> {
    request
        .parameter("uploadId")
        .and_then(|id| store.uploads.get(id))
        .filter(|upload| upload.key == request.key && upload.bucket == request.bucket)
        .ok_or_else(Refusal::no_such_upload)
}

impl Upload {
    /// Returns the checksum headers of the object that consists of these parts.
    pub(super) fn object_checksums(&self, parts: &[Part], whole: &Bytes) -> BTreeMap<String, String> {
        let algorithm = self.algorithm;
        let value = if self.composite {
            let raw: Option<Vec<Vec<u8>>> = parts.iter().map(|part| part.raw_checksum(algorithm)).collect();
            raw.and_then(|raw| algorithm.compute(&raw.concat()))
                .map(|raw| format!("{}-{}", base64::encode(raw), parts.len()))
        } else {
            algorithm.compute(whole).map(base64::encode)
        };
        let kind = if self.composite { COMPOSITE } else { FULL_OBJECT };
        value.map_or_else(BTreeMap::new, |value| {
            BTreeMap::from([(algorithm.header().to_owned(), value), (TYPE_HEADER.to_owned(), kind.to_owned())])
        })
    }
}
