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
use std::time::Duration;

use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::operation::list_parts::ListPartsOutput;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::Destination;
use super::checksum::{Algorithm, Checksum, Digest, md5_of_md5s, set_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::idle_timeout::Activity;
use super::operation::Operation;
use super::proof::{Unproven, WriteProof, no_content};
use super::proven_page::{Claims, Repeated, distrust};
use super::put::{ExpectedObject, Sent, body};
use super::send::interrupted;
use super::sent_content::{OwnContent, SentContent};
use super::write_headers::WriteHeaders;
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// S3's limit (S3 user guide, "Multipart upload limits").
const MAX_PARTS: u64 = 10_000;
const MIB: u64 = 1 << 20;
/// How long the parts and the last request of an upload may take after a stop request. Then there is time left to abort it.
pub(crate) const SEND_GRACE: Duration = Duration::from_secs(10);
/// How long after a stop request the run waits for the response to an abort. Files in flight end 20 s after the request.
const ABORT_GRACE: Duration = Duration::from_secs(17);

/// Returns the size of every part but the last: `wanted`, or the next whole MiB with which 10,000 parts suffice.
pub(crate) fn part_size(object_bytes: u64, wanted: u64) -> u64 {
    wanted.max(object_bytes.div_ceil(MAX_PARTS).next_multiple_of(MIB))
}

/// An unfinished multipart upload.
#[derive(Debug)]
pub(crate) struct MultipartUpload<'a> {
    destination: &'a Destination,
    key: &'a RelativeKey,
    id: String,
    /// Whether the request was sent more than once: a lost response may belong to a duplicate upload.
    may_have_duplicates: bool,
}

/// A part of an earlier run, as S3 lists it.
#[derive(Clone, Debug)]
pub(crate) struct StoredPart {
    etag: ETag,
    size_bytes: u64,
    checksum: Option<Checksum>,
}

/// A part that S3 has, with the content of the file.
#[derive(Clone, Debug)]
pub(crate) struct UploadedPart {
    /// From 1.
    number: i32,
    proof: WriteProof,
    digest: Digest,
}

