//! Who calls: the platform's own list of its addresses, and addresses that send much without a valid signature.

use std::{fs, net::SocketAddr, path::Path};

use echostr::{
    hooks::Hooks,
    simulate::api::{FakeApi, Faults},
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::support::{
    Answer, Http, Log, TestServer,
    http::{read_answer, request},
    platform::{Signed, WeChat},
    postgres::database,
    program::Program,
    server::{IM, MP, OPEN, PLAIN, text_message},
    until,
};

const LIST: &str = "/cgi-bin/getcallbackip";
const PROXY: &str = "trusted_proxies = [\"127.0.0.1\"]";
const ACCESS: &str = "app_id = \"wx0000000000000001\"\nsecret = \"mpSecret\"";

/// An API with this list.
async fn api(list: Json) -> FakeApi {
    let api = FakeApi::start(1).await.unwrap();
    api.add_account("wx0000000000000001", "mpSecret");
    api.set_answer(LIST, json!({ "ip_list": list }));
    api
}

/// An account with its secret, and what it does about addresses.
fn account(api: &FakeApi, name: &str, source: &str) -> String {
    let (key, token, base) = (MP.aes_key, MP.token, api.url());
    format!(
        "[mp.{name}]\n{ACCESS}\ntoken = \"{token}\"\naes_key = \"{key}\"\napi_base = \"{base}\"\nsource = \"{source}\"\n"
    )
}

/// A delivery that no other is a repeat of.
fn delivery(id: u64) -> Signed {
    MP.safe(&text_message(id, "hi"), &format!("n{id}"))
}

/// A request with `X-Forwarded-For`.
fn forwarded(client: &str, target: &str, body: &str) -> Vec<u8> {
    let request = String::from_utf8(request(target, body.as_bytes())).unwrap();
    request.replacen("\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n"), 1).into_bytes()
}

async fn post(http: Http, client: &str, path: &str, signed: &Signed) -> Answer {
    http.send(&forwarded(client, &format!("{path}?{}", signed.query), &signed.body)).await
}

/// Waits until the list of an account has so many entries.
async fn knows(server: &TestServer, account: &str, entries: u32) {
    let series = format!("echostr_source_addresses{{platform=\"mp\",account=\"{account}\"}}");
    until(async || server.metric(&series).await == f64::from(entries)).await;
}

async fn unexpected(server: &TestServer, account: &str) -> f64 {
    server.metric(&format!("echostr_unexpected_source_total{{platform=\"mp\",account=\"{account}\"}}")).await
}

/// What the event API says.
async fn api_of(server: &TestServer, path: &str) -> Json {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.admin.0);
    serde_json::from_str(&server.admin.send(request.as_bytes()).await.body).unwrap()
}

