//! Write headers: what a request sends for S3 to store with an object. Every request that writes an object is built here.
//!
//! 1. Each write has the encryption of `--sse`, also one to the state and one that only rewrites metadata: a bucket
//!    policy may deny every other write. So only [`Destination::write_headers`] makes these headers, no request can be
//!    built without them, and clippy refuses the SDK's own functions elsewhere (`clippy.toml`).
//! 2. The values go into the request as text. The SDK's types refuse what other writers store: an `Expires` that is not
//!    a date, metadata that is empty or not ASCII.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;

use super::Destination;
use super::error::S3Error;
use super::headers::ObjectHeaders;
use crate::key::RelativeKey;

/// The headers of a write, with the encryption that the options name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteHeaders(Arc<ObjectHeaders>);

/// Starts a request that writes an object. The SDK's builders have no trait in common.
macro_rules! start {
    ($destination:expr, $key:expr, $headers:expr, $function:ident) => {{
        let (destination, encryption): (&Destination, _) = ($destination, $headers.0.encryption.as_ref());
        #[expect(clippy::disallowed_methods, reason = "the only place that may start a write")]
        let request = destination.client.$function();
        request
            .bucket(destination.bucket.as_str())
            .key(destination.prefix.object_key($key))
            .set_expected_bucket_owner(destination.expected_owner.clone())
            .set_server_side_encryption(encryption.map(|encryption| encryption.algorithm.as_str().into()))
            .set_ssekms_key_id(encryption.and_then(|encryption| encryption.kms_key_id.clone()))
            .set_bucket_key_enabled(encryption.and_then(|encryption| encryption.bucket_key))
    }};
}

impl Destination {
    /// Returns the headers with which this run writes an object. The encryption of the options replaces that of a stored
    /// object.
    pub(crate) fn write_headers(&self, headers: ObjectHeaders) -> WriteHeaders {
        let stored = headers.encryption;
        let encryption = match self.encryption.clone() {
            Some(chosen) => Some(chosen.completed_by(stored)),
            None => stored,
        };
        WriteHeaders(Arc::new(ObjectHeaders { encryption, ..headers }))
    }

    pub(super) fn start_put(&self, key: &RelativeKey, headers: &WriteHeaders) -> PutObjectFluentBuilder {
        start!(self, key, headers, put_object)
    }

    pub(super) fn start_copy(&self, key: &RelativeKey, headers: &WriteHeaders) -> CopyObjectFluentBuilder {
        start!(self, key, headers, copy_object)
    }

    pub(super) fn start_upload(&self, key: &RelativeKey, headers: &WriteHeaders) -> CreateMultipartUploadFluentBuilder {
        start!(self, key, headers, create_multipart_upload)
    }
}

impl WriteHeaders {
    pub(super) fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Adds to the refusal of a write what else it needs.
    pub(super) fn explain(&self, error: S3Error) -> S3Error {
        if !error.is_denied_by_s3() {
            return error;
        }
        let encryption = if self.0.encryption.is_some() { "another --sse" } else { "--sse" };
        let policy = format!("a bucket policy may also demand {encryption}");
        let permissions = self.0.permissions();
        if permissions.is_empty() {
            return error.advising(&policy);
        }
        error.advising(&format!(
            "to keep what S3 stores with this object, this write also needs {permissions}; {policy}"
        ))
    }

    /// Returns what puts all headers but the encryption into a request. The signature covers them.
    pub(super) fn inserted(&self) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
        let headers = Arc::clone(&self.0);
        move |request| {
            for (name, value) in headers.by_name() {
                // What a response of S3 or an option can hold, a request can hold too.
                if let Err(error) = request.headers_mut().try_insert(name, value.to_owned()) {
                    tracing::warn!(%error, "cannot send a header of this object");
                }
            }
        }
    }
}

impl S3Error {
    /// Adds to the message what the user can do.
    pub(super) fn advising(mut self, advice: &str) -> Self {
        self.message = format!("{}: {advice}", self.message);
        self
    }
}