impl Destination {
    /// Creates a multipart upload.
    pub(crate) async fn create_upload<'a>(
        &'a self,
        key: &'a RelativeKey,
        headers: &WriteHeaders,
    ) -> Result<MultipartUpload<'a>, S3Error> {
        let request = self
            .start_upload(key, headers)
            .set_checksum_algorithm(self.checksum.map(Algorithm::sdk_name))
            .set_checksum_type(self.checksum.map(kind_of));
        let attempts = AtomicUsize::new(0);
        let send = |_| {
            attempts.fetch_add(1, Ordering::Relaxed);
            request.clone().customize().mutate_request(headers.inserted()).send()
        };
        let read = |response: CreateMultipartUploadOutput| {
            let id = response.upload_id.filter(|id| !id.is_empty());
            id.ok_or_else(|| Unproven::without("upload ID"))
        };
        let id = self.sender.send(Operation::CreateMultipartUpload, send, read).await;
        let id = id.map_err(|error| headers.explain(error))?;
        Ok(MultipartUpload { may_have_duplicates: attempts.into_inner() > 1, ..self.upload(key, &id) })
    }

    /// Returns the upload with this ID, without a request.
    pub(crate) fn upload<'a>(&'a self, key: &'a RelativeKey, id: &str) -> MultipartUpload<'a> {
        MultipartUpload { destination: self, key, id: id.to_owned(), may_have_duplicates: false }
    }

    /// Requests the IDs of the unfinished uploads of a key that were created in this interval, by S3's clock.
    pub(crate) async fn unfinished_uploads(
        &self,
        key: &RelativeKey,
        created: RangeInclusive<EpochNanos>,
    ) -> Result<Vec<String>, S3Error> {
        let key = String::from(self.prefix.object_key(key));
        let (mut ids, mut markers) = (Vec::new(), Vec::<(String, String)>::new());
        loop {
            let (key_marker, id_marker) = markers.last().cloned().unwrap_or_default();
            let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(self.bucket.as_str())
                .prefix(&key)
                .set_key_marker(some(&key_marker))
                .set_upload_id_marker(some(&id_marker))
                .set_expected_bucket_owner(self.expected_owner.clone());
            let attempt = async |activity: Activity| {
                let response = request.clone().customize().interceptor(activity.clone()).send().await?;
                Ok((response, activity.document()))
            };
            let read = |(mut response, document): (ListMultipartUploadsOutput, _)| {
                let entries = response.uploads.take().unwrap_or_default();
                let next_key = response.next_key_marker().filter(|marker| !marker.is_empty());
                let next_id = response.next_upload_id_marker().unwrap_or_default();
                let page = Claims {
                    document,
                    repeated: &[
                        Repeated::bucket(&self.bucket, response.bucket(), false),
                        Repeated::or_missing("prefix", &key, response.prefix()),
                        Repeated::or_missing("key marker", &key_marker, response.key_marker()),
                        Repeated::or_missing("upload ID marker", &id_marker, response.upload_id_marker()),
                    ],
                    is_truncated: response.is_truncated(),
                    count: None,
                    entries,
                    next: next_key.map(|key| (key.to_owned(), next_id.to_owned())),
                };
                page.prove(|upload| {
                    let has = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
                    has(upload.key()) && has(upload.upload_id()) && upload.initiated().is_some()
                })
            };
            let page = self.sender.send(Operation::ListMultipartUploads, attempt, read).await?;
            let (uploads, next) = page.into_parts();
            for upload in uploads.iter().filter(|upload| upload.key() == Some(&key)) {
                let time = upload.initiated().map(|time| EpochNanos(time.as_nanos()));
                if time.is_some_and(|time| created.contains(&time)) {
                    ids.extend(upload.upload_id().map(str::to_owned));
                }
            }
            // The uploads of this key come before those of longer keys.
            let Some(next) = next.filter(|(next_key, _)| *next_key == key) else {
                return Ok(ids);
            };
            if markers.contains(&next) {
                return Err(never_ends(Operation::ListMultipartUploads));
            }
            markers.push(next);
        }
    }
}

/// Of a list whose next page would be one that the run has had.
fn never_ends(operation: Operation) -> S3Error {
    distrust(operation, "the server repeats a marker, so the listing would never end")
}

const fn kind_of(algorithm: Algorithm) -> ChecksumType {
    if algorithm.combines() { ChecksumType::FullObject } else { ChecksumType::Composite }
}

impl StoredPart {
    /// Returns the part if it has the content with this digest.
    pub(crate) fn accept(&self, number: i32, digest: Digest) -> Option<UploadedPart> {
        let is_same = self.size_bytes == digest.bytes
            && match (self.checksum, digest.checksum) {
                (Some(stored), Some(known)) if stored.algorithm() == known.algorithm() => stored == known,
                _ => self.etag == ETag::single(digest.md5),
            };
        let proof = WriteProof::of_listed_part(&self.etag).filter(|_| is_same)?;
        Some(UploadedPart { number, proof, digest })
    }
}

