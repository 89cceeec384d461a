//! Third-party platforms and applications: tickets, authorisations, messages of those who have authorised.

use echostr::{
    events::{mp, wecom},
    hooks::{Context, Hooks},
    replies,
    simulate::api::FakeApi,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Answer, Log, NOW, TestServer,
    api::sent,
    platform::WeChat,
    server::{OPEN, SUITE, text_message},
    wait_for,
};

/// The data of a company come with its own id.
const COMPANY: WeChat = WeChat { receive_id: "wwcustomer00000001", ..SUITE };

const AUTHORIZER: &str = "wxauthorizer000001";

fn accounts(api: &FakeApi) -> String {
    let base = api.url();
    format!(
        r#"
[observers]
backoff = "20ms..200ms"
max_attempts = 100
[openplatform.agency]
component_app_id = "wxcomponent0000001"
token = "openToken"
aes_key = "openopenopenopenopenopenopenopenopenopenope"
secret = "openSecret"
api_base = "{base}"
[wecom_suite.crm]
suite_id = "wwsuite00000000001"
provider_corp_id = "wwprovider00000001"
receive_ids = ["any"]
token = "suiteToken"
aes_key = "suitesuitesuitesuitesuitesuitesuitesuitesui"
secret = "suiteSecret"
api_base = "{base}"
"#
    )
}

async fn start(folder: &TempDir, api: &FakeApi, hooks: Hooks) -> TestServer {
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    TestServer::start_on(&url, "", &accounts(api), hooks).await
}

/// Handlers that answer through the API of whoever the message is for.
fn by_api() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, context: Context| {
            let authorizer = context.raw().authorizer().unwrap_or_default();
            let text = json!({ "content": format!("{} of {authorizer}", message.content) });
            let body = json!({ "touser": message.envelope.from_user_name, "msgtype": "text", "text": text });
            context.api()?.call("cgi-bin/message/custom/send", &body).await?;
            Ok(replies::mp::Reply::text("sent"))
        })
        .on(async |message: wecom::TextMessage, context: Context| {
            let text = json!({ "content": message.content });
            let body = json!({ "touser": "zhangsan", "msgtype": "text", "agentid": 1, "text": text });
            context.api()?.call("cgi-bin/message/send", &body).await?;
            Ok(replies::wecom::Reply::text("sent"))
        })
}

fn notice(name: &str, more: &str) -> String {
    format!(
        "<xml><AppId>wxcomponent0000001</AppId><CreateTime>{NOW}</CreateTime><InfoType>{name}</InfoType>{more}</xml>"
    )
}

fn suite_notice(name: &str, more: &str) -> String {
    format!(
        "<xml><SuiteId>wwsuite00000000001</SuiteId><InfoType>{name}</InfoType><TimeStamp>{NOW}</TimeStamp>{more}</xml>"
    )
}

/// An observer has done its work.
async fn one_is_done(server: &TestServer) {
    let done = "echostr_observations_total{result=\"done\"}";
    wait_for(done, async || server.metric(done).await >= 1.0).await;
}

async fn tell(server: &TestServer, payload: &str, nonce: &str) -> Answer {
    server.post("/openplatform/agency", &OPEN.safe(payload, nonce)).await
}

async fn text(server: &TestServer, id: u64, nonce: &str) -> Answer {
    let path = format!("/openplatform/agency/{AUTHORIZER}");
    server.post(&path, &OPEN.safe(&text_message(id, "hi"), nonce)).await
}

