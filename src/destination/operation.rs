//! The S3 operations that the report counts, and how many requests of each were sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sent_bytes::SentBytes;

macro_rules! operations {
    ($($variant:ident = $api:literal, $report:literal;)*) => {
        /// An S3 operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Operation { $($variant),* }

        impl Operation {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the name in the API.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $api),* }
            }

            /// Returns the name in the report.
            pub(crate) const fn report_name(self) -> &'static str {
                match self { $(Self::$variant => $report),* }
            }
        }

        #[derive(Debug, Default)]
        #[allow(non_snake_case, reason = "one field for each variant")]
        struct Counters { $($variant: AtomicU64),* }

        impl Counters {
            fn of(&self, operation: Operation) -> &AtomicU64 {
                match operation { $(Operation::$variant => &self.$variant),* }
            }
        }
    };
}

operations! {
    List = "ListObjectsV2", "list";
    Head = "HeadObject", "head";
    Put = "PutObject", "put";
    CreateMultipartUpload = "CreateMultipartUpload", "create_multipart_upload";
    UploadPart = "UploadPart", "upload_part";
    CompleteMultipartUpload = "CompleteMultipartUpload", "complete_multipart_upload";
    AbortMultipartUpload = "AbortMultipartUpload", "abort_multipart_upload";
    Copy = "CopyObject", "copy";
    UploadPartCopy = "UploadPartCopy", "upload_part_copy";
    Get = "GetObject", "get";
    GetObjectAttributes = "GetObjectAttributes", "get_object_attributes";
    GetObjectTagging = "GetObjectTagging", "get_object_tagging";
    ListParts = "ListParts", "list_parts";
    ListMultipartUploads = "ListMultipartUploads", "list_multipart_uploads";
    Delete = "DeleteObject", "delete";
    DeleteObjects = "DeleteObjects", "delete_objects";
}

impl Operation {
    /// Returns what the role must be allowed to do for the operation.
    pub(super) const fn permission(self) -> &'static str {
        match self {
            Self::List => "s3:ListBucket",
            Self::Head | Self::Get => "s3:GetObject",
            Self::GetObjectAttributes => "s3:GetObject and s3:GetObjectAttributes",
            Self::GetObjectTagging => "s3:GetObjectTagging",
            Self::Put | Self::CreateMultipartUpload | Self::UploadPart | Self::CompleteMultipartUpload => {
                "s3:PutObject"
            }
            Self::Copy | Self::UploadPartCopy => "s3:GetObject and s3:PutObject",
            Self::AbortMultipartUpload => "s3:AbortMultipartUpload",
            Self::ListParts => "s3:ListMultipartUploadParts",
            Self::ListMultipartUploads => "s3:ListBucketMultipartUploads",
            Self::Delete | Self::DeleteObjects => "s3:DeleteObject",
        }
    }

    /// Whether the operation changes an object or an upload.
    pub(crate) const fn writes(self) -> bool {
        match self {
            Self::Put
            | Self::Copy
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::UploadPartCopy
            | Self::CompleteMultipartUpload
            // Another run may have resumed the upload.
            | Self::AbortMultipartUpload
            | Self::Delete
            | Self::DeleteObjects => true,
            Self::List
            | Self::Head
            | Self::Get
            | Self::GetObjectAttributes
            | Self::GetObjectTagging
            | Self::ListParts
            | Self::ListMultipartUploads => false,
        }
    }
}

/// Counts the requests that were sent. Every attempt counts, as S3 counts them.
#[derive(Debug, Default)]
pub struct Requests {
    sent: Counters,
    retries: AtomicU64,
    throttled: AtomicU64,
    downloaded_bytes: AtomicU64,
    /// Of the bodies that the progress line counts.
    pub(crate) sent_bytes: SentBytes,
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

    /// How many bytes of objects' content were received.
    pub(crate) fn downloaded_bytes(&self) -> u64 {
        self.downloaded_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self, operation: Operation) -> u64 {
        self.sent.of(operation).load(Ordering::Relaxed)
    }

    /// Returns all counts by their names in the report.
    pub(crate) fn by_name(&self) -> BTreeMap<Cow<'static, str>, u64> {
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
