//! Who may ask: tokens, sessions, hosts, origins.

use echostr::hooks::Hooks;
use tokio::io::AsyncReadExt as _;

use super::Client;
use crate::support::{TestServer, server::ACCOUNTS};

/// Starts a server with these lines in `[admin]`.
pub async fn start(admin: &str, hooks: Hooks) -> TestServer {
    TestServer::start_with_admin(admin, ACCOUNTS, hooks).await
}

const TOKEN: &str = "token = \"adminTokenOfSomeLength\"\nhosts = [\"admin.example\"]";
const BEARER: &str = "Authorization: Bearer adminTokenOfSomeLength\r\n";

/// The cookie of a new session.
pub async fn sign_in(api: Client<'_>) -> String {
    let answer = api.request("POST", "/session", Some(r#"{"token":"adminTokenOfSomeLength"}"#)).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap())
}

#[tokio::test]
async fn who_may_ask_where_a_token_is_configured() {
    let server = start(TOKEN, Hooks::default()).await;
    let api = Client::new(server.admin);
    let cookie = sign_in(api).await;
    let forged = format!("{}0\r\n", cookie.trim_end());
    let with = |more: &str| format!("{cookie}{more}");
    let unauthorized = Some("unauthorized");
    for (headers, status, code) in [
        (String::new(), 401, unauthorized),
        (BEARER.to_owned(), 200, None),
        // A program may reach the server by any name: no browser sends the token by itself.
        (format!("{BEARER}Host: elsewhere.example\r\n"), 200, None),
        ("Authorization: Bearer wrong\r\n".to_owned(), 401, unauthorized),
        ("Authorization: Basic adminTokenOfSomeLength\r\n".to_owned(), 401, unauthorized),
        (with("Authorization: Bearer wrong\r\n"), 401, unauthorized),
        (cookie.clone(), 200, None),
        (with("Sec-Fetch-Site: same-origin\r\n"), 200, None),
        (with("Sec-Fetch-Site: cross-site\r\n"), 403, Some("forbidden_origin")),
        (with("Sec-Fetch-Site: same-site\r\n"), 403, Some("forbidden_origin")),
        (with("Origin: http://127.0.0.1\r\n"), 200, None),
        (with("Origin: http://127.0.0.1:8080\r\n"), 403, Some("forbidden_origin")),
        (with("Origin: null\r\n"), 403, Some("forbidden_origin")),
        (with("Host: localhost:9180\r\n"), 200, None),
        (with("Host: [::1]:9180\r\n"), 200, None),
        (with("Host: admin.example\r\n"), 200, None),
        (with("Host: ADMIN.example:443\r\n"), 200, None),
        (with("Host: rebound.example\r\n"), 403, Some("forbidden_host")),
        (with("Host: 127.0.0.1.rebound.example\r\n"), 403, Some("forbidden_host")),
        (with("Host: admin.example.rebound.example\r\n"), 403, Some("forbidden_host")),
        (forged, 401, unauthorized),
    ] {
        for target in ["/v1/info", "/v1/events", "/v1/openapi.json"] {
            let client = api.with(&headers);
            match code {
                None => assert_eq!(client.request("GET", target, None).await.status, status, "{headers}"),
                Some(code) => {
                    assert_eq!(client.error("GET", target, None).await, (status, code.to_owned()), "{headers}");
                }
            }
        }
    }
    assert_eq!(api.request("GET", "/v1/info?token=adminTokenOfSomeLength", None).await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_the_sign_out_and_with_the_server() {
    let server = start(TOKEN, Hooks::default()).await;
    let api = Client::new(server.admin);
    let cookie = sign_in(api).await;
    let page = format!("{cookie}Origin: http://127.0.0.1\r\n");
    assert_eq!(api.with(&cookie).error("DELETE", "/session", None).await, (403, "forbidden_origin".to_owned()));
    assert_eq!(api.with(&cookie).request("GET", "/v1/info", None).await.status, 200);
    let answer = api.with(&page).request("DELETE", "/session", None).await;
    assert!(answer.status == 204 && answer.header("set-cookie").unwrap().contains("Max-Age=0"), "{answer:?}");
    assert_eq!(api.with(&cookie).request("GET", "/v1/info", None).await.status, 401);

    let cookie = sign_in(api).await;
    assert!(server.stop().await.unwrap());
    let again = start(TOKEN, Hooks::default()).await;
    assert_eq!(Client::new(again.admin).with(&cookie).request("GET", "/v1/info", None).await.status, 401);
    // A browser that speaks TLS to whatever is in front keeps its cookie to itself.
    let api = Client::new(again.admin).with("Host: admin.example\r\nOrigin: https://admin.example\r\n");
    let answer = api.request("POST", "/session", Some(r#"{"token":"adminTokenOfSomeLength"}"#)).await;
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"), "{answer:?}");
    for headers in ["Host: rebound.example\r\n", "Origin: http://evil.example\r\n"] {
        let api = api.with(headers);
        assert_eq!(api.request("POST", "/session", Some(r#"{"token":"adminTokenOfSomeLength"}"#)).await.status, 403);
    }
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down() {
    let server = start(TOKEN, Hooks::default()).await;
    let api = Client::new(server.admin);
    let mut refused = 0;
    for at in 0..40 {
        let (status, code) = api.error("POST", "/session", Some(&format!(r#"{{"token":"guess{at}"}}"#))).await;
        assert!(matches!((status, &*code), (401, "unauthorized") | (429, "too_many_attempts")), "{status} {code}");
        refused += u32::from(status == 429);
    }
    assert!(refused >= 15, "{refused}");
    let answer = api.with(BEARER).request("GET", "/v1/info", None).await;
    assert!(answer.status == 429 && answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 5, "{answer:?}");
}

#[tokio::test]
async fn without_a_token_this_machine_may_ask_and_other_sites_may_not() {
    let server = TestServer::start(Hooks::default()).await;
    let api = Client::new(server.admin);
    for (headers, status) in [
        ("", 200),
        ("Host: localhost\r\n", 200),
        ("Origin: http://127.0.0.1\r\n", 200),
        ("Host: rebound.example\r\n", 403),
        ("Origin: http://evil.example\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Authorization: Bearer any\r\nHost: rebound.example\r\n", 403),
    ] {
        assert_eq!(api.with(headers).request("GET", "/v1/events", None).await.status, status, "{headers}");
    }
    assert_eq!(api.request("POST", "/session", Some(r#"{"token":""}"#)).await.status, 204);
}

#[tokio::test]
async fn the_page_comes_whole_with_a_policy_that_lets_nothing_else_in() {
    let server = start(TOKEN, Hooks::default()).await;
    let api = Client::new(server.admin).with("Accept-Encoding: gzip, br\r\n");
    let page = api.request("GET", "/", None).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        !page.body.contains("http://") && !page.body.contains("https://") && !page.body.contains("<style"),
        "{}",
        page.body
    );
    for target in ["/", "/assets/app.js", "/assets/app.css", "/assets/icon.svg"] {
        let mut stream = server
            .admin
            .open(
                format!(
                    "HEAD {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
                )
                .as_bytes(),
            )
            .await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let text = text.to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{target}: {text}");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "nosniff", "etag: \"", "cache-control: no-cache"] {
            assert!(text.contains(part), "{target}: {part} in {text}");
        }
        let tag = text.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let known = format!("If-None-Match: {tag}\r\nAccept-Encoding: gzip\r\n");
        assert_eq!(Client::new(server.admin).with(&known).request("GET", target, None).await.status, 304, "{target}");
    }
    let plain = Client::new(server.admin);
    assert_eq!(plain.error("GET", "/assets/app.js", None).await, (406, "not_acceptable".to_owned()));
    assert_eq!(plain.error("GET", "/assets/none.js", None).await, (404, "not_found".to_owned()));
    assert_eq!(
        plain.with("Host: rebound.example\r\n").error("GET", "/", None).await,
        (403, "forbidden_host".to_owned())
    );
}
