//! `[admin]`: health, readiness, metrics, inspector, event API.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::reader::Reader;
use crate::secret::Secret;

pub(super) const KEYS: &[&str] = &["listen", "token", "hosts", "mask"];

/// `[admin]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Admin {
    /// Where the admin pages are served; `127.0.0.1:9180`.
    pub listen: SocketAddr,
    /// What a client has to present; always there when `listen` is not a loopback address.
    pub token: Option<Secret>,
    /// Names under which the page is reached, beside addresses and `localhost`; none.
    pub hosts: Vec<String>,
    /// Paths of payloads whose values neither the event API nor the page shows, `*` for every text; none.
    pub mask: Vec<String>,
}

impl Admin {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>, server: SocketAddr) -> Self {
        const ADDRESS: &str = "an address and a port such as \"127.0.0.1:9180\"";
        /// A shorter one can be guessed; 16 characters of `echostr keygen` cannot.
        const SHORT_LENGTH: usize = 16;
        let section = reader.section(root, "admin", KEYS);
        let listen = section.matching("listen", ADDRESS, |text| text.parse().ok());
        let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9180)));
        let token = section.secret("token");
        let reachable = !listen.ip().to_canonical().is_loopback();
        if reachable {
            section.require("token", "`listen` is not a loopback address, so anybody could read what came in");
        }
        if reachable && token.as_ref().is_some_and(|token| token.expose().len() < SHORT_LENGTH) {
            section.warning("token", "`token` is shorter than 16 characters and can be reached from other machines");
        }
        let overlap = |a: SocketAddr, b: SocketAddr| a.ip() == b.ip() || a.ip().is_unspecified();
        let same_ip = overlap(listen, server) || overlap(server, listen);
        if listen.port() != 0 && listen.port() == server.port() && same_ip {
            section.problem("listen", "must not be the address of `[server]`");
        }
        let hosts = section.list("hosts", "names such as \"echostr.example.com\", without scheme and port", host);
        let mask = section.list(
            "mask",
            "payload paths such as \"FromUserName\" or \"MsgBody.MsgContent.Text\", or \"*\"",
            path,
        );
        let values = |list: Option<Vec<(_, String)>>| list.unwrap_or_default().into_iter().map(|(_, value)| value);
        Self { listen, token, hosts: values(hosts).collect(), mask: values(mask).collect() }
    }
}

/// The name of a host as browsers write it.
fn host(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!text.is_empty() && text.bytes().all(allowed)).then(|| text.to_ascii_lowercase())
}

/// Names with dots between them, or `*`.
fn path(text: &str) -> Option<String> {
    (text == "*" || text.split('.').all(|name| !name.is_empty() && name != "*")).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::config::Config;

    #[test]
    fn hosts_are_names_and_masks_are_paths() {
        let parse = |lines: &str| Config::parse(&format!("[admin]\n{lines}\n"), "test", |_| Ok(String::new()));
        let admin = parse("hosts = [\"Echostr.example.com\"]\nmask = [\"A.B\", \"*\"]").unwrap().admin;
        assert_eq!(
            (admin.hosts, admin.mask),
            (vec!["echostr.example.com".to_owned()], vec!["A.B".to_owned(), "*".to_owned()])
        );
        for wrong in [
            "hosts = [\"https://a.example\"]",
            "hosts = [\"a.example:80\"]",
            "hosts = [\"*\"]",
            "hosts = [\"\"]",
            "hosts = \"a.example\"",
            "mask = [\"\"]",
            "mask = [\"A..B\"]",
            "mask = [\"A.*\"]",
            "mask = true",
        ] {
            let problem = parse(wrong).unwrap_err().to_string();
            assert!(
                problem.contains("test:2") && problem.contains(wrong.split(' ').next().unwrap()),
                "{wrong}: {problem}"
            );
        }
    }
}
