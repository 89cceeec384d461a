//! What can be read: events, observers, dead letters, accounts, refusals.

use std::{
    any::Any,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use serde_json::Value as Json;
use tempfile::TempDir;

use super::{Client, texts};
use crate::support::{
    TestServer, postgres,
    server::{ACCOUNTS, IM, MP, PLAIN, SECRETS, event, text_message},
    until,
};

const SETTINGS: &str = "\n[observers]\nmax_attempts = 1\n";

/// The journals, with what has to live as long as they do.
pub async fn journals() -> Vec<(String, Box<dyn Any>)> {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    let mut all: Vec<(String, Box<dyn Any>)> = vec![("memory:".to_owned(), Box::new(())), (sqlite, Box::new(folder))];
    if let Some(url) = postgres::database().await {
        all.push((url, Box::new(())));
    }
    all
}

/// Answers texts, but for one that fails; an observer fails until it works.
pub fn hooks(works: &Arc<AtomicBool>) -> Hooks {
    let works = Arc::clone(works);
    Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| match message.content.as_str() {
            "fail" => Err("the warehouse is closed".into()),
            text => Ok(Reply::text(format!("echo: {text}"))),
        })
        .observe("audit", async |_: mp::TextMessage, _: Context| Ok(()))
        .observe("stock", move |_: mp::TextMessage, _: Context| {
            let works = works.load(Ordering::SeqCst);
            async move { if works { Ok(()) } else { Err("no luck".into()) } }
        })
}

/// Sends texts to `mp/shop`, from the id on.
pub async fn send(server: &TestServer, from: u64, texts: &[&str]) {
    for (id, text) in (from..).zip(texts) {
        let answer = server.post("/mp/shop", &MP.safe(&text_message(id, text), &format!("n{id}"))).await;
        assert_eq!(answer.status, 200, "{text}");
    }
}

