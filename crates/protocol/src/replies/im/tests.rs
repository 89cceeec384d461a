use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    event::{Platform, table},
    events::im::{AfterFriendAdd, BeforeFriendAdd, BeforeFriendResponse, BeforeGroupCreate, CustomElem, MsgElement},
    payload::{Form, parse},
    replies::tests::{json as body, refusal},
    wire::{Reading, Wire},
};

/// The structured answers of the catalogue: name of the type, sample, range of custom codes.
fn responses() -> BTreeMap<String, (Json, Option<RangeInclusive<i64>>)> {
    let events = echostr_catalog::platform("im").expect("the catalogue").event.into_iter();
    let responses = events.filter_map(|event| event.response);
    let row = |response: echostr_catalog::Response| {
        let name = response.type_name.expect("type");
        let sample = serde_json::from_str(&response.sample_json.expect("sample")).expect("JSON");
        (name, (sample, response.custom_codes.map(|[first, last]| first..=last)))
    };
    responses.map(row).filter(|(name, _)| name != "Ack").collect()
}

fn friend_add() -> BeforeFriendAdd {
    let payload = r#"{"FriendItem":[{"To_Account":"u_3107"},{"To_Account":"u_3108"}]}"#;
    let tree = parse(Form::Json, payload).expect("JSON");
    BeforeFriendAdd::read(&tree, &mut Reading::new(Form::Json)).expect("the event")
}