#[tokio::test]
async fn from_the_ticket_to_an_answer_by_api_across_a_restart() {
    let api = FakeApi::start(1).await.unwrap();
    api.add_third_party("wxcomponent0000001", "openSecret", "ticket@@@2");
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &api, by_api()).await;
    for (number, ticket) in ["ticket@@@1", "ticket@@@2"].into_iter().enumerate() {
        let more = format!("<ComponentVerifyTicket>{ticket}</ComponentVerifyTicket>");
        let answer = tell(&server, &notice("component_verify_ticket", &more), &format!("t{number}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"));
    }
    let code = api.authorise(AUTHORIZER);
    let more = format!("<AuthorizerAppid>{AUTHORIZER}</AuthorizerAppid><AuthorizationCode>{code}</AuthorizationCode>");
    assert_eq!(tell(&server, &notice("authorized", &more), "a").await.body, "success");
    one_is_done(&server).await;
    let answer = text(&server, 1, "m1").await;
    assert!(OPEN.open_reply(&answer.body).contains("sent"));
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], format!("hi of {AUTHORIZER}"));
    server.stop().await.unwrap();

    // Nothing of it is to be had from the journal's files.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["ticket@@@", "GRANT_", "ACCESS_", "openSecret"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    }
    let server = start(&folder, &api, by_api()).await;
    api.revoke_tokens();
    assert!(OPEN.open_reply(&text(&server, 2, "m2").await.body).contains("sent"));
    assert_eq!(sent(&api, 2).await.len(), 2);

    let more = format!("<AuthorizerAppid>{AUTHORIZER}</AuthorizerAppid>");
    assert_eq!(tell(&server, &notice("unauthorized", &more), "u").await.body, "success");
    one_is_done(&server).await;
    api.revoke_tokens();
    // The handler fails, for nobody has authorised any more.
    assert_eq!(text(&server, 3, "m3").await.body, "success");
    assert_eq!(api.sent().len(), 2);
}

/// Each authorizer is sent its own by its own token; a suite has no message that says what a reply says.
#[tokio::test]
async fn a_long_reply_is_sent_to_the_user_of_the_authorizer_and_cut_for_a_company() {
    let api = FakeApi::start(6).await.unwrap();
    api.add_third_party("wxcomponent0000001", "openSecret", "ticket@@@1");
    let long = || (0..3_000_u32).map(|at| char::from_u32(0x4E00 + at).unwrap()).collect::<String>();
    let hooks = Hooks::default()
        .on(move |_: mp::TextMessage, _: Context| async move { Ok(replies::mp::Reply::text(long())) })
        .on(move |_: wecom::TextMessage, _: Context| async move { Ok(replies::wecom::Reply::text(long())) });
    let (log, _guard) = Log::begin();
    let accounts = accounts(&api).replace("secret = ", "long_text = \"split\"\nsecret = ");
    let server = TestServer::start_with("", &accounts, hooks).await;
    let more = "<ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket>";
    assert_eq!(tell(&server, &notice("component_verify_ticket", more), "t").await.body, "success");
    let code = api.authorise(AUTHORIZER);
    let more = format!("<AuthorizerAppid>{AUTHORIZER}</AuthorizerAppid><AuthorizationCode>{code}</AuthorizationCode>");
    assert_eq!(tell(&server, &notice("authorized", &more), "a").await.body, "success");
    one_is_done(&server).await;
    assert_eq!(text(&server, 1, "m1").await.body, "success");
    let parts = sent(&api, 5).await;
    let texts = parts.iter().map(|one| one.body["text"]["content"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), long());
    assert!(parts.iter().all(|one| one.path == "/cgi-bin/message/custom/send" && one.to == "user_openid"));
    // A repeat sends nothing.
    assert_eq!(text(&server, 1, "m2").await.body, "success");

    let answer = server.post("/wecom_suite/crm", &COMPANY.safe(&text_message(2, "hi"), "m3")).await;
    let cut: String = long().chars().take(682).collect();
    assert!(COMPANY.open_reply(&answer.body).contains(&format!("<Content><![CDATA[{cut}]]></Content>")));
    assert!(log.text().contains("cut a text of 9000 bytes to 2048, which is all that the response can carry"));
    assert_eq!(api.sent().len(), 5);
}

#[tokio::test]
async fn a_platform_without_a_ticket_says_so() {
    let api = FakeApi::start(2).await.unwrap();
    let folder = TempDir::new().unwrap();
    let hooks = Hooks::default().on(async |_: mp::TextMessage, context: Context| {
        let failure = context.api()?.call("x", &json!({})).await.unwrap_err();
        Ok(replies::mp::Reply::text(failure.to_string()))
    });
    let server = start(&folder, &api, hooks).await;
    let reply = OPEN.open_reply(&text(&server, 1, "a").await.body);
    assert!(reply.contains("no ticket yet"), "{reply}");
}

