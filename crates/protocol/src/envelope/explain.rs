//! Verification step by step, for `explain`: names the first step that fails and its likely cause.

use super::{
    Keys, Query, ReceiveIds, Refusal, answer,
    keys::{Expected, signed_parts},
    open::{is_short_number, lossy, opened_form, text},
};
use crate::{
    payload::{self, Form},
    platform::{Members, UrlCheck},
};

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It passed.
    Passed,
    /// The first fault.
    Failed,
}

/// One step of the verification of a captured request. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was checked.
    pub name: &'static str,
    /// The result.
    pub result: StepResult,
    /// What was found; for a failure, the likely cause and what to do.
    pub detail: String,
}

/// A captured request; without a body it is a GET.
struct Captured<'c> {
    query: &'c Query<'c>,
    body: Option<&'c [u8]>,
    now: i64,
}

impl Keys {
    /// Walks through the verification of a captured request, up to the first fault. A GET has no `body`. Freshness
    /// is reported and does not end the walk: a captured request is old.
    pub fn explain(&self, query: &Query<'_>, body: Option<&[u8]>, now: i64) -> Vec<Step> {
        let captured = Captured { query, body, now };
        let mut steps = Vec::new();
        if let Err(failed) = self.walk(&captured, &mut steps) {
            steps.push(failed);
        }
        steps
    }

