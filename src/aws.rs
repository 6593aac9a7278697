//! What all AWS clients share: settings, certificates, endpoints and credentials.

pub(crate) mod causes;
mod classifier;
mod credentials;
mod environment;
pub(crate) mod error_kind;
pub(crate) mod error_response;
mod files;
mod http;
mod no_credentials;
mod no_proxy;
mod proxy;
mod service;
pub(crate) mod service_message;

use std::sync::{Once, OnceLock};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use futures::FutureExt;

use crate::endpoint_url::EndpointUrlError;
use crate::exit_code::ExitCode;
pub(crate) use credentials::{Credentials, Generation};
pub(crate) use environment::set_variable;
pub(crate) use no_credentials::NoCredentials;
use proxy::ProxyError;
pub(crate) use proxy::{Proxy, proxy_to};
pub(crate) use service::Service;

/// The time in which a connection must be established. The system asks a second name server after 5 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "cannot read certificates (PEM) from {path}, which AWS_CA_BUNDLE or ca_bundle in the profile names: {reason}. \
         Correct the path or the file, or remove the setting"
    )]
    CaBundle { path: String, reason: String },
    #[error("the endpoint of the AWS settings: {0}")]
    Endpoint(#[from] EndpointUrlError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("the AWS settings name no source of credentials")]
    NoProvider,
    #[error("{variable} (or {name} in the profile) is neither true nor false: write true or false")]
    NoSwitch { variable: &'static str, name: &'static str },
    #[error("the ARN is in partition {of_arn}, AWS_REGION ({region}) in {of_region}: set a region of {of_arn}")]
    OtherPartition { of_arn: String, region: String, of_region: &'static str },
}

impl ConnectError {
    /// The exit code of a run that cannot create a client.
    pub(crate) const fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoSwitch { .. } | Self::OtherPartition { .. } => ExitCode::Usage,
            Self::CaBundle { .. } | Self::Endpoint(_) | Self::Proxy(_) | Self::NoProvider => ExitCode::Fatal,
        }
    }
}

/// What a client of one service needs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// For the service's own configuration.
    pub(crate) shared: SdkConfig,
    /// The endpoint, if it is not that of AWS. The service's configuration must name it.
    pub(crate) url: Option<String>,
    /// What `shared` signs requests with.
    pub(crate) credentials: Credentials,
}

/// Loads the settings that the AWS CLI would use for a service. `url` is an endpoint that wins over theirs.
pub(crate) async fn settings(service: Service, url: Option<&str>) -> Result<Settings, ConnectError> {
    let shared = loaded().await?;
    let url = match url {
        Some(url) => Some(url.to_owned()),
        None => service.configured_endpoint(&shared)?,
    };
    Ok(Settings { shared: service.with_endpoint(&shared, url.as_deref()), url, credentials: credentials() })
}

/// Returns the credentials of the process.
fn credentials() -> Credentials {
    static SHARED: OnceLock<Credentials> = OnceLock::new();
    SHARED.get_or_init(|| Credentials::new(Box::new(|| credentials_provider().boxed()))).clone()
}

/// Creates the credentials provider of the settings.
async fn credentials_provider() -> Result<SharedCredentialsProvider, ConnectError> {
    let mut shared = load(|loader| loader).await?;
    // The clients that fetch credentials refuse requests with both, as those of this program do.
    if service::signs_in_at_given_endpoint(&shared) {
        shared = load(|loader| loader.use_fips(false).use_dual_stack(false)).await?;
    }
    shared.credentials_provider().ok_or(ConnectError::NoProvider)
}

/// Loads the settings of all services.
async fn loaded() -> Result<SdkConfig, ConnectError> {
    static LOGGED: Once = Once::new();
    // The cache of the SDK would hold what this program's own has dropped.
    let adapt =
        |loader: ConfigLoader| loader.credentials_provider(credentials()).identity_cache(IdentityCache::no_cache());
    let shared = load(adapt).await?;
    service::check_switches(&shared)?;
    files::log_problems().await;
    let ignored = service::ignored_retry_settings(&shared);
    if !ignored.is_empty() {
        LOGGED.call_once(|| {
            tracing::debug!("ignoring {}: this program retries requests itself (--retries)", ignored.join(", "));
        });
    }
    Ok(shared)
}

/// Loads the settings of the environment and the profile, with the certificates that they name.
async fn load(adapt: impl Fn(ConfigLoader) -> ConfigLoader) -> Result<SdkConfig, ConnectError> {
    let of_environment = set_variable("AWS_CA_BUNDLE");
    let shared = adapt(loader(of_environment.as_deref())?).load().await;
    match service::ca_bundle_of_profile(&shared).filter(|_| of_environment.is_none()) {
        Some(path) => Ok(adapt(loader(Some(&path))?).load().await),
        None => Ok(shared),
    }
}

fn loader(ca_bundle: Option<&str>) -> Result<ConfigLoader, ConnectError> {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client(ca_bundle)?)
        .env(environment::environment())
        // Not those of the settings, which end the process if the SDK does not know a value.
        .retry_config(RetryConfig::standard())
        // Of the clients that fetch credentials.
        .timeout_config(timeouts(None));
    Ok(loader)
}

/// Returns the timeouts of a request: one for the connection, and `attempt` for each attempt as a whole.
pub(crate) fn timeouts(attempt: Option<Duration>) -> TimeoutConfig {
    let mut timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
    timeouts.set_operation_attempt_timeout(attempt);
    timeouts.build()
}
