//! What the log says, and what it never says: no secret, no signature, no word of a user.

use echostr::{
    events::{im, mp},
    hooks::{Context, Hooks, RawEvent},
    replies::mp::Reply,
};

use crate::support::{
    Log, TestServer,
    http::request,
    platform::{Signed, WeChat},
    server::{ACCOUNTS, COMPAT, IM, KF, MINI, MP, MP_OLD, PLAIN, SECRETS, WECOM, event, text_message},
};

/// What every user writes here.
const HUSH: &str = "hush-hush";

#[tokio::test]
async fn no_secret_and_no_word_of_a_user_reaches_the_log_or_the_metrics() {
    let (log, _guard) = Log::begin();
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| match message.msg_id.as_str() {
            "1" => Err("no database".into()),
            "2" => panic!("a bug"),
            "3" => Ok(Reply::text("")),
            _ => Ok(Reply::text(message.content)),
        })
        .observe("fails", async |_: mp::TextMessage, _: Context| Err("no audit".into()))
        .observe_any("debugs", "*", async |event: RawEvent, context: Context| {
            tracing::info!("{event:?} {context:?}");
            Ok(())
        })
        .observe("typed", async |_: im::AfterPrivateMessageSend, _: Context| Ok(()));
    let server = TestServer::start_with("body_limit = \"16KiB\"", ACCOUNTS, hooks).await;
    let mut sent: Vec<(String, Signed)> = Vec::new();
    let mut add = |path: &str, signed: Signed| sent.push((path.to_owned(), signed));
    for id in 1..6 {
        add("/mp/shop", MP.safe(&text_message(id, HUSH), "good"));
        add("/mp/plain", PLAIN.plain(&text_message(id, HUSH), &format!("good{id}")));
    }
    let misshapen = event("MASSSENDJOBFINISH", &format!("<TotalCount>{HUSH}</TotalCount>"));
    add("/mp/shop", MP_OLD.safe(&misshapen, "good"));
    add("/mp/shop", MP.safe(&event(HUSH, ""), "good"));
    add("/mp/shop", MP.safe(&format!("<xml><Content>{HUSH}</Other></xml>"), "broken"));
    add("/mp/shop", MP.safe(&format!("<xml><Content>&{HUSH};</Content></xml>"), "entity"));
    add("/mp/shop", MP.safe(HUSH, "text"));
    add("/mp/shop", MP.plain(&text_message(9, HUSH), "clear"));
    add("/mp/shop", WeChat { aes_key: WECOM.aes_key, ..MP }.safe(&text_message(9, HUSH), "key"));
    add("/mp/shop", WeChat { token: "guess", ..MP }.safe(&text_message(9, HUSH), "token"));
    add("/mp/plain", Signed { body: text_message(10, HUSH), ..PLAIN.plain("", "good1") });
    add("/mp/compat", COMPAT.plain(&text_message(9, HUSH), "clear"));
    add("/mp/compat", COMPAT.safe(&text_message(10, HUSH), "sealed"));
    add("/miniprogram/game", MINI.safe_json(&format!("{{\"MsgType\":\"text\",\"Content\":\"{HUSH}\"}}"), "n"));
    add("/miniprogram/game", MINI.safe_json(&format!("{{\"Content\":\"{HUSH}\" {HUSH}}}"), "n"));
    add("/wecom/sales", WECOM.safe(&text_message(1, HUSH), "n"));
    add("/wecom_kf/support", KF.safe(&text_message(1, HUSH), "n"));
    let message = format!("{{\"MsgBody\":[{{\"MsgType\":\"TIMTextElem\",\"MsgContent\":{{\"Text\":\"{HUSH}\"}}}}]}}");
    add("/im/chat", IM.command("C2C.CallbackAfterSendMsg", &message));
    add("/im/chat", IM.command("C2C.CallbackBeforeSendMsg", &message));
    add("/im/chat", IM.command("Nobody.Knows", &message));
    add("/im/chat", IM.command("C2C.CallbackAfterSendMsg", &format!("{{\"MsgBody\":\"{HUSH}\"}}")));
    add("/im/chat", IM.command("C2C.CallbackAfterSendMsg", &format!("{{\"{HUSH}\":")));
    for (path, signed) in &sent {
        let answer = server.post(path, signed).await;
        for secret in SECRETS {
            assert!(!answer.body.contains(secret) && !answer.head.contains(secret), "{path} shows a secret");
        }
        assert!(answer.status == 200 || !answer.body.contains(HUSH), "{path}: {}", answer.body);
    }
    // A message may leave in the middle, and be too large.
    let cut = request(&format!("/mp/shop?{}", sent[0].1.query), sent[0].1.body.as_bytes());
    drop(server.http.open(&cut[..cut.len() - 9]).await);
    let large = PLAIN.plain(&text_message(99, &HUSH.repeat(4000)), "large");
    assert_eq!(server.post("/mp/plain", &large).await.status, 413);
    let metrics = server.admin.get("/metrics").await.body;
    assert!(server.stop().await.unwrap());

    let text = log.text();
    // It is the log: it says what happened.
    for line in [
        "no database",
        "panicked",
        "no audit",
        "wrong_signature",
        "replayed_query",
        "could not read a delivery",
        "too_large",
    ] {
        assert!(text.contains(line), "no {line} in the log:\n{text}");
    }
    let signatures = sent.iter().flat_map(|(_, signed)| signed.query.split('&')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        matches!(name, "signature" | "msg_signature" | "Sign").then_some(value)
    });
    for hidden in SECRETS.into_iter().chain([HUSH, "<xml>", "MsgContent"]).chain(signatures) {
        for (where_from, text) in [("log", &text), ("metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(hidden));
            assert!(line.is_none(), "{hidden} is in the {where_from}: {line:?}");
        }
    }
}

