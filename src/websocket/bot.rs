//! What handlers do over the connection of their bot that no reply says: messages that nobody asked for, uploads.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::{
    frame,
    session::{Link, RequestError, Session},
};

/// The platform takes files in pieces of this size, and so many.
const PIECE: usize = 512 << 10;
const MAX_PIECES: usize = 100;

/// A chat of a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chat<'c> {
    /// With a user, by `userid`.
    User(&'c str),
    /// A group, by `chatid`.
    Group(&'c str),
}

/// What is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A voice message.
    Voice,
    /// A video.
    Video,
    /// Any other file.
    File,
}

impl MediaKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Video => "video",
            Self::File => "file",
        }
    }
}

/// Why something was not done over the connection of a bot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BotError {
    /// The account receives over no WebSocket.
    #[error("{0}: needs `mode = \"websocket\"`")]
    NotWebSocket(String),
    /// Another process has the connection, or none has it now. An observer is retried until the process that has it runs it.
    #[error("{0}: this process does not have the bot's connection")]
    NotConnected(String),
    /// The platform refused it, and did nothing.
    #[error("{account}: the platform refused it: {code} {says}")]
    Refused {
        /// The account.
        account: String,
        /// The platform's code.
        code: i64,
        /// What it says.
        says: String,
    },
    /// No acknowledgement came: the platform may have done it.
    #[error("{0}: the platform did not acknowledge it: it may have been done")]
    Uncertain(String),
    /// Larger than the platform takes, or empty.
    #[error("a file of {0} bytes: the platform takes 1 to {max}", max = PIECE * MAX_PIECES)]
    Size(usize),
    /// The message is not as the platform documents it.
    #[error("the message is no JSON object")]
    NotObject,
}

/// The connection of a bot in WebSocket mode. Cheap to clone.
///
/// Handlers have it from [`Context::bot`](crate::hooks::Context::bot). It works in the process that has the connection.
#[derive(Clone)]
pub struct Bot {
    account: Arc<str>,
    link: watch::Receiver<Link>,
}

impl fmt::Debug for Bot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bot").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Bot {
    pub(super) const fn new(account: Arc<str>, link: watch::Receiver<Link>) -> Self {
        Self { account, link }
    }

    /// Sends Markdown to a chat in which somebody has written to the bot before.
    ///
    /// # Errors
    /// [`BotError`].
    pub async fn send_markdown(&self, chat: Chat<'_>, content: &str) -> Result<(), BotError> {
        self.send(chat, "markdown", json!({ "content": content })).await
    }

    /// Sends a message of any kind, as the platform documents its object: `template_card`, or `image`, `voice`, `video` and
    /// `file` with the `media_id` of an [upload](Bot::upload).
    ///
    /// # Errors
    /// [`BotError`].
    pub async fn send(&self, chat: Chat<'_>, kind: &str, message: Json) -> Result<(), BotError> {
        if !message.is_object() {
            return Err(BotError::NotObject);
        }
        let (id, chat_type) = match chat {
            Chat::User(id) => (id, 1),
            Chat::Group(id) => (id, 2),
        };
        let body = json!({ "chatid": id, "chat_type": chat_type, "msgtype": kind, kind: message });
        let session = self.session()?;
        self.request(&session, frame::SEND, &body).await.map(drop)
    }

    /// Uploads a file; returns its `media_id`, which is good for three days.
    ///
    /// # Errors
    /// [`BotError`].
    pub async fn upload(&self, kind: MediaKind, name: &str, content: &[u8]) -> Result<String, BotError> {
        let pieces = content.len().div_ceil(PIECE);
        if !(1..=MAX_PIECES).contains(&pieces) {
            return Err(BotError::Size(content.len()));
        }
        // All pieces go over one connection.
        let session = self.session()?;
        let (kind, size) = (kind.as_str(), content.len());
        let body = json!({ "type": kind, "filename": name, "total_size": size, "total_chunks": pieces });
        let begun = self.request(&session, frame::UPLOAD_INIT, &body).await?;
        let upload = self.text(&begun, "upload_id")?;
        for (at, piece) in content.chunks(PIECE).enumerate() {
            let body = json!({ "upload_id": upload, "chunk_index": at, "base64_data": STANDARD.encode(piece) });
            self.request(&session, frame::UPLOAD_CHUNK, &body).await?;
        }
        let done = self.request(&session, frame::UPLOAD_FINISH, &json!({ "upload_id": upload })).await?;
        self.text(&done, "media_id").map(str::to_owned)
    }

    fn text<'a>(&self, answer: &'a Json, name: &str) -> Result<&'a str, BotError> {
        answer[name].as_str().ok_or_else(|| BotError::Refused {
            account: self.account.to_string(),
            code: 0,
            says: format!("its answer has no {name}"),
        })
    }

    fn session(&self) -> Result<Arc<Session>, BotError> {
        self.link.borrow().session().cloned().ok_or_else(|| BotError::NotConnected(self.account.to_string()))
    }

    async fn request(&self, session: &Session, command: &str, body: &Json) -> Result<Json, BotError> {
        let account = || self.account.to_string();
        session.request(command, &session.next_id(command), Some(body)).await.map_err(|failure| match failure {
            RequestError::Refused { code, says } => BotError::Refused { account: account(), code, says },
            RequestError::NotConnected | RequestError::NotJson => BotError::NotConnected(account()),
            RequestError::NotAcknowledged | RequestError::Ended => BotError::Uncertain(account()),
        })
    }
}