#[tokio::test]
async fn other_addresses_are_ignored_counted_or_refused() {
    let (log, _guard) = Log::begin();
    let api = api(json!(["198.51.100.7", "203.0.113.*", "192.0.2.0/25", "2001:db8:1::/48", "nonsense", 7])).await;
    let accounts = ["off", "warn", "enforce"].map(|name| account(&api, name, name)).concat();
    let server = TestServer::start_with(PROXY, &accounts, Hooks::default()).await;
    knows(&server, "warn", 4).await;
    knows(&server, "enforce", 4).await;
    assert!(log.text().contains("2 entries of the platform's list of its addresses cannot be read"), "{}", log.text());

    let mut id = 0;
    let inside =
        ["198.51.100.7", "::ffff:198.51.100.7", "203.0.113.0", "203.0.113.255", "192.0.2.127", "2001:db8:1:ffff::9"];
    let outside = ["198.51.100.8", "203.0.114.0", "192.0.2.128", "2001:db8:2::1", "::ffff:198.51.100.6", "::1"];
    for (client, refused) in inside.map(|it| (it, false)).into_iter().chain(outside.map(|it| (it, true))) {
        for name in ["off", "warn", "enforce"] {
            id += 1;
            let answer = post(server.http, client, &format!("/mp/{name}"), &delivery(id)).await;
            let expected = if refused && name == "enforce" { (403, "unexpected_source") } else { (200, "success") };
            assert_eq!((answer.status, &*answer.body), expected, "{client} {name}");
        }
    }
    assert_eq!([unexpected(&server, "warn").await, unexpected(&server, "enforce").await], [6.0; 2]);
    let refused = "echostr_deliveries_total{account=\"enforce\",outcome=\"refused\",reason=\"unexpected_source\"}";
    assert_eq!(server.metric(refused).await, 6.0);
    assert_eq!(server.metric("echostr_deliveries_total{account=\"enforce\",outcome=\"acknowledged\"}").await, 6.0);
    assert_eq!(server.metric("echostr_deliveries_total{account=\"warn\",outcome=\"acknowledged\"}").await, 12.0);

    // One line for each in a minute; and who has no header is told so.
    let lines = log.text();
    for line in
        ["mp/warn: handled all the same: a request of 198.51.100.8", "mp/enforce: refused: a request of 198.51.100.8"]
    {
        assert_eq!(lines.matches(line).count(), 1, "{line}: {lines}");
    }
    assert_eq!(lines.matches("that the platform calls from;").count(), 0, "{lines}");
    let signed = delivery(100);
    let answer = server.post("/mp/enforce", &signed).await;
    assert_eq!((answer.status, &*answer.body), (403, "unexpected_source"));
    let refusals: Json = api_of(&server, "/v1/refusals").await;
    let newest = &refusals["refusals"][0];
    assert_eq!(
        (&newest["reason"], &newest["account"]),
        (&json!("unexpected_source"), &json!("mp/enforce")),
        "{refusals}"
    );
    assert!(newest["hint"].as_str().unwrap().contains("sent no X-Forwarded-For"), "{newest}");

    // Nothing of the body is waited for; what was refused is new when it comes from the platform.
    let whole = forwarded("198.51.100.9", &format!("/mp/enforce?{}", signed.query), &signed.body);
    let answer = server.http.send(&whole[..whole.len() - 20]).await;
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    assert_eq!(post(server.http, "203.0.113.9", "/mp/enforce", &signed).await.status, 200);
    assert_eq!(server.metric("echostr_deliveries_total{account=\"enforce\",outcome=\"repeated\"}").await, 0.0);

    let listed: Json = api_of(&server, "/v1/accounts").await;
    let sources: Vec<_> = listed["accounts"].as_array().unwrap().iter().map(|it| it["source"].clone()).collect();
    assert_eq!((&sources[0]["check"], &sources[0]["addresses"]), (&json!("enforce"), &json!(4)), "{listed}");
    assert!(sources[0]["fetched"].is_string() && sources[1].is_null(), "{listed}");
}

/// Only who is trusted says for whom a request is.
#[tokio::test]
async fn a_header_of_somebody_else_is_not_believed() {
    let api = api(json!(["198.51.100.7", "127.0.0.3"])).await;
    let server = TestServer::start_with(
        "trusted_proxies = [\"127.0.0.2\"]",
        &account(&api, "shop", "enforce"),
        Hooks::default(),
    )
    .await;
    knows(&server, "shop", 2).await;
    let signed = delivery(1);
    let sent = async |from: [u8; 4], client: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let mut stream = socket.connect(server.http.0).await.unwrap();
        let bytes = forwarded(client, &format!("/mp/shop?{}", signed.query), &signed.body);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
        read_answer(&mut stream).await.unwrap().status
    };
    for (from, client, status) in [
        ([127, 0, 0, 1], "198.51.100.7", 403),
        ([127, 0, 0, 2], "198.51.100.8", 403),
        ([127, 0, 0, 2], "198.51.100.7, 198.51.100.8", 403),
        ([127, 0, 0, 2], "nobody", 403),
        ([127, 0, 0, 2], "198.51.100.8, 198.51.100.7", 200),
        ([127, 0, 0, 3], "198.51.100.8", 200),
    ] {
        assert_eq!(sent(from, client).await, status, "{from:?} {client}");
    }
}

