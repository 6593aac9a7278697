//! The classifier: which kind an error of an AWS service is.
//!
//! Nothing else decides this, for any service. The first row that applies decides; `*` is any value, and `none` means
//! that the response has no code. A code has its meaning whatever the status is, also for one key in a response to
//! DeleteObjects. A response without a code is S3's only if it is to HeadObject and its headers show it (`proven`): a
//! status alone neither proves that an object is absent nor that a condition failed. A test tries each row of this table.
//!
//! | service | operation | what came | status | code | kind | concerns |
//! |---|---|---|---|---|---|---|
//! | * | * | response | 503 | SlowDown | Throttled | transient |
//! | * | * | response | 400 | Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException RequestLimitExceeded LimitExceededException | Throttled | transient |
//! | * | * | response | 400 | KMS.ThrottlingException | Throttled | transient |
//! | * | * | response | 429 | TooManyRequests TooManyRequestsException | Throttled | transient |
//! | S3 | * | response | 503 | ServiceUnavailable | Throttled | transient |
//! | DataSync | * | response | 503 | ServiceUnavailable ServiceUnavailableException | Transient | transient |
//! | * | * | response | 400 | ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired InvalidToken | Expired | transient |
//! | * | * | response | 403 | InvalidAccessKeyId UnrecognizedClientException InvalidClientTokenId | Expired | transient |
//! | * | * | response | 403 | MissingAuthenticationToken MissingAuthenticationTokenException | Credentials | bucket |
//! | DataSync | * | response | 403 | InvalidSignatureException SignatureDoesNotMatch | Credentials | bucket |
//! | * | * | response | 400 | RequestTimeout BadDigest IncompleteBody XAmzContentSHA256Mismatch XAmzContentChecksumMismatch InvalidPart | Transient | transient |
//! | * | * | response | 403 | RequestTimeTooSkewed | Transient | transient |
//! | * | * | response | 409 | ConditionalRequestConflict OperationAborted | Transient | transient |
//! | * | * | response | 500 | InternalError InternalException InternalFailure | Transient | transient |
//! | * | * | response | 400 | KMS.KMSInternalException KMS.DependencyTimeoutException | Transient | transient |
//! | * | * | response | 404 | NoSuchBucket | Unusable | bucket |
//! | * | * | response | 301 | PermanentRedirect | Unusable | bucket |
//! | * | * | response | 400 | AuthorizationHeaderMalformed IllegalLocationConstraintException InvalidBucketName | Unusable | bucket |
//! | * | * | response | 403 | AllAccessDisabled | Unusable | bucket |
//! | S3 | ListObjectsV2 | response | 403 | AccessDenied SignatureDoesNotMatch | Denied | bucket |
//! | S3 | * | response | 403 | AccessDenied SignatureDoesNotMatch | Denied | prefix |
//! | DataSync | * | response | 400 | AccessDenied AccessDeniedException OptInRequired | Denied | bucket |
//! | * | * | response | 412 | PreconditionFailed | Precondition | key |
//! | * | * | response | 404 | NoSuchKey NoSuchUpload ResourceNotFoundException | NotFound | key |
//! | * | * | response | 501 | NotImplemented | NotImplemented | key |
//! | DataSync | * | response: task is not found | 400 | InvalidRequestException | NotFound | key |
//! | DataSync | * | response: task does not exist | 400 | InvalidRequestException | NotFound | key |
//! | DataSync | * | response | 200 403 404 500 | none | Transient | transient |
//! | DataSync | * | response | 500 502 503 504 | * | Transient | transient |
//! | DataSync | * | response | 400 403 404 409 | * | Refused | key |
//! | S3 | * | response with a region | 307 | TemporaryRedirect | Unusable | bucket |
//! | S3 | * | response | 301 | * | Unusable | bucket |
//! | S3 | HeadObject | response, proven | 301 | none | Unusable | bucket |
//! | S3 | * | response | 301 | none | Transient | transient |
//! | S3 | ListObjectsV2 | response | 401 403 | * none | Denied | bucket |
//! | S3 | * | response | 401 403 | * none | Denied | prefix |
//! | S3 | * | response | 404 | * | NotFound | key |
//! | S3 | HeadObject | response, proven | 404 | none NotFound | NotFound | key |
//! | S3 | * | response | 404 | none NotFound | Transient | transient |
//! | S3 | * | response | 412 | * | Precondition | key |
//! | S3 | HeadObject | response, proven | 412 | none | Precondition | key |
//! | S3 | * | response | 412 | none | Transient | transient |
//! | S3 | * | response | 429 503 | * none | Throttled | transient |
//! | S3 | * | response | 501 | * | NotImplemented | key |
//! | S3 | HeadObject | response, proven | 501 | none | NotImplemented | key |
//! | S3 | * | response | 501 | none | Transient | transient |
//! | S3 | * | response | 408 409 500 502 504 599 | * none | Transient | transient |
//! | S3 | * | response | 200 206 302 304 307 | * none | Transient | transient |
//! | S3 | * | response | 400 405 411 414 416 422 | * none | Refused | key |
//! | * | * | no connection | | | Unreachable | transient |
//! | * | * | reset | | | Unreachable | transient |
//! | * | * | silence | | | Unreachable | transient |
//! | * | * | unknown failure | | | Unreachable | transient |
//! | * | * | untrusted certificate | | | Settings | usage |
//! | * | * | proxy without a user | | | Settings | usage |
//! | * | * | no credentials | | | Settings | usage |
//! | * | * | no region | | | Settings | usage |
//! | * | * | no valid URI | | | Settings | usage |
//! | * | * | request not built | | | Settings | usage |
//!
//! Nothing depends on the errors of ECS: the Lambda function returns them. A response that proves nothing is `Transient`,
//! and one that proves that its list cannot be trusted is `Unusable` (`destination/proof`, `destination/proven_page`).

