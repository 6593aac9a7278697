//! The SDK's client: it neither retries nor computes checksums, and it passes each response's Date to the clock.

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
use super::idle_timeout::FollowConnections;
use crate::aws::{self, ConnectError, Credentials, Service, Settings};
use crate::bucket::Bucket;
use crate::partition;

/// How to reach the server.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `None`: the URL from the AWS settings, or AWS itself.
    pub(crate) url: Option<String>,
    /// Whether the path names the bucket. `None`: if there is a URL.
    pub(crate) path_style: Option<bool>,
    /// The region if the AWS settings name none.
    pub(crate) region: Option<String>,
}

/// Returns the client, the server's URL if it is not AWS, and what the client signs requests with.
pub(super) async fn connect(
    bucket: &Bucket,
    endpoint: &Endpoint,
    clock: &Arc<ServerClock>,
) -> Result<(aws_sdk_s3::Client, Option<String>, Credentials), ConnectError> {
    let Settings { shared, url, credentials } = aws::settings(Service::S3, endpoint.url.as_deref()).await?;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        // One attempt: `send` retries, counts and limits requests itself.
        .retry_config(RetryConfig::disabled())
        // `send` applies the idle timeout of each operation.
        .timeout_config(aws::timeouts(None))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Checksums are computed from memory before a request is sent, and are sent as headers.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(ObserveDate(Arc::clone(clock)))
        .interceptor(FollowConnections)
        // The run refuses directory buckets. Not set, the SDK would warn about an empty variable.
        .disable_s3_express_session_auth(false)
        // As in the AWS CLI, an ARN says where its access point is; it is never in the path.
        .use_arn_region(true)
        .force_path_style(!bucket.is_arn() && endpoint.path_style.unwrap_or(url.is_some()));
    config.set_endpoint_url(url.clone());
    if let Some((of_arn, region)) = bucket.partition().zip(shared.region()) {
        check_partition(of_arn, region)?;
    }
    if shared.region().is_none() {
        // Servers other than AWS accept any region, and most of their users set none.
        let default = url.as_ref().map(|_| Region::from_static("us-east-1"));
        let known = bucket.region().map(str::to_owned).or_else(|| endpoint.region.clone());
        config.set_region(known.map(Region::new).or(default));
    }
    Ok((aws_sdk_s3::Client::from_conf(config.build()), url, credentials))
}

/// Checks that an ARN is in the partition of the region, as the SDK requires.
fn check_partition(of_arn: &str, region: &Region) -> Result<(), ConnectError> {
    let of_region = partition::of_region(region.as_ref());
    if of_arn == of_region {
        return Ok(());
    }
    Err(ConnectError::OtherPartition { of_arn: of_arn.to_owned(), region: region.to_string(), of_region })
}

/// Passes the time of a request and the Date of its response to the clock.
#[derive(Debug)]
struct ObserveDate(Arc<ServerClock>);

#[derive(Debug)]
struct SentAt(SystemTime);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ObserveDate {
    fn name(&self) -> &'static str {
        "ObserveDate"
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
