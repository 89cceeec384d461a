//! Passive replies of Official Accounts (公众号) and Mini Programs.

use base64::{Engine, engine::general_purpose::STANDARD};

pub use super::passive::{Article, MAX_ARTICLES, MAX_TEXT_BYTES, Video};
use super::{
    passive::Passive,
    rules::{broken, int, push_text, required, text},
};
use crate::{
    event::{Answer, ReplyError},
    payload::{Object, Value},
    wire::Wire,
};

/// What the user is answered in the response itself (被动回复).
///
/// Reaches the user only from events that accept it, which have this reply type; a Mini Program shows none of them but
/// hands over to customer service with [`Reply::transfer_customer_service`]. The default says nothing.
///
/// ```
/// # use echostr_protocol::replies::mp::{Article, Reply};
/// let hours = Reply::text("Open 9-18.");
/// let tour: Reply = Reply::video("mZ3xQp7L").title("Tour").into();
/// let news = Reply::news([Article::new("Opening hours").url("https://shop.example/hours")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Reply(Passive);

impl Reply {
    /// Says nothing: the platform gets its plain `success`, the user sees no answer and no error.
    pub fn none() -> Self {
        Self::default()
    }

    /// Text; line breaks and `<a href>` links work. Refused when empty (the user would see an error of the
    /// account). What happens to one above [`MAX_TEXT_BYTES`] is `long_text` of the account.
    pub fn text(content: impl Into<String>) -> Self {
        Self(Passive::text(content.into()))
    }

    /// Picture that was uploaded to the same account.
    pub fn image(media_id: impl Into<String>) -> Self {
        Self(Passive::image(media_id.into()))
    }

    /// Voice message that was uploaded to the same account.
    pub fn voice(media_id: impl Into<String>) -> Self {
        Self(Passive::voice(media_id.into()))
    }

    /// Video that was uploaded to the same account; title and description are optional.
    pub fn video(media_id: impl Into<String>) -> Video {
        Video::new(media_id.into())
    }

    /// Music behind links; the thumbnail must be uploaded to the same account, all else is optional.
    pub fn music(thumb_media_id: impl Into<String>) -> Music {
        Music { thumb_media_id: thumb_media_id.into(), ..Music::default() }
    }

    /// 1 to [`MAX_ARTICLES`] articles in answer to an event. In answer to a message of the user the platform shows the
    /// first one and drops the rest without an error.
    pub fn news(articles: impl IntoIterator<Item = Article>) -> Self {
        Self(Passive::news(articles.into_iter().collect()))
    }

    /// Hands the message to the human agents of the account (转发到客服); the user sees no answer until one writes.
    /// For messages of users, not for events.
    pub fn transfer_customer_service() -> Self {
        Self(Passive::new("transfer_customer_service", |_| Ok(())))
    }

    /// Hands the message to one agent, named by the full account: `kf2001@demo_mp`. When that agent is not on duty,
    /// nobody takes the session.
    pub fn transfer_to(kf_account: impl Into<String>) -> Self {
        Self(Passive::new("transfer_customer_service", |document| {
            let account = kf_account.into();
            if !account.split_once('@').is_some_and(|(prefix, account)| !prefix.is_empty() && !account.is_empty()) {
                return Err(broken("KfAccount is not a full account such as `kf2001@demo_mp`"));
            }
            document.push("TransInfo", super::rules::wrapped("KfAccount", account));
            Ok(())
        }))
    }

    /// Bytes for the device that sent a `device_text` message; `session_id` is the one of that message. Legacy.
    pub fn device_text(
        device_type: impl Into<String>,
        device_id: impl Into<String>,
        session_id: u64,
        content: impl AsRef<[u8]>,
    ) -> Self {
        Self(Passive::new("device_text", |document| {
            push_device(document, device_type.into(), device_id.into())?;
            push_session(document, session_id, content.as_ref());
            Ok(())
        }))
    }

