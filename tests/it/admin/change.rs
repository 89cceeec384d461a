//! What changes something: replay, retry, drop, samples; and who did it, in the log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use echostr::hooks::Hooks;
use serde_json::{Value as Json, json};

use super::{
    Client, auth,
    read::{hooks, journals, send},
    texts,
};
use crate::support::{
    Log, TestServer,
    server::{ACCOUNTS, SECRETS},
    until,
};

const SETTINGS: &str = "\n[observers]\nmax_attempts = 1\n";

async fn post(api: Client<'_>, target: &str, body: &Json) -> Json {
    let answer = api.request("POST", target, Some(&body.to_string())).await;
    assert_eq!(answer.status, 200, "{target} {body}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn dead(api: Client<'_>) -> Vec<Json> {
    api.get("/v1/dead").await["letters"].as_array().unwrap().clone()
}

#[tokio::test]
async fn events_are_replayed_and_dead_letters_retried_and_dropped_on_every_journal() {
    for (url, _kept) in journals().await {
        let works = Arc::new(AtomicBool::new(false));
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{SETTINGS}"), hooks(&works)).await;
        let api = Client::new(server.admin);
        send(&server, 1, &["one", "two", "three"]).await;
        until(async || dead(api).await.len() == 3).await;
        let letters = dead(api).await;
        let letter = |at: usize| json!({ "event": letters[at]["event"]["id"], "observer": "stock" });
        let dropped = post(api, "/v1/dead/drop", &json!({ "letters": [letter(0)] })).await;
        assert_eq!(dropped, json!({ "dropped": 1 }), "{url}");
        assert_eq!(
            post(api, "/v1/dead/drop", &json!({ "letters": [letter(0)] })).await,
            json!({ "dropped": 0 }),
            "{url}"
        );
        works.store(true, Ordering::SeqCst);
        let both = json!({ "letters": [letter(0), letter(1)] });
        assert_eq!(post(api, "/v1/dead/retry", &both).await, json!({ "retried": 1 }), "{url}");
        until(async || dead(api).await.len() == 1).await;
        let id = letters[2]["event"]["id"].as_str().unwrap();
        let replay = format!("/v1/events/{id}/replay");
        assert_eq!(post(api, &replay, &json!({ "observer": "stock" })).await, json!({ "queued": 1 }), "{url}");
        until(async || {
            let shown = api.get(&format!("/v1/events/{id}")).await;
            dead(api).await.is_empty() && texts(&shown["observations"], "state") == ["done", "done"]
        })
        .await;
        assert_eq!(post(api, &replay, &json!({ "all_observers": true })).await, json!({ "queued": 2 }), "{url}");
        for (body, expected) in [
            (r#"{"observer":"nobody"}"#, 400),
            (r#"{"observer":"stock","all_observers":true}"#, 400),
            (r#"{"observer":"a\u0000b"}"#, 400),
            ("{}", 400),
            ("[]", 400),
            ("", 400),
            (r#"{"observer":"stock","more":1}"#, 400),
        ] {
            assert_eq!(api.error("POST", &replay, Some(body)).await.0, expected, "{url} {body}");
        }
        assert_eq!(api.error("POST", "/v1/events/ffffffff/replay", Some(r#"{"observer":"stock"}"#)).await.0, 404);
        let letters: Vec<_> = (0..1001).map(|_| json!({ "event": id, "observer": "stock" })).collect();
        for letters in [
            json!(letters),
            json!([]),
            json!([{ "event": &id[..8], "observer": "stock" }]),
            json!([{ "event": id, "observer": "" }]),
        ] {
            let body = json!({ "letters": letters }).to_string();
            assert_eq!(
                api.error("POST", "/v1/dead/retry", Some(&body)).await,
                (400, "bad_request".to_owned()),
                "{url}"
            );
        }
        assert!(server.stop().await.unwrap(), "{url}");
    }
}

#[tokio::test]
async fn a_change_by_cookie_comes_from_the_page_and_one_by_token_from_anywhere() {
    let server = auth::start("token = \"adminTokenOfSomeLength\"", Hooks::default()).await;
    let api = Client::new(server.admin);
    let cookie = auth::sign_in(api).await;
    let body = Some(r#"{"letters":[{"event":"01900000-0000-7000-8000-000000000000","observer":"x"}]}"#);
    for (headers, status) in [
        (String::new(), 401),
        ("Authorization: Bearer adminTokenOfSomeLength\r\n".to_owned(), 200),
        (cookie.clone(), 403),
        (format!("{cookie}Origin: http://127.0.0.1\r\n"), 200),
        (format!("{cookie}Origin: http://evil.example\r\n"), 403),
        (format!("{cookie}Origin: http://127.0.0.1\r\nOrigin: http://evil.example\r\n"), 403),
        (format!("{cookie}Origin: http://rebound.example\r\nHost: rebound.example\r\n"), 403),
        (format!("{cookie}Origin: http://127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n"), 403),
    ] {
        for target in ["/v1/dead/retry", "/v1/dead/drop"] {
            assert_eq!(api.with(&headers).request("POST", target, body).await.status, status, "{target} {headers}");
        }
    }
    // A form of another site can send no JSON.
    let form = "POST /v1/dead/drop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\
                Authorization: Bearer adminTokenOfSomeLength\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    assert_eq!(server.admin.send(form.as_bytes()).await.status, 415);
    let large = format!(r#"{{"letters":"{}"}}"#, "x".repeat(600 << 10));
    let api = api.with("Authorization: Bearer adminTokenOfSomeLength\r\n");
    assert_eq!(api.request("POST", "/v1/dead/drop", Some(&large)).await.status, 413);
}

#[tokio::test]
async fn a_sample_is_sent_as_the_platform_would() {
    let works = Arc::new(AtomicBool::new(true));
    let server = TestServer::start_on("memory:", "", ACCOUNTS, hooks(&works)).await;
    let api = Client::new(server.admin);
    let text = json!({ "account": "mp/shop", "type": "mp.message.text", "set": { "Content": "<b>hi</b>" } });
    let sent = post(api, "/v1/samples", &text).await;
    assert_eq!((&sent["status"], &sent["error"]), (&200.into(), &Json::Null), "{sent}");
    assert!(sent["reply"].as_str().unwrap().contains("echo: <b>hi</b>"), "{sent}");
    let shown = api.get(&format!("/v1/events/{}", sent["event"].as_str().unwrap())).await;
    assert_eq!((&shown["type"], &shown["data"]["Content"]), (&"mp.message.text".into(), &"<b>hi</b>".into()));
    for (account, event_type) in [
        ("mp/plain", "mp.event.subscribe"),
        ("mp/compat", "mp.message.image"),
        ("miniprogram/game", "miniprogram.event.user_enter_tempsession"),
        ("wecom/sales", "wecom.message.text"),
        ("wecom_kf/support", "wecom_kf.message.text"),
        ("openplatform/agency", "openplatform.info.authorized"),
        ("openplatform/agency", "mp.message.text"),
        ("wecom_suite/crm", "wecom_suite.info.create_auth"),
        ("wecom_bot/helper", "wecom_bot.message.text"),
        ("im/chat", "im.command.sns.friend_add"),
        ("im/chat", "im.command.sns.prev_friend_add"),
    ] {
        let sent = post(api, "/v1/samples", &json!({ "account": account, "type": event_type })).await;
        assert_eq!((&sent["status"], &sent["error"]), (&200.into(), &Json::Null), "{account} {event_type}: {sent}");
    }
    for (body, expected) in [
        (json!({ "account": "mp/none", "type": "mp.message.text" }), (404, "not_found")),
        (json!({ "account": "mp/shop", "type": "mp.message.none" }), (404, "not_found")),
        (json!({ "account": "mp/shop", "type": "wecom.message.text" }), (404, "not_found")),
        (json!({ "account": "mp/shop", "type": "" }), (404, "not_found")),
        (
            json!({ "account": "mp/shop", "type": "mp.message.text", "set": { "Content.deep": "x" } }),
            (400, "bad_request"),
        ),
        (json!({ "account": "mp/shop", "type": "mp.message.text", "set": { "Content": 1 } }), (400, "bad_request")),
    ] {
        let (status, code) = api.error("POST", "/v1/samples", Some(&body.to_string())).await;
        assert_eq!((status, &*code), expected, "{body}");
    }
}

#[tokio::test]
async fn the_log_has_who_did_what_and_no_secret() {
    let (log, _guard) = Log::begin();
    let works = Arc::new(AtomicBool::new(true));
    let settings = "token = \"adminTokenOfSomeLength\"\nmask = [\"Content\"]";
    let server = auth::start(settings, hooks(&works)).await;
    let api = Client::new(server.admin);
    let cookie = auth::sign_in(api).await;
    send(&server, 1, &["private words"]).await;
    let bearer = api.with("Authorization: Bearer adminTokenOfSomeLength\r\n");
    let id = bearer.get("/v1/events").await["events"][0]["id"].as_str().unwrap().to_owned();
    bearer.get(&format!("/v1/events/{id}?reveal=true")).await;
    let page = format!("{cookie}Origin: http://127.0.0.1\r\n");
    post(api.with(&page), &format!("/v1/events/{id}/replay"), &json!({ "observer": "audit" })).await;
    let letters = json!({ "letters": [{ "event": id, "observer": "audit" }] });
    post(bearer, "/v1/dead/drop", &letters).await;
    post(bearer, "/v1/dead/retry", &letters).await;
    post(bearer, "/v1/samples", &json!({ "account": "mp/shop", "type": "mp.message.text" })).await;
    let text = log.text();
    for (action, by) in [
        ("reveal", "token"),
        ("replay", "session"),
        ("drop", "token"),
        ("retry", "token"),
        ("sample", "token"),
        ("login", ""),
    ] {
        let line = text.lines().find(|line| line.contains(&format!("audit=\"{action}\"")));
        let line = line.unwrap_or_else(|| panic!("no line of {action} in {text}"));
        assert!(line.contains(by) && line.contains("127.0.0.1") && line.contains("INFO"), "{line}");
        assert!(action == "sample" || action == "login" || line.contains(&id), "{line}");
    }
    let secret = cookie.split_once("echostr_session=").unwrap().1.trim();
    for secret in SECRETS.into_iter().chain(["adminTokenOfSomeLength", "private words", secret]) {
        assert!(!text.contains(secret), "{secret}");
    }
}