/// While nothing is known, nothing is refused: the server starts, says so, and gets the list when it can be had.
#[tokio::test]
async fn without_a_list_everything_is_accepted() {
    let (log, _guard) = Log::begin();
    let api = api(json!([])).await;
    let server = TestServer::start_with(PROXY, &account(&api, "shop", "enforce"), Hooks::default()).await;
    let known = |line: &str| log.text().contains(line);
    until(async || {
        known("mp/shop: cannot fetch the list of the platform's addresses: the platform's list of addresses is empty")
    })
    .await;
    assert!(known("none is known, so every address is accepted"), "{}", log.text());
    assert_eq!(post(server.http, "198.51.100.8", "/mp/shop", &delivery(1)).await.status, 200);
    let ready = server.admin.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("mp/shop: the platform's addresses are not known yet"), "{}", ready.body);

    api.set_answer(LIST, json!({ "ip_list": "198.51.100.7" }));
    knows(&server, "shop", 1).await;
    assert_eq!(post(server.http, "198.51.100.8", "/mp/shop", &delivery(2)).await.status, 403);
    assert_eq!(server.admin.get("/readyz").await.body, "ready\n");
    assert_eq!(unexpected(&server, "shop").await, 1.0);
}

/// Starts on a journal that has a list, with an API that is away: from the first request on the list holds.
async fn holds_after_a_restart(journal: &str) {
    let api = api(json!(["198.51.100.7"])).await;
    let accounts = account(&api, "shop", "enforce");
    let start = async || TestServer::start_from(PROXY, journal, "", &accounts, Hooks::default()).await;
    let server = start().await;
    knows(&server, "shop", 1).await;
    assert!(server.stop().await.unwrap());
    api.set_faults(Faults { bad_gateway: 1.0, ..Faults::default() });
    let calls = api.counts().calls[LIST];
    let server = start().await;
    assert_eq!(post(server.http, "198.51.100.8", "/mp/shop", &delivery(1)).await.status, 403, "{journal}");
    assert_eq!(post(server.http, "198.51.100.7", "/mp/shop", &delivery(2)).await.status, 200, "{journal}");
    assert!(server.stop().await.unwrap());
    assert_eq!(api.counts().calls[LIST], calls, "it is fetched once a day, {journal}");
}

#[tokio::test]
async fn sqlite_keeps_the_list() {
    let folder = TempDir::new().unwrap();
    holds_after_a_restart(&format!("sqlite://{}", folder.path().join("journal.db").display())).await;
}

#[tokio::test]
async fn postgres_keeps_the_list_and_one_node_fetches_it() {
    let Some(url) = database().await else { return };
    holds_after_a_restart(&url).await;

    let api = api(json!(["198.51.100.7"])).await;
    let accounts = account(&api, "both", "enforce");
    let start = async || TestServer::start_from(PROXY, &url, "", &accounts, Hooks::default()).await;
    let (one, two) = tokio::join!(start(), start());
    knows(&one, "both", 1).await;
    knows(&two, "both", 1).await;
    assert_eq!(api.counts().calls[LIST], 1);
}

/// A list of the day before is fetched again; where that fails, or gives nothing, the old one is used.
#[tokio::test]
async fn an_old_list_is_used_until_there_is_another() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let (log, _guard) = Log::begin();
    let api = api(json!(["198.51.100.7"])).await;
    let accounts = account(&api, "shop", "enforce");
    let start = async || TestServer::start_from(PROXY, &url, "", &accounts, Hooks::default()).await;
    let age = |list: &str| {
        let db = rusqlite::Connection::open(&file).unwrap();
        let value = json!({ "fetched": 1_600_000_000_000_u64, "entries": [list] }).to_string();
        let changed = db.execute("UPDATE slot SET value = ?1 WHERE name = 'source/mp/shop'", [value]);
        assert_eq!(changed.unwrap(), 1);
    };
    let server = start().await;
    knows(&server, "shop", 1).await;
    assert!(server.stop().await.unwrap());

    age("203.0.113.5");
    api.set_answer(LIST, json!({ "ip_list": [] }));
    let server = start().await;
    until(async || log.text().contains("list of addresses is empty; the one of")).await;
    assert!(log.text().contains("days ago is used, which is OLD"), "{}", log.text());
    assert_eq!(post(server.http, "203.0.113.5", "/mp/shop", &delivery(1)).await.status, 200);
    assert_eq!(post(server.http, "198.51.100.7", "/mp/shop", &delivery(2)).await.status, 403);
    assert!(server.metric("echostr_source_age_seconds{account=\"shop\"}").await > 86_400.0);
    assert!(server.stop().await.unwrap());

    api.set_answer(LIST, json!({ "ip_list": ["198.51.100.7", "198.51.100.9"] }));
    let server = start().await;
    knows(&server, "shop", 2).await;
    assert_eq!(post(server.http, "203.0.113.5", "/mp/shop", &delivery(3)).await.status, 403);
    assert!(server.metric("echostr_source_age_seconds{account=\"shop\"}").await < 86_400.0);
    assert!(server.stop().await.unwrap());

    // What is damaged is no list: it is fetched.
    age("no address");
    let server = start().await;
    knows(&server, "shop", 2).await;
}

