//! An endpoint URL: the address of a server. It holds no secret, so it may be logged, recorded and reported.

use std::fmt;
use std::str::FromStr;

/// `http://` or `https://`, a host, and perhaps a port and a path: no user, password, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointUrl(String);

/// Why a text is not an endpoint URL. The message of a text that may hold a secret does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointUrlError {
    #[error(
        "the URL holds a user name, a password or a query, which would appear in plans and logs: write it as \
         https://host or http://host:port, and pass credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    Secret,
    #[error("'{0}' is not a URL: write it as https://host or http://host:port")]
    NotAUrl(String),
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        // Also in a text that is not a URL: it may be one with a mistake.
        if text.contains(['@', '?', '#']) || text.to_ascii_lowercase().contains("%40") {
            return Err(EndpointUrlError::Secret);
        }
        let lower = text.to_ascii_lowercase();
        let host = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.starts_with('/') && !text.contains(char::is_whitespace) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(EndpointUrlError::NotAUrl(text.to_owned())),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url() {
        for text in ["http://127.0.0.1:9000", "https://s3.example.com/gateway", "http://[::1]:9000", "HTTPS://host"] {
            assert_eq!(text.parse::<EndpointUrl>().unwrap().to_string(), text);
        }
        for text in ["127.0.0.1:9000", "https://", "ftp://x", "http:///x", "http://a b", ""] {
            assert!(matches!(text.parse::<EndpointUrl>(), Err(EndpointUrlError::NotAUrl(_))), "{text}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_repeated() {
        for text in [
            "http://user:hunter2@host",
            "http://hunter2@host",
            "user:hunter2@host:9000",
            "https://host/?token=hunter2",
            "https://host#hunter2",
            "https://user:hunter2%40host",
        ] {
            let error = text.parse::<EndpointUrl>().unwrap_err();
            assert_eq!(error, EndpointUrlError::Secret, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
