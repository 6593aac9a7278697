//! Why there are no credentials, and how long their source is asked again for that.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;

use super::causes::causes;

/// How long one request to the source may take. A program that supplies credentials may call a service itself.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a source is asked again that responds with 429 or 5xx, or with credentials that AWS rejected.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// How long a source is asked again that does not respond, or fails without a status.
const PATIENCE_IN_SILENCE: Duration = Duration::from_secs(20);
/// How long the metadata service of an instance is asked again. A host that is not an instance has none.
const PATIENCE_WITH_METADATA_SERVICE: Duration = Duration::from_secs(3);

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoCredentials {
    pub(super) message: String,
    /// How long to ask the source again, in total. `None`: it will not respond otherwise.
    pub(super) patience: Option<Duration>,
}

impl NoCredentials {
    pub(super) fn permanent(reason: &str) -> Self {
        Self { message: format!("cannot load the credentials: {reason}"), patience: None }
    }

    pub(super) fn unfinished() -> Self {
        Self::permanent("the request to their source did not end")
    }
}

impl From<&CredentialsError> for NoCredentials {
    fn from(error: &CredentialsError) -> Self {
        // The outer message says that credentials are missing. The status is shown in another form.
        let has_no_status = |cause: &String| !cause.contains("StatusCode(");
        let causes = causes(error).into_iter().skip(1).filter(has_no_status).collect::<Vec<_>>().join(": ");
        let causes = sources_tried(error).unwrap_or(causes);
        let status = status_in(&format!("{error:?}"));
        let what = match (error, status) {
            (CredentialsError::CredentialsNotLoaded(_), _) => "no credentials".to_owned(),
            (CredentialsError::InvalidConfiguration(_), _) => "cannot load the credentials".to_owned(),
            (CredentialsError::ProviderTimedOut(_), _) => {
                let limit = humantime::format_duration(ATTEMPT_TIMEOUT);
                return Self {
                    message: format!("the credentials source did not respond within {limit}"),
                    patience: patience_with(error),
                };
            }
            (_, Some(status)) => format!("the credentials source failed (HTTP {status})"),
            (_, None) => "the credentials source failed".to_owned(),
        };
        let advice = advice(status, &causes).map(|advice| format!(". {advice}")).unwrap_or_default();
        let message =
            if causes.is_empty() { what } else { format!("{what}: {}{advice}", causes.trim_end_matches('.')) };
        Self { message, patience: patience_with(error) }
    }
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Returns what to change where the SDK does not accept what the AWS CLI does.
fn advice(status: Option<u16>, causes: &str) -> Option<&'static str> {
    match status {
        Some(400 | 401 | 403 | 404 | 405) if causes.contains("IMDS session token") => {
            Some("This program uses only IMDSv2: allow it on the instance")
        }
        _ if causes.contains("SSO token") => Some("Run `aws sso login`"),
        _ if causes.contains("`Expiration`") => Some("Write `Expiration` in UTC, as 2030-01-02T03:04:05Z"),
        _ => None,
    }
}

/// Returns the names of the sources that the SDK tried, if none of them has credentials. The SDK gives each a line.
fn sources_tried(error: &CredentialsError) -> Option<String> {
    let text = error.source()?.to_string();
    let mut lines = text.lines();
    if !lines.next()?.ends_with("Attempted:") {
        return None;
    }
    let names: Vec<&str> = lines.filter_map(|line| line.split_once(": ")).map(|(name, _)| name.trim()).collect();
    Some(format!("tried {}", names.join(", ")))
}

