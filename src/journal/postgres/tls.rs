//! TLS to the database, with the `ssl…` parameters of libpq in the URL.

use std::{
    error::Error as _,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use percent_encoding::percent_decode_str;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::JournalError;

/// Protocol of TLS without a request for it before, which the server checks then.
const ALPN: &[u8] = b"postgresql";

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    const ALL: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// One way to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    /// With TLS, if the server has it.
    Offered,
    Tls,
}

/// `sslrootcert`.
#[derive(Clone, Debug)]
enum Roots {
    /// The CAs that this machine trusts.
    System,
    File(PathBuf),
}

/// The TLS of connections to a database.
#[derive(Debug)]
pub(super) struct Tls {
    mode: Mode,
    roots: Option<Roots>,
    /// `sslcert` and `sslkey`: certificate and key of this client.
    identity: Option<(PathBuf, PathBuf)>,
    is_direct: bool,
    /// The files, once they are read.
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded(Option<MakeRustlsConnect>);

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Tls {
    /// Takes the parameters of TLS out of a URL; returns also what is left of that.
    ///
    /// # Errors
    /// When they are unknown or do not go together, or a file cannot be read.
    pub(super) fn split(url: &str) -> Result<(Self, String), JournalError> {
        let mut tls = Self {
            mode: Mode::Prefer,
            roots: None,
            identity: None,
            is_direct: url.contains("sslnegotiation=direct"),
            loaded: Mutex::default(),
        };
        let left = tls.read(url).map_err(JournalError::storage)?;
        if tls.mode != Mode::Disable {
            tls.connector().map_err(JournalError::storage)?;
        }
        Ok((tls, left))
    }

    fn read(&mut self, url: &str) -> Result<String, String> {
        // A password may have an unescaped question mark.
        let begin = url.find('@').unwrap_or_default();
        let Some(at) = url[begin..].find('?').map(|at| begin + at) else { return Ok(url.to_owned()) };
        let mut mode = None;
        let (mut certificate, mut key) = (None, None);
        let mut others = Vec::new();
        for parameter in url[at + 1..].split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || match percent_decode_str(value).decode_utf8() {
                Ok(value) if !value.is_empty() => Ok(value.into_owned()),
                _ => Err(format!("PostgreSQL: `{name}` in the URL has no value that can be read")),
            };
            match name {
                "sslmode" => mode = Some(value()?),
                "sslrootcert" => {
                    let value = value()?;
                    let is_system = value == "system";
                    self.roots = Some(if is_system { Roots::System } else { Roots::File(value.into()) });
                }
                "sslcert" => certificate = Some(PathBuf::from(value()?)),
                "sslkey" => key = Some(PathBuf::from(value()?)),
                name if name.starts_with("ssl") && name != "sslnegotiation" => {
                    return Err("PostgreSQL: the URL has an unknown parameter `ssl…`; known are sslmode, sslrootcert, sslcert, \
                         sslkey and sslnegotiation"
                        .to_owned());
                }
                _ => others.push(parameter),
            }
        }
        let is_system = matches!(self.roots, Some(Roots::System));
        self.mode = match mode {
            None if is_system => Mode::VerifyFull,
            None => Mode::Prefer,
            Some(name) => {
                let known = Mode::ALL.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
                let names = Mode::ALL.map(|(name, _)| name).join(", ");
                known.ok_or(format!("PostgreSQL: unknown sslmode in the URL; expected one of {names}"))?
            }
        };
        self.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("PostgreSQL: sslcert and sslkey belong together, and the URL has one of them".to_owned()),
        };
        if self.mode >= Mode::VerifyCa && self.roots.is_none() {
            return Err(format!(
                "PostgreSQL: sslmode={} needs sslrootcert in the URL: the file with the certificate of the CA, or `system` for \
                 the CAs that this machine trusts",
                self.mode
            ));
        }
        if is_system && self.mode != Mode::VerifyFull {
            return Err(format!(
                "PostgreSQL: sslrootcert=system is too weak with sslmode={}: anybody can get such a certificate; use \
                 sslmode=verify-full",
                self.mode
            ));
        }
        let (head, more) = (&url[..at], others.join("&"));
        Ok(if more.is_empty() { head.to_owned() } else { format!("{head}?{more}") })
    }

    /// No socket of a file system has TLS.
    pub(super) fn disable(&mut self) {
        self.mode = Mode::Disable;
    }

    /// The ways to connect, in their order; the next is tried when the server refuses one.
    pub(super) const fn ways(&self) -> &'static [Way] {
        match self.mode {
            Mode::Disable => &[Way::Plain],
            Mode::Allow => &[Way::Plain, Way::Tls],
            Mode::Prefer => &[Way::Offered, Way::Plain],
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => &[Way::Tls],
        }
    }

    /// What makes connections encrypted.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = &loaded.0 {
            return Ok(connector.clone());
        }
        let connector = MakeRustlsConnect::new(self.load()?);
        Ok(loaded.0.insert(connector).clone())
    }

    /// The next connection reads the files again: somebody may have renewed them.
    pub(super) fn reload(&self) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
    }

    fn load(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            anchors: self.roots.as_ref().map(anchors).transpose()?,
            checks_name: self.mode == Mode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|failure| format!("PostgreSQL: TLS: {failure}"))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|failure| unreadable("sslkey", key, failure))?;
                let config = builder.with_client_auth_cert(chain, private);
                config.map_err(|failure| format!("PostgreSQL: sslcert and sslkey cannot be used: {failure}"))?
            }
        };
        if self.is_direct {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        Ok(config)
    }

    /// Why a connection failed, if that has to do with TLS: what is wrong, and what to do.
    pub(super) fn explain(&self, failure: &tokio_postgres::Error) -> Option<String> {
        let mode = self.mode;
        if let Some(said) = failure.as_db_error() {
            let is_plain = ["no encryption", "SSL off"].iter().any(|end| said.message().ends_with(end));
            return is_plain.then(|| {
                format!(
                    "{} (sslmode={mode}); where the server wants TLS, use sslmode=require or better",
                    said.message()
                )
            });
        }
        let cause = failure.source()?;
        if cause.to_string() == "server does not support TLS" {
            return Some(format!(
                "the server has no TLS, and sslmode={mode} requires it; set `ssl = on` there, or use sslmode=disable on a network \
                 that you trust"
            ));
        }
        let cause = cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Error>()?;
        Some(match cause {
            Error::InvalidCertificate(failure) => format!("the server's certificate is refused: {}", refusal(failure)),
            Error::AlertReceived(alert) => format!(
                "the server ended the TLS handshake ({alert:?}); where it asks clients for a certificate, set sslcert and sslkey \
                 in the URL"
            ),
            other => format!("TLS: {other}"),
        })
    }
}

