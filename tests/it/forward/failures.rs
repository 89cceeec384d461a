//! Targets that fail: nothing is lost, and nothing is sent that should wait.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use echostr::internals::journal::{Archive as _, Filter, sqlite::SqliteArchive};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::{Act, Target, contents, crm, forward, send, shows, start, start_in, takes_all};
use crate::support::{NOW, certificates, target::Request, until};

#[tokio::test]
async fn an_event_is_sent_until_it_is_taken_with_one_id_and_fresh_times() {
    let target = Target::start(takes_all).await;
    let server = start(&crm(&target, "timeout = \"150ms\"")).await;
    let clock = server.clock.clone();
    target.behave(move |_, before| {
        clock.set(NOW + 1 + i64::try_from(before).unwrap());
        match before {
            0 => Act::Answer(500, "", "no"),
            1 => Act::Cut,
            2 => Act::Answer(302, "Location: /elsewhere\r\n", ""),
            3 => Act::Hang,
            4 => Act::Status(404),
            _ => Act::Status(204),
        }
    });
    send(&server, 1, "hello").await;
    let requests = target.received(6).await;
    shows(&server, "attempts_total", "result=\"delivered\"", 1.0).await;
    shows(&server, "attempts_total", "result=\"failed\"", 5.0).await;
    assert_eq!(requests.len(), 6);
    assert_eq!(requests.iter().map(Request::id).collect::<HashSet<_>>().len(), 1);
    let times: Vec<i64> = requests.iter().map(|it| it.header("webhook-timestamp").unwrap().parse().unwrap()).collect();
    assert_eq!(times, (0..6).map(|after| NOW + after).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.path == "/in" && request.body == requests[0].body));
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn what_is_never_taken_is_a_dead_letter_that_can_be_replayed() {
    const LONG: &str = "out of\x1b[31m order: \u{4f60}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxEND";
    let folder = TempDir::new().unwrap();
    let target = Target::start(|_, _| Act::Answer(500, "", LONG)).await;
    let server = start_in(folder.path(), &crm(&target, "retry = [\"1ms\", \"1ms\"]")).await;
    send(&server, 1, "hello").await;
    shows(&server, "attempts_total", "result=\"dead\"", 1.0).await;
    assert_eq!(target.requests().len(), 3);
    let archive = SqliteArchive::open(&folder.path().join("journal.db")).unwrap();
    let mut dead = Vec::new();
    until(async || {
        dead = archive.dead(&Filter::default(), None, 10).await.unwrap();
        !dead.is_empty()
    })
    .await;
    assert_eq!((dead[0].observer.as_str(), dead[0].attempts), ("forward.crm", 3));
    let error = &dead[0].error;
    assert!(error.starts_with("status 500: out of\\u{1b}[31m order: \u{4f60}x"), "{error}");
    assert!(!error.contains("END") && error.chars().count() < 230, "{error}");

    target.behave(takes_all);
    assert_eq!(archive.replay("forward.crm", vec![dead[0].event.id]).await.unwrap(), 1);
    let requests = target.received(4).await;
    assert_eq!(requests[3].id(), requests[0].id());
    shows(&server, "attempts_total", "result=\"delivered\"", 1.0).await;
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn two_forwards_of_one_event_do_not_wait_for_each_other() {
    let (down, up) = (Target::start(|_, _| Act::Hang).await, Target::start(takes_all).await);
    let server = start(&format!("{}{}", crm(&down, ""), forward("other", &up.url(), ""))).await;
    for id in 1..=20 {
        send(&server, id, &id.to_string()).await;
    }
    assert_eq!(up.received(20).await.len(), 20);
    // Of the one account one of several has half of what it may have in all.
    assert!(down.received(8).await.len() <= 16);
    drop(down);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_target_that_asks_for_time_gets_it_and_the_event_loses_no_attempt() {
    let target = Target::start(|_, before| match before {
        0 => Act::Answer(429, "Retry-After: 1\r\n", ""),
        1 => Act::Answer(503, "Retry-After: 1\r\n", "busy"),
        _ => Act::Status(200),
    })
    .await;
    let server = start(&crm(&target, "retry = [\"1ms\"]")).await;
    send(&server, 1, "hello").await;
    target.received(1).await;
    shows(&server, "state", "state=\"slowed\"", 1.0).await;
    send(&server, 2, "wait").await;
    assert_eq!(target.requests().len(), 1, "the others wait, too");
    shows(&server, "attempts_total", "result=\"delivered\"", 2.0).await;
    shows(&server, "state", "state=\"ok\"", 1.0).await;
    shows(&server, "attempts_total", "result=\"failed\"", 1.0).await;
    shows(&server, "attempts_total", "result=\"dead\"", 0.0).await;
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn after_ten_failures_one_event_at_a_time_probes_and_nothing_is_lost() {
    let target = Target::start(|_, _| Act::Status(500)).await;
    let other = Target::start(takes_all).await;
    let pauses = vec!["\"1ms\""; 100].join(", ");
    let forwards = format!("{}{}", crm(&target, &format!("retry = [{pauses}]")), forward("other", &other.url(), ""));
    let server = start(&forwards).await;
    for id in 1..=12 {
        send(&server, id, &id.to_string()).await;
    }
    shows(&server, "state", "state=\"open\"", 1.0).await;
    // What was in flight when it came to that has been answered, once the first probe comes.
    let (go, probing) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    target.behave({
        let (go, probing) = (Arc::clone(&go), Arc::clone(&probing));
        move |_, _| {
            if probing.swap(true, Ordering::SeqCst) { Act::Status(200) } else { Act::Wait(Arc::clone(&go)) }
        }
    });
    until(async || probing.load(Ordering::SeqCst)).await;
    let before = target.requests().len();
    send(&server, 13, "13").await;
    other.received(13).await;
    assert_eq!(target.requests().len(), before, "one probe at a time");
    go.notify_one();
    shows(&server, "attempts_total", "result=\"delivered\"", 13.0).await;
    shows(&server, "state", "state=\"ok\"", 1.0).await;
    let delivered: HashSet<String> = contents(&target.requests()[before - 1..]).into_iter().collect();
    assert_eq!(delivered.len(), 13);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn the_events_of_a_subject_keep_their_order_where_asked() {
    let failed = AtomicBool::new(false);
    let target = Target::start(
        move |_, _| {
            if failed.swap(true, Ordering::SeqCst) { Act::Status(200) } else { Act::Status(500) }
        },
    )
    .await;
    let server = start(&crm(&target, "order = \"subject\"")).await;
    for id in 1..=5 {
        send(&server, id, &id.to_string()).await;
    }
    assert_eq!(contents(&target.received(6).await), ["1", "1", "2", "3", "4", "5"]);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_accepted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let ca = certificates::Ca::new("nobody");
    let (certificate, key) = ca.sign(&certificates::named("localhost", &["localhost"]));
    let acceptor = acceptor(&certificate, &key);
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let folder = TempDir::new().unwrap();
    let server = start_in(
        folder.path(),
        &forward("crm", &format!("https://localhost:{}/?key=hush", address.port()), "retry = []"),
    )
    .await;
    send(&server, 1, "hello").await;
    shows(&server, "attempts_total", "result=\"dead\"", 1.0).await;
    assert!(server.stop().await.unwrap());
    let archive = SqliteArchive::open(&folder.path().join("journal.db")).unwrap();
    let dead = archive.dead(&Filter::default(), None, 10).await.unwrap();
    assert!(dead[0].error.contains("certificate") && !dead[0].error.contains("hush"), "{}", dead[0].error);
    serving.abort();
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()))
}
