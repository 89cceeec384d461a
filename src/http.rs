//! What all clients of the server have in common: how they are built, and what a failure of one says.

use std::{error::Error, io, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use rustls_platform_verifier::BuilderVerifierExt as _;

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

/// What happened, with the causes behind it and what to do, and without the URL, which may have secrets in it.
pub(crate) fn causes(failure: reqwest::Error) -> String {
    let is_timeout = failure.is_timeout();
    let is_connect = failure.is_connect();
    let failure = failure.without_url();
    let mut text = failure.to_string();
    let mut hint = None;
    for cause in chain(&failure).skip(1) {
        let said = cause.to_string();
        // An error that only wraps another says the same.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        hint = hint.or_else(|| advice(cause));
    }
    let late = match (is_timeout, is_connect) {
        (true, true) => Some("nothing answers at this address: check address, port and firewall"),
        (true, false) => Some("the connection stands, and the answer takes too long"),
        (false, _) => None,
    };
    match late.or(hint) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// Why an answer is none of whom was asked, if it is a redirect.
pub(crate) fn redirected(status: u16, location: Option<&str>) -> Option<String> {
    let to = location.map_or_else(String::new, |to| format!(" to {to}"));
    (300..400)
        .contains(&status)
        .then(|| format!("status {status} redirects{to}; redirects are not followed: use that address"))
}

/// What to do about a connection that an error of the system ended.
pub(crate) fn io_advice(failure: &io::Error) -> Option<&'static str> {
    Some(match failure.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there: is the server running, and is the port right?",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "the other side closed the connection: if it is a TLS port, use https://"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route to that address: check address and network"
        }
        io::ErrorKind::TimedOut => "nothing answers at this address: check address, port and firewall",
        _ => return None,
    })
}

/// An error and its causes, the outermost first.
fn chain<'e>(failure: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(failure), |&failure| match failure.downcast_ref::<io::Error>() {
        // Its `source` passes over what it wraps.
        Some(wrapper) => match wrapper.get_ref() {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => wrapper.source(),
        },
        None => failure.source(),
    })
}

/// What to do about one of the causes.
fn advice(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(failure) = cause.downcast_ref::<rustls::Error>() {
        return tls_advice(failure);
    }
    let failure = cause.downcast_ref::<io::Error>();
    if let Some(advice) = failure.and_then(io_advice) {
        return Some(advice);
    }
    // The types of the client are not public.
    let text = cause.to_string();
    let begins = |start: &str| text.starts_with(start);
    if begins("dns error") {
        return Some("the name is not resolved: check its spelling, and the DNS of this machine");
    }
    let is_no_http = ["invalid HTTP", "connection closed before message completed"].into_iter().any(begins);
    is_no_http.then_some("it does not answer as an HTTP/1.1 server: if it is a TLS port, use https://")
}

fn tls_advice(failure: &rustls::Error) -> Option<&'static str> {
    use rustls::{CertificateError as Certificate, Error as Tls};
    Some(match failure {
        Tls::InvalidMessage(_) => "it answers without TLS: if it is a plain HTTP port, use http://",
        Tls::InvalidCertificate(wrong) => match wrong {
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is of another name: use the name that it is for"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "its certificate has expired: renew it, or set the clock of this machine"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet: check the clock of this machine"
            }
            _ => {
                "its certificate is not trusted here: add its authority to the certificates of this system, \
                 or name its file in SSL_CERT_FILE"
            }
        },
        Tls::NoCertificatesPresented => "it presents no certificate",
        Tls::AlertReceived(_) | Tls::PeerIncompatible(_) => {
            "TLS was refused: check name, port, and which versions of TLS it speaks"
        }
        _ => return None,
    })
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
