//! The HTTP client that all AWS clients share.
//!
//! `AWS_CA_BUNDLE` is read here, because the SDK does not read it. As in the AWS CLI, its certificates are trusted and
//! no others.

use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{ConnectError, set_variable};

/// Returns the HTTP client that the environment asks for, or `None` for that of the SDK.
pub(super) fn client() -> Result<Option<SharedHttpClient>, ConnectError> {
    set_variable("AWS_CA_BUNDLE").map(|path| trusting(&path)).transpose()
}

/// Returns an HTTP client that trusts only the certificates in this file.
fn trusting(path: &str) -> Result<SharedHttpClient, ConnectError> {
    let wrong = |reason: String| ConnectError::CaBundle { path: path.to_owned(), reason };
    let bundle = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bundle).collect();
    if certificates.map_err(|error| wrong(error.to_string()))?.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    let trust = tls::TrustStore::empty().with_pem_certificate(bundle);
    let context =
        tls::TlsContext::builder().with_trust_store(trust).build().map_err(|error| wrong(error.to_string()))?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    Ok(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https())
}
