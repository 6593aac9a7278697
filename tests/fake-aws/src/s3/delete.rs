//! A delete: `DeleteObject` and `DeleteObjects`.

use super::checksum::{Algorithm, Digests};
use super::condition;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::store::Store;
use super::xml::{Element, Xml};

const BATCH_LIMIT: usize = 1000;

/// Deletes one object.
pub(super) fn one(store: &mut Store, request: &Request) -> Result<Reply, Refusal> {
    delete(store, &request.bucket, &request.key, request.header("if-match"))?;
    let reply = Reply::empty(204);
    Ok(if store.bucket(&request.bucket)?.versioned { reply.with("x-amz-delete-marker", "true") } else { reply })
}

/// Deletes the objects that the document lists, each independently of the others.
pub(super) fn many(store: &mut Store, request: &Request, digests: &Digests) -> Result<Reply, Refusal> {
    if !store.settings.delete_objects {
        return Err(Refusal::not_implemented("DeleteObjects"));
    }
    let has_digest = Algorithm::ALL
        .into_iter()
        .map(Algorithm::header)
        .chain(["content-md5"])
        .any(|name| request.header(name).is_some());
    if !has_digest {
        let message = "Missing required header for this request: Content-MD5";
        return Err(Refusal::invalid_request(message));
    }
    digests.check()?;
    let batch = Batch::parse(&request.body).ok_or_else(Refusal::malformed_xml)?;
    let versioned = store.bucket(&request.bucket)?.versioned;
    let document = Xml::document("DeleteResult", |xml| {
        for (key, etag) in &batch.entries {
            match delete(store, &request.bucket, key, etag.as_deref()) {
                Ok(()) if batch.quiet => {}
                Ok(()) => xml.node("Deleted", |xml| {
                    xml.text("Key", key);
                    if versioned {
                        xml.text("DeleteMarker", "true");
                    }
                }),
                Err(refusal) => xml.node("Error", |xml| {
                    xml.text("Key", key);
                    xml.text("Code", refusal.code());
                    xml.text("Message", refusal.message());
                }),
            }
        }
    });
    Ok(Reply::xml(200, document))
}

fn delete(store: &mut Store, bucket: &str, key: &str, etag: Option<&str>) -> Result<(), Refusal> {
    if store.settings.refuse_delete.iter().any(|refused| refused == key) {
        return Err(Refusal::access_denied());
    }
    condition::of_delete(etag, store.object(bucket, key), &store.settings)?;
    store.bucket_mut(bucket)?.delete(key);
    Ok(())
}

/// The document of a `DeleteObjects` request.
struct Batch {
    quiet: bool,
    entries: Vec<(String, Option<String>)>,
}

impl Batch {
    /// Returns `None` if S3 refuses the whole document.
    fn parse(document: &[u8]) -> Option<Self> {
        let root = Element::parse(document).filter(|root| root.name == "Delete")?;
        let mut entries = Vec::new();
        for entry in root.all("Object") {
            let key = entry.text_of("Key").filter(|key| !key.is_empty())?;
            entries.push((key.to_owned(), entry.text_of("ETag").map(str::to_owned)));
        }
        (1..=BATCH_LIMIT)
            .contains(&entries.len())
            .then(|| Self { quiet: root.text_of("Quiet").is_some_and(|quiet| quiet.trim() == "true"), entries })
    }
}
