//! What a customer of WeCom customer service (微信客服) is answered. It goes out through the API, once.

use super::rules::{at_most, broken, push_text, required, text};
use crate::{
    event::{Answer, ReplyError},
    payload::{Number, Object, Value},
};

pub use super::passive::MAX_TEXT_BYTES;

/// Most items of a menu.
pub const MAX_ITEMS: usize = 10;

/// Answers a customer's message with `kf/send_msg`, within 48 hours and 5 messages of the customer's last one. The
/// default says nothing.
///
/// ```
/// # use echostr_protocol::replies::wecom_kf::{Menu, Reply, Transfer};
/// let text = Reply::text("Your parcel is on its way.");
/// let menu: Reply = Menu::new("Did this help?").click("yes", "Yes").click("no", "No").into();
/// let handed_over = Reply::text("A colleague takes over.").transfer(Transfer::queue());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Reply(Result<Option<Object<'static>>, ReplyError>);

impl Default for Reply {
    fn default() -> Self {
        Self::none()
    }
}

impl Reply {
    /// Says nothing.
    pub const fn none() -> Self {
        Self(Ok(None))
    }

    /// Text. What happens to one above [`MAX_TEXT_BYTES`] is `long_text` of the account.
    pub fn text(content: impl Into<String>) -> Self {
        let content = content.into();
        Self::new("text", |message| {
            required("the text", &content)?;
            message.push("content", text(content));
            Ok(())
        })
    }

    /// Picture that was uploaded as temporary media.
    pub fn image(media_id: impl Into<String>) -> Self {
        Self::media("image", media_id.into())
    }

    /// Voice message that was uploaded as temporary media.
    pub fn voice(media_id: impl Into<String>) -> Self {
        Self::media("voice", media_id.into())
    }

    /// Video that was uploaded as temporary media.
    pub fn video(media_id: impl Into<String>) -> Self {
        Self::media("video", media_id.into())
    }

    /// File that was uploaded as temporary media.
    pub fn file(media_id: impl Into<String>) -> Self {
        Self::media("file", media_id.into())
    }

    /// A link with a picture that was uploaded as temporary media.
    pub fn link(
        title: impl Into<String>,
        description: Option<String>,
        url: impl Into<String>,
        thumb_media_id: impl Into<String>,
    ) -> Self {
        let (title, url, thumb) = (title.into(), url.into(), thumb_media_id.into());
        Self::new("link", |message| {
            for (name, value) in [("title", &title), ("url", &url), ("thumb_media_id", &thumb)] {
                required(name, value)?;
            }
            message.push("title", text(title));
            push_text(message, "desc", description);
            message.push("url", text(url));
            message.push("thumb_media_id", text(thumb));
            Ok(())
        })
    }

    /// A Mini Program page with a picture that was uploaded as temporary media; the Mini Program must be linked to the
    /// company.
    pub fn miniprogram(
        app_id: impl Into<String>,
        page_path: impl Into<String>,
        title: Option<String>,
        thumb_media_id: impl Into<String>,
    ) -> Self {
        let (app_id, page, thumb) = (app_id.into(), page_path.into(), thumb_media_id.into());
        Self::new("miniprogram", |message| {
            for (name, value) in [("appid", &app_id), ("pagepath", &page), ("thumb_media_id", &thumb)] {
                required(name, value)?;
            }
            message.push("appid", text(app_id));
            push_text(message, "title", title);
            message.push("thumb_media_id", text(thumb));
            message.push("pagepath", text(page));
            Ok(())
        })
    }

