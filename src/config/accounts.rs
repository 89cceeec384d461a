//! `[PLATFORM.NAME]`: the receivers, an account each.

use std::{collections::HashMap, time::Duration};

use toml::de::{DeTable, DeValue};

pub use super::late_reply::{LateReply, NextMessage};
use super::{
    late_reply, mistakes,
    needs::UnreadAccount,
    reader::{Reader, Section, kind, name},
    routes::{Claims, default_path, path},
    server::{MAX_AGE_RANGE, Server, share},
    source::{self, SourceCheck},
    values,
    websocket::{self, WebSocket},
};
pub use crate::{envelope::Mode, replies::LongText};
use crate::{
    event::Platform,
    platform::{AccountRules, Scheme},
    secret::Secret,
};

/// In `receive_ids`: any receiver.
const ANY: &str = "any";

/// One configured receiver of a platform.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Account {
    /// Whose callbacks it receives.
    pub platform: Platform,
    /// Name of the table: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// Route; `/PLATFORM/NAME` unless overridden, and no other account's. Empty where the account receives over a
    /// [connection](Account::websocket).
    pub path: String,
    /// Time for a responder, below the limit of the platform (5 seconds, IM 2 seconds).
    pub deadline: Duration,
    /// Tokens that sign, the current one first; empty only for an IM account without authentication.
    pub tokens: Vec<Secret>,
    /// EncodingAESKeys as text, the current one first: 43 characters of the Base64 alphabet each. Empty only where the
    /// mode is [`Mode::Plain`].
    pub aes_keys: Vec<Secret>,
    /// Which forms are accepted; [`Mode::Safe`] where the platform knows no other, [`Mode::Plain`] for IM.
    pub mode: Mode,
    /// Freshness of the signed timestamp, absent when off: of the account, else of `[server]`; IM 1 minute unless one
    /// of them is off.
    pub max_age: Option<Duration>,
    /// Ids one of which must be at the end of an opened message; empty for IM.
    pub receive_ids: Vec<String>,
    /// `SdkAppid` of an IM account.
    pub sdk_app_id: Option<u64>,
    /// Application of a WeCom account.
    pub agent_id: Option<u64>,
    /// Secret of the platform's API.
    pub secret: Option<Secret>,
    /// What happens to a reply that is not ready at the deadline.
    pub late_reply: LateReply,
    /// How it answers the user's next message, where it does.
    pub next_message: Option<NextMessage>,
    /// What happens to a text that is longer than the platform takes; absent where replies are no such texts.
    pub long_text: Option<LongText>,
    /// Answer when the responder fails or panics.
    pub on_error: Verdict,
    /// Answer when the responder is late.
    pub on_timeout: Verdict,
    /// Another address of the platform's API, without a slash at the end.
    pub api_base: Option<String>,
    /// What becomes of a request from an address that the platform does not name as its own.
    pub source: SourceCheck,
    /// What is pulled of a customer-service account that was never pulled before.
    pub backlog: Backlog,
    /// How it connects to the platform, when it receives over a connection of its own and has no route.
    pub websocket: Option<WebSocket>,
    /// Hosts beside those of the platform that media may be downloaded from.
    pub media_hosts: Vec<String>,
    /// The largest file that is downloaded of media, in bytes.
    pub media_limit: usize,
    /// Whether the receive id of an opened message may be any, for companies that are not known beforehand.
    pub receives_for_any: bool,
    /// Whether the platform's release test of a third-party platform is answered.
    pub release_test: bool,
    /// How many of all deliveries in flight may be its own.
    pub share: Share,
}

impl Account {
    /// The account's name in commands and logs: `mp/shop`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.platform, self.name)
    }

    /// Where its events come from: `callbacks at /mp/shop`.
    pub fn receives(&self) -> String {
        match &self.websocket {
            None => format!("callbacks at {}", self.path),
            Some(websocket) => format!("WebSocket to {}", websocket.url),
        }
    }

    /// Whether a reply can be sent through the API instead of in the response.
    pub fn can_send(&self) -> bool {
        let rules = rules(self.platform);
        rules.sends_replies && self.secret.is_some() && (self.agent_id.is_some() || !rules.has("agent_id"))
    }

    /// The path of an account that has none of its own.
    pub fn default_path(&self) -> String {
        default_path(self.platform, &self.name)
    }
}

