//! The built-in demo: echoes texts, welcomes followers, keeps the blocked out and banned words away.

use std::{
    future::{Ready, ready},
    iter,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value as Json;

use crate::{
    config::{Config, ConfigError},
    event::ReplyError,
    events::{
        im::{self, MsgElement},
        mp, wecom, wecom_bot,
        wecom_kf::{self, EnterSession},
    },
    hooks::{Context, HandlerError, Hooks},
    replies::{
        self,
        im::{
            BeforeFriendAddResp, BeforeGroupMessageSendResp, BeforeInviteJoinGroupResp, BeforePrivateMessageSendResp,
        },
    },
};

/// `[handlers.demo]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Said to new followers, who are only acknowledged without it, and to customers who enter a session.
    welcome: Option<String>,
    /// IM accounts that nobody may add, and that may not be invited into groups.
    blocked: Vec<String>,
    /// Replaced by `*` of the same length in the texts of IM messages.
    banned_words: Vec<String>,
}

/// The code that a refused friend request is answered with.
const BLOCKED: i64 = 38000;

/// Said to customers when nothing else is configured.
const GREETING: &str = "Welcome! What can we do for you?";

/// The demo's handlers, if the configuration has `[handlers.demo]`.
///
/// # Errors
/// When the table is wrong.
pub fn hooks(config: &Config) -> Result<Option<Hooks>, ConfigError> {
    Ok(config.handler("demo")?.map(with))
}

fn with(settings: Settings) -> Hooks {
    let demo = Arc::new(settings);
    let (friends, invitations) = (Arc::clone(&demo), Arc::clone(&demo));
    let (private, group) = (Arc::clone(&demo), Arc::clone(&demo));
    let greeting = demo.welcome.clone().unwrap_or_else(|| GREETING.to_owned());
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(replies::mp::Reply::text(echo(&message.content))))
        .on(async |message: wecom::TextMessage, _: Context| Ok(replies::wecom::Reply::text(echo(&message.content))))
        .on(async |message: wecom_bot::TextMessage, _: Context| {
            Ok(replies::wecom_bot::Reply::stream(futures_util::stream::iter(words(echo(&message.text.content)))))
        })
        .on(async |message: wecom_kf::TextMessage, _: Context| {
            Ok(replies::wecom_kf::Reply::text(echo(&message.text.content)))
        })
        .on(move |_: EnterSession, _: Context| done(Ok(replies::wecom_kf::EventReply::text(&*greeting))))
        .on(move |event: im::BeforeFriendAdd, _: Context| done(friends.befriend(&event)))
        .on(move |event: im::BeforeInviteJoinGroup, _: Context| done(Ok(invitations.invite(&event))))
        .on(move |message: im::BeforePrivateMessageSend, _: Context| {
            let allowed = BeforePrivateMessageSendResp::allow();
            done(Ok(match private.censor(message.msg_body) {
                Some(body) => allowed.with_msg_body(body),
                None => allowed,
            }))
        })
        .on(move |message: im::BeforeGroupMessageSend, _: Context| {
            let allowed = BeforeGroupMessageSendResp::allow();
            done(Ok(match group.censor(message.msg_body) {
                Some(body) => allowed.with_msg_body(body),
                None => allowed,
            }))
        });
    match demo.welcome.clone() {
        Some(welcome) => hooks.on(move |_: mp::Subscribe, _: Context| done(Ok(replies::mp::Reply::text(&*welcome)))),
        None => hooks,
    }
}

/// The answer is there at once.
fn done<T>(answer: Result<T, ReplyError>) -> Ready<Result<T, HandlerError>> {
    ready(answer.map_err(Into::into))
}

fn echo(text: &str) -> String {
    format!("echo: {text}")
}

/// A text piece by piece, as a language model writes it: no piece is made before it is asked for.
fn words(text: String) -> impl Iterator<Item = String> {
    let mut from = 0;
    iter::from_fn(move || {
        let word = text.get(from..)?.split_inclusive(' ').next()?.to_owned();
        from += word.len();
        Some(word)
    })
}

impl Settings {
    fn is_blocked(&self, account: &str) -> bool {
        self.blocked.iter().any(|blocked| blocked == account)
    }

    /// Each friend is allowed or refused on its own.
    fn befriend(&self, event: &im::BeforeFriendAdd) -> Result<BeforeFriendAddResp, ReplyError> {
        let blocked = event.friend_item.iter().map(|friend| &friend.to_account).filter(|it| self.is_blocked(it));
        blocked.into_iter().try_fold(BeforeFriendAddResp::for_event(event), |answer, account| {
            answer.deny(account, BLOCKED, "this account takes no requests")
        })
    }

    /// The blocked stay out, the others join.
    fn invite(&self, event: &im::BeforeInviteJoinGroup) -> BeforeInviteJoinGroupResp {
        let invited = event.destination_members.iter().map(|member| &member.member_account);
        let refused: Vec<_> = invited.filter(|account| self.is_blocked(account)).cloned().collect();
        BeforeInviteJoinGroupResp::allow().with_refused_members(refused)
    }

    /// The message without banned words; `None` when it has none.
    fn censor(&self, mut body: Vec<MsgElement>) -> Option<Vec<MsgElement>> {
        let mut changed = false;
        for element in &mut body {
            changed |= match element {
                MsgElement::Text(text) => self.censor_text(&mut text.text),
                // It may be a text that nobody can read as one.
                MsgElement::Unknown { content, .. } => self.censor_json(content),
                _ => false,
            };
        }
        changed.then_some(body)
    }

    fn censor_text(&self, text: &mut String) -> bool {
        let mut changed = false;
        for word in self.banned_words.iter().filter(|word| !word.is_empty()) {
            if text.contains(word.as_str()) {
                *text = text.replace(word.as_str(), &"*".repeat(word.chars().count()));
                changed = true;
            }
        }
        changed
    }

    fn censor_json(&self, json: &mut Json) -> bool {
        match json {
            Json::String(text) => self.censor_text(text),
            Json::Array(items) => items.iter_mut().filter_map(|item| self.censor_json(item).then_some(())).count() > 0,
            Json::Object(members) => {
                members.values_mut().filter_map(|item| self.censor_json(item).then_some(())).count() > 0
            }
            _ => false,
        }
    }
}
