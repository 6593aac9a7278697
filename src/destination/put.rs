//! An object sent in one request, only over the object that the run has seen (`DESIGN.md#conditional-writes`).

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;

use super::Destination;
use super::checksum::{Checksum, Digest, set_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::headers::{ObjectHeaders, set_headers};
use super::operation::Operation;
use super::patience::{Progress, WatchedBody};
use crate::key::RelativeKey;
use crate::object::ETag;

/// What the listing showed at a key: what a write may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// This object.
    Present(ETag),
    /// Whatever is there.
    Anything,
}

impl Expected {
    pub(super) fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }

    pub(super) fn if_match(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Anything => None,
            // Without an ETag in the listing there is nothing to hold the object to.
            Self::Present(etag) => Some(etag.text()).filter(|etag| !etag.is_empty()),
        }
    }
}

impl Destination {
    /// Stores `content`, and returns the new object's ETag.
    ///
    /// # Errors
    /// Where S3 refuses, does not answer, or holds something else than `expected` at the key.
    pub async fn put(
        &self,
        key: &RelativeKey,
        headers: &ObjectHeaders,
        content: &Bytes,
        digest: &Digest,
        expected: &Expected,
    ) -> Result<ETag, S3Error> {
        // As it was when this one was sent: another upload may learn meanwhile that there are no conditions.
        let conditional = self.writes_are_conditional();
        let sent = match self.put_if(key, headers, content, digest, expected, conditional).await {
            Err(error) if error.kind == ErrorKind::NotImplemented && conditional => {
                self.without_conditions(&error);
                self.put_if(key, headers, content, digest, expected, false).await
            }
            other => other,
        };
        match sent {
            Err(error) if error.kind == ErrorKind::Precondition => {
                self.own_write(key, &ETag::single(digest.md5), digest.checksum).await.ok_or(error)
            }
            other => other,
        }
    }

    async fn put_if(
        &self,
        key: &RelativeKey,
        headers: &ObjectHeaders,
        content: &Bytes,
        digest: &Digest,
        expected: &Expected,
        conditional: bool,
    ) -> Result<ETag, S3Error> {
        let request = || {
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.prefix.object_key(key))
                .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .content_md5(digest.content_md5())
                .set_if_none_match(expected.if_none_match().filter(|_| conditional))
                .set_if_match(expected.if_match().filter(|_| conditional))
                .set_expected_bucket_owner(self.expected_owner.clone());
            set_checksum!(set_headers!(request, headers), digest.checksum)
        };
        let etag = ETag::single(digest.md5);
        let answer = self
            .sender
            .send_checked(
                Operation::Put,
                content.len(),
                |progress| request().body(body(content, progress)).send(),
                |answer| {
                    let md5 = etag_may_be_md5(answer.server_side_encryption(), answer.sse_customer_algorithm());
                    same_etag(answer.e_tag(), &etag, md5)
                },
            )
            .await?;
        Ok(answer.e_tag().map_or(etag, ETag::new))
    }

    /// Whether what is at the key is what was sent: a write whose answer was lost fails its own condition when sent again.
    pub(super) async fn own_write(&self, key: &RelativeKey, sent: &ETag, checksum: Option<Checksum>) -> Option<ETag> {
        let found = self.head(key).await.ok()?;
        let same_content = found.checksum.is_some() && found.checksum == checksum;
        (found.etag == *sent || same_content).then_some(found.etag)
    }
}

/// A body that notes its progress; the content is not copied.
pub(super) fn body(content: &Bytes, progress: Progress) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(WatchedBody::new(content.clone(), progress)))
}

/// Whether the answered ETag is that of what was sent, where it can tell.
pub(super) fn same_etag(answered: Option<&str>, sent: &ETag, etag_is_md5: bool) -> Result<(), String> {
    match answered.map(ETag::new) {
        Some(answered) if etag_is_md5 && answered != *sent && !answered.is_empty() => Err(format!(
            "S3 received something else than was sent: ETag {} instead of {}",
            answered.text(),
            sent.text()
        )),
        _ => Ok(()),
    }
}