/// An account's share of the deliveries in flight, so that one whose responders are stuck does not refuse the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// No more than these.
    pub most: usize,
    /// So many are for no other account.
    pub reserved: usize,
    /// `max_in_flight` of the server.
    pub of: usize,
}

/// What is pulled of a customer-service account that was never pulled before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// What comes from its first callback on.
    None,
    /// What the platform still has, 3 days.
    ThreeDays,
}

/// Answer of an account whose responder has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The platform's "received, nothing to say".
    Default,
    /// IM "before" callbacks: let it happen.
    Allow,
    /// IM "before" callbacks: refuse.
    Deny,
}

/// All accounts, in the order of [`Platform::ALL`], then by name; and why a secret of some was not read, by their ids.
pub(super) fn read(
    reader: &Reader<'_>,
    root: &DeTable<'_>,
    server: &Server,
) -> (Vec<Account>, HashMap<String, String>) {
    let (mut accounts, mut unread) = (Vec::new(), HashMap::new());
    let mut claims = Claims::default();
    for platform in Platform::ALL {
        let Some((at, value)) = root.get_key_value(platform.as_str()) else { continue };
        let DeValue::Table(tables) = value.get_ref() else {
            let text = format!("`{platform}` must be a table of accounts, not {}", kind(value.get_ref()));
            reader.problem(Some(reader.line(at)), text);
            continue;
        };
        for (at, value) in tables {
            let (line, key): (_, &str) = (reader.line(at), at.get_ref());
            let DeValue::Table(table) = value.get_ref() else {
                let text = format!("[{platform}] {} must be in the table of an account: [{platform}.NAME]", name(key));
                reader.problem(Some(line), text);
                continue;
            };
            let shown = if is_account_name(key) { key.to_owned() } else { name(key) };
            let section = Section::new(reader, format!("[{platform}.{shown}]"), line, table);
            let section = section.reading(reader.needs.of_account(platform.as_str(), key));
            if !is_account_name(key) {
                section.refuse("the name of an account must be 1 to 64 of a-z, 0-9, `_` and `-`: it is in the route");
            }
            let account = account(platform, key, &section, server, &mut claims);
            unread.extend(section.unread().map(|why| (account.id(), why.to_owned())));
            accounts.push(account);
        }
    }
    // One half is divided among the accounts; the other is shared.
    let reserved = server.max_in_flight / 2 / accounts.len().max(1);
    let half = if accounts.len() > 1 { (server.max_in_flight / 2).max(1) } else { server.max_in_flight };
    let most = server.max_in_flight_per_account.unwrap_or(half);
    for account in &mut accounts {
        let written = account.share.most;
        let most = if written == 0 { most } else { written };
        account.share = Share { most, reserved: reserved.min(most), of: server.max_in_flight };
    }
    if accounts.is_empty() && !reader.failed() {
        reader.warning(None, "no account is configured: every callback is answered with 404");
    }
    (accounts, unread)
}

/// Takes away the accounts with secrets that were not read.
pub(super) fn set_apart(accounts: &mut Vec<Account>, mut unread: HashMap<String, String>) -> Vec<UnreadAccount> {
    let apart: Vec<Account> = accounts.extract_if(.., |account| unread.contains_key(&account.id())).collect();
    let mut why = |account: &Account| unread.remove(&account.id()).unwrap_or_default();
    apart.into_iter().map(|account| UnreadAccount { why: why(&account), account }).collect()
}

