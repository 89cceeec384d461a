//! Messages of WeChat and WeCom, answered: in the clear, encrypted, in JSON, during a key rotation.

use std::future::ready;

use echostr::{
    events::{miniprogram, mp, wecom, wecom_bot},
    hooks::{Context, Hooks, RawEvent},
    replies,
};
use tokio::sync::mpsc;

use crate::support::{
    Log, NOW, TestServer,
    platform::{Signed, WeChat},
    server::{BOT, COMPAT, KF, MINI, MP, MP_OLD, PLAIN, SUITE, WECOM, event, text_message},
};

fn echo() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| {
            Ok(replies::mp::Reply::text(format!("echo: {}", message.content)))
        })
        .on(async |message: miniprogram::TextMessage, _: Context| {
            Ok(replies::mp::Reply::text(format!("echo: {}", message.content)))
        })
        .on(async |message: wecom::TextMessage, _: Context| {
            Ok(replies::wecom::Reply::text(format!("echo: {}", message.content)))
        })
}

fn expected(content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[user_openid]]></ToUserName><FromUserName><![CDATA[gh_account]]></FromUserName>\
         <CreateTime>1735689600</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[echo: {content}]]></Content></xml>"
    )
}

#[tokio::test]
async fn an_encrypted_text_is_answered_encrypted() {
    let server = TestServer::start(echo()).await;
    let answer = server.post("/mp/shop", &MP.safe(&text_message(1, "你好 <>&]]"), "n")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/xml; charset=utf-8")));
    assert!(!answer.body.contains("echo"), "{}", answer.body);
    assert_eq!(MP.open_reply(&answer.body), expected("你好 <>&]]"));
}

#[tokio::test]
async fn the_end_of_a_cdata_section_survives_both_ways() {
    let server = TestServer::start(echo()).await;
    let split = text_message(1, "a]]]]><![CDATA[>b");
    let answer = server.post("/mp/plain", &PLAIN.plain(&split, "n")).await;
    assert!(answer.body.contains("<Content><![CDATA[echo: a]]]]><![CDATA[>b]]></Content>"), "{}", answer.body);
}

#[tokio::test]
async fn spaces_that_a_user_wrote_stay() {
    let server = TestServer::start(echo()).await;
    let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(1, "  hi \n"), "n")).await;
    assert_eq!(answer.body, expected("  hi \n"));
}

#[tokio::test]
async fn a_plain_text_is_answered_in_the_clear() {
    let server = TestServer::start(echo()).await;
    let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(1, "hi"), "n")).await;
    assert_eq!(answer.body, expected("hi"));
}

#[tokio::test]
async fn a_compatible_account_takes_both_and_the_encrypted_part_counts() {
    let server = TestServer::start(echo()).await;
    let answer = server.post("/mp/compat", &COMPAT.plain(&text_message(1, "clear"), "a")).await;
    assert_eq!(answer.body, expected("clear"));
    let sealed = COMPAT.safe(&text_message(2, "sealed"), "b");
    let both = Signed { body: sealed.body.replace("<xml>", "<xml><Content>clear</Content>"), ..sealed };
    let answer = server.post("/mp/compat", &both).await;
    assert_eq!(COMPAT.open_reply(&answer.body), expected("sealed"));
}

#[tokio::test]
async fn a_rotation_takes_old_and_new_and_answers_with_what_opened() {
    let server = TestServer::start(echo()).await;
    let pairs = [MP, MP_OLD, WeChat { token: MP_OLD.token, ..MP }, WeChat { aes_key: MP_OLD.aes_key, ..MP }];
    for (id, platform) in (1..).zip(pairs) {
        let answer = server.post("/mp/shop", &platform.safe(&text_message(id, "hi"), "n")).await;
        assert_eq!(platform.open_reply(&answer.body), expected("hi"), "{platform:?}");
    }
}

#[tokio::test]
async fn a_mini_program_is_answered_in_its_own_form() {
    let server = TestServer::start(echo()).await;
    let json = r#"{"ToUserName":"gh_account","FromUserName":"user_openid","CreateTime":1735689600,"MsgType":"text","Content":"hi","MsgId":7}"#;
    let answer = server.post("/miniprogram/game", &MINI.safe_json(json, "n")).await;
    assert!(answer.body.starts_with("{\"Encrypt\":"), "{}", answer.body);
    assert_eq!(
        MINI.open_reply(&answer.body),
        r#"{"ToUserName":"user_openid","FromUserName":"gh_account","CreateTime":1735689600,"MsgType":"text","Content":"echo: hi"}"#
    );
    let answer = server.post("/miniprogram/game", &MINI.safe(&text_message(8, "hi"), "n")).await;
    assert_eq!(MINI.open_reply(&answer.body), expected("hi"));
}

