//! HeadObject: what S3 stores about an object besides its entry in a listing.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumMode, ObjectLockLegalHoldStatus, ServerSideEncryption};
use futures::FutureExt;

use super::Destination;
use super::checksum::{Checksum, whole_checksum};
use super::error::{Concern, ErrorKind, S3Error};
use super::headers::{Encryption, ObjectHeaders, ObjectLock, UNKNOWN_TYPE};
use super::operation::Operation;
use super::proof::{Unproven, etag_of};
use crate::key::RelativeKey;
use crate::object::{ETag, Object, StorageClass};
use crate::time::EpochNanos;

/// The response to a HeadObject.
#[derive(Clone, Debug)]
pub(crate) struct HeadResponse {
    pub(crate) etag: ETag,
    /// Whether the ETag can be an MD5. It cannot under SSE-KMS and SSE-C.
    pub(crate) etag_is_md5: bool,
    /// The stored checksum of the whole content, if there is one.
    pub(crate) checksum: Option<Checksum>,
    /// The size of the object, or of its first part if the request asked for that part.
    pub(crate) size_bytes: u64,
    /// The number of parts, if the request asked for the first part and the server returns the number.
    pub(crate) parts: Option<u32>,
    /// Truncated to the second.
    pub(crate) last_modified: EpochNanos,
    pub(crate) stored: ObjectHeaders,
    /// Whether the object has metadata that is not in `stored`, because no header can hold it as text.
    pub(crate) hides_metadata: bool,
}

