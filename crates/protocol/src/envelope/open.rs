//! Opening: signature, freshness, decryption, receive id, in this order; nothing is read as an event before.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use memchr::memmem;

use super::{
    Keys, Query, Refusal, SealError, answer,
    keys::{Expected, signature, signed_parts},
    replay::PlainSignature,
};
use crate::{
    crypto::{Opened, hex, parse_hex},
    payload::{self, Form, PayloadError, Value},
    platform::{Members, Scheme, UrlCheck},
};

/// An opened request. Only [`Keys::open`] and [`Keys::open_pushed`] make one.
#[derive(Clone, Debug)]
pub struct Verified {
    payload: Arc<str>,
    form: Form,
    seal: Option<Seal>,
    signed: Option<PlainSignature>,
}

/// How a reply to an encrypted request is sealed: with what opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    token: usize,
    key: usize,
    receive_id: String,
    form: Form,
    /// Those that the request had.
    members: &'static Members,
}

impl Verified {
    /// The payload, UTF-8 without a byte-order mark.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Syntax of the payload.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How to seal the reply; `None` when the request was plain.
    pub const fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// The signature that covers no body, of a plain request of WeChat.
    pub(super) const fn signed(&self) -> Option<PlainSignature> {
        self.signed
    }

    /// The payload and how to seal the reply.
    pub fn into_parts(self) -> (Arc<str>, Form, Option<Seal>) {
        (self.payload, self.form, self.seal)
    }
}

impl Keys {
    /// Opens a POST.
    ///
    /// # Errors
    /// [`Refusal`] of the first check that fails.
    pub fn open(&self, query: &Query<'_>, body: &[u8], now: i64) -> Result<Verified, Refusal> {
        match self.expected(query)? {
            Expected::SignedTime => self.open_signed_time(query, body, now),
            Expected::Clear => self.open_clear(query, body, now),
            Expected::Either => {
                // Before the body is parsed: anybody can send one.
                self.check_plain_signature(query, now)?;
                // An encrypted body stays one when somebody has taken the signs of it out of the query.
                if self.is_encrypted(body) {
                    self.open_encrypted(query, body, now)
                } else {
                    self.open_clear(query, body, now)
                }
            }
            Expected::Encrypted => self.open_encrypted(query, body, now),
        }
    }

    /// Opens what the platform pushes over a connection that the account has made to it: TLS names the platform, and the
    /// platform has checked the account's secret, so that bodies are neither signed nor encrypted.
    ///
    /// # Errors
    /// [`Refusal::Plaintext`] for an account that receives requests: it has a token, and everything for it is signed.
    pub fn open_pushed(&self, body: &str) -> Result<Verified, Refusal> {
        if self.platform.protocol().account().websocket.is_none() || !self.tokens.is_empty() {
            return Err(Refusal::Plaintext);
        }
        let (payload, form) = opened_form(body);
        Ok(Verified { payload: payload.into(), form, seal: None, signed: None })
    }

    /// Whether the platform checks the URL with a GET.
    pub fn has_url_check(&self) -> bool {
        self.rules().url_check != UrlCheck::Absent
    }

    /// Answers a GET, which checks the URL: the text to send back.
    ///
    /// # Errors
    /// [`Refusal`] of the first check that fails.
    pub fn verify_url(&self, query: &Query<'_>, now: i64) -> Result<String, Refusal> {
        match self.rules().url_check {
            UrlCheck::Absent => Err(Refusal::BadQuery),
            UrlCheck::Clear => {
                self.check_plain_signature(query, now)?;
                let echo = query.require("echostr")?;
                if is_harmless(echo) { Ok(echo.to_owned()) } else { Err(Refusal::BadQuery) }
            }
            UrlCheck::Encrypted => {
                let (opened, ..) = self.open_sealed(query, query.require("echostr")?, now)?;
                // What a captured request carries opens here, too: nothing but what a console sends is given back.
                if is_short_number(opened.message()) { Ok(opened.into_message()) } else { Err(Refusal::BadEcho) }
            }
        }
    }

    /// Whether an unsigned body is the probe with which cloud hosting (云托管) checks that a path exists. It carries nothing.
    pub fn is_path_probe(&self, body: &[u8]) -> bool {
        const PROBE: &str = "CheckContainerPath";
        const LONGEST: usize = 256;
        if self.rules().scheme != Scheme::ByMode || body.len() > LONGEST {
            return false;
        }
        let Ok(text) = std::str::from_utf8(body) else { return false };
        let text = text.trim();
        let form = if text.starts_with('<') { Form::Xml } else { Form::Json };
        let names_it = |tree: &Value<'_>| tree.as_object().is_some_and(|object| object.text("action") == Some(PROBE));
        text == PROBE || payload::parse(form, text).is_ok_and(|tree| names_it(&tree))
    }

