//! The completion of a multipart upload: `CompleteMultipartUpload`.

use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};

use super::checksum::{Algorithm, bad_digest};
use super::condition;
use super::multipart::{Upload, upload};
use super::object::{Object, multipart_etag};
use super::part::Part;
use super::put::encryption;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::{Element, Xml};

const SMALLEST_PART_BYTES: usize = 5 << 20;

/// Combines the chosen parts into an object.
pub(super) fn upload_to_object(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    let upload = upload(store, request)?;
    condition::of_write(request, store.object(&request.bucket, &request.key), &store.settings)?;
    let parts = chosen_parts(upload, &request.body)?;
    let mut whole = BytesMut::with_capacity(parts.iter().map(|part| part.body.len()).sum());
    for part in &parts {
        whole.extend_from_slice(&part.body);
    }
    let whole = whole.freeze();
    check_whole(request, upload, &whole)?;
    let plain_etag = multipart_etag(parts.iter().map(|part| &part.md5));
    let mut checksums = upload.object_checksums(&parts, &whole);
    if !store.settings.checksums {
        checksums.clear();
    }
    let headers = upload.headers.clone();
    let modified = upload.initiated;
    let object = Object {
        etag: store.etag(&headers, plain_etag),
        body: whole,
        modified,
        headers,
        part_sizes_bytes: parts.iter().map(Part::size_bytes).collect(),
        checksums,
    };
    let document = Xml::document("CompleteMultipartUploadResult", |xml| {
        xml.text("Bucket", &request.bucket);
        xml.text("Key", &request.key);
        if store.settings.empty_complete_etag {
            xml.text("ETag", "");
        } else {
            xml.etag(&object.etag);
        }
        for algorithm in Algorithm::ALL {
            if let Some(value) = object.checksums.get(algorithm.header()) {
                xml.text(algorithm.element(), value);
            }
        }
    });
    let reply = Reply::xml(200, document).with_all(encryption(&object.headers));
    store.bucket_mut(&request.bucket)?.objects.insert(request.key.clone(), object);
    store.uploads.remove(request.parameter("uploadId").unwrap_or_default());
    Ok(reply)
}

/// Returns the parts that the document lists.
///
/// # Errors
/// Returns an error if a part is missing, is out of order, or is too small and not the last.
fn chosen_parts(upload: &Upload, document: &[u8]) -> Result<Vec<Part>, Refusal> {
    let root = Element::parse(document)
        .filter(|root| root.name == "CompleteMultipartUpload")
        .ok_or_else(Refusal::malformed_xml)?;
    let mut numbers = Vec::new();
    let mut parts = Vec::new();
    for element in root.all("Part") {
        let number = element.text_of("PartNumber").and_then(|number| number.trim().parse().ok());
        let (Some(number), Some(etag)) = (number, element.text_of("ETag")) else {
            return Err(Refusal::malformed_xml());
        };
        let part = upload.parts.get(&number).filter(|part| part.etag == etag.trim_matches('"'));
        let part = part.filter(|part| has_checksums(part, element)).ok_or_else(invalid_part)?;
        numbers.push(number);
        parts.push(part.clone());
    }
    if parts.is_empty() {
        return Err(Refusal::malformed_xml());
    }
    if !numbers.is_sorted_by(|a, b| a < b) {
        let message = "The list of parts was not in ascending order. Parts must be ordered by part number.";
        return Err(Refusal::new(400, "InvalidPartOrder", message));
    }
    let before_last = parts.iter().rev().skip(1);
    if before_last.map(|part| part.body.len()).any(|length| length < SMALLEST_PART_BYTES) {
        let message = "Your proposed upload is smaller than the minimum allowed size";
        return Err(Refusal::new(400, "EntityTooSmall", message));
    }
    Ok(parts)
}

/// Whether the checksums of a part in the document match the part.
fn has_checksums(part: &Part, element: &Element) -> bool {
    Algorithm::ALL.into_iter().all(|algorithm| {
        let (Some(sent), Some(computed)) = (element.text_of(algorithm.element()), part.raw_checksum(algorithm)) else {
            return true;
        };
        base64::decode(sent).is_ok_and(|sent| sent == computed)
    })
}

/// Returns an error if the size or the checksum of the whole object is not the one in the request.
fn check_whole(request: &Request, upload: &Upload, whole: &Bytes) -> Result<(), Refusal> {
    let size = request.header("x-amz-mp-object-size");
    if size.is_some_and(|size| size.parse() != Ok(whole.len())) {
        return Err(Refusal::invalid_request(
            "The provided 'x-amz-mp-object-size' header does not match what was computed.",
        ));
    }
    if upload.composite {
        return Ok(());
    }
    for algorithm in Algorithm::ALL {
        let (Some(sent), Some(raw)) = (request.header(algorithm.header()), algorithm.compute(whole)) else {
            continue;
        };
        if base64::decode(sent).ok().as_ref() != Some(&raw) {
            return Err(bad_digest("checksum"));
        }
    }
    Ok(())
}

fn invalid_part() -> Refusal {
    let message = "One or more of the specified parts could not be found. The part may not have been uploaded, or the \
                   specified entity tag may not match the part's entity tag.";
    Refusal::new(400, "InvalidPart", message)
}
