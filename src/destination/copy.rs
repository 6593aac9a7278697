//! Rewriting the metadata of an object: S3 copies the object onto itself, and the run uploads nothing.
//!
//! 1. A copy that replaces metadata drops everything that is not sent with it: type, caching, storage class,
//!    encryption, lock, other metadata. The run takes all of it from the object's headers and sends it again. The copy
//!    keeps tags, but not an ACL. If S3 does not return some of the metadata, the run does not copy the object.
//! 2. The copy must be of the object that was compared: `x-amz-copy-source-if-match` names its ETag. Every server knows
//!    this condition, also one without conditional PUTs.
//! 3. The response may be lost. A retry then fails the condition with a 412, because our own copy has another ETag if
//!    the object was multipart or is under KMS. If the object's metadata is what was sent, the copy was ours.
//! 4. S3 does not copy an object that is archived, or larger than 5 GB. The run uploads the file instead.

use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::types::MetadataDirective;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
use super::proof::WriteProof;
use super::sent_content::SentContent;
use super::write_headers::WriteHeaders;
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// S3's limit for one copy (S3 API reference, "CopyObject").
const MAX_COPY_BYTES: u64 = 5 << 30;

/// The value of `x-amz-copy-source` is encoded like the path of a URL.
const URL_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An object after its copy onto itself.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) proof: WriteProof,
    /// The time in S3's response, if there is one.
    pub(crate) last_modified: Option<EpochNanos>,
}

impl Destination {
    /// Replaces the headers of the object that has this ETag.
    ///
    /// # Errors
    /// Returns an error if another object is at the key, and if no response proves the copy.
    pub(crate) async fn rewrite(
        &self,
        key: &RelativeKey,
        headers: &WriteHeaders,
        etag: &ETag,
        source: &dyn SentContent,
    ) -> Result<Copied, S3Error> {
        let object_key = String::from(self.prefix.object_key(key));
        let request = self
            .start_copy(key, headers)
            .copy_source(utf8_percent_encode(&self.bucket.copy_source(&object_key), URL_PATH).to_string())
            .copy_source_if_match(etag.text())
            .metadata_directive(MetadataDirective::Replace)
            .set_expected_source_bucket_owner(self.expected_owner.clone());
        let attempt = |_| request.clone().customize().mutate_request(headers.inserted()).send();
        let read = |response: CopyObjectOutput| {
            let copied = response.copy_object_result();
            let proof = WriteProof::of_response(copied.and_then(|copied| copied.e_tag()))?;
            let last_modified = copied.and_then(|copied| copied.last_modified());
            Ok(Copied { proof, last_modified: last_modified.map(|time| EpochNanos(time.as_nanos())) })
        };
        let confirm = || self.find_own_copy(key, headers);
        match self.sender.send_or_confirm(Operation::Copy, 0, attempt, read, confirm, source).await {
            Err(error) if error.may_be_own_write() => self.find_own_copy(key, headers).await.ok_or(error),
            Err(error) if error.is_denied_by_s3() => Err(headers
                .explain(error)
                .advising("to copy an object that has tags, allow s3:GetObjectTagging and s3:PutObjectTagging")),
            other => other,
        }
    }

    /// Returns proof that the object has the metadata that this run sent.
    async fn find_own_copy(&self, key: &RelativeKey, headers: &WriteHeaders) -> Option<Copied> {
        let found = self.head(key).await.ok()?;
        let last_modified = Some(found.last_modified);
        (found.stored.metadata == *headers.metadata())
            .then(|| Copied { proof: WriteProof::of_head(found.etag), last_modified })
    }
}

impl Destination {
    /// Whether S3 copies objects of this size here. A multi-region access point copies none.
    pub(crate) const fn copies(&self, size_bytes: u64) -> bool {
        size_bytes <= MAX_COPY_BYTES && self.bucket.copies()
    }
}

impl S3Error {
    /// S3 has not returned all metadata of the object, or not as text.
    pub(crate) fn of_lost_metadata() -> Self {
        let message = "S3 does not return all metadata of this object, and a rewrite would lose it: note the metadata, \
                       delete the object, let the next run upload the file, and add the metadata again";
        Self::local(Operation::Copy, ErrorKind::Refused, message)
    }

    /// Whether S3 has the object and allows the request, but cannot copy an object like this one.
    pub(crate) fn cannot_copy(&self) -> bool {
        match self.code.as_deref() {
            Some("InvalidObjectState") => true,
            // "The specified copy source is larger than the maximum allowable size for a copy source".
            Some("InvalidRequest" | "EntityTooLarge") => self.message.contains("larger than"),
            _ => false,
        }
    }
}
