//! Checksums of content in memory: the MD5 that the ETag is made of, and the one that S3 checks and keeps.

use aws_smithy_types::base64;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

/// Content up to this size is hashed where it is: handing it to another thread costs more.
const INLINE_BYTES: usize = 64 << 10;

/// A CRC that S3 knows (S3 user guide, "Checking object integrity").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crc {
    /// CRC-64/NVME.
    Crc64Nvme,
    /// CRC-32C.
    Crc32C,
    /// CRC-32.
    Crc32,
}

impl Crc {
    const fn algorithm(self) -> CrcAlgorithm {
        match self {
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Crc32C => CrcAlgorithm::Crc32Iscsi,
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        }
    }

    /// The CRC of two pieces in a row, from the CRC of each.
    #[must_use]
    pub fn combine(self, first: u64, second: u64, second_bytes: u64) -> u64 {
        crc_fast::checksum_combine(self.algorithm(), first, second, second_bytes)
    }

    const fn width_bytes(self) -> usize {
        match self {
            Self::Crc64Nvme => 8,
            Self::Crc32C | Self::Crc32 => 4,
        }
    }

    /// As the header holds it: big-endian, in base64.
    #[must_use]
    pub fn to_header(self, value: u64) -> String {
        let bytes = value.to_be_bytes();
        base64::encode(bytes.get(bytes.len() - self.width_bytes()..).unwrap_or_default())
    }

    /// From a header; none where that is no checksum of the whole content, as a composite one (`…-N`) is.
    #[must_use]
    pub fn read_header(self, text: &str) -> Option<u64> {
        let bytes = base64::decode(text).ok()?;
        (bytes.len() == self.width_bytes()).then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }
}

/// The digests of a piece of content, computed as it passes by.
#[derive(Debug)]
pub struct Hasher {
    md5: Md5,
    crc: Option<crc_fast::Digest>,
    bytes: u64,
}

/// What a [`Hasher`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The MD5.
    pub md5: [u8; 16],
    /// The CRC, where one was asked for.
    pub crc: Option<u64>,
    /// How many bytes there were.
    pub bytes: u64,
}

impl Hasher {
    /// For an MD5 and, where one is named, a CRC.
    #[must_use]
    pub fn new(crc: Option<Crc>) -> Self {
        Self { md5: Md5::new(), crc: crc.map(|crc| crc_fast::Digest::new(crc.algorithm())), bytes: 0 }
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.md5.update(piece);
        if let Some(crc) = &mut self.crc {
            crc.update(piece);
        }
        self.bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
    }

    /// The digests of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest { md5: self.md5.finalize().into(), crc: self.crc.map(|crc| crc.finalize()), bytes: self.bytes }
    }
}

impl Digest {
    /// Content-MD5, as the header holds it.
    #[must_use]
    pub fn content_md5(&self) -> String {
        base64::encode(self.md5)
    }
}

/// The digest of content in memory; larger content is hashed on rayon's pool, which has a thread a core.
pub async fn digest(content: Bytes, crc: Option<Crc>) -> Digest {
    let small = content.len() <= INLINE_BYTES;
    let work = move || {
        let mut hasher = Hasher::new(crc);
        hasher.update(&content);
        hasher.finish()
    };
    if small { work() } else { on_pool(work).await }
}

/// Runs `work` on rayon's pool; a panic there goes on here.
pub async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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

/// The MD5 of MD5s that a multipart ETag is made of.
#[must_use]
pub fn md5_of_md5s<'a>(parts: impl IntoIterator<Item = &'a [u8; 16]>) -> [u8; 16] {
    parts.into_iter().fold(Md5::new(), Md5::chain_update).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crcs_are_those_of_the_check_string() {
        // The check values of the catalogue of parametrised CRC algorithms.
        for (crc, check) in
            [(Crc::Crc64Nvme, 0xae8b_1486_0a79_9888), (Crc::Crc32C, 0xe306_9283), (Crc::Crc32, 0xcbf4_3926)]
        {
            let mut hasher = Hasher::new(Some(crc));
            hasher.update(b"123456789");
            assert_eq!(hasher.finish().crc, Some(check), "{crc:?}");
        }
        assert_eq!(Crc::Crc32.to_header(0xcbf4_3926), "y/Q5Jg==");
    }

    #[test]
    fn a_checksum_reads_back_as_it_was_written() {
        for (crc, value) in [(Crc::Crc64Nvme, 0xae8b_1486_0a79_9888), (Crc::Crc32C, 7), (Crc::Crc32, 0xcbf4_3926)] {
            assert_eq!(crc.read_header(&crc.to_header(value)), Some(value));
        }
        assert_eq!(Crc::Crc32.read_header("y/Q5Jg==-3"), None);
        assert_eq!(Crc::Crc64Nvme.read_header("y/Q5Jg=="), None, "of another algorithm");
    }

    #[tokio::test]
    async fn parts_add_up_to_the_whole() {
        let content: Bytes = (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        for crc in [Crc::Crc64Nvme, Crc::Crc32C, Crc::Crc32] {
            let (first, second) =
                (digest(content.slice(..300_001), Some(crc)).await, digest(content.slice(300_001..), Some(crc)).await);
            let whole = digest(content.clone(), Some(crc)).await;
            assert_eq!(Some(crc.combine(first.crc.unwrap(), second.crc.unwrap(), second.bytes)), whole.crc);
        }
    }
}
