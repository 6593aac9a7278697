//! Checksums of content in memory: the MD5 that becomes the ETag, and the checksum that S3 checks and stores.
//!
//! S3 combines the CRCs of parts into a CRC of the whole object, but not SHA-256. The SHA-256 of a multipart object is
//! composite (a hash of the parts' hashes), so it is sent and checked part by part.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};
use aws_smithy_types::base64;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sha2::Sha256;

/// Content up to this size is hashed on the current thread: another thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

/// A checksum algorithm of S3 (S3 user guide, "Checking object integrity").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc64Nvme,
    Crc32C,
    Crc32,
    Sha256,
}

/// A checksum of a piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// A CRC in the low bits, as wide as the algorithm's.
    Crc(Algorithm, u64),
    Sha256([u8; 32]),
}

impl Algorithm {
    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Crc32C => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Sha256 => None,
        }
    }

    const fn width_bytes(self) -> usize {
        match self {
            Self::Crc64Nvme => 8,
            Self::Crc32C | Self::Crc32 => 4,
            Self::Sha256 => 32,
        }
    }

    /// Returns the algorithm in the SDK's type.
    pub(super) const fn sdk_name(self) -> ChecksumAlgorithm {
        match self {
            Self::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
            Self::Crc32C => ChecksumAlgorithm::Crc32C,
            Self::Crc32 => ChecksumAlgorithm::Crc32,
            Self::Sha256 => ChecksumAlgorithm::Sha256,
        }
    }

    /// Whether the checksums of parts combine into that of the whole. If not, S3 stores a checksum of checksums.
    pub(crate) const fn combines(self) -> bool {
        self.crc().is_some()
    }

    /// Reads a header. Returns `None` if it does not hold a checksum of the whole content: a composite one is `…-N`.
    pub(crate) fn read_header(self, text: &str) -> Option<Checksum> {
        let bytes = base64::decode(text).ok().filter(|bytes| bytes.len() == self.width_bytes())?;
        if self == Self::Sha256 {
            return bytes.try_into().ok().map(Checksum::Sha256);
        }
        Some(Checksum::Crc(self, bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))))
    }
}

impl Checksum {
    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::Crc(algorithm, _) => algorithm,
            Self::Sha256(_) => Algorithm::Sha256,
        }
    }

    /// Returns the header's value: big-endian, in base64.
    pub(crate) fn to_header(self) -> String {
        match self {
            Self::Crc(algorithm, value) => {
                let bytes = value.to_be_bytes();
                base64::encode(bytes.get(bytes.len() - algorithm.width_bytes()..).unwrap_or_default())
            }
            Self::Sha256(bytes) => base64::encode(bytes),
        }
    }

    /// Returns the checksum of this piece and the next one together, or `None` if such checksums do not combine.
    pub(crate) fn combined_with(self, next: Self, next_bytes: u64) -> Option<Self> {
        match (self, next) {
            (Self::Crc(algorithm, first), Self::Crc(_, second)) => {
                let sum = crc_fast::checksum_combine(algorithm.crc()?, first, second, next_bytes);
                Some(Self::Crc(algorithm, sum))
            }
            (Self::Crc(..) | Self::Sha256(_), _) => None,
        }
    }
}

/// Reads the stored checksum of the whole content, if the headers hold one: CRC64NVME, CRC32C, CRC32 and SHA-256.
pub(super) fn whole_checksum(kind: Option<&ChecksumType>, headers: [Option<&str>; 4]) -> Option<Checksum> {
    let algorithms = [Algorithm::Crc64Nvme, Algorithm::Crc32C, Algorithm::Crc32, Algorithm::Sha256];
    let is_whole = kind != Some(&ChecksumType::Composite);
    let mut found = algorithms.into_iter().zip(headers).filter(|_| is_whole);
    found.find_map(|(algorithm, text)| algorithm.read_header(text?))
}

/// Sets the checksum of a request, if there is one. The builders of requests have no trait in common.
macro_rules! set_checksum {
    ($request:expr, $checksum:expr) => {{
        let checksum: Option<$crate::destination::checksum::Checksum> = $checksum;
        let header =
            |wanted| checksum.filter(|checksum| checksum.algorithm() == wanted).map(|checksum| checksum.to_header());
        $request
            .set_checksum_crc64_nvme(header($crate::destination::checksum::Algorithm::Crc64Nvme))
            .set_checksum_crc32_c(header($crate::destination::checksum::Algorithm::Crc32C))
            .set_checksum_crc32(header($crate::destination::checksum::Algorithm::Crc32))
            .set_checksum_sha256(header($crate::destination::checksum::Algorithm::Sha256))
    }};
}
pub(super) use set_checksum;

