//! A refusal: an error response of S3.

use super::reply::Reply;

/// The reason why the server does not carry out a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
    headers: Vec<(String, String)>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn no_such_key() -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
    }

    pub(super) fn no_such_upload() -> Self {
        let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                       aborted or completed.";
        Self::new(404, "NoSuchUpload", message)
    }

    pub(super) fn precondition_failed() -> Self {
        let message = "At least one of the pre-conditions you specified did not hold";
        Self::new(412, "PreconditionFailed", message)
    }

    pub(super) fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema";
        Self::new(400, "MalformedXML", message)
    }

    pub(super) fn invalid_argument(message: &str) -> Self {
        Self::new(400, "InvalidArgument", message)
    }

    pub(super) fn invalid_request(message: &str) -> Self {
        Self::new(400, "InvalidRequest", message)
    }

    pub(super) fn access_denied() -> Self {
        Self::new(403, "AccessDenied", "Access Denied")
    }

    pub(super) fn archived() -> Self {
        let message = "The operation is not valid for the object's storage class";
        Self::new(403, "InvalidObjectState", message)
    }

    pub(super) fn not_implemented(what: &str) -> Self {
        let message = format!("A header or call that you sent is not implemented: {what}");
        Self::new(501, "NotImplemented", message)
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn reply(self, key: &str) -> Reply {
        let mut reply = if self.status == 304 {
            Reply::empty(304)
        } else {
            Reply::error(self.status, self.code, &self.message, key)
        };
        reply.headers.extend(self.headers);
        reply
    }
}
