//! The destination: a prefix of a bucket, and the requests that this program sends there.
//!
//! The only home of the S3 SDK: what leaves this module is of this program's own types. A function that sends a request
//! returns an error if S3 refuses the request, or does not respond to any of its attempts.
//!
//! Its methods are in the file of their request: `page` in `list`, `head` and `object` in `head`, `get` in `get`, `put`
//! in `put`, `create_upload` in `multipart`, `rewrite` in `copy`, `tags` in `tags`, `delete_request` in `delete`. `send`
//! retries all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::aws::{ConnectError, Proxy, proxy_to, set_variable};
use crate::bucket::Bucket;
use crate::fence::Fence;
use crate::key::Prefix;
use crate::location::Location;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::time::EpochNanos;

mod body;
pub(crate) mod checksum;
mod client;
mod clock;
pub(crate) mod copy;
pub(crate) mod delete;
mod document;
pub(crate) mod error;
pub(crate) mod get;
pub(crate) mod head;
pub(crate) mod headers;
mod idle_timeout;
mod limit;
pub(crate) mod list;
mod media_type;
pub(crate) mod multipart;
pub(crate) mod operation;
pub(crate) mod outage;
mod pace;
mod proof;
mod proven_page;
pub(crate) mod put;
mod send;
mod send_queue;
pub(crate) mod sent_content;
mod tags;
pub(crate) mod write_headers;

pub(crate) use client::Endpoint;
pub(crate) use proof::WriteProof;
pub(crate) use send::Admission;

use checksum::Algorithm;
use clock::ServerClock;
use error::{CHECK_THE_SECRET_KEY, CORRECT_THE_CLOCK, ErrorKind, GivenUp, S3Error};
use headers::Encryption;
use limit::RequestLimit;
use operation::Requests;
use outage::{Attempts, Outages};
use send::{Bandwidth, Sender};

/// An endpoint of AWS, which selects the proxy if no endpoint is given.
const OF_AWS: &str = "https://s3.amazonaws.com";

/// How requests are sent.
#[derive(Clone, Debug)]
pub(crate) struct SendOptions {
    /// The most requests in flight.
    pub(crate) concurrency: usize,
    /// How often a request is retried, if the user limits it.
    pub(crate) retries: Option<u32>,
    /// How long no request may succeed until the run gives up.
    pub(crate) outage_timeout: Duration,
    /// The most bytes sent in a second.
    pub(crate) bandwidth: Option<u64>,
    /// The checksum that goes with each upload.
    pub(crate) checksum: Option<Algorithm>,
    /// The encryption of everything that the run writes. `None`: the bucket's default.
    pub(crate) encryption: Option<Encryption>,
    /// The account that the bucket must belong to.
    pub(crate) expected_owner: Option<String>,
    /// Counts the requests to all prefixes that one run uses.
    pub(crate) requests: Arc<Requests>,
    /// Whether the run may still write.
    pub(crate) fence: Fence,
}

/// A prefix of a bucket.
#[derive(Debug)]
pub struct Destination {
    client: aws_sdk_s3::Client,
    endpoint_url: Option<String>,
    store: Store,
    bucket: Bucket,
    prefix: Prefix,
    expected_owner: Option<String>,
    checksum: Option<Algorithm>,
    encryption: Option<Encryption>,
    sender: Sender,
    clock: Arc<ServerClock>,
    conditional_writes: AtomicBool,
}

impl Destination {
    /// Loads the AWS settings and prepares a client. Sends nothing.
    pub(crate) async fn connect(
        location: &Location,
        endpoint: &Endpoint,
        options: SendOptions,
        shutdown: Shutdown,
    ) -> Result<Self, ConnectError> {
        let clock = Arc::new(ServerClock::default());
        let (client, endpoint_url, credentials) = client::connect(&location.bucket, endpoint, &clock).await?;
        let region = client.config().region().map(ToString::to_string);
        let store = Store::at(endpoint_url.as_deref(), location.bucket.region().or(region.as_deref()));
        Ok(Self {
            client,
            endpoint_url,
            store,
            bucket: location.bucket.clone(),
            prefix: location.prefix.clone(),
            expected_owner: options.expected_owner,
            checksum: options.checksum,
            encryption: options.encryption,
            sender: Sender {
                credentials,
                why_foreign: location.bucket.why_foreign().map(str::to_owned),
                limit: RequestLimit::new(options.concurrency),
                requests: options.requests,
                bandwidth: options.bandwidth.map(Bandwidth::new),
                outages: Outages::new(location.bucket.as_str(), options.outage_timeout, options.retries),
                fence: options.fence,
                shutdown,
            },
            clock,
            conditional_writes: AtomicBool::new(true),
        })
    }