#[tokio::test]
async fn the_release_test_is_answered() {
    let api = FakeApi::start(3).await.unwrap();
    api.add_third_party("wxcomponent0000001", "openSecret", "ticket@@@1");
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &api, by_api()).await;
    let more = "<ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket>";
    tell(&server, &notice("component_verify_ticket", more), "t").await;
    let path = "/openplatform/agency/wx570bc396a51b8ff8";
    let push = |rest: &str| {
        format!(
            "<xml><ToUserName>gh_3c884a361561</ToUserName><FromUserName>oTester</FromUserName>\
             <CreateTime>{NOW}</CreateTime>{rest}</xml>"
        )
    };
    let message = push("<MsgType>text</MsgType><Content>TESTCOMPONENT_MSG_TYPE_TEXT</Content><MsgId>1</MsgId>");
    let answer = server.post(path, &OPEN.safe(&message, "a")).await;
    assert!(OPEN.open_reply(&answer.body).contains("[TESTCOMPONENT_MSG_TYPE_TEXT_callback]"));
    let event = push(
        "<MsgType>event</MsgType><Event>LOCATION</Event><Latitude>1</Latitude><Longitude>2</Longitude><Precision>3</Precision>",
    );
    let answer = server.post(path, &OPEN.safe(&event, "b")).await;
    assert!(OPEN.open_reply(&answer.body).contains("[LOCATIONfrom_callback]"));
    let code = api.authorise("wx570bc396a51b8ff8");
    let message = push(&format!("<MsgType>text</MsgType><Content>QUERY_AUTH_CODE:{code}</Content><MsgId>2</MsgId>"));
    assert_eq!(server.post(path, &OPEN.safe(&message, "c")).await.body, "success");
    let sent = sent(&api, 1).await;
    assert_eq!(
        (sent[0].to.as_str(), &sent[0].body["text"]["content"]),
        ("oTester", &json!(format!("{code}_from_api")))
    );
}

#[tokio::test]
async fn a_suite_acts_for_the_company_that_has_installed_it() {
    let api = FakeApi::start(4).await.unwrap();
    api.add_third_party("wwsuite00000000001", "suiteSecret", "suite@@@1");
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &api, by_api()).await;
    let echo = "12345";
    let provider = WeChat { receive_id: "wwprovider00000001", ..SUITE };
    let sealed = provider.encrypt(echo);
    let query = provider.sealed_query(&sealed, &NOW.to_string(), "n");
    let encoded: String = sealed.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = server.http.get(&format!("/wecom_suite/crm?{query}&echostr={encoded}")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, echo));

    let tell = |payload: String, nonce: &'static str| {
        let server = &server;
        async move { server.post("/wecom_suite/crm", &SUITE.safe(&payload, nonce)).await }
    };
    let ticket = suite_notice("suite_ticket", "<SuiteTicket>suite@@@1</SuiteTicket>");
    assert_eq!(tell(ticket, "t").await.body, "success");
    let code = api.authorise("wwcustomer00000001");
    let created = suite_notice("create_auth", &format!("<AuthCode>{code}</AuthCode><State>x</State>"));
    assert_eq!(tell(created, "c").await.body, "success");
    one_is_done(&server).await;
    let message = format!(
        "<xml><ToUserName>wwcustomer00000001</ToUserName><FromUserName>zhangsan</FromUserName><CreateTime>{NOW}</CreateTime>\
         <MsgType>text</MsgType><Content>hi</Content><MsgId>1</MsgId><AgentID>1</AgentID></xml>"
    );
    let answer = server.post("/wecom_suite/crm", &COMPANY.safe(&message, "m")).await;
    assert!(COMPANY.open_reply(&answer.body).contains("[sent]"), "{}", answer.body);
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "hi");
    server.stop().await.unwrap();

    // What tokens are made of is still there.
    let server = start(&folder, &api, by_api()).await;
    api.revoke_tokens();
    let answer =
        server.post("/wecom_suite/crm", &COMPANY.safe(&message.replace(">1</MsgId>", ">2</MsgId>"), "n")).await;
    assert!(COMPANY.open_reply(&answer.body).contains("[sent]"), "{}", answer.body);
    assert_eq!(sent(&api, 2).await.len(), 2);
}

