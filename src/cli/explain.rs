//! `echostr explain PLATFORM/ACCOUNT --url '…' [--body FILE]`, and `echostr explain --recent`.

use std::{fs, net::IpAddr, path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::Value as Json;

use super::{
    ConfigArgument, Done, accounts,
    archive::{secret, usage},
    names,
    remote::RemoteArchive,
    runtime, table,
};
use crate::{
    clock::Clock,
    config::{Account, Config, Needs, find_config},
    delivery::{Endpoint, Neighbours},
    envelope::{Query, Refusal, Step, StepResult},
    log::{escape, escape_json},
    metrics::Metrics,
    secret::Secret,
    server::Routes,
};

/// Refusals that are shown of a running server.
const RECENT: usize = 20;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The account, as in mp/shop; with --recent only its refusals
    #[arg(required_unless_present = "recent")]
    account: Option<String>,
    /// The requested URL, or only its query string; with --recent the address of the admin listener, as in
    /// http://127.0.0.1:9180 [default with --recent: that of the configuration]
    #[arg(long, required_unless_present = "recent")]
    url: Option<String>,
    /// File with the posted body; without it the request is a GET
    #[arg(long, value_name = "FILE", conflicts_with = "recent")]
    body: Option<PathBuf>,
    /// Show the last 20 refusals of the running server, the newest first
    #[arg(long)]
    recent: bool,
    /// With --recent: `token` of [admin]; better in the variable, as arguments can be seen by others
    #[arg(long, value_name = "TOKEN", env = "ECHOSTR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// With --recent: print one JSON object per line
    #[arg(long, requires = "recent")]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    if arguments.recent {
        return runtime()?.block_on(recent(arguments));
    }
    let (Some(account), Some(url)) = (&arguments.account, &arguments.url) else {
        usage("give an account and --url, or --recent");
    };
    explain(arguments, account, url)
}

