//! An operation: which S3 call a request is, told by its method, path, query and headers.

use std::collections::BTreeMap;

/// An S3 call by its API name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// One page of a listing.
    ListObjectsV2,
    /// An object's properties.
    HeadObject,
    /// A bucket's existence and region.
    HeadBucket,
    /// An object's body.
    GetObject,
    /// An object's properties as XML.
    GetObjectAttributes,
    /// An object in one request.
    PutObject,
    /// An object copied on the server.
    CopyObject,
    /// The start of a multipart upload.
    CreateMultipartUpload,
    /// One part of a multipart upload.
    UploadPart,
    /// One part copied on the server.
    UploadPartCopy,
    /// The end of a multipart upload.
    CompleteMultipartUpload,
    /// A multipart upload given up.
    AbortMultipartUpload,
    /// The parts of an open upload.
    ListParts,
    /// The open uploads of a bucket.
    ListMultipartUploads,
    /// One object deleted.
    DeleteObject,
    /// Up to 1,000 objects deleted.
    DeleteObjects,
    /// Any other call.
    Other,
}

impl Operation {
    /// Which call a request is.
    pub(super) fn of(
        method: &str,
        key: &str,
        query: &BTreeMap<String, String>,
        headers: &BTreeMap<String, String>,
    ) -> Self {
        let asks = |name| query.contains_key(name);
        let copies = headers.contains_key("x-amz-copy-source");
        if key.is_empty() {
            return match method {
                "GET" if asks("uploads") => Self::ListMultipartUploads,
                "GET" if asks("list-type") => Self::ListObjectsV2,
                "HEAD" => Self::HeadBucket,
                "POST" if asks("delete") => Self::DeleteObjects,
                _ => Self::Other,
            };
        }
        if ["tagging", "acl", "retention", "legal-hold", "restore"].into_iter().any(asks) {
            return Self::Other;
        }
        match method {
            "POST" if asks("uploads") => Self::CreateMultipartUpload,
            "POST" if asks("uploadId") => Self::CompleteMultipartUpload,
            "PUT" if asks("partNumber") && copies => Self::UploadPartCopy,
            "PUT" if asks("partNumber") => Self::UploadPart,
            "PUT" if copies => Self::CopyObject,
            "PUT" => Self::PutObject,
            "DELETE" if asks("uploadId") => Self::AbortMultipartUpload,
            "DELETE" => Self::DeleteObject,
            "GET" if asks("uploadId") => Self::ListParts,
            "GET" if asks("attributes") => Self::GetObjectAttributes,
            "GET" => Self::GetObject,
            "HEAD" => Self::HeadObject,
            _ => Self::Other,
        }
    }
}

/// A set of operations: what a rule is for.
#[derive(Clone, Debug)]
pub struct Operations(Option<Vec<Operation>>);

impl Operations {
    /// Every operation.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    pub(super) fn contain(&self, operation: Operation) -> bool {
        self.0.as_ref().is_none_or(|set| set.contains(&operation))
    }
}

impl From<Operation> for Operations {
    fn from(operation: Operation) -> Self {
        Self(Some(vec![operation]))
    }
}

impl<const N: usize> From<[Operation; N]> for Operations {
    fn from(operations: [Operation; N]) -> Self {
        Self(Some(operations.to_vec()))
    }
}

impl From<&[Operation]> for Operations {
    fn from(operations: &[Operation]) -> Self {
        Self(Some(operations.to_vec()))
    }
}
