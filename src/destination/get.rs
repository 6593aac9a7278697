//! The content of an object.

use std::io::Write;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use bytes::Bytes;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// An object with its content.
#[derive(Clone, Debug)]
pub struct Content {
    /// The content.
    pub content: Bytes,
    /// The entity tag.
    pub etag: ETag,
    /// When it was written, cut to the second.
    pub last_modified: EpochNanos,
}

impl Destination {
    /// Reads a whole object into memory.
    ///
    /// # Errors
    /// Where S3 does not answer, has no such object, or the answer breaks off.
    pub async fn get(&self, key: &RelativeKey) -> Result<Content, S3Error> {
        let answer = self.get_object(key).await?;
        let etag = ETag::new(answer.e_tag().unwrap_or_default());
        let last_modified = EpochNanos(answer.last_modified().map_or(i128::MIN / 2, DateTime::as_nanos));
        let body = answer.body.collect().await;
        let body = body.map_err(|error| S3Error::local(Operation::Get, ErrorKind::Transient, error.to_string()))?;
        Ok(Content { content: body.into_bytes(), etag, last_modified })
    }

    /// Writes an object to a file, piece by piece.
    ///
    /// # Errors
    /// Where S3 does not answer, has no such object, or the answer breaks off; where the file cannot be written.
    pub async fn get_into(&self, key: &RelativeKey, file: &mut impl Write) -> Result<(), S3Error> {
        self.get_pieces(key, |piece| file.write_all(piece).map_err(|error| error.to_string())).await
    }

    /// Brings an object before `each`, piece by piece.
    ///
    /// # Errors
    /// Where S3 does not answer, has no such object, or the answer breaks off; where `each` says so.
    pub async fn get_pieces(
        &self,
        key: &RelativeKey,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), S3Error> {
        let broken = |what: String| S3Error::local(Operation::Get, ErrorKind::Transient, what);
        let mut body = self.get_object(key).await?.body;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| broken(error.to_string()))?;
            self.sender.requests.count_downloaded(piece.len());
            each(&piece).map_err(broken)?;
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
        self.sender.send(Operation::Get, 0, |_| request.clone().send()).await
    }
}
