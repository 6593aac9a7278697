//! The SDK's client, set up on purpose: no retries of its own, no checksums of its own, and each answer's Date noted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_http_client::tls;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::clock::ServerClock;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server, where it is not AWS.
    pub url: Option<String>,
    /// Whether the bucket stands in the path; `None`: wherever a URL is given.
    pub path_style: Option<bool>,
}

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

/// The client, and the server's URL where it is not AWS.
pub(super) async fn connect(
    endpoint: &Endpoint,
    clock: &Arc<ServerClock>,
) -> Result<(aws_sdk_s3::Client, Option<String>), ConnectError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(path) = set_variable("AWS_CA_BUNDLE") {
        loader = loader.http_client(trusting(&path)?);
    }
    let shared = loader.load().await;
    let url = endpoint.url.clone().or_else(|| configured_url(&shared));
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        // One attempt each: the retry loop in `send` counts, spaces and limits them.
        .retry_config(RetryConfig::disabled())
        // Silence is judged in `send`, which knows how long each operation may be silent.
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Checksums are computed from memory before a request is sent, and go as headers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(NoteDate(Arc::clone(clock)))
        .force_path_style(endpoint.path_style.unwrap_or(url.is_some()));
    // What is set to nothing counts as not set, as for the AWS CLI; the SDK would take it for a URL.
    let is_set_to_nothing = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    if endpoint.url.is_some() || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().any(is_set_to_nothing) {
        config.set_endpoint_url(url.clone());
    }
    if shared.region().is_none() && url.is_some() {
        // Servers other than AWS take any region, and most users of one set none.
        config = config.region(Region::from_static("us-east-1"));
    }
    Ok((aws_sdk_s3::Client::from_conf(config.build()), url))
}

/// The endpoint that `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile name.
fn configured_url(shared: &SdkConfig) -> Option<String> {
    set_variable("AWS_ENDPOINT_URL_S3")
        .or_else(|| shared.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned))
}

/// An environment variable that is set to something.
fn set_variable(name: &str) -> Option<String> {
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

/// Notes when a request left and what Date its answer bears.
#[derive(Debug)]
struct NoteDate(Arc<ServerClock>);

#[derive(Debug)]
struct SentAt(SystemTime);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for NoteDate {
    fn name(&self) -> &'static str {
        "NoteDate"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SentAt(SystemTime::now()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        if let (Some(date), Some(SentAt(sent))) =
            (date.and_then(|date| SystemTime::try_from(date).ok()), config.load::<SentAt>())
        {
            self.0.observe(date, *sent, SystemTime::now());
        }
        Ok(())
    }
}