#[tokio::test]
async fn wecom_is_answered_by_a_passive_reply_and_kf_by_nothing() {
    let server = TestServer::start(echo()).await;
    let answer = server.post("/wecom/sales", &WECOM.safe(&text_message(1, "hi"), "n")).await;
    assert_eq!(WECOM.open_reply(&answer.body), expected("hi"));
    let callback = event("kf_msg_or_event", "<Token>t</Token><OpenKfId>wk1</OpenKfId>");
    let answer = server.post("/wecom_kf/support", &KF.safe(&callback, "n")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_url_check_of_each_platform_is_answered() {
    let server = TestServer::start(Hooks::default()).await;
    for (path, platform) in [("/wecom/sales", WECOM), ("/wecom_kf/support", KF)] {
        let sealed = platform.encrypt("8315637468324");
        let escaped = sealed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let query = platform.sealed_query(&sealed, "1735689600", "n");
        let answer = server.http.get(&format!("{path}?{query}&echostr={escaped}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "8315637468324"), "{path}");
    }
    for (path, platform) in [("/mp/shop", MP), ("/mp/plain", PLAIN), ("/miniprogram/game", MINI)] {
        let query = platform.plain_query("1735689600", "n");
        let answer = server.http.get(&format!("{path}?{query}&echostr=8315637468324")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "8315637468324"), "{path}");
    }
}

#[tokio::test]
async fn an_account_may_have_a_path_of_its_own() {
    let accounts =
        "[mp.own]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\npath = \"/wechat/callback\"\n";
    let server = TestServer::start_with("", accounts, echo()).await;
    for (path, status) in [("/wechat/callback", 200), ("/wechat/callback/", 200), ("/mp/own", 404)] {
        let nonce = path.replace('/', "");
        let answer = server.post(path, &PLAIN.plain(&text_message(1, "hi"), &nonce)).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

/// The platforms do not escape what users write.
#[tokio::test]
async fn a_message_is_what_the_user_wrote() {
    let server = TestServer::start(echo()).await;
    for (id, content) in (1..).zip([
        "<![CDATA[<status><![CDATA[abc]]></status>]]>",
        "</xml>",
        "]]></xml>",
        "a]]>b",
        "]]></Content><Content><![CDATA[evil",
        "]]></Content><FromUserName><![CDATA[boss]]></FromUserName><MsgId>8</MsgId><Content><![CDATA[evil",
        "]]></Content>",
    ]) {
        let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), "n")).await;
        let reply = MP.open_reply(&answer.body);
        let written = content.replace("]]>", "]]]]><![CDATA[>");
        assert!(reply.contains(&format!("<Content><![CDATA[echo: {written}]]></Content>")), "{content}: {reply}");
        assert!(reply.contains("<ToUserName><![CDATA[user_openid]]></ToUserName>"), "{content}: {reply}");
    }
}

/// Whatever an authentic body is, it is acknowledged, kept, counted and logged by its own reason.
#[tokio::test]
async fn what_cannot_be_read_is_kept() {
    let (log, _guard) = Log::begin();
    let (seen, mut events) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe_any("all", "*", move |event: RawEvent, _: Context| {
        seen.send((event.event_type, event.payload.text().to_owned())).unwrap();
        ready(Ok(()))
    });
    let server = TestServer::start(hooks).await;
    for payload in ["<xml><a></xml>", "{", "text", "", "<!DOCTYPE x><xml/>"] {
        let answer = server.post("/mp/shop", &MP.safe(payload, "n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{payload}");
        let (event_type, kept) = events.recv().await.unwrap();
        assert_eq!((event_type, kept.as_str()), ("mp.message.unknown", payload));
    }
    let line = r#"echostr_deliveries_total{platform="mp",account="shop",outcome="acknowledged",reason="unreadable"}"#;
    assert_eq!(server.metric(line).await, 5.0);
    let lines = log.text().matches("mp/shop: could not read a delivery, stored it as mp.message.unknown").count();
    assert_eq!(lines, 5, "{}", log.text());
}

/// WeCom writes the names in JSON in either case, and is answered in the same.
#[tokio::test]
async fn wecom_is_answered_in_the_form_of_its_request() {
    let hooks = echo().on(async |message: wecom_bot::TextMessage, _: Context| {
        Ok(replies::wecom_bot::Reply::markdown(format!("echo: {}", message.text.content)))
    });
    let server = TestServer::start(hooks).await;
    let bot = r#"{"msgid":"m","aibotid":"b","chattype":"single","from":{"userid":"u"},"msgtype":"text","text":{"content":"hi"}}"#;
    let message = |id: u64| text_message(id, "hi");
    for (at, (path, account, payload)) in (0..).zip([
        ("/wecom/sales", WECOM, message(1)),
        ("/wecom_suite/crm", SUITE, message(2)),
        ("/wecom_kf/support", KF, message(3)),
        ("/wecom_bot/helper", BOT, bot.to_owned()),
    ]) {
        for (case, names) in [
            ("encrypt", ["encrypt", "msgsignature", "timestamp", "nonce"]),
            ("Encrypt", ["Encrypt", "MsgSignature", "TimeStamp", "Nonce"]),
        ] {
            let payload = payload.replace("\"m\"", &format!("\"m{at}{case}\""));
            let sealed = account.encrypt(&payload);
            let (to, agent) = if case == "encrypt" { ("tousername", "agentid") } else { ("ToUserName", "AgentID") };
            let body = format!(r#"{{"{to}":"id","{agent}":"1","{case}":"{sealed}"}}"#);
            let query = account.sealed_query(&sealed, &NOW.to_string(), &format!("n{at}{case}"));
            let answer = server.post(path, &Signed { query, body }).await;
            assert_eq!(answer.status, 200, "{path} {case}: {}", answer.body);
            if path == "/wecom_kf/support" {
                assert_eq!(answer.body, "", "nobody answers there");
                continue;
            }
            let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            let found: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
            let mut names = names.to_vec();
            names.sort_unstable();
            assert_eq!(found, names, "{path} {case}");
        }
        // Not both.
        let sealed = account.encrypt(&payload);
        let query = account.sealed_query(&sealed, &NOW.to_string(), &format!("n{at}both"));
        let body = format!(r#"{{"encrypt":"{sealed}","Encrypt":"{sealed}"}}"#);
        assert_eq!(server.post(path, &Signed { query, body }).await.body, "bad_envelope", "{path}");
    }
}
