//! RabbitMQ, a `rabbitmq-server` of the test's own, with an `epmd` of its own.

use std::path::Path;

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{Broker, Certificates, PASSWORD, Received, WRONG, behaves, program, without_ca};
use crate::support::{
    process::{self, Process},
    wait_for,
};

struct RabbitMq {
    process: Process,
    _names: Process,
    port: u16,
    tls_port: u16,
    certificates: Certificates,
}

impl RabbitMq {
    async fn channel(&self) -> Result<(Connection, Channel), lapin::Error> {
        let url = format!("amqp://echostr:{PASSWORD}@127.0.0.1:{}/%2f", self.port);
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    fn to(&self, exchange: &str) -> String {
        format!("to = \"amqp://127.0.0.1:{}\"\nexchange = \"{exchange}\"\n", self.port)
    }

    /// An exchange and a queue of this name, bound for every key that begins with it.
    async fn declare(&self, name: &str, queue: FieldTable) {
        let (_connection, channel) = self.channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(name.into(), lapin::ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), durable, queue).await.unwrap();
        let key = format!("{name}.#");
        channel
            .queue_bind(name.into(), name.into(), key.into(), QueueBindOptions::default(), FieldTable::default())
            .await
            .unwrap();
    }
}

fn user(name: &str, password: &str) -> String {
    format!("username = \"{name}\"\npassword = \"{password}\"\n")
}

fn key(name: &str) -> String {
    format!("routing_key = \"{name}.{{type}}.{{subject}}\"\n")
}

impl Broker for RabbitMq {
    fn prepare(folder: &Path) -> Option<Self> {
        let program = program("rabbitmq-server", &["/usr/lib/rabbitmq/bin"])?;
        let [port, tls_port, dist_port, names_port] = std::array::from_fn(|_| process::port());
        let certificates = Certificates::new(folder);
        let Certificates { certificate, key, ca } = &certificates;
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             ssl_options.cacertfile = {ca}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n\
             default_user = echostr\ndefault_pass = {PASSWORD}\nlog.file = false\nlog.console = true\n"
        );
        std::fs::write(folder.join("rabbitmq.conf"), settings).unwrap();
        std::fs::write(folder.join("plugins"), "[].\n").unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let names = process::find("epmd", &[]).unwrap();
        let mut names = Process::new(&names, &folder.join("epmd.log")).args(["-port", &names_port.to_string()]);
        names.start();
        let process = Process::new(&program, &folder.join("log"))
            .env("RABBITMQ_NODENAME", format!("echostr-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist_port.to_string())
            .env("ERL_EPMD_PORT", names_port.to_string())
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", path("no-env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("logs"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none")
            .env("HOME", folder.display().to_string());
        Some(Self { process, _names: names, port, tls_port, certificates })
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn until_ready(&self) {
        wait_for("RabbitMQ answers", async || self.channel().await.is_ok()).await;
    }

    async fn create(&self, name: &str) {
        self.declare(name, FieldTable::default()).await;
    }

    fn keys(&self, name: &str) -> String {
        format!("{}{}{}", self.to(name), key(name), user("echostr", PASSWORD))
    }

    fn keys_with_tls(&self, name: &str) -> String {
        let keys = self.keys(name).replace("amqp://127.0.0.1", "amqps://localhost");
        let keys = keys.replace(&self.port.to_string(), &self.tls_port.to_string());
        format!("{keys}ca_file = \"{}\"\n", self.certificates.ca)
    }

    async fn read(&self, name: &str) -> Vec<Received> {
        let (_connection, channel) = self.channel().await.unwrap();
        let mut read = Vec::new();
        // They are not acknowledged, so they are there for the next one.
        while let Some(message) = channel.basic_get(name.into(), BasicGetOptions::default()).await.unwrap() {
            let delivery = message.delivery;
            let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
            assert_eq!(delivery.properties.delivery_mode(), &Some(2), "written to the disk");
            let headers = delivery.properties.headers().iter().flat_map(|headers| headers.inner());
            let mut attributes: std::collections::BTreeMap<String, String> = headers
                .map(|(name, value)| match value {
                    AMQPValue::LongString(text) => (name.to_string(), text.to_string()),
                    value => panic!("{value:?}"),
                })
                .collect();
            attributes.insert("content-type".to_owned(), text(delivery.properties.content_type()));
            assert_eq!(text(delivery.properties.kind()), "mp.message.text");
            read.push(Received {
                place: delivery.routing_key.to_string(),
                key: None,
                id: text(delivery.properties.message_id()),
                attributes,
                body: String::from_utf8(delivery.data).unwrap(),
            });
        }
        read
    }

    async fn refused(&self) -> Vec<(String, &'static str)> {
        let mut full = FieldTable::default();
        full.insert("x-max-length".into(), AMQPValue::LongInt(0));
        full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.declare("full", full).await;
        let everything = || user("echostr", PASSWORD);
        let vhost = self.to("full").replace(&self.port.to_string(), &format!("{}/nowhere", self.port));
        vec![
            (format!("{}{}{}", self.to("nowhere"), key("x"), everything()), "the exchange does not exist"),
            (format!("{}{}{}", self.to("full"), key("x"), everything()), "no queue is bound"),
            (format!("{}routing_key = \"nobody\"\n{}", self.to(""), everything()), "no queue is bound"),
            (format!("{}{}{}", self.to("full"), key("full"), everything()), "a queue may be full"),
            (
                format!("{}{}{}", self.to("full"), key("full"), user("echostr", WRONG)),
                "no permission: check `username`",
            ),
            (format!("{}{}", self.to("full"), key("full")), "no permission: check `username`"),
            (format!("{vhost}{}{}", key("full"), everything()), "the virtual host"),
            (without_ca(&self.keys_with_tls("full")), "no TLS with"),
        ]
    }

    fn is_place_of(&self, received: &Received, name: &str, _: &str) -> bool {
        received.place == format!("{name}.mp.message.text.o%2EA%2A%3E%20%E4%BD%A0%231")
    }
}

#[tokio::test]
async fn rabbitmq_gets_every_event_whatever_happens_to_it() {
    behaves::<RabbitMq>().await;
}
