//! The connection is TLS, with a certificate that the system trusts.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{BOT_ID, answered, platform, text, write_config};
use crate::support::{
    certificates::{Ca, named},
    program::Program,
};

/// Serves `target` with TLS, under this certificate; returns where.
pub async fn tls_before(target: String, (certificate, key): (String, String)) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut behind = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused_and_a_trusted_one_is_not() {
    let platform = platform().await;
    let folder = TempDir::new().unwrap();
    let (ca, other) = (Ca::new("ours"), Ca::new("others"));
    let target = platform.url().replace("ws://", "");
    let port = tls_before(target, ca.sign(&named("platform", &["localhost"]))).await;
    let config = write_config(folder.path(), "memory:", &format!("wss://localhost:{port}"));
    platform.push(BOT_ID, text("m1", "hello"));
    let wrong = other.file(folder.path(), "other.pem");
    let program = Program::serve_with(&config, &[("SSL_CERT_FILE", &wrong)]);
    program.says(&["no connection", "invalid peer certificate"]).await;
    assert_eq!(platform.subscriptions().len(), 0);
    drop(program);
    let right = ca.file(folder.path(), "ca.pem");
    let program = Program::serve_with(&config, &[("SSL_CERT_FILE", &right)]);
    assert_eq!(answered(&platform, "m1").await.body["stream"]["content"], "echo: hello");
    assert!(program.stop().await);
}
