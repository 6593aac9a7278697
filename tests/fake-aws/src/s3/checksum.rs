//! A checksum: the one that a request has for its body, and the one that S3 stores with the object.

use std::collections::BTreeMap;

use aws_smithy_types::base64;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};

use super::refusal::Refusal;
use super::request::Request;

/// The header with the type of an object's checksum.
pub(super) const TYPE_HEADER: &str = "x-amz-checksum-type";
/// The type of a checksum of the whole object.
pub(super) const FULL_OBJECT: &str = "FULL_OBJECT";
/// The type of a checksum of the parts' checksums.
pub(super) const COMPOSITE: &str = "COMPOSITE";

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    /// Stored as sent, and not verified.
    Sha1,
    /// Stored as sent, and not verified.
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// Finds the algorithm that `x-amz-checksum-algorithm` names.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The XML element with a checksum of this algorithm.
    pub(super) fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// Computes the checksum as big-endian bytes. Returns `None` if the server does not implement the algorithm.
    pub(super) fn compute(self, body: &[u8]) -> Option<Vec<u8>> {
        let crc = match self {
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Sha1 | Self::Sha256 => return None,
        };
        let bytes = crc_fast::checksum(crc, body).to_be_bytes();
        let skipped = if self == Self::Crc64Nvme { 0 } else { 4 };
        bytes.get(skipped..).map(<[u8]>::to_vec)
    }

    /// The length of a checksum in bytes.
    fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// The digests of a request body, and whether they match those in the request.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) md5: [u8; 16],
    /// The checksum in the request, otherwise S3's default checksum.
    pub(super) checksum: Option<(Algorithm, String)>,
    verdict: Result<(), Refusal>,
}

impl Digests {
    pub(super) fn of(request: &Request) -> Self {
        let md5 = md5(&request.body);
        let sent = sent_checksum(request);
        let verdict = verify(request, &md5, sent.as_ref());
        let checksum = sent.ok().flatten().or_else(|| default_checksum(&request.body));
        Self { md5, checksum, verdict }
    }

    /// Returns the digests of a body that the server copies.
    pub(super) fn of_copied(body: &[u8]) -> Self {
        Self { md5: md5(body), checksum: default_checksum(body), verdict: Ok(()) }
    }

    /// Returns an error if the body does not match the digests in the request.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.verdict.clone()
    }

    /// The checksum headers of an object that was written in one request.
    pub(super) fn headers(&self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        if let Some((algorithm, value)) = &self.checksum {
            headers.insert(algorithm.header().to_owned(), value.clone());
            headers.insert(TYPE_HEADER.to_owned(), FULL_OBJECT.to_owned());
        }
        headers
    }
}

/// Computes the checksum that S3 stores if the request has none.
fn default_checksum(body: &[u8]) -> Option<(Algorithm, String)> {
    let algorithm = Algorithm::Crc64Nvme;
    algorithm.compute(body).map(|raw| (algorithm, base64::encode(raw)))
}

pub(super) fn md5(body: &[u8]) -> [u8; 16] {
    Md5::digest(body).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the checksum in a request.
fn sent_checksum(request: &Request) -> Result<Option<(Algorithm, String)>, Refusal> {
    let mut found = Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| request.header(algorithm.header()).map(|value| (algorithm, value)));
    let Some((algorithm, value)) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Refusal::invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.",
        ));
    }
    let raw = base64::decode(value).ok();
    if raw.is_none_or(|raw| raw.len() != algorithm.length()) {
        let message = format!("Value for {} header is invalid.", algorithm.header());
        return Err(Refusal::invalid_request(&message));
    }
    Ok(Some((algorithm, value.to_owned())))
}

fn verify(
    request: &Request,
    md5: &[u8; 16],
    sent: Result<&Option<(Algorithm, String)>, &Refusal>,
) -> Result<(), Refusal> {
    if let Some(value) = request.header("content-md5") {
        let raw = base64::decode(value).unwrap_or_default();
        if raw.len() != md5.len() {
            return Err(Refusal::new(400, "InvalidDigest", "The Content-MD5 you specified was invalid."));
        }
        if raw != md5 {
            return Err(bad_digest("Content-MD5"));
        }
    }
    let Some((algorithm, value)) = sent.map_err(Clone::clone)? else {
        return Ok(());
    };
    match algorithm.compute(&request.body) {
        Some(raw) if base64::encode(&raw) != *value => Err(bad_digest(algorithm.name())),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn bad_digest(of: &str) -> Refusal {
    let message = format!("The {of} you specified did not match the calculated checksum.");
    Refusal::new(400, "BadDigest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_published_check_values() {
        let check = b"123456789";
        let hexed = |algorithm: Algorithm| algorithm.compute(check).map(|raw| hex(&raw));
        assert_eq!(hexed(Algorithm::Crc32).as_deref(), Some("cbf43926"));
        assert_eq!(hexed(Algorithm::Crc32c).as_deref(), Some("e3069283"));
        assert_eq!(hexed(Algorithm::Crc64Nvme).as_deref(), Some("ae8b14860a799888"));
        assert_eq!(hexed(Algorithm::Sha256), None);
    }
}
