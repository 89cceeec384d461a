//! Plays a platform against a running server: takes a sample of the catalogue, signs and seals it, posts it, and opens
//! what comes back as the platform would.

pub mod api;
mod fields;

use std::time::{Duration, Instant};

use crate::{
    catalog::{self, CatalogError, Entry},
    config::Account,
    envelope::{Keys, Mode, Refusal, SealError, Sender},
    event::{Platform, ReplyKind, by_id},
    http,
    payload::{self, Form, Number, Object, PayloadError, Value},
    platform,
};

/// How long an answer may take: longer than any platform waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Acts as the platform of one account.
pub struct Player<'k> {
    client: reqwest::Client,
    keys: &'k Keys,
    /// Address of the account: `http://127.0.0.1:8080/mp/shop`.
    url: String,
}

/// Where the platform delivers an event of `of` to an account: a message of an account that has authorised a third-party
/// platform has that one's AppID, `authorizer`, in the route: where its placeholder is, else at the end.
pub fn address(base: &str, account: &Account, of: Platform, authorizer: &str) -> String {
    let protocol = account.platform.protocol();
    let is_of_authorizer = protocol.routes_authorizers() && of != account.platform;
    let placeholder = protocol.placeholder().filter(|placeholder| account.path.contains(placeholder));
    let path = match placeholder {
        Some(placeholder) if is_of_authorizer => account.path.replace(placeholder, authorizer),
        Some(_) => account.default_path(),
        None if is_of_authorizer => format!("{}/{authorizer}", account.path),
        None => account.path.clone(),
    };
    format!("{}{path}", base.trim_end_matches('/'))
}

/// AppID of the authorizer whose messages a third-party platform is sent where none is named.
pub const AUTHORIZER: &str = "wx0000000000000000";

/// A callback that announces an event, and the field that is to be set in it.
pub type Announcement = (Entry, Option<(String, String)>);

/// The callback that announces an event which is pulled and not pushed, and what is to be set in it; `None` of others.
///
/// # Errors
/// Never, unless the build is broken.
pub fn announcement(entry: &Entry) -> Result<Option<Announcement>, CatalogError> {
    let platform = |id: &str| id.split('.').next().and_then(|name| name.parse::<Platform>().ok());
    let Some(notice) = platform(&entry.id).and_then(|of| of.protocol().announced_by()) else { return Ok(None) };
    let entries = platform(notice).map_or_else(|| Ok(Vec::new()), catalog::entries)?;
    let kf_account = kf_account(entry).map(|id| ("OpenKfId".to_owned(), id));
    Ok(entries.into_iter().find(|entry| entry.id == notice).map(|notice| (notice, kf_account)))
}

/// The customer-service account of a sample of `kf/sync_msg`.
fn kf_account(entry: &Entry) -> Option<String> {
    let sample: serde_json::Value = serde_json::from_str(entry.sample_json.as_deref()?).ok()?;
    let account = sample.get("open_kfid").or_else(|| sample.get("event")?.get("open_kfid"))?;
    account.as_str().map(str::to_owned)
}

/// A delivery to be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The payload.
    pub payload: String,
    /// Its syntax.
    pub form: Form,
    /// IM's `CallbackCommand`.
    pub command: Option<String>,
    /// What the platform does with the answer.
    pub reply: ReplyKind,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, opened when it was sealed.
    pub body: String,
    /// Whether it was sealed.
    pub sealed: bool,
    /// From the first byte sent to the last one received.
    pub took: Duration,
    /// Why the platform would not take it; `None` when it would.
    pub fault: Option<String>,
}

/// Why a delivery could not be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The server cannot be reached, or did not answer.
    #[error("no answer from {url}: {cause}")]
    Unreachable {
        /// Where it was sought.
        url: String,
        /// What went wrong, with its causes and what to do.
        cause: String,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// The request cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There are no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogError),
    /// The catalogue has no sample of the event.
    #[error("the catalogue has no sample of `{0}`")]
    NoSample(String),
    /// The sample cannot be read.
    #[error("the sample of `{event}` cannot be read: {source}")]
    Sample {
        /// The event.
        event: String,
        /// What is wrong with it.
        source: PayloadError,
    },
    /// A field to be set does not exist.
    #[error("no field `{field}`; {hint}")]
    Field {
        /// As it was written.
        field: String,
        /// Which one is meant, or which there are.
        hint: String,
    },
    /// A field cannot be set as a text.
    #[error("`{field}` {hint}")]
    Unsettable {
        /// As it was written.
        field: String,
        /// Why not.
        hint: String,
    },
}

