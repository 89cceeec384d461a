//! WeCom self-built applications (企业微信自建应用).

use super::{
    AccountRules, ApiRules, Credential, Probe,
    account::{CALLBACK_IPS, QYAPI, RULES},
    envelope, message,
    wechat::{Messaging, Unknown},
};
use crate::{events::wecom::TABLE, replies::json};

pub(super) static WECOM: Messaging = Messaging {
    account: AccountRules {
        keys: &[
            "corp_id",
            "agent_id",
            "late_reply",
            "late_text",
            "late_keep",
            "late_next_runs",
            "long_text",
            "aes_key",
            "aes_key_previous",
            "secret",
            "api_base",
            "source",
        ],
        id_keys: &["corp_id"],
        sends_replies: true,
        ..RULES
    },
    api: ApiRules {
        base: QYAPI,
        credential: Credential::Application,
        probe: Probe::GetAgent("cgi-bin/agent/get", CALLBACK_IPS),
        callback_ips: Some(CALLBACK_IPS),
    },
    envelope: envelope::WECOM,
    table: &TABLE,
    receives_of: &[],
    unknown: Unknown { message: "wecom.message.unknown", event: "wecom.event.unknown" },
    success: "",
    message: message::of_application,
    reply_from_json: json::wecom,
};
