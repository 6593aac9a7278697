//! A service of AWS: its endpoint, and what the settings mean for its clients.
//!
//! If an endpoint is given, it wins over `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`, as in the AWS CLI: the
//! SDK refuses every request that has both.

use std::sync::Mutex;

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::{ConnectError, environment};
use crate::endpoint_url::EndpointUrl;

/// A service that this program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    DataSync,
    Ecs,
}

/// A setting that is true or false.
struct Switch {
    endpoints: &'static str,
    variable: &'static str,
    name: &'static str,
}

const FIPS: Switch = Switch { endpoints: "FIPS", variable: "AWS_USE_FIPS_ENDPOINT", name: "use_fips_endpoint" };
const DUAL_STACK: Switch =
    Switch { endpoints: "dual-stack", variable: "AWS_USE_DUALSTACK_ENDPOINT", name: "use_dualstack_endpoint" };

/// The services whose clients have logged their ignored settings.
static LOGGED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

impl Service {
    /// The ID of the service, which is part of the names of its variables: `AWS_ENDPOINT_URL_S3`.
    const fn id(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::DataSync => "DataSync",
            Self::Ecs => "ECS",
        }
    }

    /// Returns the endpoint that the environment or the profile names for this service, or for all.
    pub(super) fn configured_endpoint(self, shared: &SdkConfig) -> Result<Option<String>, ConnectError> {
        let url = setting(shared, self.id(), "AWS_ENDPOINT_URL", "endpoint_url");
        Ok(match url.or_else(|| shared.endpoint_url().map(str::to_owned)).filter(|url| !url.is_empty()) {
            Some(url) => Some(url.parse::<EndpointUrl>()?.to_string()),
            None => None,
        })
    }

    /// Returns the settings for this service, with the endpoint if there is one.
    pub(super) fn with_endpoint(self, shared: &SdkConfig, url: Option<&str>) -> SdkConfig {
        let mut builder = shared.clone().into_builder();
        let Some(url) = url else {
            return builder.build();
        };
        let settings = [(&FIPS, shared.use_fips()), (&DUAL_STACK, shared.use_dual_stack())];
        let ignored: Vec<&Switch> =
            settings.into_iter().filter_map(|(switch, is_set)| (is_set == Some(true)).then_some(switch)).collect();
        builder.set_use_fips(None);
        builder.set_use_dual_stack(None);
        if !ignored.is_empty() && self.is_first_to_log() {
            let names: Vec<&str> = ignored.iter().map(|switch| switch.endpoints).collect();
            let variables: Vec<&str> = ignored.iter().map(|switch| switch.variable).collect();
            tracing::warn!(
                "{} requests go to the given endpoint {url}: ignoring the setting for {} endpoints ({} or the profile)",
                self.id(),
                names.join(" and "),
                variables.join(", ")
            );
        }
        builder.build()
    }

    /// Whether no client of this service has logged its ignored settings.
    fn is_first_to_log(self) -> bool {
        let mut logged = LOGGED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_first = !logged.contains(&self.id());
        if is_first {
            logged.push(self.id());
        }
        is_first
    }
}

/// Returns a setting of the environment or the profile: that of a service, or else that of all.
fn setting(shared: &SdkConfig, service_id: &str, variable: &str, name: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service_id).env(variable).profile(name).build().ok()?;
    shared.service_config()?.load_config(key)
}

/// Returns the file of certificates that the profile names.
pub(super) fn ca_bundle_of_profile(shared: &SdkConfig) -> Option<String> {
    setting(shared, "S3", "", "ca_bundle").filter(|path| !path.is_empty())
}

/// Checks the settings that choose endpoints: the SDK would ignore a value that it does not know.
///
/// # Errors
/// Returns an error if one is neither true nor false.
pub(super) fn check_switches(shared: &SdkConfig) -> Result<(), ConnectError> {
    for Switch { variable, name, .. } in [FIPS, DUAL_STACK] {
        let value = setting(shared, "S3", variable, name);
        if value.is_some_and(|value| !["true", "false"].contains(&value.trim().to_ascii_lowercase().as_str())) {
            return Err(ConnectError::NoSwitch { variable, name });
        }
    }
    Ok(())
}

/// Whether the settings give the endpoint of a service that fetches credentials.
pub(super) fn signs_in_at_given_endpoint(shared: &SdkConfig) -> bool {
    ["STS", "SSO", "SSO OIDC"].iter().any(|id| setting(shared, id, "AWS_ENDPOINT_URL", "endpoint_url").is_some())
}

/// Returns the names of the settings of the SDK's retries that the environment or the profile has.
pub(super) fn ignored_retry_settings(shared: &SdkConfig) -> Vec<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some();
    let of_environment = environment::RETRY_VARIABLES.into_iter().filter(is_set);
    let of_profile = ["retry_mode", "max_attempts"];
    let of_profile = of_profile.into_iter().filter(|name| setting(shared, "S3", "", name).is_some());
    of_environment.chain(of_profile).collect()
}