impl Push {
    /// The sample of an event, as if it happened now: time and message id are new, `set` fields are replaced.
    ///
    /// # Errors
    /// [`SimulateError`] when there is no sample, or a field cannot be set.
    pub fn sample(
        entry: &Entry,
        form: Option<Form>,
        set: &[(String, String)],
        now: i64,
    ) -> Result<Self, SimulateError> {
        let forms = match form {
            Some(form) => vec![form],
            None => vec![Form::Xml, Form::Json],
        };
        let sample = forms.into_iter().find_map(|form| catalog::sample(entry, form).map(|text| (form, text)));
        let (form, text) = sample.ok_or_else(|| SimulateError::NoSample(entry.id.clone()))?;
        let tree =
            payload::parse(form, text).map_err(|source| SimulateError::Sample { event: entry.id.clone(), source })?;
        let Value::Object(mut tree) = tree else { return Err(SimulateError::NoSample(entry.id.clone())) };
        freshen(&mut tree, now)?;
        for (path, value) in set {
            fields::set(entry, &mut tree, path, value)?;
        }
        let payload = match form {
            Form::Xml => payload::write_xml(&tree),
            Form::Json => payload::write_json(&tree),
        };
        let command = entry.select.get("CallbackCommand").cloned();
        let reply = by_id(&entry.id).map_or(ReplyKind::Success, |spec| spec.reply);
        Ok(Self { payload, form, command, reply })
    }
}

/// Makes the sample a new event: it happens now, and has an id of its own.
fn freshen(tree: &mut Object<'_>, now: i64) -> Result<(), SimulateError> {
    let id = u64::from_be_bytes(random()?) >> 2;
    for (name, value) in [("CreateTime", now), ("TimeStamp", now), ("EventTime", now.saturating_mul(1000))] {
        if tree.get(name).is_some() {
            tree.set(name, Value::Number(Number::Int(value)));
        }
    }
    for name in ["MsgId", "msgid"] {
        if tree.get(name).is_some() {
            tree.set(name, Value::Text(id.to_string().into()));
        }
    }
    Ok(())
}

