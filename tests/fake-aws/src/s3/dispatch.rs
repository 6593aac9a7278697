//! The dispatch of a request: the checks for every request, then the function of its operation.

use super::checksum::Digests;
use super::clock;
use super::fault::ChangePage;
use super::operation::Operation;
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use super::settings::Settings;
use super::store::Store;
use super::xml::Xml;
use super::{complete, delete, get, list, multipart, part, put, uploads};

/// Computes the digests of a request body, if its operation needs them.
pub(super) fn digests(request: &Request) -> Option<Digests> {
    let reads = matches!(request.operation, Operation::PutObject | Operation::UploadPart | Operation::DeleteObjects);
    reads.then(|| Digests::of(request))
}

/// Carries out a request. `change` applies to the page of a listing.
pub(super) fn dispatch(
    store: &mut Store,
    request: &Request,
    digests: Option<&Digests>,
    change: Option<&ChangePage>,
) -> Reply {
    let result = check(store, request).and_then(|()| carry_out(store, request, digests, change));
    result.unwrap_or_else(|refusal| refusal.reply(&request.key))
}

fn carry_out(
    store: &mut Store,
    request: &Request,
    digests: Option<&Digests>,
    change: Option<&ChangePage>,
) -> Result<Reply, Refusal> {
    let create_bucket = request.operation == Operation::Other
        && request.method == "PUT"
        && request.key.is_empty()
        && request.query.is_empty();
    if create_bucket {
        return Ok(create(store, request));
    }
    store.bucket(&request.bucket)?;
    match (request.operation, digests) {
        (Operation::PutObject, Some(digests)) => put::object(store, request, digests),
        (Operation::UploadPart, Some(digests)) => part::put(store, request, digests),
        (Operation::DeleteObjects, Some(digests)) => delete::many(store, request, digests),
        (Operation::ListObjectsV2, _) => list::page(store, request, change),
        (Operation::HeadObject | Operation::GetObject, _) => get::object(store, request),
        (Operation::HeadBucket, _) => Ok(head_bucket(&store.settings)),
        (Operation::GetObjectAttributes, _) => get::attributes(store, request),
        (Operation::GetObjectTagging, _) => get::tags(store, request),
        (Operation::CopyObject, _) => put::copy(store, request),
        (Operation::CreateMultipartUpload, _) => multipart::create(store, request),
        (Operation::UploadPartCopy, _) => part::copy(store, request),
        (Operation::CompleteMultipartUpload, _) => complete::upload_to_object(store, request),
        (Operation::AbortMultipartUpload, _) => multipart::abort(store, request),
        (Operation::ListParts, _) => uploads::parts(store, request),
        (Operation::ListMultipartUploads, _) => uploads::uploads(store, request),
        (Operation::DeleteObject, _) => delete::one(store, request),
        (Operation::Other | Operation::PutObject | Operation::UploadPart | Operation::DeleteObjects, _) => {
            other(store, request)
        }
    }
}

/// Checks the credentials, region, time and bucket owner of a request.
fn check(store: &Store, request: &Request) -> Result<(), Refusal> {
    let settings = &store.settings;
    if let Some(problem) = &request.problem {
        return Err(problem.clone());
    }
    if let Some(region) = &settings.redirect_region {
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint.";
        let refusal = Refusal::new(301, "PermanentRedirect", message);
        return Err(refusal.with("x-amz-bucket-region", region));
    }
    if let Some(required) = &settings.required_access_key {
        match access_key(request) {
            Some(key) if key == required => {}
            None => return Err(Refusal::access_denied()),
            Some(_) => {
                let message = "The AWS Access Key Id you provided does not exist in our records.";
                return Err(Refusal::new(403, "InvalidAccessKeyId", message));
            }
        }
    }
    if let (Some(tolerance), Some(date)) =
        (settings.clock_tolerance, request.header("x-amz-date").and_then(clock::amz_date))
        && clock::distance(date, store.now()) > tolerance
    {
        let message = "The difference between the request time and the current time is too large.";
        return Err(Refusal::new(403, "RequestTimeTooSkewed", message));
    }
    let expected = request.header("x-amz-expected-bucket-owner");
    match (expected, &settings.bucket_owner) {
        (Some(expected), Some(owner)) if expected != owner => Err(Refusal::access_denied()),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Returns the access key that signed a request.
fn access_key(request: &Request) -> Option<&str> {
    let credential = match request.header("authorization") {
        Some(header) => header.split_once("Credential=").map(|(_, credential)| credential),
        None => request.parameter("X-Amz-Credential"),
    };
    credential.and_then(|credential| credential.split('/').next())
}

fn head_bucket(settings: &Settings) -> Reply {
    Reply::empty(200).with("x-amz-bucket-region", &*settings.region)
}

fn create(store: &mut Store, request: &Request) -> Reply {
    store.buckets.entry(request.bucket.clone()).or_default();
    Reply::empty(200).with("location", format!("/{}", request.bucket))
}

/// Carries out the other requests that tools send about a bucket.
fn other(store: &Store, request: &Request) -> Result<Reply, Refusal> {
    let bucket = store.bucket(&request.bucket)?;
    let reads_bucket = request.method == "GET" && request.key.is_empty();
    if reads_bucket && request.parameter("location").is_some() {
        // `us-east-1` has no name here.
        let region = Some(store.settings.region.as_str()).filter(|region| *region != "us-east-1");
        let mut document = Xml::document("LocationConstraint", |_| {});
        if let Some(region) = region {
            document = document.replace("</", &format!("{region}</"));
        }
        return Ok(Reply::xml(200, document));
    }
    if reads_bucket && request.parameter("versioning").is_some() {
        let document = Xml::document("VersioningConfiguration", |xml| {
            if bucket.versioned {
                xml.text("Status", "Enabled");
            }
        });
        return Ok(Reply::xml(200, document));
    }
    Err(Refusal::not_implemented("this call"))
}