    /// Seals the reply to a request with what opened it, so that it is [known](Refusal::ReflectedAnswer) when it is sent
    /// back as a request.
    ///
    /// # Errors
    /// [`SealError`] when it cannot be sealed.
    pub fn answer(
        &self,
        seal: &Seal,
        reply: &str,
        now: i64,
        nonce: &str,
        random: [u8; 16],
    ) -> Result<String, SealError> {
        self.seal(seal, reply, now, nonce, answer::mark(random))
    }

    /// Seals a reply with what opened the request, with these random bytes as they are; [`Keys::answer`] marks them.
    ///
    /// # Errors
    /// [`SealError`] when it cannot be sealed.
    pub fn seal(&self, seal: &Seal, reply: &str, now: i64, nonce: &str, random: [u8; 16]) -> Result<String, SealError> {
        let (Some(key), Some(token)) = (self.aes_keys.get(seal.key), self.tokens.get(seal.token)) else {
            return Err(SealError::OtherKeys);
        };
        let encrypted = key.seal(random, reply, &seal.receive_id)?;
        let time = now.to_string();
        let signature = hex(&signature(token.expose().as_bytes(), &time, nonce, Some(&encrypted)));
        let Members { encrypted: of_text, signature: of_signature, time: of_time, nonce: of_nonce, .. } = seal.members;
        let mut sealed = String::with_capacity(encrypted.len() + nonce.len() + 256);
        // Writing to a string cannot fail.
        let _ = match seal.form {
            Form::Json => write!(
                sealed,
                r#"{{"{of_text}":"{encrypted}","{of_signature}":"{signature}","{of_time}":{time},"{of_nonce}":"{nonce}"}}"#
            ),
            Form::Xml => write!(
                sealed,
                "<xml><{of_text}><![CDATA[{encrypted}]]></{of_text}>\
                 <{of_signature}><![CDATA[{signature}]]></{of_signature}>\
                 <{of_time}>{time}</{of_time}><{of_nonce}><![CDATA[{nonce}]]></{of_nonce}></xml>"
            ),
        };
        Ok(sealed)
    }

    /// The three-part signature; covers no body.
    pub(super) fn check_plain_signature(&self, query: &Query<'_>, now: i64) -> Result<PlainSignature, Refusal> {
        let given = query.require("signature")?;
        let (time, nonce) = signed_parts(query)?;
        let token = self.signed_by(given, time, nonce, None).ok_or(Refusal::WrongSignature("signature"))?;
        self.check_age("timestamp", time, now)?;
        let digest = parse_hex(given).ok_or(Refusal::WrongSignature("signature"))?;
        Ok(PlainSignature { token, digest })
    }

    /// The three-part signature of a request that was checked by another one, if it is right.
    pub(super) fn plain_signature(&self, query: &Query<'_>) -> Option<PlainSignature> {
        let given = query.get("signature")?;
        let (time, nonce) = signed_parts(query).ok()?;
        let token = self.signed_by(given, time, nonce, None)?;
        Some(PlainSignature { token, digest: parse_hex(given)? })
    }

    /// Whether a body has the element of an encrypted one. Mostly it has not even the word, and need not be read for it; in
    /// JSON the word may be escaped.
    pub(super) fn is_encrypted(&self, body: &[u8]) -> bool {
        let mut names = self.rules().members.iter().map(|members| members.encrypted);
        let has_word = |name: &str| memmem::find(body, name.as_bytes()).is_some();
        if !names.clone().any(has_word) && !has_word("\\u") {
            return false;
        }
        let tree = text(body).ok().and_then(|(text, form)| payload::parse(form, text).ok());
        let object = tree.as_ref().and_then(Value::as_object);
        object.is_some_and(|object| names.any(|name| object.get(name).is_some()))
    }

    fn open_clear(&self, query: &Query<'_>, body: &[u8], now: i64) -> Result<Verified, Refusal> {
        let signed = self.check_plain_signature(query, now)?;
        let text = lossy(body);
        let (payload, form) = opened_form(&text);
        Ok(Verified { payload: payload.into(), form, seal: None, signed: Some(signed) })
    }

    fn open_encrypted(&self, query: &Query<'_>, body: &[u8], now: i64) -> Result<Verified, Refusal> {
        let (outer, outer_form) = text(body)?;
        let outer = self.envelope(outer_form, outer)?;
        let (sealed, members) = self.sealed_text(&outer)?;
        let (opened, token, key) = self.open_sealed(query, sealed, now)?;
        let receive_id = opened.receive_id().to_owned();
        let (payload, form) = opened_form(opened.message());
        let form_of_answers = self.rules().answers_in.unwrap_or(outer_form);
        let seal = Some(Seal { token, key, receive_id, form: form_of_answers, members });
        Ok(Verified { payload: payload.into(), form, seal, signed: None })
    }

