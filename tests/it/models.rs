//! The fields of models that others wrote for the same pushes, by their wire names: each is a field of the type, too. These
//! are the documents that the catalogue began with.

use echostr::{event, payload, payload::Form};
use serde_json::{Map, Value as Json, json};

/// wechatpy (Python): events of Official Accounts.
const WECHATPY: [(&str, &[&str]); 33] = [
    ("mp.event.subscribe_scan", &["EventKey", "Ticket"]),
    ("mp.event.scan", &["EventKey", "Ticket"]),
    ("mp.event.location", &["Latitude", "Longitude", "Precision"]),
    ("mp.event.click", &["EventKey"]),
    ("mp.event.view", &["EventKey"]),
    ("mp.event.templatesendjobfinish", &["MsgID", "Status"]),
    ("mp.event.scancode_push", &["EventKey", "ScanCodeInfo.ScanType", "ScanCodeInfo.ScanResult"]),
    ("mp.event.scancode_waitmsg", &["EventKey", "ScanCodeInfo.ScanType", "ScanCodeInfo.ScanResult"]),
    ("mp.event.pic_sysphoto", &["EventKey", "SendPicsInfo.Count", "SendPicsInfo.PicList.item[].PicMd5Sum"]),
    ("mp.event.pic_photo_or_album", &["EventKey", "SendPicsInfo.Count", "SendPicsInfo.PicList.item[].PicMd5Sum"]),
    ("mp.event.pic_weixin", &["EventKey", "SendPicsInfo.Count", "SendPicsInfo.PicList.item[].PicMd5Sum"]),
    (
        "mp.event.location_select",
        &[
            "EventKey",
            "SendLocationInfo.Location_X",
            "SendLocationInfo.Location_Y",
            "SendLocationInfo.Scale",
            "SendLocationInfo.Label",
            "SendLocationInfo.Poiname",
        ],
    ),
    ("mp.event.card_pass_check", &["CardId", "RefuseReason"]),
    ("mp.event.card_not_pass_check", &["CardId", "RefuseReason"]),
    ("mp.event.user_get_card", &["CardId", "IsGiveByFriend", "FriendUserName", "UserCardCode", "OuterId"]),
    ("mp.event.user_del_card", &["CardId", "UserCardCode"]),
    (
        "mp.event.user_consume_card",
        &["CardId", "UserCardCode", "ConsumeSource", "LocationId", "StaffOpenId", "OuterId"],
    ),
    ("mp.event.merchant_order", &["OrderId", "OrderStatus", "ProductId", "SkuInfo"]),
    ("mp.event.kf_create_session", &["KfAccount"]),
    ("mp.event.kf_close_session", &["KfAccount", "CloseType"]),
    ("mp.event.kf_switch_session", &["FromKfAccount", "ToKfAccount"]),
    (
        "mp.event.shakearoundusershake",
        &[
            "ChosenBeacon.Uuid",
            "ChosenBeacon.Major",
            "ChosenBeacon.Minor",
            "ChosenBeacon.Distance",
            "AroundBeacons.AroundBeacon[].Uuid",
            "AroundBeacons.AroundBeacon[].Distance",
        ],
    ),
    ("mp.event.wificonnected", &["ConnectTime", "ExpireTime", "VendorId", "PlaceId", "DeviceNo"]),
    ("mp.event.qualification_verify_success", &["ExpiredTime"]),
    ("mp.event.qualification_verify_fail", &["FailTime", "FailReason"]),
    ("mp.event.naming_verify_success", &["ExpiredTime"]),
    ("mp.event.naming_verify_fail", &["FailTime", "FailReason"]),
    ("mp.event.annual_renew", &["ExpiredTime"]),
    ("mp.event.verify_expired", &["ExpiredTime"]),
    (
        "mp.event.user_scan_product",
        &["KeyStandard", "KeyStr", "Country", "Province", "City", "Sex", "Scene", "ExtInfo"],
    ),
    ("mp.event.user_scan_product_enter_session", &["KeyStandard", "KeyStr", "ExtInfo"]),
    ("mp.event.user_scan_product_async", &["KeyStandard", "KeyStr", "ExtInfo", "RegionCode"]),
    ("mp.event.user_scan_product_verify_action", &["KeyStandard", "KeyStr", "Result", "ReasonMsg"]),
];

/// A Go model of a broadcast's result, which writes `MsgId`.
const BROADCAST: [(&str, &[&str]); 1] = [(
    "mp.event.masssendjobfinish",
    &[
        "MsgId",
        "Status",
        "TotalCount",
        "FilterCount",
        "SentCount",
        "ErrorCount",
        "CopyrightCheckResult.Count",
        "CopyrightCheckResult.ResultList.item[].ArticleIdx",
        "CopyrightCheckResult.ResultList.item[].UserDeclareState",
        "CopyrightCheckResult.ResultList.item[].AuditState",
        "CopyrightCheckResult.ResultList.item[].OriginalArticleUrl",
        "CopyrightCheckResult.ResultList.item[].OriginalArticleType",
        "CopyrightCheckResult.ResultList.item[].CanReprint",
        "CopyrightCheckResult.ResultList.item[].NeedReplaceContent",
        "CopyrightCheckResult.ResultList.item[].NeedShowReprintSource",
        "CopyrightCheckResult.CheckState",
        "ArticleUrlResult.Count",
        "ArticleUrlResult.ResultList.item[].ArticleIdx",
        "ArticleUrlResult.ResultList.item[].ArticleUrl",
    ],
)];

