//! A passive reply as the message that the API sends instead, when the reply was too late for the response.

use serde_json::{Map, Value as Json, json};

use crate::{
    event::Platform,
    payload::{Object, Value},
};

/// A message to one user, and where it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Path of the API.
    pub path: &'static str,
    /// Its body.
    pub body: Json,
}

/// Why a reply cannot be sent as a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoMessage {
    /// The API has no such message.
    #[error("a reply of type `{kind}` cannot be sent as a message of {platform}; it only works in the response")]
    Kind {
        /// `MsgType` of the reply.
        kind: String,
        /// The platform.
        platform: Platform,
    },
    /// Application messages name their application.
    #[error("the account has no `agent_id`, which application messages need")]
    NoAgent,
    /// It does not say to whom.
    #[error("the reply has no ToUserName")]
    NoReceiver,
}

/// The message that says what `reply` says, a passive reply as it was recorded.
///
/// Official Accounts and Mini Programs: a customer-service message (客服消息), which has one article where a news reply
/// may have more: the first is sent. WeCom: an application message (应用消息) of `agent_id`.
///
/// # Errors
/// [`NoMessage`] for what only the response can carry: hand-over to human agents, updates of cards, device data.
pub fn of_reply(platform: Platform, agent_id: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
    let kind = reply.text("MsgType").unwrap_or_default();
    // An account that has authorised a third-party platform answers as an Official Account does.
    let platform = if platform == Platform::OpenPlatform { Platform::Mp } else { platform };
    let none = || NoMessage::Kind { kind: kind.to_owned(), platform };
    let is_wecom = platform == Platform::WeCom;
    let media = |wrapper| Some(json!({ "media_id": inner(reply, wrapper, "MediaId")? }));
    let (msgtype, content) = match (kind, platform) {
        ("text", _) => ("text", reply.text("Content").map(|content| json!({ "content": content }))),
        ("image", _) => ("image", media("Image")),
        ("voice", Platform::Mp | Platform::WeCom) => ("voice", media("Voice")),
        ("video", Platform::Mp | Platform::WeCom) => ("video", video(reply)),
        ("music", Platform::Mp) => ("music", music(reply)),
        ("news", Platform::Mp | Platform::WeCom) => ("news", news(reply, if is_wecom { usize::MAX } else { 1 })),
        ("news", Platform::MiniProgram) => ("link", articles(reply).next().map(link)),
        _ => return Err(none()),
    };
    let content = content.ok_or_else(none)?;
    let to = reply.text("ToUserName").ok_or(NoMessage::NoReceiver)?;
    let mut body = json!({ "touser": to, "msgtype": msgtype });
    body[msgtype] = content;
    if is_wecom {
        body["agentid"] = agent_id.ok_or(NoMessage::NoAgent)?.into();
        return Ok(Message { path: "cgi-bin/message/send", body });
    }
    Ok(Message { path: "cgi-bin/message/custom/send", body })
}

fn inner<'r>(reply: &'r Object<'_>, wrapper: &str, name: &str) -> Option<&'r str> {
    reply.get(wrapper)?.as_object()?.text(name)
}

/// The members that say something, by the names of the message and of the reply.
fn members(object: &Object<'_>, names: &[(&str, &str)]) -> Json {
    let text = |name| object.text(name).filter(|text| !text.is_empty());
    let there = names.iter().filter_map(|(ours, theirs)| Some(((*ours).to_owned(), text(theirs)?.into())));
    Json::Object(there.collect::<Map<_, _>>())
}

fn video(reply: &Object<'_>) -> Option<Json> {
    let names = [("media_id", "MediaId"), ("title", "Title"), ("description", "Description")];
    Some(members(reply.get("Video")?.as_object()?, &names))
}

fn music(reply: &Object<'_>) -> Option<Json> {
    let names = [
        ("title", "Title"),
        ("description", "Description"),
        ("musicurl", "MusicUrl"),
        ("hqmusicurl", "HQMusicUrl"),
        ("thumb_media_id", "ThumbMediaId"),
    ];
    Some(members(reply.get("Music")?.as_object()?, &names))
}

