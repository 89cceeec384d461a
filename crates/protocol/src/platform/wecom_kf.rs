//! WeCom customer service (微信客服): a callback announces messages, which `kf/sync_msg` returns.

use std::borrow::Cow;

use super::{
    AccountRules, ApiRules, Credential, EnvelopeRules, Keyed, Kind, Platform, Probe, Protocol, Repeat,
    account::{CALLBACK_IPS, QYAPI, RULES},
    envelope, object, scalar, wechat,
};
use crate::{
    event::{Answer, Event as _, ReplyError, Table},
    events::{wecom, wecom_kf::TABLE},
    payload::Object,
    replies::json::{self, Asked},
};

#[derive(Debug)]
pub(super) struct WeComKf;

const ACCOUNT: AccountRules = AccountRules {
    keys: &["corp_id", "backlog", "long_text", "aes_key", "aes_key_previous", "secret", "api_base", "source"],
    id_keys: &["corp_id"],
    without_secret: Some("messages cannot be pulled, only their notices are received"),
    ..RULES
};

const API: ApiRules = ApiRules {
    base: QYAPI,
    credential: Credential::Application,
    probe: Probe::Post("cgi-bin/kf/account/list", r#"{"offset":0,"limit":1}"#),
    callback_ips: Some(CALLBACK_IPS),
};

impl Protocol for WeComKf {
    fn account(&self) -> &AccountRules {
        &ACCOUNT
    }

    fn envelope(&self) -> &EnvelopeRules {
        &envelope::WECOM
    }

    fn api(&self) -> Option<&ApiRules> {
        Some(&API)
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    /// Its callback is an event of WeCom.
    fn receives_of(&self) -> &'static [Platform] {
        &[Platform::WeCom]
    }

    /// `msgtype`, then the event's own type; of a callback as WeCom has it.
    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        if payload.get("msgtype").is_none() {
            return wechat::key(payload, wecom::TABLE.keys);
        }
        let event_type = object(payload, "event").and_then(|event| scalar(event, "event_type"));
        scalar(payload, "msgtype").into_iter().chain(event_type).collect()
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Message => "wecom_kf.message.unknown",
            Kind::Event | Kind::Notice => "wecom_kf.event.unknown",
        }
    }

    /// The customer.
    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        let of_event = || object(payload, "event")?.text("external_userid");
        payload.text("external_userid").or_else(of_event).or_else(|| wechat::subject(payload))
    }

    fn repeat(&self, key: &mut Vec<u8>, event: &Keyed<'_>) -> Option<Repeat> {
        Some(match event.payload.as_object().and_then(|object| object.text("msgid")) {
            Some(id) => Repeat::by_id(key, id),
            None => Repeat::by_message(key, event),
        })
    }

    fn success(&self) -> &'static str {
        ""
    }

    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        scalar(object(payload, "text")?, "content")
    }

    fn choice_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        scalar(object(payload, "text")?, "menu_id")
    }

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        json::wecom_kf(asked, members)
    }

    fn announced_by(&self) -> Option<&'static str> {
        Some(wecom::CustomerServiceNotify::SPEC.id)
    }
}
