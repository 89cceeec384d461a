use std::collections::HashSet;

use super::*;
use crate::events::{im, miniprogram, mp, wecom};

#[test]
fn a_platform_has_one_name() {
    for platform in Platform::ALL {
        assert_eq!(platform.as_str().parse(), Ok(platform));
        assert_eq!(serde_json::to_value(platform).unwrap(), platform.to_string());
    }
    for name in ["", "MP", "wechat", "mp "] {
        assert_eq!(name.parse::<Platform>(), Err(UnknownPlatform(name.to_owned())));
    }
}

#[test]
fn every_row_is_found_by_its_id_and_by_each_of_its_selectors() {
    let mut ids = HashSet::new();
    for spec in all() {
        assert!(ids.insert(spec.id), "{} twice", spec.id);
        assert!(spec.id.starts_with(&format!("{}.", spec.platform)), "{}", spec.id);
        assert_eq!(by_id(spec.id), Some(spec));
        for select in spec.select {
            let most = table(spec.platform).keys.iter().map(|keys| keys.len()).max();
            assert!(!select.is_empty() && Some(select.len()) <= most, "{}", spec.id);
            let values: Vec<_> = select.iter().map(|value| value.trim_end_matches('*')).collect();
            assert_eq!(table(spec.platform).find(&values).map(|found| found.id), Some(spec.id), "{select:?}");
        }
    }
    assert_eq!(ids.len(), 85 + 186 + 17 + 168 + 101 + 24 + 11 + 85);
    assert_eq!(by_id("mp.event.nobody_knows"), None);
}

#[test]
fn the_more_keys_match_the_better() {
    let find = |values: &[&str]| table(Platform::Mp).find(values).map(|spec| spec.rust_type);
    for (values, expected) in [
        (&["event", "subscribe"][..], Some("Subscribe")),
        (&["event", "subscribe", ""], Some("Subscribe")),
        (&["event", "subscribe", "qrscene_1"], Some("SubscribeScan")),
        (&["event", "subscribe", "QRSCENE_1"], Some("SubscribeScan")),
        (&["event", "subscribe", "qrscene"], Some("Subscribe")),
        (&["EVENT", "SubScribe"], Some("Subscribe")),
        (&["event", "subscribe", "二维码"], Some("Subscribe")),
        (&["event", "subscribed"], None),
        (&["event"], None),
        (&[], None),
        (&["text"], Some("TextMessage")),
        (&["text", "subscribe"], Some("TextMessage")),
        (&["event", "LOCATION"], Some("LocationReport")),
        (&["location"], Some("LocationMessage")),
    ] {
        assert_eq!(find(values), expected, "{values:?}");
    }
}

#[test]
fn commands_of_im_are_exact() {
    let find = |value| table(Platform::Im).find(&[value]).map(|spec| spec.rust_type);
    assert_eq!(find("Sns.CallbackPrevFriendAdd"), Some("BeforeFriendAdd"));
    for value in ["sns.callbackprevfriendadd", "Sns.CallbackPrevFriendAdd ", "Sns.", "*", ""] {
        assert_eq!(find(value), None, "{value}");
    }
}

#[test]
fn a_narrower_event_has_its_general_one() {
    assert_eq!(mp::SubscribeScan::SPEC.general(), Some(mp::Subscribe::SPEC));
    assert_eq!(mp::Subscribe::SPEC.general(), None);
    assert_eq!(mp::TextMessage::SPEC.general(), None);
    assert_eq!(im::BeforeFriendAdd::SPEC.general(), None);
    for spec in all() {
        assert!(spec.general().is_none_or(|general| general.id != spec.id), "{}", spec.id);
    }
}

#[test]
fn an_event_is_read_as_its_type_and_no_other() {
    let mut object = Object::default();
    object.push("Content", Value::Text("hi".into()));
    let tree = Value::Object(object);
    let decode = || mp::TextMessage::SPEC.decode(&tree, Form::Xml).unwrap();
    assert_eq!(decode().downcast::<mp::TextMessage>().unwrap().content, "hi");
    assert!(decode().downcast::<wecom::TextMessage>().is_none());
    assert!(!format!("{:?}", decode()).contains("hi"), "Debug shows no content");
}

/// The kinds of answers decide what a late or failing responder is replaced by.
#[test]
fn kinds_of_answers() {
    for (spec, expected) in [
        (mp::TextMessage::SPEC, ReplyKind::Passive),
        (wecom::TextMessage::SPEC, ReplyKind::Passive),
        (im::BeforeFriendAdd::SPEC, ReplyKind::Verdict),
        (im::AfterFriendAdd::SPEC, ReplyKind::Ack),
        (miniprogram::TextMessage::SPEC, ReplyKind::Passive),
    ] {
        assert_eq!(spec.reply, expected, "{}", spec.id);
    }
    let verdicts: Vec<_> = all().filter(|spec| spec.reply == ReplyKind::Verdict).collect();
    assert_eq!(verdicts.len(), 13, "section 5 of im.md");
    assert!(verdicts.iter().all(|spec| spec.platform == Platform::Im));
}

#[test]
fn the_shorter_of_two_deadlines_counts() {
    let seconds = |of: &str, of_account| by_id(of).unwrap().deadline(Duration::from_secs_f64(of_account)).as_secs_f64();
    for (of, of_account, expected) in [
        ("miniprogram.event.supply_order_new", 4.5, 2.5),
        ("miniprogram.event.supply_order_new", 2.0, 2.0),
        ("miniprogram.event.ec_supplier_product_update", 4.9, 2.5),
        ("miniprogram.event.channels_ec_order_settle", 4.5, 4.5),
        ("im.command.c2c.before_send_msg", 1.9, 1.9),
    ] {
        assert!((seconds(of, of_account) - expected).abs() < f64::EPSILON, "{of} {of_account}");
    }
}
