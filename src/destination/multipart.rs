//! An object sent in parts: in any order, published as a whole or not at all, and never left unfinished.
//!
//! 1. The response to the last request may be lost. A retry then gets `NoSuchUpload` or a 412, and the ETag or checksum
//!    of the object shows whether its content is ours. If it is, another writer may have published the same content. So
//!    the upload counts as done, and is aborted in case it is still open.
//! 2. S3 may respond to the last request with 200 and an error in the body. The SDK reads it as an error.
//! 3. If anything fails, the parts cost money until the upload is aborted.
//! 4. Parts of an earlier run are compared, not trusted. A part that S3 has counts if its size and its MD5 or checksum
//!    are those of the file. The run reads the file again for this, which the checksum of the whole object needs
//!    anyway, and which costs less than sending it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::Destination;
use super::checksum::{Algorithm, Checksum, Digest, md5_of_md5s, set_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::headers::{ObjectHeaders, set_headers};
use super::operation::Operation;
use super::put::{Expected, body, same_etag};
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// S3's limit (S3 user guide, "Multipart upload limits").
const MAX_PARTS: u64 = 10_000;
const MIB: u64 = 1 << 20;

/// The size of all parts of an object but the last.
///
/// `wanted` where 10,000 such parts hold the object, else the next whole MiB that does.
#[must_use]
pub fn part_size(object_bytes: u64, wanted: u64) -> u64 {
    wanted.max(object_bytes.div_ceil(MAX_PARTS).next_multiple_of(MIB))
}

/// A multipart upload under way.
#[derive(Debug)]
pub struct MultipartUpload<'a> {
    destination: &'a Destination,
    key: &'a RelativeKey,
    id: String,
    /// Whether it was asked for more than once: an answer that was lost may have begun another one.
    may_have_twins: bool,
}

/// A part that an earlier run sent, as S3 describes it.
#[derive(Clone, Debug)]
pub struct StoredPart {
    etag: String,
    size_bytes: u64,
    checksum: Option<Checksum>,
}

/// A part that S3 has.
#[derive(Clone, Debug)]
pub struct Part {
    /// From 1.
    number: i32,
    etag: String,
    digest: Digest,
}

impl Destination {
    /// Begins a multipart upload.
    ///
    /// # Errors
    /// Where S3 refuses or does not answer.
    pub async fn begin_upload<'a>(
        &'a self,
        key: &'a RelativeKey,
        headers: &ObjectHeaders,
    ) -> Result<MultipartUpload<'a>, S3Error> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(key))
            .set_checksum_algorithm(self.checksum.map(name_of))
            .set_checksum_type(self.checksum.map(kind_of))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let request = set_headers!(request, headers);
        let asked = AtomicUsize::new(0);
        let ask = |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            request.clone().send()
        };
        let answer = self.sender.send(Operation::CreateMultipartUpload, 0, ask).await?;
        match answer.upload_id() {
            Some(id) => Ok(MultipartUpload { may_have_twins: asked.into_inner() > 1, ..self.upload(key, id) }),
            None => {
                Err(S3Error::local(Operation::CreateMultipartUpload, ErrorKind::Refused, "the answer names no upload"))
            }
        }
    }

    /// An upload that was begun already.
    #[must_use]
    pub fn upload<'a>(&'a self, key: &'a RelativeKey, id: &str) -> MultipartUpload<'a> {
        MultipartUpload { destination: self, key, id: id.to_owned(), may_have_twins: false }
    }

    /// The uploads of a key that were begun between two moments.
    ///
    /// # Errors
    /// Where S3 refuses or does not answer.
    pub async fn uploads_begun(
        &self,
        key: &RelativeKey,
        between: RangeInclusive<EpochNanos>,
    ) -> Result<Vec<String>, S3Error> {
        let key = String::from(self.prefix.object_key(key));
        let (mut begun, mut after) = (Vec::new(), (None, None));
        loop {
            let (key_marker, id_marker) = after.clone();
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&key)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .set_expected_bucket_owner(self.expected_owner.clone());
            let answer = self.sender.send(Operation::ListMultipartUploads, 0, |_| request.clone().send()).await?;
            for upload in answer.uploads().iter().filter(|upload| upload.key() == Some(&key)) {
                let time = upload.initiated().map(|time| EpochNanos(time.as_nanos()));
                if time.is_some_and(|time| between.contains(&time)) {
                    begun.extend(upload.upload_id().map(str::to_owned));
                }
            }
            let next = (answer.next_key_marker().map(str::to_owned), answer.next_upload_id_marker().map(str::to_owned));
            // Uploads of this very key come before those of keys that begin with it.
            let is_past = next.0.as_ref() != Some(&key);
            if !answer.is_truncated().unwrap_or(false) || is_past || next == after {
                return Ok(begun);
            }
            after = next;
        }
    }
}

