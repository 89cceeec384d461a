//! `[wecom_bot.NAME] mode = "websocket"`: accounts that receive over a connection which they make themselves.

use std::time::Duration;

use super::{reader::Section, values};
use crate::{platform::AccountRules, secret::Secret};

/// Time for a responder. The platform takes an answer to a message hours later; a user does not wait for that long.
const DEADLINE: Duration = Duration::from_secs(300);
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// How often the platform wants a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How an account connects to the platform.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebSocket {
    /// Id of the bot.
    pub bot_id: String,
    /// Its secret.
    pub secret: Secret,
    /// Where the platform is.
    pub url: String,
    /// How often a ping is sent; the connection is dead when two have no answer.
    pub ping_interval: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Callback,
    WebSocket,
}

/// Reads how an account connects; `None` for one with a route, or without what it needs.
pub(super) fn read(rules: &AccountRules, section: &Section<'_>) -> Option<WebSocket> {
    const KEYS: [&str; 4] = ["bot_id", "secret", "websocket_url", "ping_interval"];
    const KEYS_OF_ROUTES: [&str; 6] = ["token", "token_previous", "aes_key", "aes_key_previous", "path", "max_age"];
    let usual = rules.websocket?;
    let choices = [("callback", Way::Callback), ("websocket", Way::WebSocket)];
    if section.choice("mode", &choices).unwrap_or(Way::Callback) == Way::Callback {
        for key in KEYS.into_iter().filter(|key| section.has(key)) {
            section.problem(key, "needs `mode = \"websocket\"`: callbacks are signed with `token` and `aes_key`");
        }
        return None;
    }
    for key in KEYS_OF_ROUTES.into_iter().filter(|key| section.has(key)) {
        section.warning(key, format!("`{key}` is not used: over a WebSocket nothing is signed, and there is no route"));
    }
    section.require("bot_id", "a WebSocket connection subscribes with it");
    section.require("secret", "a WebSocket connection subscribes with it");
    let url = section.matching("websocket_url", values::WEBSOCKET_URL, values::websocket_url);
    if url.as_ref().and_then(|url| url.strip_prefix("ws://")).is_some_and(|host| !values::is_local(host)) {
        section.warning("websocket_url", "`websocket_url` is plain ws: secret and messages travel in the clear");
    }
    const BOT_ID: &str = "the bot's id, as the console shows it: up to 128 letters, digits, `-`, `_`, `.` and `=`";
    let bot_id = section.matching("bot_id", BOT_ID, |text| is_bot_id(text).then(|| text.to_owned()));
    let secret = section.secret("secret");
    let ping_interval = section.duration("ping_interval", Duration::from_secs(1)..=Duration::from_secs(60));
    // What is missing is a problem already; the account still counts as one without a route.
    Some(WebSocket {
        bot_id: bot_id.unwrap_or_default(),
        secret: secret.unwrap_or_else(|| Secret::new("")),
        url: url.unwrap_or_else(|| usual.to_owned()),
        ping_interval: ping_interval.unwrap_or(PING_INTERVAL),
    })
}

/// Time for a responder of an account that connects.
pub(super) fn deadline(section: &Section<'_>) -> Duration {
    section.duration("deadline", Duration::from_millis(1)..=LONGEST_DEADLINE).unwrap_or(DEADLINE)
}

/// Hosts that media may be downloaded from, with their ports.
pub(super) fn media_hosts(section: &Section<'_>) -> Vec<String> {
    const HOSTS: &str = "hosts such as \"files.example.com\" or \"127.0.0.1:8080\"";
    let is_host = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        (1..=255).contains(&text.len()) && text.bytes().all(allowed)
    };
    let hosts = section.list("media_hosts", HOSTS, |text| is_host(text).then(|| text.to_ascii_lowercase()));
    hosts.unwrap_or_default().into_iter().map(|(_, host)| host).collect()
}

