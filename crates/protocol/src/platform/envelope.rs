//! How requests of a platform are signed and encrypted, and how its answers are sealed.

use crate::payload::Form;

/// What [`Keys`](crate::envelope::Keys) has to know of a platform.
#[derive(Debug)]
pub struct EnvelopeRules {
    /// What is signed, and whether bodies are encrypted.
    pub scheme: Scheme,
    /// The GET that checks a URL.
    pub url_check: UrlCheck,
    /// Names in the document around a cipher text: first those that are usual, then others that senders use. An answer has
    /// those of its request.
    pub members: &'static [Members],
    /// The syntax of sealed answers, where it is always the same; else it is that of the request.
    pub answers_in: Option<Form>,
}

/// What is signed, and whether bodies are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Sign` covers the token and `RequestTime`; bodies are JSON in the clear.
    SignedTime,
    /// `msg_signature` covers time, nonce and the encrypted body.
    Encrypted,
    /// The account's [`Mode`](crate::envelope::Mode) decides: encrypted, or in the clear below a `signature` that covers time and
    /// nonce only.
    ByMode,
}

/// The GET that checks a URL, when it is entered in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlCheck {
    /// There is none.
    Absent,
    /// `echostr` is returned as it came; `signature` covers time and nonce.
    Clear,
    /// `echostr` is returned decrypted; `msg_signature` covers it.
    Encrypted,
}

/// Names in the document around a cipher text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// The cipher text.
    pub encrypted: &'static str,
    /// The signature of an answer.
    pub signature: &'static str,
    /// The time of an answer, Unix seconds.
    pub time: &'static str,
    /// The nonce of an answer.
    pub nonce: &'static str,
    /// For whom a request is, where it names the receiver.
    pub receiver: Option<&'static str>,
}

/// The names of WeChat, and of WeCom in XML.
const MEMBERS: Members = Members {
    encrypted: "Encrypt",
    signature: "MsgSignature",
    time: "TimeStamp",
    nonce: "Nonce",
    receiver: Some("ToUserName"),
};

/// The names of WeCom in JSON, by most of its samples.
const LOWER_CASE: Members =
    Members { encrypted: "encrypt", signature: "msgsignature", time: "timestamp", nonce: "nonce", receiver: None };

/// WeCom, which uses either.
pub(super) const WECOM: EnvelopeRules = EnvelopeRules { members: &[MEMBERS, LOWER_CASE], ..ENCRYPTED };

/// Its bots, which answer in JSON.
pub(super) const WECOM_BOT: EnvelopeRules =
    EnvelopeRules { members: &[LOWER_CASE, MEMBERS], answers_in: Some(Form::Json), ..ENCRYPTED };

/// The default rules: always encrypted. A platform changes what it does otherwise.
pub(super) const ENCRYPTED: EnvelopeRules =
    EnvelopeRules { scheme: Scheme::Encrypted, url_check: UrlCheck::Encrypted, members: &[MEMBERS], answers_in: None };

/// Accounts of WeChat, which choose a mode in their console.
pub(super) const BY_MODE: EnvelopeRules =
    EnvelopeRules { scheme: Scheme::ByMode, url_check: UrlCheck::Clear, ..ENCRYPTED };