    fn walk(&self, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<(), Step> {
        self.walk_request(captured, steps).map_err(|mut fault| {
            // Its parameters are not found, which shows in another place for each platform.
            if let Some(cause) = captured.query.cause() {
                fault.detail = format!("{}; {cause}", fault.detail);
            }
            fault
        })
    }

    fn walk_request(&self, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<(), Step> {
        let is_clear = match (captured.body, self.rules().url_check) {
            (None, UrlCheck::Clear) => true,
            (None, UrlCheck::Encrypted) => false,
            (body, _) => {
                let expected = self.expected(captured.query).map_err(|refusal| {
                    failed("body", &refusal, "the console encrypts: set `aes_key`, and mode = \"safe\" or \"compat\"")
                })?;
                match expected {
                    Expected::SignedTime => return self.walk_signed_time(captured, steps),
                    Expected::Clear => true,
                    Expected::Either => body.is_none_or(|body| !self.is_encrypted(body)),
                    Expected::Encrypted => false,
                }
            }
        };
        if is_clear {
            return self.walk_plain(captured, steps);
        }
        let sealed = self.walk_body(captured, steps)?;
        self.walk_signature(captured, "msg_signature", Some(&sealed), steps)?;
        self.walk_age(captured, "timestamp", steps)?;
        self.walk_decryption(&sealed, captured, steps)
    }

    fn walk_plain(&self, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<(), Step> {
        self.walk_signature(captured, "signature", None, steps)?;
        self.walk_age(captured, "timestamp", steps)?;
        match captured.body {
            None => {
                let echo = captured.query.require("echostr").map_err(|refusal| failed("echostr", &refusal, ""))?;
                steps.push(passed("echostr", format!("{} characters, sent back as they are", echo.len())));
                Ok(())
            }
            Some(body) => {
                let text = lossy(body);
                let (text, form) = opened_form(&text);
                walk_payload(form, text, steps);
                Ok(())
            }
        }
    }

    /// The cipher text: `echostr` of a GET, `Encrypt` of a body.
    fn walk_body(&self, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<String, Step> {
        let Some(body) = captured.body else {
            let sealed = captured.query.require("echostr").map_err(|refusal| failed("echostr", &refusal, ""))?;
            if sealed.contains(' ') {
                return Err(Step {
                    name: "echostr",
                    result: StepResult::Failed,
                    detail: "it contains spaces: something in front decoded `+` as a space, which breaks Base64"
                        .to_owned(),
                });
            }
            steps.push(passed("echostr", format!("{} characters", sealed.len())));
            return Ok(sealed.to_owned());
        };
        let (text, form) = text(body).map_err(|refusal| failed("body", &refusal, ""))?;
        let plain_mode = || {
            const HINT: &str =
                "the console is set to plain mode (明文模式); set it to safe mode, or write mode = \"plain\"";
            failed("body", &Refusal::Plaintext, HINT)
        };
        let outer = self.envelope(form, text).map_err(|refusal| match refusal {
            Refusal::Plaintext => plain_mode(),
            refusal @ Refusal::Payload(_) => failed("body", &refusal, "is the file complete?"),
            refusal => failed("body", &refusal, ""),
        })?;
        let (sealed, members) = self.sealed_text(&outer).map_err(|refusal| match refusal {
            Refusal::Plaintext => plain_mode(),
            refusal => failed("body", &refusal, ""),
        })?;
        let usual = if self.is_unusual(form, members) { ", which is not how this platform sends it" } else { "" };
        steps.push(passed("body", format!("{} with `{}`{usual}", form_name(form), members.encrypted)));
        Ok(sealed.to_owned())
    }

    /// Whether a document looks as those of another product of the same platform do.
    fn is_unusual(&self, form: Form, members: &Members) -> bool {
        let is_usual = self.members().is_some_and(|usual| usual == members);
        self.rules().answers_in.is_some_and(|usual| usual != form) || !(is_usual || form == Form::Json)
    }

    /// Whose request it may be, by the look of its document.
    fn product_hint(&self, captured: &Captured<'_>) -> &'static str {
        const OF_APPLICATION: &str = "; XML is what applications send: this URL may be entered at an application";
        const OF_BOT: &str = "; `encrypt` in JSON is what AI bots send: this URL may be entered at a bot";
        let Some(Ok((text, form))) = captured.body.map(text) else { return "" };
        let Ok(outer) = self.envelope(form, text) else { return "" };
        match (self.sealed_text(&outer), self.rules().answers_in) {
            (Ok(_), Some(Form::Json)) if form == Form::Xml => OF_APPLICATION,
            (Ok((_, members)), None) if form == Form::Json && Some(members) != self.members() => OF_BOT,
            _ => "",
        }
    }

    fn walk_signature(
        &self,
        captured: &Captured<'_>,
        name: &'static str,
        sealed: Option<&str>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Step> {
        let query = captured.query;
        let required = |name| query.require(name).map_err(|refusal| failed("signature", &refusal, ""));
        let given = required(name)?;
        let (time, nonce) = signed_parts(query).map_err(|refusal| {
            let hint = match refusal {
                Refusal::BadNonce => "somebody has moved a cipher text into it, which leaves the signature as it was",
                _ => "",
            };
            failed("signature", &refusal, hint)
        })?;
        match self.signed_by(given, time, nonce, sealed) {
            Some(token) => {
                let which = if token == 0 { "`token`" } else { "`token_previous`" };
                steps.push(passed("signature", format!("`{name}` was made with {which}")));
                Ok(())
            }
            None => {
                let hint = format!("{}{}", self.signature_hint(query, name, sealed), self.product_hint(captured));
                Err(failed("signature", &Refusal::WrongSignature(name), &hint))
            }
        }
    }

    /// A signature of the other kind that does match shows that the token is right.
    fn signature_hint(&self, query: &Query<'_>, name: &str, sealed: Option<&str>) -> &'static str {
        let (Some(time), Some(nonce)) = (query.get("timestamp"), query.get("nonce")) else { return "" };
        let is_encoded_again = sealed.is_some_and(|sealed| {
            let decoded = percent_encoding::percent_decode_str(sealed).decode_utf8_lossy();
            decoded != sealed
                && query.get(name).is_some_and(|given| self.signed_by(given, time, nonce, Some(&decoded)).is_some())
        });
        if is_encoded_again {
            return "it matches once the query is decoded again: something in front encodes it twice";
        }
        let swapped = sealed.is_some_and(|sealed| {
            let decoded = sealed.replace(' ', "+");
            query.get(name).is_some_and(|given| self.signed_by(given, time, nonce, Some(&decoded)).is_some())
        });
        if swapped {
            return "it matches once spaces are `+` again: something in front decodes the query as a form";
        }
        let upper = query.get(name).is_some_and(|given| {
            let given = given.to_ascii_lowercase();
            self.signed_by(&given, time, nonce, sealed).is_some()
        });
        if upper {
            return "it matches in lower case, which is how the platform writes it: something in front changed it";
        }
        let token_is_right =
            query.get("signature").is_some_and(|given| self.signed_by(given, time, nonce, None).is_some());
        if name == "msg_signature" && token_is_right {
            return "the token is right (`signature` matches), so the body is not the one that was signed";
        }
        "the token of the console differs from the configured one, or query and body are of different requests"
    }

    fn walk_age(&self, captured: &Captured<'_>, name: &'static str, steps: &mut Vec<Step>) -> Result<(), Step> {
        let time = captured.query.require(name).map_err(|refusal| failed("freshness", &refusal, ""))?;
        match self.check_age(name, time, captured.now) {
            Ok(()) => {
                steps.push(passed("freshness", "within `max_age`".to_owned()));
                Ok(())
            }
            Err(Refusal::Stale(age)) => {
                let found = if age >= 0 { format!("{age} s old") } else { format!("{} s in the future", -age) };
                let limit = self.max_age.map_or(0, |age| age.as_secs());
                let text = format!(
                    "{found}, limit {limit} s: normal for a captured request; had it just arrived, this clock would be wrong"
                );
                steps.push(passed("freshness", text));
                Ok(())
            }
            Err(refusal) => Err(failed("freshness", &refusal, "")),
        }
    }

    fn walk_decryption(&self, sealed: &str, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<(), Step> {
        let opened: Vec<_> = self.aes_keys.iter().map(|key| key.open(sealed)).collect();
        let right = opened.iter().position(|opened| opened.as_ref().is_ok_and(|it| looks_like_payload(it.message())));
        let Some(at) = right.or_else(|| opened.iter().position(Result::is_ok)) else {
            let error = opened.into_iter().find_map(Result::err);
            let refusal = error.map_or(Refusal::NoKey, Refusal::Undecryptable);
            return Err(failed(
                "decryption",
                &refusal,
                "the signature is right, so the EncodingAESKey of the console differs from `aes_key`",
            ));
        };
        let which = if at == 0 { "`aes_key`" } else { "`aes_key_previous`" };
        steps.push(passed("decryption", format!("opened with {which}")));
        let Some(Ok(opened)) = opened.into_iter().nth(at) else { return Ok(()) };
        if answer::is_marked(opened.random()) {
            let hint = "somebody has captured an answer and sent it to this address, or a proxy mirrors answers";
            return Err(failed("origin", &Refusal::ReflectedAnswer, hint));
        }
        self.check_receive_id(opened.receive_id()).map_err(|refusal| {
            failed(
                "receive id",
                &refusal,
                &format!(
                    "{}; configured: {}{}",
                    whose(opened.receive_id()),
                    self.wanted_ids(),
                    self.product_hint(captured)
                ),
            )
        })?;
        steps.push(passed("receive id", format!("`{}`", opened.receive_id())));
        if captured.body.is_some() {
            let (text, form) = opened_form(opened.message());
            walk_payload(form, text, steps);
            return Ok(());
        }
        if !is_short_number(opened.message()) {
            let hint = "a console sends a number; somebody has captured a message and wants it decrypted";
            return Err(failed("answer", &Refusal::BadEcho, hint));
        }
        steps.push(passed("answer", format!("{} digits, sent back decrypted", opened.message().len())));
        Ok(())
    }

    fn wanted_ids(&self) -> String {
        match &self.receive_ids {
            ReceiveIds::Any => "any".to_owned(),
            ReceiveIds::OneOf(ids) => ids.join(", "),
        }
    }

    fn walk_signed_time(&self, captured: &Captured<'_>, steps: &mut Vec<Step>) -> Result<(), Step> {
        let query = captured.query;
        if self.tokens.is_empty() {
            steps.push(passed("signature", "not checked: the account has no `token`, so anybody can post".to_owned()));
        } else {
            let required = |name| {
                query.require(name).map_err(|refusal| {
                    failed("signature", &refusal, "is callback authentication (回调鉴权) on in the console?")
                })
            };
            let (given, time) = (required("Sign")?, required("RequestTime")?);
            if self.im_signed_by(given, time).is_none() {
                let hint = "the token of the console differs from the configured one";
                return Err(failed("signature", &Refusal::WrongSignature("Sign"), hint));
            }
            steps.push(passed("signature", "`Sign` matches".to_owned()));
            self.walk_age(captured, "RequestTime", steps)?;
        }
        self.check_sdk_app_id(query).map_err(|refusal| {
            failed("application", &refusal, "the callback URL is entered for another application of the console")
        })?;
        steps.push(passed("application", "`SdkAppid` is the account's".to_owned()));
        walk_payload(Form::Json, opened_form(&lossy(captured.body.unwrap_or_default())).0, steps);
        Ok(())
    }
}

/// A payload is never refused: the sender is authentic.
fn walk_payload(form: Form, text: &str, steps: &mut Vec<Step>) {
    let repaired = payload::parse(form, text).err().and_then(|_| payload::repair(form, text));
    let found = match payload::parse(form, repaired.as_deref().unwrap_or(text)) {
        Ok(_) => format!("{}, {} bytes", form_name(form), text.len()),
        Err(error) => format!("{error}: it is acknowledged all the same, and kept as an event of unknown type"),
    };
    steps.push(passed("payload", found));
}

fn looks_like_payload(text: &str) -> bool {
    text.trim_start().starts_with(['<', '{']) || text.bytes().all(|byte| byte.is_ascii_graphic())
}

const fn form_name(form: Form) -> &'static str {
    match form {
        Form::Xml => "XML",
        Form::Json => "JSON",
    }
}

/// What kind of id it is, by its looks.
fn whose(id: &str) -> &'static str {
    match id {
        "" => "it is empty, as for an AI bot or an app of an individual developer",
        id if id.starts_with("wx") && id.len() == 18 => "it looks like an AppID or an old CorpID (wx…)",
        id if id.starts_with("ww") && id.len() == 18 => "it looks like a CorpID or a SuiteID (ww…)",
        id if id.starts_with("tj") || id.starts_with("dk") => "it looks like a SuiteID of a provider-built app",
        _ => "it looks like no id of the platform; the key may be another account's",
    }
}

fn passed(name: &'static str, detail: String) -> Step {
    Step { name, result: StepResult::Passed, detail }
}

fn failed(name: &'static str, refusal: &Refusal, hint: &str) -> Step {
    let code = refusal.wechat_code().map_or(String::new(), |code| format!(" ({code})"));
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    Step { name, result: StepResult::Failed, detail: format!("{refusal}{code}{hint}") }
}
