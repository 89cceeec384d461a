//! Who has seen a request or an answer gets nothing in clear for it, and no answer is taken for a message.

use echostr::{
    events::{miniprogram, mp, wecom, wecom_bot},
    hooks::{Context, Hooks},
    replies,
};
use serde_json::{Value as Json, json};

use crate::support::{
    Answer, NOW, TestServer,
    platform::{Signed, WeChat},
    server::{ACCOUNTS, BOT, COMPAT, KF, MINI, MP, MP_OLD, OPEN, SUITE, WECOM, text_message},
};

/// The time of every test, as it stands in a query.
const T: &str = "1735689600";

/// Accounts beside those of [`ACCOUNTS`] that have the keys of one of them.
const TWINS: &str = r#"
[mp.twin]
app_id = "wx0000000000000001"
token = "mpToken"
aes_key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
[miniprogram.twin]
app_id = "wx0000000000000003"
token = "miniToken"
aes_key = "miniminiminiminiminiminiminiminiminiminimin"
[wecom.twin]
corp_id = "ww0000000000000004"
token = "wecomToken"
aes_key = "wecomwecomwecomwecomwecomwecomwecomwecomwec"
[wecom_kf.twin]
corp_id = "ww0000000000000004"
token = "kfToken"
aes_key = "kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk"
[wecom_suite.twin]
suite_id = "wwsuite00000000001"
receive_ids = ["any"]
token = "suiteToken"
aes_key = "suitesuitesuitesuitesuitesuitesuitesuitesui"
[wecom_bot.twin]
token = "botToken"
aes_key = "botbotbotbotbotbotbotbotbotbotbotbotbotbotb"
"#;

/// Every route whose check of the URL opens the echo, an account with the same keys, and the keys.
const OPENING: [(&str, &str, WeChat); 4] = [
    ("/wecom/sales", "/wecom/twin", WECOM),
    ("/wecom_kf/support", "/wecom_kf/twin", KF),
    ("/wecom_suite/crm", "/wecom_suite/twin", SUITE),
    ("/wecom_bot/helper", "/wecom_bot/twin", BOT),
];

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
        .on(async |message: wecom_bot::TextMessage, _: Context| {
            Ok(replies::wecom_bot::Reply::markdown(format!("echo: {}", message.text.content)))
        })
}

