//! NATS JetStream: a message is done when the stream has acknowledged it.

use std::sync::Arc;

use async_nats::{
    ConnectErrorKind, ConnectOptions, Event, HeaderMap, HeaderName, HeaderValue, Request, RequestErrorKind,
    ServerError, connection::State,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::watch;

use super::{
    Broker, Message, PublishError, Trouble,
    link::{self, Link},
};
use crate::{
    config::{Credentials, Host, Place, Queue},
    forward::message::{Attributes, in_header},
    secret::Secret,
    webhook::{Guard, Template},
};

/// What the server deduplicates by, within the window of the stream.
const MESSAGE_ID: &str = "Nats-Msg-Id";

const NO_STREAM: &str =
    "no JetStream stream has this subject, or JetStream is off: create a stream whose subjects match `subject`";
const NO_PERMISSION: &str =
    "no permission to publish to this subject, or to receive in `_INBOX.>`: allow both to this user";
const LOST: &str = "the connection was lost before the message was confirmed";

pub(super) struct Nats {
    hosts: Vec<Host>,
    tls: Option<Arc<ClientConfig>>,
    credentials: Credentials,
    subject: Template,
    guard: Guard,
    link: Link<Connection>,
}

#[derive(Clone)]
struct Connection {
    client: async_nats::Client,
    notices: watch::Receiver<Notice>,
}

/// What the server says beside its answers.
#[derive(Clone, Debug, Default)]
struct Notice {
    /// How often the connection was lost.
    losses: u64,
    /// The last thing that it has refused, with the subject in it.
    denied: Option<String>,
}

/// The answer of a stream.
#[derive(Deserialize)]
struct Acknowledgement {
    stream: Option<String>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl Nats {
    pub(super) fn new(queue: &Queue, guard: &Guard) -> Result<Self, PublishError> {
        let Place::Nats { subject } = &queue.place else { return Err(PublishError::refused("it is not of NATS")) };
        Ok(Self {
            hosts: queue.hosts.clone(),
            tls: link::tls(queue.tls.as_ref())?,
            credentials: queue.credentials.clone(),
            subject: subject.clone(),
            guard: guard.clone(),
            link: Link::new(),
        })
    }

    async fn connection(&self) -> Result<Connection, PublishError> {
        let is_alive = |it: &Connection| it.client.connection_state() == State::Connected;
        self.link.get(is_alive, self.connect()).await
    }

    async fn connect(&self) -> Result<Connection, PublishError> {
        let mut servers = Vec::new();
        let mut unknown = None;
        for host in &self.hosts {
            match self.guard.resolve(&host.name, host.port).await {
                // The client looks the name up once more: the certificate has to be of it.
                Ok(_) if self.tls.is_some() => servers.push(format!("nats://{}", host.authority())),
                Ok(addresses) => servers.extend(addresses.iter().map(|address| format!("nats://{address}"))),
                Err(error) => unknown = Some(error),
            }
        }
        if servers.is_empty() {
            return Err(PublishError::unavailable(format!("cannot connect: {}", unknown.unwrap_or_default())));
        }
        let (tell, notices) = watch::channel(Notice::default());
        let options = self.signed_in(ConnectOptions::new())?;
        let mut options = options
            .name("echostr")
            .connection_timeout(link::per_server(servers.len()))
            .request_timeout(None)
            // It connects once more; after that the next message does.
            .max_reconnects(servers.len())
            .ignore_discovered_servers()
            .event_callback(move |event| {
                note(&tell, event);
                std::future::ready(())
            });
        if let Some(tls) = &self.tls {
            options = options.require_tls(true).tls_client_config((**tls).clone());
        }
        match options.connect(servers).await {
            Ok(client) => Ok(Connection { client, notices }),
            Err(error) => Err(match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => PublishError::refused(
                    "the server does not let this user in: check `username` and `password`, or the other credentials",
                ),
                ConnectErrorKind::Tls if self.tls.is_none() => PublishError::refused("the server needs `tls = true`"),
                _ => PublishError::unavailable(format!("cannot connect: {error}")),
            }),
        }
    }

    fn signed_in(&self, options: ConnectOptions) -> Result<ConnectOptions, PublishError> {
        let text = |secret: &Secret| secret.expose().to_owned();
        Ok(match &self.credentials {
            Credentials::None => options,
            Credentials::Password(user, password) => {
                options.user_and_password(user.clone().unwrap_or_default(), text(password))
            }
            Credentials::Token(token) => options.token(text(token)),
            Credentials::Nkey(seed) => options.nkey(text(seed)),
            // What is wrong with them could be said with a part of them.
            Credentials::Creds(creds) => options
                .credentials(creds.expose())
                .map_err(|_| PublishError::refused("`nats_creds` is not a file of credentials of NATS"))?,
        })
    }

    async fn publish_one(&self, message: &Message<'_>) -> Result<(), PublishError> {
        let Connection { client, mut notices } = self.connection().await?;
        let Some(subject) = self.subject.fill(message.fields) else {
            return Err(PublishError::new(Trouble::Unacceptable, "the event has no subject to publish it to"));
        };
        let losses = notices.borrow_and_update().losses;
        let body = message.content.body.clone();
        let request = Request::new().headers(headers(message)?).payload(body).timeout(None);
        let mut answered = std::pin::pin!(client.send_request(subject.clone(), request));
        loop {
            tokio::select! {
                answer = &mut answered => {
                    return match answer {
                        Ok(answer) => acknowledged(&answer.payload),
                        Err(error) => Err(match error.kind() {
                            RequestErrorKind::NoResponders => PublishError::refused(NO_STREAM),
                            RequestErrorKind::MaxPayloadExceeded => {
                                PublishError::new(Trouble::Unacceptable, "the message is larger than `max_payload` of the server")
                            }
                            RequestErrorKind::InvalidSubject => {
                                PublishError::new(Trouble::Unacceptable, "the server does not take such a subject")
                            }
                            _ => PublishError::unavailable(LOST),
                        }),
                    };
                }
                changed = notices.changed() => {
                    let Ok(()) = changed else { return Err(PublishError::unavailable(LOST)) };
                    let notice = notices.borrow_and_update();
                    if notice.losses != losses {
                        return Err(PublishError::unavailable(LOST));
                    }
                    if notice.denied.as_ref().is_some_and(|text| text.contains(&subject) || text.contains("Subscription")) {
                        return Err(PublishError::refused(NO_PERMISSION));
                    }
                }
            }
        }
    }
}

impl Broker for Nats {
    fn publish<'b>(&'b self, message: &'b Message<'b>) -> BoxFuture<'b, Result<(), PublishError>> {
        Box::pin(self.publish_one(message))
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async { self.connection().await.map(drop) })
    }

    fn forget(&self) {
        self.link.forget();
    }
}