fn explain(arguments: &Arguments, id: &str, url: &str) -> Done {
    let (config, endpoint) = accounts::load_for(&arguments.config, id, Needs::NONE.with_accounts())?;
    let body = match &arguments.body {
        Some(path) => Some(fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => None,
    };
    let (path, query) = parts(url);
    let mut steps: Vec<Step> = path.map(|path| of_path(&config, id, &path)).into_iter().collect();
    match Query::parse(query) {
        Ok(query) => {
            let others = config.accounts.iter().filter(|account| account.websocket.is_none());
            let others = others.map(|account| Endpoint::new(account.clone(), &Metrics::new()));
            let endpoint = endpoint.among(&Neighbours::of(&others.collect::<Result<Vec<_>, _>>()?));
            steps.extend(endpoint.explain(&query, body.as_deref(), Clock::system().now()));
        }
        Err(refusal) => steps.push(unreadable(&refusal)),
    }
    for step in &steps {
        println!("{} {}: {}", table::mark(step.result == StepResult::Passed), step.name, escape(&step.detail));
    }
    if steps.iter().all(|step| step.result == StepResult::Passed) {
        println!("the account accepts this request");
        return Ok(ExitCode::SUCCESS);
    }
    // What could not be tried may be what would have fitted.
    for unread in &config.unread_accounts {
        println!("not tried: {}: {}", unread.account.id(), escape(&unread.why));
    }
    println!("the server refuses this request");
    Ok(ExitCode::FAILURE)
}

fn unreadable(refusal: &Refusal) -> Step {
    Step { name: "query", result: StepResult::Failed, detail: refusal.to_string() }
}

/// The path of a URL, if it has one, and its query.
fn parts(url: &str) -> (Option<String>, &str) {
    let url = url.split('#').next().unwrap_or_default();
    let (before, query) = url.split_once('?').unwrap_or_else(|| match url.contains('/') && !url.contains('=') {
        true => (url, ""),
        false => ("", url),
    });
    let is_host = |text: &str| text.contains(['.', ':']) || text == "localhost" || text.parse::<IpAddr>().is_ok();
    let rest = before.split_once("://").map(|(_, rest)| rest);
    let path = match (rest, before.split('/').next()) {
        (Some(rest), _) => Some(rest.find('/').map_or("/", |at| &rest[at..])),
        (None, Some("")) if before.is_empty() => None,
        (None, Some(host)) if is_host(host) => Some(before.find('/').map_or("/", |at| &before[at..])),
        (None, _) => Some(before),
    };
    let path = path.map(|path| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    (path, query)
}

/// Whether a request at a path reaches an account.
fn of_path(config: &Config, id: &str, path: &str) -> Step {
    let routes = Routes::new(config.known_accounts().cloned().map(Arc::new));
    let step = |result, detail| Step { name: "path", result, detail };
    match routes.find(path) {
        Some((found, _)) if found.id() == id => step(StepResult::Passed, format!("{path} is the account's")),
        Some((found, _)) => {
            let own = config.account(id).map_or("", |account| &account.path);
            let of = found.id();
            step(StepResult::Failed, format!("{path} is the path of {of}, not of {id}, which is at {own}"))
        }
        None => {
            let near = routes.nearest(path);
            let why = near.explanation(path).unwrap_or_else(|| format!("no account has the path {path}; {near}"));
            step(StepResult::Failed, format!("{why}; the server answers 404 to it"))
        }
    }
}

/// Shows what a running server has refused.
async fn recent(arguments: &Arguments) -> Done {
    let (url, token) = match &arguments.url {
        Some(url) => (url.clone(), arguments.token.clone()),
        None => {
            let path = find_config(arguments.config.config.as_deref())?;
            let config = Config::load_for(&path, Needs::NONE.with_admin())?;
            if let Some(account) = &arguments.account
                && config.known_accounts().all(|known| known.id() != *account)
            {
                let known: Vec<_> = config.known_accounts().map(Account::id).collect();
                return Err(names::unknown_account(account, &known).into());
            }
            (super::admin_url(&config), arguments.token.clone().or(config.admin.token))
        }
    };
    let refusals: Vec<Json> = RemoteArchive::new(&url, token)?.refusals().await?;
    let is_of = |refusal: &&Json| arguments.account.as_ref().is_none_or(|wanted| refusal["account"] == **wanted);
    let shown: Vec<&Json> = refusals.iter().filter(is_of).take(RECENT).collect();
    if shown.is_empty() {
        eprintln!("nothing was refused since the server started");
    }
    for refusal in shown {
        match arguments.json {
            true => println!("{}", escape_json(&refusal.to_string())),
            false => print(refusal),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(refusal: &Json) {
    let text = |name: &str| refusal[name].as_str().unwrap_or("-").to_owned();
    let count = refusal["count"].as_u64().filter(|count| *count > 1);
    let count = count.map_or_else(String::new, |count| format!(", {count} times"));
    let head = format!(
        "{} {} {} {} from {}: {}{count}",
        text("time"),
        text("account"),
        text("method"),
        text("path"),
        text("client"),
        text("reason")
    );
    println!("{}", escape(&head));
    let step = refusal["step"].as_str().map_or_else(String::new, |step| format!("{step}: "));
    println!("  {} {}", table::mark(false), escape(&format!("{step}{}", text("hint"))));
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_url_may_be_written_in_part() {
        for (url, path, query) in [
            ("https://a.example/mp/shop?signature=1&x=2#top", Some("/mp/shop"), "signature=1&x=2"),
            ("https://a.example?signature=1", Some("/"), "signature=1"),
            ("http://127.0.0.1:8080/mp/shop", Some("/mp/shop"), ""),
            ("a.example/mp/shop?signature=1", Some("/mp/shop"), "signature=1"),
            ("localhost:8080/mp/shop?signature=1", Some("/mp/shop"), "signature=1"),
            ("/mp/shop?signature=1", Some("/mp/shop"), "signature=1"),
            ("mp/shop?signature=1", Some("/mp/shop"), "signature=1"),
            ("/mp/shop", Some("/mp/shop"), ""),
            ("?signature=1", None, "signature=1"),
            ("signature=1&echostr=a/b", None, "signature=1&echostr=a/b"),
            ("", None, ""),
        ] {
            let (found, rest) = parts(url);
            assert_eq!((found.as_deref(), rest), (path, query), "{url}");
        }
    }
}