fn account(platform: Platform, name: &str, section: &Section<'_>, server: &Server, claims: &mut Claims) -> Account {
    let rules = rules(platform);
    section.only_or(&rules.all_keys().collect::<Vec<_>>(), |key| does_not_apply(platform, key));
    let knows = |key: &str| rules.has(key);

    let websocket = websocket::read(rules, section);
    let is_signed = websocket.is_none();
    if let Some(other) = websocket.as_ref().and_then(|it| claims.connect(&it.bot_id, platform, name)) {
        section.problem("bot_id", format!("is already used by {other}: a bot has one connection"));
    }
    let tokens = if is_signed {
        rotated(section, "token", "token_previous", |section, key| token(rules, section, key))
    } else {
        Vec::new()
    };
    let has_key = is_signed && knows("aes_key");
    let aes_keys = if has_key { rotated(section, "aes_key", "aes_key_previous", aes_key) } else { Vec::new() };
    let mode = if websocket.is_some() { Mode::Plain } else { mode(rules, section) };
    if websocket.is_some() {
        // Nothing is signed: there is no route.
    } else if !rules.token_is_optional {
        section.require("token", "without it nothing can be verified");
    } else if !section.has("token") {
        section.warning("token", "no `token`: anybody who knows the address can post callbacks");
    }

    let api_secret = if knows("secret") && rules.websocket.is_none() { section.secret("secret") } else { None };
    if let Some(lost) = rules.without_secret.filter(|_| !section.has("secret")) {
        section.warning("secret", format!("no `secret`: {lost}"));
    }
    let (late_reply, next_message) = late_reply::read(rules, section);
    let api_base =
        if knows("api_base") { section.matching("api_base", values::HTTP_URL, values::http_url) } else { None };
    if api_base.as_ref().and_then(|base| base.strip_prefix("http://")).is_some_and(|host| !values::is_local(host)) {
        section.warning("api_base", "`api_base` is plain http: the API secret travels in the clear");
    }

    let mut receive_ids = receive_ids(rules, section);
    let receives_for_any = knows("receive_ids") && receive_ids.iter().any(|id| id == ANY);
    receive_ids.retain(|id| !receives_for_any || id != ANY);

    Account {
        platform,
        name: name.to_owned(),
        path: if websocket.is_some() { String::new() } else { path(platform, name, section, claims) },
        deadline: match &websocket {
            Some(_) => websocket::deadline(section),
            None => deadline(rules, section),
        },
        tokens,
        aes_keys,
        mode,
        max_age: max_age(rules, section, server),
        receive_ids,
        receives_for_any,
        sdk_app_id: if knows("sdk_app_id") { sdk_app_id(section) } else { None },
        agent_id: if knows("agent_id") { section.integer("agent_id", 0..=u32::MAX.into()) } else { None },
        secret: api_secret,
        late_reply,
        next_message,
        long_text: long_text(rules, section),
        on_error: verdict(rules, section, "on_error"),
        on_timeout: verdict(rules, section, "on_timeout"),
        api_base,
        source: if knows("source") { source::read(section, server) } else { SourceCheck::Off },
        media_limit: section.size("media_limit", 1 << 10..=256 << 20).map_or(32 << 20, values::to_usize),
        media_hosts: if knows("media_hosts") { websocket::media_hosts(section) } else { Vec::new() },
        websocket,
        release_test: knows("release_test") && section.flag("release_test").unwrap_or(true),
        backlog: if knows("backlog") { backlog(section) } else { Backlog::None },
        // What is not written depends on how many accounts there are.
        share: Share {
            most: share(section, "max_in_flight", server.max_in_flight).unwrap_or_default(),
            reserved: 0,
            of: server.max_in_flight,
        },
    }
}

