//! The platform's side: signs and seals requests, opens replies. For `simulate` and `demo`.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Keys, Mode, Query, ReceiveIds, Refusal, SealError, keys::signature, open::text};
use crate::{
    crypto::{hex, im_sign},
    payload::{self, Form, Object, Value},
    platform::{Members, Scheme, UrlCheck},
};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Plays a platform towards the account that has the same keys.
#[derive(Clone, Debug)]
pub struct Sender<'k>(&'k Keys);

/// A request as the platform would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The part of the URL behind `?`.
    pub query: String,
    /// The body; empty for a GET.
    pub body: String,
}

impl<'k> Sender<'k> {
    /// Plays the platform of these keys.
    pub const fn new(keys: &'k Keys) -> Self {
        Self(keys)
    }

    /// The GET that checks a URL; `None` where there is none.
    ///
    /// # Errors
    /// When the echo cannot be sealed.
    pub fn url_check(&self, echo: &str, now: i64, nonce: &str, random: [u8; 16]) -> Result<Option<Request>, SealError> {
        let time = now.to_string();
        let mut query = String::new();
        match self.0.rules().url_check {
            UrlCheck::Absent => return Ok(None),
            UrlCheck::Clear => {
                append(&mut query, "signature", &self.sign(&time, nonce, None));
                append(&mut query, "echostr", echo);
            }
            UrlCheck::Encrypted => {
                let Some(sealed) = self.encrypt(echo, random)? else { return Ok(None) };
                append(&mut query, "msg_signature", &self.sign(&time, nonce, Some(&sealed)));
                append(&mut query, "echostr", &sealed);
            }
        }
        append(&mut query, "timestamp", &time);
        append(&mut query, "nonce", nonce);
        Ok(Some(Request { query, body: String::new() }))
    }

    /// The POST that carries a payload. `command` is IM's `CallbackCommand`.
    ///
    /// # Errors
    /// When the payload cannot be sealed.
    pub fn deliver(
        &self,
        payload: &str,
        form: Form,
        command: Option<&str>,
        now: i64,
        nonce: &str,
        random: [u8; 16],
    ) -> Result<Request, SealError> {
        let data = |name: &str| match name {
            "CallbackCommand" => command.map(str::to_owned),
            "ClientIP" => Some("203.0.113.7".to_owned()),
            "OptPlatform" => Some("RESTAPI".to_owned()),
            _ => None,
        };
        self.request(payload, form, &data, now, nonce, random)
    }

    /// The POST that carries an event once more, with the data that its query had.
    ///
    /// # Errors
    /// When the payload cannot be sealed.
    pub fn deliver_stored(
        &self,
        payload: &str,
        form: Form,
        data: &Query<'_>,
        now: i64,
        nonce: &str,
        random: [u8; 16],
    ) -> Result<Request, SealError> {
        self.request(payload, form, &|name| data.get(name).map(str::to_owned), now, nonce, random)
    }

    /// The POST that carries a payload; `data` has the parameters of the query that are data of the event.
    fn request(
        &self,
        payload: &str,
        form: Form,
        data: &dyn Fn(&str) -> Option<String>,
        now: i64,
        nonce: &str,
        random: [u8; 16],
    ) -> Result<Request, SealError> {
        let time = now.to_string();
        let mut query = String::new();
        if self.0.rules().scheme == Scheme::SignedTime {
            append(&mut query, "SdkAppid", &self.0.sdk_app_id.unwrap_or_default().to_string());
            append(&mut query, "CallbackCommand", &data("CallbackCommand").unwrap_or_default());
            append(&mut query, "contenttype", "json");
            for name in ["ClientIP", "OptPlatform", "RequestID"] {
                data(name).into_iter().for_each(|value| append(&mut query, name, &value));
            }
            if let Some(token) = self.0.tokens.first() {
                append(&mut query, "Sign", &hex(&im_sign(token.expose().as_bytes(), time.as_bytes())));
                append(&mut query, "RequestTime", &time);
            }
            return Ok(Request { query, body: payload.to_owned() });
        }
        append(&mut query, "timestamp", &time);
        append(&mut query, "nonce", nonce);
        if self.0.has_modes() {
            append(&mut query, "signature", &self.sign(&time, nonce, None));
        }
        let sealed = if self.0.mode == Mode::Plain { None } else { self.encrypt(payload, random)? };
        let Some(sealed) = sealed else { return Ok(Request { query, body: payload.to_owned() }) };
        if self.0.has_modes() {
            append(&mut query, "encrypt_type", "aes");
        }
        append(&mut query, "msg_signature", &self.sign(&time, nonce, Some(&sealed)));
        let rules = self.0.rules();
        let mut document = Object::with_capacity(2);
        if let Some(members) = self.0.members() {
            if let Some(name) = members.receiver {
                document.push(name, Value::Text(self.receive_id().into()));
            }
            document.push(members.encrypted, Value::Text(sealed.into()));
        }
        let body = match rules.answers_in.unwrap_or(form) {
            Form::Json => payload::write_json(&document),
            Form::Xml => payload::write_xml(&document),
        };
        Ok(Request { query, body })
    }

    /// Opens what a request was answered with: checks signature and receive id, as the platform does.
    ///
    /// # Errors
    /// [`Refusal`] when the platform would not take the reply.
    pub fn open_reply(&self, body: &str) -> Result<String, Refusal> {
        let (_, form) = text(body.as_bytes())?;
        let outer = payload::parse(form, body)?;
        let Members { encrypted, signature, time, nonce, .. } = self.0.members().ok_or(Refusal::BadEnvelope)?;
        let value = |name: &str| match outer.as_object().and_then(|object| object.get(name)) {
            Some(Value::Text(text)) => Ok(text.to_string()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(Refusal::BadEnvelope),
        };
        let sealed = value(encrypted)?;
        let signed = self.0.signed_by(&value(signature)?, &value(time)?, &value(nonce)?, Some(&sealed));
        signed.ok_or(Refusal::WrongSignature("MsgSignature"))?;
        let mut refusal = Refusal::NoKey;
        for key in &self.0.aes_keys {
            match key.open(&sealed) {
                Ok(opened) => {
                    self.0.check_receive_id(opened.receive_id())?;
                    return Ok(opened.into_message());
                }
                Err(error) => refusal = Refusal::Undecryptable(error),
            }
        }
        Err(refusal)
    }

    /// Nothing without a key.
    fn encrypt(&self, text: &str, random: [u8; 16]) -> Result<Option<String>, SealError> {
        let key = self.0.aes_keys.first();
        Ok(key.map(|key| key.seal(random, text, &self.receive_id())).transpose()?)
    }

    fn receive_id(&self) -> String {
        match &self.0.receive_ids {
            ReceiveIds::OneOf(ids) => ids.first().cloned().unwrap_or_default(),
            ReceiveIds::Any => String::new(),
        }
    }

    fn sign(&self, time: &str, nonce: &str, sealed: Option<&str>) -> String {
        let token = self.0.tokens.first().map(|token| token.expose().as_bytes()).unwrap_or_default();
        hex(&signature(token, time, nonce, sealed))
    }
}

fn append(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    let _ = write!(query, "{name}={}", utf8_percent_encode(value, QUERY));
}
