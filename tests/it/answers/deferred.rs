//! Replies that come later, through the event API.

use std::{sync::Arc, time::Duration};

use echostr::hooks::Hooks;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, oneshot},
};

use super::{content, plain};
use crate::{
    bot,
    support::{
        TestServer,
        api::{accounts, sent},
        http::{Answer, Http},
        postgres::{count, database},
        server::{PLAIN, text_message},
        service::{Asked, Service, response},
        wait_for,
    },
};
use echostr::simulate::api::FakeApi;

/// A service that says that it replies later, and how often it was asked.
async fn flow() -> (Service, Arc<Semaphore>) {
    let asked = Arc::new(Semaphore::new(0));
    let counted = Arc::clone(&asked);
    let service = Service::start(move |_: Asked| {
        counted.add_permits(1);
        async { response(202, "", "") }
    })
    .await;
    (service, asked)
}

async fn reply(server: &TestServer, event: &str, given: &Json) -> Answer {
    send(&server.admin, event, given).await
}

async fn send(admin: &Http, event: &str, reply: &Json) -> Answer {
    let head = format!(
        "POST /v1/events/{event}/reply HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: ",
        admin.0
    );
    let body = reply.to_string();
    admin.send(format!("{head}{}\r\nConnection: close\r\n\r\n{body}", body.len()).as_bytes()).await
}

fn error(answer: &Answer) -> String {
    let body: Json = serde_json::from_str(&answer.body).unwrap();
    format!("{} {}", answer.status, body["error"]["code"].as_str().unwrap())
}

/// The id of the event that the service was asked about last.
fn event(service: &Service) -> String {
    service.asked().last().unwrap().header("webhook-id").to_owned()
}

/// The service has answered 202 a moment before the reply can be taken.
async fn taken(server: &TestServer, event: &str, given: &Json) -> Answer {
    let mut last = None;
    wait_for("the reply is taken", async || {
        let answer = reply(server, event, given).await;
        let is_taken = answer.status != 409;
        last = Some(answer);
        is_taken
    })
    .await;
    last.unwrap()
}

fn config(deadline: &str, service: &Service, more: &str) -> String {
    format!(
        "[mp.plain]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\ndeadline = \"{deadline}\"\nlate_reply = \"hold\"\n\
         [wecom_bot.helper]\ntoken = \"botToken\"\naes_key = \"botbotbotbotbotbotbotbotbotbotbotbotbotbotb\"\n\
         [[answer]]\nname = \"flow\"\nmatch = \"*\"\nto = \"{}\"\n{more}\n",
        service.url()
    )
}

