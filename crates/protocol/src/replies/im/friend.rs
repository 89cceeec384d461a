//! Verdicts on friend requests, which are given account by account.

use std::ops::RangeInclusive;

use super::{check_code, status};
use crate::{
    event::{Answer, Event, EventSpec, Reply, ReplyError},
    events::im::{BeforeFriendAdd, BeforeFriendResponse},
    payload::{
        Object, Value,
        index::{FEW, Index},
    },
    replies::rules::{int, required, text},
};

/// Verdict on one account of a friend request.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct FriendVerdict {
    code: i64,
    info: String,
}

impl FriendVerdict {
    /// The codes that refuse and that the platform passes on to the client.
    pub const CUSTOM_CODES: RangeInclusive<i64> = 38000..=39000;

    /// Goes ahead; the same as the default.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Refuses; the client sees this code and text.
    ///
    /// # Errors
    /// When `code` is outside [`Self::CUSTOM_CODES`].
    pub fn deny(code: i64, info: impl Into<String>) -> Result<Self, ReplyError> {
        check_code(&Self::CUSTOM_CODES, code)?;
        Ok(Self { code, info: info.into() })
    }

    fn write(self, account: String) -> Value<'static> {
        let mut item = Object::with_capacity(3);
        item.push("To_Account", text(account));
        item.push("ResultCode", int(self.code));
        item.push("ResultInfo", text(self.info));
        Value::Object(item)
    }
}

/// Verdicts by account, in the order in which the accounts were named first.
#[derive(Clone, Debug, Default)]
struct Verdicts {
    list: Vec<(String, FriendVerdict)>,
    /// Where the accounts are, once there are more than a [`FEW`]: whoever sends the request chooses how many it names.
    index: Option<Box<Index>>,
}

impl PartialEq for Verdicts {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Verdicts {
    fn set(&mut self, account: String, verdict: FriendVerdict) {
        let Self { list, index } = self;
        if index.is_none() && list.len() == FEW {
            let index = index.insert(Box::default());
            (0..list.len()).for_each(|at| index.enter(at, |at| &list[at].0));
        }
        let known = match index {
            None => list.iter().position(|(known, _)| *known == account),
            Some(index) => index.find_or_enter(&account, list.len(), |at| &list[at].0),
        };
        match known {
            Some(at) => list[at].1 = verdict,
            None => list.push((account, verdict)),
        }
    }
}

fn body(items: Vec<Value<'static>>) -> Object<'static> {
    let mut body = status(0, "");
    body.push("ResultItem", Value::List(items));
    body
}

macro_rules! friend_verdicts {
    ($( $(#[$meta:meta])* $name:ident for $event:ident.$friends:ident; )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[must_use]
        pub struct $name {
            verdicts: Verdicts,
        }

        impl $name {
            /// Goes ahead with every account of the request; the same as the default.
            pub fn allow() -> Self {
                Self::default()
            }

            /// Allows every account that the event names: the start for refusing some of them.
            pub fn for_event(event: &$event) -> Self {
                Self::allow_all(event.$friends.iter().map(|friend| friend.to_account.as_str()))
            }

            /// Allows these accounts.
            pub fn allow_all<A: Into<String>>(accounts: impl IntoIterator<Item = A>) -> Self {
                accounts.into_iter().fold(Self::default(), |all, account| all.with(account, FriendVerdict::allow()))
            }

            /// Sets the verdict on one account; the last one counts. Every account of the request needs one: what
            /// happens to the others is not documented.
            pub fn with(mut self, to_account: impl Into<String>, verdict: FriendVerdict) -> Self {
                self.verdicts.set(to_account.into(), verdict);
                self
            }

            /// Refuses one account; the client sees this code and text.
            ///
            /// # Errors
            /// When `code` is outside [`FriendVerdict::CUSTOM_CODES`].
            pub fn deny(
                self,
                to_account: impl Into<String>,
                code: i64,
                info: impl Into<String>,
            ) -> Result<Self, ReplyError> {
                Ok(self.with(to_account, FriendVerdict::deny(code, info)?))
            }
        }

        /// Without verdicts the answer is the default one, in which [`default_verdict`](super::default_verdict) allows
        /// the accounts of the payload by name.
        impl Reply for $name {
            fn into_answer(self) -> Result<Answer, ReplyError> {
                let verdicts = self.verdicts.list;
                if verdicts.is_empty() {
                    return Ok(Answer::Default);
                }
                verdicts.iter().try_for_each(|(account, _)| required("To_Account", account))?;
                let items = verdicts.into_iter().map(|(account, verdict)| verdict.write(account));
                Ok(Answer::Body(body(items.collect())))
            }
        }
    )+ };
}

friend_verdicts! {
    /// Verdicts on a request to add friends, one per account.
    ///
    /// ```
    /// # use echostr_protocol::{event::ReplyError, events::im::BeforeFriendAdd, replies::im::BeforeFriendAddResp};
    /// # fn check(event: &BeforeFriendAdd) -> Result<BeforeFriendAddResp, ReplyError> {
    /// BeforeFriendAddResp::for_event(event).deny("u_3108", 38101, "outside your depot")
    /// # }
    /// ```
    BeforeFriendAddResp for BeforeFriendAdd.friend_item;

    /// Verdicts on the answers to friend requests, one per account.
    BeforeFriendResponseResp for BeforeFriendResponse.response_friend_item;
}

/// The member that lists the accounts; `None` when the event is no friend request.
pub(super) fn list_of(spec: &EventSpec) -> Option<&'static str> {
    if spec == BeforeFriendAdd::SPEC {
        Some("FriendItem")
    } else if spec == BeforeFriendResponse::SPEC {
        Some("ResponseFriendItem")
    } else {
        None
    }
}

/// A verdict on every account that the payload names; `None` when the event is no friend request.
///
/// Reads the tree, not the type: the answer must not depend on whether the rest of the payload is readable.
pub(super) fn default_verdicts(spec: &EventSpec, payload: &Object<'_>, allow: bool) -> Option<Object<'static>> {
    let list = list_of(spec)?;
    let code = if allow { 0 } else { *FriendVerdict::CUSTOM_CODES.start() };
    let verdict = FriendVerdict { code, info: String::new() };
    let mut items = Vec::new();
    if let Some(friends) = payload.get(list) {
        each_account(friends, &mut |account| items.push(verdict.clone().write(account)));
    }
    Some(body(items))
}

fn each_account(friends: &Value<'_>, judge: &mut dyn FnMut(String)) {
    match friends {
        Value::List(items) => items.iter().for_each(|item| each_account(item, judge)),
        Value::Object(friend) => match friend.get("To_Account") {
            Some(Value::Text(account)) => judge(account.clone().into_owned()),
            Some(Value::Number(account)) => judge(account.to_string()),
            _ => {}
        },
        _ => {}
    }
}