    /// A place on the map: degrees.
    pub fn location(name: Option<String>, address: Option<String>, latitude: f64, longitude: f64) -> Self {
        Self::new("location", |message| {
            push_text(message, "name", name);
            push_text(message, "address", address);
            for (name, degrees, most) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
                if !(-most..=most).contains(&degrees) {
                    return Err(broken(format!("{name} is not between -{most} and {most} degrees")));
                }
                message.push(name, Value::Number(Number::Float(degrees)));
            }
            Ok(())
        })
    }

    /// The business card of a member.
    pub fn business_card(userid: impl Into<String>) -> Self {
        Self::one("business_card", "userid", userid.into())
    }

    /// A customer acquisition link (获客链接).
    pub fn acquisition_link(link_url: impl Into<String>) -> Self {
        Self::one("ca_link", "link_url", link_url.into())
    }

    /// A message as the API wants it.
    pub(crate) const fn document(message: Object<'static>) -> Self {
        Self(Ok(Some(message)))
    }

    /// Hands the session over once the message is sent; [`Reply::none`] hands it over without one.
    pub fn transfer(self, to: Transfer) -> Self {
        Self(self.0.and_then(|message| {
            let mut message = message.unwrap_or_default();
            message.push(TRANSFER, Value::Object(to.0?));
            Ok(Some(message))
        }))
    }

    fn media(kind: &'static str, media_id: String) -> Self {
        Self::one(kind, "media_id", media_id)
    }

    fn one(kind: &'static str, name: &'static str, value: String) -> Self {
        Self::new(kind, |message| {
            required(name, &value)?;
            message.push(name, text(value));
            Ok(())
        })
    }

    /// A message that names its type and has a member of that name; `write` fills it, or says which rule it breaks.
    fn new(kind: &'static str, write: impl FnOnce(&mut Object<'static>) -> Result<(), ReplyError>) -> Self {
        let mut content = Object::with_capacity(4);
        Self(write(&mut content).map(|()| {
            let mut message = Object::with_capacity(2);
            message.push("msgtype", text(kind));
            message.push(kind, Value::Object(content));
            Some(message)
        }))
    }
}

impl crate::event::Reply for Reply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(self.0?.map_or(Answer::Default, Answer::Body))
    }
}

/// Answers an event with its one-time code and `kf/send_msg_on_event`: text or a menu. An event without a code - the
/// customer was greeted lately, or the console has a greeting of its own - is not answered, whatever the handler says.
///
/// ```
/// # use echostr_protocol::replies::wecom_kf::{EventReply, Menu};
/// let text = EventReply::text("Welcome! What can we do for you?");
/// let menu: EventReply = Menu::new("Welcome!").click("order", "Where is my order?").into();
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct EventReply(Reply);

impl EventReply {
    /// Says nothing.
    pub const fn none() -> Self {
        Self(Reply::none())
    }

    /// Text. What happens to one above [`MAX_TEXT_BYTES`] is `long_text` of the account.
    pub fn text(content: impl Into<String>) -> Self {
        Self(Reply::text(content))
    }

    /// Hands the session over once the message is sent; [`EventReply::none`] hands it over without one.
    pub fn transfer(self, to: Transfer) -> Self {
        Self(self.0.transfer(to))
    }
}

impl crate::event::Reply for EventReply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0.into_answer()
    }
}

/// The member of a recorded reply that says where the session goes. It is no part of the message.
pub const TRANSFER: &str = "transfer";

/// Where the session of a customer goes (变更会话状态): the call `kf/service_state/trans`. While a servicer has it, or it waits for one, the
/// platform takes no message of a program.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Transfer(Result<Object<'static>, ReplyError>);

impl Transfer {
    /// To the servicers (待接入池): whoever is free takes it.
    pub fn queue() -> Self {
        Self(Ok(Self::state(2)))
    }

    /// To one servicer, by userid.
    pub fn servicer(userid: impl Into<String>) -> Self {
        let userid = userid.into();
        Self(required("the servicer", &userid).map(|()| {
            let mut state = Self::state(3);
            state.push("servicer_userid", text(userid));
            state
        }))
    }

    /// The session ends; it begins again with the customer's next message.
    pub fn end() -> Self {
        Self(Ok(Self::state(4)))
    }

    fn state(state: i64) -> Object<'static> {
        let mut object = Object::with_capacity(2);
        object.push("service_state", Value::Number(Number::Int(state)));
        object
    }
}

/// A menu (菜单消息): a line above, up to [`MAX_ITEMS`] items, a line below. A click on an item comes back as a text
/// message with the item's `menu_id`.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Menu {
    head: Option<String>,
    items: Vec<Object<'static>>,
    tail: Option<String>,
}

impl Menu {
    /// A menu with a line above its items.
    pub fn new(head: impl Into<String>) -> Self {
        Self { head: Some(head.into()), ..Self::default() }
    }

    /// An item that comes back as a text message.
    pub fn click(self, id: impl Into<String>, content: impl Into<String>) -> Self {
        self.item("click", [("id", id.into()), ("content", content.into())])
    }

