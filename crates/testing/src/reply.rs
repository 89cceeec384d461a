//! What a platform was answered.

use echostr::{
    payload::{self, Form, Value},
    simulate::{Answer, api::Sent},
    wire::{Reading, Wire},
};

/// The reply to an event, opened as the platform opens it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    body: String,
    is_sealed: bool,
}

/// Where the text of a reply is, on one platform or another.
const TEXTS: [&str; 5] = ["Content", "text.content", "stream.content", "markdown.content", "msgmenu.head_content"];

impl Reply {
    pub(crate) fn of_answer(answer: Answer) -> Self {
        Self { body: answer.body, is_sealed: answer.sealed }
    }

    /// What was sent through the API instead.
    pub(crate) fn of_message(message: Option<Sent>) -> Self {
        Self { body: message.map_or_else(String::new, |message| message.body.to_string()), is_sealed: false }
    }

    /// The text of the reply: XML, JSON, or the plain success.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Whether it was encrypted.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether it says no more than that the event was received, so that the user sees nothing.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty() || self.body == "success"
    }

    /// What a user is told, of a text, a finished stream, markdown, or the head of a menu.
    pub fn text(&self) -> Option<String> {
        TEXTS.iter().find_map(|path| self.field(path))
    }

    /// A text or a number of the reply, by its dotted path: `ResultItem.0.ResultCode`.
    ///
    /// ```
    /// # use echostr::{events::im, hooks::{Context, Hooks}, replies::im::BeforeFriendAddResp};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hooks = Hooks::default().on(async |request: im::BeforeFriendAdd, _: Context| {
    ///     Ok(BeforeFriendAddResp::for_event(&request).deny(&request.friend_item[0].to_account, 38000, "no")?)
    /// });
    /// let server = echostr_testing::TestServer::start(hooks).await;
    /// let reply = server.send(&echostr_testing::sample::<im::BeforeFriendAdd>()).await;
    /// assert_eq!(reply.field("ResultItem.0.ResultCode").as_deref(), Some("38000"));
    /// # }
    /// ```
    pub fn field(&self, path: &str) -> Option<String> {
        let tree = self.tree()?;
        let mut value = &tree;
        for name in path.split('.') {
            value = match value {
                Value::Object(object) => object.get(name)?,
                Value::List(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        match value {
            Value::Text(text) => Some(text.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// The reply as JSON, also of XML; null for the plain success.
    pub fn json(&self) -> serde_json::Value {
        let json = self.tree().map(|tree| payload::to_json(&tree));
        json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
    }

    /// The reply as a type of the catalogue, where it has one.
    ///
    /// # Panics
    /// When it has another shape.
    #[track_caller]
    pub fn read<T: Wire>(&self) -> T {
        let tree = self.tree().unwrap_or(Value::Null);
        T::read(&tree, &mut Reading::new(self.form())).unwrap_or_else(|failure| panic!("{failure}: {}", self.body))
    }

    fn form(&self) -> Form {
        if self.body.starts_with('<') { Form::Xml } else { Form::Json }
    }

    fn tree(&self) -> Option<Value<'_>> {
        payload::parse(self.form(), &self.body).ok()
    }
}