fn is_bot_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{env::VarError, time::Duration};

    use crate::config::Config;

    const GOOD: &str = "mode = \"websocket\"\nbot_id = \"aib-1\"\nsecret = \"s3cret\"\n";

    fn parse(lines: &str) -> Result<Config, String> {
        let env = |name: &str| if name == "BOT" { Ok("s3cret".to_owned()) } else { Err(VarError::NotPresent) };
        Config::parse(&format!("[wecom_bot.x]\n{lines}"), "c.toml", env).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bot_that_connects_needs_its_id_and_secret_and_nothing_else() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.warnings(), []);
        let account = &config.accounts[0];
        let websocket = account.websocket.as_ref().unwrap();
        assert_eq!((&*websocket.bot_id, websocket.secret.expose()), ("aib-1", "s3cret"));
        assert_eq!(websocket.url, "wss://openws.work.weixin.qq.com");
        assert_eq!((websocket.ping_interval.as_secs(), account.deadline), (30, Duration::from_secs(300)));
        assert!(account.path.is_empty() && account.secret.is_none());
        assert_eq!(account.receives(), "WebSocket to wss://openws.work.weixin.qq.com");
        assert!(!format!("{config:?}").contains("s3cret"));
        let config = parse(&GOOD.replace("\"s3cret\"", "{ env = \"BOT\" }")).unwrap();
        assert_eq!(config.accounts[0].websocket.as_ref().unwrap().secret.expose(), "s3cret");
    }

    #[test]
    fn what_is_missing_wrong_or_superfluous_is_named() {
        const OF_SOCKETS: &str = "needs `mode = \"websocket\"`: callbacks are signed with `token` and `aes_key`";
        const URL: &str = "must be a URL such as \"wss://ws.example.com\", without user, query and fragment";
        const ID: &str =
            "must be the bot's id, as the console shows it: up to 128 letters, digits, `-`, `_`, `.` and `=`";
        let key = "k".repeat(43);
        let callback = format!("token = \"abc\"\naes_key = \"{key}\"\n");
        let cases = [
            (
                "mode = \"websocket\"\n".to_owned(),
                vec![
                    "1: [wecom_bot.x] missing `bot_id`: a WebSocket connection subscribes with it".to_owned(),
                    "1: [wecom_bot.x] missing `secret`: a WebSocket connection subscribes with it".to_owned(),
                ],
            ),
            (
                format!(
                    "{callback}bot_id = \"a\"\nsecret = \"s\"\nwebsocket_url = \"wss://a\"\nping_interval = \"9s\"\n"
                ),
                (4..)
                    .zip(["bot_id", "secret", "websocket_url", "ping_interval"])
                    .map(|(line, key)| format!("{line}: [wecom_bot.x] `{key}` {OF_SOCKETS}"))
                    .collect(),
            ),
            (format!("{GOOD}websocket_url = \"https://a\"\n"), vec![format!("5: [wecom_bot.x] `websocket_url` {URL}")]),
            (
                format!("{GOOD}[wecom_bot.y]\n{GOOD}"),
                vec!["7: [wecom_bot.y] `bot_id` is already used by wecom_bot/x: a bot has one connection".to_owned()],
            ),
            (GOOD.replace("aib-1", "a b"), vec![format!("3: [wecom_bot.x] `bot_id` {ID}")]),
            (
                format!("{GOOD}ping_interval = \"2m\"\n"),
                vec!["5: [wecom_bot.x] `ping_interval` must be from 1s to 1m".to_owned()],
            ),
            (
                format!("{GOOD}deadline = \"2h\"\n"),
                vec!["5: [wecom_bot.x] `deadline` must be from 1ms to 1h".to_owned()],
            ),
            (
                "mode = \"safe\"\ntoken = \"abc\"\n".to_owned(),
                vec![
                    "2: [wecom_bot.x] `mode` must be \"callback\" or \"websocket\"".to_owned(),
                    "1: [wecom_bot.x] missing `aes_key`: this platform always encrypts".to_owned(),
                ],
            ),
            (
                format!("{GOOD}media_hosts = [\"https://a\"]\nmedia_limit = \"1GiB\"\n"),
                vec![
                    "5: [wecom_bot.x] `media_hosts` must be a list of hosts such as \"files.example.com\" or \
                     \"127.0.0.1:8080\""
                        .to_owned(),
                    "6: [wecom_bot.x] `media_limit` must be from 1KiB to 256MiB".to_owned(),
                ],
            ),
        ];
        for (lines, expected) in cases {
            let shown = parse(&lines).unwrap_err();
            let mut shown: Vec<_> =
                shown.lines().map(|line| line.strip_prefix("c.toml:").unwrap().to_owned()).collect();
            let mut expected = expected;
            shown.sort();
            expected.sort();
            assert_eq!(shown, expected, "\n{lines}");
        }
    }

    #[test]
    fn what_is_left_of_the_other_mode_is_named_and_not_used() {
        let key = "k".repeat(43);
        let left = format!("token = \"abc\"\naes_key = \"{key}\"\npath = \"/x\"\nmax_age = \"1m\"\n");
        let config = parse(&format!("{GOOD}{left}")).unwrap();
        let warnings: Vec<_> = config.warnings().iter().map(ToString::to_string).collect();
        let expected = (5..).zip(["token", "aes_key", "path", "max_age"]).map(|(line, key)| {
            format!(
                "c.toml:{line}: [wecom_bot.x] `{key}` is not used: over a WebSocket nothing is signed, and there is no route"
            )
        });
        assert_eq!(warnings, expected.collect::<Vec<_>>());
        let account = &config.accounts[0];
        assert!(account.tokens.is_empty() && account.aes_keys.is_empty() && account.path.is_empty());
    }

    #[test]
    fn a_secret_in_the_clear_is_warned_of() {
        for (url, warns) in [("ws://bots.example.com", true), ("ws://127.0.0.1:9", false), ("wss://a", false)] {
            let config = parse(&format!("{GOOD}websocket_url = \"{url}\"\n")).unwrap();
            assert_eq!(config.warnings().len(), usize::from(warns), "{url}");
        }
    }
}
