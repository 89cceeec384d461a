//! The handlers one by one, and the whole bot behind a server that is fed as the platforms would.

use std::time::Duration;

use axum::{Router, routing::post};
use echostr_testing::{Builder, TestServer, sample};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::sleep};

use super::*;

/// A language model that answers after a while.
async fn model(after: Duration) -> String {
    let answer = move || async move {
        sleep(after).await;
        r#"{"output": "The moon."}"#
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    url
}

fn settings(folder: &TempDir, model: &str) -> String {
    let database = folder.path().join("shop.db");
    format!("[handlers.shop]\ndatabase = '{}'\nmodel_url = '{model}'\nmodel_key = 'key'\n", database.display())
}

async fn start(folder: &TempDir, builder: Builder, after: Duration) -> TestServer {
    builder.config(&settings(folder, &model(after).await)).start_with(set_up).await
}

fn database(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join("shop.db")).unwrap()
}

#[tokio::test]
async fn it_answers_codes_menus_and_texts_and_keeps_these_in_order() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, TestServer::builder(), Duration::ZERO).await;
    let mut scan: mp::SubscribeScan = sample();
    scan.event_key = "qrscene_12".to_owned();
    assert_eq!(server.send(&scan).await.text().as_deref(), Some("Welcome to table 12."));
    let mut click: mp::MenuClick = sample();
    click.event_key = "hours".to_owned();
    assert_eq!(server.send(&click).await.text().as_deref(), Some("We are open from 9 to 18."));
    click.event_key = "old".to_owned();
    assert!(server.send(&click).await.is_empty(), "the default answer");
    for number in 1..=3 {
        let mut message: mp::TextMessage = sample();
        message.content = number.to_string();
        assert_eq!(server.send(&message).await.text().as_deref(), Some("The moon."));
    }
    assert_eq!(server.observed().await, 0, "dead letters");
    let said: String =
        database(&folder).query_row("SELECT group_concat(text) FROM said", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "1,2,3");
}

#[tokio::test]
async fn an_answer_that_comes_late_is_sent() {
    let folder = TempDir::new().unwrap();
    let late = TestServer::builder().config("[mp.test]\nlate_reply = 'send'\ndeadline = '50ms'");
    let server = start(&folder, late, Duration::from_millis(200)).await;
    let message: mp::TextMessage = sample();
    assert!(server.send(&message).await.is_empty());
    let sent = &server.api().sent_at_least(1).await[0];
    assert_eq!(sent.path, "/cgi-bin/message/custom/send");
    assert_eq!((&*sent.to, &sent.body["text"]["content"]), (message.from_user(), &json!("The moon.")));
}

#[tokio::test]
async fn a_customer_gets_a_menu_and_a_person() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, TestServer::builder(), Duration::ZERO).await;
    let menu = server.send(&sample::<wecom_kf::EnterSession>()).await;
    assert_eq!(menu.json()["msgmenu"]["list"][0]["click"]["id"], "human");
    let mut message: wecom_kf::TextMessage = sample();
    message.text.menu_id = Some("human".to_owned());
    assert_eq!(server.send(&message).await.text().as_deref(), Some("A colleague takes over."));
    let sent = server.api().sent();
    let transfer = sent.iter().find(|sent| sent.path == "/cgi-bin/kf/service_state/trans").unwrap();
    assert_eq!(transfer.body["service_state"], 2);
}

#[tokio::test]
async fn who_is_blocked_is_silenced() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, TestServer::builder(), Duration::ZERO).await;
    let message: im::BeforePrivateMessageSend = sample();
    assert_eq!(server.send(&message).await.json()["ErrorCode"], 0);
    database(&folder).execute("INSERT INTO blocked VALUES (?1)", [&message.from_account]).unwrap();
    let message: im::BeforePrivateMessageSend = sample();
    assert_eq!(server.send(&message).await.json()["ErrorCode"], 120_001);
}

#[tokio::test]
async fn what_the_crm_never_takes_is_a_dead_letter_at_once() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, TestServer::builder(), Duration::ZERO).await;
    let mut leaver: mp::Unsubscribe = sample();
    server.send(&leaver).await;
    assert_eq!(server.observed().await, 0);
    leaver.envelope.from_user_name = String::new();
    server.send(&leaver).await;
    assert_eq!(server.observed().await, 1);
}

#[tokio::test]
async fn followers_are_counted_while_the_server_runs() {
    let folder = TempDir::new().unwrap();
    let server = start(&folder, TestServer::builder(), Duration::ZERO).await;
    server.api().set_answer("cgi-bin/user/get", json!({ "total": 7 }));
    let counted = server.api().sent_at_least(1).await;
    assert_eq!(counted[0].path, "/cgi-bin/user/get");
    assert!(server.stop().await, "the job has ended, too");
}