#[tokio::test]
async fn a_reply_in_time_goes_out_with_the_response_once() {
    let (service, asked) = flow().await;
    let server = TestServer::start_with("", &config("4900ms", &service, ""), Hooks::default()).await;
    let http = server.http;
    let delivery = tokio::spawn(async move {
        let signed = PLAIN.plain(&text_message(1, "hi"), "n1");
        http.post(&format!("/mp/plain?{}", signed.query), signed.body).await
    });
    asked.acquire().await.unwrap().forget();
    let id = event(&service);
    // What is no reply can be mended.
    assert_eq!(error(&taken(&server, &id, &json!({"txet": "hi"})).await), "422 invalid_reply");
    assert_eq!(error(&taken(&server, &id, &json!({"text": " "})).await), "422 invalid_reply");
    let answer = reply(&server, &id, &json!({"text": "done"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body, json!({"account": "mp/plain", "type": "mp.message.text"}));
    assert_eq!(content(&delivery.await.unwrap()), "done");
    assert_eq!(error(&reply(&server, &id, &json!({"text": "again"})).await), "409 not_awaited");
    assert_eq!(content(&plain(&server, 1, "hi").await), "done", "a repeat has the recorded reply");
    for (wrong, expected) in [("00000000-0000-0000-0000-000000000000", "409 not_awaited"), ("x", "400 bad_request")] {
        assert_eq!(error(&reply(&server, wrong, &json!({"text": "hi"})).await), expected, "{wrong}");
    }
}

#[tokio::test]
async fn a_reply_after_the_deadline_goes_the_way_of_late_replies() {
    let api = FakeApi::start(71).await.unwrap();
    let (service, asked) = flow().await;
    let accounts = accounts(&api, "");
    let answer = format!("{accounts}\n[[answer]]\nname = \"flow\"\nmatch = \"mp/soon\"\nto = \"{}\"\n", service.url());
    let server = TestServer::start_with("", &answer, Hooks::default()).await;
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "n1")).await.body, "success");
    asked.acquire().await.unwrap().forget();
    let answer = taken(&server, &event(&service), &json!({"text": "at last"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let messages = sent(&api, 1).await;
    assert_eq!(messages[0].body["text"]["content"], "at last");
    assert_eq!(error(&reply(&server, &event(&service), &json!({"text": "again"})).await), "409 not_awaited");
}

#[tokio::test]
async fn a_bot_waits_as_a_stream() {
    let (service, asked) = flow().await;
    let server = TestServer::start_with("", &config("4900ms", &service, ""), Hooks::default()).await;
    let answer = bot::opened(&bot::deliver(&server, &bot::text("m1", "hi"), "a").await);
    let stream = answer["stream"]["id"].as_str().unwrap().to_owned();
    assert_eq!(answer["stream"]["finish"], false);
    asked.acquire().await.unwrap().forget();
    let card = json!({"card": {"card_type": "text_notice"}});
    assert_eq!(error(&taken(&server, &event(&service), &card).await), "422 invalid_reply");
    assert_eq!(reply(&server, &event(&service), &json!({"text": "42"})).await.status, 200);
    bot::until(&server, &stream, "42", true).await;
}

#[tokio::test]
async fn a_reply_that_does_not_come_is_given_up() {
    let (service, _asked) = flow().await;
    let server =
        TestServer::start_with("", &config("4900ms", &service, "reply_within = \"1s\""), Hooks::default()).await;
    assert_eq!(plain(&server, 1, "hi").await.body, "success");
    let failed = "echostr_deliveries_total{platform=\"mp\",account=\"plain\",outcome=\"defaulted\",reason=\"error\"}";
    assert_eq!(server.metric(failed).await, 1.0);
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(error(&reply(&server, &event(&service), &json!({"text": "hi"})).await), "409 not_awaited");
}

#[tokio::test]
async fn any_node_takes_a_reply_once() {
    let Some(url) = database().await else { return };
    let (service, asked) = flow().await;
    let config = config("4900ms", &service, "");
    let a = TestServer::start_on(&url, "", &config, Hooks::default()).await;
    let b = TestServer::start_on(&url, "", &config, Hooks::default()).await;
    for (message, node) in [(1, &b), (2, &a)] {
        let http = a.http;
        let delivery = tokio::spawn(async move {
            let signed = PLAIN.plain(&text_message(message, "hi"), &format!("n{message}"));
            http.post(&format!("/mp/plain?{}", signed.query), signed.body).await
        });
        asked.acquire().await.unwrap().forget();
        let id = event(&service);
        assert_eq!(error(&taken(node, &id, &json!({"txet": "hi"})).await), "422 invalid_reply");
        let given = json!({"text": "done"});
        let (one, two, three) = tokio::join!(reply(node, &id, &given), reply(&a, &id, &given), reply(&b, &id, &given));
        let mut statuses = [one.status, two.status, three.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409], "{message}");
        assert_eq!(content(&delivery.await.unwrap()), "done");
        assert_eq!(content(&plain(&b, message, "hi").await), "done");
    }
    // A bot's answer, which the other node has.
    let answer = bot::opened(&bot::deliver(&a, &bot::text("m1", "hi"), "a").await);
    let stream = answer["stream"]["id"].as_str().unwrap().to_owned();
    asked.acquire().await.unwrap().forget();
    let id = event(&service);
    assert_eq!(error(&taken(&b, &id, &json!({"card": {"card_type": "text_notice"}})).await), "422 invalid_reply");
    assert_eq!(reply(&b, &id, &json!({"text": "42"})).await.status, 200);
    bot::until(&a, &stream, "42", true).await;
    assert_eq!(count(&url, "SELECT count(*) FROM slot WHERE name LIKE 'reply/%' AND expires IS NULL").await, 0);
}

#[tokio::test]
async fn a_reply_outlives_the_process_that_waits_and_nobody_is_asked_again() {
    let api = FakeApi::start(72).await.unwrap();
    let (service, _asked) = flow().await;
    let config = format!(
        "{}\n[[answer]]\nname = \"flow\"\nmatch = \"mp/soon\"\nto = \"{}\"\n",
        accounts(&api, ""),
        service.url()
    );
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let doomed = Runtime::new().unwrap();
    let (tell, told) = oneshot::channel();
    let (at, accounts) = (url.clone(), config.clone());
    doomed.spawn(async move {
        let server = TestServer::start_on(&at, "", &accounts, Hooks::default()).await;
        let answer = server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "n1")).await;
        tell.send((server.admin, answer.body)).unwrap();
        std::future::pending::<()>().await;
    });
    let (admin, answer) = told.await.unwrap();
    assert_eq!(answer, "success");
    let id = event(&service);
    wait_for("the reply is waited for", async || send(&admin, &id, &json!({"txet": "hi"})).await.status == 422).await;
    tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    let server = TestServer::start_on(&url, "", &config, Hooks::default()).await;
    assert_eq!(reply(&server, &id, &json!({"text": "at last"})).await.status, 200);
    assert_eq!(error(&reply(&server, &id, &json!({"text": "again"})).await), "409 not_awaited");
    server.stop().await.unwrap();
    // The platform retries no more.
    let db = rusqlite::Connection::open(&file).unwrap();
    assert_eq!(db.execute("UPDATE delivery SET due = 0", []).unwrap(), 1);
    drop(db);
    let server = TestServer::start_on(&url, "", &config, Hooks::default()).await;
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "at last");
    assert_eq!(service.asked().len(), 1);
    assert_eq!(error(&reply(&server, &id, &json!({"text": "again"})).await), "409 not_awaited");
}