/// Messages of customer service are sent through the API in any case.
fn long_text(rules: &AccountRules, section: &Section<'_>) -> Option<LongText> {
    if !rules.has("long_text") {
        return None;
    }
    let choices = [("split", LongText::Split), ("cut", LongText::Cut), ("error", LongText::Error)];
    let written = section.choice("long_text", &choices);
    let has = |key: &str| section.has(key) || !rules.has(key);
    let can_send = section.has("secret") && has("agent_id");
    if written == Some(LongText::Split) && !(rules.sends_replies || rules.has("backlog")) {
        section.warning(
            "long_text",
            "`long_text = \"split\"`: on this platform only the response can carry a reply: long texts are cut",
        );
    } else if written == Some(LongText::Split) && !can_send {
        let missing = if rules.has("agent_id") { "`secret` and `agent_id`" } else { "`secret`" };
        section.warning("long_text", format!("\"split\" cannot send without {missing}: long texts are cut"));
    }
    Some(written.unwrap_or(if rules.has("backlog") { LongText::Split } else { LongText::Cut }))
}

/// Why a key that accounts of other platforms have does not apply.
fn does_not_apply(platform: Platform, key: &str) -> Option<String> {
    let why = match (key, platform.protocol().envelope().scheme) {
        ("mode" | "aes_key" | "aes_key_previous", Scheme::Encrypted) => ": always encrypted",
        ("mode" | "aes_key" | "aes_key_previous", Scheme::SignedTime) => ": never encrypted",
        ("source", _) => ": its accounts cannot fetch a list of the addresses that it calls from",
        _ => "",
    };
    let is_known = Platform::ALL.into_iter().any(|other| rules(other).has(key));
    is_known.then(|| format!("does not apply to [{platform}]{why}"))
}

pub(super) fn rules(platform: Platform) -> &'static AccountRules {
    platform.protocol().account()
}

fn backlog(section: &Section<'_>) -> Backlog {
    section.choice("backlog", &[("none", Backlog::None), ("3d", Backlog::ThreeDays)]).unwrap_or(Backlog::None)
}

pub(super) fn is_account_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

/// The current secret and the one before it.
fn rotated(
    section: &Section<'_>,
    current: &str,
    previous: &str,
    read: impl Fn(&Section<'_>, &str) -> Option<Secret>,
) -> Vec<Secret> {
    if section.has(previous) && !section.has(current) {
        section.problem(previous, format!("needs `{current}`; a single one is written there"));
    }
    [current, previous].into_iter().filter_map(|key| read(section, key)).collect()
}

fn token(rules: &AccountRules, section: &Section<'_>, key: &str) -> Option<Secret> {
    let token = section.secret(key)?;
    let text = token.expose();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.problem(key, "contains a space, control or non-ASCII character");
        return None;
    }
    let usual = (3..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if rules.token_is_alphanumeric && !usual {
        section.warning(key, format!("`{key}` is not of the platform's form: 3 to 32 letters and digits"));
    } else if text.len() < 3 {
        section.warning(key, format!("`{key}` has fewer than 3 characters: it can be guessed"));
    }
    Some(token)
}

fn aes_key(section: &Section<'_>, key: &str) -> Option<Secret> {
    let secret = section.secret(key)?;
    let text = secret.expose();
    // Letters and digits, say the platforms; the rest of the Base64 alphabet decodes as well and harms nobody.
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/') {
        let is_padded = text.len() == 44 && text.ends_with('=');
        let hint = if is_padded { "; leave off the `=` at its end".to_owned() } else { mistakes::hint(text) };
        section.problem(key, format!("must be the EncodingAESKey of the console, 43 letters and digits{hint}"));
        return None;
    }
    if text.len() != 43 {
        let (length, hint) = (text.len(), mistakes::hint(text));
        section
            .problem(key, format!("must be the EncodingAESKey of the console, 43 characters; it has {length}{hint}"));
        return None;
    }
    Some(secret)
}

