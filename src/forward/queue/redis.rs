//! Redis Streams: a message is done when `XADD` has returned its id.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};
use rustls::ClientConfig;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Broker, Message, PublishError, Trouble,
    link::{self, Link},
};
use crate::{
    config::{Credentials, Host, Place, Queue},
    forward::message::Attributes,
    webhook::{Guard, Template},
};

pub(super) struct Redis {
    hosts: Vec<Host>,
    tls: Option<Arc<ClientConfig>>,
    login: RedisConnectionInfo,
    stream: Template,
    max_length: Option<u64>,
    concurrency: usize,
    guard: Guard,
    link: Link<Connection>,
}

#[derive(Clone)]
struct Connection {
    commands: MultiplexedConnection,
    /// Cancelled when the connection has ended.
    ended: CancellationToken,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Redis {
    pub(super) fn new(queue: &Queue, concurrency: usize, guard: &Guard) -> Result<Self, PublishError> {
        let Place::Redis { stream, max_length, database } = &queue.place else {
            return Err(PublishError::refused("it is not of Redis"));
        };
        let mut login = RedisConnectionInfo::default().set_db((*database).into());
        if let Credentials::Password(user, password) = &queue.credentials {
            login = login.set_password(password.expose());
            if let Some(user) = user {
                login = login.set_username(user);
            }
        }
        Ok(Self {
            hosts: queue.hosts.clone(),
            tls: link::tls(queue.tls.as_ref())?,
            login,
            stream: stream.clone(),
            max_length: *max_length,
            concurrency,
            guard: guard.clone(),
            link: Link::new(),
        })
    }

    async fn connection(&self) -> Result<Connection, PublishError> {
        self.link.get(|it| !it.ended.is_cancelled(), self.connect()).await
    }

    async fn connect(&self) -> Result<Connection, PublishError> {
        let stream = link::connect(&self.hosts, &self.guard, self.tls.as_ref()).await?;
        // The time is kept outside, for all of an attempt.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(self.concurrency);
        let connected = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (commands, driver) = connected.map_err(|error| not_let_in(&error))?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            let _guard = guard;
            driver.await;
        }));
        Ok(Connection { commands, ended, _driver: Arc::new(driver) })
    }

    async fn publish_one(&self, message: &Message<'_>) -> Result<(), PublishError> {
        let Some(stream) = self.stream.fill(message.fields) else {
            return Err(PublishError::new(Trouble::Unacceptable, "the event has no stream to be added to"));
        };
        let mut connection = self.connection().await?;
        let mut command = Cmd::new();
        command.arg("XADD").arg(stream);
        if let Some(length) = self.max_length {
            command.arg("MAXLEN").arg("~").arg(length);
        }
        command.arg("*").arg("id").arg(message.id);
        command.arg("content-type").arg(message.content.content_type);
        match &message.content.attributes {
            Attributes::None => {}
            // Redis has no binding of CloudEvents; these are the names of Kafka's.
            Attributes::CloudEvent(attributes) => {
                attributes.iter().for_each(|(name, value)| {
                    command.arg(format!("ce_{name}")).arg(value);
                });
            }
            Attributes::Raw(names) => names.iter().for_each(|(name, value)| {
                command.arg(name).arg(value);
            }),
        }
        command.arg("data").arg(&message.content.body[..]);
        let id: Result<String, RedisError> = command.query_async(&mut connection.commands).await;
        id.map(drop).map_err(|error| failure(&error))
    }
}

impl Broker for Redis {
    fn publish<'b>(&'b self, message: &'b Message<'b>) -> BoxFuture<'b, Result<(), PublishError>> {
        Box::pin(self.publish_one(message))
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async {
            let mut connection = self.connection().await?;
            let answer: Result<String, RedisError> = Cmd::new().arg("PING").query_async(&mut connection.commands).await;
            answer.map(drop).map_err(|error| failure(&error))
        })
    }

    fn forget(&self) {
        self.link.forget();
    }
}

/// What an error while signing in means: the client does not tell whether it was the user or the database.
fn not_let_in(error: &RedisError) -> PublishError {
    let known = failure(error);
    if error.code().is_some_and(|code| code != "ERR") || known.trouble != Trouble::Refused {
        return known;
    }
    PublishError::refused(
        "the server does not let this user in, or has no such database: check `username` and `password`, and the number in `to`",
    )
}

/// What an error of Redis means. Its text may have the names of keys in it, so only the codes are told from each other.
fn failure(error: &RedisError) -> PublishError {
    let refused = PublishError::refused;
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => {
            refused("the server does not let this user in: check `username` and `password`")
        }
        (_, "NOPERM") => refused("no permission for `XADD` to this stream: allow it to this user"),
        (_, "WRONGTYPE") => refused("the key of `stream` holds something that is not a stream: take another one"),
        (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot), _) => {
            refused("the server belongs to a Redis Cluster, which is not supported")
        }
        (_, "OOM") => {
            PublishError::new(Trouble::Busy, "the server has no memory left (OOM): set `max_length`, or give it more")
        }
        (_, "MISCONF") => PublishError::new(Trouble::Busy, "the server cannot write to its disk (MISCONF)"),
        (_, "BUSY") => PublishError::new(Trouble::Busy, "the server runs a script (BUSY)"),
        (_, "READONLY") => PublishError::unavailable("the server is a replica (READONLY)"),
        (_, "LOADING") => PublishError::unavailable("the server loads its data (LOADING)"),
        (_, "MASTERDOWN") => PublishError::unavailable("the server has lost its primary (MASTERDOWN)"),
        (_, "NOREPLICAS") => PublishError::new(Trouble::Busy, "the server has too few replicas (NOREPLICAS)"),
        (ErrorKind::Server(_) | ErrorKind::Extension, code) => {
            let code = if code.is_empty() { "ERR" } else { code };
            PublishError::refused(format!("the server does not take `XADD` ({code})"))
        }
        _ if error.is_io_error() => {
            PublishError::unavailable("the connection was lost before the message was confirmed")
        }
        (kind, _) => PublishError::unavailable(format!("no usable answer ({kind:?})")),
    }
}