impl<'k> Player<'k> {
    /// Plays the platform of `keys` towards the account at `url`.
    ///
    /// # Errors
    /// [`SimulateError::Client`] when the HTTP client cannot be set up.
    pub fn new(keys: &'k Keys, url: String) -> Result<Self, SimulateError> {
        let client = http::builder().timeout(PATIENCE);
        // A proxy cannot reach this machine by that name.
        let is_local = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|own| url.starts_with(own));
        let client = if is_local { client.no_proxy() } else { client };
        let client = client.build().map_err(|failure| SimulateError::Client(http::causes(failure)))?;
        Ok(Self { client, keys, url })
    }

    /// Checks the URL, as the console does when it is saved; `None` for IM, which has no check.
    ///
    /// # Errors
    /// [`SimulateError`] when there is no answer.
    pub async fn check_url(&self, echo: &str, now: i64) -> Result<Option<Answer>, SimulateError> {
        let (nonce, random) = (nonce()?, random()?);
        let Some(request) = Sender::new(self.keys).url_check(echo, now, &nonce, random)? else { return Ok(None) };
        let get = self.client.get(format!("{}?{}", self.url, request.query));
        let mut answer = self.send(get).await?;
        if answer.fault.is_none() && answer.body != echo {
            let is_there =
                answer.body.trim_matches(|other: char| other.is_whitespace() || "\u{FEFF}\"'".contains(other)) == echo;
            let what = if is_there { "has something around the echo" } else { "is not the echo" };
            answer.fault = Some(format!("the body {what}; the console wants it as it is, and nothing else"));
        }
        Ok(Some(answer))
    }

    /// Delivers a push once.
    ///
    /// # Errors
    /// [`SimulateError`] when there is no answer.
    pub async fn deliver(&self, push: &Push, now: i64) -> Result<Answer, SimulateError> {
        let (nonce, random) = (nonce()?, random()?);
        let sender = Sender::new(self.keys);
        let request = sender.deliver(&push.payload, push.form, push.command.as_deref(), now, &nonce, random)?;
        let post = self.client.post(format!("{}?{}", self.url, request.query)).body(request.body);
        let mut answer = self.send(post).await?;
        if answer.fault.is_some() {
            return Ok(answer);
        }
        match open(&sender, self.keys, &answer.body) {
            Ok(Some(opened)) => {
                answer.body = opened;
                answer.sealed = true;
            }
            Ok(None) => {}
            Err(refusal) => answer.fault = Some(format!("the reply cannot be opened: {refusal}")),
        }
        if answer.fault.is_none() {
            answer.fault = self.fault(push, &answer);
        }
        Ok(answer)
    }

    /// Delivers a push with one digit of its signature changed, which must be refused.
    ///
    /// # Errors
    /// [`SimulateError`] when there is no answer.
    pub async fn deliver_forged(&self, push: &Push, now: i64) -> Result<Answer, SimulateError> {
        let (nonce, random) = (nonce()?, random()?);
        let sender = Sender::new(self.keys);
        let mut request = sender.deliver(&push.payload, push.form, push.command.as_deref(), now, &nonce, random)?;
        for name in ["signature=", "Sign="] {
            let starts: Vec<_> = request.query.match_indices(name).map(|(at, _)| at + name.len()).collect();
            for at in starts {
                let digit = if request.query[at..].starts_with('0') { "1" } else { "0" };
                request.query.replace_range(at..=at, digit);
            }
        }
        self.send(self.client.post(format!("{}?{}", self.url, request.query)).body(request.body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, SimulateError> {
        let started = Instant::now();
        let unreachable = |failure: reqwest::Error| SimulateError::Unreachable {
            url: self.url.clone(),
            cause: http::causes(failure),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
        let body = response.text().await.map_err(unreachable)?;
        let fault = http::redirected(status, location.as_deref())
            .or_else(|| (status != 200).then(|| format!("status {status}; the platform wants 200")));
        Ok(Answer { status, body, sealed: false, took: started.elapsed(), fault })
    }

    /// Why the platform would not take an opened answer.
    fn fault(&self, push: &Push, answer: &Answer) -> Option<String> {
        let platform = self.keys.platform;
        let members = platform.protocol().answer_members();
        if !members.is_empty() {
            return members_fault(members, &answer.body);
        }
        let plain = answer.body.is_empty() || answer.body == "success";
        if plain {
            return (answer.sealed).then(|| "the plain success must not be sealed".to_owned());
        }
        if !answer.sealed && self.keys.mode == Mode::Safe {
            return Some("the reply is not encrypted, and the account is in safe mode".to_owned());
        }
        if platform::plain_success(platform).is_empty() && !matches!(push.reply, ReplyKind::Passive | ReplyKind::Body) {
            return Some("this event takes no reply".to_owned());
        }
        reply_fault(push, &answer.body)
    }
}

/// The opened body of a sealed answer; `None` when it is not sealed.
fn open(sender: &Sender<'_>, keys: &Keys, body: &str) -> Result<Option<String>, Refusal> {
    let sealed = body.contains("<Encrypt>") || body.contains("\"Encrypt\"") || body.contains("\"encrypt\"");
    if !sealed || keys.aes_keys.is_empty() {
        return Ok(None);
    }
    sender.open_reply(body).map(Some)
}

fn members_fault(members: &[&str], body: &str) -> Option<String> {
    let Ok(tree) = payload::parse(Form::Json, body) else { return Some("the answer is no JSON object".to_owned()) };
    let missing = members.iter().find(|name| tree.as_object().is_none_or(|answer| answer.get(name).is_none()));
    missing.map(|name| format!("the answer has no `{name}`"))
}

/// A passive reply goes back to who wrote; a structured answer is well-formed.
fn reply_fault(push: &Push, body: &str) -> Option<String> {
    let form = if body.starts_with('<') { Form::Xml } else { Form::Json };
    let Ok(reply) = payload::parse(form, body) else { return Some("the reply is not well-formed".to_owned()) };
    if form != push.form {
        return Some("the reply is not in the form of the request".to_owned());
    }
    if push.reply != ReplyKind::Passive {
        return None;
    }
    let sent = payload::parse(push.form, &push.payload).ok()?;
    let text = |tree: &Value<'_>, name: &str| tree.as_object().and_then(|it| it.text(name)).map(str::to_owned);
    let swapped = text(&reply, "ToUserName") == text(&sent, "FromUserName")
        && text(&reply, "FromUserName") == text(&sent, "ToUserName");
    (!swapped).then(|| "the reply does not go back to who wrote".to_owned())
}

fn random<const N: usize>() -> Result<[u8; N], SimulateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SimulateError::Random)?;
    Ok(bytes)
}

fn nonce() -> Result<String, SimulateError> {
    Ok((u32::from_be_bytes(random()?)).to_string())
}