fn rewritten() -> [MsgElement; 2] {
    let badge = CustomElem::new(r#"{"level":3}"#).with_desc("badge");
    [MsgElement::text("Is the spare part in stock?"), badge.into()]
}

#[test]
fn the_builders_make_the_samples() {
    let friends = BeforeFriendAddResp::for_event(&friend_add()).deny("u_3108", 38101, "outside your depot");
    let private = BeforePrivateMessageSendResp::allow()
        .with_msg_body(rewritten())
        .with_cloud_custom_data(r#"{"trace":"a1","vip":1}"#);
    let group = BeforeGroupMessageSendResp::allow()
        .with_msg_body(rewritten())
        .with_cloud_custom_data(r#"{"trace":"g9","badge":3}"#);
    let official = BeforeOfficialAccountMessageSendResp::allow()
        .with_msg_body([MsgElement::text("Gate B closed on Friday (all day)")])
        .with_cloud_custom_data("");
    let rows = [
        ("BeforeFriendAddResp", body(friends.expect("a code in range"))),
        ("BeforeFriendResponseResp", body(BeforeFriendResponseResp::allow_all(["u_2041"]))),
        ("BeforePrivateMessageSendResp", body(private)),
        ("BeforeGroupCreateResp", body(BeforeGroupCreateResp::allow())),
        ("BeforeApplyJoinGroupResp", body(BeforeApplyJoinGroupResp::allow())),
        ("BeforeInviteJoinGroupResp", body(BeforeInviteJoinGroupResp::allow().with_refused_members(["u_3112"]))),
        ("BeforeGroupMessageSendResp", body(group)),
        ("BeforeTopicCreateResp", body(BeforeTopicCreateResp::allow())),
        ("BeforeLiveGiftSendResp", body(BeforeLiveGiftSendResp::allow())),
        ("ChatbotSignalMessageResp", body(ChatbotSignalMessageResp::rsp_data(r#"{"status":"shipped"}"#))),
        ("BeforeOfficialAccountCreateResp", body(BeforeOfficialAccountCreateResp::allow())),
        (
            "BeforeOfficialAccountSubscribeResp",
            body(BeforeOfficialAccountSubscribeResp::allow().with_refused_subscribers(["u_3110"])),
        ),
        ("BeforeOfficialAccountMessageSendResp", body(official)),
    ];
    let made: BTreeMap<_, _> = rows.map(|(name, body)| (name.to_owned(), body)).into();
    let samples: BTreeMap<_, _> = responses().into_iter().map(|(name, (sample, _))| (name, sample)).collect();
    assert_eq!(made, samples);
}

#[test]
fn the_custom_codes_are_those_of_the_catalogue() {
    let friends = FriendVerdict::CUSTOM_CODES;
    let rows = [
        ("BeforeFriendAddResp", friends.clone()),
        ("BeforeFriendResponseResp", friends),
        ("BeforePrivateMessageSendResp", BeforePrivateMessageSendResp::CUSTOM_CODES),
        ("BeforeGroupCreateResp", BeforeGroupCreateResp::CUSTOM_CODES),
        ("BeforeApplyJoinGroupResp", BeforeApplyJoinGroupResp::CUSTOM_CODES),
        ("BeforeInviteJoinGroupResp", BeforeInviteJoinGroupResp::CUSTOM_CODES),
        ("BeforeGroupMessageSendResp", BeforeGroupMessageSendResp::CUSTOM_CODES),
        ("BeforeTopicCreateResp", BeforeTopicCreateResp::CUSTOM_CODES),
        ("BeforeLiveGiftSendResp", BeforeLiveGiftSendResp::CUSTOM_CODES),
        ("BeforeOfficialAccountCreateResp", BeforeOfficialAccountCreateResp::CUSTOM_CODES),
        ("BeforeOfficialAccountMessageSendResp", BeforeOfficialAccountMessageSendResp::CUSTOM_CODES),
    ];
    let known: BTreeMap<_, _> = rows.map(|(name, codes)| (name.to_owned(), codes)).into();
    let listed = responses().into_iter().filter_map(|(name, (_, codes))| Some((name, codes?)));
    assert_eq!(known, listed.collect());
}

fn plain(code: i64, info: &str) -> Json {
    json!({ "ActionStatus": "OK", "ErrorCode": code, "ErrorInfo": info })
}

#[test]
fn a_verdict_is_its_code() {
    assert_eq!(body(BeforePrivateMessageSendResp::default()), plain(0, ""));
    assert_eq!(body(BeforePrivateMessageSendResp::refuse()), plain(1, ""));
    assert_eq!(body(BeforePrivateMessageSendResp::drop_silently()), plain(2, ""));
    let denied = BeforeGroupMessageSendResp::deny(10150, "no links here").expect("a code in range");
    assert_eq!(body(denied), plain(10150, "no links here"));
    assert_eq!(body(BeforeOfficialAccountSubscribeResp::refuse()), plain(1, ""));
    assert_eq!(body(BeforeInviteJoinGroupResp::allow().with_refused_members::<&str>([])), plain(0, ""));

    let mut failed = plain(1, "no bot");
    failed["RspData"] = "".into();
    assert_eq!(body(ChatbotSignalMessageResp::failed("no bot")), failed);
}

#[test]
fn the_members_stand_in_the_order_of_the_documents() {
    let Ok(Answer::Body(body)) = BeforePrivateMessageSendResp::allow().with_msg_body(rewritten()).into_answer() else {
        panic!("a body")
    };
    let names: Vec<_> = body.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ActionStatus", "ErrorCode", "ErrorInfo", "MsgBody"]);
}

#[test]
fn codes_that_do_not_reach_the_client_are_errors() {
    let rows = [
        (
            BeforeGroupCreateResp::deny(10099, "").map(drop),
            "code 10099 does not reach the client, which gets 10100 to 10200",
        ),
        (
            BeforeGroupCreateResp::deny(10201, "").map(drop),
            "code 10201 does not reach the client, which gets 10100 to 10200",
        ),
        (
            BeforePrivateMessageSendResp::deny(10100, "").map(drop),
            "code 10100 does not reach the client, which gets 120001 to 130000",
        ),
        (FriendVerdict::deny(1, "").map(drop), "code 1 does not reach the client, which gets 38000 to 39000"),
        (
            BeforeFriendAddResp::allow().deny("a", 0, "").map(drop),
            "code 0 does not reach the client, which gets 38000 to 39000",
        ),
    ];
    for (denied, rule) in rows {
        assert_eq!(denied.expect_err("refused").to_string(), rule);
    }
    for code in [10100, 10200] {
        assert!(BeforeGroupCreateResp::deny(code, "").is_ok());
    }
}

#[test]
fn what_the_platform_would_ignore_is_an_error() {
    let undelivered = "a message that is not delivered cannot be rewritten";
    let private = BeforePrivateMessageSendResp::refuse;
    assert_eq!(refusal(private().with_msg_body(rewritten())), undelivered);
    assert_eq!(refusal(private().with_cloud_custom_data("x")), undelivered);
    assert_eq!(refusal(BeforeGroupMessageSendResp::drop_silently().with_msg_body(rewritten())), undelivered);
    assert_eq!(
        refusal(BeforeGroupMessageSendResp::allow().with_msg_body([])),
        "MsgBody is empty; leave it out to deliver the message unchanged"
    );
    assert_eq!(
        refusal(BeforeInviteJoinGroupResp::refuse().with_refused_members(["a"])),
        "RefusedMembers_Account only counts when the others are allowed"
    );
    assert_eq!(
        refusal(BeforeOfficialAccountSubscribeResp::refuse().with_refused_subscribers(["a"])),
        "RefusedSubscribers_Account only counts when the others are allowed"
    );
    assert_eq!(refusal(BeforeInviteJoinGroupResp::allow().with_refused_members([""])), "a refused account is empty");
    assert_eq!(refusal(BeforeFriendAddResp::allow_all([""])), "To_Account is empty");
}

#[test]
fn the_last_verdict_on_a_friend_counts() {
    let denied = FriendVerdict::deny(38000, "no").expect("a code in range");
    let verdicts = BeforeFriendAddResp::for_event(&friend_add())
        .with("u_3107", denied.clone())
        .with("u_3108", denied)
        .with("u_3107", FriendVerdict::allow());
    let items = json!([
        { "To_Account": "u_3107", "ResultCode": 0, "ResultInfo": "" },
        { "To_Account": "u_3108", "ResultCode": 38000, "ResultInfo": "no" },
    ]);
    assert_eq!(body(verdicts)["ResultItem"], items);
    assert_eq!(BeforeFriendAddResp::allow().into_answer(), Ok(Answer::Default));
}

fn default_json(spec: &EventSpec, payload: &str, allow: bool) -> Json {
    let Ok(Value::Object(payload)) = parse(Form::Json, payload) else { panic!("{payload}") };
    serde_json::from_str(&default_verdict(spec, &payload, allow)).expect("JSON")
}

#[test]
fn the_default_verdict_names_every_friend() {
    let rows = [
        (BeforeFriendAdd::SPEC, r#"{"FriendItem":[{"To_Account":"a"},{"To_Account":7}]}"#),
        (BeforeFriendResponse::SPEC, r#"{"ResponseFriendItem":[{"To_Account":"a"},{"To_Account":7}]}"#),
    ];
    for (spec, payload) in rows {
        for (allow, code) in [(true, 0), (false, 38000)] {
            let mut expected = plain(0, "");
            expected["ResultItem"] = json!([
                { "To_Account": "a", "ResultCode": code, "ResultInfo": "" },
                { "To_Account": "7", "ResultCode": code, "ResultInfo": "" },
            ]);
            assert_eq!(default_json(spec, payload, allow), expected);
        }
        let empty = default_json(spec, r#"{"FriendItem":"x","ResponseFriendItem":[1,{}]}"#, true);
        assert_eq!(empty["ResultItem"], json!([]));
    }
}

#[test]
fn the_default_verdict_of_the_other_commands_is_the_code() {
    assert_eq!(default_json(BeforeGroupCreate::SPEC, "{}", true), plain(0, ""));
    assert_eq!(default_json(BeforeGroupCreate::SPEC, "{}", false), plain(1, ""));
    assert_eq!(default_json(AfterFriendAdd::SPEC, "{}", false), plain(0, ""));
    assert_eq!(default_json(ChatbotSignalMessage::SPEC, "{}", true)["RspData"], json!(""));
    assert_eq!(serde_json::to_value(verdict(true)).expect("JSON"), plain(0, ""));
    assert_eq!(serde_json::to_value(verdict(false)).expect("JSON"), plain(1, ""));
}

/// A new "before" command must not slip in with a default that nobody chose.
#[test]
fn every_command_that_decides_is_known() {
    let verdicts = table(Platform::Im).events.iter().filter(|spec| spec.reply == ReplyKind::Verdict);
    assert_eq!(verdicts.count(), responses().len());
}