/// A third-party platform asks for the list with its own token, which it has by the ticket that was pushed.
#[tokio::test]
async fn a_third_party_platform_has_the_list_too() {
    let api = api(json!(["198.51.100.7"])).await;
    api.add_third_party(OPEN.receive_id, "openSecret", "ticket@@@1");
    let accounts = |source: &str| {
        let WeChat { token, aes_key, receive_id } = OPEN;
        format!(
            "[openplatform.agency]\ncomponent_app_id = \"{receive_id}\"\ntoken = \"{token}\"\naes_key = \"{aes_key}\"\n\
             secret = \"openSecret\"\napi_base = \"{}\"\nsource = \"{source}\"\n",
            api.url()
        )
    };
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let start = async |source: &str| TestServer::start_from(PROXY, &url, "", &accounts(source), Hooks::default()).await;
    let pushed = OPEN.safe(
        &format!(
            "<xml><AppId>{}</AppId><CreateTime>1735689600</CreateTime><InfoType>component_verify_ticket</InfoType>\
             <ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket></xml>",
            OPEN.receive_id
        ),
        "ticket",
    );
    let server = start("off").await;
    assert_eq!(server.post("/openplatform/agency", &pushed).await.status, 200);
    assert!(server.stop().await.unwrap());
    let server = start("enforce").await;
    until(async || server.metric("echostr_source_addresses{platform=\"openplatform\"}").await == 1.0).await;
    assert_eq!(post(server.http, "198.51.100.8", "/openplatform/agency", &pushed).await.status, 403);
    assert_eq!(post(server.http, "198.51.100.7", "/openplatform/agency", &pushed).await.status, 200);
}

/// So many requests a second are within the limit, and a minute's worth at once.
const LIMITED: &str = "trusted_proxies = [\"127.0.0.1\"]\nunsigned_limit = 1";
const AT_ONCE: usize = 60;

const OTHERS: &str = "[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"mpToken\"\naes_key = \"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ\"\n\
    [mp.plain]\napp_id = \"wx0000000000000009\"\ntoken = \"plainToken\"\nmode = \"plain\"\n\
    [im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\n";

#[tokio::test]
async fn a_flood_without_signatures_is_answered_429_and_hinders_nobody() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with(LIMITED, OTHERS, Hooks::default()).await;
    let (bad, good) = ("203.0.113.66", "203.0.113.67");
    let forged =
        |signed: &Signed| Signed { query: signed.query.replace("nonce=n", "nonce=m"), body: signed.body.clone() };
    let kinds = [
        ("/mp/shop", forged(&delivery(1))),
        ("/mp/plain", forged(&PLAIN.plain(&text_message(1, "hi"), "n1"))),
        ("/mp/plain", Signed { query: String::new(), body: "<xml/>".to_owned() }),
        ("/im/chat", Signed { query: "SdkAppid=1400000001&Sign=0&RequestTime=1".to_owned(), body: "{}".to_owned() }),
        ("/mp/nobody", delivery(1)),
        ("/wp-login.php", Signed { query: String::new(), body: String::new() }),
    ];
    let status = async |client: &str, at: usize| {
        let (path, signed) = &kinds[at % kinds.len()];
        let answer = post(server.http, client, path, signed).await;
        (answer.status, answer.header("retry-after").map(str::to_owned), answer.body)
    };
    for at in 0..AT_ONCE {
        let (status, ..) = status(bad, at).await;
        assert!(matches!(status, 403 | 404), "{at}: {status}");
    }
    // A moment later one more may be within the limit.
    let mut limited = 0;
    for at in 0..AT_ONCE {
        match status(bad, at).await {
            (429, after, body) => {
                assert_eq!((after.as_deref(), &*body), (Some("1"), "unsigned_limit"));
                limited += 1;
            }
            other => assert!(matches!(other.0, 403 | 404), "{other:?}"),
        }
    }
    assert!(limited > AT_ONCE / 2, "{limited}");
    assert_eq!(server.metric("echostr_limited_requests_total").await, f64::from(u32::try_from(limited).unwrap()));

    // Others have limits of their own, and what is authentic has none.
    for at in 0..kinds.len() {
        assert!(matches!(status(good, at).await.0, 403 | 404), "{at}");
    }
    let command = IM.command("State.StateChange", "{\"CallbackCommand\":\"State.StateChange\"}");
    for id in 10..10 + 2 * AT_ONCE as u64 {
        for (path, signed) in [
            ("/mp/shop", &delivery(id)),
            ("/mp/plain", &PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"))),
            ("/im/chat", &command),
        ] {
            assert_eq!(post(server.http, bad, path, signed).await.status, 200, "{path} {id}");
        }
        let _ = status(bad, id as usize).await;
    }
    let check = |token: &str| {
        let query = PLAIN.plain_query("1735689600", "check");
        format!(
            "GET /mp/plain?{query}&echostr={token} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {bad}\r\nConnection: close\r\n\r\n"
        )
    };
    assert_eq!(server.http.send(check("77").as_bytes()).await.body, "77");

    // The log has a line for each reason and account, not for each request; all refusals are counted.
    let lines = log.text();
    assert_eq!(lines.matches("mp/plain: answers requests of 203.0.113.66 with 429").count(), 1, "{lines}");
    assert_eq!(
        lines.matches("answers requests of 203.0.113.66 with 429 at paths that no account has").count(),
        1,
        "{lines}"
    );
    assert!(lines.lines().filter(|line| line.contains(bad)).count() < 20, "{lines}");
}

