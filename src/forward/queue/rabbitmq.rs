//! RabbitMQ: a message is done when the broker has confirmed it, and has not returned it as one that no queue gets.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use futures_util::{
    Stream,
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use lapin::{
    BasicProperties, Channel, Confirmation, ConnectionProperties, Error, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::AsyncTcpStream,
    types::{AMQPValue, FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPUri, AMQPUserInfo},
};
use rustls::ClientConfig;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::{
    Broker, Message, PublishError, Trouble,
    link::{self, Link, Transport},
};
use crate::{
    config::{Credentials, Host, Place, Queue},
    forward::message::Attributes,
    webhook::{Guard, Template},
};

/// What a broker that has just been installed lets in, from its own machine only.
const DEFAULT_USER: &str = "guest";

/// Written to the disk before it is confirmed, where the queue is durable.
const PERSISTENT: u8 = 2;

const UNROUTABLE: &str = "the message was returned: no queue is bound to the exchange with this routing key; bind one, or change `routing_key`";

pub(super) struct RabbitMq {
    hosts: Vec<Host>,
    tls: Option<Arc<ClientConfig>>,
    user: AMQPUserInfo,
    vhost: String,
    exchange: Option<Template>,
    routing_key: Template,
    guard: Guard,
    link: Link<Connection>,
}

#[derive(Clone)]
struct Connection {
    channel: Channel,
    /// Closed when nobody has it any more.
    connection: Arc<lapin::Connection>,
}

impl RabbitMq {
    pub(super) fn new(queue: &Queue, guard: &Guard) -> Result<Self, PublishError> {
        let Place::RabbitMq { vhost, exchange, routing_key } = &queue.place else {
            return Err(PublishError::refused("it is not of RabbitMQ"));
        };
        let (username, password) = match &queue.credentials {
            Credentials::Password(user, password) => (user.clone().unwrap_or_default(), password.expose().to_owned()),
            _ => (DEFAULT_USER.to_owned(), DEFAULT_USER.to_owned()),
        };
        Ok(Self {
            hosts: queue.hosts.clone(),
            tls: link::tls(queue.tls.as_ref())?,
            user: AMQPUserInfo { username, password },
            vhost: vhost.clone(),
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            guard: guard.clone(),
            link: Link::new(),
        })
    }

    async fn connection(&self) -> Result<Connection, PublishError> {
        let is_alive = |it: &Connection| it.channel.status().connected() && it.connection.status().connected();
        self.link.get(is_alive, self.connect()).await
    }

    async fn connect(&self) -> Result<Connection, PublishError> {
        // Of the address only what is said after connecting plays a part.
        let uri = AMQPUri {
            authority: AMQPAuthority { userinfo: self.user.clone(), ..AMQPAuthority::default() },
            vhost: self.vhost.clone(),
            ..AMQPUri::default()
        };
        let stream = link::connect(&self.hosts, &self.guard, self.tls.as_ref()).await?;
        let stream = Mutex::new(Some(stream));
        let connect = async move |_: AMQPUri, _: Runtime<Wire>| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(AsyncTcpStream::Plain(stream.ok_or(io::Error::from(io::ErrorKind::NotConnected))?.compat()))
        };
        let properties = ConnectionProperties::default().with_connection_name("echostr".into());
        let opened = async {
            let runtime = Runtime::new(Wire(Tokio::current()));
            let connection = lapin::Connection::connector(uri, runtime, connect, properties).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Connection { channel, connection: Arc::new(connection) })
        };
        opened.await.map_err(|error: Error| failure(&error))
    }

    async fn publish_one(&self, message: &Message<'_>) -> Result<(), PublishError> {
        let unacceptable = |text: &str| PublishError::new(Trouble::Unacceptable, text);
        let named = |template: &Template| template.fill(message.fields);
        let exchange = match &self.exchange {
            Some(template) => named(template).ok_or_else(|| unacceptable("the event has no exchange"))?,
            None => String::new(),
        };
        let key = named(&self.routing_key).ok_or_else(|| unacceptable("the event has no routing key"))?;
        let Connection { channel, connection: _connection } = self.connection().await?;
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirmed = channel
            .basic_publish(exchange.into(), key.into(), options, &message.content.body, properties(message))
            .await
            .map_err(|error| failure(&error))?;
        match confirmed.await.map_err(|error| failure(&error))? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Err(PublishError::refused(UNROUTABLE)),
            Confirmation::Nack(None) => Err(PublishError::new(
                Trouble::Busy,
                "the broker cannot take the message now (nack): a queue may be full",
            )),
            Confirmation::NotRequested => Err(PublishError::refused("the broker does not confirm what is published")),
        }
    }
}

impl Broker for RabbitMq {
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

/// The runtime that the client runs on: tokio's, over connections that we make.
#[derive(Clone, Debug)]
struct Wire(Tokio);

impl RuntimeKit for Wire {}

impl Executor for Wire {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

/// It sleeps as tokio does, and connects to nothing by itself.
impl Reactor for Wire {
    type TcpStream = Compat<Box<dyn Transport>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// AMQP 0.9.1 has no binding of CloudEvents; the names are those of the one to AMQP 1.0, as RabbitMQ translates them.
fn properties(message: &Message<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut insert = |name: String, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    match &message.content.attributes {
        Attributes::None => {}
        Attributes::CloudEvent(attributes) => {
            attributes.iter().for_each(|(name, value)| insert(format!("cloudEvents_{name}"), value));
        }
        Attributes::Raw(names) => names.iter().for_each(|(name, value)| insert((*name).to_owned(), value)),
    }
    let properties = BasicProperties::default()
        .with_message_id(ShortString::from(message.id))
        .with_content_type(ShortString::from(message.content.content_type))
        .with_type(ShortString::from(message.fields.event_type))
        .with_app_id(ShortString::from("echostr"))
        .with_delivery_mode(PERSISTENT);
    properties.with_headers(headers)
}

/// What an error of the client or the broker means. The broker's text may have names of the event in it, so it is not shown.
fn failure(error: &Error) -> PublishError {
    let refused = PublishError::refused;
    let ErrorKind::ProtocolError(said) = error.kind() else {
        return PublishError::unavailable(match error.kind() {
            ErrorKind::IOError(error) => error.to_string(),
            _ => "the connection was lost before the message was confirmed".to_owned(),
        });
    };
    match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
            refused("the exchange does not exist: declare it, or change `exchange`")
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
            refused("no permission: check `username`, `password`, the virtual host, and what the user may write to")
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE) => {
            PublishError::new(Trouble::Unacceptable, "the broker does not take such a message: it may be too large")
        }
        AMQPErrorKind::Hard(AMQPHardError::RESOURCEERROR) => {
            PublishError::new(Trouble::Busy, "the broker has no resources left")
        }
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
            PublishError::unavailable("the broker has closed the connection: it is being stopped")
        }
        _ => PublishError::unavailable(format!(
            "the broker closed the connection or the channel (code {})",
            said.get_id()
        )),
    }
}