async fn start() -> TestServer {
    // These tests send more without a signature than one address may.
    TestServer::start_with("unsigned_limit = 0", &format!("{ACCOUNTS}{TWINS}"), echo()).await
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The message of a user of a bot.
fn bot_text(id: &str) -> String {
    json!({
        "msgid": id, "create_time": NOW, "aibotid": "AIBOT", "chattype": "single",
        "from": { "userid": "zhangsan" }, "msgtype": "text", "text": { "content": "hi" },
    })
    .to_string()
}

fn encrypt_of(signed: &Signed) -> String {
    match serde_json::from_str::<Json>(&signed.body) {
        Ok(body) => body["encrypt"].as_str().or(body["Encrypt"].as_str()).unwrap().to_owned(),
        Err(_) => signed.body.split("<Encrypt><![CDATA[").nth(1).unwrap().split("]]>").next().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn a_url_check_gives_back_a_number_and_nothing_else() {
    let server = start().await;
    let longest = "1".repeat(32);
    for (path, _, platform) in OPENING {
        for number in ["0", "007", "1616140317555161061", &longest] {
            let sealed = platform.encrypt(number);
            let query = platform.sealed_query(&sealed, T, "n");
            let answer = server.http.get(&format!("{path}?{query}&echostr={}", escaped(&sealed))).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, number), "{path}");
        }
        let texts = [
            "",
            "hello",
            "1616140317555161061\n",
            "1616140317555161061\r\n",
            "\n1616140317555161061",
            " 1616140317555161061",
            "1616140317555161061 ",
            "1616140317555161061\0",
            "+1616140317555161061",
            "-1616140317555161061",
            "16161403175.55161061",
            "16161403175e55161061",
            "0x16161403175",
            "1616140317555161061a",
            "１６１６１４０３１７５５５１６１０６１",
            "٣١٦١٤٠٣١٧",
            "²³¹",
            &"1".repeat(33),
            &"1".repeat(4096),
            "<xml><MsgType>text</MsgType><Content>hush</Content></xml>",
            "{\"msgtype\":\"text\"}",
            "{}",
            "<xml><SuiteId>wwsuite00000000001</SuiteId><InfoType>suite_ticket</InfoType>\
             <TimeStamp>1735689600</TimeStamp><SuiteTicket>hush</SuiteTicket></xml>",
        ];
        for text in texts {
            let sealed = platform.encrypt(text);
            let query = platform.sealed_query(&sealed, T, "n");
            let answer = server.http.get(&format!("{path}?{query}&echostr={}", escaped(&sealed))).await;
            assert_eq!((answer.status, answer.body.as_str()), (403, "bad_echo"), "{path} {text:?}");
            assert!(text.is_empty() || !answer.head.contains(text), "{path} {text:?}");
        }
    }
    let counted =
        "echostr_deliveries_total{platform=\"wecom\",account=\"sales\",outcome=\"refused\",reason=\"bad_echo\"}";
    assert_eq!(server.metric(counted).await, 23.0);
    assert!(!server.admin.get("/metrics").await.body.contains("hush"));
}

#[tokio::test]
async fn a_captured_delivery_is_not_opened_by_a_get() {
    let server = start().await;
    for (path, twin, platform) in OPENING {
        let ticket = "<xml><SuiteId>wwsuite00000000001</SuiteId><InfoType>suite_ticket</InfoType>\
                      <TimeStamp>1735689600</TimeStamp><SuiteTicket>hush</SuiteTicket></xml>";
        let sent = if path.starts_with("/wecom_bot") {
            vec![platform.safe_bot(&bot_text("1"), "captured")]
        } else {
            vec![
                platform.safe(&text_message(1, "hush"), "captured"),
                platform.safe_json("{\"MsgType\":\"text\",\"Content\":\"hush\"}", "captured"),
                platform.safe(ticket, "captured"),
            ]
        };
        for signed in sent {
            assert_eq!(server.post(path, &signed).await.status, 200, "{path}");
            let sealed = encrypt_of(&signed);
            let echo = escaped(&sealed);
            let reversed: Vec<_> = signed.query.split('&').rev().collect();
            for target in [
                format!("{path}?{}&echostr={echo}", signed.query),
                format!("{path}?echostr={echo}&{}", signed.query),
                format!("{path}/?echostr={echo}&{}", reversed.join("&")),
                format!("{path}?{}&echostr={sealed}", signed.query),
                format!("{path}?{}&%65chostr={echo}&x=y", signed.query),
                format!("{twin}?{}&echostr={echo}", signed.query),
            ] {
                let answer = server.http.get(&target).await;
                assert_eq!((answer.status, answer.body.as_str()), (403, "bad_echo"), "{target}");
            }
            for method in ["get", "Get", "post", "Post", "OPTIONS", "PUT"] {
                let head = format!(
                    "{method} {path}?{}&echostr={echo} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
                    signed.query
                );
                let answer = server.http.send(head.as_bytes()).await;
                assert_eq!(answer.status, 405, "{method} {path}");
            }
        }
    }
}

/// A sealed answer, taken apart.
#[derive(Clone, Debug)]
struct Sealed {
    encrypt: String,
    signature: String,
    time: String,
    nonce: String,
}

impl Sealed {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let text = &answer.body;
        if let Ok(body) = serde_json::from_str::<Json>(text) {
            let value = |one: &str, other: &str| match body.get(one).or(body.get(other)) {
                Some(Json::String(text)) => text.clone(),
                other => other.unwrap_or_else(|| panic!("no {one} in {text}")).to_string(),
            };
            return Self {
                encrypt: value("encrypt", "Encrypt"),
                signature: value("msgsignature", "MsgSignature"),
                time: value("timestamp", "TimeStamp"),
                nonce: value("nonce", "Nonce"),
            };
        }
        let value = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}"));
            let (value, _) = rest.split_once(&format!("</{name}>")).unwrap();
            value.trim_start_matches("<![CDATA[").trim_end_matches("]]>").to_owned()
        };
        Self {
            encrypt: value("Encrypt"),
            signature: value("MsgSignature"),
            time: value("TimeStamp"),
            nonce: value("Nonce"),
        }
    }

    /// Queries that the signature of the answer fits, or may be thought to fit.
    fn queries(&self) -> Vec<String> {
        let Self { signature, time, nonce, .. } = self;
        let whole = format!("msg_signature={signature}&timestamp={time}&nonce={nonce}");
        vec![
            whole.clone(),
            format!("{whole}&encrypt_type=aes"),
            format!("nonce={nonce}&encrypt_type=aes&timestamp={time}&msg_signature={signature}"),
            format!("encrypt_type=aes&msg_%73ignature={signature}&timestamp={time}&nonce={nonce}"),
        ]
    }

    /// Time and nonce with their digits moved from one to the other, or in each other's place.
    fn moved(&self) -> Vec<String> {
        let Self { signature, time, nonce, .. } = self;
        let joined = [format!("{time}{nonce}"), format!("{nonce}{time}")];
        let mut queries = Vec::new();
        for joined in joined {
            for at in 1..joined.len() {
                let (one, other) = joined.split_at(at);
                for (time, nonce) in [(one, other), (other, one)] {
                    if (time, nonce) != (self.time.as_str(), self.nonce.as_str()) {
                        queries
                            .push(format!("msg_signature={signature}&timestamp={time}&nonce={nonce}&encrypt_type=aes"));
                    }
                }
            }
        }
        queries
    }

    fn bodies(&self) -> [String; 4] {
        let Self { encrypt, signature, time, nonce } = self;
        [
            format!("<xml><ToUserName>a</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"),
            format!("{{\"ToUserName\":\"a\",\"Encrypt\":\"{encrypt}\"}}"),
            format!("{{\"encrypt\":\"{encrypt}\"}}"),
            format!(
                "<xml><Encrypt>{encrypt}</Encrypt><MsgSignature>{signature}</MsgSignature>\
                 <TimeStamp>{time}</TimeStamp><Nonce>{nonce}</Nonce></xml>"
            ),
        ]
    }
}

