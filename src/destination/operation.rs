//! A request to S3 by the name of its operation, and how many of each were sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $api:literal, $report:literal;)*) => {
        /// An S3 operation that this program uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[$doc])* $variant),* }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The API's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $api),* }
            }

            /// The report's name.
            #[must_use]
            pub const fn report_name(self) -> &'static str {
                match self { $(Self::$variant => $report),* }
            }
        }

        #[derive(Debug, Default)]
        #[allow(non_snake_case, reason = "a field a variant")]
        struct Counters { $($variant: AtomicU64),* }

        impl Counters {
            fn of(&self, operation: Operation) -> &AtomicU64 {
                match operation { $(Operation::$variant => &self.$variant),* }
            }
        }
    };
}

operations! {
    /// A page of a listing.
    List = "ListObjectsV2", "list";
    /// An object's headers.
    Head = "HeadObject", "head";
    /// An object in one request.
    Put = "PutObject", "put";
    /// The begin of a multipart upload.
    CreateMultipartUpload = "CreateMultipartUpload", "create_multipart_upload";
    /// A part of it.
    UploadPart = "UploadPart", "upload_part";
    /// Its end.
    CompleteMultipartUpload = "CompleteMultipartUpload", "complete_multipart_upload";
    /// Its end without an object.
    AbortMultipartUpload = "AbortMultipartUpload", "abort_multipart_upload";
    /// A copy within S3.
    Copy = "CopyObject", "copy";
    /// A part copied within S3.
    UploadPartCopy = "UploadPartCopy", "upload_part_copy";
    /// An object's content.
    Get = "GetObject", "get";
    /// An object's checksums and parts.
    GetObjectAttributes = "GetObjectAttributes", "get_object_attributes";
    /// The parts of an upload.
    ListParts = "ListParts", "list_parts";
    /// The uploads under way.
    ListMultipartUploads = "ListMultipartUploads", "list_multipart_uploads";
    /// One delete.
    Delete = "DeleteObject", "delete";
    /// Up to 1,000 deletes.
    DeleteObjects = "DeleteObjects", "delete_objects";
}

impl Operation {
    /// Whether it may change what is at a key, or leave something there.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(
            self,
            Self::Put
                | Self::Copy
                | Self::CreateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                // Another run may be going on with it.
                | Self::AbortMultipartUpload
                | Self::Delete
                | Self::DeleteObjects
        )
    }
}

/// How many requests went out: every attempt counts, as S3 counts them.
#[derive(Debug, Default)]
pub struct Requests {
    sent: Counters,
    retries: AtomicU64,
    throttled: AtomicU64,
    downloaded_bytes: AtomicU64,
}

impl Requests {
    pub(super) fn count(&self, operation: Operation, is_retry: bool) {
        self.sent.of(operation).fetch_add(1, Ordering::Relaxed);
        if is_retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_downloaded(&self, bytes: usize) {
        self.downloaded_bytes.fetch_add(u64::try_from(bytes).unwrap_or_default(), Ordering::Relaxed);
    }

    /// How much of objects' content was received.
    #[must_use]
    pub fn downloaded_bytes(&self) -> u64 {
        self.downloaded_bytes.load(Ordering::Relaxed)
    }

    /// How many requests of an operation were sent.
    #[must_use]
    pub fn sent(&self, operation: Operation) -> u64 {
        self.sent.of(operation).load(Ordering::Relaxed)
    }

    /// All counts by the report's names.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<Cow<'static, str>, u64> {
        Operation::ALL
            .iter()
            .map(|&operation| (operation.report_name(), self.sent(operation)))
            .chain([
                ("retries", self.retries.load(Ordering::Relaxed)),
                ("throttled", self.throttled.load(Ordering::Relaxed)),
            ])
            .map(|(name, count)| (Cow::Borrowed(name), count))
            .collect()
    }
}
