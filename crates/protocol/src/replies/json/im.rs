//! Verdicts on the "before" commands of Tencent IM.

use std::ops::RangeInclusive;

use hashbrown::HashSet;
use serde_json::Value as Json;

use super::{Asked, Members};
use crate::{
    event::{Answer, Event, EventSpec, Reply, ReplyError},
    events::im::{
        BeforeApplyJoinGroup, BeforeGroupCreate, BeforeGroupMessageSend, BeforeInviteJoinGroup,
        BeforeOfficialAccountCreate, BeforeOfficialAccountMessageSend, BeforeOfficialAccountSubscribe,
        BeforePrivateMessageSend, BeforeTopicCreate, ChatbotSignalMessage, MsgElement,
    },
    payload::{Form, Value},
    replies::{
        im::{
            self, BeforeApplyJoinGroupResp, BeforeFriendAddResp, BeforeGroupCreateResp, BeforeGroupMessageSendResp,
            BeforeInviteJoinGroupResp, BeforeOfficialAccountCreateResp, BeforeOfficialAccountMessageSendResp,
            BeforePrivateMessageSendResp, BeforeTopicCreateResp, ChatbotSignalMessageResp, Decision, FriendVerdict,
            Refused, Rewrite,
        },
        rules::broken,
    },
    wire::{Reading, Wire},
};

/// What a command's answer may have beside the verdict.
enum Extras {
    Nothing,
    Message,
    Members,
    Subscribers,
}

/// The codes that reach the client, and what else the answer to a command may have.
fn rules(spec: &'static EventSpec) -> (Option<RangeInclusive<i64>>, Extras) {
    let table = [
        (BeforeGroupCreate::SPEC, Some(BeforeGroupCreateResp::CUSTOM_CODES), Extras::Nothing),
        (BeforeApplyJoinGroup::SPEC, Some(BeforeApplyJoinGroupResp::CUSTOM_CODES), Extras::Nothing),
        (BeforeInviteJoinGroup::SPEC, Some(BeforeInviteJoinGroupResp::CUSTOM_CODES), Extras::Members),
        (BeforeTopicCreate::SPEC, Some(BeforeTopicCreateResp::CUSTOM_CODES), Extras::Nothing),
        (BeforeOfficialAccountCreate::SPEC, Some(BeforeOfficialAccountCreateResp::CUSTOM_CODES), Extras::Nothing),
        (BeforeOfficialAccountSubscribe::SPEC, None, Extras::Subscribers),
        (BeforePrivateMessageSend::SPEC, Some(BeforePrivateMessageSendResp::CUSTOM_CODES), Extras::Message),
        (BeforeGroupMessageSend::SPEC, Some(BeforeGroupMessageSendResp::CUSTOM_CODES), Extras::Message),
        (
            BeforeOfficialAccountMessageSend::SPEC,
            Some(BeforeOfficialAccountMessageSendResp::CUSTOM_CODES),
            Extras::Message,
        ),
    ];
    let found = table.into_iter().find(|(known, ..)| *known == spec);
    found.map_or((None, Extras::Nothing), |(_, codes, extras)| (codes, extras))
}

/// The verdict on a command.
pub(crate) fn reply(asked: &Asked<'_>, mut members: Members) -> Result<Answer, ReplyError> {
    if members.has(im::STATUS[0]) || members.has(im::STATUS[1]) {
        return own(asked, members);
    }
    let Some(spec) = asked.spec else { return Err(broken("the event takes no reply")) };
    if spec == ChatbotSignalMessage::SPEC {
        return match members.kind(&["rsp_data", "deny"], &["info"])? {
            "rsp_data" => ChatbotSignalMessageResp::rsp_data(members.needed("rsp_data")?).into_answer(),
            _ => ChatbotSignalMessageResp::failed(members.text("info")?.unwrap_or_default()).into_answer(),
        };
    }
    if let Some(list) = im::friends_of(spec) {
        return friends(asked, list, members);
    }
    let (codes, extras) = rules(spec);
    let known: &[&str] = match extras {
        Extras::Nothing => &["allow", "deny", "info"],
        Extras::Message => &["allow", "deny", "info", "drop", "text", "msg_body", "cloud_custom_data"],
        Extras::Members | Extras::Subscribers => &["allow", "deny", "info", "refused"],
    };
    members.only(known, &[])?;
    let decision = decision(&mut members, codes.as_ref())?;
    match extras {
        Extras::Nothing => im::answer(decision, ()),
        Extras::Message => im::answer(decision, rewrite(&mut members)?),
        Extras::Members => im::answer(decision, Refused::<false>(members.texts("refused")?.unwrap_or_default())),
        Extras::Subscribers => im::answer(decision, Refused::<true>(members.texts("refused")?.unwrap_or_default())),
    }
}

