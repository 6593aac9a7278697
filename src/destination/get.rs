//! The content of an object.

use std::io::Write;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::head::last_modified;
use super::operation::Operation;
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
        let response = self.get_object(key).await?;
        let etag = ETag::new(response.e_tag().unwrap_or_default());
        let last_modified = last_modified(response.last_modified());
        let body = response.body.collect().await;
        let body = body.map_err(|error| S3Error::local(Operation::Get, ErrorKind::Transient, error.to_string()))?;
        Ok(DownloadedObject { content: body.into_bytes(), etag, last_modified })
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
        let mut body = self.get_object(key).await?.body;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| broken(error.to_string()))?;
            self.sender.requests.count_downloaded(piece.len());
            take(&piece).map_err(broken)?;
        }
        Ok(())
    }

    async fn get_object(&self, key: &RelativeKey) -> Result<GetObjectOutput, S3Error> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(key))
            .set_expected_bucket_owner(self.expected_owner.clone());
        self.sender.send(Operation::Get, |_| request.clone().send()).await
    }
}
