//! `echostr simulate PLATFORM/ACCOUNT EVENT`.

use std::{error::Error, process::ExitCode};

use clap::ValueEnum;
use serde_json::json;

use super::{ConfigArgument, Done, accounts, archive::usage, names, reachable, runtime, table};
use crate::{
    catalog::{self, Entry},
    clock::Clock,
    config::Config,
    delivery::Endpoint,
    event::Platform,
    log::{escape, escape_json, escape_lines},
    payload::Form,
    simulate::{self, Answer, Player, Push},
    webhook::event_types,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The account, as in mp/shop
    account: String,
    /// Event type (mp.event.subscribe), its last part (subscribe), or its Rust type (Subscribe); or url-check, which the console
    /// does when an address is saved
    event: String,
    /// Replace a field of the sample, by its dotted path; can be repeated
    #[arg(long, value_name = "FIELD=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Base URL of the server [default: the configured address on this machine]
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
    /// Deliver the same event N times, as a platform that retries
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
    /// For a third-party platform: AppID of the authorizer whose message it is
    #[arg(long, value_name = "APPID", default_value = simulate::AUTHORIZER)]
    authorizer: String,
    /// Send this form, where the platform can send XML or JSON
    #[arg(long, value_name = "FORM")]
    form: Option<FormArgument>,
    /// Print one JSON object per delivery, or text for people
    #[arg(long, value_name = "OUTPUT", default_value = "text")]
    output: Output,
    /// What this was called when it meant only one of them.
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormArgument {
    Xml,
    Json,
}

impl From<FormArgument> for Form {
    fn from(form: FormArgument) -> Self {
        match form {
            FormArgument::Xml => Self::Xml,
            FormArgument::Json => Self::Json,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What is given instead of an event to check the address as the console does.
const URL_CHECK: &str = "url-check";

fn assignment(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("expected FIELD=VALUE")?;
    Ok((field.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> Done {
    if arguments.json {
        usage("--json could mean two things here: write --form json to send JSON, or --output json to print it");
    }
    let (config, endpoint) = accounts::load(&arguments.config, &arguments.account)?;
    if arguments.event == URL_CHECK {
        if !arguments.set.is_empty() || arguments.form.is_some() {
            usage("--set and --form are of events; the URL check has a query only");
        }
        return check_url(arguments, &config, &endpoint);
    }
    let mut entry = find_event(endpoint.account.platform, &arguments.event)?;
    let mut set = arguments.set.clone();
    let of = Platform::of_account(&entry.id.replace('.', "/")).unwrap_or(endpoint.account.platform);
    if let Some((notice, kf_account)) = simulate::announcement(&entry)? {
        println!("{} is pulled, not pushed; sending the callback that announces it", entry.id);
        entry = notice;
        set.extend(kf_account);
    }
    let now = Clock::system().now();
    let push = Push::sample(&entry, arguments.form.map(Into::into), &set, now)?;
    let base = arguments.url.clone().unwrap_or_else(|| base_url(&config));
    let url = simulate::address(&base, &endpoint.account, of, &arguments.authorizer);
    let player = Player::new(&endpoint.keys, url)?;
    if arguments.output == Output::Text {
        let (to, bytes, payload) = (&arguments.account, push.payload.len(), escape_lines(&push.payload));
        println!("→ {} to {to} ({bytes} bytes)\n{payload}", entry.id);
    }
    let mut failed = false;
    runtime()?.block_on(async {
        for _ in 0..arguments.repeat {
            let answer = player.deliver(&push, Clock::system().now()).await?;
            print(arguments, &entry.id, Some(&push.payload), &answer);
            failed |= answer.fault.is_some();
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Sends the GET with which the console checks an address.
fn check_url(arguments: &Arguments, config: &Config, endpoint: &Endpoint) -> Done {
    let platform = endpoint.account.platform;
    if !endpoint.keys.has_url_check() {
        let text =
            format!("the console of {platform} does not check the address with a GET: there is nothing to rehearse");
        return Err(text.into());
    }
    let base = arguments.url.clone().unwrap_or_else(|| base_url(config));
    let url = simulate::address(&base, &endpoint.account, platform, &arguments.authorizer);
    let player = Player::new(&endpoint.keys, url.clone())?;
    // As many digits as consoles send.
    let echo = (1_000_000_000_000_000_000 + rand::random_range(0..1_000_000_000_000_000_000_u64)).to_string();
    if arguments.output == Output::Text {
        println!("→ GET {} with an echostr of {} digits, as the console of {platform} does", escape(&url), echo.len());
    }
    let mut failed = false;
    runtime()?.block_on(async {
        for _ in 0..arguments.repeat {
            let Some(answer) = player.check_url(&echo, Clock::system().now()).await? else { continue };
            print(arguments, URL_CHECK, None, &answer);
            failed |= answer.fault.is_some();
            if arguments.output == Output::Text {
                let verdict = if answer.fault.is_none() { "accepts" } else { "does not accept" };
                println!("{} the console {verdict} this address", table::mark(answer.fault.is_none()));
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(arguments: &Arguments, what: &str, payload: Option<&str>, answer: &Answer) {
    if arguments.output == Output::Json {
        let line = json!({
            "account": arguments.account,
            "event": what,
            "payload": payload,
            "status": answer.status,
            "decrypted": answer.sealed,
            "body": answer.body,
            "milliseconds": answer.took.as_secs_f64() * 1000.0,
            "fault": answer.fault,
        });
        println!("{}", escape_json(&line.to_string()));
        return;
    }
    let sealed = if answer.sealed { ", decrypted" } else { "" };
    println!("← {} in {:.1} ms{sealed}", answer.status, answer.took.as_secs_f64() * 1000.0);
    println!("{}", if answer.body.is_empty() { "(empty)".into() } else { escape_lines(&answer.body) });
    if let Some(fault) = &answer.fault {
        println!("{} {}", table::mark(false), escape(fault));
    }
}

/// Where the configured server is reached from here.
fn base_url(config: &Config) -> String {
    format!("http://{}", reachable(config.server.listen))
}

fn unknown_event(platform: Platform, name: &str) -> String {
    let types: Vec<&str> = event_types(platform).collect();
    let hint = names::nearest_type(name, &types).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("unknown event `{name}` of {platform}{hint}; `echostr catalog {platform}` lists them")
}

/// The entry that `name` means on an account of `platform`.
pub(super) fn find_event(platform: Platform, name: &str) -> Result<Entry, Box<dyn Error>> {
    let named = name.split('.').next().and_then(|start| start.parse().ok());
    let announced = || platform.protocol().announced_by().into_iter().flat_map(|_| platform.protocol().receives_of());
    let platforms = match named {
        Some(named) => vec![named],
        None => std::iter::once(platform).chain(announced().copied()).collect(),
    };
    let mut found = Vec::new();
    for platform in platforms {
        for entry in catalog::entries(platform)? {
            if entry.id == name {
                return Ok(entry);
            }
            let end = entry.id.strip_suffix(name).is_some_and(|start| start.ends_with('.'));
            if end || entry.type_name == name || entry.select.values().any(|value| value == name) {
                found.push(entry);
            }
        }
    }
    // `text` is the end of `mp.message.text`, and not a wire value of an event.
    if found.len() > 1 {
        found.retain(|entry| entry.id.ends_with(&format!(".{name}")) || entry.type_name == name);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown_event(platform, name).into()),
        _ => {
            let ids: Vec<_> = found.iter().map(|entry| entry.id.as_str()).collect();
            Err(format!("`{name}` is ambiguous; expected one of {}", ids.join(", ")).into())
        }
    }
}
