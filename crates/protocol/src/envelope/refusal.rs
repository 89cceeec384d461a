//! Why a request is refused.

use crate::payload::PayloadError;

/// Who is at fault, as far as can be known; decides the status of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request does not prove that it comes from the platform.
    Forbidden,
    /// The request is not what the platform sends.
    Malformed,
}

/// Why a request was not opened. `Display` is for the operator and shows no secret; the sender sees [`Refusal::reason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A query parameter is absent or empty.
    #[error("query parameter `{0}` is missing")]
    MissingParameter(&'static str),
    /// A query parameter stands there twice.
    #[error("query parameter `{0}` occurs more than once")]
    RepeatedParameter(&'static str),
    /// The query cannot be decoded, or has too many parameters.
    #[error("the query is not UTF-8, or has more than {max} parameters", max = super::query::MAX_PARAMETERS)]
    BadQuery,
    /// The signature is not that of any configured token.
    #[error("`{0}` does not match: the token differs, or the request was changed")]
    WrongSignature(&'static str),
    /// The nonce is longer than any platform's: it could hold the cipher text of another request.
    #[error("`nonce` has more than {max} characters, which no platform sends", max = super::keys::MAX_NONCE)]
    BadNonce,
    /// The timestamp is no number.
    #[error("`{0}` is not a time in Unix seconds")]
    BadTimestamp(&'static str),
    /// The timestamp is too far from now; positive: in the past.
    #[error("the request is {}, which is outside `max_age`; the clock is wrong or it is a replay", super::age::Age(*.0))]
    Stale(i64),
    /// A plain body on an account that wants encrypted ones.
    #[error("the body is not encrypted, and `mode` does not allow that")]
    Plaintext,
    /// An encrypted body on an account without a key.
    #[error("the body is encrypted, and the account has no `aes_key`")]
    NoKey,
    /// The query was used before, with another body.
    #[error("the signed query was used before with another body")]
    ReplayedQuery,
    /// What `echostr` opens to is not what a console sends. Does not say what it is.
    #[error("`echostr` opens to something other than a number: it is the cipher text of another request")]
    BadEcho,
    /// The cipher text is that of an answer of ours.
    #[error("the cipher text is an answer of this server, or of another with the same key, sent back as a request")]
    ReflectedAnswer,
    /// None of the keys opens the body. Says no more to the sender, who must not learn how far it got.
    #[error("the body cannot be decrypted: {0}")]
    Undecryptable(crate::crypto::OpenError),
    /// The body is meant for somebody else.
    #[error("the body is for `{0}`, which is not this account")]
    WrongReceiveId(String),
    /// `SdkAppid` is not the account's.
    #[error("`SdkAppid` is not the account's `sdk_app_id`")]
    WrongSdkAppId,
    /// The encrypted body lacks its one element, or has it twice.
    #[error("the body has not exactly one `Encrypt`")]
    BadEnvelope,
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body begins with neither `<` nor `{{`.
    #[error("the body is neither XML nor JSON")]
    NotXmlOrJson,
    /// The body is not well-formed, or exceeds a limit.
    #[error("{0}")]
    Payload(#[from] PayloadError),
}

impl Refusal {
    /// Every value of [`Refusal::reason`].
    pub const REASONS: [&'static str; 19] = [
        "missing_parameter",
        "repeated_parameter",
        "bad_query",
        "wrong_signature",
        "bad_nonce",
        "bad_timestamp",
        "stale",
        "plaintext",
        "no_key",
        "replayed_query",
        "bad_echo",
        "reflected_answer",
        "undecryptable",
        "wrong_receive_id",
        "wrong_sdk_app_id",
        "bad_envelope",
        "not_utf8",
        "not_xml_or_json",
        "bad_payload",
    ];

    /// A short code from a fixed list: body of the response and label of the metric.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::MissingParameter(_) => "missing_parameter",
            Self::RepeatedParameter(_) => "repeated_parameter",
            Self::BadQuery => "bad_query",
            Self::WrongSignature(_) => "wrong_signature",
            Self::BadNonce => "bad_nonce",
            Self::BadTimestamp(_) => "bad_timestamp",
            Self::Stale(_) => "stale",
            Self::Plaintext => "plaintext",
            Self::NoKey => "no_key",
            Self::ReplayedQuery => "replayed_query",
            Self::BadEcho => "bad_echo",
            Self::ReflectedAnswer => "reflected_answer",
            Self::Undecryptable(_) => "undecryptable",
            Self::WrongReceiveId(_) => "wrong_receive_id",
            Self::WrongSdkAppId => "wrong_sdk_app_id",
            Self::BadEnvelope => "bad_envelope",
            Self::NotUtf8 => "not_utf8",
            Self::NotXmlOrJson => "not_xml_or_json",
            Self::Payload(_) => "bad_payload",
        }
    }

    /// Whether the signature was right: whoever sent the request has the token, or a request that was signed with it.
    pub const fn is_signed(&self) -> bool {
        matches!(
            self,
            Self::ReplayedQuery
                | Self::BadEcho
                | Self::ReflectedAnswer
                | Self::Undecryptable(_)
                | Self::WrongReceiveId(_)
                | Self::WrongSdkAppId
        )
    }

    /// Who is at fault.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::MissingParameter(_)
            | Self::WrongSignature(_)
            | Self::BadNonce
            | Self::BadTimestamp(_)
            | Self::Stale(_)
            | Self::Plaintext
            | Self::NoKey
            | Self::ReplayedQuery
            | Self::BadEcho
            | Self::ReflectedAnswer
            | Self::WrongReceiveId(_)
            | Self::WrongSdkAppId => RefusalKind::Forbidden,
            Self::RepeatedParameter(_)
            | Self::BadQuery
            | Self::Undecryptable(_)
            | Self::BadEnvelope
            | Self::NotUtf8
            | Self::NotXmlOrJson
            | Self::Payload(_) => RefusalKind::Malformed,
        }
    }

    /// The code that the platform's own sample libraries give this fault, where they have one.
    pub const fn wechat_code(&self) -> Option<i32> {
        match self {
            Self::WrongSignature(_) => Some(-40001),
            Self::BadEnvelope | Self::Payload(_) | Self::NotXmlOrJson => Some(-40002),
            Self::NoKey => Some(-40004),
            Self::WrongReceiveId(_) => Some(-40005),
            Self::Undecryptable(crate::crypto::OpenError::Base64) => Some(-40010),
            Self::Undecryptable(crate::crypto::OpenError::Blocks) => Some(-40007),
            Self::Undecryptable(_) => Some(-40008),
            _ => None,
        }
    }
}
