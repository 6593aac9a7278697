//! Settings: how the server differs from Amazon S3, to behave like another server or as a test needs it.

use std::time::Duration;

/// What the server does with the condition of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// Checks the condition, like S3.
    #[default]
    On,
    /// Writes without a check.
    Ignored,
    /// Responds with 501 `NotImplemented`.
    NotImplemented,
}

/// How the server encodes keys if the request has `encoding-type=url`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListingDialect {
    /// Form encoding with a space as `+`, like S3.
    #[default]
    S3,
    /// Percent encoding with a space as `%20`.
    Percent,
    /// No encoding except for XML, and no `EncodingType` in the response.
    Ignored,
}

/// The order of listings and of `start-after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// By the bytes of the key, like S3.
    #[default]
    Bytes,
    /// By path components, like a server that keeps objects in directories: `a/x` before `a!` and `a-b/x`.
    DirectoriesFirst,
}

/// The settings of a server. The default is Amazon S3 with SSE-S3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of a server")]
pub struct Settings {
    /// The seconds by which the server's clock is ahead of the host's.
    pub clock_offset_seconds: i64,
    /// A proxy replaces the `Date` header by its own, which is the host's time.
    pub date_of_proxy: bool,
    /// Refuse requests whose `x-amz-date` differs from the server's clock by more than this.
    pub clock_tolerance: Option<Duration>,
    /// Encrypt with a KMS key, so that no `ETag` is an MD5.
    pub kms: bool,
    /// What the server does with `If-Match` and `If-None-Match` on a write.
    pub conditional_writes: ConditionalWrites,
    /// Check `If-Match` on `DeleteObject` and the `ETag` of a key in `DeleteObjects`.
    pub conditional_delete: bool,
    /// Implement `DeleteObjects`. If false, the server responds to it with 501.
    pub delete_objects: bool,
    /// How listings encode keys.
    pub listing: ListingDialect,
    /// The order of listings.
    pub list_order: ListOrder,
    /// The limit for keys, parts or uploads on a page, at most 1,000.
    pub page_size: usize,
    /// The region of every bucket.
    pub region: String,
    /// Implement `partNumber` on reads. If false, the server responds with the whole object and without a part count.
    pub parts_count: bool,
    /// Respond to `CompleteMultipartUpload` with an empty `ETag`.
    pub empty_complete_etag: bool,
    /// Store the checksums of objects and return them. The server verifies checksums in any case.
    pub checksums: bool,
    /// Keys whose deletion fails with `AccessDenied`.
    pub refuse_delete: Vec<String>,
    /// Refuse requests that are not signed with this access key.
    pub required_access_key: Option<String>,
    /// The owner of every bucket, which the server compares with `x-amz-expected-bucket-owner`.
    pub bucket_owner: Option<String>,
    /// Redirect every request to this region with status 301.
    pub redirect_region: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock_offset_seconds: 0,
            date_of_proxy: false,
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
