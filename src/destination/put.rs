//! An object sent in one request, only over the object that the run has seen (`DESIGN.md#conditional-writes`).

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;

use super::Destination;
use super::checksum::{Checksum, Digest, set_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::headers::{ObjectHeaders, set_headers};
use super::idle_timeout::{Activity, ObservedBody};
use super::operation::Operation;
use crate::key::RelativeKey;
use crate::object::ETag;

/// The object that a write can replace: the condition of the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedObject {
    /// None: the key must be absent.
    Absent,
    /// The object with this ETag.
    Present(ETag),
    /// Any object, or none: the write has no condition.
    Any,
}

impl ExpectedObject {
    pub(super) fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }

    pub(super) fn if_match(&self) -> Option<String> {
        match self {
            Self::Absent | Self::Any => None,
            // A listing without ETags gives no condition.
            Self::Present(etag) => Some(etag.text()).filter(|etag| !etag.is_empty()),
        }
    }
}

/// An object to write in one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewObject<'a> {
    pub(crate) key: &'a RelativeKey,
    pub(crate) headers: &'a ObjectHeaders,
    pub(crate) content: &'a Bytes,
    pub(crate) digest: &'a Digest,
    pub(crate) expected: &'a ExpectedObject,
}

impl Destination {
    /// Writes an object, and returns its ETag.
    ///
    /// # Errors
    /// Returns an error if the key holds something else than `expected`.
    pub(crate) async fn put(&self, object: &NewObject<'_>) -> Result<ETag, S3Error> {
        let etag = ETag::single(object.digest.md5);
        match self.write_if(object.expected, |expected| self.put_if(object, &etag, expected)).await {
            Err(error) if error.kind == ErrorKind::Precondition => {
                self.find_own_write(object.key, &etag, object.digest.checksum).await.ok_or(error)
            }
            other => other,
        }
    }

    async fn put_if(&self, object: &NewObject<'_>, etag: &ETag, expected: &ExpectedObject) -> Result<ETag, S3Error> {
        let NewObject { key, headers, content, digest, .. } = *object;
        let request = || {
            let request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.prefix.object_key(key))
                .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .content_md5(digest.content_md5())
                .set_if_none_match(expected.if_none_match())
                .set_if_match(expected.if_match())
                .set_expected_bucket_owner(self.expected_owner.clone());
            set_checksum!(set_headers!(request, headers), digest.checksum)
        };
        let response = self
            .sender
            .send_checked(
                Operation::Put,
                content.len(),
                |activity| request().body(body(content, activity)).send(),
                |response| {
                    let md5 = etag_may_be_md5(response.server_side_encryption(), response.sse_customer_algorithm());
                    check_etag(response.e_tag(), etag, md5)
                },
            )
            .await?;
        Ok(response.e_tag().map_or_else(|| etag.clone(), ETag::new))
    }

    /// Sends a write with its condition, or without one if the server has no conditional writes.
    pub(super) async fn write_if<'a, F: Future<Output = Result<ETag, S3Error>>>(
        &self,
        expected: &'a ExpectedObject,
        write: impl Fn(&'a ExpectedObject) -> F,
    ) -> Result<ETag, S3Error> {
        // Read before the request: meanwhile, another write may find that the server has no conditions.
        if !self.has_conditional_writes() {
            return write(&ExpectedObject::Any).await;
        }
        match write(expected).await {
            Err(error) if error.kind == ErrorKind::NotImplemented => {
                self.disable_conditional_writes(&error);
                write(&ExpectedObject::Any).await
            }
            other => other,
        }
    }

    /// Returns the ETag of the object at the key if its content is what this run sent. If the response to a write was
    /// lost, the retry fails its own condition.
    pub(super) async fn find_own_write(
        &self,
        key: &RelativeKey,
        sent: &ETag,
        checksum: Option<Checksum>,
    ) -> Option<ETag> {
        let found = self.head(key).await.ok()?;
        let is_same_content = found.checksum.is_some() && found.checksum == checksum;
        (found.etag == *sent || is_same_content).then_some(found.etag)
    }
}

/// Returns a body that records its activity. The content is not copied.
pub(super) fn body(content: &Bytes, activity: Activity) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(ObservedBody::new(content.clone(), activity)))
}

/// Compares the ETag of a response with that of the sent content, if the ETag can be an MD5.
pub(super) fn check_etag(received: Option<&str>, sent: &ETag, etag_is_md5: bool) -> Result<(), String> {
    match received.map(ETag::new) {
        Some(received) if etag_is_md5 && received != *sent && !received.is_empty() => Err(format!(
            "S3 received other content than this run sent: ETag {} instead of {}",
            received.text(),
            sent.text()
        )),
        _ => Ok(()),
    }
}
