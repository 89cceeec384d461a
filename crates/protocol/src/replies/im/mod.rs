//! Verdicts on the "before" commands of Tencent IM (回调应答).
//!
//! The default of each type goes ahead. A refusal is `refuse()`, which shows the client the platform's own error, or
//! `deny(code, info)`, which shows it yours: the code must be in the range that the platform passes on, the type's
//! `CUSTOM_CODES`. `ActionStatus` is `OK` in all cases; it only says that the callback was handled.

mod elements;
mod friend;
mod message;
#[cfg(test)]
mod tests;

pub(in crate::replies) use friend::list_of as friends_of;
pub use friend::{BeforeFriendAddResp, BeforeFriendResponseResp, FriendVerdict};
pub(in crate::replies) use message::Rewrite;
pub use message::{BeforeGroupMessageSendResp, BeforeOfficialAccountMessageSendResp, BeforePrivateMessageSendResp};

use std::ops::RangeInclusive;

use super::rules::{broken, int, required, text};
use crate::{
    event::{Answer, Event, EventSpec, Reply, ReplyError, ReplyKind},
    events::im::ChatbotSignalMessage,
    payload::{Number, Object, Value, write_json},
};

/// What the app decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::replies) enum Decision {
    #[default]
    Allow,
    /// The client sees the platform's own error.
    Refuse,
    /// The sender of a message sees success, nobody gets it.
    Drop,
    /// The client sees this error.
    Deny { code: i64, info: String },
}

impl Decision {
    pub(in crate::replies) fn deny(
        codes: &RangeInclusive<i64>,
        code: i64,
        info: impl Into<String>,
    ) -> Result<Self, ReplyError> {
        check_code(codes, code)?;
        Ok(Self::Deny { code, info: info.into() })
    }

    fn into_status(self) -> Object<'static> {
        match self {
            Self::Allow => status(0, ""),
            Self::Refuse => status(1, ""),
            Self::Drop => status(2, ""),
            Self::Deny { code, info } => status(code, info),
        }
    }
}

/// Outside the range the platform's behaviour is not documented.
fn check_code(codes: &RangeInclusive<i64>, code: i64) -> Result<(), ReplyError> {
    if codes.contains(&code) {
        return Ok(());
    }
    let (first, last) = (codes.start(), codes.end());
    Err(broken(format!("code {code} does not reach the client, which gets {first} to {last}")))
}

/// The three members that every answer has.
pub(crate) const STATUS: [&str; 3] = ["ActionStatus", "ErrorCode", "ErrorInfo"];

fn status(code: i64, info: impl Into<String>) -> Object<'static> {
    let mut body = Object::with_capacity(5);
    for (name, value) in STATUS.into_iter().zip([text("OK"), int(code), text(info)]) {
        body.push(name, value);
    }
    body
}

/// The answer that lets things happen, or refuses without a reason.
///
/// Three commands want more than that; [`default_verdict`] knows them.
pub fn verdict(allow: bool) -> Object<'static> {
    if allow { Decision::Allow.into_status() } else { Decision::Refuse.into_status() }
}

/// The answer to an event when no responder gave one, as JSON: [`verdict`], or what the command needs in its place.
///
/// The two friend commands ignore `ErrorCode`, so every account that `payload` names gets a verdict of its own. A bot
/// signal wants `RspData`. Commands that are only acknowledged cannot be refused.
pub fn default_verdict(spec: &EventSpec, payload: &Object<'_>, allow: bool) -> String {
    friend::default_verdicts(spec, payload, allow).unwrap_or_else(|| write_json(&same_verdict(spec, allow)))
}

/// [`default_verdict`] without the payload, which only some commands need for it; `None` for these.
pub fn verdict_without_payload(spec: &EventSpec, allow: bool) -> Option<String> {
    friend::list_of(spec).is_none().then(|| write_json(&same_verdict(spec, allow)))
}

fn same_verdict(spec: &EventSpec, allow: bool) -> Object<'static> {
    let mut body = verdict(allow || spec.reply != ReplyKind::Verdict);
    if spec == ChatbotSignalMessage::SPEC {
        body.push("RspData", text(""));
    }
    body
}

/// Whether an answer lets everything happen as it was asked, and says nothing else: it may be that of a handler which has
/// not seen all of what was asked.
pub fn is_bare_permission(answer: &Answer) -> bool {
    match answer {
        Answer::Default => true,
        Answer::Body(body) => {
            let is_allowed = matches!(body.get("ErrorCode"), None | Some(Value::Number(Number::Int(0))));
            is_allowed && body.iter().all(|(name, _)| STATUS.contains(&name))
        }
        // Verdicts account by account, of which one may be missing.
        Answer::Written(_) => true,
        _ => false,
    }
}

