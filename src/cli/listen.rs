//! `echostr listen`: events of a running server on a developer's machine, and answers from there.

use std::{process::ExitCode, sync::Arc, time::Duration};

use reqwest::{Method, StatusCode, Url};
use serde_json::Value as Json;
use tokio::{sync::Semaphore, time};
use uuid::Uuid;

use super::{
    Done,
    archive::{Source, secret},
    names,
    remote::RemoteArchive,
    runtime,
};
use crate::{
    answers::read_reply,
    clock::Clock,
    config::Target,
    event::Platform,
    journal::{Archive as _, Filter, JournalError, Stored},
    log::escape,
    secret::Secret,
    webhook::{Client, Guard, Message, Signer, SigningKey},
};

/// Events that are sent to the local address at one time.
const MAX_IN_FLIGHT: usize = 16;

/// How long the local address may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after the server could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// Most characters of a reply that are printed.
const SHOWN: usize = 200;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Where the events are sent, as in http://localhost:3000; what it responds is the reply, as of an [[answer]]
    #[arg(value_name = "URL", value_parser = target)]
    target: Url,
    /// Address of the admin listener of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    url: String,
    /// `token` of [admin]; better in the variable, as arguments can be seen by others
    #[arg(long, value_name = "TOKEN", env = "ECHOSTR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// Only these events, as in mp/shop, mp/shop:mp.message.* or mp/*
    #[arg(long = "match", value_name = "PATTERN", default_value = "*", value_parser = pattern)]
    filter: Filter,
    /// Signs what is sent to the local address, as an [[answer]] with this secret would
    #[arg(long, value_name = "WHSEC", env = "WEBHOOK_SECRET", hide_env_values = true, value_parser = signing_key)]
    secret: Option<SigningKey>,
}

fn target(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "expected a URL such as http://localhost:3000".to_owned())
}

fn signing_key(text: &str) -> Result<SigningKey, String> {
    SigningKey::parse(&Secret::new(text)).map_err(|wrong| wrong.to_string())
}

/// An account or a platform, and a type that may end with `*`.
fn pattern(text: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let (account, event_type) = text.split_once(':').map_or((text, None), |(account, rest)| (account, Some(rest)));
    match account.split_once('/') {
        _ if account == "*" => {}
        Some((platform, "*")) => {
            filter.platform = Some(platform.parse::<Platform>().map_err(|wrong| wrong.to_string())?)
        }
        Some((platform, name)) if platform.parse::<Platform>().is_ok() && !name.contains('*') => {
            filter.account = Some(account.to_owned());
        }
        _ => return Err("expected an account and an event type such as mp/shop:mp.message.*".to_owned()),
    }
    filter.event_type = event_type.filter(|event_type| *event_type != "*").map(str::to_owned);
    Ok(filter)
}

pub(super) fn run(arguments: Arguments) -> Done {
    runtime()?.block_on(listen(arguments))
}

async fn listen(Arguments { target, url, token, filter, secret }: Arguments) -> Done {
    let remote = RemoteArchive::new(&url, token)?;
    let mut place = remote.place().await?;
    let remote = Arc::new(remote.answering());
    names::check(&Source::remote(Arc::clone(&remote)), &filter).await?;
    let target = Target {
        url: target,
        signer: secret.map(|key| Signer { key, previous: None }),
        headers: Vec::new(),
        proxy: None,
        timeout: TIMEOUT,
    };
    let client = Client::new(&target, &Guard::default())?;
    eprintln!("for development only: events of {url} go to {}, which answers what nobody else answers", client.shown());
    let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    loop {
        let (events, next) = match remote.follow(&filter, place.clone(), MAX_IN_FLIGHT).await {
            Ok(followed) => followed,
            Err(failure) => {
                eprintln!("{failure}; trying again");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        place = next;
        for (stored, _) in events {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(ExitCode::SUCCESS) };
            let (remote, client) = (Arc::clone(&remote), client.clone());
            tokio::spawn(async move {
                let _permit = permit;
                handle(&remote, &client, &stored).await;
            });
        }
    }
}

/// Sends an event to the local address, and what that responds to the server.
async fn handle(remote: &RemoteArchive, client: &Client, stored: &Stored) {
    let (account, kind, id) = (&stored.record.account, &stored.record.event_type, stored.id);
    let subject = stored.record.subject.as_deref().unwrap_or("-");
    println!("{}", escape(&format!("{id} {account} {kind} {subject}")));
    let text = match ask(client, stored).await {
        Err(failure) => format!("no answer: {failure}"),
        Ok(reply) => {
            let shown: String = reply.to_string().chars().take(SHOWN).collect();
            match give(remote, id, &reply).await {
                Ok(true) => format!("answered {shown}"),
                Ok(false) if reply.is_null() => "done".to_owned(),
                Ok(false) => format!("not used, as it has another answer or is only acknowledged: {shown}"),
                Err(failure) => format!("not taken: {failure}"),
            }
        }
    };
    println!("{}", escape(&format!("{id} {text}")));
}

/// Gives the reply to an event; returns whether it is taken.
async fn give(remote: &RemoteArchive, event: Uuid, reply: &Json) -> Result<bool, JournalError> {
    let response = remote.send(Method::POST, &format!("/v1/events/{event}/reply"), Some(reply), true).await?;
    match response.status() {
        StatusCode::OK => Ok(true),
        StatusCode::CONFLICT => Ok(false),
        _ => Err(remote.refused(response).await),
    }
}

async fn ask(client: &Client, stored: &Stored) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
    let id = stored.id.to_string();
    let message = Message {
        id: &id,
        now: Clock::system().now(),
        content_type: "application/cloudevents+json; charset=utf-8",
        headers: Default::default(),
        query: None,
        body: stored.cloud_event().to_string().into(),
    };
    let response = client.post(message, None).await?;
    read_reply(response).await
}
