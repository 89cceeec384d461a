//! A request that gets no answer says why, and what to do.

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Said, command, ended, run, write};
use crate::{
    support::{
        certificates::{Ca, named},
        target::{Act, Away, Target},
    },
    websocket::tls::tls_before,
};

const ACCOUNT: &str = "[mp.shop]\napp_id = \"wx1\"\ntoken = \"abcToken\"\nmode = \"plain\"\n";

/// A server that sends these bytes to whoever connects, whatever comes.
async fn saying(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_names_the_cause_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), ACCOUNT);
    let ca = Ca::new("ours");
    let plain = Target::start(|_, _| Act::Answer(200, "", "success")).await;
    let without_tls = saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let untrusted = tls_before(plain.address.to_string(), ca.sign(&named("x", &["localhost"]))).await;
    let of_another = tls_before(plain.address.to_string(), ca.sign(&named("x", &["other.example.com"]))).await;
    let mut old = named("x", &["localhost"]);
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    let expired = tls_before(plain.address.to_string(), ca.sign(&old)).await;
    let moved = Target::start(|_, _| Act::Answer(301, "Location: https://new.example.com/\r\n", "")).await;
    let away = Away::new();
    // What a TLS server sends to somebody who speaks HTTP: an alert.
    let alert = saying(b"\x15\x03\x03\x00\x02\x02\x0a").await;
    let closes = saying(b"").await;
    let trusted = ca.file(folder.path(), "ca.pem");
    for (url, parts) in [
        (
            format!("https://localhost:{untrusted}"),
            &["invalid peer certificate", "is not trusted here", "SSL_CERT_FILE"][..],
        ),
        ("http://no-such-host.invalid".to_owned(), &["dns error", "the name is not resolved"]),
        (format!("http://{}", away.address), &["Connection refused", "is the server running"]),
        (format!("https://{without_tls}"), &["corrupt message", "it answers without TLS", "use http://"]),
        (format!("http://{alert}"), &["use https://"]),
        (format!("http://{closes}"), &["use https://"]),
        (format!("http://{}", moved.address), &["status 301 redirects to https://new.example.com/"]),
    ] {
        let said = run(folder.path(), &["simulate", "mp/shop", "text", "--url", &url]).await;
        let error = said.with(1, parts).text();
        assert!(!error.contains("signature="), "{url}: {error}");
        // What is said is one sentence.
        assert!(error.lines().filter(|line| line.contains(parts[0])).count() == 1, "{url}: {error}");
    }
    for (port, parts) in [(of_another, &["of another name"]), (expired, &["has expired"])] {
        let url = format!("https://localhost:{port}");
        let mut simulate = command(folder.path(), &["simulate", "mp/shop", "text", "--url", &url]);
        simulate.env("SSL_CERT_FILE", &trusted);
        ended(simulate).await.with(1, parts);
    }
    let url = format!("https://localhost:{untrusted}");
    let mut simulate = command(folder.path(), &["simulate", "mp/shop", "text", "--url", &url]);
    simulate.env("SSL_CERT_FILE", &trusted);
    ended(simulate).await.with(0, &["← 200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_calls_somebody_says_the_same() {
    let folder = TempDir::new().unwrap();
    let (away, other, silent) = (Away::new(), Away::new(), Target::start(|_, _| Act::Hang).await);
    let moved = Target::start(|_, _| Act::Answer(302, "Location: /elsewhere\r\n", "")).await;
    let forward = |name: &str, to: &str| {
        format!("[[forward]]\nname = \"{name}\"\nmatch = \"mp/shop\"\nto = \"{to}\"\ntimeout = \"50ms\"\n")
    };
    let forwards = [forward("away", &away.url()), forward("silent", &silent.url()), forward("moved", &moved.url())];
    let admin = format!("[admin]\nlisten = \"{}\"\n", other.address);
    write(folder.path(), &format!("{admin}{ACCOUNT}{}", forwards.concat()));
    let refused = ["Connection refused", "is the server running"];
    let said = async |arguments: &[&str]| -> Said { run(folder.path(), arguments).await };
    said(&["forwards", "test", "away", "text"]).await.with(1, &refused);
    said(&["forwards", "test", "silent", "text"]).await.with(1, &["the answer takes too long"]);
    said(&["forwards", "test", "moved", "text"]).await.with(1, &["status 302 redirects to /elsewhere"]);
    let url = format!("http://{}", away.address);
    said(&["events", "ls", "--url", &url]).await.with(1, &refused);
    said(&["listen", "http://localhost:3000", "--url", &url]).await.with(1, &refused);
    said(&["health"]).await.with(1, &refused);
    let url = format!("http://{}", moved.address);
    said(&["events", "ls", "--url", &url]).await.with(1, &["status 302 redirects to /elsewhere"]);
}