    /// An item that opens a page.
    pub fn view(self, url: impl Into<String>, content: impl Into<String>) -> Self {
        self.item("view", [("url", url.into()), ("content", content.into())])
    }

    /// An item that opens a page of a Mini Program.
    pub fn miniprogram(
        self,
        app_id: impl Into<String>,
        page_path: impl Into<String>,
        content: impl Into<String>,
    ) -> Self {
        self.item(
            "miniprogram",
            [("appid", app_id.into()), ("pagepath", page_path.into()), ("content", content.into())],
        )
    }

    /// An item that is only text.
    pub fn text(self, content: impl Into<String>) -> Self {
        self.item("text", [("content", content.into())])
    }

    /// A line below the items.
    pub fn tail(mut self, tail: impl Into<String>) -> Self {
        self.tail = Some(tail.into());
        self
    }

    fn item<const N: usize>(mut self, kind: &'static str, members: [(&'static str, String); N]) -> Self {
        let mut inner = Object::with_capacity(N);
        for (name, value) in members {
            inner.push(name, text(value));
        }
        let mut item = Object::with_capacity(2);
        item.push("type", text(kind));
        item.push(kind, Value::Object(inner));
        self.items.push(item);
        self
    }
}

impl From<Menu> for Reply {
    fn from(menu: Menu) -> Self {
        Self::new("msgmenu", |message| {
            at_most(MAX_ITEMS, "items", menu.items.len())?;
            if menu.items.is_empty() && menu.head.is_none() && menu.tail.is_none() {
                return Err(broken("the menu is empty"));
            }
            push_text(message, "head_content", menu.head);
            if !menu.items.is_empty() {
                message.push("list", Value::List(menu.items.into_iter().map(Value::Object).collect()));
            }
            push_text(message, "tail_content", menu.tail);
            Ok(())
        })
    }
}

impl From<Menu> for EventReply {
    fn from(menu: Menu) -> Self {
        Self(menu.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Menu, Reply, Transfer};
    use crate::{
        event::{Answer, Reply as _},
        payload,
    };

    fn written(reply: impl Into<Reply>) -> Value {
        match reply.into().into_answer().unwrap() {
            Answer::Body(body) => serde_json::from_str(&payload::write_json(&body)).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_as_the_api_wants_them() {
        assert_eq!(written(Reply::text("好")), json!({"msgtype": "text", "text": {"content": "好"}}));
        assert_eq!(written(Reply::file("m1")), json!({"msgtype": "file", "file": {"media_id": "m1"}}));
        let handed_over = json!({"msgtype": "text", "text": {"content": "bye"}, "transfer": {"service_state": 2}});
        assert_eq!(written(Reply::text("bye").transfer(Transfer::queue())), handed_over);
        let silent = json!({"transfer": {"service_state": 3, "servicer_userid": "zhang"}});
        assert_eq!(written(Reply::none().transfer(Transfer::servicer("zhang"))), silent);
        let place = json!({"name": "n", "latitude": 22.5, "longitude": 114.0});
        assert_eq!(written(Reply::location(Some("n".into()), None, 22.5, 114.0))["location"], place);
        let menu = Menu::new("?").click("1", "yes").view("https://a.example", "more").text("line").tail("bye");
        let items = json!([
            {"type": "click", "click": {"id": "1", "content": "yes"}},
            {"type": "view", "view": {"url": "https://a.example", "content": "more"}},
            {"type": "text", "text": {"content": "line"}},
        ]);
        let content = json!({"head_content": "?", "list": items, "tail_content": "bye"});
        assert_eq!(written(menu), json!({"msgtype": "msgmenu", "msgmenu": content}));
    }

    #[test]
    fn what_the_api_refuses_is_refused_here() {
        let menu = (0..11).fold(Menu::new("?"), |menu, at| menu.click(at.to_string(), "item"));
        for reply in [
            Reply::text(" "),
            Reply::image(""),
            Reply::location(None, None, 91.0, 0.0),
            Reply::location(None, None, 0.0, f64::NAN),
            Reply::from(Menu::default()),
            Reply::from(menu),
        ] {
            assert!(reply.into_answer().is_err());
        }
        assert_eq!(Reply::none().into_answer(), Ok(Answer::Default));
        assert!(Reply::text("bye").transfer(Transfer::servicer(" ")).into_answer().is_err());
        assert!(Reply::text(" ").transfer(Transfer::queue()).into_answer().is_err());
    }
}
