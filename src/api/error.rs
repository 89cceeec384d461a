//! Errors of calls: what happened, what it means, and what to do about it.

use std::time::Duration;

use serde::Deserialize;

use crate::journal::JournalError;

/// Too many calls of one API at one time.
pub(super) const TOO_MANY_AT_ONCE: i64 = 45033;

/// Why a call of the platform's API failed. No message has a secret or a token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The platform refused it.
    #[error("{account}: {path} was refused with {code}{}: {message}", meaning(*code).map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused {
        /// The account.
        account: String,
        /// Path of the API.
        path: String,
        /// `errcode` of the answer.
        code: i64,
        /// `errmsg` of the answer.
        message: String,
    },
    /// The platform's rate limit was reached; it is not called for a while.
    #[error(
        "{account}: {path} is paused for {} more: the platform's rate limit was reached ({code})",
        crate::log::seconds(*rest)
    )]
    Limited {
        /// The account.
        account: String,
        /// Path of the API.
        path: String,
        /// `errcode` of that answer.
        code: i64,
        /// For how long.
        rest: Duration,
    },
    /// The platform could not be reached, or sent no complete response in time.
    #[error("{account}: no response from {path}: {cause}")]
    Unreachable {
        /// The account.
        account: String,
        /// Path of the API.
        path: String,
        /// What happened.
        cause: String,
        /// Whether the platform may have executed the call.
        uncertain: bool,
    },
    /// The platform's gateway refused it.
    #[error("{account}: {path} returned HTTP status {status}")]
    Status {
        /// The account.
        account: String,
        /// Path of the API.
        path: String,
        /// The status.
        status: u16,
    },
    /// The response has not the form that the API documents.
    #[error("{account}: cannot read the response of {path}: {cause}")]
    BadAnswer {
        /// The account.
        account: String,
        /// Path of the API.
        path: String,
        /// Why not.
        cause: String,
    },
    /// The body cannot be written as JSON.
    #[error("the body of the call is not JSON: {0}")]
    NotJson(String),
    /// The account has no `secret`, or its platform has no API here.
    #[error("{0} has no `secret`, so its API cannot be called")]
    NoSecret(String),
    /// There is no such account.
    #[error("no account `{account}` is configured{hint}")]
    UnknownAccount {
        /// What was asked for.
        account: String,
        /// A similar one: `; did you mean …?`.
        hint: String,
    },
    /// The server that the account is of has ended.
    #[error("the server has ended")]
    Ended,
    /// The platform pushes a ticket every ten minutes; access tokens are requested with it.
    #[error("{0}: the platform has pushed no ticket yet; it does so every ten minutes, to the account's address")]
    NoTicket(String),
    /// It has not authorised this account, or has withdrawn that.
    #[error("{account}: {id} has not authorised it, or not since the secret was changed")]
    NotGranted {
        /// The account.
        account: String,
        /// AppID or CorpID.
        id: String,
    },
    /// The credentials that access tokens are requested with cannot be read or stored.
    #[error("cannot read or store the credentials for access tokens in the journal: {0}")]
    NotKept(String),
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

impl ApiError {
    pub(super) fn bad_answer(account: &str, path: &str, cause: &str) -> Self {
        Self::BadAnswer { account: account.to_owned(), path: path.to_owned(), cause: cause.to_owned() }
    }

    pub(super) fn not_kept(failure: &JournalError) -> Self {
        Self::NotKept(failure.to_string())
    }

    /// Whether the access token is no longer valid.
    pub(super) fn is_bad_token(&self) -> bool {
        /// 40082 and 42009 are of third-party applications.
        const BAD_TOKEN: [i64; 5] = [40001, 40014, 42001, 40082, 42009];
        self.code().is_some_and(|code| BAD_TOKEN.contains(&code))
    }