/// The platform's own answer. What it decides has to be there: without a code it would be taken for a permission.
fn own(asked: &Asked<'_>, members: Members) -> Result<Answer, ReplyError> {
    let has_code = members.members.get(im::STATUS[1]).is_some_and(Json::is_i64);
    if !has_code || members.members.get(im::STATUS[0]).and_then(Json::as_str) != Some("OK") {
        return Err(broken("the platform's own answer needs `ActionStatus` \"OK\" and `ErrorCode`, a number"));
    }
    let lists = asked.spec.is_some_and(|spec| im::friends_of(spec).is_some());
    if lists && !members.members.get("ResultItem").is_some_and(Json::is_array) {
        return Err(broken("the answer to a friend request needs `ResultItem`, a list with every account"));
    }
    members.into_document().map(Answer::Body)
}

fn decision(members: &mut Members, codes: Option<&RangeInclusive<i64>>) -> Result<Decision, ReplyError> {
    let (allow, drop, deny) = (members.flag("allow")?, members.flag("drop")?, members.take("deny"));
    let info = members.text("info")?;
    if info.is_some() && deny.is_none() {
        return Err(broken("`info` only counts beside `deny`"));
    }
    match (allow, drop, deny) {
        (None | Some(true), None | Some(false), None) => Ok(Decision::Allow),
        (Some(false), None, None) => Ok(Decision::Refuse),
        (None | Some(false), Some(true), None) => Ok(Decision::Drop),
        (None | Some(false), None, Some(Json::Bool(true))) if info.is_none() => Ok(Decision::Refuse),
        (None | Some(false), None, Some(Json::Bool(true))) => {
            Err(broken("`info` needs a code: `deny` is true, which shows the platform's own error"))
        }
        (None | Some(false), None, Some(code)) => {
            let code = code.as_i64().ok_or_else(|| broken("`deny` is neither true nor a code"))?;
            match codes {
                Some(codes) => Decision::deny(codes, code, info.unwrap_or_default()),
                None => Err(broken("the command passes no code on to the client: `deny` can only be true")),
            }
        }
        _ => Err(broken("a verdict is one thing: `allow`, `deny` or `drop`")),
    }
}

fn rewrite(members: &mut Members) -> Result<Rewrite, ReplyError> {
    let (text, body) = (members.text("text")?, members.take("msg_body"));
    let msg_body = match (text, body) {
        (Some(_), Some(_)) => return Err(broken("a message is rewritten with `text` or with `msg_body`")),
        (Some(text), None) => Some(vec![MsgElement::text(text)]),
        (None, Some(body)) => {
            let tree = body.write().ok_or_else(|| broken("`msg_body` is not a list"))?;
            let elements = Vec::<MsgElement>::read(&tree, &mut Reading::new(Form::Json));
            Some(elements.map_err(|_| broken("`msg_body` is not a list of elements"))?)
        }
        (None, None) => None,
    };
    Ok(Rewrite { msg_body, cloud_custom_data: members.text("cloud_custom_data")? })
}

/// A verdict on every account that the request names: one for all, or account by account.
fn friends(asked: &Asked<'_>, list: &'static str, mut members: Members) -> Result<Answer, ReplyError> {
    members.only(&["allow", "deny", "info", "accounts"], &[])?;
    let verdict = |members: &mut Members| {
        Ok(match decision(members, Some(&FriendVerdict::CUSTOM_CODES))? {
            Decision::Deny { code, info } => FriendVerdict::deny(code, info)?,
            Decision::Allow => FriendVerdict::allow(),
            _ => return Err(broken("a friend request is denied with a code, 38000 to 39000")),
        })
    };
    let accounts = match members.take("accounts") {
        Some(accounts) => Members::of(accounts, "accounts")?,
        None => Members::new(serde_json::Map::default()),
    };
    let all = verdict(&mut members)?;
    let items = match asked.event.get(list) {
        Some(Value::List(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let mut reply = BeforeFriendAddResp::allow();
    let mut named = HashSet::new();
    for item in items {
        let Some(account) = item.as_object().and_then(|item| item.text("To_Account")) else { continue };
        let own = match accounts.members.get(account).cloned() {
            Some(own) => {
                named.insert(account);
                verdict(&mut match own {
                    own @ Json::Object(_) => Members::of(own, "accounts")?,
                    code => Members::new(serde_json::Map::from_iter([("deny".to_owned(), code)])),
                })?
            }
            None => all.clone(),
        };
        reply = reply.with(account, own);
    }
    // The verdict on whoever is not asked about would be lost.
    if named.len() < accounts.members.len() {
        return Err(broken("`accounts` names one that the request does not ask about"));
    }
    reply.into_answer()
}
