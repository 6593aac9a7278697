//! A store: the servers that share one set of buckets. The names of buckets are unique within it.

use std::fmt;

use crate::partition;

/// A partition of AWS, or the server at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store(String);

/// The domains of AWS's own endpoints: FIPS, dual-stack and VPC endpoints lead to the same buckets.
const DOMAINS_OF_AWS: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "amazonaws.eu"];

impl Store {
    /// The store at a custom URL, or else the one of a region.
    #[must_use]
    pub fn at(url: Option<&str>, region: Option<&str>) -> Self {
        if let Some(server) = url.map(server_of).filter(|server| !is_of_aws(server)) {
            return Self(server);
        }
        Self(partition::of_region(region.unwrap_or_default()).to_owned())
    }
}

/// The URL without credentials, query, usual port and trailing slash.
fn server_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let scheme = scheme.to_ascii_lowercase();
    let usual_port = if scheme == "http" { ":80" } else { ":443" };
    format!("{scheme}://{}{}", host.strip_suffix(usual_port).unwrap_or(&host), path.trim_end_matches('/'))
}

fn is_of_aws(server: &str) -> bool {
    let host = server.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    DOMAINS_OF_AWS.iter().any(|domain| host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')))
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_the_same_buckets_are_one_store() {
        let store = |url, region| Store::at(url, Some(region)).to_string();
        assert_eq!(store(None, "eu-west-1"), "aws");
        assert_eq!(store(None, "us-east-1"), "aws");
        assert_eq!(store(None, "cn-north-1"), "aws-cn");
        assert_eq!(store(None, "us-gov-west-1"), "aws-us-gov");
        for url in [
            "https://s3-fips.us-east-1.amazonaws.com",
            "https://s3.dualstack.us-east-1.amazonaws.com/",
            "https://bucket.vpce-1a2b3c4d.s3.us-east-1.vpce.amazonaws.com",
            "https://S3.us-east-1.api.aws:443",
        ] {
            assert_eq!(store(Some(url), "us-east-1"), "aws", "{url}");
        }
        assert_eq!(store(Some("https://s3.cn-north-1.amazonaws.com.cn"), "cn-north-1"), "aws-cn");
        let minio = "http://minio.local:9000";
        for url in ["http://minio.local:9000", "http://user:secret@minio.local:9000/", "HTTP://MINIO.local:9000?x=1"] {
            assert_eq!(store(Some(url), "us-east-1"), minio, "{url}");
        }
        assert_eq!(store(Some("https://s3.example:443/a/"), "us-east-1"), "https://s3.example/a");
        for url in ["http://127.0.0.1:9001", "https://notamazonaws.com", "http://minio.local:9000/other"] {
            assert_ne!(store(Some(url), "us-east-1"), minio);
            assert_ne!(store(Some(url), "us-east-1"), "aws", "{url}");
        }
    }
}
