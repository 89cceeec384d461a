//! What is masked, and what is shown of what users write.

use std::sync::{Arc, atomic::AtomicBool};

use serde_json::Value as Json;

use super::{
    Client, auth,
    read::{hooks, send},
    stream::Events,
};
use crate::support::{TestServer, server::ACCOUNTS, until};

#[tokio::test]
async fn masked_values_are_nowhere_unless_they_are_revealed() {
    for mask in ["mask = [\"Content\", \"FromUserName\"]", "mask = [\"*\"]"] {
        let works = Arc::new(AtomicBool::new(false));
        let settings = format!("{ACCOUNTS}\n[observers]\nmax_attempts = 1\n");
        let server = TestServer::start_with_admin(mask, &settings, hooks(&works)).await;
        let api = Client::new(server.admin);
        let mut summaries = Events::open(server.admin, "", "").await;
        let mut cloudevents = Events::open(server.admin, "view=cloudevent", "").await;
        let mut full = Events::open(server.admin, "view=full", "").await;
        send(&server, 1, &["private words"]).await;
        until(async || !api.get("/v1/dead").await["letters"].as_array().unwrap().is_empty()).await;
        let list = api.get("/v1/events?view=full").await;
        let id = list["events"][0]["id"].as_str().unwrap();
        let shown = api.get(&format!("/v1/events/{id}")).await;
        let all = [
            list.clone(),
            shown.clone(),
            api.get("/v1/dead?view=full").await,
            summaries.next().await,
            cloudevents.next().await,
            full.next().await,
        ];
        for hidden in ["private words", "user_openid"] {
            for (at, one) in all.iter().enumerate() {
                assert!(!one.to_string().contains(hidden), "{mask} {at}: {one}");
            }
        }
        assert_eq!((&shown["data"]["Content"], &shown["subject"]), (&"***".into(), &"***".into()), "{mask}");
        assert!(shown["reply"].as_str().unwrap().contains("***"), "{mask}: {shown}");
        assert_eq!(api.get("/v1/info").await["masked"], true);
        // A search finds nothing that is masked.
        assert_eq!(api.get("/v1/events?text=private").await["events"], Json::Array(Vec::new()), "{mask}");
        let revealed = api.get(&format!("/v1/events/{id}?reveal=true")).await;
        assert_eq!(
            (&revealed["data"]["Content"], &revealed["subject"]),
            (&"private words".into(), &"user_openid".into())
        );
        assert!(revealed["payload"].as_str().unwrap().contains("private words"), "{revealed}");
        assert!(revealed["reply"].as_str().unwrap().contains("echo: private words"), "{revealed}");
    }
}

#[tokio::test]
async fn a_payload_full_of_html_is_text_in_json() {
    let works = Arc::new(AtomicBool::new(true));
    let server = auth::start("", hooks(&works)).await;
    let api = Client::new(server.admin);
    let html = "<script>alert(1)</script><img src=x onerror=alert(2)>\u{2028}".to_owned();
    send(&server, 1, &[&html]).await;
    let id = api.get("/v1/events").await["events"][0]["id"].as_str().unwrap().to_owned();
    let answer = api.request("GET", &format!("/v1/events/{id}"), None).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let shown: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(shown["data"]["Content"].as_str().unwrap(), html);
}
