//! Verdicts on friend requests, which are given account by account.

use std::{borrow::Cow, ops::RangeInclusive};

use serde::Serialize;

use super::check_code;
use crate::{
    event::{Answer, Event, EventSpec, Reply, ReplyError},
    events::im::{BeforeFriendAdd, BeforeFriendResponse},
    payload::{
        Object, Value,
        index::{FEW, Index},
    },
    replies::rules::required,
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
    /// Allows these accounts.
    fn allow_all<A: Into<String>>(accounts: impl IntoIterator<Item = A>) -> Self {
        let accounts = accounts.into_iter();
        let mut all = Self { list: Vec::with_capacity(accounts.size_hint().0), index: None };
        accounts.for_each(|account| all.set(account.into(), FriendVerdict::allow()));
        all
    }

    fn set(&mut self, account: String, verdict: FriendVerdict) {
        let Self { list, index } = self;
        if index.is_none() && list.len() == FEW {
            let index = index.insert(Box::new(Index::with_capacity(list.capacity())));
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

/// The answer as it is written. A request may name tens of thousands of accounts: as a tree of values it would take
/// many times the memory.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Response<'a> {
    action_status: &'static str,
    error_code: i64,
    error_info: &'static str,
    result_item: Vec<ResultItem<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResultItem<'a> {
    #[serde(rename = "To_Account")]
    to_account: Cow<'a, str>,
    result_code: i64,
    result_info: &'a str,
}

fn write(error_code: i64, result_item: Vec<ResultItem<'_>>) -> String {
    const ITEM: usize = r#"{"To_Account":"","ResultCode":38000,"ResultInfo":""},"#.len();
    let length: usize = result_item.iter().map(|item| ITEM + item.to_account.len() + item.result_info.len()).sum();
    let mut written = Vec::with_capacity(length + 80);
    let response = Response { action_status: "OK", error_code, error_info: "", result_item };
    let done = serde_json::to_writer(&mut written, &response).is_ok();
    String::from_utf8(written).ok().filter(|_| done).unwrap_or_default()
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
                Self { verdicts: Verdicts::allow_all(accounts) }
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
                let items = verdicts.iter().map(|(account, FriendVerdict { code, info })| ResultItem {
                    to_account: account.into(),
                    result_code: *code,
                    result_info: info,
                });
                Ok(Answer::Written(write(0, items.collect())))
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
pub(in crate::replies) fn list_of(spec: &EventSpec) -> Option<&'static str> {
    if spec == BeforeFriendAdd::SPEC {
        Some("FriendItem")
    } else if spec == BeforeFriendResponse::SPEC {
        Some("ResponseFriendItem")
    } else {
        None
    }
}

/// A verdict on every account that the payload names, written; `None` when the event is no friend request.
///
/// Reads the tree, not the type: the answer must not depend on whether the rest of the payload is readable.
pub(super) fn default_verdicts(spec: &EventSpec, payload: &Object<'_>, allow: bool) -> Option<String> {
    let list = list_of(spec)?;
    let result_code = if allow { 0 } else { *FriendVerdict::CUSTOM_CODES.start() };
    let mut items = Vec::new();
    let mut judge = |to_account| items.push(ResultItem { to_account, result_code, result_info: "" });
    let all_named = payload.get(list).is_some_and(|friends| each_account(friends, &mut judge)) && !items.is_empty();
    // Where an account cannot be named, the code is all that is left to refuse with.
    Some(write(i64::from(!allow && !all_named), items))
}

/// Returns whether each of them has a name.
fn each_account<'v>(friends: &'v Value<'_>, judge: &mut dyn FnMut(Cow<'v, str>)) -> bool {
    match friends {
        Value::List(items) => items.iter().filter(|item| !each_account(item, judge)).count() == 0,
        Value::Object(friend) => match friend.get("To_Account") {
            Some(Value::Text(account)) => {
                judge(Cow::Borrowed(account));
                true
            }
            Some(Value::Number(account)) => {
                judge(account.to_string().into());
                true
            }
            _ => false,
        },
        _ => false,
    }
}