/// Computes the digests of content, piece by piece.
#[derive(Debug)]
pub(crate) struct Hasher {
    md5: Md5,
    checksum: ChecksumState,
    bytes: u64,
}

#[derive(Debug)]
enum ChecksumState {
    None,
    Crc(Algorithm, Box<crc_fast::Digest>),
    Sha256(Box<Sha256>),
}

/// The digests of a piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) md5: [u8; 16],
    /// `None` if no algorithm was named.
    pub(crate) checksum: Option<Checksum>,
    /// The size of the content.
    pub(crate) bytes: u64,
}

impl Hasher {
    /// Computes the MD5, and the checksum if an algorithm is named.
    pub(crate) fn new(algorithm: Option<Algorithm>) -> Self {
        let checksum = match (algorithm, algorithm.and_then(Algorithm::crc)) {
            (None, _) => ChecksumState::None,
            (Some(algorithm), Some(crc)) => ChecksumState::Crc(algorithm, Box::new(crc_fast::Digest::new(crc))),
            (Some(_), None) => ChecksumState::Sha256(Box::default()),
        };
        Self { md5: Md5::new(), checksum, bytes: 0 }
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.md5.update(piece);
        match &mut self.checksum {
            ChecksumState::None => {}
            ChecksumState::Crc(_, crc) => crc.update(piece),
            ChecksumState::Sha256(sha) => sha.update(piece),
        }
        self.bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
    }

    pub(crate) fn finish(self) -> Digest {
        let checksum = match self.checksum {
            ChecksumState::None => None,
            ChecksumState::Crc(algorithm, crc) => Some(Checksum::Crc(algorithm, crc.finalize())),
            ChecksumState::Sha256(sha) => Some(Checksum::Sha256(sha.finalize().into())),
        };
        Digest { md5: self.md5.finalize().into(), checksum, bytes: self.bytes }
    }
}

impl Digest {
    /// Returns the value of the header `Content-MD5`.
    pub(crate) fn content_md5(&self) -> String {
        base64::encode(self.md5)
    }
}

/// Computes the digests of content in memory, on rayon's pool if it is larger than [`INLINE_BYTES`].
pub(crate) async fn digest(content: Bytes, algorithm: Option<Algorithm>) -> Digest {
    let small = content.len() <= INLINE_BYTES;
    let work = move || {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&content);
        hasher.finish()
    };
    if small { work() } else { on_pool(work).await }
}

/// Runs `work` on rayon's pool, and passes on a panic.
pub(crate) async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        let _ = sender.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
    });
    match receiver.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => std::panic::resume_unwind(Box::new("the pool dropped a job")),
    }
}

/// Returns the MD5 of the parts' MD5s: the first half of a multipart ETag.
pub(crate) fn md5_of_md5s<'a>(parts: impl IntoIterator<Item = &'a [u8; 16]>) -> [u8; 16] {
    parts.into_iter().fold(Md5::new(), Md5::chain_update).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 4] = [Algorithm::Crc64Nvme, Algorithm::Crc32C, Algorithm::Crc32, Algorithm::Sha256];

    #[test]
    fn checksums_equal_the_published_check_values() {
        // The check values of the catalogue of parametrised CRC algorithms, and `printf 123456789 | sha256sum`.
        let headers = ["rosUhgp5mIg=", "4waSgw==", "y/Q5Jg==", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="];
        for (algorithm, header) in ALL.into_iter().zip(headers) {
            let mut hasher = Hasher::new(Some(algorithm));
            hasher.update(b"1234");
            hasher.update(b"56789");
            assert_eq!(hasher.finish().checksum.map(Checksum::to_header).as_deref(), Some(header), "{algorithm:?}");
        }
    }

    #[test]
    fn a_header_holds_the_whole_checksum() {
        for algorithm in ALL {
            let checksum = Hasher::new(Some(algorithm)).finish().checksum.unwrap();
            assert_eq!(algorithm.read_header(&checksum.to_header()), Some(checksum));
        }
        assert_eq!(Algorithm::Crc32.read_header("y/Q5Jg==-3"), None);
        assert_eq!(Algorithm::Crc64Nvme.read_header("y/Q5Jg=="), None, "a header of another algorithm");
    }

    #[tokio::test]
    async fn crcs_of_parts_combine_into_the_whole_and_sha_256_does_not() {
        let content: Bytes = (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        for algorithm in ALL {
            let of = |piece: Bytes| digest(piece, Some(algorithm));
            let (first, second) = (of(content.slice(..300_001)).await, of(content.slice(300_001..)).await);
            let sum = first.checksum.unwrap().combined_with(second.checksum.unwrap(), second.bytes);
            let whole = of(content.clone()).await.checksum;
            assert_eq!(sum, whole.filter(|_| algorithm.combines()), "{algorithm:?}");
        }
    }
}
