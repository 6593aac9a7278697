//! The proxies of the environment, and which requests they get (`DESIGN.md#proxies`).
//!
//! 1. `HTTPS_PROXY` is for requests to `https://`, `HTTP_PROXY` for those to `http://`. `NO_PROXY` names exceptions.
//! 2. A lower-case name wins, also with an empty value, which means no proxy. `ALL_PROXY` is ignored. The AWS CLI does the
//!    same.
//! 3. No proxy gets a request to a link-local address or to the endpoint of the container's or instance's credentials:
//!    it could not reach them, and must not see what they respond.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use http::Uri;
use http::uri::Scheme;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::no_proxy::NoProxy;

/// The variables that may name an endpoint of credentials on any address.
const CREDENTIALS_ENDPOINTS: &[&str] = &["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"];

/// The way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    HttpProxy,
    HttpsProxy,
}

/// The proxies, and the requests that they do not get.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    pub(super) http: Option<Proxy>,
    pub(super) https: Option<Proxy>,
    no_proxy: NoProxy,
    /// Hosts and ports that give out credentials.
    credentials: Vec<(String, u16)>,
}

/// Why a variable does not name a proxy. The message does not repeat the value, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is not the URL of an HTTP proxy: write it as http://host:port or http://user:password@host:port")]
pub struct ProxyError {
    variable: String,
}

impl Proxies {
    pub(super) fn from_env() -> Result<Self, ProxyError> {
        let variables = std::env::vars_os();
        Self::of(variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))))
    }

    fn of(variables: impl Iterator<Item = (String, String)>) -> Result<Self, ProxyError> {
        let variables: BTreeMap<String, String> = variables.collect();
        let no_proxy = chosen(&variables, "no_proxy").map(|(_, value)| NoProxy::parse(value)).unwrap_or_default();
        let credentials = CREDENTIALS_ENDPOINTS.iter().filter_map(|&name| variables.get(name));
        Ok(Self {
            http: chosen(&variables, "http_proxy").map(Proxy::parse).transpose()?,
            https: chosen(&variables, "https_proxy").map(Proxy::parse).transpose()?,
            no_proxy,
            credentials: credentials.filter_map(|url| host_and_port(&url.parse().ok()?)).collect(),
        })
    }

    /// Returns the way of a request to this URL.
    pub(super) fn route(&self, url: &Uri) -> Route {
        let proxy = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => self.https.as_ref().map(|_| Route::HttpsProxy),
            _ => self.http.as_ref().map(|_| Route::HttpProxy),
        };
        let (Some(proxy), Some((host, port))) = (proxy, host_and_port(url)) else {
            return Route::Direct;
        };
        let is_exempt = is_link_local(&host)
            || self.no_proxy.covers(&host, port)
            || self.credentials.iter().any(|(name, number)| *name == host && *number == port);
        if is_exempt { Route::Direct } else { proxy }
    }
}

/// Returns the name and the value of the variable with this lower-case name. Its lower-case form wins.
fn chosen<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> Option<(&'a str, &'a str)> {
    let lower = variables.get_key_value(name);
    let other = || variables.iter().find(|(found, value)| found.eq_ignore_ascii_case(name) && !value.is_empty());
    let (name, value) = lower.or_else(other)?;
    (!value.is_empty()).then_some((name, value))
}

/// Returns the host in lower case, without brackets, and the port.
fn host_and_port(url: &Uri) -> Option<(String, u16)> {
    let default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some((host, url.port_u16().unwrap_or(default)))
}

/// Whether a host is an address on which AWS gives out credentials and metadata: `169.254.0.0/16`, `fe80::/10`, and
/// `fd00:ec2::/32`.
fn is_link_local(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || matches!(address.segments(), [0xfd00, 0x0ec2, ..])
        }
        Err(_) => false,
    }
}

/// Returns the proxy that gets requests to this URL.
pub(crate) fn proxy_to(url: &str) -> Option<Proxy> {
    let (proxies, url) = (Proxies::from_env().ok()?, url.parse().ok()?);
    match proxies.route(&url) {
        Route::Direct => None,
        Route::HttpProxy => proxies.http,
        Route::HttpsProxy => proxies.https,
    }
}

/// The URL of a proxy, which may hold a password, and the variable that names it.
#[derive(Clone)]
pub(crate) struct Proxy {
    url: Uri,
    variable: String,
}

impl Proxy {
    /// Parses a variable. As in the AWS CLI, `http://` may be left out.
    fn parse((variable, value): (&str, &str)) -> Result<Self, ProxyError> {
        let wrong = || ProxyError { variable: variable.to_owned() };
        let (scheme, rest) = match value.split_once("//") {
            Some((scheme @ ("http:" | "https:" | ""), rest)) => {
                (if scheme.is_empty() { "http:" } else { scheme }, rest)
            }
            Some(_) => return Err(wrong()),
            None => ("http:", value),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Such as a `/` in a password, which must be written as `%2F`.
        if rest.get(authority.len()..).is_some_and(|path| path.contains('@')) {
            return Err(wrong());
        }
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        // A password may hold characters that a URL does not allow there.
        let encode = |text: &str| {
            let plain = percent_decode_str(text).decode_utf8_lossy();
            utf8_percent_encode(&plain, NON_ALPHANUMERIC).to_string()
        };
        let user = user.map(|user| match user.split_once(':') {
            Some((name, password)) => format!("{}:{}@", encode(name), encode(password)),
            None => format!("{}@", encode(user)),
        });
        let url: Uri = format!("{scheme}//{}{host}/", user.unwrap_or_default()).parse().map_err(|_| wrong())?;
        if url.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self { url, variable: variable.to_owned() })
    }