impl HeadResponse {
    /// Returns the object as a listing would show it.
    pub(crate) fn to_object(&self, key: &RelativeKey) -> Object {
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
    /// Requests the headers of an object.
    pub(crate) async fn head(&self, key: &RelativeKey) -> Result<HeadResponse, S3Error> {
        self.head_version(key, None).await
    }

    /// Requests the headers of a version of an object; the latest if `version` is `None`.
    pub(super) async fn head_version(&self, key: &RelativeKey, version: Option<&str>) -> Result<HeadResponse, S3Error> {
        self.head_part(key, None, version).await
    }

    /// Requests an object as a listing would show it. Returns `None` if it does not exist.
    pub(crate) async fn object(&self, key: &RelativeKey) -> Result<Option<Object>, S3Error> {
        match self.head(key).await {
            Ok(response) => Ok(Some(response.to_object(key))),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Requests the headers of an object's first part. The uploader chose the size of that part.
    pub(crate) async fn head_first_part(&self, key: &RelativeKey) -> Result<HeadResponse, S3Error> {
        self.head_part(key, Some(1), None).await
    }

    async fn head_part(
        &self,
        key: &RelativeKey,
        part: Option<i32>,
        version: Option<&str>,
    ) -> Result<HeadResponse, S3Error> {
        let request = self
            .client
            .head_object()
            .bucket(self.bucket.as_str())
            .key(self.prefix.object_key(key))
            .set_part_number(part)
            .set_version_id(version.map(str::to_owned))
            .checksum_mode(ChecksumMode::Enabled)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let attempt = |_| request.clone().customize().interceptor(CountUnreadable).send();
        let send = || self.sender.send(Operation::Head, attempt, |response| read_head(&response, part.is_none()));
        let before = self.sender.credentials_for(Operation::Head).await?;
        let head = match send().await {
            Err(error) if error.has_hidden_code() => {
                let HiddenReason { text, of } = self.hidden_reason(key, version).boxed().await?;
                if of == RefusalOf::Object && self.sender.credentials_for(Operation::Head).await? == before {
                    return Err(error.advising(&text));
                }
                let unexplained = |error: S3Error| if error.has_hidden_code() { error.advising(&text) } else { error };
                send().await.map_err(unexplained)?
            }
            other => other?,
        };
        self.clock.observe_object(head.last_modified);
        Ok(head)
    }

    /// Reads the first byte of an object whose HEAD S3 refuses without a code, for example because the credentials have
    /// expired. The error of a GET has its code, and `send` asks for other credentials. Returns what a GET shows, if it
    /// is about the object.
    ///
    /// # Errors
    /// Returns the error of the GET if it is not about the object.
    async fn hidden_reason(&self, key: &RelativeKey, version: Option<&str>) -> Result<HiddenReason, S3Error> {
        let request = self.start_get(key, version).range("bytes=0-0");
        let read = |response: GetObjectOutput| etag_of(response.e_tag());
        let got = self.sender.send(Operation::Get, |_| request.clone().send(), read).await;
        let reason = "S3 gives no reason in a response to HeadObject";
        match got {
            Ok(_) => Ok(HiddenReason { text: format!("{reason}, and allows GetObject"), of: RefusalOf::Head }),
            Err(error) if matches!(error.concern(), Concern::Key | Concern::Prefix) => {
                // Another status, such as that of an empty object, does not say that S3 refuses the HEAD too.
                let of = if error.status == Some(400) { RefusalOf::Object } else { RefusalOf::Head };
                Ok(HiddenReason { text: format!("{reason}; {error}"), of })
            }
            Err(error) => Err(error),
        }
    }
}

/// What a GET shows about a HEAD that S3 refuses without a code.
struct HiddenReason {
    text: String,
    of: RefusalOf,
}

/// What S3 refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusalOf {
    /// The HEAD alone: another one may succeed.
    Head,
    /// A GET too. Without other credentials, another HEAD fails as well.
    Object,
}

impl S3Error {
    /// Whether S3 refuses a HEAD and cannot say why: the response has no document with a code.
    fn has_hidden_code(&self) -> bool {
        self.operation == Operation::Head && self.status == Some(400) && self.code.is_none()
    }
}

/// Reads the headers of an object. A response without an ETag is not about an object.
fn read_head(response: &HeadObjectOutput, is_of_whole: bool) -> Result<HeadResponse, Unproven> {
    let checksum = whole_checksum(
        response.checksum_type(),
        [
            response.checksum_crc64_nvme(),
            response.checksum_crc32_c(),
            response.checksum_crc32(),
            response.checksum_sha256(),
        ],
    );
    Ok(HeadResponse {
        etag: etag_of(response.e_tag())?,
        etag_is_md5: etag_may_be_md5(response.server_side_encryption(), response.sse_customer_algorithm()),
        checksum: checksum.filter(|_| is_of_whole),
        size_bytes: response.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        parts: response.parts_count().and_then(|parts| u32::try_from(parts).ok()),
        last_modified: last_modified(response.last_modified()),
        stored: stored_headers(response),
        hides_metadata: response.missing_meta().is_some_and(|count| count > 0),
    })
}

fn stored_headers(response: &HeadObjectOutput) -> ObjectHeaders {
    let text = |value: Option<&str>| value.map(str::to_owned);
    ObjectHeaders {
        content_type: response.content_type().unwrap_or(UNKNOWN_TYPE).to_owned(),
        cache_control: text(response.cache_control()),
        content_encoding: text(response.content_encoding()),
        content_disposition: text(response.content_disposition()),
        content_language: text(response.content_language()),
        expires: text(response.expires_string()),
        website_redirect: text(response.website_redirect_location()),
        metadata: response.metadata().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        storage_class: response.storage_class().map(|class| StorageClass::named(class.as_str())),
        tags: None,
        lock: ObjectLock {
            retention: retention(response),
            legal_hold: response.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On),
        },
        encryption: response.server_side_encryption().map(|algorithm| Encryption {
            algorithm: algorithm.as_str().to_owned(),
            kms_key_id: text(response.ssekms_key_id()),
            bucket_key: response.bucket_key_enabled(),
        }),
    }
}

/// Reads the retention of an object. One that has ended protects nothing, and S3 refuses it for a new version.
fn retention(response: &HeadObjectOutput) -> Option<(String, String)> {
    let until = response.object_lock_retain_until_date()?;
    let is_over = EpochNanos(until.as_nanos()) <= EpochNanos::now();
    let mode = response.object_lock_mode().filter(|_| !is_over)?;
    Some((mode.as_str().to_owned(), until.fmt(DateTimeFormat::DateTime).ok()?))
}

/// Counts the headers of a response that are not UTF-8 as metadata that S3 does not return. The SDK skips them.
#[derive(Debug)]
struct CountUnreadable;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for CountUnreadable {
    fn name(&self) -> &'static str {
        "CountUnreadable"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response_mut().headers_mut();
        if headers.iter_bytes().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            headers.insert("x-amz-missing-meta", "1");
        }
        Ok(())
    }
}

/// Reads LastModified. Without a date, every file counts as newer, so the run compares content.
pub(super) fn last_modified(date: Option<&DateTime>) -> EpochNanos {
    EpochNanos(date.map_or(i128::MIN / 2, DateTime::as_nanos))
}

/// Whether the ETag of an object with this encryption can consist of MD5s.
pub(super) fn etag_may_be_md5(encryption: Option<&ServerSideEncryption>, customer_key: Option<&str>) -> bool {
    customer_key.is_none() && matches!(encryption, None | Some(ServerSideEncryption::Aes256))
}
