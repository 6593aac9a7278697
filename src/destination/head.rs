//! What S3 knows of an object beyond its line in a listing.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ServerSideEncryption};

use super::Destination;
use super::checksum::{Algorithm, Checksum};
use super::error::{ErrorKind, S3Error};
use super::headers::{Encryption, ObjectHeaders, UNKNOWN_TYPE};
use super::operation::Operation;
use crate::key::RelativeKey;
use crate::object::{ETag, Object, StorageClass};
use crate::time::EpochNanos;

/// What the headers of an object tell.
#[derive(Clone, Debug)]
pub struct Headers {
    /// The entity tag.
    pub etag: ETag,
    /// Whether the ETag may be an MD5: not under SSE-KMS or SSE-C.
    pub etag_is_md5: bool,
    /// The checksum of the whole content that S3 keeps, where it keeps one.
    pub checksum: Option<Checksum>,
    /// The size of the answered range: of the first part, where that was asked for.
    pub size_bytes: u64,
    /// The number of parts, where the first was asked for and the server tells.
    pub parts: Option<u32>,
    /// When it was written, cut to the second.
    pub last_modified: EpochNanos,
    /// What it is stored with.
    pub stored: ObjectHeaders,
}

impl Headers {
    /// The object as a listing would show it.
    #[must_use]
    pub fn listed(&self, key: &RelativeKey) -> Object {
        Object {
            key: key.clone(),
            size_bytes: self.size_bytes,
            etag: self.etag.clone(),
            last_modified: self.last_modified,
            storage_class: self.stored.storage_class.clone().unwrap_or_default(),
        }
    }
}

impl Destination {
    /// An object's headers.
    ///
    /// # Errors
    /// Where S3 does not answer, or has no such object.
    pub async fn head(&self, key: &RelativeKey) -> Result<Headers, S3Error> {
        self.head_part(key, None).await
    }

    /// An object as a listing would show it; nothing where there is none.
    ///
    /// # Errors
    /// Where S3 does not answer.
    pub async fn object(&self, key: &RelativeKey) -> Result<Option<Object>, S3Error> {
        match self.head(key).await {
            Ok(headers) => Ok(Some(headers.listed(key))),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The headers of an object's first part: its size is what the uploader chose.
    ///
    /// # Errors
    /// Where S3 does not answer, or has no such object.
    pub async fn head_first_part(&self, key: &RelativeKey) -> Result<Headers, S3Error> {
        self.head_part(key, Some(1)).await
    }

    async fn head_part(&self, key: &RelativeKey, part: Option<i32>) -> Result<Headers, S3Error> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(key))
            .set_part_number(part)
            .checksum_mode(ChecksumMode::Enabled)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let answer = self.sender.send(Operation::Head, 0, |_| request.clone().send()).await?;
        let whole = answer.checksum_type() != Some(&ChecksumType::Composite) && part.is_none();
        let checksums = [
            (Algorithm::Crc64Nvme, answer.checksum_crc64_nvme()),
            (Algorithm::Crc32C, answer.checksum_crc32_c()),
            (Algorithm::Crc32, answer.checksum_crc32()),
            (Algorithm::Sha256, answer.checksum_sha256()),
        ];
        Ok(Headers {
            etag: ETag::new(answer.e_tag().unwrap_or_default()),
            etag_is_md5: etag_may_be_md5(answer.server_side_encryption(), answer.sse_customer_algorithm()),
            checksum: checksums
                .into_iter()
                .filter(|_| whole)
                .find_map(|(algorithm, text)| algorithm.read_header(text?)),
            size_bytes: answer.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            parts: answer.parts_count().and_then(|parts| u32::try_from(parts).ok()),
            // Without a date everything is newer, and so compared by content.
            last_modified: EpochNanos(answer.last_modified().map_or(i128::MIN / 2, DateTime::as_nanos)),
            stored: stored_headers(&answer),
        })
    }
}

fn stored_headers(answer: &HeadObjectOutput) -> ObjectHeaders {
    let text = |value: Option<&str>| value.map(str::to_owned);
    ObjectHeaders {
        content_type: answer.content_type().unwrap_or(UNKNOWN_TYPE).to_owned(),
        cache_control: text(answer.cache_control()),
        content_encoding: text(answer.content_encoding()),
        content_disposition: text(answer.content_disposition()),
        content_language: text(answer.content_language()),
        expires: text(answer.expires_string()),
        website_redirect: text(answer.website_redirect_location()),
        metadata: answer.metadata().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        storage_class: answer.storage_class().map(|class| StorageClass::named(class.as_str())),
        encryption: answer.server_side_encryption().map(|algorithm| Encryption {
            algorithm: algorithm.as_str().to_owned(),
            kms_key_id: text(answer.ssekms_key_id()),
            bucket_key: answer.bucket_key_enabled(),
        }),
    }
}

/// Whether the ETag of an object with this encryption is made of MD5s.
pub(super) fn etag_may_be_md5(encryption: Option<&ServerSideEncryption>, customer_key: Option<&str>) -> bool {
    customer_key.is_none() && matches!(encryption, None | Some(ServerSideEncryption::Aes256))
}
