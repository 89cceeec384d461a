//! WeCom third-party applications (企业微信第三方应用), which act for companies that have installed them.

use std::{borrow::Cow, time::Duration};

use super::{
    AccountRules, ApiRules, Control, Credential, EnvelopeRules, Kind, Platform, Protocol,
    account::{CALLBACK_IP, QYAPI, RULES},
    envelope, wechat,
};
use crate::{
    event::{Answer, ReplyError, Table},
    events::wecom_suite::TABLE,
    payload::Object,
    replies::json::{self, Asked},
};

#[derive(Debug)]
pub(super) struct WeComSuite;

const ACCOUNT: AccountRules = AccountRules {
    keys: &[
        "suite_id",
        "provider_corp_id",
        "receive_ids",
        "late_reply",
        "late_text",
        "late_keep",
        "late_next_runs",
        "long_text",
        "aes_key",
        "aes_key_previous",
        "secret",
        "api_base",
    ],
    id_keys: &["suite_id", "provider_corp_id"],
    deadline: Duration::from_millis(900),
    ..RULES
};

const API: ApiRules = ApiRules {
    base: QYAPI,
    credential: Credential::Suite,
    probe: CALLBACK_IP,
    // It takes tokens of companies only.
    callback_ips: None,
};

impl Protocol for WeComSuite {
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

    /// Messages and events of the companies that have installed it.
    fn receives_of(&self) -> &'static [Platform] {
        &[Platform::WeCom]
    }

    /// The payload names the company, too.
    fn placeholder(&self) -> Option<&'static str> {
        Some("$CORPID$")
    }

    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        wechat::key(payload, TABLE.keys)
    }

    /// In the JSON of the data zone a notice has another name, which those of payments have, too.
    fn is_notice(&self, payload: &Object<'_>) -> bool {
        let has = |name| payload.get(name).is_some();
        has(wechat::NOTICE) || (has("event_type") && !has("MsgType") && !has("resource"))
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Notice => "wecom_suite.info.unknown",
            Kind::Message | Kind::Event => "wecom_suite.event.unknown",
        }
    }

    fn control<'p>(&self, payload: &'p Object<'_>) -> Option<Control<'p>> {
        wechat::ticket(payload, "suite_ticket", "SuiteTicket")
    }

    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        wechat::subject(payload).or_else(|| wechat::first_of(payload, &["AuthCorpId", "PaidCorpId"]))
    }

    /// What is not a notice to the application itself is for a company.
    fn acts_for<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Option<&'p str> {
        payload.text(if self.is_notice(payload) { "AuthCorpId" } else { "ToUserName" })
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

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        json::wecom(asked, members)
    }
}
