//! Kafka: a message is done when all replicas that are in sync have it (`acks=all`).
//!
//! The client is written in Rust alone. It has no idempotent producer and no transactions, so an attempt that was cut off may leave
//! a record twice; its header has the id of the event.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use rskafka::{
    BackoffConfig,
    chrono::DateTime,
    client::{
        Client, ClientBuilder, Credentials as Login, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use rustls::ClientConfig;

use super::{
    Broker, Message, PublishError, Trouble,
    link::{self, Link},
};
use crate::{
    config::{Credentials, Host, Place, Queue, Sasl},
    forward::message::Attributes,
    journal,
    webhook::{Guard, Template},
};

/// How long it is believed how many partitions a topic has.
const PARTITIONS_TTL: Duration = Duration::from_secs(300);

/// Partitions of topics whose clients are kept; a topic with a user in its name would have one for each.
const MAX_PARTITIONS: usize = 4096;

/// How an error of the client begins that has to do with SASL.
const SASL_FAILED: &str = "Sasl handshake failed";

const NOT_LET_IN: &str = "the broker does not let this user in: check `username`, `password` and `sasl`";

/// What answers of brokers are read up to.
const MAX_ANSWER: usize = 16 << 20;

pub(super) struct Kafka {
    hosts: Vec<Host>,
    tls: Option<Arc<ClientConfig>>,
    sasl: Option<SaslConfig>,
    topic: Template,
    key: Template,
    backoff: BackoffConfig,
    guard: Guard,
    link: Link<Arc<Connection>>,
}

/// The partitions of each topic.
type Topics = HashMap<String, Vec<i32>>;

struct Connection {
    client: Client,
    /// The topics, and when that was asked.
    topics: tokio::sync::Mutex<Option<(Instant, Topics)>>,
    partitions: Mutex<HashMap<(String, i32), Arc<PartitionClient>>>,
}

impl Kafka {
    pub(super) fn new(queue: &Queue, guard: &Guard) -> Result<Self, PublishError> {
        let Place::Kafka { topic, key, sasl } = &queue.place else {
            return Err(PublishError::refused("it is not of Kafka"));
        };
        let sasl = match &queue.credentials {
            Credentials::Password(user, password) => {
                let login = Login::new(user.clone().unwrap_or_default(), password.expose().to_owned());
                Some(match sasl {
                    Sasl::Plain => SaslConfig::Plain(login),
                    Sasl::ScramSha256 => SaslConfig::ScramSha256(login),
                    Sasl::ScramSha512 => SaslConfig::ScramSha512(login),
                })
            }
            _ => None,
        };
        // Another leader is found at the second try; whatever takes longer is for the next attempt of the forward.
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(200),
            base: 2.0,
            deadline: Some(Duration::from_millis(300)),
        };
        Ok(Self {
            hosts: queue.hosts.clone(),
            tls: link::tls(queue.tls.as_ref())?,
            sasl,
            topic: topic.clone(),
            key: key.clone(),
            backoff,
            guard: guard.clone(),
            link: Link::new(),
        })
    }

    async fn connection(&self) -> Result<Arc<Connection>, PublishError> {
        self.link.get(|_| true, self.connect()).await
    }

    async fn connect(&self) -> Result<Arc<Connection>, PublishError> {
        // The client tries them for ever and does not say why in vain: whether there is one is seen before.
        drop(link::connect(&self.hosts, &self.guard, self.tls.as_ref()).await?);
        let mut builder = ClientBuilder::new(self.hosts.iter().map(Host::authority).collect())
            .client_id("echostr")
            .max_message_size(MAX_ANSWER)
            .backoff_config(self.backoff.clone());
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(Arc::clone(tls));
        }
        if let Some(sasl) = &self.sasl {
            builder = builder.sasl_config(sasl.clone());
        }
        let client = builder.build().await.map_err(|error| failure(&error))?;
        Ok(Arc::new(Connection { client, topics: tokio::sync::Mutex::default(), partitions: Mutex::default() }))
    }

    async fn publish_one(&self, message: &Message<'_>) -> Result<(), PublishError> {
        let Some(topic) = self.topic.fill(message.fields) else {
            return Err(PublishError::new(Trouble::Unacceptable, "the event has no topic"));
        };
        let key = self.key.fill(message.fields);
        let connection = self.connection().await?;
        let published = connection.publish(&topic, key, message).await;
        if published.as_ref().is_err_and(|error| error.trouble == Trouble::Unavailable) {
            // It has tried again itself; what it knows of the brokers may be wrong.
            self.link.forget();
        }
        published
    }
}

