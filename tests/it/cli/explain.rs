//! `explain` says what the server says, and whose a request is.

use echostr::hooks::Hooks;
use tempfile::TempDir;

use super::{command, ended, run, write};
use crate::support::{
    Log, NOW, TestServer,
    platform::{Signed, WeChat},
    server::{ACCOUNTS, IM, MP, WECOM, text_message},
};

/// What `explain` says of a request to an account at a path.
async fn explain(folder: &TempDir, account: &str, path: &str, request: &Signed) -> super::Said {
    let body = folder.path().join("body");
    std::fs::write(&body, &request.body).unwrap();
    let url = format!("https://callback.example.com{path}?{}", request.query);
    run(folder.path(), &["explain", account, "--url", &url, "--body", body.to_str().unwrap()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_the_age_the_encoding_and_the_account_are_named() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), ACCOUNTS);
    let message = text_message(1, "hi");
    let old = MP.safe(&message, "n");
    let days = "days old; the server takes 10 minutes";
    let said = explain(&folder, "mp/shop", "/mp/shop", &old).await;
    let text = said.with(1, &["✓ path: /mp/shop is the account's", "✗ freshness: ", days, "✓ payload"]).text();
    let number: String = text.split("✗ freshness: ").nth(1).unwrap().split(' ').next().unwrap().replace(',', "");
    assert!(number.parse::<u32>().unwrap() > 300 && !text.contains("accepts this request"), "{text}");

    // A freshness of no importance leaves the rest.
    write(folder.path(), &ACCOUNTS.replace("[mp.shop]", "[mp.shop]\nmax_age = \"off\""));
    for (account, path, request, code, parts) in [
        ("mp/shop", "/mp/shop", &old, 0, &["the account accepts this request"][..]),
        ("mp/shop", "/mp/shop/", &old, 0, &["the account accepts"]),
        (
            "mp/shop",
            "/callback/mp/shop",
            &old,
            1,
            &[
                "✗ path: the server knows /mp/shop; the request came to /callback/mp/shop: something in front adds /callback",
                "404",
            ],
        ),
        (
            "mp/shop",
            "/shop",
            &old,
            1,
            &["✗ path: the server knows /mp/shop; the request came to /shop: something in front cuts off /mp"],
        ),
        ("mp/shop", "/mp/shpo", &old, 1, &["✗ path: no account has the path /mp/shpo; the nearest is /mp/shop"]),
        (
            "mp/shop",
            "/wecom/sales",
            &old,
            1,
            &["✗ path: /wecom/sales is the path of wecom/sales, not of mp/shop, which is at /mp/shop"],
        ),
    ] {
        explain(&folder, account, path, request).await.with(code, parts);
    }

    // The console of one application has the address of another.
    let of_wecom = WECOM.safe(&message, "n");
    let said = explain(&folder, "mp/shop", "/mp/shop", &of_wecom).await;
    said.with(
        1,
        &["✗ signature", "the signature fits the token of wecom/sales", "it opens with the AES key of wecom/sales"],
    );
    let of_chat = IM.command("Sns.CallbackFriendAdd", "{}");
    explain(&folder, "wecom/sales", "/wecom/sales", &of_chat)
        .await
        .with(1, &["the signature fits the token of im/chat"]);
    let wrong_key = WeChat { aes_key: WECOM.aes_key, ..MP };
    let said = explain(&folder, "mp/shop", "/mp/shop", &wrong_key.safe(&message, "n")).await;
    let text = said.with(1, &["✓ signature", "✗ decryption", "it opens with the AES key of wecom/sales"]).text();
    for secret in [MP.token, MP.aes_key, WECOM.token, WECOM.aes_key] {
        assert!(!text.contains(secret), "{text}");
    }

    // Each parameter may be encoded twice.
    let sealed = WECOM.encrypt("1616140317555161061");
    let sealed = if sealed.contains('+') { sealed } else { WECOM.encrypt("161614031755516106") };
    let encoded = sealed.replace('/', "%2F").replace('=', "%3D").replace('+', "%2B");
    let check = format!("{}&echostr={encoded}", WECOM.sealed_query(&sealed, &NOW.to_string(), "n"));
    let twice = check.replace("%2", "%252").replace("%3", "%253");
    let url = format!("https://a.example/wecom/sales?{twice}");
    run(folder.path(), &["explain", "wecom/sales", "--url", &url])
        .await
        .with(1, &["`echostr` is encoded twice", "it matches once the query is decoded again"]);
    let nonce = MP.safe(&message, "a b");
    let nonce = Signed { query: nonce.query.replace("a b", "a%2520b"), ..nonce };
    explain(&folder, "mp/shop", "/mp/shop", &nonce).await.with(1, &["`nonce` is encoded twice", "it matches once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_secret_is_missing_is_said_not_to_be_tried() {
    let folder = TempDir::new().unwrap();
    let message = text_message(1, "hi");
    let text = ACCOUNTS.replace("\"wecomToken\"", "{ env = \"SALES_TOKEN\" }");
    write(folder.path(), &text);
    let request = WECOM.safe(&message, "n");
    explain(&folder, "mp/shop", "/mp/shop", &request)
        .await
        .with(1, &["not tried: wecom/sales: `token` cannot be read: environment variable `SALES_TOKEN` is not set"]);
    write(folder.path(), &text.replace("\"mpToken\"", "{ env = \"SHOP_TOKEN\" }"));
    explain(&folder, "mp/shop", "/mp/shop", &request).await.with(1, &["[mp.shop] `token` cannot be read"]);
}

#[tokio::test]
async fn the_line_of_a_refusal_has_its_hint_and_the_last_ones_can_be_asked_for() {
    let (log, _guard) = Log::begin();
    let folder = TempDir::new().unwrap();
    let server = TestServer::start(Hooks::default()).await;
    let message = text_message(1, "hi");
    assert_eq!(server.post("/mp/shop", &WECOM.safe(&message, "1")).await.status, 403);
    assert_eq!(server.post("/callback/mp/shop", &MP.safe(&message, "2")).await.status, 404);
    for at in 0..30 {
        let path = format!("/x{at}?signature=1");
        assert_eq!(server.http.get(&path).await.status, 404);
    }
    let text = log.text();
    let line = text.lines().find(|line| line.contains("mp/shop: refused a request")).unwrap();
    assert!(line.contains("the signature fits the token of wecom/sales"), "{line}");
    assert!(text.contains("the nearest is /mp/shop: something in front adds /callback"), "{text}");
    for secret in [MP.token, WECOM.token, MP.aes_key, WECOM.aes_key] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let admin = format!("http://{}", server.admin.0);
    let said = run(folder.path(), &["explain", "--recent", "--url", &admin]).await.with(0, &["unknown_account", "✗ "]);
    assert_eq!(said.out.lines().filter(|line| !line.starts_with(' ')).count(), 20, "{}", said.out);
    let said = run(folder.path(), &["explain", "mp/shop", "--recent", "--url", &admin]).await;
    let said =
        said.with(0, &["mp/shop POST /mp/shop", "wrong_signature", "✗ signature: ", "fits the token of wecom/sales"]);
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
    let said = run(folder.path(), &["explain", "--recent", "--json", "--url", &admin]).await.with(0, &[]);
    assert!(
        said.out.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["reason"].is_string())
    );
    // By the configuration, with its token.
    write(
        folder.path(),
        &format!("[admin]\nlisten = \"{}\"\ntoken = {{ env = \"ADMIN\" }}\n{ACCOUNTS}", server.admin.0),
    );
    let mut recent = command(folder.path(), &["explain", "--recent"]);
    recent.env("ADMIN", "0123456789abcdef");
    ended(recent).await.with(0, &["unknown_account"]);
    run(folder.path(), &["explain"]).await.with(2, &["--url"]);
    run(folder.path(), &["explain", "mp/shop"]).await.with(2, &["--url"]);
    assert!(server.stop().await.unwrap());
}