    /// The variable that names the proxy.
    pub(crate) fn variable(&self) -> &str {
        &self.variable
    }

    /// Whether the variable names a user.
    pub(crate) fn has_user(&self) -> bool {
        self.url.authority().is_some_and(|authority| authority.as_str().contains('@'))
    }

    /// Returns the SDK's setting for requests to `http://`.
    pub(super) fn for_http(&self) -> Option<ProxyConfig> {
        ProxyConfig::http(self.url.clone()).ok()
    }

    /// Returns the SDK's setting for requests to `https://`.
    pub(super) fn for_https(&self) -> Option<ProxyConfig> {
        ProxyConfig::https(self.url.clone()).ok()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = host_and_port(&self.url).unwrap_or_default();
        write!(f, "the proxy {host}:{port} ({})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?})", self.url.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
    }

    fn route(variables: &[(&str, &str)], url: &str) -> Route {
        proxies(variables).route(&url.parse().unwrap())
    }

    const BOTH: [(&str, &str); 2] = [("HTTP_PROXY", "http://one:1"), ("HTTPS_PROXY", "http://two:2")];

    #[test]
    fn the_scheme_of_the_request_selects_the_proxy() {
        assert_eq!(route(&BOTH, "http://s3.example.com/key"), Route::HttpProxy);
        assert_eq!(route(&BOTH, "https://s3.example.com/key"), Route::HttpsProxy);
        assert_eq!(route(&[BOTH[0]], "https://s3.example.com/key"), Route::Direct);
        assert_eq!(route(&[BOTH[1]], "http://s3.example.com/key"), Route::Direct);
        assert_eq!(route(&[("ALL_PROXY", "http://all:1")], "https://s3.example.com/key"), Route::Direct);
    }

    #[test]
    fn a_lower_case_variable_wins_even_if_it_is_empty() {
        let host = |variables: &[(&str, &str)]| proxies(variables).https.map(|proxy| proxy.url.to_string());
        assert_eq!(host(&[("https_proxy", "lower:1"), ("HTTPS_PROXY", "upper:1")]).as_deref(), Some("http://lower:1/"));
        assert_eq!(host(&[("https_proxy", ""), ("HTTPS_PROXY", "upper:1")]), None);
        assert_eq!(host(&[("HTTPS_PROXY", "")]), None);
        assert_eq!(host(&[("Https_Proxy", "//mixed:1")]).as_deref(), Some("http://mixed:1/"));
        let direct = [BOTH[1], ("NO_PROXY", "*"), ("no_proxy", "")];
        assert_eq!(route(&direct, "https://s3.example.com/key"), Route::HttpsProxy);
    }

    #[test]
    fn no_proxy_gets_requests_for_credentials() {
        let variables = [
            BOTH[0],
            BOTH[1],
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:5000/creds"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://Metadata.test"),
        ];
        for url in [
            "http://169.254.170.2/v2/credentials/1",
            "http://169.254.169.254/latest/meta-data",
            "http://[fd00:ec2::254]/latest",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fe80::1]/",
            "http://127.0.0.1:5000/creds",
            "http://metadata.test/latest",
        ] {
            assert_eq!(route(&variables, url), Route::Direct, "{url}");
        }
        // Another port of the same host is not the endpoint of credentials.
        assert_eq!(route(&variables, "http://127.0.0.1:5001/bucket"), Route::HttpProxy);
        assert_eq!(route(&variables, "http://[fd00:ec3::1]/"), Route::HttpProxy);
    }

    #[test]
    fn a_proxy_may_have_a_user_and_no_scheme() {
        for (text, url) in [
            ("proxy.test:3128", "http://proxy.test:3128/"),
            ("//proxy.test:3128", "http://proxy.test:3128/"),
            ("https://proxy.test", "https://proxy.test/"),
            ("http://me:p%40ss@proxy.test:3128/", "http://me:p%40ss@proxy.test:3128/"),
            ("http://me:p@ss^word@proxy.test:3128", "http://me:p%40ss%5Eword@proxy.test:3128/"),
            ("me@proxy.test:3128", "http://me@proxy.test:3128/"),
        ] {
            assert_eq!(Proxy::parse(("HTTPS_PROXY", text)).unwrap().url.to_string(), url);
        }
    }

    #[test]
    fn what_is_not_a_proxy_is_refused_without_its_password() {
        let slash = "http://me:12/hunter2@proxy.test";
        for text in
            ["socks5://me:hunter2@proxy.test", "http://me:hunter2@", "http://me:hunter2@a b", "://hunter2", slash]
        {
            let error = Proxy::parse(("https_proxy", text)).unwrap_err().to_string();
            assert!(error.starts_with("https_proxy is not") && !error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", Proxy::parse(("http_proxy", "http://me:hunter2@proxy.test")).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
