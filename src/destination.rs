//! The destination: a prefix of a bucket, and the requests that this program makes there.
//!
//! The only home of the S3 SDK. What leaves this module are this program's own types.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::aws::ConnectError;
use crate::fence::Fence;
use crate::key::Prefix;
use crate::location::Location;
use crate::shutdown::Shutdown;

pub mod checksum;
mod client;
mod clock;
pub mod copy;
pub mod delete;
pub mod error;
pub mod get;
pub mod head;
pub mod headers;
mod limit;
pub mod list;
pub mod multipart;
pub mod operation;
mod patience;
pub mod put;
mod send;

pub use client::Endpoint;
pub use put::Expected;

use checksum::Algorithm;
use clock::ServerClock;
use error::{ErrorKind, S3Error};
use limit::RequestLimit;
use operation::Requests;
use send::{Bandwidth, Sender};

/// How requests are sent.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// How many requests at once, at most.
    pub concurrency: usize,
    /// How often a request is sent again.
    pub retries: u32,
    /// A limit of bytes sent in a second.
    pub bandwidth: Option<u64>,
    /// The checksum that goes with each upload.
    pub checksum: Option<Algorithm>,
    /// The account that the bucket must belong to.
    pub expected_owner: Option<String>,
    /// Where requests are counted: of all places that one run speaks to.
    pub requests: Arc<Requests>,
    /// Whether the run may still write.
    pub fence: Fence,
}

/// A prefix of a bucket.
#[derive(Debug)]
pub struct Destination {
    client: aws_sdk_s3::Client,
    endpoint_url: Option<String>,
    bucket: String,
    prefix: Prefix,
    expected_owner: Option<String>,
    checksum: Option<Algorithm>,
    sender: Sender,
    clock: Arc<ServerClock>,
    conditional_writes: AtomicBool,
}

impl Destination {
    /// Loads the AWS configuration and prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// Where the configuration names what cannot be used.
    pub async fn connect(
        location: &Location,
        endpoint: &Endpoint,
        options: SendOptions,
        shutdown: Shutdown,
    ) -> Result<Self, ConnectError> {
        let clock = Arc::new(ServerClock::default());
        let (client, endpoint_url) = client::connect(endpoint, &clock).await?;
        Ok(Self {
            client,
            endpoint_url,
            bucket: location.bucket.as_str().to_owned(),
            prefix: location.prefix.clone(),
            expected_owner: options.expected_owner,
            checksum: options.checksum,
            sender: Sender {
                limit: RequestLimit::new(options.concurrency),
                requests: options.requests,
                bandwidth: options.bandwidth.map(Bandwidth::new),
                retries: options.retries,
                fence: options.fence,
                shutdown,
            },
            clock,
            conditional_writes: AtomicBool::new(true),
        })
    }

    /// What keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The requests sent so far, to the other places of the run too.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.sender.requests
    }

    /// How far S3's clock and the host's may be apart.
    #[must_use]
    pub fn clock_difference(&self) -> Duration {
        self.clock.difference()
    }

    /// How many requests may ever be under way at once.
    #[must_use]
    pub fn most_requests(&self) -> usize {
        self.sender.limit.most()
    }

    /// The checksum that goes with each upload.
    #[must_use]
    pub fn checksum(&self) -> Option<Algorithm> {
        self.checksum
    }

    /// Returns the fence that each write checks.
    pub(crate) const fn fence(&self) -> &Fence {
        &self.sender.fence
    }

    /// Whether the server has conditional writes, as far as is known.
    #[must_use]
    pub fn writes_are_conditional(&self) -> bool {
        self.conditional_writes.load(Ordering::Relaxed)
    }

    fn without_conditions(&self, error: &S3Error) {
        if self.conditional_writes.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "this server has no conditional writes: an object that somebody else writes during the run may be overwritten");
        }
    }

    /// What a person needs to know of an error that concerns the bucket as a whole.
    #[must_use]
    pub fn explain(&self, error: &S3Error) -> String {
        let bucket = &self.bucket;
        let advice = match (error.code.as_deref(), error.kind) {
            (Some("NoSuchBucket"), _) => format!("the bucket '{bucket}' does not exist: check the name, the account and the region"),
            (Some("AccessDenied"), _) | (_, ErrorKind::Denied) => {
                format!("access to bucket '{bucket}' is denied: it takes s3:ListBucket on the bucket, s3:PutObject, s3:GetObject and s3:DeleteObject on its objects")
            }
            (Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"), _) => match &error.region {
                Some(region) => format!("the bucket '{bucket}' is in the region {region}: set AWS_REGION={region}"),
                None => format!("the bucket '{bucket}' is in another region: set AWS_REGION to it"),
            },
            (Some("InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken"), _) => {
                "S3 does not take these credentials: check the task's role, the profile or AWS_ACCESS_KEY_ID".to_owned()
            }
            (_, ErrorKind::Unusable) if error.message.contains("credential") && !error.message.contains("no credentials") => {
                "the credentials cannot be fetched from where they are configured".to_owned()
            }
            (_, ErrorKind::Unusable) if error.message.contains("credential") => match configured_profile() {
                Some(profile) => format!("no credentials found in the profile '{profile}' (AWS_PROFILE) or elsewhere: check its name and the files in ~/.aws"),
                None => "no credentials found: give the task a role, set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
            },
            (_, ErrorKind::Unusable) if error.message.contains("region") => "no region is set: set AWS_REGION".to_owned(),
            (_, ErrorKind::Unreachable) => format!("bucket '{bucket}' cannot be reached{}", self.endpoint_hint()),
            _ => format!("bucket '{bucket}' cannot be used"),
        };
        format!("{advice} ({error})")
    }

    fn endpoint_hint(&self) -> String {
        self.endpoint_url.as_ref().map_or_else(
            || ": check the network, the VPC endpoint and AWS_REGION".to_owned(),
            |url| format!(" at {url}"),
        )
    }
}

fn configured_profile() -> Option<String> {
    std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty())
}
