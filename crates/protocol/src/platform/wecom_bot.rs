//! WeCom AI bots (智能机器人): JSON, with names of its own.

use std::borrow::Cow;

use super::{
    AccountRules, Control, EnvelopeRules, Keyed, Kind, Protocol, Repeat, account::RULES, envelope::WECOM_BOT, object,
    scalar,
};
use crate::{
    event::{Answer, Event as _, EventSpec, ReplyError, Table},
    events::wecom_bot::{EnterChat, TABLE, TemplateCardAction},
    payload::Object,
    replies::json::{self, Asked},
};

#[derive(Debug)]
pub(super) struct WeComBot;

/// The bot of the own company has an empty receive id.
const ACCOUNT: AccountRules = AccountRules {
    keys: &[
        "mode",
        "aes_key",
        "aes_key_previous",
        "bot_id",
        "secret",
        "websocket_url",
        "ping_interval",
        "media_hosts",
        "media_limit",
    ],
    has_empty_id: true,
    websocket: Some("wss://openws.work.weixin.qq.com"),
    ..RULES
};

/// Hosts of the links to pictures, files and videos, and the ends of host names.
const MEDIA_HOSTS: &[&str] = &["ww-aibot-*.myqcloud.com", "*.qq.com", "*.qpic.cn"];

impl Protocol for WeComBot {
    fn account(&self) -> &AccountRules {
        &ACCOUNT
    }

    fn envelope(&self) -> &EnvelopeRules {
        &WECOM_BOT
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    /// `msgtype`, then the event's own type.
    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        let event_type = object(payload, "event").and_then(|event| scalar(event, "eventtype"));
        scalar(payload, "msgtype").into_iter().chain(event_type).collect()
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Message => "wecom_bot.message.unknown",
            Kind::Event | Kind::Notice => "wecom_bot.event.unknown",
        }
    }

    /// The platform asks for the rest of an answer again and again, and each time wants what there is by now.
    fn control<'p>(&self, payload: &'p Object<'_>) -> Option<Control<'p>> {
        let is_poll = scalar(payload, "msgtype").is_some_and(|kind| kind.eq_ignore_ascii_case("stream"));
        is_poll.then_some(Control::Poll)
    }

    /// Who wrote or clicked.
    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        object(payload, "from")?.text("userid")
    }

    fn repeat(&self, key: &mut Vec<u8>, event: &Keyed<'_>) -> Option<Repeat> {
        let object = event.payload.as_object();
        if object.is_some_and(|object| self.control(object).is_some()) {
            return None;
        }
        Some(match object.and_then(|object| object.text("msgid")) {
            Some(id) => Repeat::by_id(key, id),
            None => Repeat::by_message(key, event),
        })
    }

    fn media_hosts(&self) -> &'static [&'static str] {
        MEDIA_HOSTS
    }

    fn success(&self) -> &'static str {
        ""
    }

    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        scalar(object(payload, "text")?, "content")
    }

    fn choice_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        scalar(object(object(payload, "event")?, "template_card_event")?, "event_key")
    }

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        json::wecom_bot(asked, members)
    }

    fn has_short_bodies(&self) -> bool {
        true
    }

    fn is_streamed(&self, spec: Option<&EventSpec>) -> bool {
        spec.is_some_and(|spec| spec != EnterChat::SPEC && spec != TemplateCardAction::SPEC)
    }
}
