//! Uploading: what the run stores with an object, and how it sends the content.

use super::error::ConfigError;
use crate::cli::{ChecksumChoice, EncryptionArgs, UploadArgs};
use crate::destination::checksum::Algorithm;
use crate::destination::headers::{Encryption, HeaderRule, HeaderRules};
use crate::object::StorageClass;

#[derive(Debug)]
pub(super) struct Uploading {
    pub(super) headers: HeaderRules,
    pub(super) encryption: Option<Encryption>,
    /// The checksum besides Content-MD5, if any.
    pub(super) checksum: Option<Algorithm>,
    pub(super) part_size: u64,
    pub(super) multipart_threshold: u64,
}

impl Uploading {
    pub(super) fn new(args: UploadArgs, rules: Vec<HeaderRule>) -> Result<Self, ConfigError> {
        let EncryptionArgs { sse, sse_kms_key_id: kms_key_id } = args.encryption;
        let uses_kms = sse.as_ref().is_some_and(|sse| sse.starts_with("aws:kms"));
        if kms_key_id.is_some() && !uses_kms {
            return Err(ConfigError::KeyWithoutKms);
        }
        Ok(Self {
            headers: HeaderRules::new(
                rules,
                args.content_type,
                args.cache_control,
                args.storage_class.as_deref().map(StorageClass::named),
            )?,
            encryption: sse.map(|algorithm| Encryption { algorithm, kms_key_id, bucket_key: None }),
            checksum: match args.checksum {
                ChecksumChoice::Auto | ChecksumChoice::Crc64nvme => Some(Algorithm::Crc64Nvme),
                ChecksumChoice::Crc32c => Some(Algorithm::Crc32C),
                ChecksumChoice::Crc32 => Some(Algorithm::Crc32),
                ChecksumChoice::Sha256 => Some(Algorithm::Sha256),
                ChecksumChoice::None => None,
            },
            part_size: args.part_size,
            multipart_threshold: args.multipart_threshold,
        })
    }
}
