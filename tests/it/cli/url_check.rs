//! The GET of the console, rehearsed.

use echostr::hooks::Hooks;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::{run, write};
use crate::support::{
    TestServer,
    server::ACCOUNTS,
    target::{Act, Target},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_platform_that_checks_an_address_accepts_the_servers() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), ACCOUNTS);
    let server = TestServer::start_with("max_age = \"off\"", ACCOUNTS, Hooks::default()).await;
    let base = format!("http://{}", server.http.0);
    for account in [
        "mp/shop",
        "mp/plain",
        "mp/compat",
        "miniprogram/game",
        "wecom/sales",
        "wecom_kf/support",
        "wecom_suite/crm",
        "wecom_bot/helper",
    ] {
        let said = run(folder.path(), &["simulate", account, "url-check", "--url", &base]).await;
        let text = said.with(0, &["→ GET ", "← 200", "✓ the console accepts this address"]).text();
        assert!(!text.contains("msg_signature") && !text.contains("Token"), "{text}");
    }
    for account in ["im/chat", "openplatform/agency"] {
        let said = run(folder.path(), &["simulate", account, "url-check", "--url", &base]).await;
        let has_none = said.text().contains("does not check the address with a GET");
        assert!(said.code == Some(i32::from(has_none)), "{account}: {}", said.text());
        assert!(has_none || account != "im/chat");
    }
    let json = run(folder.path(), &["simulate", "mp/shop", "url-check", "--output", "json", "--url", &base])
        .await
        .with(0, &[]);
    let line: Json = serde_json::from_str(json.out.trim()).unwrap();
    assert_eq!((&line["status"], &line["fault"], &line["event"]), (&200.into(), &Json::Null, &"url-check".into()));
    let other = ACCOUNTS.replace("\"mpToken\"", "\"otherToken\"");
    write(folder.path(), &other);
    let said = run(folder.path(), &["simulate", "mp/shop", "url-check", "--url", &base]).await;
    said.with(1, &["← 403", "wrong_signature", "✗ the console does not accept this address"]);
    assert!(server.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_console_would_not_take_is_said() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "[mp.plain]\napp_id = \"wx1\"\ntoken = \"abcToken\"\nmode = \"plain\"\n");
    let echo = |request: &crate::support::target::Request| {
        let at = request.path.find("echostr=").unwrap() + "echostr=".len();
        request.path[at..].split('&').next().unwrap().to_owned()
    };
    for (act, part) in [
        (Act::Answer(200, "", "success"), "the body is not the echo"),
        (Act::Answer(200, "", ""), "the body is not the echo"),
        (Act::Answer(404, "", "nothing"), "status 404"),
        (Act::Answer(302, "Location: https://a.example\r\n", ""), "redirects to https://a.example"),
    ] {
        let target = Target::start(move |_, _| act.clone()).await;
        let base = format!("http://{}", target.address);
        run(folder.path(), &["simulate", "mp/plain", "url-check", "--url", &base]).await.with(1, &["✗ ", part]);
        assert_eq!(echo(&target.requests()[0]).len(), 19);
    }
    let said = run(folder.path(), &["simulate", "mp/plain", "url-check", "--set", "Content=x"]).await;
    said.with(2, &["--set and --form are of events"]);
}
