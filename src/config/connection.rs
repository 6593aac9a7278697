//! Connection: how the run reaches S3.

use crate::cli::{Addressing, S3Args};
use crate::destination::Endpoint;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) endpoint: Endpoint,
    /// The account that must own the bucket.
    pub(super) expected_owner: Option<String>,
}

impl Connection {
    pub(super) fn new(args: S3Args) -> Self {
        let path_style = match args.addressing {
            Addressing::Auto => None,
            Addressing::Path => Some(true),
            Addressing::Virtual => Some(false),
        };
        let endpoint = Endpoint { url: args.endpoint_url, path_style, region: None };
        Self { endpoint, expected_owner: args.expected_bucket_owner }
    }
}
