//! The proof of a body: what was read is the whole content of the object.
//!
//! A proxy or a cache may send a part of an object with a length that fits. The part can then be a valid manifest, range
//! list or index with fewer lines. A stored checksum, an ETag that is an MD5, or else the size in a HEAD shows it.

use aws_sdk_s3::operation::get_object::GetObjectOutput;

use super::checksum::{Checksum, Digest, Hasher, whole_checksum};
use super::error::{ErrorKind, S3Error};
use super::head::etag_may_be_md5;
use super::operation::Operation;
use super::proof::IN_ITS_PLACE;
use crate::object::{ETag, ETagForm};

/// What the content must have in common with the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyProof {
    Checksum(Checksum),
    Md5([u8; 16]),
    /// The size that a HEAD shows: the response to the GET has no digest of the whole content.
    SizeOfHead,
}

impl BodyProof {
    pub(super) fn of(etag: &ETag, response: &GetObjectOutput) -> Self {
        let checksum = whole_checksum(
            response.checksum_type(),
            [
                response.checksum_crc64_nvme(),
                response.checksum_crc32_c(),
                response.checksum_crc32(),
                response.checksum_sha256(),
            ],
        );
        let is_md5 = etag_may_be_md5(response.server_side_encryption(), response.sse_customer_algorithm());
        match (checksum, etag.form()) {
            (Some(checksum), _) => Self::Checksum(checksum),
            (None, ETagForm::Single(md5)) if is_md5 => Self::Md5(md5),
            (None, _) => Self::SizeOfHead,
        }
    }

    /// Returns the hasher for the content.
    pub(super) fn hasher(self) -> Hasher {
        Hasher::new(match self {
            Self::Checksum(checksum) => Some(checksum.algorithm()),
            Self::Md5(_) | Self::SizeOfHead => None,
        })
    }

    /// Compares the content with the object. `head` requests the ETag and the size of the object.
    ///
    /// # Errors
    /// Returns an error if the content is not that of the object, or if `head` does.
    pub(super) async fn check(
        self,
        read: &Digest,
        etag: &ETag,
        head: impl AsyncFnOnce() -> Result<(ETag, u64), S3Error>,
    ) -> Result<(), S3Error> {
        let is_whole = match self {
            Self::Checksum(checksum) => read.checksum == Some(checksum),
            Self::Md5(md5) => read.md5 == md5,
            Self::SizeOfHead => head().await? == (etag.clone(), read.bytes),
        };
        if is_whole {
            return Ok(());
        }
        let message = format!("the {} bytes of the response are not the whole object: {IN_ITS_PLACE}", read.bytes);
        Err(S3Error::local(Operation::Get, ErrorKind::Transient, message))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{ChecksumType, ServerSideEncryption};

    use super::super::checksum::Algorithm;
    use super::*;

    const MD5: &str = "25f9e794323b453885f5181f1b624d0b";
    const CRC: &str = "y/Q5Jg==";

    fn read(content: &[u8], proof: BodyProof) -> Digest {
        let mut hasher = proof.hasher();
        hasher.update(content);
        hasher.finish()
    }

    #[tokio::test]
    async fn a_part_of_the_content_is_refused_whatever_the_response_shows() {
        let response = GetObjectOutput::builder;
        let kms = response().server_side_encryption(ServerSideEncryption::AwsKms);
        let composite = response().checksum_crc32(CRC).checksum_type(ChecksumType::Composite);
        for (etag, response, is_by_size) in [
            (MD5, response(), false),
            ("opaque", response().checksum_crc32(CRC), false),
            // Some stores have ETags that look like an MD5 and are not.
            ("00000000000000000000000000000000", response().checksum_crc32(CRC), false),
            ("00000000000000000000000000000000", kms, true),
            ("25f9e794323b453885f5181f1b624d0b-2", response(), true),
            ("opaque", composite, true),
        ] {
            let etag = ETag::new(etag);
            let proof = BodyProof::of(&etag, &response.build());
            assert_eq!(proof == BodyProof::SizeOfHead, is_by_size, "{etag:?}");
            for (content, expected) in [("123456789", true), ("12345", false), ("", false)] {
                let read = read(content.as_bytes(), proof);
                let head = async || if is_by_size { Ok((etag.clone(), 9)) } else { panic!("a needless HEAD") };
                assert_eq!(proof.check(&read, &etag, head).await.is_ok(), expected, "{etag:?}, {content}");
            }
        }
        let proof = BodyProof::Checksum(Algorithm::Crc32.read_header(CRC).unwrap());
        assert!(proof.check(&read(b"123456780", proof), &ETag::new("e"), async || unreachable!()).await.is_err());
        let other = async || Ok((ETag::new("replaced"), 9));
        let by_size = BodyProof::SizeOfHead;
        assert!(by_size.check(&read(b"123456789", by_size), &ETag::new("e"), other).await.is_err());
    }
}
