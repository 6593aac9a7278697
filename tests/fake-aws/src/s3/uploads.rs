//! The listings of multipart uploads: `ListParts` and `ListMultipartUploads`.

use super::clock;
use super::list::Names;
use super::multipart::{Upload, upload};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::Xml;

/// Returns a page of the parts of an unfinished upload.
pub(super) fn parts(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    let upload = upload(store, request)?;
    let after = request.number("part-number-marker")?.unwrap_or(0);
    let limit = limit(store, request, "max-parts")?;
    let mut rest = upload.parts.range(after + 1..);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let truncated = rest.next().is_some();
    let document = Xml::document("ListPartsResult", |xml| {
        xml.text("Bucket", &request.bucket);
        xml.text("Key", &request.key);
        xml.text("UploadId", request.parameter("uploadId").unwrap_or_default());
        xml.text("PartNumberMarker", &after.to_string());
        if let Some((last, _)) = page.last() {
            xml.text("NextPartNumberMarker", &last.to_string());
        }
        xml.text("MaxParts", &limit.to_string());
        xml.text("IsTruncated", if truncated { "true" } else { "false" });
        for (number, part) in page {
            xml.node("Part", |xml| {
                xml.text("PartNumber", &number.to_string());
                xml.text("LastModified", &clock::iso(part.modified));
                xml.etag(&part.etag);
                xml.text("Size", &part.body.len().to_string());
            });
        }
    });
    Ok(Reply::xml(200, document))
}

/// Returns a page of the unfinished uploads of a bucket, ordered by key and upload ID.
pub(super) fn uploads(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    store.bucket(&request.bucket)?;
    let names = Names::of(request, &store.settings)?;
    let prefix = request.parameter("prefix").unwrap_or_default();
    let key_marker = request.parameter("key-marker").unwrap_or_default();
    let id_marker = request.parameter("upload-id-marker").unwrap_or_default();
    let limit = limit(store, request, "max-uploads")?;
    let mut found: Vec<(&str, &str, &Upload)> = store
        .uploads
        .iter()
        .filter(|(_, upload)| upload.bucket == request.bucket && upload.key.starts_with(prefix))
        .map(|(id, upload)| (upload.key.as_str(), id.as_str(), upload))
        // Without an upload ID, the page starts after all uploads of the marker's key.
        .filter(|(key, id, _)| *key > key_marker || (*key == key_marker && !id_marker.is_empty() && *id > id_marker))
        .collect();
    found.sort_unstable_by_key(|(key, id, _)| (*key, *id));
    let truncated = found.len() > limit;
    found.truncate(limit);
    let document = Xml::document("ListMultipartUploadsResult", |xml| {
        xml.text("Bucket", &request.bucket);
        xml.text("Prefix", &names.encode(prefix));
        xml.text("KeyMarker", &names.encode(key_marker));
        xml.text("UploadIdMarker", id_marker);
        if let Some((key, id, _)) = found.last().filter(|_| truncated) {
            xml.text("NextKeyMarker", &names.encode(key));
            xml.text("NextUploadIdMarker", id);
        }
        xml.text("MaxUploads", &limit.to_string());
        if names.url {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if truncated { "true" } else { "false" });
        for (key, id, upload) in found {
            xml.node("Upload", |xml| {
                xml.text("Key", &names.encode(key));
                xml.text("UploadId", id);
                xml.text("Initiated", &clock::iso(upload.initiated));
            });
        }
    });
    Ok(Reply::xml(200, document))
}

fn limit(store: &Store, request: &Request, parameter: &str) -> Result<usize, Refusal> {
    let requested = request.number(parameter)?.unwrap_or(1000);
    Ok(requested.min(store.settings.page_size).min(1000))
}
