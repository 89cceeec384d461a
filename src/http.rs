//! What all HTTP clients of the server have in common.

use std::error::Error;

/// Gives TLS of this process its cryptography, without which no client can be made; one that is installed already is as good.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirect: what it sends is for the address it was given.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    install_crypto();
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