/// What an answer may have beside the verdict.
pub(in crate::replies) trait Extras {
    /// Appends them; `allowed` is whether the platform would honour them.
    fn write(self, allowed: bool, body: &mut Object<'static>) -> Result<(), ReplyError>;
}

impl Extras for () {
    fn write(self, _: bool, _: &mut Object<'static>) -> Result<(), ReplyError> {
        Ok(())
    }
}

pub(in crate::replies) fn answer(decision: Decision, extras: impl Extras) -> Result<Answer, ReplyError> {
    let allowed = decision == Decision::Allow;
    let mut body = decision.into_status();
    extras.write(allowed, &mut body)?;
    Ok(Answer::Body(body))
}

/// Accounts that are left out while the others go ahead: `SUBSCRIBERS` of an official account, else members of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::replies) struct Refused<const SUBSCRIBERS: bool>(pub(in crate::replies) Vec<String>);

impl<const SUBSCRIBERS: bool> Extras for Refused<SUBSCRIBERS> {
    fn write(self, allowed: bool, body: &mut Object<'static>) -> Result<(), ReplyError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let name = if SUBSCRIBERS { "RefusedSubscribers_Account" } else { "RefusedMembers_Account" };
        if !allowed {
            return Err(broken(format!("{name} only counts when the others are allowed")));
        }
        self.0.iter().try_for_each(|account| required("a refused account", account))?;
        body.push(name, Value::List(self.0.into_iter().map(text).collect()));
        Ok(())
    }
}

/// Verdicts that allow or refuse, each with what else its answer may have.
macro_rules! verdicts {
    ($( $(#[$meta:meta])* $name:ident($extras:ty); )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[must_use]
        pub struct $name {
            decision: $crate::replies::im::Decision,
            extras: $extras,
        }

        impl $name {
            /// Goes ahead; the same as the default.
            pub fn allow() -> Self {
                Self::default()
            }

            /// Refuses; the client sees the platform's own error (`ErrorCode` 1).
            pub fn refuse() -> Self {
                Self { decision: $crate::replies::im::Decision::Refuse, ..Self::default() }
            }
        }

        impl $crate::event::Reply for $name {
            fn into_answer(self) -> Result<$crate::event::Answer, $crate::event::ReplyError> {
                $crate::replies::im::answer(self.decision, self.extras)
            }
        }
    )+ };
}

/// Verdicts that may give the client an error of the app.
macro_rules! custom_codes {
    ($($name:ident: $codes:expr;)+) => { $(
        impl $name {
            /// The error codes that the platform passes on to the client.
            pub const CUSTOM_CODES: ::std::ops::RangeInclusive<i64> = $codes;

            /// Refuses; the client sees this code and text.
            ///
            /// # Errors
            /// When `code` is outside [`Self::CUSTOM_CODES`], for it would not reach the client.
            pub fn deny(code: i64, info: impl Into<String>) -> Result<Self, $crate::event::ReplyError> {
                let decision = $crate::replies::im::Decision::deny(&Self::CUSTOM_CODES, code, info)?;
                Ok(Self { decision, ..Self::default() })
            }
        }
    )+ };
}

use {custom_codes, verdicts};

verdicts! {
    /// Verdict on the creation of a group. A refused client sees 10016, or the code of [`Self::deny`].
    BeforeGroupCreateResp(());

    /// Verdict on an application to join a group. When it goes ahead, the approval of an admin still applies. A refused
    /// client sees 10016, or the code of [`Self::deny`].
    BeforeApplyJoinGroupResp(());

    /// Verdict on an invitation to a group: on all invited members, or on each. A refused client sees 10016, or the code
    /// of [`Self::deny`].
    BeforeInviteJoinGroupResp(Refused<false>);

    /// Verdict on the creation of a topic. A refused client sees 10016, or the code of [`Self::deny`].
    BeforeTopicCreateResp(());

    /// Verdict on a gift in a live room. A refused client sees 1, or the code of [`Self::deny`].
    BeforeLiveGiftSendResp(());

    /// Verdict on the creation of an in-app official account. A refused client sees 20006, or the code of
    /// [`Self::deny`].
    BeforeOfficialAccountCreateResp(());

    /// Verdict on subscriptions to an in-app official account: on all, or on each. The platform passes on no error code
    /// of the app here.
    BeforeOfficialAccountSubscribeResp(Refused<true>);
}

custom_codes! {
    BeforeGroupCreateResp: 10100..=10200;
    BeforeApplyJoinGroupResp: 10100..=10200;
    BeforeInviteJoinGroupResp: 10100..=10200;
    BeforeTopicCreateResp: 10100..=10200;
    BeforeLiveGiftSendResp: 102_100..=102_200;
    BeforeOfficialAccountCreateResp: 120_001..=130_000;
}

impl BeforeInviteJoinGroupResp {
    /// Keeps these accounts out while the others join. An error with a verdict that refuses all.
    pub fn with_refused_members<A: Into<String>>(mut self, accounts: impl IntoIterator<Item = A>) -> Self {
        self.extras.0 = accounts.into_iter().map(Into::into).collect();
        self
    }
}

impl BeforeOfficialAccountSubscribeResp {
    /// Keeps these accounts out while the others subscribe. An error with a verdict that refuses all.
    pub fn with_refused_subscribers<A: Into<String>>(mut self, accounts: impl IntoIterator<Item = A>) -> Self {
        self.extras.0 = accounts.into_iter().map(Into::into).collect();
        self
    }
}

/// Answer to a signal of a bot's client: not a verdict, but data that the bot gets back.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct ChatbotSignalMessageResp {
    rsp_data: String,
    failure: Option<String>,
}

impl ChatbotSignalMessageResp {
    /// Handled; the bot gets `data`, mostly JSON as text. The default is empty data.
    pub fn rsp_data(data: impl Into<String>) -> Self {
        Self { rsp_data: data.into(), failure: None }
    }

    /// Not handled (`ErrorCode` 1): the bot gets nothing.
    pub fn failed(info: impl Into<String>) -> Self {
        Self { rsp_data: String::new(), failure: Some(info.into()) }
    }
}

impl Reply for ChatbotSignalMessageResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        let mut body = self.failure.map_or_else(|| status(0, ""), |info| status(1, info));
        body.push("RspData", text(self.rsp_data));
        Ok(Answer::Body(body))
    }
}