#[tokio::test]
async fn events_are_listed_filtered_and_shown_on_every_journal() {
    for (url, _kept) in journals().await {
        let works = Arc::new(AtomicBool::new(true));
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{SETTINGS}"), hooks(&works)).await;
        let api = Client::new(server.admin);
        assert_eq!(api.get("/v1/events").await, serde_json::json!({ "events": [], "next": null }), "{url}");
        send(&server, 1, &["one", "two", "fail"]).await;
        let location =
            event("LOCATION", "<Latitude>23.5</Latitude><Longitude>113.25</Longitude><Precision>120</Precision>");
        server.post("/mp/plain", &PLAIN.plain(&location, "n4")).await;
        let friend = r#"{"CallbackCommand":"Sns.CallbackFriendAdd","PairList":[{"From_Account":"id","To_Account":"id1","Initiator_Account":"id"}],"EventTime":1791284400123}"#;
        assert_eq!(server.post("/im/chat", &IM.command("Sns.CallbackFriendAdd", friend)).await.status, 200);
        // A repeat of the first.
        send(&server, 1, &["one"]).await;
        until(async || {
            let all = api.get("/v1/events").await;
            all["events"].as_array().unwrap().iter().any(|event| event["deliveries"] == 2)
        })
        .await;

        let all = api.get("/v1/events").await;
        assert_eq!(
            texts(&all["events"], "type"),
            ["im.command.sns.friend_add", "mp.event.location", "mp.message.text", "mp.message.text", "mp.message.text"],
            "{url}"
        );
        assert_eq!(all["next"], Json::Null);
        let (one, failed) = (&all["events"][4], &all["events"][2]);
        assert_eq!(
            (&one["account"], &one["platform"], &one["subject"]),
            (&"mp/shop".into(), &"mp".into(), &"user_openid".into())
        );
        assert_eq!(one["title"], serde_json::json!({ "en": "Text message from a user", "zh": "文本消息" }));
        assert_eq!(
            (&one["state"], &one["has_reply"], &one["failure"]),
            (&"answered".into(), &true.into(), &Json::Null)
        );
        assert_eq!((&failed["state"], &failed["has_reply"]), (&"defaulted".into(), &false.into()), "{url}");
        assert!(failed["failure"].as_str().unwrap().contains("the warehouse is closed"), "{failed}");
        assert!(one.get("payload").is_none() && one["time"].as_str().unwrap().ends_with('Z'), "{one}");

        for (filter, count) in [
            ("platform=im", 1),
            ("account=mp/shop", 3),
            ("account=mp%2Fplain", 1),
            ("type=mp.message.*", 3),
            ("type=mp.event.location", 1),
            ("type=mp.event", 0),
            ("subject=user_openid", 4),
            ("state=defaulted", 1),
            ("text=two", 1),
            ("text=%3CContent%3E", 3),
            ("text=113.25&platform=mp", 1),
            ("since=2020-01-01T00:00:00Z", 5),
            ("until=1000", 0),
            ("account=&state=", 5),
            ("limit=2", 2),
        ] {
            let found = api.get(&format!("/v1/events?{filter}")).await;
            assert_eq!(found["events"].as_array().unwrap().len(), count, "{url} {filter}: {found}");
        }

        let id = one["id"].as_str().unwrap();
        let shown = api.get(&format!("/v1/events/{id}")).await;
        assert_eq!((&shown["form"], &shown["deliveries"]), (&"xml".into(), &2.into()), "{url}");
        assert!(shown["payload"].as_str().unwrap().contains("<![CDATA[one]]>"), "{shown}");
        assert_eq!((&shown["data"]["Content"], &shown["data"]["MsgId"]), (&"one".into(), &"1".into()));
        assert!(shown["reply"].as_str().unwrap().contains("echo: one"), "{shown}");
        assert_eq!((&shown["cloudevent"]["specversion"], &shown["cloudevent"]["id"]), (&"1.0".into(), &id.into()));
        until(async || {
            let shown = api.get(&format!("/v1/events/{id}")).await;
            let observations = &shown["observations"];
            texts(observations, "observer") == ["audit", "stock"] && texts(observations, "state") == ["done", "done"]
        })
        .await;
        let full = api.get("/v1/events?view=full&text=two").await;
        assert!(full["events"][0]["payload"].as_str().unwrap().contains("two") && full["events"][0]["form"] == "xml");

        // The id without dashes, in capitals, and as much of it as is unique.
        let plain = id.replace('-', "");
        for same in [&plain, &plain.to_uppercase(), &plain[..20].to_owned(), &id[..30].to_owned()] {
            assert_eq!(api.get(&format!("/v1/events/{same}")).await["id"], id, "{url} {same}");
        }
        assert_eq!(api.error("GET", &format!("/v1/events/{}", &id[..8]), None).await, (409, "ambiguous".to_owned()));
        assert_eq!(api.error("GET", "/v1/events/ffffffff", None).await, (404, "not_found".to_owned()));
        assert_eq!(api.error("GET", "/v1/events/00000000", None).await, (404, "not_found".to_owned()));
        assert_eq!(api.error("GET", &format!("/v1/events/{}", &id[..7]), None).await, (400, "bad_request".to_owned()));
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_while_more_comes() {
    for (url, _kept) in journals().await {
        let works = Arc::new(AtomicBool::new(true));
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{SETTINGS}"), hooks(&works)).await;
        let api = Client::new(server.admin);
        let words: Vec<String> = (0..25).map(|at| format!("word{at}")).collect();
        send(&server, 1, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let (mut seen, mut next) = (Vec::new(), String::new());
        for round in 0.. {
            let page = api.get(&format!("/v1/events?limit=4&account=mp/shop{next}")).await;
            seen.extend(texts(&page["events"], "id").into_iter().map(str::to_owned));
            send(&server, 100 + round, &["more"]).await;
            let Some(cursor) = page["next"].as_str() else { break };
            next = format!("&before={cursor}");
        }
        assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (25, 25), "{url}");
        assert!(seen.is_sorted_by(|one, other| one > other), "{url}");
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn observers_and_dead_letters_are_listed() {
    for (url, _kept) in journals().await {
        let works = Arc::new(AtomicBool::new(false));
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{SETTINGS}"), hooks(&works)).await;
        let api = Client::new(server.admin);
        send(&server, 1, &["one", "two", "three"]).await;
        until(async || api.get("/v1/dead").await["letters"].as_array().unwrap().len() == 3).await;
        let letters = api.get("/v1/dead?limit=2").await;
        let first = &letters["letters"][0];
        assert_eq!((&first["observer"], &first["attempts"]), (&"stock".into(), &1.into()), "{url}");
        assert_eq!((&first["error"], &first["event"]["type"]), (&"no luck".into(), &"mp.message.text".into()), "{url}");
        let rest = api.get(&format!("/v1/dead?limit=2&before={}", letters["next"].as_str().unwrap())).await;
        assert_eq!(rest["letters"].as_array().unwrap().len(), 1, "{url}");
        let ids: BTreeSet<_> = [&letters, &rest]
            .into_iter()
            .flat_map(|page| page["letters"].as_array().unwrap())
            .map(|letter| letter["event"]["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 3, "{url}");
        for (filter, count) in [("observer=stock", 3), ("observer=audit", 0), ("text=two", 1), ("account=mp/plain", 0)]
        {
            let found = api.get(&format!("/v1/dead?{filter}")).await;
            assert_eq!(found["letters"].as_array().unwrap().len(), count, "{url} {filter}");
        }
        until(async || {
            let all = api.get("/v1/observers").await;
            let of =
                |name: &str| all["observers"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
            let (audit, stock) = (of("audit"), of("stock"));
            audit["pending"] == 0
                && audit["dead"] == 0
                && stock["dead"] == 3
                && stock["internal"] == false
                && stock["absent_since"].is_null()
        })
        .await;
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn accounts_show_what_came_and_how_long_it_took() {
    let works = Arc::new(AtomicBool::new(true));
    let server = TestServer::start_on("memory:", "", ACCOUNTS, hooks(&works)).await;
    let api = Client::new(server.admin);
    send(&server, 1, &["one", "two", "fail"]).await;
    send(&server, 1, &["one"]).await;
    server.http.get("/mp/shop?signature=x").await;
    let all = api.get("/v1/accounts").await;
    let of = |id: &str| all["accounts"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap().clone();
    let shop = of("mp/shop");
    assert_eq!((&shop["path"], &shop["url_path_hint"]), (&"/mp/shop".into(), &"https://HOST/mp/shop".into()));
    assert_eq!((&shop["mode"], &shop["has_secret"], &shop["token"]), (&"safe".into(), &false.into(), &Json::Null));
    let deliveries = &shop["deliveries"];
    assert_eq!(
        (&deliveries["answered"], &deliveries["defaulted"], &deliveries["repeated"], &shop["refused"]),
        (&2.into(), &1.into(), &1.into(), &1.into()),
        "{shop}"
    );
    let rates = shop["rates"].as_array().unwrap();
    assert_eq!((rates.len(), rates.iter().filter_map(Json::as_u64).sum::<u64>()), (60, 4), "{shop}");
    assert!(shop["latencies_ms"]["p99"].as_f64().unwrap() > 0.0 && shop["last_event"].is_string(), "{shop}");
    let game = of("miniprogram/game");
    assert_eq!((&game["latencies_ms"], &game["last_event"], &game["in_flight"]), (&Json::Null, &Json::Null, &0.into()));
    assert_eq!(of("mp/plain")["mode"], "plain");

    let info = api.get("/v1/info").await;
    assert_eq!((&info["version"], &info["journal"]["kind"]), (&env!("CARGO_PKG_VERSION").into(), &"memory".into()));
    assert!(info["journal"]["bytes"].as_u64().unwrap() > 0 && info["started"].is_string(), "{info}");
    assert_eq!((&info["ready"]["ok"], &info["masked"], &info["token"]), (&true.into(), &false.into(), &false.into()));
    assert_eq!(api.get("/v1/forwards").await["forwards"], serde_json::json!([]));
}

#[tokio::test]
async fn the_catalogue_has_every_type_in_both_languages() {
    let server = TestServer::start(Hooks::default()).await;
    let api = Client::new(server.admin);
    let all = api.get("/v1/catalog").await;
    let types = all["types"].as_array().unwrap();
    assert!(types.len() > 600, "{}", types.len());
    for one in types {
        assert!(["en", "zh"].iter().all(|language| !one["name"][language].as_str().unwrap().is_empty()), "{one}");
        assert!(one["sample"].is_null() || !one["sample"]["payload"].as_str().unwrap().is_empty(), "{one}");
    }
    let im = api.get("/v1/catalog?platform=im").await;
    assert!(im["types"].as_array().unwrap().iter().all(|one| one["platform"] == "im"));
    assert_eq!(api.error("GET", "/v1/catalog?platform=qq", None).await, (400, "bad_request".to_owned()));
}

#[tokio::test]
async fn refusals_say_which_step_failed_and_hold_nothing_that_was_sent() {
    let server = TestServer::start(Hooks::default()).await;
    let api = Client::new(server.admin);
    let mut forged = MP.safe(&text_message(1, "private words"), "nonce1");
    forged.query = forged.query.replace("msg_signature=", "msg_signature=0");
    assert_eq!(server.post("/mp/shop", &forged).await.status, 403);
    let old = MP.sealed_query("x", "1000", "nonce2");
    server.http.post(&format!("/mp/shop?{old}"), "<xml><Encrypt>x</Encrypt></xml>").await;
    server.http.post("/mp/shop?signature=aaaa&secret=hunter2&hunter3", "<xml>private words</xml>").await;
    server.http.post("/mp/shpo?signature=bbbb", "private words").await;
    server.http.send(b"PUT /mp/shop?signature=cccc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    server.http.get("/nobody?x=hunter2").await;
    let all = api.get("/v1/refusals").await;
    let reasons = texts(&all["refusals"], "reason");
    assert_eq!(reasons.first(), Some(&"wrong_method"), "{all}");
    for expected in ["wrong_signature", "unknown_account", "plaintext", "stale"] {
        assert!(reasons.contains(&expected), "{expected} in {all}");
    }
    let of = |reason: &str| all["refusals"].as_array().unwrap().iter().find(|it| it["reason"] == reason).unwrap();
    let wrong = of("wrong_signature");
    assert!(wrong["step"].is_string() && wrong["hint"].as_str().unwrap().contains("token"), "{wrong}");
    assert_eq!(
        (&wrong["account"], &wrong["path"], &wrong["client"]),
        (&"mp/shop".into(), &"/mp/shop".into(), &"127.0.0.1".into())
    );
    assert!(of("unknown_account")["hint"].as_str().unwrap().contains("/mp/shop"), "{all}");
    assert!(of("stale")["hint"].as_str().unwrap().contains("max_age"), "{all}");
    assert_eq!((&of("plaintext")["step"], &of("stale")["step"]), (&"body".into(), &Json::Null));
    let text = all.to_string();
    let sent = ["private words", "hunter2", "hunter3", "aaaa", "bbbb", "cccc", "nonce1", "nonce2", &forged.query];
    for secret in sent.into_iter().chain(SECRETS) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // Many of one kind are one.
    for _ in 0..150 {
        server.http.get("/mp/shop?signature=x").await;
    }
    let all = api.get("/v1/refusals").await;
    assert!(all["refusals"].as_array().unwrap().len() < 10, "{all}");
    assert!(all["refusals"][0]["count"].as_u64().unwrap() >= 150, "{all}");
}

#[tokio::test]
async fn how_long_each_delivery_of_an_event_took_is_shown() {
    let hooks = Hooks::default().on(async |_: mp::TextMessage, _: Context| {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        Ok(Reply::text("slept"))
    });
    let server = TestServer::start(hooks).await;
    let api = Client::new(server.admin);
    let message = text_message(1, "hi");
    for nonce in ["n1", "n2", "n3"] {
        assert!(server.post("/mp/plain", &PLAIN.plain(&message, nonce)).await.body.contains("slept"));
    }
    let listed = api.get("/v1/events").await;
    let first = listed["events"][0]["duration_ms"].as_f64().unwrap();
    assert!(first >= 30.0, "{first}");
    let event = api.get(&format!("/v1/events/{}", listed["events"][0]["id"].as_str().unwrap())).await;
    let attempts = event["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["duration_ms"]), (3, &event["duration_ms"]));
    let times = super::texts(&event["attempts"], "time");
    assert!(times.is_sorted(), "{event}");
}