#[tokio::test]
async fn a_path_below_another_account_is_nobodys() {
    let server = TestServer::start(Hooks::default()).await;
    assert_eq!(server.http.post("/mp/shop/wx1", "x").await.status, 404);
    let api = FakeApi::start(5).await.unwrap();
    let folder = TempDir::new().unwrap();
    let server = start(&folder, &api, Hooks::default()).await;
    for path in ["/openplatform/agency/", "/openplatform/agency/a.b", "/openplatform/agency/wx1/wx2"] {
        let expected = if path.ends_with("agency/") { 400 } else { 404 };
        assert_eq!(server.http.post(path, "x").await.status, expected, "{path}");
    }
}

/// Addresses as the consoles write them, with an id where the placeholder is.
#[tokio::test]
async fn a_placeholder_may_stand_anywhere_in_a_path() {
    let accounts = |lines: [&str; 2]| {
        format!(
            "[openplatform.agency]\ncomponent_app_id = \"wxcomponent0000001\"\ntoken = \"openToken\"\n\
             aes_key = \"openopenopenopenopenopenopenopenopenopenope\"\n{}\n\
             [wecom_suite.crm]\nsuite_id = \"wwsuite00000000001\"\nreceive_ids = [\"any\"]\ntoken = \"suiteToken\"\n\
             aes_key = \"suitesuitesuitesuitesuitesuitesuitesuitesui\"\n{}\n",
            lines[0], lines[1]
        )
    };
    let hooks = || {
        Hooks::default()
            .on(async |message: mp::TextMessage, context: Context| {
                let authorizer = context.raw().authorizer().unwrap_or_default();
                Ok(replies::mp::Reply::text(format!("{} for {authorizer}", message.content)))
            })
            .on(async |message: wecom::TextMessage, _: Context| Ok(replies::wecom::Reply::text(message.content)))
    };
    let usual = ["/openplatform/agency", "/wecom_suite/crm"];
    for (lines, open, suite) in [
        (
            ["", ""],
            &["/openplatform/agency/ID", "/openplatform/agency/ID/", "/openplatform/agency/ID/callback"][..],
            &["/wecom_suite/crm/ID", "/wecom_suite/crm/ID/"][..],
        ),
        (
            ["path = \"/$APPID$/callback\"", "path = \"/wecom/$CORPID$/data\""],
            &["/ID/callback", "/ID/callback/"],
            &["/wecom/ID/data", "/wecom/ID/data/"],
        ),
        (["path = \"/a/b/$APPID$\"", "path = \"/$CORPID$\""], &["/a/b/ID", "/a/b/ID/"], &["/ID", "/ID/"]),
    ] {
        let server = TestServer::start_with("", &accounts(lines), hooks()).await;
        let mut id = 0;
        for path in open.iter().copied().chain([usual[0]]) {
            id += 1;
            let path = path.replace("ID", AUTHORIZER);
            let authorizer = if path.contains(AUTHORIZER) { AUTHORIZER } else { "" };
            let answer = server.post(&path, &OPEN.safe(&text_message(id, "hi"), "n")).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            if authorizer.is_empty() {
                continue; // A message for nobody has no handler.
            }
            let reply = OPEN.open_reply(&answer.body);
            assert!(reply.contains(&format!("hi for {authorizer}]]>")), "{path}: {reply}");
        }
        for path in suite.iter().copied().chain([usual[1]]) {
            id += 1;
            for corp in ["ww0000000000000004", "wpABC_-def"] {
                let path = path.replace("ID", corp);
                let answer = server.post(&path, &SUITE.safe(&text_message(id, "hi"), "n")).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                assert!(SUITE.open_reply(&answer.body).contains("<![CDATA[hi]]>"), "{path}");
            }
        }
        // A console may check the address as it is written.
        for path in [open[0].replace("ID", "$APPID$"), suite[0].replace("ID", "$CORPID$")] {
            assert_ne!(server.http.get(&format!("{path}?signature=x")).await.status, 404, "{path}");
        }
        for path in ["/a.b/callback", "/openplatform/agency/a.b", "/openplatform/agency/ID/ID/callback", "/x/y/z"] {
            assert_eq!(server.http.post(path, "x").await.status, 404, "{path}");
        }
    }
}