    pub(crate) fn bucket(&self) -> &str {
        self.bucket.as_str()
    }

    /// The servers that hold the bucket.
    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The requests that the run has sent so far, including those to its other prefixes.
    pub fn requests(&self) -> &Requests {
        &self.sender.requests
    }

    /// The most that S3's clock can differ from the host's.
    pub(crate) fn clock_difference(&self) -> Duration {
        self.clock.difference()
    }

    /// The latest time that S3's clock can show now. An object with a later date was written by another clock.
    pub(crate) fn latest_time(&self) -> EpochNanos {
        self.clock.latest()
    }

    /// The most requests that can ever be in flight.
    pub(crate) fn max_requests(&self) -> usize {
        self.sender.limit.max()
    }

    /// How long no request may succeed until the run gives up.
    pub(crate) const fn outage_timeout(&self) -> Duration {
        self.sender.outages.timeout()
    }

    /// Waits before the next attempt of a request that the caller repeats, because the body of its response breaks off.
    ///
    /// # Errors
    /// Returns the error if the run gives the request up.
    pub(crate) async fn retry(&self, attempts: &mut Attempts, error: S3Error) -> Result<(), S3Error> {
        self.sender.retry(attempts, error).await
    }

    /// The checksum that goes with each upload.
    pub(crate) fn checksum(&self) -> Option<Algorithm> {
        self.checksum
    }

    /// The fence that each write checks.
    pub(crate) const fn fence(&self) -> &Fence {
        &self.sender.fence
    }

    /// Whether the server has conditional writes. `true` until the server refuses one.
    pub(crate) fn has_conditional_writes(&self) -> bool {
        self.conditional_writes.load(Ordering::Relaxed)
    }

