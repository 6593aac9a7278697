//! The content of a small object.

use bytes::Bytes;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;

impl Destination {
    /// Reads a whole object into memory.
    ///
    /// # Errors
    /// Where S3 does not answer, has no such object, or the answer breaks off.
    pub async fn get(&self, key: &str) -> Result<Bytes, S3Error> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.prefix.key(key))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let answer = self.sender.send(Operation::Get, 0, |_| request.clone().send()).await?;
        let body = answer.body.collect().await;
        body.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes)
            .map_err(|error| S3Error::local(Operation::Get, ErrorKind::Transient, error.to_string()))
    }
}
