//! Verification step by step, for `explain`: names the first step that fails and its likely cause.

use super::{
    Keys, Query, ReceiveIds, Refusal,
    age::{Age, duration_in_words},
    answer,
    keys::{Expected, signed_parts},
    open::{is_short_number, lossy, opened_form, text},
};
use crate::{
    payload::{self, Form},
    platform::{Members, Scheme, UrlCheck},
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

/// Another account that a request may be of.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'n> {
    /// As in `mp/shop`.
    pub id: &'n str,
    /// What its requests are checked with.
    pub keys: &'n Keys,
}

impl Keys {
    /// The same as [`Keys::explain`]; a fault names the accounts among these whose token or key fits the request.
    pub fn explain_among<'n>(
        &self,
        query: &Query<'_>,
        body: Option<&[u8]>,
        now: i64,
        others: impl Iterator<Item = Neighbour<'n>>,
    ) -> Vec<Step> {
        /// So many are named.
        const MAX_NAMED: usize = 3;
        let mut steps = self.explain(query, body, now);
        let is_fault = |step: &&mut Step| step.result == StepResult::Failed && step.name != FRESHNESS;
        let Some(fault) = steps.last_mut().filter(is_fault) else { return steps };
        let captured = Captured { query, body, now };
        let (mut tokens, mut keys) = (Vec::new(), Vec::new());
        for Neighbour { id, keys: other } in others {
            let sealed = other.captured_text(&captured);
            if fault.name != "decryption" && other.signs(query, sealed.as_deref()) {
                tokens.push(id);
            }
            if sealed.is_some_and(|sealed| other.opens(&sealed)) {
                keys.push(id);
            }
        }
        for (what, ids) in [("the signature fits the token of", tokens), ("it opens with the AES key of", keys)] {
            if !ids.is_empty() {
                let more = if ids.len() > MAX_NAMED { " and others" } else { "" };
                let named = ids.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
                fault.detail = format!("{}; {what} {named}{more}", fault.detail);
            }
        }
        steps
    }

    /// The cipher text of a request, if it has one.
    fn captured_text(&self, captured: &Captured<'_>) -> Option<String> {
        let Some(body) = captured.body else { return captured.query.get("echostr").map(str::to_owned) };
        let (text, form) = text(body).ok()?;
        let outer = self.envelope(form, text).ok()?;
        self.sealed_text(&outer).ok().map(|(sealed, _)| sealed.to_owned())
    }

    /// Whether one of the tokens signed a request.
    fn signs(&self, query: &Query<'_>, sealed: Option<&str>) -> bool {
        let is_of = |name: &str, sealed: Option<&str>| {
            let (Some(given), Ok((time, nonce))) = (query.get(name), signed_parts(query)) else { return false };
            self.signed_by(given, time, nonce, sealed).is_some()
        };
        let signed_time = || query.get("Sign").zip(query.get("RequestTime"));
        match self.rules().scheme {
            Scheme::SignedTime => signed_time().is_some_and(|(given, time)| self.im_signed_by(given, time).is_some()),
            _ => sealed.is_some_and(|sealed| is_of("msg_signature", Some(sealed))) || is_of("signature", None),
        }
    }

    /// Whether one of the keys opens a cipher text.
    fn opens(&self, sealed: &str) -> bool {
        self.aes_keys.iter().any(|key| key.open(sealed).is_ok_and(|opened| looks_like_payload(opened.message())))
    }

    /// Walks through the verification of a captured request, up to the first fault. A GET has no `body`. A request that is
    /// too old is a fault that does not end the walk: a captured request is old.
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
        let is_signed_again = |again: &Query<'_>| {
            let (Some(given), Ok((time, nonce))) = (again.get(name), signed_parts(again)) else { return false };
            // Of a GET the cipher text is in the query, too.
            let sealed = sealed
                .map(|sealed| if query.get("echostr") == Some(sealed) { again.get("echostr") } else { Some(sealed) });
            sealed.is_none_or(|sealed| sealed.is_some())
                && self.signed_by(given, time, nonce, sealed.flatten()).is_some()
        };
        if query.decoded_again().is_some_and(|again| is_signed_again(&again)) {
            return "it matches once the query is decoded again";
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
        let time = captured.query.require(name).map_err(|refusal| failed(FRESHNESS, &refusal, ""))?;
        match self.check_age(name, time, captured.now) {
            Ok(()) => {
                steps.push(passed(FRESHNESS, "within `max_age`".to_owned()));
                Ok(())
            }
            Err(Refusal::Stale(age)) => {
                let limit = duration_in_words(self.max_age.unwrap_or_default());
                let detail = format!(
                    "{}; the server takes {limit}: normal for a captured request; if it has just arrived, a clock is wrong",
                    Age(age)
                );
                steps.push(Step { name: FRESHNESS, result: StepResult::Failed, detail });
                Ok(())
            }
            Err(refusal) => Err(failed(FRESHNESS, &refusal, "")),
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

/// The step that looks at the time of a request.
const FRESHNESS: &str = "freshness";

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
