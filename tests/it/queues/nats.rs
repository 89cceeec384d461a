//! NATS JetStream, a `nats-server` of the test's own. Streams are made and read through the API that the server has for it.

use std::path::Path;

use async_nats::{Client, ConnectOptions};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Broker, Certificates, PASSWORD, Received, WRONG, behaves, program, without_ca};
use crate::support::{
    process::{self, Process},
    wait_for,
};

struct Nats {
    process: Process,
    port: u16,
    certificates: Certificates,
}

impl Nats {
    async fn client(&self) -> Result<Client, async_nats::ConnectError> {
        let options = ConnectOptions::new().user_and_password("echostr".into(), PASSWORD.into());
        options.connect(format!("nats://127.0.0.1:{}", self.port)).await
    }

    async fn ask(&self, subject: String, question: Value) -> Value {
        let client = self.client().await.unwrap();
        let answer = client.request(subject, question.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn stream(&self, name: &str, more: Value) {
        let mut settings = json!({
            "name": name, "subjects": [format!("{name}.>")], "retention": "limits", "storage": "file", "discard": "old",
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "num_replicas": 1,
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.ask(format!("$JS.API.STREAM.CREATE.{name}"), settings).await;
        assert!(answer["error"].is_null(), "{answer}");
    }

    fn to(&self, name: &str) -> String {
        format!("to = \"nats://127.0.0.1:{}\"\nsubject = \"{name}.{{type}}.{{subject}}\"\n", self.port)
    }
}

fn user(name: &str, password: &str) -> String {
    format!("username = \"{name}\"\npassword = \"{password}\"\n")
}

impl Broker for Nats {
    const DEDUPLICATES: bool = true;

    fn prepare(folder: &Path) -> Option<Self> {
        let program = program("nats-server", &["/usr/sbin"])?;
        let (port, certificates) = (process::port(), Certificates::new(folder));
        let Certificates { certificate, key, .. } = &certificates;
        let settings = format!(
            "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{}\" }}\nmax_payload: 65536\n\
             tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}\nallow_non_tls: true\n\
             authorization {{ users: [\n\
             {{ user: echostr, password: \"{PASSWORD}\" }},\n\
             {{ user: limited, password: \"{PASSWORD}\", permissions: {{ publish: [\"other.>\"], subscribe: [\"_INBOX.>\"] }} }},\n\
             {{ user: deaf, password: \"{PASSWORD}\", permissions: {{ publish: [\">\"], subscribe: [\"other.>\"] }} }}\n] }}\n",
            folder.join("store").display(),
        );
        std::fs::write(folder.join("nats.conf"), settings).unwrap();
        let process = Process::new(&program, &folder.join("log"));
        let process = process.args(["-c".to_owned(), folder.join("nats.conf").display().to_string()]);
        Some(Self { process, port, certificates })
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn until_ready(&self) {
        wait_for(&format!("NATS answers: {}", self.process.log()), async || match self.client().await {
            Ok(client) => client.request("$JS.API.INFO", "".into()).await.is_ok(),
            Err(_) => false,
        })
        .await;
    }

    async fn create(&self, name: &str) {
        self.stream(name, json!({})).await;
    }

    fn keys(&self, name: &str) -> String {
        format!("{}{}", self.to(name), user("echostr", PASSWORD))
    }

    fn keys_with_tls(&self, name: &str) -> String {
        let keys = self.keys(name).replace("127.0.0.1", "localhost");
        format!("{keys}tls = true\nca_file = \"{}\"\n", self.certificates.ca)
    }

    async fn read(&self, name: &str) -> Vec<Received> {
        let mut read = Vec::new();
        for seq in 1.. {
            let answer = self.ask(format!("$JS.API.STREAM.MSG.GET.{name}"), json!({ "seq": seq })).await;
            if !answer["error"].is_null() {
                break;
            }
            let message = &answer["message"];
            let decode = |key: &str| {
                let bytes = BASE64_STANDARD.decode(message[key].as_str().unwrap_or_default()).unwrap();
                String::from_utf8(bytes).unwrap()
            };
            let headers = decode("hdrs");
            let headers = headers.lines().skip(1).filter_map(|line| line.split_once(": "));
            let attributes: std::collections::BTreeMap<String, String> =
                headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            read.push(Received {
                place: message["subject"].as_str().unwrap().to_owned(),
                key: None,
                id: attributes["Nats-Msg-Id"].clone(),
                attributes,
                body: decode("data"),
            });
        }
        read
    }

    async fn refused(&self) -> Vec<(String, &'static str)> {
        self.stream("small", json!({ "max_msg_size": 10 })).await;
        self.stream("full", json!({ "max_msgs": 0, "max_bytes": 1, "discard": "new" })).await;
        let everything = || user("echostr", PASSWORD);
        vec![
            (format!("{}{}", self.to("nowhere"), everything()), "create a stream whose subjects match `subject`"),
            (format!("{}{}", self.to("small"), everything()), "error 10054"),
            (format!("{}{}", self.to("full"), everything()), "error 10077"),
            (format!("{}{}", self.to("small"), user("echostr", WRONG)), "check `username` and `password`"),
            (format!("{}{}", self.to("small"), user("limited", PASSWORD)), "no permission to publish"),
            (format!("{}{}", self.to("small"), user("deaf", PASSWORD)), "no permission to publish"),
            (format!("{}nats_token = \"{WRONG}\"\n", self.to("small")), "does not let this user in"),
            (format!("{}nats_creds = \"{WRONG}\"\n", self.to("small")), "is not a file of credentials"),
            (without_ca(&self.keys_with_tls("small")), "invalid peer certificate"),
        ]
    }

    fn is_place_of(&self, received: &Received, name: &str, _: &str) -> bool {
        received.place == format!("{name}.mp.message.text.o%2EA%2A%3E%20%E4%BD%A0%231")
    }
}

#[tokio::test]
async fn nats_gets_every_event_whatever_happens_to_it() {
    behaves::<Nats>().await;
}
