//! WeChat Official Accounts (公众号).

use super::{
    AccountRules, ApiRules, Credential, Platform,
    account::{CALLBACK_IP, CALLBACK_IPS, RULES, WEIXIN},
    envelope, message,
    wechat::{self, Messaging, Unknown},
};
use crate::{events::mp::TABLE, replies::json};

pub(super) static MP: Messaging = Messaging {
    account: AccountRules { holds_late_replies: true, ..ACCOUNT },
    api: API,
    envelope: envelope::BY_MODE,
    table: &TABLE,
    // Some events of Mini Programs reach Official Accounts.
    receives_of: &[Platform::MiniProgram],
    unknown: Unknown { message: "mp.message.unknown", event: "mp.event.unknown" },
    success: wechat::SUCCESS,
    message: |_, reply| message::of_official_account(reply),
    reply_from_json: json::mp,
};

/// What accounts of WeChat need.
pub(super) const ACCOUNT: AccountRules = AccountRules {
    keys: &[
        "app_id",
        "mode",
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
    id_keys: &["app_id"],
    sends_replies: true,
    ..RULES
};

/// The API of accounts of WeChat.
pub(super) const API: ApiRules =
    ApiRules { base: WEIXIN, credential: Credential::Account, probe: CALLBACK_IP, callback_ips: Some(CALLBACK_IPS) };