/// Every kind of account that seals its answers: where a message goes, who has the same keys, and the message.
fn sealing() -> Vec<(&'static str, &'static str, WeChat, Signed)> {
    let text = text_message(1, "hi");
    let json = format!(
        "{{\"ToUserName\":\"gh_account\",\"FromUserName\":\"user_openid\",\"CreateTime\":{NOW},\"MsgType\":\"text\",\
         \"Content\":\"hi\",\"MsgId\":2}}"
    );
    let open = "/openplatform/agency/wxauthorizer000001";
    let for_suite = text.replace("</xml>", "<AgentID>1</AgentID></xml>");
    vec![
        ("/mp/shop", "/mp/twin", MP, MP.safe(&text, "n")),
        ("/mp/shop", "/mp/shop", MP_OLD, MP_OLD.safe(&text_message(3, "hi"), "n")),
        ("/mp/compat", "/mp/compat", COMPAT, COMPAT.safe(&text, "n")),
        ("/miniprogram/game", "/miniprogram/twin", MINI, MINI.safe(&text, "n")),
        ("/miniprogram/game", "/miniprogram/twin", MINI, MINI.safe_json(&json, "n")),
        ("/wecom/sales", "/wecom/twin", WECOM, WECOM.safe(&text, "n")),
        ("/wecom/sales", "/wecom/twin", WECOM, WECOM.safe_json(&json, "n")),
        ("/wecom_suite/crm", "/wecom_suite/twin", SUITE, SUITE.safe(&for_suite, "n")),
        ("/wecom_bot/helper", "/wecom_bot/twin", BOT, BOT.safe_bot(&bot_text("1"), "n")),
        (open, open, OPEN, OPEN.safe(&text, "n")),
    ]
}

