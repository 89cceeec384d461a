//! Deliveries in flight: an account whose responders are stuck takes nothing from the others.

use std::{future::pending, sync::Arc};

use echostr::{
    events::{mp, wecom},
    hooks::{Context, HandlerError, Hooks},
    replies::{self, mp::Reply},
};
use tokio::sync::Notify;

use crate::support::{
    Log, TestServer,
    http::request,
    platform::Signed,
    server::{COMPAT, MP, PLAIN, WECOM, text_message},
};

const MP_ACCOUNTS: &str = r#"
[mp.shop]
app_id = "wx0000000000000001"
token = "mpToken"
aes_key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
[mp.plain]
app_id = "wx0000000000000009"
token = "plainToken"
mode = "plain"
"#;

const COMPAT_ACCOUNT: &str = r#"
[mp.compat]
app_id = "wx0000000000000002"
token = "compatToken"
aes_key = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
mode = "compat"
"#;

/// Responders of texts that never end, and say when they begin; an image is answered at once.
fn stuck() -> (Arc<Notify>, Hooks) {
    let began = Arc::new(Notify::new());
    let signal = Arc::clone(&began);
    let hooks = Hooks::default()
        .on(move |_: mp::TextMessage, _: Context| {
            signal.notify_one();
            pending::<Result<Reply, HandlerError>>()
        })
        .on(async |_: mp::ImageMessage, _: Context| Ok(Reply::text("fine")))
        .on(async |_: wecom::TextMessage, _: Context| Ok(replies::wecom::Reply::text("fine")));
    (began, hooks)
}

/// Sends deliveries whose responders are stuck, and whose clients leave.
async fn get_stuck(server: &TestServer, began: &Notify, path: &str, sign: impl Fn(&str, &str) -> Signed, count: u64) {
    for id in 1..=count {
        let signed = sign(&text_message(id, "hi"), &format!("n{id}"));
        let client = server.http.open(&request(&format!("{path}?{}", signed.query), signed.body.as_bytes())).await;
        began.notified().await;
        drop(client);
    }
    while server.metric("echostr_connections").await > 0.0 {
        tokio::task::yield_now().await;
    }
}

fn image(id: u64) -> String {
    text_message(id, "x").replace("[text]", "[image]")
}

#[tokio::test]
async fn an_account_that_is_stuck_refuses_its_own_deliveries_only() {
    let (log, _guard) = Log::begin();
    let (began, hooks) = stuck();
    let server = TestServer::start_with("max_in_flight = 8\nshutdown_grace = \"0s\"", MP_ACCOUNTS, hooks).await;
    get_stuck(&server, &began, "/mp/plain", |text, nonce| PLAIN.plain(text, nonce), 4).await;
    // Their clients have left, and they are in flight all the same.
    assert_eq!(server.metric("echostr_in_flight").await, 4.0);
    let of = |account: &str| format!("echostr_account_in_flight{{platform=\"mp\",account=\"{account}\"}}");
    assert_eq!((server.metric(&of("plain")).await, server.metric(&of("shop")).await), (4.0, 0.0));
    let oldest = |account: &str| format!("echostr_oldest_responder_seconds{{platform=\"mp\",account=\"{account}\"}}");
    assert!(server.metric(&oldest("plain")).await > 0.0);
    assert_eq!(server.metric(&oldest("shop")).await, 0.0);
    for at in 0..20 {
        let answer = server.post("/mp/plain", &PLAIN.plain(&image(at), &format!("more{at}"))).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("retry-after")), (503, "overloaded", Some("1")));
    }
    for id in 1..=20 {
        let answer = server.post("/mp/shop", &MP.safe(&image(id), &id.to_string())).await;
        assert!(MP.open_reply(&answer.body).contains("fine"));
    }
    assert_eq!(server.admin.get("/readyz").await.status, 200);
    server.stop().await.unwrap();
    let text = log.text();
    let line = "mp/plain: rejected a delivery with 503: its share of max_in_flight (4 of 8) reached";
    assert_eq!(text.matches(line).count(), 1, "{text}");
}

#[tokio::test]
async fn however_many_accounts_are_stuck_the_others_are_answered() {
    let (began, hooks) = stuck();
    let accounts = format!("{MP_ACCOUNTS}{COMPAT_ACCOUNT}");
    let server = TestServer::start_with("max_in_flight = 12\nshutdown_grace = \"0s\"", &accounts, hooks).await;
    // Two of the twelve belong to each account, six to whoever comes first.
    get_stuck(&server, &began, "/mp/plain", |text, nonce| PLAIN.plain(text, nonce), 6).await;
    get_stuck(&server, &began, "/mp/compat", |text, nonce| COMPAT.safe(text, nonce), 4).await;
    for (path, signed) in [("/mp/plain", PLAIN.plain(&image(1), "p")), ("/mp/compat", COMPAT.safe(&image(1), "c"))] {
        assert_eq!(server.post(path, &signed).await.body, "overloaded", "{path}");
    }
    for id in 1..=20 {
        let answer = server.post("/mp/shop", &MP.safe(&image(id), &id.to_string())).await;
        assert!(MP.open_reply(&answer.body).contains("fine"));
    }
    assert_eq!(server.metric("echostr_in_flight").await, 10.0);
}

#[tokio::test]
async fn an_account_may_have_a_share_of_its_own() {
    let (began, hooks) = stuck();
    let accounts = format!("{MP_ACCOUNTS}max_in_flight = 1\n");
    let server = "max_in_flight = 100\nmax_in_flight_per_account = 3\nshutdown_grace = \"0s\"";
    let server = TestServer::start_with(server, &accounts, hooks).await;
    get_stuck(&server, &began, "/mp/plain", |text, nonce| PLAIN.plain(text, nonce), 1).await;
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&image(1), "p")).await.body, "overloaded");
    get_stuck(&server, &began, "/mp/shop", |text, nonce| MP.safe(text, nonce), 3).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&image(1), "s")).await.body, "overloaded");
    assert_eq!(server.metric("echostr_in_flight").await, 4.0);
}

#[tokio::test]
async fn one_account_may_take_everything_where_there_is_no_other() {
    let (began, hooks) = stuck();
    let account = "[wecom.sales]\ncorp_id = \"ww0000000000000004\"\ntoken = \"wecomToken\"\n\
                   aes_key = \"wecomwecomwecomwecomwecomwecomwecomwecomwec\"\n";
    let plain = "[mp.plain]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\n";
    let server = TestServer::start_with("max_in_flight = 3\nshutdown_grace = \"0s\"", plain, hooks).await;
    get_stuck(&server, &began, "/mp/plain", |text, nonce| PLAIN.plain(text, nonce), 3).await;
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&image(1), "p")).await.body, "overloaded");
    // With too little to divide, an account that may not take everything leaves room.
    let (began, hooks) = stuck();
    let both = format!("{plain}{account}");
    let server = TestServer::start_with("max_in_flight = 2\nshutdown_grace = \"0s\"", &both, hooks).await;
    get_stuck(&server, &began, "/mp/plain", |text, nonce| PLAIN.plain(text, nonce), 1).await;
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&image(1), "p")).await.body, "overloaded");
    let answer = server.post("/wecom/sales", &WECOM.safe(&text_message(1, "hi"), "w")).await;
    assert!(WECOM.open_reply(&answer.body).contains("fine"));
}
