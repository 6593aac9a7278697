//! An operation: the S3 API call that a request makes.

use std::collections::BTreeMap;

/// An S3 API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Lists one page of keys.
    ListObjectsV2,
    /// Reads the properties of an object.
    HeadObject,
    /// Reads the region of a bucket.
    HeadBucket,
    /// Reads an object.
    GetObject,
    /// Reads the properties of an object as XML.
    GetObjectAttributes,
    /// Reads the tags of an object.
    GetObjectTagging,
    /// Writes an object in one request.
    PutObject,
    /// Copies an object on the server.
    CopyObject,
    /// Starts a multipart upload.
    CreateMultipartUpload,
    /// Uploads one part.
    UploadPart,
    /// Copies one part from another object on the server.
    UploadPartCopy,
    /// Combines the parts of a multipart upload into an object.
    CompleteMultipartUpload,
    /// Ends a multipart upload without an object.
    AbortMultipartUpload,
    /// Lists the parts of an unfinished upload.
    ListParts,
    /// Lists the unfinished uploads of a bucket.
    ListMultipartUploads,
    /// Deletes one object.
    DeleteObject,
    /// Deletes up to 1,000 objects.
    DeleteObjects,
    /// Any other call.
    Other,
}

impl Operation {
    /// Determines the operation from the method, key, query and headers.
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
        if method == "GET" && asks("tagging") {
            return Self::GetObjectTagging;
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

/// A set of operations.
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