/// Why a certificate is refused, and what to do.
fn refusal(failure: &CertificateError) -> String {
    match failure {
        CertificateError::NotValidForNameContext { expected, presented } => {
            // `DnsName("db.example")`, `IpAddress(10.0.0.1)`
            let inner = |name: &String| name.split(['(', ')']).nth(1).unwrap_or(name).replace('"', "");
            let names: Vec<String> = presented.iter().map(inner).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!(
                "it is for {names}, not for `{}`; connect by a name that is in it as a subjectAltName, or use sslmode=verify-ca",
                expected.to_str()
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; renew it on the server".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check the clocks of both machines".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no CA of sslrootcert has signed it; set sslrootcert to the certificate of the CA that did".to_owned()
        }
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of a CA, and another one than sslrootcert has".to_owned()
        }
        other if other.to_string().contains("UnsupportedCertVersion") => {
            "it is of X.509 version 1; make one of version 3, with the server's name as its subjectAltName".to_owned()
        }
        other => other.to_string(),
    }
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unreadable(parameter, path, "it has no certificate (PEM)")),
        Err(failure) => Err(unreadable(parameter, path, failure)),
    }
}

fn unreadable(parameter: &str, path: &Path, failure: impl fmt::Display) -> String {
    format!("PostgreSQL: cannot read {parameter} {}: {failure}", path.display())
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Anchors {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

fn anchors(roots: &Roots) -> Result<Anchors, String> {
    let certificates = match roots {
        Roots::File(path) => certificates("sslrootcert", path)?,
        Roots::System => rustls_native_certs::load_native_certs().certs,
    };
    let mut store = RootCertStore::empty();
    if store.add_parsable_certificates(certificates.iter().cloned()).0 == 0 {
        return Err(match roots {
            Roots::File(path) => unreadable("sslrootcert", path, "it has no certificate of a CA"),
            Roots::System => "PostgreSQL: sslrootcert=system, and this machine has no certificates of CAs".to_owned(),
        });
    }
    Ok(Anchors { store, certificates })
}

/// Checks the certificate of the server.
#[derive(Debug)]
struct Verifier {
    /// Without them every certificate is good: `require` encrypts only.
    anchors: Option<Anchors>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(anchors) = &self.anchors else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let checked = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &anchors.store,
            intermediates,
            now,
            self.algorithms.all,
        );
        match checked {
            // What PostgreSQL's manual makes first: a certificate that is its own CA. No chain leads from it to itself; its
            // dates were checked before that was found.
            Err(Error::InvalidCertificate(failure))
                if !is_about_time(&failure) && anchors.certificates.iter().any(|one| one == end_entity) => {}
            checked => checked?,
        }
        if self.checks_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Nobody vouches for the certificate, so its key proves nothing; and it may be older than this can read.
        if self.anchors.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.anchors.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

const fn is_about_time(failure: &CertificateError) -> bool {
    matches!(
        failure,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}