#![expect(clippy::doc_markdown, reason = "the table holds error codes, which a test reads")]

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::error_kind::ErrorKind;
use super::error_response::{ErrorForm, ErrorResponse};
use super::service::Service;

impl ErrorKind {
    /// Returns the kind of an error of the SDK.
    pub(crate) fn of<E>(service: Service, form: ErrorForm, error: &SdkError<E, Response>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(response) = ErrorResponse::of(form, error) {
            return Self::of_response(service, &response);
        }
        match error {
            SdkError::ConstructionFailure(_) => Self::Settings,
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) if names_any(error, &REFUSED_CONNECTION) => Self::Settings,
                _ if failure.is_io() || failure.is_timeout() => Self::Unreachable,
                Some(error) if !failure.is_user() && !names_any(error, &NO_REQUEST) => Self::Unreachable,
                _ => Self::Settings,
            },
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) | SdkError::ServiceError(_) | _ => Self::Unreachable,
        }
    }

    /// Returns the kind of an error response.
    pub(crate) fn of_response(service: Service, response: &ErrorResponse<'_>) -> Self {
        let is_s3 = service == Service::S3;
        let message = response.message;
        match response.code.unwrap_or_default() {
            "ServiceUnavailable" | "ServiceUnavailableException" if !is_s3 => Self::Transient,
            "SlowDown"
            | "ServiceUnavailable"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "KMS.ThrottlingException"
            | "TooManyRequests"
            | "TooManyRequestsException" => Self::Throttled,
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired" | "InvalidToken" => {
                Self::Expired
            }
            // The source may have another key since.
            "InvalidAccessKeyId" | "UnrecognizedClientException" | "InvalidClientTokenId" => Self::Expired,
            "InvalidSignatureException" | "SignatureDoesNotMatch" if !is_s3 => Self::Credentials,
            "MissingAuthenticationToken" | "MissingAuthenticationTokenException" => Self::Credentials,
            // Their status blames the client, but a bad connection, a wrong clock or another writer causes each of them.
            "RequestTimeout"
            | "BadDigest"
            | "IncompleteBody"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            | "InvalidPart"
            | "RequestTimeTooSkewed"
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "InternalError"
            | "InternalException"
            | "InternalFailure"
            | "KMS.KMSInternalException"
            | "KMS.DependencyTimeoutException" => Self::Transient,
            "NoSuchBucket"
            | "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "InvalidBucketName"
            | "AllAccessDisabled" => Self::Unusable,
            "AccessDenied" | "AccessDeniedException" | "SignatureDoesNotMatch" | "OptInRequired" => Self::Denied,
            "PreconditionFailed" => Self::Precondition,
            "TemporaryRedirect" if response.region.is_some() => Self::Unusable,
            "NoSuchKey" | "NoSuchUpload" | "ResourceNotFoundException" => Self::NotFound,
            "NotImplemented" => Self::NotImplemented,
            // DataSync has no error code of its own for a missing task.
            "InvalidRequestException"
                if !is_s3 && (message.contains("not found") || message.contains("does not exist")) =>
            {
                Self::NotFound
            }
            _ if is_s3 => Self::of_status(response.status, response.is_of_service()),
            // A response without an error code is not the service's, or is damaged.
            "" => Self::Transient,
            _ if response.status >= 500 => Self::Transient,
            _ => Self::Refused,
        }
    }

    /// Returns the kind of a response to a request to S3 whose code is missing or unknown.
    fn of_status(status: u16, is_of_s3: bool) -> Self {
        match status {
            // The run acts on what these mean.
            301 | 404 | 412 | 501 if !is_of_s3 => Self::Transient,
            301 => Self::Unusable,
            401 | 403 => Self::Denied,
            404 => Self::NotFound,
            412 => Self::Precondition,
            429 | 503 => Self::Throttled,
            501 => Self::NotImplemented,
            // Below 400: an unreadable response, for example from a proxy, or a truncated one.
            408 | 409 | 500.. | ..=399 => Self::Transient,
            400..=499 => Self::Refused,
        }
    }
}

