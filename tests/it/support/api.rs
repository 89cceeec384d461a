//! Accounts whose API is played, and callbacks of customer service.

use std::time::Duration;

use echostr::simulate::api::{FakeApi, Sent};
use tokio::time;

use super::{Answer, NOW, TestServer, platform::Signed, server::KF};

/// An account of each platform that has an API, with its secret, at this address.
pub fn accounts(api: &FakeApi, more: &str) -> String {
    let base = api.url();
    for (id, secret) in [
        ("wx0000000000000001", "mpSecret"),
        ("ww0000000000000004", "wecomSecret"),
        ("ww0000000000000004", "kfSecret"),
        ("wx0000000000000003", "miniSecret"),
    ] {
        api.add_account(id, secret);
    }
    format!(
        r#"
[api]
timeout = "2s"
limit_pause = "50ms"
[observers]
backoff = "20ms..200ms"
{more}
[mp.shop]
app_id = "wx0000000000000001"
token = "mpToken"
aes_key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
secret = "mpSecret"
api_base = "{base}"
[mp.soon]
app_id = "wx0000000000000001"
token = "plainToken"
mode = "plain"
secret = "mpSecret"
api_base = "{base}"
deadline = "50ms"
late_reply = "send"
[miniprogram.game]
app_id = "wx0000000000000003"
token = "miniToken"
aes_key = "miniminiminiminiminiminiminiminiminiminimin"
secret = "miniSecret"
api_base = "{base}"
[wecom.sales]
corp_id = "ww0000000000000004"
agent_id = 1000002
token = "wecomToken"
aes_key = "wecomwecomwecomwecomwecomwecomwecomwecomwec"
secret = "wecomSecret"
api_base = "{base}"
deadline = "50ms"
late_reply = "send"
[wecom_kf.support]
corp_id = "ww0000000000000004"
token = "kfToken"
aes_key = "kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk"
secret = "kfSecret"
api_base = "{base}"
"#
    )
}

/// The callback that announces something for a customer-service account.
pub async fn announce(server: &TestServer, api: &FakeApi, open_kfid: &str, nonce: &str) -> Answer {
    announce_with(server, &api.callback_token(open_kfid), open_kfid, nonce).await
}

/// The same, with this token.
pub async fn announce_with(server: &TestServer, token: &str, open_kfid: &str, nonce: &str) -> Answer {
    server.post("/wecom_kf/support", &announcement(token, open_kfid, nonce)).await
}

/// The request of that.
pub fn announcement(token: &str, open_kfid: &str, nonce: &str) -> Signed {
    let callback = format!(
        "<xml><ToUserName><![CDATA[ww0000000000000004]]></ToUserName><CreateTime>{NOW}</CreateTime>\
         <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[kf_msg_or_event]]></Event>\
         <Token><![CDATA[{token}]]></Token><OpenKfId><![CDATA[{open_kfid}]]></OpenKfId></xml>"
    );
    KF.safe(&callback, nonce)
}

/// What was sent, once it is so many messages.
pub async fn sent(api: &FakeApi, count: usize) -> Vec<Sent> {
    let sent = time::timeout(Duration::from_secs(60), api.sent_at_least(count)).await;
    sent.unwrap_or_else(|_| panic!("{} of {count} were sent, {:?}", api.sent().len(), api.counts()))
}
