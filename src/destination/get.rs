//! The content of an object. Each body that is read passes through [`Destination::read`], which proves that it is whole.

use std::io::Write;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use bytes::Bytes;

use super::Destination;
use super::body::BodyProof;
use super::error::{ErrorKind, S3Error};
use super::head::last_modified;
use super::operation::Operation;
use super::outage::Attempts;
use super::proof::etag_of;
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// An object in memory.
#[derive(Clone, Debug)]
pub(crate) struct DownloadedObject {
    pub(crate) content: Bytes,
    pub(crate) etag: ETag,
    /// Truncated to the second.
    pub(crate) last_modified: EpochNanos,
}

/// A response whose body is not read yet.
struct Unread {
    etag: ETag,
    /// The requested version; the latest if `None`.
    version: Option<String>,
    response: GetObjectOutput,
}

impl Destination {
    /// Reads a whole object into memory.
    pub(crate) async fn get(&self, key: &RelativeKey) -> Result<DownloadedObject, S3Error> {
        self.get_version(key, None).await
    }

    /// Reads a version of an object into memory; the latest if `version` is `None`.
    pub(crate) async fn get_version(
        &self,
        key: &RelativeKey,
        version: Option<&str>,
    ) -> Result<DownloadedObject, S3Error> {
        let mut attempts = Attempts::of(Operation::Get);
        loop {
            let unread = self.get_object(key, version).await?;
            let (etag, last_modified) = (unread.etag.clone(), last_modified(unread.response.last_modified()));
            let mut content = Vec::new();
            let take = |piece: &[u8]| {
                content.extend_from_slice(piece);
                Ok(())
            };
            match self.read(key, unread, take).await {
                Ok(()) => return Ok(DownloadedObject { content: content.into(), etag, last_modified }),
                Err(error) => self.retry(&mut attempts, error).await?,
            }
        }
    }

    /// Writes the content of an object to `file`.
    ///
    /// # Errors
    /// Returns an error if `file` cannot be written, or if the response breaks off or is cut off.
    pub(crate) async fn get_into(&self, key: &RelativeKey, file: &mut impl Write) -> Result<(), S3Error> {
        self.get_pieces(key, |piece| file.write_all(piece).map_err(|error| error.to_string())).await
    }

    /// Passes the content of an object to `take`, piece by piece. It is the whole content if there is no error.
    ///
    /// # Errors
    /// Returns an error if `take` does, or if the response breaks off or is cut off.
    pub(crate) async fn get_pieces(
        &self,
        key: &RelativeKey,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), S3Error> {
        let unread = self.get_object(key, None).await?;
        let take = |piece: &[u8]| {
            self.sender.requests.count_downloaded(piece.len());
            take(piece)
        };
        self.read(key, unread, take).await
    }

    async fn read(
        &self,
        key: &RelativeKey,
        Unread { etag, version, mut response }: Unread,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), S3Error> {
        let broken = |cause: String| S3Error::local(Operation::Get, ErrorKind::Transient, cause);
        let proof = BodyProof::of(&etag, &response);
        let mut hasher = proof.hasher();
        while let Some(piece) = response.body.next().await {
            let piece = piece.map_err(|error| S3Error::of_body(Operation::Get, &error))?;
            hasher.update(&piece);
            take(&piece).map_err(broken)?;
        }
        let head = async || {
            Box::pin(self.head_version(key, version.as_deref())).await.map(|head| (head.etag, head.size_bytes))
        };
        proof.check(&hasher.finish(), &etag, head).await
    }

    /// Starts the request for a version of an object; the latest if `version` is `None`.
    pub(super) fn start_get(&self, key: &RelativeKey, version: Option<&str>) -> GetObjectFluentBuilder {
        self.client
            .get_object()
            .bucket(self.bucket.as_str())
            .key(self.prefix.object_key(key))
            .set_version_id(version.map(str::to_owned))
            .set_expected_bucket_owner(self.expected_owner.clone())
    }

    /// Requests an object. A response without an ETag is not an object.
    async fn get_object(&self, key: &RelativeKey, version: Option<&str>) -> Result<Unread, S3Error> {
        let request = self.start_get(key, version);
        let attempt = |activity| {
            let request = request.clone().customize().interceptor(activity);
            // `checksum_mode` of the SDK would warn of each checksum of parts, and compute each other one a second time.
            let wanted =
                |request: &mut HttpRequest| drop(request.headers_mut().insert("x-amz-checksum-mode", "ENABLED"));
            request.mutate_request(wanted).send()
        };
        let read = |response: GetObjectOutput| {
            Ok(Unread { etag: etag_of(response.e_tag())?, version: version.map(str::to_owned), response })
        };
        self.sender.send(Operation::Get, attempt, read).await
    }
}
