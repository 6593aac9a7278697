//! What all AWS clients share: settings, certificates and endpoints.
//!
//! An `AWS_ENDPOINT_URL` or `AWS_ENDPOINT_URL_…` that is set to an empty value counts as not set. The SDK would take
//! the empty value for a URL.

mod http;

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};

use crate::endpoint_url::{EndpointUrl, EndpointUrlError};

/// The time in which a connection must be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read certificates (PEM) from {path}, which AWS_CA_BUNDLE names: {reason}")]
    CaBundle { path: String, reason: String },
    #[error("the endpoint of the AWS settings: {0}")]
    Endpoint(#[from] EndpointUrlError),
}

/// Loads the settings that the AWS CLI would use.
pub(crate) async fn settings() -> Result<SdkConfig, ConnectError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(client) = http::client()? {
        loader = loader.http_client(client);
    }
    let shared = loader.load().await;
    // A profile can name it too.
    if let Some(url) = shared.endpoint_url().filter(|url| !url.is_empty()) {
        url.parse::<EndpointUrl>()?;
    }
    Ok(shared)
}

/// Returns the timeouts of a request: one for the connection, and `attempt` for each attempt as a whole.
pub(crate) fn timeouts(attempt: Option<Duration>) -> TimeoutConfig {
    let mut timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    timeouts.set_operation_attempt_timeout(attempt);
    timeouts.build()
}

/// The endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceEndpoint {
    /// The URL, if it is not that of AWS.
    pub(crate) url: Option<String>,
    /// Whether a variable is empty. It counts as not set, but the SDK would take the empty value for a URL.
    pub(crate) overrides: bool,
}

/// Returns the endpoint that `variable` (such as `AWS_ENDPOINT_URL_S3`), `AWS_ENDPOINT_URL` or the profile names.
pub(crate) fn endpoint(shared: &SdkConfig, variable: &str) -> ServiceEndpoint {
    let of_all = shared.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned);
    ServiceEndpoint {
        url: set_variable(variable).or(of_all),
        overrides: [variable, "AWS_ENDPOINT_URL"].into_iter().any(is_empty),
    }
}

/// Whether an environment variable is set to an empty value.
pub(crate) fn is_empty(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Returns the value of an environment variable that is not empty.
pub(crate) fn set_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
