//! Nested types that are alike on two platforms are one: code for one takes the other.

use echostr::{
    event::Event,
    events::{miniprogram, mp, wecom, wecom_suite},
    payload::{self, Form},
};

fn decoded<E: Event>(text: &str) -> E {
    let tree = payload::parse(Form::Json, text).unwrap();
    E::SPEC.decode(&tree, Form::Json).unwrap().downcast::<E>().unwrap()
}

fn choices(popup: &mp::SubscribeMsgPopupEvent) -> Vec<&str> {
    popup.list.iter().map(|item| item.template_id.as_str()).collect()
}

fn attributes(all: Option<&wecom::ExtAttr>) -> Vec<&str> {
    all.iter().flat_map(|all| &all.item).map(|item| item.name.as_str()).collect()
}

#[test]
fn code_for_one_platform_takes_what_the_other_sends() {
    let popup = r#"{"List":[{"TemplateId":"t1","SubscribeStatusString":"accept","PopupScene":"0"}]}"#;
    assert_eq!(choices(&decoded::<mp::SubscribeMsgPopup>(popup).subscribe_msg_popup_event), ["t1"]);
    assert_eq!(choices(&decoded::<miniprogram::SubscribeMsgPopup>(popup).subscribe_msg_popup_event), ["t1"]);

    let user = r#"{"UserID":"u1","ExtAttr":{"Item":[{"Name":"desk","Type":0,"Text":{"Value":"7"}}]}}"#;
    assert_eq!(attributes(decoded::<wecom::ContactCreateUser>(user).ext_attr.as_ref()), ["desk"]);
    assert_eq!(attributes(decoded::<wecom_suite::ContactCreateUser>(user).ext_attr.as_ref()), ["desk"]);
}