impl Connection {
    async fn publish(&self, topic: &str, key: Option<String>, message: &Message<'_>) -> Result<(), PublishError> {
        let partitions = self.partitions_of(topic).await?;
        // Without a key events are spread over the partitions, each attempt to the same one.
        let hashed = murmur2(key.as_deref().unwrap_or(message.id).as_bytes()) & 0x7fff_ffff;
        let chosen = usize::try_from(hashed).unwrap_or_default() % partitions.len().max(1);
        let Some(partition) = partitions.get(chosen) else {
            return Err(PublishError::unavailable("the topic has no partition"));
        };
        let client = self.partition(topic, *partition).await?;
        let record = record(key, message);
        let produced = client.produce(vec![record], Compression::NoCompression).await;
        produced.map(drop).map_err(|error| failure(&error))
    }

    async fn partitions_of(&self, topic: &str) -> Result<Vec<i32>, PublishError> {
        let mut topics = self.topics.lock().await;
        if let Some((asked, known)) = &*topics
            && asked.elapsed() < PARTITIONS_TTL
            && let Some(partitions) = known.get(topic)
        {
            return Ok(partitions.clone());
        }
        let found = self.client.list_topics().await.map_err(|error| failure(&error))?;
        let found = found.into_iter().map(|it| (it.name, it.partitions.into_iter().collect()));
        let found: Topics = found.collect();
        let partitions = found.get(topic).cloned();
        *topics = Some((Instant::now(), found));
        partitions.ok_or_else(|| PublishError::refused("the topic does not exist: create it, or change `topic`"))
    }

    async fn partition(&self, topic: &str, partition: i32) -> Result<Arc<PartitionClient>, PublishError> {
        let place = (topic.to_owned(), partition);
        let lock = || self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = lock().get(&place) {
            return Ok(Arc::clone(client));
        }
        let client = self.client.partition_client(topic, partition, UnknownTopicHandling::Error).await;
        let client = Arc::new(client.map_err(|error| failure(&error))?);
        let mut partitions = lock();
        if partitions.len() >= MAX_PARTITIONS {
            partitions.clear();
        }
        partitions.insert(place, Arc::clone(&client));
        Ok(client)
    }
}

impl Broker for Kafka {
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

/// The binding of CloudEvents to Kafka; the id is a header in every mode, as it is what to deduplicate by.
fn record(key: Option<String>, message: &Message<'_>) -> Record {
    let mut headers = BTreeMap::new();
    let mut insert = |name: String, value: &str| headers.insert(name, value.as_bytes().to_vec());
    insert("content-type".to_owned(), message.content.content_type);
    match &message.content.attributes {
        Attributes::None => drop(insert("ce_id".to_owned(), message.id)),
        Attributes::CloudEvent(attributes) => {
            attributes.iter().for_each(|(name, value)| drop(insert(format!("ce_{name}"), value)));
        }
        Attributes::Raw(names) => {
            insert("echostr-id".to_owned(), message.id);
            names.iter().for_each(|(name, value)| drop(insert((*name).to_owned(), value)));
        }
    }
    let value = Some(message.content.body.to_vec());
    let timestamp = DateTime::from_timestamp_millis(journal::now_millis()).unwrap_or_default();
    Record { key: key.map(String::into_bytes), value, headers, timestamp }
}

/// What an error of the client or of a broker means. Texts with names in them are not shown: those may be of the event.
fn failure(error: &Error) -> PublishError {
    use ProtocolError as Code;
    let refused = PublishError::refused;
    let Error::ServerError { protocol_error, .. } = error else {
        // The client wraps what it has tried, so that only the text is left.
        return match error.to_string().contains(SASL_FAILED) {
            true => refused(NOT_LET_IN),
            false => PublishError::unavailable("no broker has confirmed it: the connection failed, or was lost"),
        };
    };
    match protocol_error {
        Code::UnknownTopicOrPartition | Code::InvalidTopicException => {
            refused("the topic does not exist: create it, or change `topic`")
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            refused("no permission to write to the topic: allow it to this user")
        }
        Code::SaslAuthenticationFailed | Code::UnsupportedSaslMechanism | Code::IllegalSaslState => refused(NOT_LET_IN),
        Code::MessageTooLarge | Code::RecordListTooLarge => {
            PublishError::new(Trouble::Unacceptable, "the record is larger than `max.message.bytes` of the topic")
        }
        Code::CorruptMessage | Code::InvalidRecord | Code::PolicyViolation => PublishError::new(
            Trouble::Unacceptable,
            format!("the broker does not take such a record ({protocol_error:?})"),
        ),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend | Code::ThrottlingQuotaExceeded => {
            PublishError::new(Trouble::Busy, format!("the broker cannot take it now ({protocol_error:?})"))
        }
        _ => PublishError::unavailable(format!("the broker did not take it ({protocol_error:?})")),
    }
}

/// The hash that Kafka's own producers choose the partition of a key with, so that others find it in the same one.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the test of Kafka's own `Utils.murmur2`.
    #[test]
    fn keys_are_hashed_as_other_producers_do() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }
}