/// Returns how long a source is asked again after this error. The SDK's errors show the status of a response, and the
/// error inside a profile, in their debug text alone.
fn patience_with(error: &CredentialsError) -> Option<Duration> {
    let text = format!("{error:?}");
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["ImdsCommunicationError"]) {
        return Some(PATIENCE_WITH_METADATA_SERVICE);
    }
    let permanent = ["InvalidConfiguration(", "CredentialsNotLoaded(", "InvalidField {", "Invalid field in response"];
    // Only `aws sso login` writes a token.
    if has(&permanent) || has(&["ExpiredToken", "FailedToLoadToken"]) {
        return None;
    }
    match status_in(&text) {
        Some(408 | 429 | 500..) => Some(PATIENCE),
        // STS reports its limits as 400.
        Some(_) if has(&["Throttling", "RequestLimitExceeded", "SlowDown", "IDPCommunicationError"]) => Some(PATIENCE),
        Some(400..) => None,
        // The shell has no such program, or may not start it.
        _ if has(&["exit status: 126", "exit status: 127"]) => None,
        _ => Some(PATIENCE_IN_SILENCE),
    }
}

/// Returns the status of the response that an error shows.
fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("StatusCode(")?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_decides_how_long_a_source_is_asked() {
        let status = |status: u16| CredentialsError::provider_error(format!("StatusCode({status})"));
        for (error, patience) in [
            (status(503), Some(PATIENCE)),
            (status(408), Some(PATIENCE)),
            (status(403), None),
            (CredentialsError::provider_error("Throttling StatusCode(400)"), Some(PATIENCE)),
            (CredentialsError::provider_error("exited with code exit status: 1"), Some(PATIENCE_IN_SILENCE)),
            (CredentialsError::provider_error("exited with code exit status: 127"), None),
            (CredentialsError::provider_timed_out(ATTEMPT_TIMEOUT), Some(PATIENCE_IN_SILENCE)),
            (CredentialsError::not_loaded("nothing is set"), None),
            (CredentialsError::invalid_configuration("no such profile"), None),
            (CredentialsError::provider_error(CredentialsError::invalid_configuration("inside a profile")), None),
        ] {
            assert_eq!(patience_with(&error), patience, "{error:?}");
        }
    }

    #[test]
    fn the_error_of_a_source_names_its_status_and_no_types() {
        let failed =
            CredentialsError::provider_error("Non-success status from HTTP credential provider: StatusCode(500)");
        assert_eq!(NoCredentials::from(&failed).to_string(), "the credentials source failed (HTTP 500)");
        let refused = CredentialsError::unhandled(std::io::Error::other("connection refused"));
        let message = NoCredentials::from(&refused).to_string();
        assert_eq!(message, "the credentials source failed: connection refused");
    }

    #[test]
    fn the_sources_that_have_no_credentials_are_named_without_their_reasons() {
        let chain = "no credentials found in chain. Attempted:\n  Environment: not set: a cause\n  Profile: none: here";
        let error = NoCredentials::from(&CredentialsError::not_loaded(chain));
        assert_eq!(error.message, "no credentials: tried Environment, Profile");
    }

    #[test]
    fn an_expired_sso_token_needs_a_login_and_no_retry() {
        #[derive(Debug, thiserror::Error)]
        enum SsoTokenError {
            #[error("the SSO token has expired and cannot be refreshed")]
            ExpiredToken,
        }
        let error = NoCredentials::from(&CredentialsError::provider_error(SsoTokenError::ExpiredToken));
        assert!(error.message.ends_with(". Run `aws sso login`"), "{error}");
        assert_eq!(error.patience, None);
    }

    #[test]
    fn what_only_the_aws_cli_accepts_is_named_with_what_to_do() {
        let failed = |text: &str| NoCredentials::from(&CredentialsError::provider_error(text.to_owned()));
        let offset = failed("could not parse response: Invalid field in response: `Expiration`. no offset");
        assert!(offset.message.ends_with(". Write `Expiration` in UTC, as 2030-01-02T03:04:05Z"), "{offset}");
        assert_eq!(offset.patience, None, "the source writes it so each time");
        let token = |status| advice(Some(status), "failed to load IMDS session token");
        assert!(token(403).is_some_and(|advice| advice.contains("IMDSv2")));
        assert_eq!(token(503), None);
    }
}
