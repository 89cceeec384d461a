//! What all clients of the server have in common.

use std::{error::Error, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// A client that follows no redirect: what it sends is for the address it was given.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    // A provider that is installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("echostr/", env!("CARGO_PKG_VERSION")))
}

/// What happened, with the causes behind it and without the URL, which may have secrets in it.
pub(crate) fn causes(failure: reqwest::Error) -> String {
    let failure = failure.without_url();
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    text
}

/// How connections that are not HTTP are encrypted: by the certificates that the system trusts, or by these alone.
pub(crate) fn tls(roots: Option<&[CertificateDer<'static>]>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let Some(roots) = roots else { return Ok(config.with_platform_verifier()?.with_no_client_auth()) };
    let mut store = RootCertStore::empty();
    for certificate in roots {
        store.add(certificate.clone())?;
    }
    Ok(config.with_root_certificates(store).with_no_client_auth())
}
