//! WeCom self-built applications (企业微信自建应用).

use std::borrow::Cow;

use super::{
    AccountRules, ApiRules, Credential, Kind, Probe, Protocol,
    account::{QYAPI, RULES},
    message::{self, Message, NoMessage},
    wechat,
};
use crate::{event::Table, events::wecom::TABLE, payload::Object};

#[derive(Debug)]
pub(super) struct WeCom;

const ACCOUNT: AccountRules = AccountRules {
    keys: &["corp_id", "agent_id", "late_reply", "aes_key", "aes_key_previous", "secret", "api_base"],
    id_keys: &["corp_id"],
    ..RULES
};

const API: ApiRules = ApiRules {
    base: QYAPI,
    credential: Credential::Application,
    probe: Probe::GetAgent("cgi-bin/agent/get", "cgi-bin/getcallbackip"),
};

impl Protocol for WeCom {
    fn account(&self) -> &'static AccountRules {
        &ACCOUNT
    }

    fn api(&self) -> Option<&'static ApiRules> {
        Some(&API)
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        wechat::key(payload, TABLE.keys)
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Message => "wecom.message.unknown",
            Kind::Event | Kind::Notice => "wecom.event.unknown",
        }
    }

    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        wechat::subject(payload)
    }

    fn success(&self) -> &'static str {
        ""
    }

    fn message(&self, agent_id: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
        message::of_application(agent_id, reply)
    }
}
