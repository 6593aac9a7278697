//! `NO_PROXY`: the hosts that requests reach directly.
//!
//! The rules are those of the AWS CLI, and networks in addition. Entries are separated by commas:
//!
//! | entry | requests |
//! |---|---|
//! | `*` | all |
//! | `example.com`, `.example.com` | to this host and to all hosts below it |
//! | `example.com:8443` | the same, to this port |
//! | `10.1.2.3`, `[::1]` | to this address |
//! | `10.0.0.0/8`, `fd00::/8` | to the addresses of this network; a host name is not resolved |

use std::net::IpAddr;

use ipnet::IpNet;

/// The entries of `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug)]
enum Entry {
    Everything,
    Network(IpNet),
    /// A name or an address, and perhaps a port.
    Host {
        name: String,
        port: Option<u16>,
    },
}

impl NoProxy {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Entry::parse).collect())
    }

    /// Whether a request to this host and port is sent directly. An IPv6 address has no brackets.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|entry| entry.covers(host, port))
    }
}

impl Entry {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Everything;
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Self::Network(network);
        }
        let (name, port) = match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) if text.parse::<IpAddr>().is_err() => (name, Some(port)),
            _ => (text, None),
        };
        let name = name.trim_start_matches('.').trim_start_matches('[').trim_end_matches(']');
        Self::Host { name: name.to_ascii_lowercase(), port }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address)),
            Self::Host { port: Some(only), .. } if *only != port => false,
            Self::Host { name, .. } => {
                let host = host.to_ascii_lowercase();
                let above = host.strip_suffix(name.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_what_the_aws_cli_says() {
        for (text, host, port, covered) in [
            ("", "s3.example.com", 443, false),
            ("*", "s3.example.com", 443, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "s3.example.com", 80, true),
            ("example.com", "notexample.com", 443, false),
            (".example.com", "s3.example.com", 443, true),
            (".example.com", "example.com", 443, true),
            (".example.com", "example.com.evil.test", 443, false),
            ("EXAMPLE.com", "S3.Example.COM", 443, true),
            ("example.com:8443", "s3.example.com", 8443, true),
            ("example.com:8443", "s3.example.com", 443, false),
            ("localhost, 10.0.0.0/8 ,x", "10.200.1.2", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("10.0.0.0/8", "ten.example.com", 80, false),
            ("127.0.0.1", "127.0.0.1", 9000, true),
            ("127.0.0.1:9000", "127.0.0.1", 9000, true),
            ("127.0.0.1:9000", "127.0.0.1", 9001, false),
            ("::1", "::1", 80, true),
            ("[::1]", "::1", 80, true),
            ("[::1]:9000", "::1", 9000, true),
            ("[::1]:9000", "::1", 9001, false),
            ("fd00::/8", "fd00:ec2::254", 80, true),
            ("fd00::/8", "fe80::1", 80, false),
        ] {
            assert_eq!(NoProxy::parse(text).covers(host, port), covered, "{text} and {host}:{port}");
        }
    }
}