#[tokio::test]
async fn an_answer_that_is_sent_back_is_no_message() {
    let server = start().await;
    for (path, twin, platform, message) in sealing() {
        let answer = Sealed::of(&server.post(path, &message).await);
        for path in [path, twin] {
            let bot = path.starts_with("/wecom_bot");
            let bodies = answer.bodies().into_iter().filter(|body| body.starts_with("{\"encrypt\"") == bot);
            for body in bodies {
                for query in answer.queries() {
                    let back = server.http.post(&format!("{path}?{query}"), &body).await;
                    assert_eq!((back.status, back.body.as_str()), (403, "reflected_answer"), "{path}?{query} {body}");
                }
            }
            let body = answer.bodies()[if bot { 2 } else { 0 }].clone();
            for query in answer.moved() {
                let back = server.http.post(&format!("{path}?{query}"), &body).await;
                assert!(matches!(back.status, 400 | 403), "{path}?{query}: {} {}", back.status, back.body);
            }
            // Also signed anew by somebody who knows the token.
            let signed = platform.sealed_query(&answer.encrypt, T, "anew");
            let back = server.http.post(&format!("{path}?{signed}"), &body).await;
            assert_eq!((back.status, back.body.as_str()), (403, "reflected_answer"), "{path}?{signed}");
        }
        // The platform's own message is not refused, and its repeat gets the answer again.
        assert_eq!(server.post(path, &message).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_answer_is_not_opened_by_a_get() {
    let server = start().await;
    for (path, twin, platform, message) in sealing() {
        let answer = Sealed::of(&server.post(path, &message).await);
        let opens = path.starts_with("/wecom");
        for path in [path, twin] {
            for query in answer.queries() {
                for echo in [escaped(&answer.encrypt), answer.encrypt.clone()] {
                    let got = server.http.get(&format!("{path}?{query}&echostr={echo}")).await;
                    let reason = if opens { "reflected_answer" } else { "missing_parameter" };
                    assert_eq!((got.status, got.body.as_str()), (403, reason), "{path}?{query}");
                }
            }
            for query in answer.moved() {
                let got = server.http.get(&format!("{path}?{query}&echostr={}", escaped(&answer.encrypt))).await;
                assert!(matches!(got.status, 400 | 403), "{path}?{query}: {} {}", got.status, got.body);
            }
        }
        let _ = platform;
    }
}

/// The parts of a signature are joined before they are hashed, so that of an encrypted request or of an answer is also
/// that of a clear one, whose nonce ends with the cipher text.
#[tokio::test]
async fn the_signature_of_a_cipher_text_does_not_pass_for_one_of_clear_text() {
    let server = start().await;
    let (nonce, mut found) = ("9999999999", false);
    for id in 1..500 {
        // Thirty-two bytes behind a random part that differs each time.
        let blocks = format!("{id:016}\0\0\0\x05<xml>{}{}", COMPAT.receive_id, "\x05".repeat(5));
        let sealed = COMPAT.encrypt_blocks(blocks.as_bytes());
        let joined = format!("{nonce}{sealed}");
        let signature = COMPAT.sign(&[T, nonce, &sealed]);
        if COMPAT.sign(&[T, &joined]) != signature {
            continue; // The parts stand in another order.
        }
        found = true;
        let query = format!("signature={signature}&timestamp={T}&nonce={}", escaped(&joined));
        let forged = server.http.post(&format!("/mp/compat?{query}"), text_message(9_000 + id, "pay")).await;
        assert_eq!((forged.status, forged.body.as_str()), (403, "bad_nonce"));
        let got = server.http.get(&format!("/mp/compat?{query}&echostr=1")).await;
        assert_eq!((got.status, got.body.as_str()), (403, "bad_nonce"));
    }
    assert!(found, "no order of the parts makes it possible");
}

/// The same with an answer of ours, whose parts are as they come.
#[tokio::test]
async fn the_signature_of_an_answer_does_not_pass_for_one_of_clear_text() {
    let server = start().await;
    let mut found = 0;
    for id in 1..200 {
        let message = COMPAT.safe(&text_message(id, "hi"), &format!("n{id}"));
        let Sealed { encrypt, signature, time, nonce } = Sealed::of(&server.post("/mp/compat", &message).await);
        let joined = format!("{nonce}{encrypt}");
        found += u32::from(COMPAT.sign(&[&time, &joined]) == signature);
        let query = format!("signature={signature}&timestamp={time}&nonce={}", escaped(&joined));
        let forged = server.http.post(&format!("/mp/compat?{query}"), text_message(9_000 + id, "pay")).await;
        assert_eq!((forged.status, forged.body.as_str()), (403, "bad_nonce"));
    }
    assert!(found > 0, "no order of the parts makes it possible");
}
