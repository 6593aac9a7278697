//! A write in one request: `PutObject` and `CopyObject`.

use std::collections::BTreeMap;

use super::checksum::{COMPOSITE, Digests, TYPE_HEADER};
use super::clock;
use super::condition;
use super::object::{ENCRYPTION, Object, REDIRECT, STORAGE_CLASS, TAGS, kept_headers};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::Xml;

const KEY_LIMIT_BYTES: usize = 1024;

/// Writes the body under the key.
pub(super) fn object(store: &mut Store, request: &Request, digests: &Digests) -> Result<Reply, Refusal> {
    check_key(&request.key)?;
    let headers = kept_headers(request)?;
    condition::of_write(request, store.object(&request.bucket, &request.key), &store.settings)?;
    digests.check()?;
    let object = store.single(request.body.clone(), headers, digests);
    let reply = Reply::empty(200)
        .with("ETag", format!("\"{}\"", object.etag))
        .with_all(&object.checksums)
        .with_all(encryption(&object.headers));
    store.bucket_mut(&request.bucket)?.objects.insert(request.key.clone(), object);
    Ok(reply)
}

/// Writes a copy of another object under the key.
pub(super) fn copy(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    check_key(&request.key)?;
    let source = source(store, request)?.clone();
    condition::of_source(request, &source)?;
    condition::of_write(request, store.object(&request.bucket, &request.key), &store.settings)?;
    let headers = copied_headers(request, &source)?;
    let digests = Digests::of_copied(&source.body);
    let mut object = store.single(source.body, headers, &digests);
    let composite = source.checksums.get(TYPE_HEADER).is_some_and(|kind| kind == COMPOSITE);
    if store.settings.checksums && !source.checksums.is_empty() && !composite {
        object.checksums = source.checksums;
    }
    let document = Xml::document("CopyObjectResult", |xml| {
        xml.etag(&object.etag);
        xml.text("LastModified", &clock::iso(object.modified));
    });
    let reply = Reply::xml(200, document).with_all(encryption(&object.headers));
    store.bucket_mut(&request.bucket)?.objects.insert(request.key.clone(), object);
    Ok(reply)
}

/// Returns the source object of a copy.
pub(super) fn source<'a>(store: &'a Store, request: &Request) -> Result<&'a Object, Refusal> {
    let Some((bucket, key)) = request.copy_source() else {
        let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        return Err(Refusal::invalid_argument(message));
    };
    store.bucket(&bucket)?;
    let object = store.object(&bucket, &key).ok_or_else(Refusal::no_such_key)?;
    if object.is_archived() {
        return Err(Refusal::archived());
    }
    Ok(object)
}

/// Returns the headers of the copy: those of the source or of the request. The storage class, the encryption, the lock and
/// the redirect are always those of the request. The tags have a directive of their own.
fn copied_headers(request: &Request, source: &Object) -> Result<BTreeMap<String, String>, Refusal> {
    let mut requested = kept_headers(request)?;
    if request.header("x-amz-tagging-directive") != Some("REPLACE") {
        requested.remove(TAGS);
        requested.extend(source.headers.get(TAGS).map(|tags| (TAGS.to_owned(), tags.clone())));
    }
    match request.header("x-amz-metadata-directive") {
        Some("REPLACE") => return Ok(requested),
        Some("COPY") | None => {}
        Some(_) => return Err(Refusal::invalid_argument("Unknown metadata directive.")),
    }
    let own = |name: &str| {
        [STORAGE_CLASS, REDIRECT].contains(&name)
            || name.starts_with(ENCRYPTION)
            || name.starts_with("x-amz-object-lock-")
    };
    let mut headers = source.headers.clone();
    headers.retain(|name, _| !own(name));
    let tags = requested.remove_entry(TAGS);
    let changes: BTreeMap<_, _> = requested.into_iter().filter(|(name, _)| own(name)).collect();
    let itself = request.copy_source().is_some_and(|(bucket, key)| bucket == request.bucket && key == request.key);
    if itself && changes.is_empty() {
        return Err(Refusal::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the \
             object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    headers.extend(changes);
    headers.extend(tags);
    Ok(headers)
}

/// Returns an error if the key is too long.
pub(super) fn check_key(key: &str) -> Result<(), Refusal> {
    if key.len() > KEY_LIMIT_BYTES {
        return Err(Refusal::new(400, "KeyTooLongError", "Your key is too long"));
    }
    Ok(())
}

/// The stored headers that the response to a write repeats.
pub(super) fn encryption(headers: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    headers.iter().filter(|(name, _)| name.starts_with(ENCRYPTION))
}
