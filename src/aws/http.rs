//! The HTTP client of all AWS clients: certificates and proxies.
//!
//! The file of `AWS_CA_BUNDLE`, or of `ca_bundle` in the profile, is read here, because the SDK does not read it. As in the
//! AWS CLI, its certificates are trusted and no others.

use std::borrow::Cow;
use std::sync::Arc;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::ConnectError;
use super::proxy::{Proxies, Proxy, Route};

/// Returns an HTTP client that uses the proxies of the environment. It trusts only the certificates in `ca_bundle`, if
/// there is such a file.
pub(super) fn client(ca_bundle: Option<&str>) -> Result<SharedHttpClient, ConnectError> {
    let trust = ca_bundle.map(trusting).transpose()?.unwrap_or_default();
    let proxies = Proxies::from_env()?;
    let http = proxies.http.as_ref().and_then(Proxy::for_http).map(|proxy| way(&trust, proxy));
    let https = proxies.https.as_ref().and_then(Proxy::for_https).map(|proxy| way(&trust, proxy));
    let direct = way(&trust, ProxyConfig::disabled());
    Ok(SharedHttpClient::new(Routes { proxies: Arc::new(proxies), ways: Ways { direct, http, https } }))
}

/// Returns a client of the SDK that sends every request in one way.
fn way(trust: &tls::TlsContext, proxy: ProxyConfig) -> SharedHttpClient {
    let trust = trust.clone();
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .tls_context(trust.clone())
            .proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

/// Returns a context that trusts only the certificates in this file.
fn trusting(path: &str) -> Result<tls::TlsContext, ConnectError> {
    let wrong = |reason: String| ConnectError::CaBundle { path: path.to_owned(), reason };
    let bundle = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bundle).collect();
    let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    // The client would end the process for an invalid certificate.
    for (number, certificate) in (1..).zip(&certificates) {
        webpki::anchor_from_trusted_cert(certificate)
            .map_err(|error| wrong(format!("certificate {number} in it is not valid ({error:?})")))?;
    }
    let trust = tls::TrustStore::empty().with_pem_certificate(bundle);
    tls::TlsContext::builder().with_trust_store(trust).build().map_err(|error| wrong(error.to_string()))
}

/// Sends each request in its way: directly, or through a proxy.
#[derive(Debug)]
struct Routes {
    proxies: Arc<Proxies>,
    ways: Ways<SharedHttpClient>,
}

/// What each way has.
#[derive(Debug)]
struct Ways<T> {
    direct: T,
    http: Option<T>,
    https: Option<T>,
}

impl<T> Ways<T> {
    fn map<U>(&self, f: impl Fn(&T) -> U) -> Ways<U> {
        Ways { direct: f(&self.direct), http: self.http.as_ref().map(&f), https: self.https.as_ref().map(&f) }
    }

    fn get(&self, route: Route) -> &T {
        let proxied = match route {
            Route::Direct => None,
            Route::HttpProxy => self.http.as_ref(),
            Route::HttpsProxy => self.https.as_ref(),
        };
        proxied.unwrap_or(&self.direct)
    }
}

impl HttpClient for Routes {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        // The client of each way keeps its connectors, and so their connections.
        let ways = self.ways.map(|client| client.http_connector(settings, components));
        SharedHttpConnector::new(RoutedConnector { proxies: Arc::clone(&self.proxies), ways })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some(Cow::Borrowed("1.x"))))
    }
}

#[derive(Debug)]
struct RoutedConnector {
    proxies: Arc<Proxies>,
    ways: Ways<SharedHttpConnector>,
}

impl HttpConnector for RoutedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match request.uri().parse::<Uri>() {
            Ok(url) => self.ways.get(self.proxies.route(&url)).call(request),
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}
