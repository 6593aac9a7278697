//! Another metadata for an object whose content stays: S3 copies it onto itself, and nothing is uploaded.
//!
//! 1. A copy that replaces metadata drops all that is not sent with it: type, caching, storage class, encryption, other
//!    metadata. All of it is taken from the object's headers and sent again. Tags go with the copy; an ACL does not.
//! 2. It must be the object that was compared: the copy's source has to have its ETag.
//! 3. An answer to it may be lost: sent again, the condition fails on our own copy. The metadata tells.
//! 4. S3 does not copy an object that is archived, or larger than 5 GB: that is for an upload.

use aws_sdk_s3::types::MetadataDirective;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::headers::{ObjectHeaders, set_headers};
use super::operation::Operation;
use crate::key::RelativeKey;
use crate::object::ETag;

/// S3's limit of one copy (S3 API reference, "CopyObject").
pub const LARGEST_COPY_BYTES: u64 = 5 << 30;

/// `x-amz-copy-source` is read as a URL's path.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Destination {
    /// Gives the object that has this ETag other headers; returns the ETag that it has then.
    ///
    /// # Errors
    /// Where S3 refuses, does not answer, or has another object at the key.
    pub async fn rewrite(&self, key: &RelativeKey, headers: &ObjectHeaders, etag: &ETag) -> Result<ETag, S3Error> {
        let whole_key = String::from(self.prefix.object_key(key));
        let request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(&whole_key)
            .copy_source(format!("{}/{}", self.bucket, utf8_percent_encode(&whole_key, IN_A_PATH)))
            .copy_source_if_match(etag.text())
            .metadata_directive(MetadataDirective::Replace)
            .set_expected_bucket_owner(self.expected_owner.clone())
            .set_expected_source_bucket_owner(self.expected_owner.clone());
        let request = set_headers!(request, headers);
        match self.sender.send(Operation::Copy, 0, |_| request.clone().send()).await {
            Ok(answer) => {
                let copied = answer.copy_object_result().and_then(|result| result.e_tag());
                Ok(copied.map_or_else(|| etag.clone(), ETag::new))
            }
            Err(error) if error.kind == ErrorKind::Precondition => match self.head(key).await {
                Ok(found) if found.stored.metadata == headers.metadata => Ok(found.etag),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

impl S3Error {
    /// Whether S3 cannot copy this object, although it has it and may read it.
    #[must_use]
    pub fn is_no_copy(&self) -> bool {
        match self.code.as_deref() {
            Some("InvalidObjectState") => true,
            // "The specified copy source is larger than the maximum allowable size for a copy source".
            Some("InvalidRequest" | "EntityTooLarge") => self.message.contains("larger than"),
            _ => false,
        }
    }
}