/// tencent-im (Go): callbacks of IM.
const TENCENT_IM: [(&str, &[&str]); 22] = [
    ("im.command.state.state_change", &["EventTime", "Info.Action", "Info.To_Account", "Info.Reason"]),
    (
        "im.command.sns.prev_friend_add",
        &[
            "Requester_Account",
            "From_Account",
            "FriendItem[].To_Account",
            "FriendItem[].Remark",
            "FriendItem[].GroupName",
            "FriendItem[].AddSource",
            "FriendItem[].AddWording",
            "AddType",
            "ForceAddFlags",
        ],
    ),
    (
        "im.command.sns.prev_friend_response",
        &[
            "Requester_Account",
            "From_Account",
            "ResponseFriendItem[].To_Account",
            "ResponseFriendItem[].Remark",
            "ResponseFriendItem[].TagName",
            "ResponseFriendItem[].ResponseAction",
        ],
    ),
    (
        "im.command.sns.friend_add",
        &["PairList[].From_Account", "PairList[].To_Account", "PairList[].Initiator_Account", "ClientCmd", "ForceFlag"],
    ),
    ("im.command.sns.friend_delete", &["PairList[].From_Account", "PairList[].To_Account"]),
    ("im.command.sns.black_list_add", &["PairList[].From_Account", "PairList[].To_Account"]),
    ("im.command.sns.black_list_delete", &["PairList[].From_Account", "PairList[].To_Account"]),
    (
        "im.command.c2c.before_send_msg",
        &[
            "From_Account",
            "To_Account",
            "MsgSeq",
            "MsgRandom",
            "MsgTime",
            "MsgKey",
            "OnlineOnlyFlag",
            "CloudCustomData",
        ],
    ),
    (
        "im.command.c2c.after_send_msg",
        &[
            "From_Account",
            "To_Account",
            "MsgSeq",
            "MsgRandom",
            "MsgTime",
            "MsgKey",
            "OnlineOnlyFlag",
            "SendMsgResult",
            "ErrorInfo",
            "UnreadMsgNum",
            "CloudCustomData",
        ],
    ),
    ("im.command.c2c.after_msg_report", &["Report_Account", "Peer_Account", "LastReadTime", "UnreadMsgNum"]),
    ("im.command.c2c.after_msg_with_draw", &["From_Account", "To_Account", "MsgKey", "UnreadMsgNum"]),
    (
        "im.command.group.before_create_group",
        &[
            "Operator_Account",
            "Owner_Account",
            "Type",
            "Name",
            "CreateGroupNum",
            "CreatedGroupNum.Public",
            "MemberList[].Member_Account",
        ],
    ),
    (
        "im.command.group.after_create_group",
        &[
            "GroupId",
            "Operator_Account",
            "Owner_Account",
            "Type",
            "Name",
            "CreateGroupNum",
            "MemberList[].Member_Account",
            "UserDefinedDataList[].Key",
            "UserDefinedDataList[].Value",
        ],
    ),
    ("im.command.group.before_apply_join_group", &["GroupId", "Type", "Requestor_Account"]),
    (
        "im.command.group.before_invite_join_group",
        &["GroupId", "Type", "Operator_Account", "DestinationMembers[].Member_Account"],
    ),
    (
        "im.command.group.after_new_member_join",
        &["GroupId", "Type", "JoinType", "Operator_Account", "NewMemberList[].Member_Account"],
    ),
    (
        "im.command.group.after_member_exit",
        &["GroupId", "Type", "ExitType", "Operator_Account", "ExitMemberList[].Member_Account"],
    ),
    (
        "im.command.group.before_send_msg",
        &["GroupId", "Type", "From_Account", "Operator_Account", "Random", "OnlineOnlyFlag"],
    ),
    (
        "im.command.group.after_send_msg",
        &["GroupId", "Type", "From_Account", "Operator_Account", "Random", "MsgSeq", "MsgTime", "OnlineOnlyFlag"],
    ),
    ("im.command.group.after_group_full", &["GroupId"]),
    (
        "im.command.group.after_group_destroyed",
        &["GroupId", "Type", "Owner_Account", "Name", "MemberList[].Member_Account"],
    ),
    (
        "im.command.group.after_group_info_changed",
        &["GroupId", "Type", "Operator_Account", "Notification", "UserDefinedDataList[].Key"],
    ),
];

/// Puts a value where the path says; `[]` marks a list.
fn put(into: &mut Map<String, Json>, path: &str) {
    let Some((name, rest)) = path.split_once('.') else {
        into.insert(path.to_owned(), json!("1"));
        return;
    };
    let below = match name.strip_suffix("[]") {
        Some(list) => &mut into.entry(list).or_insert_with(|| json!([{}]))[0],
        None => into.entry(name).or_insert_with(|| json!({})),
    };
    put(below.as_object_mut().unwrap(), rest);
}

#[test]
fn every_field_of_every_model_is_read() {
    let mut wrong = Vec::new();
    for (id, paths) in WECHATPY.iter().chain(&BROADCAST).chain(&TENCENT_IM) {
        let mut model = Map::new();
        paths.iter().for_each(|path| put(&mut model, path));
        let text = Json::Object(model).to_string();
        let tree = payload::parse(Form::Json, &text).unwrap();
        let Some(spec) = event::by_id(id) else {
            wrong.push(format!("{id} is no event"));
            continue;
        };
        let decoded = spec.decode(&tree, Form::Json).unwrap();
        wrong.extend(decoded.unreadable.iter().map(|field| format!("{id}: {field}")));
        wrong.extend(tree.unread().iter().map(|path| format!("{id}: {path} is unknown")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
