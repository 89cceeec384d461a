//! `echostr simulate PLATFORM/ACCOUNT EVENT`.

use std::{error::Error, net::IpAddr, process::ExitCode};

use super::{ConfigArgument, Done, accounts, runtime};
use crate::{
    catalog::{self, Entry},
    clock::Clock,
    config::Config,
    event::Platform,
    log::{escape, escape_lines},
    payload::Form,
    simulate::{self, Answer, Player, Push},
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The account, as in mp/shop
    account: String,
    /// Event type (mp.event.subscribe), its last part (subscribe), or its Rust type (Subscribe)
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
    /// Send JSON where the platform can send XML or JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("expected FIELD=VALUE")?;
    Ok((field.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let (config, endpoint) = accounts::load(&arguments.config, &arguments.account)?;
    let mut entry = find_event(endpoint.account.platform, &arguments.event)?;
    let mut set = arguments.set.clone();
    let of = Platform::of_account(&entry.id.replace('.', "/")).unwrap_or(endpoint.account.platform);
    if let Some((notice, kf_account)) = simulate::announcement(&entry)? {
        println!("{} is pulled, not pushed; sending the callback that announces it", entry.id);
        entry = notice;
        set.extend(kf_account);
    }
    let now = Clock::system().now();
    let form = arguments.json.then_some(Form::Json);
    let push = Push::sample(&entry, form, &set, now)?;
    let base = arguments.url.clone().unwrap_or_else(|| base_url(&config));
    let url = simulate::address(&base, &endpoint.account, of, &arguments.authorizer);
    let player = Player::new(&endpoint.keys, url)?;
    println!("→ {} to {} ({} bytes)\n{}", entry.id, arguments.account, push.payload.len(), escape_lines(&push.payload));
    let mut failed = false;
    runtime()?.block_on(async {
        for _ in 0..arguments.repeat {
            let answer = player.deliver(&push, Clock::system().now()).await?;
            print(&answer);
            failed |= answer.fault.is_some();
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(answer: &Answer) {
    let sealed = if answer.sealed { ", decrypted" } else { "" };
    println!("← {} in {:.1} ms{sealed}", answer.status, answer.took.as_secs_f64() * 1000.0);
    println!("{}", if answer.body.is_empty() { "(empty)".into() } else { escape_lines(&answer.body) });
    if let Some(fault) = &answer.fault {
        println!("✗ {}", escape(fault));
    }
}

/// Where the configured server is reached from here.
fn base_url(config: &Config) -> String {
    let mut address = config.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::from([127, 0, 0, 1]));
    }
    format!("http://{address}")
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
        0 => Err(format!("unknown event `{name}` of {platform}; `echostr catalog {platform}` lists them").into()),
        _ => {
            let ids: Vec<_> = found.iter().map(|entry| entry.id.as_str()).collect();
            Err(format!("`{name}` is ambiguous; expected one of {}", ids.join(", ")).into())
        }
    }
}
