//! TLS to PostgreSQL: `sslmode` and its files in the URL, against a server with a CA of its own.

use std::fs;

use echostr::{config::Config, hooks::Hooks, internals::journal};
use rcgen::{BasicConstraints, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::support::{
    TestServer,
    certificates::{Ca, named},
    postgres::{Instance, count},
    server::{PLAIN, text_message},
};

/// A server that offers TLS with a certificate.
fn encrypted(instance: &mut Instance, (certificate, key): &(String, String)) {
    instance.stop();
    let (certificate, key) = (instance.write("server.crt", certificate), instance.write("server.key", key));
    let kept = instance.settings.iter().filter(|setting| !setting.starts_with("ssl")).cloned();
    let settings = ["ssl=on".to_owned(), format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}")];
    instance.settings = kept.chain(settings).collect();
    instance.resume();
}

async fn start() -> Option<Instance> {
    tokio::task::spawn_blocking(Instance::start).await.unwrap()
}

/// Whether a journal with this URL can be used.
async fn check(url: &str) -> Result<(), String> {
    let config = Config::parse(&format!("[journal]\nurl = \"{url}\"\n"), "test", |name| std::env::var(name)).unwrap();
    journal::check(&config.journal).await.map_err(|failure| failure.to_string())
}

async fn assert_refused(url: &str, parts: &[&str]) {
    let refusal = check(url).await.expect_err(url);
    assert!(parts.iter().all(|part| refusal.contains(part)), "{url}: {refusal}");
    assert!(!refusal.contains("s3cret"), "{refusal}");
}

async fn assert_good(url: &str) {
    check(url).await.unwrap_or_else(|failure| panic!("{url}: {failure}"));
}

#[tokio::test]
async fn a_server_of_ones_own_ca_is_verified_as_sslmode_says() {
    let Some(mut instance) = start().await else { return };
    let folder = TempDir::new().unwrap();
    let (ca, other) = (Ca::new("the CA"), Ca::new("another CA"));
    let (trusted, untrusted) = (ca.file(folder.path(), "ca.pem"), other.file(folder.path(), "other.pem"));

    // By name and by address.
    encrypted(&mut instance, &ca.sign(&named("server", &["localhost", "127.0.0.1"])));
    let url = instance.database().await;
    let by_name = url.replace("127.0.0.1", "localhost");
    for url in [&url, &by_name] {
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_good(&format!("{url}?sslmode={mode}&sslrootcert={trusted}")).await;
            let parts = ["certificate is refused", "no CA of sslrootcert"];
            assert_refused(&format!("{url}?sslrootcert={untrusted}&sslmode={mode}"), &parts).await;
        }
        for mode in ["disable", "allow", "prefer", "require"] {
            assert_good(&format!("{url}?sslmode={mode}")).await;
        }
        assert_good(url).await;
        // Where the CA is not the one, libpq goes on without TLS: it was not required.
        assert_good(&format!("{url}?sslmode=prefer&sslrootcert={untrusted}")).await;
    }

    // For another name.
    encrypted(&mut instance, &ca.sign(&named("localhost", &["db.example"])));
    let url = format!("{by_name}?sslrootcert={trusted}&sslmode=");
    instance.until_ready().await;
    assert_refused(&format!("{url}verify-full"), &["is for db.example", "not for `localhost`", "verify-ca"]).await;
    assert_good(&format!("{url}verify-ca")).await;
    assert_good(&format!("{url}require")).await;

    // Of no time, and of a time that is over.
    let mut old = named("server", &["localhost"]);
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    encrypted(&mut instance, &ca.sign(&old));
    instance.until_ready().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_refused(&format!("{url}{mode}"), &["has expired", "renew"]).await;
    }
    assert_good(&format!("{by_name}?sslmode=require")).await;
    (old.not_before, old.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    encrypted(&mut instance, &ca.sign(&old));
    instance.until_ready().await;
    assert_refused(&format!("{url}verify-full"), &["not valid yet"]).await;

    // Its own CA, as PostgreSQL's manual makes one first.
    let key = KeyPair::generate().unwrap();
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut own = named("server", &["localhost"]);
        own.is_ca = is_ca;
        let certificate = own.self_signed(&key).unwrap().pem();
        let path = folder.path().join("own.pem");
        fs::write(&path, &certificate).unwrap();
        encrypted(&mut instance, &(certificate, key.serialize_pem()));
        instance.until_ready().await;
        assert_good(&format!("{by_name}?sslmode=verify-full&sslrootcert={}", path.display())).await;
        let wrong = format!("{url}verify-full").replace("localhost", "127.0.0.1");
        assert_refused(&wrong, &["certificate is refused", "sslrootcert"]).await;
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let Some(instance) = start().await else { return };
    let url = instance.database().await;
    let folder = TempDir::new().unwrap();
    let ca = Ca::new("the CA").file(folder.path(), "ca.pem");
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{url}?sslmode={mode}&sslrootcert={ca}");
        assert_refused(&url, &["the server has no TLS", &format!("sslmode={mode} requires it")]).await;
    }
    for mode in ["disable", "allow", "prefer"] {
        assert_good(&format!("{url}?sslmode={mode}")).await;
    }
    // A socket in the file system has none, and needs none.
    let (_, database) = url.rsplit_once('/').unwrap();
    assert_good(&format!("{}?sslmode=require", instance.socket(database))).await;
}