    /// The document that a cipher text comes in. It is read before its signature can be checked, so no more of it is read
    /// than an envelope has.
    pub(super) fn envelope<'b>(&self, form: Form, text: &'b str) -> Result<Value<'b>, Refusal> {
        payload::parse_envelope(form, text).map_err(|error| match error {
            PayloadError::TooMany(_) => self.no_cipher_text(),
            error => error.into(),
        })
    }

    /// The names that are usual in the document around a cipher text.
    pub(super) fn members(&self) -> Option<&'static Members> {
        self.rules().members.first()
    }

    /// What a document is refused with that holds no cipher text: to some a platform may have sent it in clear text.
    fn no_cipher_text(&self) -> Refusal {
        if self.has_modes() { Refusal::Plaintext } else { Refusal::BadEnvelope }
    }

    /// The cipher text of an encrypted body, and the names that its document uses.
    pub(super) fn sealed_text<'o>(&self, outer: &'o Value<'_>) -> Result<(&'o str, &'static Members), Refusal> {
        let Some(object) = outer.as_object() else { return Err(Refusal::BadEnvelope) };
        let mut all = object.iter().filter_map(|(name, value)| {
            let members = self.rules().members.iter().find(|members| members.encrypted == name)?;
            Some((value, members))
        });
        match (all.next(), all.next()) {
            (Some((Value::Text(text), members)), None) => Ok((text.as_ref(), members)),
            (None, _) => Err(self.no_cipher_text()),
            _ => Err(Refusal::BadEnvelope),
        }
    }

    /// Checks the four-part signature, then opens with whichever key fits.
    fn open_sealed(&self, query: &Query<'_>, sealed: &str, now: i64) -> Result<(Opened, usize, usize), Refusal> {
        let given = query.require("msg_signature")?;
        let (time, nonce) = signed_parts(query)?;
        let token = self.signed_by(given, time, nonce, Some(sealed)).ok_or(Refusal::WrongSignature("msg_signature"))?;
        self.check_age("timestamp", time, now)?;
        let mut refusal = Refusal::NoKey;
        for (at, key) in self.aes_keys.iter().enumerate() {
            // A wrong key shows in the padding, but for one in 256 times; then in what it uncovers.
            match key.open(sealed).map_err(Refusal::Undecryptable) {
                Ok(opened) if answer::is_marked(opened.random()) => return Err(Refusal::ReflectedAnswer),
                Ok(opened) => match self.check_receive_id(opened.receive_id()) {
                    Ok(()) => return Ok((opened, token, at)),
                    Err(wrong) => refusal = wrong,
                },
                Err(error) if at == 0 => refusal = error,
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    fn open_signed_time(&self, query: &Query<'_>, body: &[u8], now: i64) -> Result<Verified, Refusal> {
        self.check_signed_time(query, now)?;
        let payload = lossy(body);
        // Whatever it is: the platform takes a refusal for a permission.
        let payload = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&payload);
        Ok(Verified { payload: payload.into(), form: Form::Json, seal: None, signed: None })
    }
}

/// What consoles send as `echostr`: ASCII digits and nothing else, and not many.
pub(super) fn is_short_number(text: &str) -> bool {
    const MAX_DIGITS: usize = 32;
    (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an `echostr` that no signature covers may be returned: nothing that a browser could take for more than text.
fn is_harmless(echo: &str) -> bool {
    const MAX_ECHO: usize = 1024;
    let harmless = |byte: u8| byte.is_ascii_graphic() && !b"<>&\"'".contains(&byte);
    echo.len() <= MAX_ECHO && echo.bytes().all(harmless)
}

const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// The body as text without a byte-order mark, and the syntax its first character shows; headers are not trusted.
pub(super) fn text(body: &[u8]) -> Result<(&str, Form), Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::NotUtf8)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    form(text).map(|form| (text, form)).ok_or(Refusal::NotXmlOrJson)
}

fn form(text: &str) -> Option<Form> {
    match text.bytes().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<') => Some(Form::Xml),
        Some(b'{') => Some(Form::Json),
        _ => None,
    }
}

/// An authentic body as text: it is never refused for what it says, so what is not UTF-8 is replaced.
pub(super) fn lossy(body: &[u8]) -> Cow<'_, str> {
    // Hardly any has something to replace, which is told faster than looked for.
    std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed)
}

/// An opened payload without a byte-order mark, and its syntax. One that has none is no JSON object either, and is found to be
/// unreadable when it is parsed.
pub(super) fn opened_form(text: &str) -> (&str, Form) {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    (text, form(text).unwrap_or(Form::Json))
}