    /// The platform's `errcode`.
    pub const fn code(&self) -> Option<i64> {
        match self {
            Self::Refused { code, .. } | Self::Limited { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the platform may have executed the call.
    pub const fn is_uncertain(&self) -> bool {
        match self {
            Self::Unreachable { uncertain, .. } => *uncertain,
            Self::BadAnswer { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the same call may succeed a moment later.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == -1 || self.is_limit(),
            Self::Limited { .. } | Self::Unreachable { .. } | Self::BadAnswer { .. } | Self::NotKept(_) => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// Whether somebody can fix it in the console or the configuration, so that it succeeds later.
    pub const fn can_be_mended(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(
                code,
                40001
                    | 40013
                    | 40014
                    | 40082
                    | 40085
                    | 40125
                    | 40164
                    | 40243
                    | 42001
                    | 42009
                    | 48001
                    | 48002
                    | 48004
                    | 60020
                    | 89503
                    | 95017
            ),
            Self::NoSecret(_) | Self::NoTicket(_) | Self::NotGranted { .. } | Self::Client(_) => true,
            _ => false,
        }
    }

    /// Whether the platform's rate limit was reached.
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Refused { code: 45009 | 45011 | TOO_MANY_AT_ONCE, .. })
    }

    /// How long to wait, if the platform's rate limit was reached.
    pub(crate) fn pause(&self) -> Option<Duration> {
        /// The shortest of the platforms' limits is of a minute.
        const UNKNOWN: Duration = Duration::from_secs(60);
        match self {
            Self::Limited { rest, .. } => Some(*rest),
            _ => self.is_limit().then_some(UNKNOWN),
        }
    }
}

/// The two members that every answer may have.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

/// The error in an answer, if it has one.
pub(super) fn refused(account: &str, path: &str, body: &[u8]) -> Option<ApiError> {
    match serde_json::from_slice(body) {
        Ok(Verdict { errcode: 0, .. }) => None,
        Ok(Verdict { errcode: code, errmsg: message }) => Some(ApiError::Refused {
            account: account.to_owned(),
            path: path.to_owned(),
            code,
            message: shortened(message),
        }),
        Err(_) => Some(ApiError::bad_answer(account, path, "it is not a JSON object")),
    }
}

/// A message is for people; a long one is not read.
fn shortened(mut message: String) -> String {
    const LONGEST: usize = 300;
    if let Some((end, _)) = message.char_indices().nth(LONGEST) {
        message.truncate(end);
        message.push('…');
    }
    message.retain(|c| !c.is_control());
    message
}

/// What a code of the platforms means, and what to do about it.
pub const fn meaning(code: i64) -> Option<&'static str> {
    Some(match code {
        -1 => "the platform is busy; try again later",
        40001 => "the secret is wrong, or the access token is not valid; copy the secret again from the console",
        40013 => "the app_id or corp_id is wrong; copy it again from the console",
        40014 => "the access token is not valid; does another program refresh it?",
        40082 | 42009 => "the suite_access_token is not valid or has expired",
        40084 => "the permanent code is not valid; the company has to authorise again",
        40085 => "the ticket is not valid; wait for the next one, within ten minutes",
        40125 => "the secret is wrong; copy it again from the console, where it may have been reset",
        40164 => "this machine's address is not in the IP allow list (IP白名单) of the account; add it in the console",
        40243 => "the secret is frozen; unfreeze it in the console",
        41001 => "the call came without an access token",
        41002 => "the call came without an app_id",
        41004 => "the call came without a secret",
        42001 => "the access token has expired",
        43003 => "the API is called by HTTPS only",
        43004 => "the user does not follow the account",
        45002 => "the message is too long",
        45009 => "the API was called too often; the limit of a minute is over after 60 s, that of a day at its end",
        45011 => "the API was called too often in this minute",
        45015 => "48 hours have passed since the user's last message; nothing can be sent until the next one",
        45033 => "too many calls at one time",
        45047 => "as many messages were sent as one message of the user allows; wait for the next one",
        48001 => "the account may not call this API; look at its permissions (接口权限) in the console",
        48002 => "the application may not call this API; name it as one that may in the console",
        48004 => "the API is blocked for the account; see the notices in the console",
        50002 => "the user is restricted",
        61003 => "the account has not authorised the platform",
        61004 => {
            "this machine's address is not in the platform's IP allow list (白名单IP地址列表); add it in the console"
        }
        61005 | 61006 => "the ticket has expired or is not valid; wait for the next one, within ten minutes",
        61007 => "the account has not authorised this API",
        61009 | 61010 => "the authorisation code is not valid or has expired",
        61011 | 61023 => "the refresh token is not valid; the account has to authorise again",
        60011 => "the application may not see this member or department; look at its visible range (可见范围)",
        60020 => "this machine's address is not in the application's trusted IPs (企业可信IP); add it in the console",
        60111 => "there is no such member",
        81013 => "none of the receivers is in the application's visible range",
        89503 => "this call from this machine's address is waiting for the administrator's consent",
        95000 => "there is no such customer-service account (open_kfid)",
        95001 => "more than 5 messages since the customer's last one; wait for the next one",
        95002 => "48 hours have passed since the customer's last message; nothing can be sent until the next one",
        95004 => "the customer-service account was deleted",
        95007 => "the token of the callback is wrong or has expired",
        95011 | 95012 => "the secret belongs to the other edition of customer service",
        95013 => "the session is over; it begins again with the customer's next message",
        95016 => "the session cannot change to that state",
        95017 => "calls of the API are switched off for this customer-service account",
        95018 => "the state of the session forbids it: a servicer has it, or it waits for one",
        95030 => "messages of this kind are blocked",
        _ => return None,
    })
}
