//! The vectors that the platforms publish, through the running server byte for byte.

use echostr::{
    crypto::EncodingKey,
    envelope::{Keys, Mode, Query, ReceiveIds},
    event::Platform,
    hooks::Hooks,
    secret::Secret,
};

use crate::support::TestServer;

const WECOM: &str = r#"
[wecom.golden]
corp_id = "wx5823bf96d3bd56c7"
token = "QDG6eK"
aes_key = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
"#;

const WECOM_GET: &str = "/wecom/golden?msg_signature=5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3&timestamp=1409659589\
    &nonce=263014780&echostr=P9nAzCzyDtyTWESHep1vC5X9xho%2FqYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp%2B4RPcs8TgAE7OaBO%2BFZXvnaqQ%3D%3D";

const MP: &str = r#"
[mp.golden]
app_id = "wxba5fad812f8e6fb9"
token = "AAAAA"
aes_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
[miniprogram.golden]
app_id = "wxba5fad812f8e6fb9"
token = "AAAAA"
aes_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"#;

const ENCRYPT: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";

const IM: &str = "[im.golden]\nsdk_app_id = 888888\ntoken = \"xxxxyyyy\"\n";
const IM_POST: &str = "/im/golden?SdkAppid=888888&CallbackCommand=State.StateChange&contenttype=json\
    &Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=1669872112";

#[tokio::test]
async fn wecom_answers_the_published_url_check() {
    let server = TestServer::start_with("", WECOM, Hooks::default()).await;
    server.clock.set(1_409_659_589);
    let answer = server.http.get(WECOM_GET).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1616140317555161061"));
    // A `+` that was not escaped is a `+`.
    let answer = server.http.get(&WECOM_GET.replace("%2B", "+")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1616140317555161061"));
    // Eleven minutes later it is a replay.
    server.clock.set(1_409_659_589 + 660);
    assert_eq!(server.http.get(WECOM_GET).await.body, "stale");
}

#[tokio::test]
async fn wecom_answers_at_any_time_without_max_age() {
    let server = TestServer::start_with("max_age = \"off\"", WECOM, Hooks::default()).await;
    assert_eq!(server.http.get(WECOM_GET).await.body, "1616140317555161061");
}

#[tokio::test]
async fn official_accounts_answer_the_published_url_checks() {
    let server = TestServer::start_with("max_age = \"off\"", MP, Hooks::default()).await;
    for (time, nonce, signature) in [
        ("1714036504", "1514711492", "f464b24fc39322e44b38aa78f5edd27bd1441696"),
        ("1714037059", "486452656", "899cf89e464efb63f54ddac96b0a0a235f53aa78"),
    ] {
        let query = format!("signature={signature}&timestamp={time}&nonce={nonce}&echostr=4375120948345356249");
        for path in ["/mp/golden", "/miniprogram/golden"] {
            let answer = server.http.get(&format!("{path}?{query}")).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "4375120948345356249"), "{path}");
        }
    }
}

#[tokio::test]
async fn the_published_message_opens() {
    let (seen, mut events) = tokio::sync::mpsc::unbounded_channel();
    let hooks = Hooks::default().observe_any("all", "*", move |event: echostr::hooks::RawEvent, _| {
        seen.send(event).unwrap();
        async { Ok(()) }
    });
    let server = TestServer::start_with("max_age = \"off\"", MP, hooks).await;
    let body = format!(r#"{{"ToUserName":"gh_97417a04a28d","Encrypt":"{ENCRYPT}"}}"#);
    let query = "signature=6c5c811b55cc85e0e1b54100749188c20beb3f5d&timestamp=1714112445&nonce=415670741\
        &openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3";
    let answer = server.http.post(&format!("/miniprogram/golden?{query}"), body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "success"));
    let event = events.recv().await.unwrap();
    assert_eq!(event.payload.text().len(), 167);
    assert!(event.payload.text().contains("debug_demo"), "{}", event.payload.text());
    assert_eq!(event.key(), ["event", "debug_demo"]);
}

#[test]
fn the_published_answer_is_sealed_to_the_byte() {
    let keys = Keys {
        platform: Platform::MiniProgram,
        tokens: vec![Secret::new("AAAAA")],
        aes_keys: vec![EncodingKey::parse(&"A".repeat(43)).unwrap()],
        receive_ids: ReceiveIds::OneOf(vec!["wxba5fad812f8e6fb9".to_owned()]),
        mode: Mode::Safe,
        max_age: None,
        sdk_app_id: None,
    };
    let query =
        "timestamp=1714112445&nonce=415670741&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3";
    let body = format!(r#"{{"ToUserName":"gh_97417a04a28d","Encrypt":"{ENCRYPT}"}}"#);
    let opened = keys.open(&Query::parse(query).unwrap(), body.as_bytes(), 0).unwrap();
    let random = *b"707722b803182950";
    let sealed =
        keys.seal(opened.seal().unwrap(), r#"{"demo_resp":"good luck"}"#, 1_713_424_427, "415670741", random).unwrap();
    assert_eq!(
        sealed,
        "{\"Encrypt\":\"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==\",\
         \"MsgSignature\":\"1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1\",\"TimeStamp\":1713424427,\"Nonce\":\"415670741\"}"
    );
}

#[tokio::test]
async fn im_takes_the_published_signature() {
    let server = TestServer::start_with("", IM, Hooks::default()).await;
    server.clock.set(1_669_872_112 + 59);
    let answer = server.http.post(IM_POST, r#"{"CallbackCommand":"State.StateChange"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#));
    server.clock.set(1_669_872_112 + 61);
    assert_eq!(server.http.post(IM_POST, "{}").await.body, "stale");
    let server = TestServer::start_with("max_age = \"off\"", IM, Hooks::default()).await;
    assert_eq!(server.http.post(IM_POST, r#"{"CallbackCommand":"State.StateChange"}"#).await.status, 200);
}