impl MultipartUpload<'_> {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether the request was sent more than once: a lost response may belong to a duplicate upload.
    pub(crate) const fn may_have_duplicates(&self) -> bool {
        self.may_have_duplicates
    }

    /// Requests the parts that S3 has, by their numbers.
    pub(crate) async fn stored_parts(&self) -> Result<BTreeMap<i32, StoredPart>, S3Error> {
        let Destination { client, bucket, prefix, sender, checksum, expected_owner, .. } = self.destination;
        let key = prefix.object_key(self.key);
        let (mut parts, mut after) = (BTreeMap::new(), 0);
        loop {
            let request = client
                .list_parts()
                .bucket(bucket.as_str())
                .key(key.as_str())
                .upload_id(&self.id)
                .set_part_number_marker((after > 0).then(|| after.to_string()))
                .set_expected_bucket_owner(expected_owner.clone());
            let attempt = async |activity: Activity| {
                let response = request.clone().customize().interceptor(activity.clone()).send().await?;
                Ok((response, activity.document()))
            };
            let read = |(mut response, document): (ListPartsOutput, _)| {
                let entries = response.parts.take().unwrap_or_default();
                let page = Claims {
                    document,
                    repeated: &[
                        Repeated::bucket(bucket, response.bucket(), false),
                        Repeated::or_missing("key", key.as_str(), response.key()),
                        Repeated::or_missing("upload ID", &self.id, response.upload_id()),
                    ],
                    is_truncated: response.is_truncated(),
                    count: None,
                    entries,
                    next: response.next_part_number_marker().and_then(|marker| marker.parse::<i32>().ok()),
                };
                page.prove(|part| part.part_number().is_some_and(|number| number > after))
            };
            let page = sender.send(Operation::ListParts, attempt, read).await?;
            let (listed, next) = page.into_parts();
            for part in listed {
                let stored = StoredPart {
                    etag: ETag::new(part.e_tag().unwrap_or_default()),
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
            match next {
                None => return Ok(parts),
                Some(next) if next > after => after = next,
                Some(_) => return Err(never_ends(Operation::ListParts)),
            }
        }
    }

    /// Uploads a part. `number` counts from 1.
    pub(crate) async fn upload_part(
        &self,
        number: i32,
        content: Bytes,
        digest: Digest,
    ) -> Result<UploadedPart, S3Error> {
        let Destination { client, bucket, prefix, sender, expected_owner, .. } = self.destination;
        let request = || {
            let request = client
                .upload_part()
                .bucket(bucket.as_str())
                .key(prefix.object_key(self.key))
                .upload_id(&self.id)
                .part_number(number)
                .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .content_md5(digest.content_md5())
                .set_expected_bucket_owner(expected_owner.clone());
            set_checksum!(request, digest.checksum)
        };
        let expected = ETag::single(digest.md5);
        let attempt = |activity| request().body(body(&content, activity)).send();
        let read = |response: UploadPartOutput| {
            let md5 = etag_may_be_md5(response.server_side_encryption(), response.sse_customer_algorithm());
            WriteProof::of_response(response.e_tag())?.checked(&expected, md5)
        };
        let operation = Operation::UploadPart;
        let proof = sender.send_or_confirm(operation, content.len(), attempt, read, async || None, &OwnContent).await?;
        Ok(UploadedPart { number, proof, digest })
    }

    /// Publishes the object.
    ///
    /// # Errors
    /// Returns an error if the key holds something else than `expected`, and if no response proves the write.
    pub(crate) async fn complete(
        &self,
        mut parts: Vec<UploadedPart>,
        expected: &ExpectedObject,
        source: &dyn SentContent,
    ) -> Result<WriteProof, S3Error> {
        parts.sort_unstable_by_key(|part| part.number);
        let whole = Whole::of(&parts);
        let sent = Sent { key: self.key, etag: &whole.etag, checksum: whole.checksum, metadata: None, over: expected };
        let complete = |expected| self.complete_if(&parts, &whole, &sent, expected, source);
        let completed = tokio::select! {
            biased;
            completed = self.destination.write_if(expected, complete) => completed,
            // S3 may be silent for minutes, and may publish the object all the same.
            () = self.destination.sender.shutdown.overdue(SEND_GRACE) => {
                Err(interrupted(Operation::CompleteMultipartUpload).in_doubt())
            }
        };
        match completed {
            // What a retry receives if the first response was lost.
            Err(error) if error.kind == ErrorKind::NotFound || error.may_be_own_write() => {
                let proof = self.destination.find_own_write(&sent).await.ok_or(error)?;
                // If another writer published the same content, this upload is still unfinished.
                self.abort().await;
                Ok(proof)
            }
            other => other,
        }
    }

    async fn complete_if(
        &self,
        parts: &[UploadedPart],
        whole: &Whole,
        sent: &Sent<'_>,
        expected: &ExpectedObject,
        source: &dyn SentContent,
    ) -> Result<WriteProof, S3Error> {
        let Destination { client, bucket, prefix, sender, checksum, expected_owner, .. } = self.destination;
        let completed = parts.iter().map(|part| {
            let builder = CompletedPart::builder().part_number(part.number).e_tag(part.proof.etag().text());
            set_checksum!(builder, part.digest.checksum).build()
        });
        let request = client
            .complete_multipart_upload()
            .bucket(bucket.as_str())
            .key(prefix.object_key(self.key))
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build())
            .set_checksum_type(checksum.map(kind_of))
            .mpu_object_size(i64::try_from(whole.bytes).unwrap_or(i64::MAX))
            .set_if_none_match(expected.if_none_match())
            .set_if_match(expected.if_match())
            .set_expected_bucket_owner(expected_owner.clone());
        let request = set_checksum!(request, whole.checksum);
        let attempt = |_| request.clone().send();
        let read = |response: CompleteMultipartUploadOutput| {
            let md5 = etag_may_be_md5(response.server_side_encryption(), None);
            WriteProof::of_response(response.e_tag())?.checked(&whole.etag, md5)
        };
        // The response of Ceph's gateway contains no ETag: a HEAD shows whether the object is there.
        let confirm = || self.destination.find_own_write(sent);
        sender.send_or_confirm(Operation::CompleteMultipartUpload, 0, attempt, read, confirm, source).await
    }

    /// Aborts the upload. Returns whether S3 has none of its parts any longer.
    pub(crate) async fn abort(&self) -> bool {
        let Destination { client, bucket, prefix, sender, expected_owner, .. } = self.destination;
        let request = client
            .abort_multipart_upload()
            .bucket(bucket.as_str())
            .key(prefix.object_key(self.key))
            .upload_id(&self.id)
            .set_expected_bucket_owner(expected_owner.clone());
        let attempt = async |activity: Activity| {
            request.clone().customize().interceptor(activity.clone()).send().await.map(|_| activity.status())
        };
        let aborted = tokio::select! {
            biased;
            aborted = sender.send(Operation::AbortMultipartUpload, attempt, no_content) => aborted,
            () = sender.shutdown.overdue(ABORT_GRACE) => Err(S3Error::local(
                Operation::AbortMultipartUpload,
                ErrorKind::Interrupted,
                "no response in time after the stop request",
            )),
        };
        match aborted {
            Ok(()) => true,
            Err(error) if error.kind == ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(
                    key = %prefix.object_key(self.key),
                    upload_id = self.id,
                    %error,
                    "cannot abort this multipart upload: its parts cost storage until a later run with the same --state, \
                     you (aws s3api abort-multipart-upload) or a lifecycle rule (AbortIncompleteMultipartUpload) aborts it"
                );
                false
            }
        }
    }
}

/// The object that the parts form.
#[derive(Debug)]
struct Whole {
    etag: ETag,
    checksum: Option<Checksum>,
    bytes: u64,
}

impl Whole {
    fn of(parts: &[UploadedPart]) -> Self {
        let digests = || parts.iter().map(|part| part.digest);
        let first = digests().next().and_then(|digest| digest.checksum);
        Self {
            etag: ETag::multipart(md5_of_md5s(parts.iter().map(|part| &part.digest.md5)), parts.len()),
            // If checksums do not combine, that of a single part is composite too.
            checksum: first.filter(|first| first.algorithm().combines()).and_then(|first| {
                digests().skip(1).try_fold(first, |sum, next| sum.combined_with(next.checksum?, next.bytes))
            }),
            bytes: digests().map(|digest| digest.bytes).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_grows_if_ten_thousand_would_not_hold_the_object() {
        assert_eq!(part_size(0, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB, 8 * MIB), 8 * MIB);
        assert_eq!(part_size(80_000 * MIB + 1, 8 * MIB), 9 * MIB);
        let five_tib = 5 << 40;
        assert!(five_tib / part_size(five_tib, 5 * MIB) < MAX_PARTS);
    }
}
