//! An object as a listing shows it, and what its ETag may show about its content.

use std::fmt;

use md5::{Digest as _, Md5};

use crate::hex::hex;
use crate::key::RelativeKey;
use crate::time::EpochNanos;

/// An entity tag without its quotes. Under SSE-S3 or no encryption it is the MD5 of a single PUT, or
/// `md5(md5s of the parts)-N`; under SSE-KMS and SSE-C it shows nothing (S3 API reference, "Object").
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(Tag);

/// Listings hold millions of tags: a digest needs no allocation of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Tag {
    Single([u8; 16]),
    Multipart([u8; 16], u32),
    /// Any other tag, as written.
    Text(Box<str>),
}

/// What an [`ETag`] may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ETagForm {
    /// 32 hexadecimal digits: the MD5 of the content, unless the object is encrypted with SSE-KMS or SSE-C.
    Single([u8; 16]),
    /// The MD5 of the parts' MD5s, and the number of parts.
    Multipart([u8; 16], u32),
    /// Neither.
    Opaque,
}

impl ETag {
    /// Parses a tag from a header or a listing, with or without quotes.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim_matches('"');
        let tag = match form_of(text) {
            ETagForm::Single(md5) => Tag::Single(md5),
            ETagForm::Multipart(md5, parts) => Tag::Multipart(md5, parts),
            ETagForm::Opaque => return Self(Tag::Text(text.into())),
        };
        let digest = Self(tag);
        // A digest in another form, such as with capitals, must be sent back unchanged.
        if digest.text() == text { digest } else { Self(Tag::Text(text.into())) }
    }

    /// The tag of content sent in one request.
    pub(crate) fn single(md5: [u8; 16]) -> Self {
        Self(Tag::Single(md5))
    }

    /// The tag of content sent in `parts` parts, whose MD5s, joined, have this MD5.
    pub(crate) fn multipart(md5_of_md5s: [u8; 16], parts: usize) -> Self {
        Self(Tag::Multipart(md5_of_md5s, u32::try_from(parts).unwrap_or(u32::MAX)))
    }

    /// The tag without quotes, as conditions contain it: AWS accepts both forms, and Ceph 16 compares the header with the
    /// bare tag.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.0 {
            Tag::Single(md5) => hex(md5),
            Tag::Multipart(md5, parts) => format!("{}-{parts}", hex(md5)),
            Tag::Text(text) => text.to_string(),
        }
    }

    /// Whether the response had no tag, as with some servers.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.0, Tag::Text(text) if text.is_empty())
    }

    /// What the tag may mean.
    #[must_use]
    pub fn form(&self) -> ETagForm {
        match &self.0 {
            Tag::Single(md5) => ETagForm::Single(*md5),
            Tag::Multipart(md5, parts) => ETagForm::Multipart(*md5, *parts),
            Tag::Text(text) => form_of(text),
        }
    }
}

/// Returns the MD5 of content that is in memory.
pub(crate) fn md5_of(content: &[u8]) -> [u8; 16] {
    Md5::digest(content).into()
}

fn form_of(text: &str) -> ETagForm {
    let (digits, parts) = match text.split_once('-') {
        Some((digits, parts)) => (digits, Some(parts.parse::<u32>())),
        None => (text, None),
    };
    match (md5_from_hex(digits), parts) {
        (Some(md5), None) => ETagForm::Single(md5),
        (Some(md5), Some(Ok(parts))) if parts > 0 => ETagForm::Multipart(md5, parts),
        _ => ETagForm::Opaque,
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

fn md5_from_hex(digits: &str) -> Option<[u8; 16]> {
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, pair) in md5.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(md5)
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key relative to the prefix.
    pub key: RelativeKey,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The entity tag.
    pub etag: ETag,
    /// When the object was written (a multipart object: when its upload started), truncated to the second.
    pub last_modified: EpochNanos,
    /// The storage class.
    pub storage_class: StorageClass,
}

/// A storage class, by S3's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StorageClass {
    /// `STANDARD`, which only listings name.
    #[default]
    Standard,
    /// `STANDARD_IA`
    StandardIa,
    /// `ONEZONE_IA`
    OnezoneIa,
    /// `INTELLIGENT_TIERING`
    IntelligentTiering,
    /// `GLACIER_IR`
    GlacierIr,
    /// `GLACIER`
    Glacier,
    /// `DEEP_ARCHIVE`
    DeepArchive,
    /// Any other.
    Other(Box<str>),
}

impl StorageClass {
    /// The class of this name; the empty name is `STANDARD`.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "" | "STANDARD" => Self::Standard,
            "STANDARD_IA" => Self::StandardIa,
            "ONEZONE_IA" => Self::OnezoneIa,
            "INTELLIGENT_TIERING" => Self::IntelligentTiering,
            "GLACIER_IR" => Self::GlacierIr,
            "GLACIER" => Self::Glacier,
            "DEEP_ARCHIVE" => Self::DeepArchive,
            other => Self::Other(other.into()),
        }
    }

    /// S3's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
            Self::Glacier => "GLACIER",
            Self::DeepArchive => "DEEP_ARCHIVE",
            Self::Other(name) => name,
        }
    }

    /// The smallest object that DataSync stores in this class. It stores smaller ones in `STANDARD`, which costs less
    /// (AWS DataSync user guide, "Storage class considerations with Amazon S3 transfers").
    pub(crate) const fn min_bytes(&self) -> u64 {
        match self {
            Self::StandardIa | Self::OnezoneIa | Self::GlacierIr => 128 << 10,
            Self::Glacier | Self::DeepArchive => 40 << 10,
            Self::Standard | Self::IntelligentTiering | Self::Other(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_parsed_by_its_form() {
        let digits = "0123456789abcdef0123456789abcdef";
        let md5 = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        assert_eq!(ETag::new(&format!("\"{digits}\"")).form(), ETagForm::Single(md5));
        assert_eq!(ETag::new(&format!("{digits}-17")).form(), ETagForm::Multipart(md5, 17));
        for text in [
            "",
            "abc",
            "0123456789abcdef0123456789abcdeg",
            &format!("{digits}-x"),
            &format!("{digits}-0"),
            "é123456789abcdef0123456789abcde",
        ] {
            assert_eq!(ETag::new(text).form(), ETagForm::Opaque, "{text}");
        }
        assert_eq!(ETag::single(md5).text(), digits);
        assert_eq!(ETag::new(&format!("{digits}-17")), ETag::multipart(md5, 17));
        for text in [digits, &format!("{digits}-17"), &digits.to_uppercase(), &format!("{digits}-017"), "x", ""] {
            assert_eq!(ETag::new(text).text(), text, "sent back unchanged");
        }
        assert_eq!(ETag::multipart(md5, 3).form(), ETagForm::Multipart(md5, 3));
    }
}