/// A certificate that is not trusted, and a proxy that wants a user: no retry can help.
const REFUSED_CONNECTION: [&str; 2] = ["invalid peer certificate", "proxy authorization required"];
/// Missing credentials, a missing region and an invalid endpoint look like a failed connection, but no retry can help.
const NO_REQUEST: [&str; 3] = ["credential", "region must be set", "valid URI"];

/// Whether an error or one of its causes contains one of these texts.
fn names_any(error: &(dyn Error + 'static), texts: &[&str]) -> bool {
    let names = |error: &(dyn Error + 'static)| texts.iter().any(|text| error.to_string().contains(text));
    std::iter::successors(Some(error), |&error| error.source()).any(names)
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    type TestError = SdkError<ErrorMetadata, Response>;

    /// The cells of each row of the table at the head of this file.
    fn rows() -> Vec<Vec<&'static str>> {
        let lines = include_str!("classifier.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
        let rows = lines.map(|line| line.trim_end_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
        rows.filter(|cells| cells[0] != "service").collect()
    }

    fn services(cell: &str) -> Vec<Service> {
        let all = [("S3", Service::S3), ("DataSync", Service::DataSync)];
        let named = |(name, _): &(&str, Service)| cell == "*" || cell.split(' ').any(|each| each == *name);
        all.into_iter().filter(named).map(|(_, service)| service).collect()
    }

    /// The error that a row is about.
    fn sdk_error(what: &str, status: &str, code: &str) -> TestError {
        let other = |text: &'static str| TestError::dispatch_failure(ConnectorError::other(text.into(), None));
        let failed = |text: &'static str| TestError::dispatch_failure(ConnectorError::io(text.into()));
        let io = |kind: std::io::ErrorKind| {
            TestError::dispatch_failure(ConnectorError::io(std::io::Error::from(kind).into()))
        };
        if let Some(text) = what.strip_prefix("response") {
            let mut raw = Response::new(status.parse::<u16>().unwrap().try_into().unwrap(), SdkBody::empty());
            match text {
                ", proven" => drop(raw.headers_mut().insert("x-amz-request-id", "1")),
                " with a region" => drop(raw.headers_mut().insert("x-amz-bucket-region", "eu-west-1")),
                _ => (),
            }
            let metadata = ErrorMetadata::builder().message(text.trim_start_matches(": "));
            return TestError::service_error(
                match code {
                    "none" => metadata.build(),
                    "*" => metadata.code("SomethingElse").build(),
                    code => metadata.code(code).build(),
                },
                raw,
            );
        }
        match what {
            "no connection" => io(std::io::ErrorKind::ConnectionRefused),
            "reset" => io(std::io::ErrorKind::ConnectionReset),
            "silence" => TestError::dispatch_failure(ConnectorError::timeout("no byte".into())),
            "unknown failure" => other("something broke"),
            "untrusted certificate" => failed("invalid peer certificate: UnknownIssuer"),
            "proxy without a user" => failed("tunnel error: proxy authorization required"),
            "no credentials" => other("no credentials were loaded"),
            "no region" => other("A region must be set when sending requests"),
            "no valid URI" => other("not a valid URI"),
            "request not built" => TestError::construction_failure("cannot be combined"),
            other => panic!("unknown transport '{other}'"),
        }
    }

    #[test]
    fn each_row_of_the_table_holds() {
        let rows = rows();
        assert!(rows.len() > 40, "{}", rows.len());
        for row in rows {
            let [services_cell, operation, what, statuses, codes, kind, concerns] = row[..] else {
                panic!("{row:?}");
            };
            for service in services(services_cell) {
                for status in statuses.split(' ') {
                    for code in codes.split(' ') {
                        let form = if operation == "HeadObject" { ErrorForm::Headers } else { ErrorForm::Document };
                        let found = ErrorKind::of(service, form, &sdk_error(what, status, code));
                        let of_all = operation == "ListObjectsV2" || service != Service::S3;
                        let concern = format!("{:?}", found.concern(of_all)).to_lowercase();
                        let found = (format!("{found:?}"), concern);
                        assert_eq!(
                            found,
                            (kind.to_owned(), concerns.to_owned()),
                            "{service:?} {status} {code}: {row:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn each_code_of_the_classifier_has_a_row() {
        let (_, code) = include_str!("classifier.rs").split_once("match response.code").unwrap();
        let (code, _) = code.split_once("fn of_status").unwrap();
        let rows = rows();
        let has_row = |code: &str| rows.iter().any(|cells| cells[4].split(' ').any(|of_row| of_row == code));
        let codes: Vec<&str> = code.split('"').skip(1).step_by(2).filter(|text| !text.contains(' ')).collect();
        assert!(codes.len() > 40, "{codes:?}");
        let without: Vec<&&str> = codes.iter().filter(|code| !code.is_empty() && !has_row(code)).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn a_code_has_the_same_meaning_with_any_status() {
        for (code, kind) in [
            ("SlowDown", ErrorKind::Throttled),
            ("InternalError", ErrorKind::Transient),
            ("AccessDenied", ErrorKind::Denied),
            ("NoSuchKey", ErrorKind::NotFound),
        ] {
            for status in [200, 400, 403, 500, 503] {
                assert_eq!(
                    ErrorKind::of_response(Service::S3, &ErrorResponse::with_code(status, code, "")),
                    kind,
                    "{status} {code}"
                );
            }
        }
    }

    #[test]
    fn what_ends_the_run_is_not_retried_except_expired_credentials() {
        let of = |code| ErrorKind::of_response(Service::S3, &ErrorResponse::with_code(400, code, ""));
        assert!(of("NoSuchBucket").ends_the_run() && !of("NoSuchBucket").is_retryable());
        assert!(of("ExpiredToken").ends_the_run() && of("ExpiredToken").is_retryable());
        assert!(!of("SlowDown").ends_the_run() && !of("AccessDenied").ends_the_run());
    }
}