const fn name_of(algorithm: Algorithm) -> ChecksumAlgorithm {
    match algorithm {
        Algorithm::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
        Algorithm::Crc32C => ChecksumAlgorithm::Crc32C,
        Algorithm::Crc32 => ChecksumAlgorithm::Crc32,
        Algorithm::Sha256 => ChecksumAlgorithm::Sha256,
    }
}

const fn kind_of(algorithm: Algorithm) -> ChecksumType {
    if algorithm.adds_up() { ChecksumType::FullObject } else { ChecksumType::Composite }
}

impl StoredPart {
    /// The part, if it is the one that has this digest.
    #[must_use]
    pub fn accept(&self, number: i32, digest: Digest) -> Option<Part> {
        let is_same = self.size_bytes == digest.bytes
            && match (self.checksum, digest.checksum) {
                (Some(stored), Some(known)) if stored.algorithm() == known.algorithm() => stored == known,
                _ => ETag::new(&self.etag) == ETag::single(digest.md5),
            };
        is_same.then(|| Part { number, etag: self.etag.clone(), digest })
    }
}

impl MultipartUpload<'_> {
    /// What S3 calls it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it was asked for more than once: an answer that was lost may have begun another one.
    #[must_use]
    pub const fn may_have_twins(&self) -> bool {
        self.may_have_twins
    }

    /// The parts that S3 has, by their numbers.
    ///
    /// # Errors
    /// Where S3 refuses, does not answer, or has no such upload any more.
    pub async fn stored_parts(&self) -> Result<BTreeMap<i32, StoredPart>, S3Error> {
        let Destination { client, bucket, prefix, sender, checksum, expected_owner, .. } = self.destination;
        let (mut parts, mut after) = (BTreeMap::new(), None);
        loop {
            let request = client
                .list_parts()
                .bucket(bucket)
                .key(prefix.object_key(self.key))
                .upload_id(&self.id)
                .set_part_number_marker(after)
                .set_expected_bucket_owner(expected_owner.clone());
            let answer = sender.send(Operation::ListParts, 0, |_| request.clone().send()).await?;
            for part in answer.parts() {
                let stored = StoredPart {
                    etag: part.e_tag().unwrap_or_default().to_owned(),
                    size_bytes: part.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                    checksum: checksum.and_then(|algorithm| {
                        let text = match algorithm {
                            Algorithm::Crc64Nvme => part.checksum_crc64_nvme(),
                            Algorithm::Crc32C => part.checksum_crc32_c(),
                            Algorithm::Crc32 => part.checksum_crc32(),
                            Algorithm::Sha256 => part.checksum_sha256(),
                        };
                        algorithm.read_header(text?)
                    }),
                };
                parts.insert(part.part_number().unwrap_or_default(), stored);
            }
            after = answer.next_part_number_marker().map(str::to_owned);
            if !answer.is_truncated().unwrap_or(false) || after.is_none() {
                return Ok(parts);
            }
        }
    }

    /// Sends a part; `number` counts from 1.
    ///
    /// # Errors
    /// Where S3 refuses or does not answer.
    pub async fn part(&self, number: i32, content: Bytes, digest: Digest) -> Result<Part, S3Error> {
        let Destination { client, bucket, prefix, sender, expected_owner, .. } = self.destination;
        let request = || {
            let request = client
                .upload_part()
                .bucket(bucket)
                .key(prefix.object_key(self.key))
                .upload_id(&self.id)
                .part_number(number)
                .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .content_md5(digest.content_md5())
                .set_expected_bucket_owner(expected_owner.clone());
            set_checksum!(request, digest.checksum)
        };
        let expected = ETag::single(digest.md5);
        let answer = sender
            .send_checked(
                Operation::UploadPart,
                content.len(),
                |progress| request().body(body(&content, progress)).send(),
                |answer| {
                    let md5 = etag_may_be_md5(answer.server_side_encryption(), answer.sse_customer_algorithm());
                    same_etag(answer.e_tag(), &expected, md5)
                },
            )
            .await?;
        let etag = answer.e_tag().map_or_else(|| expected.text(), str::to_owned);
        Ok(Part { number, etag, digest })
    }

    /// Publishes the object, and returns its ETag.
    ///
    /// # Errors
    /// Where S3 refuses, does not answer, or holds something else than `expected` at the key.
    pub async fn complete(&self, mut parts: Vec<Part>, expected: &Expected) -> Result<ETag, S3Error> {
        parts.sort_unstable_by_key(|part| part.number);
        let whole = Whole::of(&parts);
        let conditional = self.destination.writes_are_conditional();
        let sent = match self.complete_if(&parts, &whole, expected, conditional).await {
            Err(error) if error.kind == ErrorKind::NotImplemented && conditional => {
                self.destination.without_conditions(&error);
                self.complete_if(&parts, &whole, expected, false).await
            }
            other => other,
        };
        match sent {
            // Answers that a lost success leaves for the next try.
            Err(error) if matches!(error.kind, ErrorKind::Precondition | ErrorKind::NotFound) => {
                let etag = self.destination.own_write(self.key, &whole.etag, whole.checksum).await.ok_or(error)?;
                // Ours, or the same content by somebody else: then this upload is open still.
                self.abort().await;
                Ok(etag)
            }
            // Ceph's gateway answers without an ETag.
            Ok(etag) if etag.is_empty() => Ok(self.destination.head(self.key).await?.etag),
            other => other,
        }
    }

    async fn complete_if(
        &self,
        parts: &[Part],
        whole: &Whole,
        expected: &Expected,
        conditional: bool,
    ) -> Result<ETag, S3Error> {
        let Destination { client, bucket, prefix, sender, checksum, expected_owner, .. } = self.destination;
        let completed = parts.iter().map(|part| {
            let builder = CompletedPart::builder().part_number(part.number).e_tag(&part.etag);
            set_checksum!(builder, part.digest.checksum).build()
        });
        let request = client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(prefix.object_key(self.key))
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build())
            .set_checksum_type(checksum.map(kind_of))
            .mpu_object_size(i64::try_from(whole.bytes).unwrap_or(i64::MAX))
            .set_if_none_match(expected.if_none_match().filter(|_| conditional))
            .set_if_match(expected.if_match().filter(|_| conditional))
            .set_expected_bucket_owner(expected_owner.clone());
        let request = set_checksum!(request, whole.checksum);
        let answer = sender
            .send_checked(
                Operation::CompleteMultipartUpload,
                0,
                |_| request.clone().send(),
                |answer| same_etag(answer.e_tag(), &whole.etag, etag_may_be_md5(answer.server_side_encryption(), None)),
            )
            .await?;
        Ok(ETag::new(answer.e_tag().unwrap_or_default()))
    }

    /// Gives the upload up, and what was sent of it; whether nothing of it stays.
    pub async fn abort(&self) -> bool {
        let Destination { client, bucket, prefix, sender, expected_owner, .. } = self.destination;
        let request = client
            .abort_multipart_upload()
            .bucket(bucket)
            .key(prefix.object_key(self.key))
            .upload_id(&self.id)
            .set_expected_bucket_owner(expected_owner.clone());
        match sender.send(Operation::AbortMultipartUpload, 0, |_| request.clone().send()).await {
            Ok(_) => true,
            Err(error) if error.kind == ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(
                    key = %prefix.object_key(self.key),
                    upload_id = self.id,
                    %error,
                    "an unfinished multipart upload stays behind and costs storage: abort it, or let a lifecycle rule do so"
                );
                false
            }
        }
    }
}

/// What the parts make together.
#[derive(Debug)]
struct Whole {
    etag: ETag,
    checksum: Option<Checksum>,
    bytes: u64,
}

impl Whole {
    fn of(parts: &[Part]) -> Self {
        let digests = || parts.iter().map(|part| part.digest);
        let first = digests().next().and_then(|digest| digest.checksum);
        Self {
            etag: ETag::multipart(md5_of_md5s(parts.iter().map(|part| &part.digest.md5)), parts.len()),
            // A single part of an algorithm that does not add up is a composite all the same.
            checksum: first.filter(|first| first.algorithm().adds_up()).and_then(|first| {
                digests().skip(1).try_fold(first, |sum, next| sum.followed_by(next.checksum?, next.bytes))
            }),
            bytes: digests().map(|digest| digest.bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_grows_where_ten_thousand_would_not_do() {
        assert_eq!(part_size(0, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB + 1, 8 * MIB), 9 * MIB);
        let five_tib = 5 << 40;
        assert!(five_tib / part_size(five_tib, 5 * MIB) < MAX_PARTS);
    }
}
