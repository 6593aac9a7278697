//! What all AWS clients have in common: the standard settings, certificates and endpoints.
//!
//! 1. `AWS_CA_BUNDLE` is read here, because the SDK does not read it. As in the AWS CLI, its certificates are trusted
//!    and no others.
//! 2. An `AWS_ENDPOINT_URL` or `AWS_ENDPOINT_URL_…` that is set to an empty value counts as not set. The SDK would take
//!    the empty value for a URL.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no client can be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `AWS_CA_BUNDLE` names what cannot be read, or holds no certificate.
    #[error("AWS_CA_BUNDLE names {path}, which holds no certificates in PEM that can be read: {reason}")]
    CaBundle {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Loads the settings that the AWS CLI would use.
///
/// # Errors
/// Where they name what cannot be used.
pub async fn settings() -> Result<SdkConfig, ConnectError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(path) = set_variable("AWS_CA_BUNDLE") {
        loader = loader.http_client(trusting(&path)?);
    }
    Ok(loader.load().await)
}

/// Time-outs for a request that is judged by nothing else: so long for the connection, and for one attempt in all.
#[must_use]
pub fn timeouts(attempt: Option<Duration>) -> TimeoutConfig {
    let mut timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    timeouts.set_operation_attempt_timeout(attempt);
    timeouts.build()
}

/// Where a service is reached, if not at AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEndpoint {
    /// The URL.
    pub url: Option<String>,
    /// Whether a variable is set to nothing: that counts as not set, as for the AWS CLI, and the SDK would take it for a
    /// URL.
    pub overrides: bool,
}

/// The endpoint that `variable` (`AWS_ENDPOINT_URL_S3`, …), `AWS_ENDPOINT_URL` or the profile name.
#[must_use]
pub fn endpoint(shared: &SdkConfig, variable: &str) -> ServiceEndpoint {
    let of_all = shared.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned);
    let is_set_to_nothing = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    ServiceEndpoint {
        url: set_variable(variable).or(of_all),
        overrides: [variable, "AWS_ENDPOINT_URL"].into_iter().any(is_set_to_nothing),
    }
}

/// An environment variable that is set to something.
#[must_use]
pub fn set_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An HTTP client that trusts the certificates in this file, and no others (`AWS_CA_BUNDLE`; the SDK does not read it).
fn trusting(path: &str) -> Result<SharedHttpClient, ConnectError> {
    let wrong = |reason: String| ConnectError::CaBundle { path: path.to_owned(), reason };
    let bundle = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bundle).collect();
    if certificates.map_err(|error| wrong(error.to_string()))?.is_empty() {
        return Err(wrong("it holds none".to_owned()));
    }
    let trust = tls::TrustStore::empty().with_pem_certificate(bundle);
    let context =
        tls::TlsContext::builder().with_trust_store(trust).build().map_err(|error| wrong(error.to_string()))?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    Ok(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https())
}