#[tokio::test]
async fn what_the_url_asks_for_is_checked_before_anything_is_connected() {
    let folder = TempDir::new().unwrap();
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    fs::write(&empty, "no certificate").unwrap();
    let (empty, missing) = (empty.display(), missing.display());
    let head = "postgres://echostr:s3cret@127.0.0.1:1/echostr";
    let cases: [(&str, &[&str]); 9] = [
        ("sslmode=verify", &["unknown sslmode", "verify-ca, verify-full"]),
        ("sslmode=", &["sslmode", "no value"]),
        ("sslmode=verify-full", &["verify-full needs sslrootcert", "`system`"]),
        ("sslmode=require&sslrootcert=system", &["too weak", "verify-full"]),
        (&format!("sslmode=verify-ca&sslrootcert={missing}"), &["cannot read sslrootcert", "missing.pem"]),
        (&format!("sslmode=require&sslrootcert={empty}"), &["sslrootcert", "no certificate"]),
        ("sslcert=a.pem", &["sslcert and sslkey belong together"]),
        (&format!("sslcert={empty}&sslkey={empty}"), &["sslcert"]),
        ("sslmod=require", &["unknown parameter", "sslmode"]),
    ];
    for (parameters, parts) in cases {
        assert_refused(&format!("{head}?{parameters}"), parts).await;
        assert_refused(&format!("{head}?connect_timeout=1&{parameters}&application_name=x"), parts).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_given_one_and_everything_is_encrypted() {
    let Some(mut instance) = start().await else { return };
    let folder = TempDir::new().unwrap();
    let ca = Ca::new("the CA");
    let root = ca.file(folder.path(), "ca.pem");
    let roots = instance.write("root.crt", &ca.certificate.pem());
    let hba = instance.write(
        "hba.conf",
        "hostssl all echostr 127.0.0.1/32 trust clientcert=verify-full\nlocal all all trust\nhost postgres all 127.0.0.1/32 trust\n",
    );
    let url = instance.database().await;
    let (certificate, key) = ca.sign(&named("echostr", &[]));
    let (own, own_key) = (folder.path().join("client.pem"), folder.path().join("client.key"));
    fs::write(&own, certificate).unwrap();
    fs::write(&own_key, key).unwrap();
    instance.settings = vec![format!("hba_file={hba}")];
    encrypted(&mut instance, &ca.sign(&named("server", &["127.0.0.1"])));
    instance.settings.push(format!("ssl_ca_file={roots}"));
    instance.stop();
    instance.resume();
    let base = format!("{url}?sslmode=verify-full&sslrootcert={root}");
    instance.until_ready().await;
    assert_refused(&base, &["certificate"]).await;
    assert_refused(&format!("{url}?sslmode=disable"), &["no encryption", "sslmode=require"]).await;

    let url = format!("{base}&sslcert={}&sslkey={}", own.display(), own_key.display());
    assert_good(&url).await;
    let server = TestServer::start_at(&url, Hooks::default()).await;
    for id in 0..20 {
        let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(id, "hello"), &format!("nonce{id}"))).await;
        assert_eq!(answer.status, 200);
    }
    let encrypted = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                 WHERE application_name = 'echostr' AND ssl";
    assert!(count(&instance.socket("postgres"), encrypted).await > 1);
    let plain = encrypted.replace("AND ssl", "AND NOT ssl");
    assert_eq!(count(&instance.socket("postgres"), &plain).await, 0);
    assert!(server.stop().await.unwrap());
}
