//! A read of one object: `GetObject`, `HeadObject` and `GetObjectAttributes`.

use std::ops::Range;

use super::checksum::{Algorithm, TYPE_HEADER};
use super::condition;
use super::object::{Object, STORAGE_CLASS, TAGS};
use super::operation::Operation;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::Xml;

/// The requested part of an object.
struct Slice {
    bytes: Range<usize>,
    partial: bool,
    parts_count: Option<usize>,
}

/// Returns the object or a part of it. For HEAD, the delivery omits the body.
pub(super) fn object(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    let object = match request.parameter("versionId") {
        // A test puts the object of a version under this key.
        Some(version) => store.object(&request.bucket, &format!("{}?versionId={version}", request.key)),
        None => store.object(&request.bucket, &request.key),
    };
    let object = object.ok_or_else(Refusal::no_such_key)?;
    if request.operation == Operation::GetObject && object.is_archived() {
        return Err(Refusal::archived());
    }
    condition::of_read(request, object)?;
    let slice = slice(store, request, object)?;
    let mut reply = Reply::empty(if slice.partial { 206 } else { 200 })
        .with("ETag", format!("\"{}\"", object.etag))
        .with("Last-Modified", object.last_modified())
        .with("Accept-Ranges", "bytes")
        .with_all(
            object
                .headers
                .iter()
                .filter(|(name, value)| !(name.as_str() == STORAGE_CLASS && value.as_str() == "STANDARD"))
                .filter(|(name, _)| name.as_str() != TAGS),
        );
    if !object.tags().is_empty() {
        reply = reply.with("x-amz-tagging-count", object.tags().len().to_string());
    }
    if reply.header("content-type").is_none() {
        reply = reply.with("content-type", "binary/octet-stream");
    }
    if request.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("ENABLED")) && !slice.partial
    {
        reply = reply.with_all(&object.checksums);
    }
    if slice.partial {
        let last = slice.bytes.end.saturating_sub(1);
        let range = format!("bytes {}-{last}/{}", slice.bytes.start, object.body.len());
        reply = reply.with("Content-Range", range);
    }
    if let Some(count) = slice.parts_count {
        reply = reply.with("x-amz-mp-parts-count", count.to_string());
    }
    reply = reply.with("Content-Length", slice.bytes.len().to_string());
    reply.body = object.body.slice(slice.bytes);
    Ok(reply)
}

fn slice(store: &Store, request: &Request, object: &Object) -> Result<Slice, Refusal> {
    let whole = Slice { bytes: 0..object.body.len(), partial: false, parts_count: None };
    match (request.part_number()?, request.header("range")) {
        (Some(_), Some(_)) => {
            Err(Refusal::invalid_request("Cannot specify both Range header and partNumber query parameter"))
        }
        (Some(number), None) if store.settings.parts_count => part(number, object, whole),
        (None, Some(range)) => ranged(range, whole),
        (Some(_) | None, None) => Ok(whole),
    }
}

/// Returns one part. An object that was written in one request has only part 1, and no part count.
fn part(number: usize, object: &Object, whole: Slice) -> Result<Slice, Refusal> {
    let beyond = || Refusal::new(416, "InvalidPartNumber", "The requested partnumber is not satisfiable");
    let sizes = &object.part_sizes_bytes;
    if sizes.is_empty() {
        return match number {
            1 => Ok(Slice { partial: !object.body.is_empty(), ..whole }),
            _ => Err(beyond()),
        };
    }
    let index = number.checked_sub(1).filter(|index| *index < sizes.len()).ok_or_else(beyond)?;
    let mut ends = sizes.iter().scan(0, |end, size| {
        *end += usize::try_from(*size).unwrap_or(usize::MAX);
        Some(*end)
    });
    let start = if index == 0 { 0 } else { ends.nth(index - 1).ok_or_else(beyond)? };
    let end = ends.next().ok_or_else(beyond)?;
    Ok(Slice { bytes: start..end, partial: true, parts_count: Some(sizes.len()) })
}

/// Returns the range `bytes=a-b`, `bytes=a-` or `bytes=-n`. As HTTP demands, it ignores any other text.
fn ranged(range: &str, whole: Slice) -> Result<Slice, Refusal> {
    let length = whole.bytes.end;
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|span| span.split_once('-')) else {
        return Ok(whole);
    };
    let bytes = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() && suffix > 0 => length.saturating_sub(suffix)..length,
        _ => return Ok(whole),
    };
    if bytes.start >= length {
        let message = "The requested range is not satisfiable";
        return Err(Refusal::new(416, "InvalidRange", message));
    }
    Ok(Slice { bytes, partial: true, parts_count: None })
}

/// Returns the tags of an object.
pub(super) fn tags(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    let object = store.object(&request.bucket, &request.key).ok_or_else(Refusal::no_such_key)?;
    let document = Xml::document("Tagging", |xml| {
        xml.node("TagSet", |xml| {
            for (key, value) in object.tags() {
                xml.node("Tag", |xml| {
                    xml.text("Key", &key);
                    xml.text("Value", &value);
                });
            }
        });
    });
    Ok(Reply::xml(200, document))
}

/// Returns the properties that `x-amz-object-attributes` lists.
pub(super) fn attributes(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    let object = store.object(&request.bucket, &request.key).ok_or_else(Refusal::no_such_key)?;
    let wanted = request.header("x-amz-object-attributes").unwrap_or_default();
    let wants = |name: &str| wanted.split(',').any(|wanted| wanted.trim() == name);
    let document = Xml::document("GetObjectAttributesResponse", |xml| {
        if wants("ETag") {
            // Only here S3 writes no quotes.
            xml.text("ETag", &object.etag);
        }
        if wants("Checksum") && !object.checksums.is_empty() {
            xml.node("Checksum", |xml| {
                for algorithm in Algorithm::ALL {
                    if let Some(value) = object.checksums.get(algorithm.header()) {
                        xml.text(algorithm.element(), value);
                    }
                }
                if let Some(kind) = object.checksums.get(TYPE_HEADER) {
                    xml.text("ChecksumType", kind);
                }
            });
        }
        if wants("ObjectParts") && !object.part_sizes_bytes.is_empty() {
            let count = object.part_sizes_bytes.len().to_string();
            xml.node("ObjectParts", |xml| xml.text("PartsCount", &count));
        }
        if wants("StorageClass") {
            xml.text("StorageClass", object.storage_class());
        }
        if wants("ObjectSize") {
            xml.text("ObjectSize", &object.size_bytes().to_string());
        }
    });
    Ok(Reply::xml(200, document).with("Last-Modified", object.last_modified()))
}
