//! The SDK's client, set up on purpose: no retries of its own, no checksums of its own, and each answer's Date noted.

use std::sync::Arc;
use std::time::SystemTime;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::clock::ServerClock;
use crate::aws::{self, ConnectError};

/// How to reach the server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server, where it is not AWS.
    pub url: Option<String>,
    /// Whether the bucket stands in the path; `None`: wherever a URL is given.
    pub path_style: Option<bool>,
    /// The region, where the AWS settings name none.
    pub region: Option<String>,
}

/// The client, and the server's URL where it is not AWS.
pub(super) async fn connect(
    endpoint: &Endpoint,
    clock: &Arc<ServerClock>,
) -> Result<(aws_sdk_s3::Client, Option<String>), ConnectError> {
    let shared = aws::settings().await?;
    let configured = aws::endpoint(&shared, "AWS_ENDPOINT_URL_S3");
    let url = endpoint.url.clone().or(configured.url);
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        // One attempt each: the retry loop in `send` counts, spaces and limits them.
        .retry_config(RetryConfig::disabled())
        // Silence is judged in `send`, which knows how long each operation may be silent.
        .timeout_config(aws::timeouts(None))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Checksums are computed from memory before a request is sent, and go as headers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(NoteDate(Arc::clone(clock)))
        .force_path_style(endpoint.path_style.unwrap_or(url.is_some()));
    if endpoint.url.is_some() || configured.overrides {
        config.set_endpoint_url(url.clone());
    }
    if shared.region().is_none() {
        // Servers other than AWS take any region, and most users of one set none.
        let elsewhere = url.as_ref().map(|_| Region::from_static("us-east-1"));
        config.set_region(endpoint.region.clone().map(Region::new).or(elsewhere));
    }
    Ok((aws_sdk_s3::Client::from_conf(config.build()), url))
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
