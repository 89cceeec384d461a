//! A passive reply as the message that the API sends instead, when the reply was too late for the response.

use serde_json::{Map, Value as Json, json};

use crate::payload::{Object, Value};

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
    #[error("a reply of type `{0}` cannot be sent as a message of the API; it only works in the response")]
    Kind(String),
    /// Application messages name their application.
    #[error("the account has no `agent_id`, which application messages need")]
    NoAgent,
    /// It does not say to whom.
    #[error("the reply has no ToUserName")]
    NoReceiver,
}

impl NoMessage {
    /// The API has no message for this reply.
    pub(super) fn of(reply: &Object<'_>) -> Self {
        Self::Kind(kind(reply).to_owned())
    }
}

fn kind<'r>(reply: &'r Object<'_>) -> &'r str {
    reply.text("MsgType").unwrap_or_default()
}

/// The customer-service message (客服消息) of an Official Account. It has one article where a news reply may have more: the
/// first is sent.
pub(super) fn of_official_account(reply: &Object<'_>) -> Result<Message, NoMessage> {
    let content = match kind(reply) {
        "music" => music(reply),
        "news" => news(reply, 1),
        _ => common(reply),
    };
    custom(reply, kind(reply), content)
}

/// The customer-service message of a Mini Program: text, image, or the first article as a link.
pub(super) fn of_mini_program(reply: &Object<'_>) -> Result<Message, NoMessage> {
    match kind(reply) {
        "news" => custom(reply, "link", articles(reply).next().map(link)),
        kind @ ("text" | "image") => custom(reply, kind, common(reply)),
        _ => Err(NoMessage::of(reply)),
    }
}

/// The application message (应用消息) of a WeCom application.
pub(super) fn of_application(agent_id: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
    let content = match kind(reply) {
        "news" => news(reply, usize::MAX),
        _ => common(reply),
    };
    let mut body = body(reply, kind(reply), content)?;
    body["agentid"] = agent_id.ok_or(NoMessage::NoAgent)?.into();
    Ok(Message { path: "cgi-bin/message/send", body })
}

fn custom(reply: &Object<'_>, msgtype: &str, content: Option<Json>) -> Result<Message, NoMessage> {
    Ok(Message { path: "cgi-bin/message/custom/send", body: body(reply, msgtype, content)? })
}

fn body(reply: &Object<'_>, msgtype: &str, content: Option<Json>) -> Result<Json, NoMessage> {
    let content = content.ok_or_else(|| NoMessage::of(reply))?;
    let to = reply.text("ToUserName").ok_or(NoMessage::NoReceiver)?;
    let mut body = json!({ "touser": to, "msgtype": msgtype });
    body[msgtype] = content;
    Ok(body)
}

/// What every API has a message for.
fn common(reply: &Object<'_>) -> Option<Json> {
    let media = |wrapper| Some(json!({ "media_id": inner(reply, wrapper, "MediaId")? }));
    match kind(reply) {
        "text" => reply.text("Content").map(|content| json!({ "content": content })),
        "image" => media("Image"),
        "voice" => media("Voice"),
        "video" => video(reply),
        _ => None,
    }
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

    use super::NoMessage;
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
        platform
            .protocol()
            .message(Some(7), tree.as_object().unwrap_or(&empty))
            .map(|message| (message.path, message.body))
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
        assert!(matches!(message(Platform::WeCom, Form::Xml, button), Err(NoMessage::Kind(_))));
    }
}