fn mode(rules: &AccountRules, section: &Section<'_>) -> Mode {
    if !rules.has("aes_key") {
        return Mode::Plain;
    }
    if !rules.has("mode") || rules.websocket.is_some() {
        section.require("aes_key", "this platform always encrypts");
        return Mode::Safe;
    }
    let sealed = section.has("aes_key");
    let choices = [("plain", Mode::Plain), ("compat", Mode::Compat), ("safe", Mode::Safe)];
    let written = section.choice("mode", &choices);
    let mode = written.unwrap_or(if sealed { Mode::Safe } else { Mode::Plain });
    let clear = "whoever holds a request back can send another body with its signature";
    match mode {
        Mode::Plain if sealed => section.warning("mode", format!("plain mode although `aes_key` is set: {clear}")),
        Mode::Plain => section.warning("mode", format!("plain mode: {clear}")),
        Mode::Compat | Mode::Safe if !sealed => {
            section.problem("mode", "needs `aes_key` when it is \"safe\" or \"compat\"");
        }
        Mode::Compat => section.warning("mode", format!("compat mode accepts clear text: {clear}")),
        Mode::Safe => {}
    }
    mode
}

/// Time for a responder: the platform's limit and the way back must fit behind it.
fn deadline(rules: &AccountRules, section: &Section<'_>) -> Duration {
    let limit = rules.timeout;
    let longest = limit - Duration::from_millis(1);
    let written = section.duration("deadline", Duration::from_millis(1)..=longest);
    let deadline = written.unwrap_or(rules.deadline);
    if deadline > limit - Duration::from_millis(100) {
        let limit = values::duration_text(limit);
        section.warning("deadline", format!("`deadline` leaves no time for the way back: the platform waits {limit}"));
    }
    deadline
}

fn max_age(rules: &AccountRules, section: &Section<'_>, server: &Server) -> Option<Duration> {
    let written = section.duration_or_off("max_age", MAX_AGE_RANGE);
    if written == Some(None) {
        section.warning("max_age", "`max_age` is off: a recorded request is accepted again at any time");
    }
    // "off" is meant for all; a window is meant for those whose platform names none.
    written.unwrap_or(server.max_age.map(|of_server| rules.max_age.unwrap_or(of_server)))
}

fn verdict(rules: &AccountRules, section: &Section<'_>, key: &str) -> Verdict {
    if rules.decides {
        let choices = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
        return section.choice(key, &choices).unwrap_or(Verdict::Allow);
    }
    section.choice(key, &[("default", Verdict::Default)]).unwrap_or(Verdict::Default)
}

fn receive_ids(rules: &AccountRules, section: &Section<'_>) -> Vec<String> {
    if let Some(own) = rules.id_keys.first() {
        section.require(own, "");
    }
    let mut ids: Vec<String> = rules.id_keys.iter().filter_map(|key| platform_id(section, key)).collect();
    ids.extend(rules.has_empty_id.then(String::new));
    if rules.has("receive_ids") {
        let customers =
            section.list("receive_ids", "CorpIDs or \"any\"", |text| is_platform_id(text).then(|| text.to_owned()));
        ids.extend(customers.unwrap_or_default().into_iter().map(|(_, id)| id));
        let wrong = ids.iter().find_map(|id| mistakes::of_id("receive_ids", id).filter(|_| section.has("receive_ids")));
        wrong.into_iter().for_each(|wrong| section.warning("receive_ids", format!("`receive_ids`: one {wrong}")));
    }
    ids
}

fn platform_id(section: &Section<'_>, key: &str) -> Option<String> {
    const EXPECTED: &str = "an id such as \"wx0123456789abcdef\"";
    section.parsed(key, EXPECTED, |text| {
        if text.starts_with("gh_") {
            return Err(format!("{EXPECTED}; one that begins with `gh_` is the original id, not the AppID"));
        }
        if !is_platform_id(text) {
            return Err(EXPECTED.to_owned());
        }
        let mistake = mistakes::of_id(key, text);
        mistake.into_iter().for_each(|mistake| section.warning(key, format!("`{key}` {mistake}")));
        Ok(text.to_owned())
    })
}

fn is_platform_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn sdk_app_id(section: &Section<'_>) -> Option<u64> {
    section.require("sdk_app_id", "");
    section.integer("sdk_app_id", 1..=u32::MAX.into())
}
