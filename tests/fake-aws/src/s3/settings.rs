//! Settings: how this server differs from Amazon S3 on purpose, as other servers do or as a test needs it.

use std::time::Duration;

/// What a server does with the conditions on a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// Obeys them, as S3 does.
    #[default]
    On,
    /// Writes all the same.
    Ignored,
    /// Answers 501 `NotImplemented`.
    NotImplemented,
}

/// How a server answers `encoding-type=url`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListingDialect {
    /// Form encoding, a blank as `+`, as S3 does.
    #[default]
    S3,
    /// Percent encoding, a blank as `%20`.
    Percent,
    /// Keys as they are, escaped for XML, and no `EncodingType` in the answer.
    Ignored,
}

/// The order of a listing, which `start-after` follows too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// The order of the keys' bytes, as S3 does.
    #[default]
    Bytes,
    /// The order of path components: `a/x` before `a!` and `a-b/x`, as a server on directories does.
    DirectoriesFirst,
}

/// How the server behaves; the default is Amazon S3 with SSE-S3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of a server")]
pub struct Settings {
    /// How many seconds the server's clock is ahead of the host's.
    pub clock_offset_seconds: i64,
    /// Refuses a request whose `x-amz-date` is further from the server's clock than this.
    pub clock_tolerance: Option<Duration>,
    /// Encrypts with a KMS key: no `ETag` is an MD5.
    pub kms: bool,
    /// What happens to `If-Match` and `If-None-Match` on a write.
    pub conditional_writes: ConditionalWrites,
    /// Obeys `If-Match` on `DeleteObject` and the `ETag` of a key in `DeleteObjects`; ignores them when false.
    pub conditional_delete: bool,
    /// Knows `DeleteObjects`; answers 501 when false.
    pub delete_objects: bool,
    /// How `encoding-type=url` is answered.
    pub listing: ListingDialect,
    /// The order of listings.
    pub list_order: ListOrder,
    /// The most keys, parts or uploads on a page, at most 1,000.
    pub page_size: usize,
    /// The region of every bucket.
    pub region: String,
    /// Obeys `partNumber` on reads and tells the count of parts; answers with the whole object when false.
    pub parts_count: bool,
    /// Answers `CompleteMultipartUpload` with an empty `ETag`.
    pub empty_complete_etag: bool,
    /// Keeps an object's checksum and answers with it; verifies checksums in any case.
    pub checksums: bool,
    /// Keys that no delete removes: `AccessDenied`.
    pub refuse_delete: Vec<String>,
    /// Refuses requests that are signed with another access key or not at all.
    pub required_access_key: Option<String>,
    /// The owner of every bucket, compared with `x-amz-expected-bucket-owner`.
    pub bucket_owner: Option<String>,
    /// Sends every request to this region with a 301.
    pub redirect_region: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock_offset_seconds: 0,
            clock_tolerance: None,
            kms: false,
            conditional_writes: ConditionalWrites::On,
            conditional_delete: true,
            delete_objects: true,
            listing: ListingDialect::S3,
            list_order: ListOrder::Bytes,
            page_size: 1000,
            region: "us-east-1".to_owned(),
            parts_count: true,
            empty_complete_etag: false,
            checksums: true,
            refuse_delete: Vec::new(),
            required_access_key: None,
            bucket_owner: None,
            redirect_region: None,
        }
    }
}