/// What a request says is quoted in one line, and cannot look like another one.
#[tokio::test]
async fn a_request_writes_no_lines_of_its_own() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start(Hooks::default()).await;
    let forger = WeChat { receive_id: "wx1\r\nERROR forged line\u{1b}[31m", ..MP };
    let answer = server.post("/mp/shop", &forger.safe("<xml></xml>", "n")).await;
    assert_eq!(answer.body, "wrong_receive_id");
    server.http.get("/mp/%0D%0AERROR%20forged%20path").await;
    server.http.get("/mp/shop?signature=%0D%0AERROR%20forged%20query&timestamp=1&nonce=%1B").await;
    server.post("/im/chat", &IM.command("%0AERROR%20forged%20command", "{}")).await;
    server
        .post("/mp/shop", &MP.safe("<xml><MsgType>event</MsgType><Event>a\nERROR forged event</Event></xml>", "m"))
        .await;
    assert!(server.stop().await.unwrap());
    let text = log.text();
    assert!(text.contains("wrong_receive_id"), "{text}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("ERROR")), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
}

/// Whose address a refused request is logged with: nobody but a trusted proxy says so.
#[tokio::test]
async fn the_address_of_a_client_is_the_proxys_word_only_where_it_is_trusted() {
    for (trusted, forwarded, expected) in [
        ("", "X-Forwarded-For: 203.0.113.9\r\n", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n", "203.0.113.9"),
        (
            "trusted_proxies = [\"127.0.0.1/32\", \"10.0.0.0/8\"]",
            "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.9, 10.1.2.3\r\n",
            "203.0.113.9",
        ),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: nonsense\r\n", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 203.0.113.9:51234\r\n", "203.0.113.9"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: [2001:db8::9]:443\r\n", "2001:db8::9"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: [2001:db8::9]\r\n", "2001:db8::9"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 2001:db8::9\r\n", "2001:db8::9"),
        (
            "trusted_proxies = [\"127.0.0.1/32\", \"10.0.0.0/8\"]",
            "X-Forwarded-For: 198.51.100.1, 203.0.113.9:8080,10.1.2.3:99\r\n",
            "203.0.113.9",
        ),
        // What a client has made up stays behind what cannot be read.
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 198.51.100.1, unknown\r\n", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: 203.0.113.9:99999\r\n", "127.0.0.1"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "X-Forwarded-For: [203.0.113.9]\r\n", "127.0.0.1"),
        ("trusted_proxies = [\"10.0.0.0/8\"]", "X-Forwarded-For: 203.0.113.9\r\n", "127.0.0.1"),
    ] {
        let (log, _guard) = Log::begin();
        let server = TestServer::start_with(trusted, ACCOUNTS, Hooks::default()).await;
        let request = format!("GET /mp/shop?x=1 HTTP/1.1\r\nHost: test\r\n{forwarded}Connection: close\r\n\r\n");
        assert_eq!(server.http.send(request.as_bytes()).await.body, "missing_parameter");
        let text = log.text();
        assert!(text.contains(&format!("refused a request of {expected}:")), "{trusted} {forwarded:?}: {text}");
    }
}