    fn disable_conditional_writes(&self, error: &S3Error) {
        if self.conditional_writes.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "this server has no conditional writes: the run may overwrite what another writer writes during the run");
        }
    }

    /// Whether this is the destination of a task to which this program cannot write.
    pub(crate) fn is_foreign(&self) -> bool {
        self.bucket.why_foreign().is_some()
    }

    /// Why S3 may have refused this request because of the bucket's owner, if an owner is expected. S3 gives the same error
    /// for a missing permission. DataSync knows no expected owner.
    pub(crate) fn other_owner(&self, error: &S3Error) -> Option<String> {
        let owner = self.expected_owner.as_ref().filter(|_| error.is_denied_by_s3())?;
        let bucket = &self.bucket;
        Some(format!(
            "S3 denies access to bucket '{bucket}' with --expected-bucket-owner {owner}: check that this account owns the \
             bucket, and allow s3:ListBucket"
        ))
    }

    /// The proxy of this run's requests, if there is one.
    fn proxy(&self) -> Option<Proxy> {
        proxy_to(self.endpoint_url.as_deref().unwrap_or(OF_AWS))
    }

    /// Returns what the user must know and do about an error that concerns the whole bucket.
    pub(crate) fn explain(&self, error: &S3Error) -> String {
        let bucket = &self.bucket;
        let wants_user = || match self.proxy() {
            Some(proxy) if proxy.has_user() => {
                format!("{proxy} refuses the user or the password in {}: correct them", proxy.variable())
            }
            Some(proxy) => {
                format!(
                    "{proxy} wants a user and a password: write {} as http://user:password@host:port",
                    proxy.variable()
                )
            }
            None => "a proxy wants a user and a password".to_owned(),
        };
        let the_proxy = || self.proxy().map_or_else(|| "the proxy".to_owned(), |proxy| proxy.to_string());
        let advice = match (error.code.as_deref(), error.kind) {
            (Some("NoSuchBucket"), _) => format!("the bucket '{bucket}' does not exist: check the name, the account and the region"),
            (None, _) if error.is_foreign && error.status == Some(407) && self.proxy().is_some() => wants_user(),
            (None, _) if error.is_foreign => match self.proxy() {
                Some(proxy) => format!("{proxy}, or something else between this program and S3, responds to the requests for bucket '{bucket}': check that proxy, its user and password, and the endpoint"),
                None if error.is_bare => format!("nothing shows that S3 responds to the requests for bucket '{bucket}': check the endpoint, and the gateways and firewalls on the way to it"),
                None => format!("something between this program and S3 responds to the requests for bucket '{bucket}': check the endpoint, and the gateways and firewalls on the way to it"),
            },
            _ if error.is_of_wrong_signature() => format!("S3 does not accept the signature: {CHECK_THE_SECRET_KEY}"),
            (Some("AccessDenied"), _) | (_, ErrorKind::Denied) => {
                format!("S3 denies access to bucket '{bucket}': allow s3:ListBucket on the bucket, and s3:PutObject, s3:GetObject and s3:DeleteObject on its objects")
            }
            (Some("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"), _) => match &error.region {
                Some(region) => format!("the bucket '{bucket}' is in the region {region}: set AWS_REGION={region}"),
                None => format!("the bucket '{bucket}' is in another region: set AWS_REGION to that region"),
            },
            (Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired"), _) => {
                "S3 does not accept these credentials: renew the session (after `aws sso login`, for example), or give the task a role".to_owned()
            }
            (_, ErrorKind::Expired | ErrorKind::Credentials) => {
                "S3 does not accept these credentials: check the task's role, the profile or AWS_ACCESS_KEY_ID".to_owned()
            }
            (_, ErrorKind::Settings) if error.message.contains("credential") && !error.message.contains("no credentials") => {
                "cannot fetch the credentials from their configured source: check that source and its settings".to_owned()
            }
            (_, ErrorKind::Settings) if error.message.contains("credential") => match set_variable("AWS_PROFILE") {
                Some(profile) => format!("found no credentials in the profile '{profile}' (AWS_PROFILE) or elsewhere: check its name and the files in ~/.aws"),
                None => "found no credentials: give the task a role, set AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
            },
            (_, ErrorKind::Settings) if error.message.contains("region") => "no region is set: set AWS_REGION".to_owned(),
            (_, ErrorKind::Settings) if error.message.contains("invalid peer certificate") => {
                "cannot verify the certificate of S3 or of a proxy in between: set AWS_CA_BUNDLE to a file with the authority that issued it (PEM)".to_owned()
            }
            (_, ErrorKind::Settings) if error.message.contains("proxy authorization") => wants_user(),
            (_, ErrorKind::Unreachable) if error.message.ends_with("tunnel error: unsuccessful") => {
                let url = self.endpoint_url.as_deref().and_then(|url| url.parse::<http::Uri>().ok());
                let host = url.as_ref().and_then(http::Uri::host).unwrap_or("S3");
                format!("{} refuses a connection to {host}: allow the host at the proxy, or add it to NO_PROXY", the_proxy())
            }
            (_, ErrorKind::Unreachable) if error.message.contains("tunnel error") => {
                format!("cannot reach bucket '{bucket}' through {}: check the proxy", the_proxy())
            }
            (_, ErrorKind::Unreachable) => {
                let (at, check) = match &self.endpoint_url {
                    Some(url) => (format!(" at {url}"), "the URL and the network"),
                    None => (String::new(), "the network, the VPC endpoint and AWS_REGION"),
                };
                let Some(time) = error.outage() else {
                    return format!("cannot reach bucket '{bucket}'{at}: check {check} ({error})");
                };
                return format!(
                    "cannot reach bucket '{bucket}'{at} for {}: check {check}, then run again; if outages last longer, pass a longer --outage-timeout ({}: {})",
                    error::shown(time), error.operation.name(), error.last_cause()
                );
            }
            _ if error.is_of_wrong_clock() => CORRECT_THE_CLOCK.to_owned(),
            (_, ErrorKind::Throttled | ErrorKind::Transient) if error.status.is_some_and(|status| status >= 400) => {
                let operation = error.operation.name();
                match error.given_up.as_deref() {
                    Some(GivenUp::Outage(time)) => format!("S3 did not accept {operation} for bucket '{bucket}' for {}: run again later, or pass a longer --outage-timeout", error::shown(*time)),
                    Some(GivenUp::Retries(retries)) => format!("S3 did not accept {operation} for bucket '{bucket}', and --retries {retries} allows no other attempt: run again later"),
                    Some(GivenUp::Alone(_) | GivenUp::Inside(_)) | None => format!("S3 did not accept {operation} for bucket '{bucket}': run again later"),
                }
            }
            _ => format!("cannot use bucket '{bucket}'"),
        };
        format!("{advice} ({error})")
    }
}
