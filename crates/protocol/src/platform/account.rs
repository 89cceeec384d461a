//! What an account of a platform needs: in the configuration, and of the platform's API.

use std::time::Duration;

/// What an account of a platform needs in the configuration, and how it behaves without more said.
#[derive(Debug)]
pub struct AccountRules {
    /// Keys of its table, in the order of the documentation; every account also has those of [`AccountRules::SHARED`].
    pub keys: &'static [&'static str],
    /// Which of the keys are the ids that an opened message may be for; the first one is required, and the account's own.
    pub id_keys: &'static [&'static str],
    /// Whether messages have an empty id at their end.
    pub has_empty_id: bool,
    /// Whether it can do without a token: then anybody who knows the address can post.
    pub token_is_optional: bool,
    /// Whether a token is of up to 32 letters and digits.
    pub token_is_alphanumeric: bool,
    /// Whether some of its events ask for a decision, so that the default answer can be to allow or to refuse.
    pub decides: bool,
    /// Time for a responder.
    pub deadline: Duration,
    /// When the platform gives up on a delivery.
    pub timeout: Duration,
    /// How old a signed time may be, where the platform says it.
    pub max_age: Option<Duration>,
    /// Whether a late reply is held for the platform's next attempt.
    pub holds_late_replies: bool,
    /// Whether the API can send what a passive reply says.
    pub sends_replies: bool,
    /// Whether users see a text that is the passive reply.
    pub shows_replies: bool,
    /// What cannot be done without a `secret`, for a warning.
    pub without_secret: Option<&'static str>,
    /// A character that the console refuses in addresses.
    pub refused_in_paths: Option<char>,
    /// Where its accounts connect to, if they can receive over a WebSocket connection of their own instead of a route.
    pub websocket: Option<&'static str>,
}

impl AccountRules {
    /// Keys that every account has.
    pub const SHARED: [&'static str; 8] =
        ["path", "token", "token_previous", "deadline", "max_age", "max_in_flight", "on_error", "on_timeout"];

    /// Whether a key is one of the account's table.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(&key) || Self::SHARED.contains(&key)
    }

    /// Every key, in the order of the documentation.
    pub fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().chain(&Self::SHARED).copied()
    }
}

/// The default rules, of which a platform changes what it does otherwise.
pub(super) const RULES: AccountRules = AccountRules {
    keys: &[],
    id_keys: &[],
    has_empty_id: false,
    token_is_optional: false,
    token_is_alphanumeric: true,
    decides: false,
    deadline: Duration::from_millis(4500),
    timeout: Duration::from_secs(5),
    max_age: None,
    holds_late_replies: false,
    sends_replies: false,
    shows_replies: true,
    without_secret: None,
    refused_in_paths: None,
    websocket: None,
};

/// The platform's API.
#[derive(Debug)]
pub struct ApiRules {
    /// Its address.
    pub base: &'static str,
    /// What an access token is made of.
    pub credential: Credential,
    /// A call that only reads, and shows that access token, permissions and caller's address are right.
    pub probe: Probe,
    /// `GET` of this path returns the addresses that callbacks come from, as `ip_list`. Any token that an account of the
    /// platform has is its `access_token`. `None` where no such token is taken.
    pub callback_ips: Option<&'static str>,
}

/// What an access token is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// AppID and secret of an account: `cgi-bin/stable_token`.
    Account,
    /// CorpID and secret of an application: `cgi-bin/gettoken`.
    Application,
    /// AppID, secret and ticket of a third-party platform; it acts for accounts that have authorised it.
    Component,
    /// SuiteID, secret and ticket of a third-party application; it acts for companies that have installed it.
    Suite,
}

impl Credential {
    /// Whether the platform has to push a ticket before there is a token.
    pub const fn needs_ticket(self) -> bool {
        matches!(self, Self::Component | Self::Suite)
    }
}

/// A call that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path.
    Get(&'static str),
    /// `GET` of the path with the application's id as `agentid`, where the account has one; else of the other path.
    GetAgent(&'static str, &'static str),
    /// `POST` of this path, with a JSON body.
    Post(&'static str, &'static str),
}

/// Where WeChat's API is.
pub(super) const WEIXIN: &str = "https://api.weixin.qq.com";
/// Where WeCom's API is.
pub(super) const QYAPI: &str = "https://qyapi.weixin.qq.com";
/// The addresses that callbacks come from: both APIs have it.
pub(super) const CALLBACK_IPS: &str = "cgi-bin/getcallbackip";
/// The same, to see whether a call works.
pub(super) const CALLBACK_IP: Probe = Probe::Get(CALLBACK_IPS);
