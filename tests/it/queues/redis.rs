//! Redis Streams, a `redis-server` of the test's own, read with `redis-cli`.

use std::path::Path;

use serde_json::Value;

use super::{Broker, Certificates, PASSWORD, Received, WRONG, behaves, program, without_ca};
use crate::support::{
    process::{self, Process},
    wait_for,
};

struct Redis {
    process: Process,
    port: u16,
    tls_port: u16,
    certificates: Certificates,
}

impl Redis {
    fn ask(&self, command: &[&str]) -> Option<Value> {
        let port = self.port.to_string();
        let of_all = ["-p", &port, "--user", "echostr", "--pass", PASSWORD, "--no-auth-warning", "--json"];
        let answer = process::output("redis-cli", &[&of_all[..], command].concat())?;
        serde_json::from_str(&answer).ok()
    }

    fn to(&self, name: &str) -> String {
        format!("to = \"redis://127.0.0.1:{}/3\"\nstream = \"{name}:{{type}}:{{subject}}\"\n", self.port)
    }

    /// The streams of a forward.
    fn streams(&self, name: &str) -> Vec<String> {
        let keys = self.ask(&["-n", "3", "KEYS", &format!("{name}:*")]).unwrap();
        keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    }
}

fn user(name: &str, password: &str) -> String {
    format!("username = \"{name}\"\npassword = \"{password}\"\n")
}

impl Broker for Redis {
    fn prepare(folder: &Path) -> Option<Self> {
        let program = program("redis-server", &[])?;
        let (port, tls_port, certificates) = (process::port(), process::port(), Certificates::new(folder));
        let Certificates { certificate, key, ca } = &certificates;
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\ntls-cert-file {certificate}\ntls-key-file {key}\n\
             tls-ca-cert-file {ca}\ntls-auth-clients no\ndir {}\nappendonly yes\nappendfsync always\nsave \"\"\n\
             user default off\nuser echostr on >{PASSWORD} ~* &* +@all\nuser limited on >{PASSWORD} ~other:* +@all\n",
            folder.display(),
        );
        std::fs::write(folder.join("redis.conf"), settings).unwrap();
        let process =
            Process::new(&program, &folder.join("log")).args([folder.join("redis.conf").display().to_string()]);
        Some(Self { process, port, tls_port, certificates })
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn until_ready(&self) {
        wait_for("Redis answers", async || self.ask(&["PING"]) == Some("PONG".into())).await;
    }

    async fn create(&self, _: &str) {}

    fn keys(&self, name: &str) -> String {
        format!("{}{}", self.to(name), user("echostr", PASSWORD))
    }

    fn keys_with_tls(&self, name: &str) -> String {
        let keys = self.keys(name).replace("redis://127.0.0.1", "rediss://localhost");
        let keys = keys.replace(&self.port.to_string(), &self.tls_port.to_string());
        format!("{keys}ca_file = \"{}\"\n", self.certificates.ca)
    }

    async fn read(&self, name: &str) -> Vec<Received> {
        let mut read = Vec::new();
        for stream in self.streams(name) {
            let entries = self.ask(&["-n", "3", "XRANGE", &stream, "-", "+"]).unwrap();
            for entry in entries.as_array().unwrap() {
                let fields: Vec<&str> = entry[1].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
                let mut attributes: std::collections::BTreeMap<String, String> =
                    fields.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
                let (id, body) = (attributes["id"].clone(), attributes.remove("data").unwrap());
                read.push(Received { place: stream.clone(), key: None, id, attributes, body });
            }
        }
        read
    }

    async fn refused(&self) -> Vec<(String, &'static str)> {
        self.ask(&["-n", "3", "SET", "text", "x"]).unwrap();
        let text = self.to("x").replace("x:{type}:{subject}", "text");
        vec![
            (format!("{text}{}", user("echostr", PASSWORD)), "something that is not a stream"),
            (format!("{}{}", self.to("x"), user("limited", PASSWORD)), "no permission for `XADD`"),
            (format!("{}{}", self.to("x"), user("echostr", WRONG)), "check `username` and `password`"),
            (format!("{}password = \"{WRONG}\"\n", self.to("x")), "check `username` and `password`"),
            (self.to("x"), "check `username` and `password`"),
            (self.to("x").replace("/3", ""), "check `username` and `password`"),
            (without_ca(&self.keys_with_tls("x")), "no TLS with"),
        ]
    }

    fn is_place_of(&self, received: &Received, name: &str, _: &str) -> bool {
        received.place == format!("{name}:mp.message.text:o.A*>%20%E4%BD%A0#1")
    }
}

#[tokio::test]
async fn redis_gets_every_event_whatever_happens_to_it() {
    behaves::<Redis>().await;
}
