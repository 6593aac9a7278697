//! An object sent in one request, only over the object that the run has seen (`DESIGN.md#conditional-writes`).

use std::collections::BTreeMap;

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;

use super::Destination;
use super::checksum::{Checksum, Digest, set_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::idle_timeout::{Activity, ObservedBody};
use super::operation::Operation;
use super::proof::WriteProof;
use super::sent_content::SentContent;
use super::write_headers::WriteHeaders;
use crate::key::RelativeKey;
use crate::object::ETag;

/// The object that a write can replace: the condition of the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedObject {
    /// None: the key must be absent.
    Absent,
    /// The object with this ETag, or none if another writer has deleted it since.
    Present(ETag),
    /// Only the object with this ETag: if it no longer exists, the write fails.
    Only(ETag),
    /// Any object, or none: the write has no condition.
    Any,
}

impl ExpectedObject {
    pub(super) fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }

    pub(super) fn if_match(&self) -> Option<String> {
        // A listing without ETags gives no condition.
        self.etag().map(ETag::text).filter(|etag| !etag.is_empty())
    }

    const fn etag(&self) -> Option<&ETag> {
        match self {
            Self::Absent | Self::Any => None,
            Self::Present(etag) | Self::Only(etag) => Some(etag),
        }
    }
}

/// An object to write in one request.
#[derive(Clone, Copy)]
pub(crate) struct NewObject<'a> {
    pub(crate) key: &'a RelativeKey,
    pub(crate) headers: &'a WriteHeaders,
    pub(crate) content: &'a Bytes,
    pub(crate) digest: &'a Digest,
    pub(crate) expected: &'a ExpectedObject,
    pub(crate) source: &'a dyn SentContent,
}

impl Destination {
    /// Writes an object.
    ///
    /// # Errors
    /// Returns an error if the key holds something else than `expected`, and if no response proves the write.
    pub(crate) async fn put(&self, object: &NewObject<'_>) -> Result<WriteProof, S3Error> {
        let etag = ETag::single(object.digest.md5);
        let sent = Sent {
            key: object.key,
            etag: &etag,
            checksum: object.digest.checksum,
            metadata: Some(object.headers.metadata()),
            over: object.expected,
        };
        match self.write_if(object.expected, |expected| self.put_if(object, &sent, expected)).await {
            Err(error) if error.may_be_own_write() => self.find_own_write(&sent).await.ok_or(error),
            other => other.map_err(|error| object.headers.explain(error)),
        }
    }

    async fn put_if(
        &self,
        object: &NewObject<'_>,
        sent: &Sent<'_>,
        expected: &ExpectedObject,
    ) -> Result<WriteProof, S3Error> {
        let NewObject { key, headers, content, digest, source, .. } = *object;
        let request = || {
            let request = self
                .start_put(key, headers)
                .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .content_md5(digest.content_md5())
                .set_if_none_match(expected.if_none_match())
                .set_if_match(expected.if_match());
            set_checksum!(request, digest.checksum)
        };
        let attempt =
            |activity| request().body(body(content, activity)).customize().mutate_request(headers.inserted()).send();
        let read = |response: PutObjectOutput| {
            let md5 = etag_may_be_md5(response.server_side_encryption(), response.sse_customer_algorithm());
            WriteProof::of_response(response.e_tag())?.checked(sent.etag, md5)
        };
        let confirm = || self.find_own_write(sent);
        self.sender.send_or_confirm(Operation::Put, content.len(), attempt, read, confirm, source).await
    }

    /// Sends a write with its condition, or without one if the server has no conditional writes. S3 responds with 404 to
    /// `If-Match` if there is no object: then the key must be absent, unless the write expects [`ExpectedObject::Only`].
    pub(super) async fn write_if<'a, F: Future<Output = Result<WriteProof, S3Error>>>(
        &self,
        expected: &'a ExpectedObject,
        write: impl Fn(&'a ExpectedObject) -> F,
    ) -> Result<WriteProof, S3Error> {
        match self.write_over(expected, &write).await {
            Err(error) if error.is_without_object() && matches!(expected, ExpectedObject::Present(_)) => {
                tracing::debug!(%error, "the object to replace no longer exists: sending the write for an absent key");
                let absent = self.write_over(&ExpectedObject::Absent, &write).await;
                absent.map_err(|after| after.after(error.may_have_effect))
            }
            other => other,
        }
    }

    /// Sends a write with its condition, or without one if the server has no conditional writes.
    ///
    /// One 501 may come from something between this program and S3. So the server counts as one without conditions only
    /// if it refuses the same condition several times, and then accepts the same write without it.
    async fn write_over<'a, F: Future<Output = Result<WriteProof, S3Error>>>(
        &self,
        expected: &'a ExpectedObject,
        write: &impl Fn(&'a ExpectedObject) -> F,
    ) -> Result<WriteProof, S3Error> {
        // Read before the request: meanwhile, another write may find that the server has no conditions.
        if !self.has_conditional_writes() || *expected == ExpectedObject::Any {
            return write(&ExpectedObject::Any).await;
        }
        let (mut refusals, mut may_have_effect) = (0, false);
        let refusal = loop {
            match write(expected).await {
                Err(error) if error.kind == ErrorKind::NotImplemented => {
                    refusals += 1;
                    may_have_effect |= error.may_have_effect;
                    if refusals >= REFUSALS_OF_CONDITIONS || !self.has_conditional_writes() {
                        break error;
                    }
                    let waited = self.sender.back_off(error.operation, super::send::pause(refusals)).await;
                    waited.map_err(|error| error.after(may_have_effect))?;
                }
                other => return other.map_err(|error| error.after(may_have_effect)),
            }
        };
        let written = write(&ExpectedObject::Any).await.map_err(|error| error.after(may_have_effect))?;
        self.disable_conditional_writes(&refusal);
        Ok(written)
    }

    /// Returns proof that the object at the key is what this run sent. If the response to a write was lost, its retry
    /// fails its own condition.
    pub(super) async fn find_own_write(&self, sent: &Sent<'_>) -> Option<WriteProof> {
        let found = self.head(sent.key).await.ok()?;
        // If this is the object that was there before, an equal content proves nothing about its headers.
        let is_unchanged = sent.over.etag() == Some(&found.etag);
        let is_same_content = found.checksum.is_some() && found.checksum == sent.checksum;
        // Another writer may have stored the same content with other metadata.
        let is_same_metadata = sent.metadata.is_none_or(|metadata| found.stored.metadata == *metadata);
        let is_own = !is_unchanged && is_same_metadata && (found.etag == *sent.etag || is_same_content);
        is_own.then(|| WriteProof::of_head(found.etag))
    }
}

impl S3Error {
    /// Whether S3 has no object at the key. An upload that no longer exists says nothing about the key.
    pub(crate) fn is_without_object(&self) -> bool {
        self.kind == ErrorKind::NotFound && self.code.as_deref() != Some("NoSuchUpload")
    }
}

/// What a write sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) key: &'a RelativeKey,
    pub(super) etag: &'a ETag,
    pub(super) checksum: Option<Checksum>,
    /// The user metadata, if this request sent it.
    pub(super) metadata: Option<&'a BTreeMap<String, String>>,
    /// What the write replaces.
    pub(super) over: &'a ExpectedObject,
}

/// How often a server must refuse the condition of one write before the run sends the write without it.
const REFUSALS_OF_CONDITIONS: u32 = 3;

/// Returns a body that records its activity. The content is not copied.
pub(super) fn body(content: &Bytes, activity: Activity) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(ObservedBody::new(content.clone(), activity)))
}
