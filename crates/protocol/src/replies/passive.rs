//! What the passive replies of Official Accounts and of WeCom have in common.

use super::rules::{int, push_text, required, some_up_to, text, wrapped};
use crate::{
    event::{Answer, ReplyError},
    payload::{Object, Value},
};

/// Most bytes of a text reply. `long_text` of the account says what happens to a longer one.
pub const MAX_TEXT_BYTES: usize = 2048;

/// Most articles of a news reply.
pub const MAX_ARTICLES: usize = 8;

/// A passive reply that is a text, as every platform with such replies takes it.
pub fn text_answer(content: String) -> Answer {
    let mut document = Object::with_capacity(6);
    document.push("MsgType", text("text"));
    document.push("Content", text(content));
    Answer::Passive(document)
}

/// The document of a passive reply, written as it is built; or nothing to say; or the rule that is broken. Receiver,
/// sender and time are not part of it: they follow from the event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passive(Result<Option<Object<'static>>, ReplyError>);

impl Default for Passive {
    fn default() -> Self {
        Self(Ok(None))
    }
}

impl Passive {
    /// A document that starts with its type; `write` appends the rest, or says which rule it breaks.
    pub(super) fn new(
        msg_type: &'static str,
        write: impl FnOnce(&mut Object<'static>) -> Result<(), ReplyError>,
    ) -> Self {
        let mut document = Object::with_capacity(4);
        document.push("MsgType", text(msg_type));
        Self(write(&mut document).map(|()| Some(document)))
    }

    pub(super) fn text(content: String) -> Self {
        Self::new("text", |document| {
            required("the text", &content)?;
            document.push("Content", text(content));
            Ok(())
        })
    }

    /// A reply that is one text in a wrapper element: `<Image><MediaId>…</MediaId></Image>`.
    pub(super) fn wrapped(msg_type: &'static str, wrapper: &'static str, name: &'static str, content: String) -> Self {
        Self::new(msg_type, |document| {
            required(name, &content)?;
            document.push(wrapper, wrapped(name, content));
            Ok(())
        })
    }

    pub(super) fn image(media_id: String) -> Self {
        Self::wrapped("image", "Image", "MediaId", media_id)
    }

    pub(super) fn voice(media_id: String) -> Self {
        Self::wrapped("voice", "Voice", "MediaId", media_id)
    }

    pub(super) fn video(video: Video) -> Self {
        Self::new("video", |document| {
            required("MediaId", &video.media_id)?;
            let mut wrapper = Object::with_capacity(3);
            wrapper.push("MediaId", text(video.media_id));
            push_text(&mut wrapper, "Title", video.title);
            push_text(&mut wrapper, "Description", video.description);
            document.push("Video", Value::Object(wrapper));
            Ok(())
        })
    }

    pub(super) fn news(articles: Vec<Article>) -> Self {
        Self::new("news", |document| {
            some_up_to(MAX_ARTICLES, "articles", articles.len())?;
            // At most MAX_ARTICLES, so the count always fits.
            document.push("ArticleCount", int(i64::try_from(articles.len()).unwrap_or_default()));
            let items = articles.into_iter().map(Article::write).collect::<Result<_, _>>()?;
            let mut wrapper = Object::with_capacity(1);
            wrapper.push("item", Value::List(items));
            document.push("Articles", Value::Object(wrapper));
            Ok(())
        })
    }

    pub(super) fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0.map(|document| document.map_or(Answer::Default, Answer::Passive))
    }
}

/// A video reply; becomes a [`mp::Reply`](super::mp::Reply) or [`wecom::Reply`](super::wecom::Reply) with `.into()`.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Video {
    media_id: String,
    title: Option<String>,
    description: Option<String>,
}

impl Video {
    pub(super) fn new(media_id: String) -> Self {
        Self { media_id, title: None, description: None }
    }

    /// Title below the video.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Text below the title.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

/// One article of a news reply (图文).
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Article {
    title: String,
    description: String,
    pic_url: String,
    url: String,
}

impl Article {
    /// An article without text, picture and target. An empty title is refused.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), description: String::new(), pic_url: String::new(), url: String::new() }
    }

    /// Text below the title; shown when the reply has one article.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// URL of the picture, JPG or PNG. Official Account: large 360x200, small 200x200; WeCom: 640x320 and 80x80.
    pub fn pic_url(mut self, pic_url: impl Into<String>) -> Self {
        self.pic_url = pic_url.into();
        self
    }

    /// Page that a tap opens.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// The Official Account wants all four elements, so empty ones are written too.
    fn write(self) -> Result<Value<'static>, ReplyError> {
        required("the title of an article", &self.title)?;
        let mut item = Object::with_capacity(4);
        item.push("Title", text(self.title));
        item.push("Description", text(self.description));
        item.push("PicUrl", text(self.pic_url));
        item.push("Url", text(self.url));
        Ok(Value::Object(item))
    }
}
