//! An error response: its status and code, and whether it shows that the service sent it.
//!
//! A proxy, a gateway or a load balancer has error pages of its own. So a status alone says nothing about an object. A
//! response is the service's if it has an error code. To HEAD there is no document that could have one: then the headers
//! decide.

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What requests of this kind get as an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    Document,
    /// Only headers, as for HEAD.
    Headers,
}

/// An error response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorResponse<'a> {
    pub(crate) status: u16,
    pub(crate) code: Option<&'a str>,
    pub(crate) message: &'a str,
    /// The bucket's region, if the response names it.
    pub(crate) region: Option<&'a str>,
    /// Whether its headers show that the service sent it, if there cannot be a code.
    has_proof: bool,
    /// Whether it has neither a body nor a request ID.
    pub(crate) is_bare: bool,
}

impl<'a> ErrorResponse<'a> {
    /// The error of a part of a request.
    pub(crate) const fn with_code(status: u16, code: &'a str, message: &'a str) -> Self {
        Self { status, code: Some(code), message, region: None, has_proof: false, is_bare: false }
    }

    /// Returns `None` if there was no response.
    pub(crate) fn of<E>(form: ErrorForm, error: &'a SdkError<E, Response>) -> Option<Self>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let response = error.raw_response()?;
        let body = response.body().bytes().unwrap_or_default();
        // The SDK makes this code of a response without a body.
        let code = error.code().filter(|code| !(body.is_empty() && *code == "NotFound"));
        let region = response.headers().get("x-amz-bucket-region").or_else(|| element(body, "Region"));
        Some(Self {
            status: response.status().as_u16(),
            code,
            message: error.message().unwrap_or_default(),
            region,
            has_proof: form == ErrorForm::Headers && has_headers_of_service(response),
            is_bare: body.is_empty() && !has_length(response) && !has_id(response),
        })
    }

    /// Whether the response shows that the service sent it.
    pub(crate) const fn is_of_service(&self) -> bool {
        self.code.is_some() || self.has_proof
    }

    /// Whether something between this program and the service has sent it: S3 itself would give a code with this status.
    pub(crate) const fn is_foreign(&self) -> bool {
        !self.is_of_service() && matches!(self.status, 300..=399 | 401 | 403 | 404 | 407 | 412 | 501)
    }
}

/// Whether the headers are those of a service: a request ID, or the type of its error documents. A page is not.
fn has_headers_of_service(response: &Response) -> bool {
    let content_type = header(response, "content-type");
    let is_page = content_type.starts_with("text/") && has_length(response);
    !is_page && (has_id(response) || content_type.starts_with("application/xml"))
}

fn has_id(response: &Response) -> bool {
    ["x-amz-request-id", "x-amz-id-2", "x-amzn-requestid"].iter().any(|name| !header(response, name).is_empty())
}

/// Whether its headers say that it has a body. A response to HEAD says so of a body that it does not have.
fn has_length(response: &Response) -> bool {
    !matches!(header(response, "content-length"), "" | "0")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_default()
}

/// Returns the text of an element that has no attributes.
fn element<'a>(document: &'a [u8], name: &str) -> Option<&'a str> {
    let (_, rest) = std::str::from_utf8(document).ok()?.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    // The message shows it as a value to set.
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_name.then_some(text)
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    /// Whether a response to HEAD with these headers is of S3.
    fn is_of_service(headers: &[(&'static str, &'static str)]) -> bool {
        let mut response = Response::new(404.try_into().unwrap(), SdkBody::empty());
        for (name, value) in headers {
            response.headers_mut().insert(*name, *value);
        }
        let error = SdkError::service_error(ErrorMetadata::builder().code("NotFound").build(), response);
        ErrorResponse::of(ErrorForm::Headers, &error).unwrap().is_of_service()
    }

    #[test]
    fn a_response_to_head_is_of_s3_if_its_headers_show_it() {
        assert!(is_of_service(&[("x-amz-request-id", "1")]));
        assert!(is_of_service(&[("x-amz-id-2", "1"), ("content-type", "application/xml")]));
        assert!(is_of_service(&[("x-amzn-requestid", "1"), ("content-type", "text/html"), ("content-length", "0")]));
        assert!(is_of_service(&[("content-type", "application/xml;charset=utf-8"), ("content-length", "120")]));
        assert!(!is_of_service(&[]));
        assert!(!is_of_service(&[("content-length", "0")]));
        assert!(!is_of_service(&[("content-type", "text/html"), ("content-length", "9")]));
        assert!(!is_of_service(&[("content-type", "text/plain; charset=utf-8"), ("content-length", "19")]));
        assert!(!is_of_service(&[("content-type", "application/json"), ("content-length", "2")]));
        let page = [("x-amz-request-id", "1"), ("content-type", "text/html"), ("content-length", "9")];
        assert!(!is_of_service(&page), "a page");
    }

    #[test]
    fn the_region_is_read_from_the_document() {
        assert_eq!(element(b"<Error><Region>eu-west-1</Region></Error>", "Region"), Some("eu-west-1"));
        for document in ["<Error/>", "<Region></Region>", "<Region>a b</Region>", "<Region>eu", "\u{fffd}"] {
            assert_eq!(element(document.as_bytes(), "Region"), None, "{document}");
        }
    }
}
