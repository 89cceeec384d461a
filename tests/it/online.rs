//! `echostr check --online`.

use std::process::{Command, Output};

use echostr::simulate::api::FakeApi;
use serde_json::json;
use tempfile::TempDir;
use tokio::task;

use crate::support::api::accounts;

async fn check(text: String) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("echostr.toml");
    let journal = format!("[journal]\nurl = \"sqlite://{}\"\n", folder.path().join("journal.db").display());
    std::fs::write(&file, journal + &text).unwrap();
    let run =
        move || Command::new(env!("CARGO_BIN_EXE_echostr")).args(["check", "--online", "--config"]).arg(file).output();
    let Output { status, stdout, stderr } = task::spawn_blocking(run).await.unwrap().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// Accounts whose access token is requested with a ticket.
fn ticketed(api: &FakeApi) -> String {
    let (base, key) = (api.url(), "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG");
    format!(
        "[openplatform.saas]\ncomponent_app_id = \"wx0000000000000009\"\ntoken = \"t\"\naes_key = \"{key}\"\nsecret = \"s\"\n\
         api_base = \"{base}\"\n[wecom_suite.crm]\nsuite_id = \"ww0000000000000008\"\n\
         token = \"t\"\naes_key = \"{key}\"\nsecret = \"s\"\napi_base = \"{base}\"\n"
    )
}

#[tokio::test]
async fn a_secret_that_works_is_told() {
    let api = FakeApi::start(1).await.unwrap();
    let text = accounts(&api, "")
        + "[im.chat]\nsdk_app_id = 1\n[mp.mute]\napp_id = \"wx1\"\ntoken = \"t\"\nmode = \"plain\"\n\
           [wecom_bot.helper]\nmode = \"websocket\"\nbot_id = \"aib1\"\nsecret = \"s\"\n"
        + &ticketed(&api);
    let (code, told) = check(text).await;
    assert_eq!(code, Some(0), "{told}");
    for account in ["mp/shop", "miniprogram/game", "wecom/sales", "wecom_kf/support"] {
        assert!(told.contains(&format!("{account}: the secret works")), "{told}");
    }
    assert!(told.contains("mp/mute: no `secret`, not checked"), "{told}");
    for account in ["openplatform/saas", "wecom_suite/crm"] {
        assert!(
            told.contains(&format!("{account}: not checked, for its access token is requested with the ticket")),
            "{told}"
        );
    }
    assert!(told.contains("wecom_bot/helper: not checked, for that would end the connection"), "{told}");
    assert!(told.contains("wecom_bot/helper: WebSocket to wss://openws.work.weixin.qq.com"), "{told}");
}

/// Where the addresses of the platform are looked at, their list has to be there.
#[tokio::test]
async fn the_list_of_addresses_is_told() {
    let api = FakeApi::start(3).await.unwrap();
    let list = |list: serde_json::Value| api.set_answer("/cgi-bin/getcallbackip", json!({ "ip_list": list }));
    let text = accounts(&api, "").replace("secret = \"wecomSecret\"", "secret = \"wecomSecret\"\nsource = \"enforce\"");
    list(json!(["198.51.100.7", "203.0.113.*", "nonsense"]));
    let (code, told) = check(text.clone()).await;
    assert_eq!(code, Some(0), "{told}");
    let counted =
        "wecom/sales: the secret works; the platform calls from 2 addresses and ranges, and 1 more that cannot be read";
    assert!(told.contains(counted) && told.contains("mp/shop: the secret works\n"), "{told}");
    for (wrong, why) in [(json!([]), "is empty"), (json!(["nonsense"]), "no entry")] {
        list(wrong);
        let (code, told) = check(text.clone()).await;
        assert!(code == Some(1) && told.contains("[wecom.sales] source: ") && told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let api = FakeApi::start(2).await.unwrap();
    let text = accounts(&api, "");
    let wrong = text.replace("\"mpSecret\"", "\"notTheSecret\"");
    let (code, told) = check(wrong).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("[mp.shop] secret: ") && told.contains("40001") && told.contains("copy the secret again"),
        "{told}"
    );
    assert!(told.contains("wecom/sales: the secret works") && !told.contains("notTheSecret"), "{told}");

    let wrong = text.replace("ww0000000000000004", "ww0000000000000005");
    let (code, told) = check(wrong).await;
    assert!(code == Some(1) && told.contains("40013") && told.contains("corp_id is wrong"), "{told}");

    api.bar_agent(1_000_002);
    let (code, told) = check(text.clone()).await;
    assert!(code == Some(1) && told.contains("[wecom.sales] secret: ") && told.contains("48002"), "{told}");
    assert!(told.contains("name it as one that may"), "{told}");

    api.bar_address();
    let (code, told) = check(text.clone()).await;
    assert!(code == Some(1) && told.contains("40164") && told.contains("IP白名单"), "{told}");
    assert!(told.contains("60020") && told.contains("企业可信IP"), "{told}");

    let nowhere = text.replace(&api.url(), "http://127.0.0.1:1");
    let (code, told) = check(nowhere).await;
    assert!(code == Some(1) && told.contains("no response from"), "{told}");
}