/// What a query decides is decided without the body.
#[tokio::test]
async fn over_the_limit_no_body_is_waited_for_that_cannot_help() {
    let server = TestServer::start_with(LIMITED, OTHERS, Hooks::default()).await;
    let client = "203.0.113.66";
    let unsigned = Signed { query: String::new(), body: "<xml/>".to_owned() };
    until(async || post(server.http, client, "/mp/shop", &unsigned).await.status == 429).await;
    let endless = |query: &str| {
        format!(
            "POST /mp/shop?{query} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {client}\r\nContent-Length: 1000\r\n\r\n<xml>"
        )
    };
    until(async || server.http.send(endless("").as_bytes()).await.status == 429).await;
    // The signature of an encrypted body cannot be judged without it: it is read, and is authentic.
    let signed = delivery(1);
    let whole = forwarded(client, &format!("/mp/shop?{}", signed.query), &signed.body);
    let (first, rest) = whole.split_at(whole.len() - 30);
    let mut stream = server.http.open(first).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, rest).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
}

fn configure(file: &Path, server: &str, accounts: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nmax_age = \"off\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n{accounts}"
    );
    fs::write(file, text).unwrap();
}

#[tokio::test]
async fn both_change_without_a_restart() {
    let api = api(json!(["198.51.100.7"])).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("echostr.toml");
    configure(&file, "", &account(&api, "shop", "off"));
    let program = Program::serve(&file);
    let [address, _] = program.addresses().await;
    let http = Http(address);
    let mut id = 0;
    let mut status = async || {
        id += 1;
        let signed = delivery(id);
        http.post(&format!("/mp/shop?{}", signed.query), &signed.body).await.status
    };
    assert_eq!(status().await, 200);
    for (source, expected) in [("enforce", 403), ("warn", 200), ("enforce", 403), ("off", 200)] {
        configure(&file, "", &account(&api, "shop", source));
        program.signal("-HUP");
        until(async || status().await == expected).await;
    }
    // The next configuration began with the list that was known, and only the first had to fetch it, the last time it was off.
    assert!(api.counts().calls[LIST] <= 2, "{:?}", api.counts());

    let unsigned = async || http.post("/mp/shop", "<xml/>").await.status;
    configure(&file, "unsigned_limit = 1", &account(&api, "shop", "off"));
    program.signal("-HUP");
    until(async || unsigned().await == 429).await;
    assert_eq!(status().await, 200);
    configure(&file, "unsigned_limit = 0", &account(&api, "shop", "off"));
    program.signal("-HUP");
    until(async || unsigned().await == 403).await;
    for _ in 0..2 * AT_ONCE {
        assert_eq!(unsigned().await, 403);
    }
    assert!(program.stop().await);
}