    /// Answer to the event that a user bound a device; `session_id` is the one of that event. Legacy.
    pub fn device_bind(
        device_type: impl Into<String>,
        device_id: impl Into<String>,
        session_id: u64,
        content: impl AsRef<[u8]>,
    ) -> Self {
        Self::device_event("bind", device_type.into(), device_id.into(), session_id, content.as_ref())
    }

    /// Answer to the event that a user unbound a device; `session_id` is the one of that event. Legacy.
    pub fn device_unbind(
        device_type: impl Into<String>,
        device_id: impl Into<String>,
        session_id: u64,
        content: impl AsRef<[u8]>,
    ) -> Self {
        Self::device_event("unbind", device_type.into(), device_id.into(), session_id, content.as_ref())
    }

    fn device_event(event: &str, device_type: String, device_id: String, session_id: u64, content: &[u8]) -> Self {
        Self(Passive::new("device_event", |document| {
            document.push("Event", text(event));
            push_device(document, device_type, device_id)?;
            push_session(document, session_id, content);
            Ok(())
        }))
    }

    /// Answer to the subscription of a device's state. Legacy.
    pub fn device_status(device_type: impl Into<String>, device_id: impl Into<String>, connected: bool) -> Self {
        Self(Passive::new("device_status", |document| {
            push_device(document, device_type.into(), device_id.into())?;
            document.push("DeviceStatus", int(connected.into()));
            Ok(())
        }))
    }

    /// Opens a page of the hardware platform, such as `myrank` with `ranklist`. Legacy.
    pub fn hardware(message_view: impl Into<String>, message_action: impl Into<String>) -> Self {
        Self(Passive::new("hardware", |document| {
            let (view, action) = (message_view.into(), message_action.into());
            required("MessageView", &view)?;
            required("MessageAction", &action)?;
            let mut page = Object::with_capacity(2);
            page.push("MessageView", text(view));
            page.push("MessageAction", text(action));
            document.push("HardWare", Value::Object(page));
            document.push("FuncFlag", int(0));
            Ok(())
        }))
    }
}

fn push_device(document: &mut Object<'static>, kind: String, id: String) -> Result<(), ReplyError> {
    required("DeviceType", &kind)?;
    required("DeviceID", &id)?;
    document.push("DeviceType", text(kind));
    document.push("DeviceID", text(id));
    Ok(())
}

fn push_session(document: &mut Object<'static>, session_id: u64, content: &[u8]) {
    session_id.write_field(document, "SessionID");
    document.push("Content", text(STANDARD.encode(content)));
}

impl From<Video> for Reply {
    fn from(video: Video) -> Self {
        Self(Passive::video(video))
    }
}

impl From<Music> for Reply {
    fn from(music: Music) -> Self {
        Self(Passive::new("music", |document| {
            required("ThumbMediaId", &music.thumb_media_id)?;
            let mut wrapper = Object::with_capacity(5);
            push_text(&mut wrapper, "Title", music.title);
            push_text(&mut wrapper, "Description", music.description);
            push_text(&mut wrapper, "MusicUrl", music.music_url);
            push_text(&mut wrapper, "HQMusicUrl", music.hq_music_url);
            wrapper.push("ThumbMediaId", text(music.thumb_media_id));
            document.push("Music", Value::Object(wrapper));
            Ok(())
        }))
    }
}

impl crate::event::Reply for Reply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0.into_answer()
    }
}

/// A music reply; becomes a [`Reply`] with `.into()`.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Music {
    thumb_media_id: String,
    title: Option<String>,
    description: Option<String>,
    music_url: Option<String>,
    hq_music_url: Option<String>,
}

impl Music {
    /// Title of the piece.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Text below the title.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Link of the piece.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.music_url = Some(url.into());
        self
    }

    /// Link of the piece in high quality, preferred on Wi-Fi.
    pub fn hq_url(mut self, url: impl Into<String>) -> Self {
        self.hq_music_url = Some(url.into());
        self
    }
}
