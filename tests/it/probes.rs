//! Cloud hosting (云托管) asks without a signature whether a path exists.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
};

use crate::support::{TestServer, server::event};

const MEMBER: &str = r#"{"action":"CheckContainerPath"}"#;
const ELEMENT: &str = "<xml><action><![CDATA[CheckContainerPath]]></action></xml>";

#[tokio::test]
async fn the_probe_of_a_path_is_answered_and_is_no_event() {
    let server = TestServer::start(Hooks::default()).await;
    let bodies = [MEMBER, ELEMENT, " {\"action\" : \"CheckContainerPath\", \"more\": 1}\n", "CheckContainerPath"];
    for path in ["/mp/shop", "/mp/plain", "/miniprogram/game"] {
        for body in bodies {
            let answer = server.http.post(path, body).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{path} {body}");
        }
    }
    let line = "echostr_deliveries_total{platform=\"mp\",account=\"shop\",outcome=\"verified\",reason=\"\"}";
    assert_eq!(server.metric(line).await, 4.0);
}

#[tokio::test]
async fn nothing_else_passes_as_a_probe() {
    let hooks = Hooks::default().on(async |_: mp::Subscribe, _: Context| Err("reached".into()));
    let server = TestServer::start(hooks).await;
    let long = format!("{{\"action\":\"CheckContainerPath\",\"more\":\"{}\"}}", "x".repeat(300));
    let unlike = [r#"{"action":"checkcontainerpath"}"#, r#"{"action":["CheckContainerPath"]}"#, "[]", "", &long];
    for body in unlike.into_iter().chain([event("subscribe", "").as_str()]) {
        let answer = server.http.post("/mp/shop", body).await;
        assert_ne!(answer.status, 200, "{body}");
    }
    // Other platforms are not hosted there.
    for path in ["/wecom/sales", "/openplatform/agency", "/im/chat"] {
        let answer = server.http.post(path, MEMBER).await;
        assert_ne!(answer.status, 200, "{path}");
    }
}
