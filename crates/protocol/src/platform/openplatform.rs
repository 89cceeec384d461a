//! WeChat Open Platform: third-party platforms (第三方平台), which act for accounts that have authorised them.

use std::borrow::Cow;

use super::{
    AccountRules, ApiRules, Control, Credential, EnvelopeRules, Kind, Platform, Protocol, UrlCheck,
    account::{CALLBACK_IP, CALLBACK_IPS, RULES, WEIXIN},
    envelope::ENCRYPTED,
    message::{self, Message, NoMessage},
    wechat,
};
use crate::{
    event::{Answer, EventSpec, ReplyError, Table},
    events::openplatform::TABLE,
    payload::Object,
    replies::json::{self, Asked},
};

/// The parameter of an event's data that has the account whose message a third-party platform was given.
pub const AUTHORIZER: &str = "authorizer_appid";

#[derive(Debug)]
pub(super) struct OpenPlatform;

const ACCOUNT: AccountRules = AccountRules {
    keys: &[
        "component_app_id",
        "late_reply",
        "late_text",
        "late_keep",
        "late_next_runs",
        "long_text",
        "release_test",
        "aes_key",
        "aes_key_previous",
        "secret",
        "api_base",
        "source",
    ],
    id_keys: &["component_app_id"],
    sends_replies: true,
    ..RULES
};

const ENVELOPE: EnvelopeRules = EnvelopeRules { url_check: UrlCheck::Clear, ..ENCRYPTED };

const API: ApiRules =
    ApiRules { base: WEIXIN, credential: Credential::Component, probe: CALLBACK_IP, callback_ips: Some(CALLBACK_IPS) };

impl Protocol for OpenPlatform {
    fn account(&self) -> &AccountRules {
        &ACCOUNT
    }

    fn envelope(&self) -> &EnvelopeRules {
        &ENVELOPE
    }

    fn api(&self) -> Option<&ApiRules> {
        Some(&API)
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    /// Messages and events of the accounts that have authorised it.
    fn receives_of(&self) -> &'static [Platform] {
        &[Platform::Mp, Platform::MiniProgram]
    }

    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        wechat::key(payload, TABLE.keys)
    }

    fn is_notice(&self, payload: &Object<'_>) -> bool {
        payload.get(wechat::NOTICE).is_some()
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Notice => "openplatform.info.unknown",
            Kind::Message | Kind::Event => "openplatform.event.unknown",
        }
    }

    fn control<'p>(&self, payload: &'p Object<'_>) -> Option<Control<'p>> {
        wechat::ticket(payload, "component_verify_ticket", "ComponentVerifyTicket")
    }

    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        const NAMES: [&str; 4] = ["AuthorizerAppid", "appid", "authorizer_appid", "verify_appid"];
        wechat::first_of(payload, &NAMES).or_else(|| wechat::subject(payload))
    }

    fn acts_for<'p>(&self, payload: &'p Object<'_>, authorizer: Option<&'p str>) -> Option<&'p str> {
        authorizer.or_else(|| payload.text("AuthorizerAppid"))
    }

    fn routes_authorizers(&self) -> bool {
        true
    }

    fn placeholder(&self) -> Option<&'static str> {
        Some("$APPID$")
    }

    fn is_exact(&self, spec: &EventSpec) -> bool {
        spec.is_notice()
    }

    fn success(&self) -> &'static str {
        wechat::SUCCESS
    }

    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        wechat::text_of(payload)
    }

    fn choice_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        wechat::choice_of(payload)
    }

    fn scene_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        wechat::scene_of(payload)
    }

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        json::mp(asked, members)
    }

    /// An account that has authorised it answers as an Official Account does.
    fn message(&self, _: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
        message::of_official_account(reply)
    }
}
