//! What requests that are refused leave in the log: never nothing, and never much.

use echostr::hooks::Hooks;

use crate::support::{
    Log, NOW, TestServer,
    server::{ACCOUNTS, IM, WECOM},
};

const SIGNED: &str = "echostr_unknown_path_requests_total{signed=\"true\"}";
const UNSIGNED: &str = "echostr_unknown_path_requests_total{signed=\"false\"}";

#[tokio::test]
async fn a_signed_request_at_an_unknown_path_is_logged_with_the_nearest_path_and_counted() {
    let wecom = WECOM.sealed_query("x", &NOW.to_string(), "n");
    let im = IM.query("Group.CallbackBeforeSendMsg", &NOW.to_string());
    for (target, nearest) in [
        (format!("/wecom/typo?{wecom}"), "/wecom/sales"),
        ("//mp/shop?signature=1&timestamp=1&nonce=n".to_owned(), "/mp/shop"),
        ("/MP/shop?signature=1&timestamp=1&nonce=n".to_owned(), "/mp/shop"),
        (format!("/im/chta?{im}"), "/im/chat"),
        ("/mp/shopp?a=1&amp;signature=1".to_owned(), "/mp/shop"),
        ("/callback/wecom/sales/x?msg_signature=".to_owned(), "/wecom/sales"),
        ("/openplatforms/agency?msg_signature=1".to_owned(), "/openplatform/agency"),
    ] {
        for is_post in [false, true] {
            let (log, _guard) = Log::begin();
            let server = TestServer::start(Hooks::default()).await;
            let answer = if is_post { server.http.post(&target, "x").await } else { server.http.get(&target).await };
            assert_eq!((answer.status, &*answer.body), (404, "unknown_account"), "{target}");
            assert_eq!((server.metric(SIGNED).await, server.metric(UNSIGNED).await), (1.0, 0.0), "{target}");
            let lines = log.text();
            let path = target.split('?').next().unwrap();
            let line = format!("no account has the path {path}; the nearest is {nearest}");
            assert_eq!(lines.matches(&line).count(), 1, "{line}: {lines}");
            // More of them leave no more lines.
            for _ in 0..50 {
                server.http.get(&target).await;
            }
            assert_eq!(log.text().matches("the nearest is").count(), 1);
            assert_eq!(server.metric(SIGNED).await, 51.0);
            assert!(!log.text().contains("Sign="), "no query is logged");
        }
    }
}

#[tokio::test]
async fn scanners_are_counted_and_leave_no_line() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start(Hooks::default()).await;
    for target in ["/", "/favicon.ico", "/.env?a=signature", "/mp?x=1", "/mp/nobody"] {
        assert_eq!(server.http.get(target).await.status, 404);
    }
    assert_eq!((server.metric(SIGNED).await, server.metric(UNSIGNED).await), (0.0, 5.0));
    assert!(!log.text().contains(" WARN "), "{}", log.text());
}

#[tokio::test]
async fn paths_from_outside_are_logged_in_part_and_without_accounts_too() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with("", "", Hooks::default()).await;
    let target = format!("/{}?signature=1", "a".repeat(5_000));
    assert_eq!(server.http.get(&target).await.status, 404);
    assert!(log.text().contains("; none is configured"), "{}", log.text());
    assert!(!log.text().contains(&"a".repeat(200)));
}

#[tokio::test]
async fn refusals_leave_a_line_for_each_reason_and_account_and_the_number_of_the_others() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with("body_limit = \"1KiB\"", ACCOUNTS, Hooks::default()).await;
    let large = "a".repeat(2_000);
    for _ in 0..200 {
        for target in ["/mp/shop", "/mp/compat", "/wecom/sales"] {
            assert_eq!(server.http.post(target, "<xml><Encrypt>a</Encrypt></xml>").await.body, "missing_parameter");
        }
        assert_eq!(server.http.get("/mp/shop").await.body, "missing_parameter");
        let forged = format!("/mp/plain?signature={}&timestamp={NOW}&nonce=n", "0".repeat(40));
        assert_eq!(server.http.post(&forged, "<xml/>").await.body, "wrong_signature");
        assert_eq!(server.http.post("/mp/plain", &large).await.body, "too_large");
        assert_eq!(server.http.get("/im/chat").await.body, "wrong_method");
    }
    let lines = log.text();
    let count = |text: &str| lines.lines().filter(|line| line.contains(" WARN ") && line.contains(text)).count();
    assert_eq!(count("refused a request"), 6, "{lines}");
    for line in [
        "mp/shop: refused a request of 127.0.0.1: query parameter",
        "mp/compat: refused a request of 127.0.0.1: query parameter",
        "wecom/sales: refused a request of 127.0.0.1: query parameter",
        "mp/plain: refused a request of 127.0.0.1: `signature` does not match",
        "mp/plain: refused a request: too_large",
        "im/chat: refused a request of 127.0.0.1: wrong method GET",
    ] {
        assert_eq!(count(line), 1, "{line}");
    }
    // All are counted; and at the end it is said how many there were.
    let counted =
        "echostr_deliveries_total{platform=\"mp\",account=\"shop\",outcome=\"refused\",reason=\"missing_parameter\"}";
    assert_eq!(server.metric(counted).await, 400.0);
    assert!(server.stop().await.unwrap());
    let lines = log.text();
    for line in [
        "mp/shop: refused a request: missing_parameter (399 more times since the last line)",
        "mp/compat: refused a request: missing_parameter (199 more times since the last line)",
        "mp/plain: refused a request: wrong_signature (199 more times since the last line)",
        "mp/plain: refused a request: too_large (199 more times since the last line)",
        "im/chat: refused a request: wrong_method (199 more times since the last line)",
    ] {
        assert_eq!(lines.matches(line).count(), 1, "{line}: {lines}");
    }
}