/// Keeps what happened to the connection for those who wait.
fn note(tell: &watch::Sender<Notice>, event: Event) {
    match event {
        Event::Disconnected | Event::Closed => tell.send_modify(|notice| notice.losses += 1),
        Event::ServerError(ServerError::Other(text)) if text.starts_with("Permissions Violation") => {
            tell.send_modify(|notice| notice.denied = Some(text));
        }
        _ => {}
    }
}

/// The binding of CloudEvents to NATS: in binary mode every attribute is a header, the type of the data among them.
fn headers(message: &Message<'_>) -> Result<HeaderMap, PublishError> {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &str, value: &str| {
        let wrong = |_| PublishError::new(Trouble::Unacceptable, format!("`{name}` cannot be sent as a header"));
        let header: HeaderName = name.parse().map_err(|_| wrong(()))?;
        let value: HeaderValue = value.parse().map_err(|_| wrong(()))?;
        headers.insert(header, value);
        Ok(())
    };
    insert(MESSAGE_ID, message.id)?;
    match &message.content.attributes {
        Attributes::None => insert("content-type", message.content.content_type)?,
        Attributes::CloudEvent(attributes) => {
            insert("ce-datacontenttype", message.content.content_type)?;
            attributes.iter().try_for_each(|(name, value)| insert(&format!("ce-{name}"), &in_header(value)))?;
        }
        Attributes::Raw(names) => {
            insert("content-type", message.content.content_type)?;
            names.iter().try_for_each(|(name, value)| insert(name, &in_header(value)))?;
        }
    }
    Ok(headers)
}

/// Whether a stream has the message. Somebody else who listens to the subject and answers is no stream.
fn acknowledged(answer: &Bytes) -> Result<(), PublishError> {
    /// What [the server](https://github.com/nats-io/nats-server/blob/main/server/errors.json) calls these.
    const MESSAGE_TOO_LARGE: u32 = 10_054;
    const INSUFFICIENT_RESOURCES: u32 = 10_023;
    const STORE_FAILED: u32 = 10_077;
    let Ok(Acknowledgement { stream, error }) = serde_json::from_slice(answer) else {
        return Err(PublishError::refused(
            "it was answered, but not by a stream: somebody else replies to this subject",
        ));
    };
    let Some(Refusal { code, err_code, description }) = error else {
        return match stream {
            Some(_) => Ok(()),
            None => Err(PublishError::refused("it was answered, but not by a stream")),
        };
    };
    let text = format!("the stream does not take it: {description} (error {err_code})");
    Err(match err_code {
        MESSAGE_TOO_LARGE => PublishError::new(Trouble::Unacceptable, text),
        INSUFFICIENT_RESOURCES | STORE_FAILED => PublishError::new(Trouble::Busy, text),
        _ if code >= 500 => PublishError::unavailable(text),
        _ => PublishError::refused(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_confirms() {
        let trouble =
            |answer: &'static str| acknowledged(&Bytes::from_static(answer.as_bytes())).map_err(|it| it.trouble);
        for (answer, expected) in [
            (r#"{"stream":"EVENTS","seq":7}"#, Ok(())),
            (r#"{"stream":"EVENTS","seq":7,"duplicate":true,"domain":"hub"}"#, Ok(())),
            ("", Err(Trouble::Refused)),
            ("ok", Err(Trouble::Refused)),
            ("{}", Err(Trouble::Refused)),
            (r#"{"error":{"code":400,"err_code":10054,"description":"too large"}}"#, Err(Trouble::Unacceptable)),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
                Err(Trouble::Busy),
            ),
            (r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#, Err(Trouble::Unavailable)),
            (r#"{"error":{"code":400,"err_code":10060}}"#, Err(Trouble::Refused)),
            (r#"{"stream":"EVENTS","error":{"code":503,"err_code":10023}}"#, Err(Trouble::Busy)),
        ] {
            assert_eq!(trouble(answer), expected, "{answer}");
        }
    }
}
