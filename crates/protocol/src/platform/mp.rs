//! WeChat Official Accounts (公众号).

use std::borrow::Cow;

use super::{
    AccountRules, ApiRules, Credential, Kind, Platform, Protocol,
    account::{CALLBACK_IP, RULES, WEIXIN},
    message::{self, Message, NoMessage},
    wechat,
};
use crate::{event::Table, events::mp::TABLE, payload::Object};

#[derive(Debug)]
pub(super) struct Mp;

const ACCOUNT: AccountRules = AccountRules {
    keys: &["app_id", "mode", "late_reply", "aes_key", "aes_key_previous", "secret", "api_base"],
    id_keys: &["app_id"],
    holds_late_replies: true,
    ..RULES
};

const API: ApiRules = ApiRules { base: WEIXIN, credential: Credential::Account, probe: CALLBACK_IP };

impl Protocol for Mp {
    fn account(&self) -> &'static AccountRules {
        &ACCOUNT
    }

    fn api(&self) -> Option<&'static ApiRules> {
        Some(&API)
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    /// Some events of Mini Programs reach Official Accounts.
    fn receives_of(&self) -> &'static [Platform] {
        &[Platform::MiniProgram]
    }

    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        wechat::key(payload, TABLE.keys)
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Message => "mp.message.unknown",
            Kind::Event | Kind::Notice => "mp.event.unknown",
        }
    }

    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        wechat::subject(payload)
    }

    fn success(&self) -> &'static str {
        wechat::SUCCESS
    }

    fn message(&self, _: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
        message::of_official_account(reply)
    }
}
