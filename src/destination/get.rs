//! The content of an object.

use std::io::Write;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::head::last_modified;
use super::operation::Operation;
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
        let mut retries = 0;
        loop {
            let (etag, response) = self.get_object(key, version).await?;
            let last_modified = last_modified(response.last_modified());
            match response.body.collect().await {
                Ok(body) => return Ok(DownloadedObject { content: body.into_bytes(), etag, last_modified }),
                Err(error) if retries >= self.sender.retries => return Err(S3Error::of_body(Operation::Get, &error)),
                Err(_) => self.sender.back_off(Operation::Get, retries).await?,
            }
            retries += 1;
        }
    }

    /// Writes the content of an object to `file`.
    ///
    /// # Errors
    /// Returns an error if `file` cannot be written, or if the response breaks off.
    pub(crate) async fn get_into(&self, key: &RelativeKey, file: &mut impl Write) -> Result<(), S3Error> {
        self.get_pieces(key, |piece| file.write_all(piece).map_err(|error| error.to_string())).await
    }

    /// Passes the content of an object to `take`, piece by piece.
    ///
    /// # Errors
    /// Returns an error if `take` does, or if the response breaks off.
    pub(crate) async fn get_pieces(
        &self,
        key: &RelativeKey,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), S3Error> {
        let broken = |cause: String| S3Error::local(Operation::Get, ErrorKind::Transient, cause);
        let (_, GetObjectOutput { mut body, .. }) = self.get_object(key, None).await?;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| S3Error::of_body(Operation::Get, &error))?;
            self.sender.requests.count_downloaded(piece.len());
            take(&piece).map_err(broken)?;
        }
        Ok(())
    }

    /// Requests an object. A response without an ETag is not an object.
    async fn get_object(&self, key: &RelativeKey, version: Option<&str>) -> Result<(ETag, GetObjectOutput), S3Error> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(key))
            .set_version_id(version.map(str::to_owned))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let attempt = |activity| request.clone().customize().interceptor(activity).send();
        self.sender.send(Operation::Get, attempt, |response| Ok((etag_of(response.e_tag())?, response))).await
    }
}