fn articles<'r, 'p>(reply: &'r Object<'p>) -> impl Iterator<Item = &'r Object<'p>> {
    let articles = reply.get("Articles").and_then(Value::as_object);
    let items = articles.into_iter().flat_map(Object::iter).filter(|(name, _)| *name == "item");
    items
        .flat_map(|(_, item)| match item {
            Value::List(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        })
        .filter_map(Value::as_object)
}

fn news(reply: &Object<'_>, limit: usize) -> Option<Json> {
    let names = [("title", "Title"), ("description", "Description"), ("url", "Url"), ("picurl", "PicUrl")];
    let articles: Vec<_> = articles(reply).take(limit).map(|article| members(article, &names)).collect();
    (!articles.is_empty()).then(|| json!({ "articles": articles }))
}

fn link(article: &Object<'_>) -> Json {
    members(article, &[("title", "Title"), ("description", "Description"), ("url", "Url"), ("thumb_url", "PicUrl")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{NoMessage, of_reply};
    use crate::{
        event::{Answer, Platform, Reply as _},
        payload::{self, Form, Object},
        platform::{self, Address, Body},
        replies::{mp, wecom},
    };

    /// A reply as the journal has it.
    fn recorded(platform: Platform, form: Form, answer: Answer) -> String {
        let event = "<xml><ToUserName>gh_1</ToUserName><FromUserName>oUser</FromUserName></xml>";
        let address = Address::of(&payload::parse(Form::Xml, event).unwrap());
        match platform::write_answer(platform, form, answer, address, 1_700_000_000) {
            Body::Document(text) => text,
            Body::Plain(text) => panic!("{text}"),
        }
    }

    fn message(platform: Platform, form: Form, answer: Answer) -> Result<(&'static str, serde_json::Value), NoMessage> {
        let text = recorded(platform, form, answer);
        let tree = payload::parse(form, &text).unwrap();
        let empty = Object::default();
        of_reply(platform, Some(7), tree.as_object().unwrap_or(&empty)).map(|message| (message.path, message.body))
    }

    fn mp_message(reply: impl Into<mp::Reply>) -> serde_json::Value {
        let (path, body) = message(Platform::Mp, Form::Xml, reply.into().into_answer().unwrap()).unwrap();
        assert_eq!(path, "cgi-bin/message/custom/send");
        body
    }

    #[test]
    fn replies_of_official_accounts() {
        let text = mp_message(mp::Reply::text("您好 <&> ]]>"));
        assert_eq!(text, json!({"touser": "oUser", "msgtype": "text", "text": {"content": "您好 <&> ]]>"}}));
        let image = mp_message(mp::Reply::image("m1"));
        assert_eq!(image, json!({"touser": "oUser", "msgtype": "image", "image": {"media_id": "m1"}}));
        let voice = mp_message(mp::Reply::voice("m1"));
        assert_eq!(voice, json!({"touser": "oUser", "msgtype": "voice", "voice": {"media_id": "m1"}}));
        let video = mp_message(mp::Reply::video("m1").title("t").description("d"));
        let content = json!({"media_id": "m1", "title": "t", "description": "d"});
        assert_eq!(video, json!({"touser": "oUser", "msgtype": "video", "video": content}));
        let music = mp_message(mp::Reply::music("th").title("t").url("https://m.example/a"));
        let content = json!({"thumb_media_id": "th", "title": "t", "musicurl": "https://m.example/a"});
        assert_eq!(music, json!({"touser": "oUser", "msgtype": "music", "music": content}));
        let two = [mp::Article::new("一").url("https://a.example/1"), mp::Article::new("two")];
        let news = mp_message(mp::Reply::news(two));
        assert_eq!(news["news"], json!({"articles": [{"title": "一", "url": "https://a.example/1"}]}));
    }

    #[test]
    fn replies_of_mini_programs() {
        let answer = mp::Reply::text("您好").into_answer().unwrap();
        let (_, body) = message(Platform::MiniProgram, Form::Json, answer).unwrap();
        assert_eq!(body, json!({"touser": "oUser", "msgtype": "text", "text": {"content": "您好"}}));
    }

    #[test]
    fn replies_of_applications() {
        let articles = [wecom::Article::new("1"), wecom::Article::new("2")];
        let answer = wecom::Reply::news(articles).into_answer().unwrap();
        let (path, body) = message(Platform::WeCom, Form::Xml, answer).unwrap();
        assert_eq!(path, "cgi-bin/message/send");
        let content = json!({"articles": [{"title": "1"}, {"title": "2"}]});
        assert_eq!(body, json!({"touser": "oUser", "msgtype": "news", "agentid": 7, "news": content}));
    }

    #[test]
    fn what_only_a_response_can_carry() {
        let hand_over = mp::Reply::transfer_customer_service().into_answer().unwrap();
        let failure = message(Platform::Mp, Form::Xml, hand_over).unwrap_err();
        assert!(failure.to_string().contains("`transfer_customer_service`"), "{failure}");
        let button = wecom::Reply::update_button("done").into_answer().unwrap();
        assert!(matches!(message(Platform::WeCom, Form::Xml, button), Err(NoMessage::Kind { .. })));
    }
}
