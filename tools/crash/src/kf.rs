//! Customer service under failure: servers are killed while messages are pulled and answered, and the platform's API
//! misbehaves. Every message must be answered, and none twice.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crash::{
    Failure, check, effects,
    nodes::{Node, free_addresses},
    postgres::Postgres,
};
use echostr::{
    catalog,
    config::Config,
    event::Platform,
    internals::{delivery::Endpoint, metrics::Metrics},
    simulate::{
        Player, Push,
        api::{FakeApi, Faults},
    },
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{runtime::Runtime, time};

use crate::{JournalKind, KfArguments};

const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// How long a server that is ready lives, in milliseconds.
const LIFE_MILLIS: std::ops::Range<u64> = 200..2000;

/// How often WeCom delivers a callback that is not answered.
const MAX_ATTEMPTS: u32 = 3;

/// How long the rest may take, after the last kill.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(300);

/// Customers; one who writes more than five times before an answer comes would be answered five times only.
const CUSTOMERS: u64 = 4_000;

/// Returns whether every message was answered once.
pub(crate) fn run(arguments: &KfArguments) -> Result<bool, Failure> {
    if arguments.journal == JournalKind::Sqlite && arguments.nodes > 1 {
        return Err("several nodes need --journal postgres".into());
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let runtime = Runtime::new()?;
    let api = Arc::new(runtime.block_on(FakeApi::start(seed))?);
    let folder = tempfile::tempdir()?;
    let effects = folder.path().join("effects");
    fs::create_dir(&effects)?;
    let mut postgres = None;
    let journal = match arguments.journal {
        JournalKind::Sqlite => format!("sqlite://{}", folder.path().join("echostr.db").display()),
        JournalKind::Postgres => postgres.insert(Postgres::find(folder.path())?).url().to_owned(),
    };
    for account in 0..arguments.accounts {
        api.add_account(&corp(account), &secret(account));
    }
    let accounts = accounts(&api, arguments.accounts);
    let nodes = (0..arguments.nodes).map(|number| {
        let config = |address, admin| config(address, admin, &journal, &accounts);
        Node::with_config(folder.path(), &effects, number, config)
    });
    let mut nodes: Vec<Node> = nodes.collect::<Result<_, _>>()?;
    nodes.iter_mut().try_for_each(Node::start)?;
    nodes.iter_mut().try_for_each(Node::ready)?;
    api.set_page(50);
    api.set_faults(faults());

    let started = Instant::now();
    let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
    let [address, admin] = free_addresses()?;
    let own = config(address, admin, &journal, &accounts);
    let config = Config::parse(&own, "crash", |name| std::env::var(name))?;
    let callbacks = Arc::new(AtomicU64::new(0));
    let load =
        runtime.spawn(write(Arc::clone(&api), config.clone(), addresses, *arguments, seed, Arc::clone(&callbacks)));
    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    while kills < arguments.kills {
        thread::sleep(Duration::from_millis(random.random_range(LIFE_MILLIS)));
        let node = random.random_range(0..nodes.len());
        nodes[node].kill()?;
        nodes[node].start()?;
        nodes[node].ready()?;
        kills += 1;
    }
    runtime.block_on(load)??;
    let answered = runtime
        .block_on(async { time::timeout(CATCH_UP_TIMEOUT, api.sent_at_least(arguments.messages as usize)).await });
    let took = started.elapsed();
    // What would be sent twice would be sent now.
    thread::sleep(Duration::from_secs(2));
    for node in &mut nodes {
        let status = node.stop()?;
        if !status.success() {
            return Err(format!("a server that was asked to stop ended with {status}\n{}", node.log()).into());
        }
    }

    let sent = api.sent();
    let mut times: HashMap<String, u32> = HashMap::new();
    for message in &sent {
        *times.entry(message.body["text"]["content"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let unanswered = (0..arguments.messages).filter(|number| !times.contains_key(&reply(*number))).count();
    let twice = times.values().filter(|times| **times > 1).count();
    let runs = effects::names(&effects)?;
    let handled: HashSet<_> = runs.iter().collect();
    let unhandled = (0..arguments.messages).filter(|number| !handled.contains(&text(*number))).count();
    let wrong_cursors = runtime.block_on(wrong_cursors(&api, &config, arguments.accounts))?;
    let counts = api.counts();
    let most_tokens = u64::from(arguments.accounts) * (counts.revocations + 1);
    let panics: usize = nodes.iter().map(|node| node.log().matches("panicked").count()).sum();

    println!("{:<58} {kills:>8}", "kills of a server");
    println!("{:<58} {:>8.1}", "seconds", took.as_secs_f64());
    println!("{:<58} {:>8}", "messages of customers", arguments.messages);
    println!("{:<58} {:>8}", "callbacks that were answered with 200", callbacks.load(Ordering::Relaxed));
    for path in ["/cgi-bin/kf/sync_msg", "/cgi-bin/kf/send_msg", "/cgi-bin/gettoken"] {
        println!("{:<58} {:>8}", format!("calls of {path}"), counts.calls.get(path).copied().unwrap_or_default());
    }
    println!("{:<58} {:>8}", "revocations of all access tokens", counts.revocations);
    println!("{:<58} {:>8}", format!("access tokens made, at most {most_tokens}"), counts.tokens);
    println!("{:<58} {:>8}", "messages sent", sent.len());
    println!("{:<58} {:>8}", "sent again under the same id, and refused", counts.repeats);
    println!("{:<58} {:>8}", "runs of the responder", runs.len());
    for (what, count) in [
        ("messages that no responder saw", unhandled),
        ("messages without an answer", unanswered),
        ("messages that were answered twice", twice),
        ("cursors that are not at the end", wrong_cursors),
        ("panics in the logs", panics),
        (
            "access tokens beyond one for each account and revocation",
            counts.tokens.saturating_sub(most_tokens) as usize,
        ),
    ] {
        println!("{what:<58} {count:>8}   must be 0");
    }
    let right = answered.is_ok()
        && [unhandled, unanswered, twice, wrong_cursors, panics] == [0; 5]
        && counts.tokens <= most_tokens;
    if !right {
        eprintln!("FAILED; the files are in {}", folder.keep().display());
    }
    Ok(right)
}

fn faults() -> Faults {
    Faults {
        bad_gateway: 0.01,
        busy: 0.01,
        limited: 0.005,
        garbage: 0.01,
        cut: 0.02,
        silent: 0.001,
        empty_page: 0.05,
        duplicates: 0.1,
        shuffled: 0.1,
        revoked: 0.0005,
    }
}

fn corp(account: u16) -> String {
    format!("ww000000000000000{account}")
}

fn secret(account: u16) -> String {
    format!("kfSecret{account}")
}

fn desk(account: u16) -> String {
    format!("wkDesk{account}")
}

fn text(number: u64) -> String {
    format!("m{number}")
}

fn reply(number: u64) -> String {
    format!("echo: {}", text(number))
}

fn accounts(api: &FakeApi, count: u16) -> String {
    let account = |account| {
        format!(
            "[wecom_kf.a{account}]\ncorp_id = \"{}\"\ntoken = \"kfToken{account}\"\naes_key = \"{AES_KEY}\"\n\
             secret = \"{}\"\napi_base = \"{}\"\nbacklog = \"3d\"\n",
            corp(account),
            secret(account),
            api.url()
        )
    };
    (0..count).map(account).collect()
}

fn config(listen: SocketAddr, admin: SocketAddr, journal: &str, accounts: &str) -> String {
    format!(
        "[server]\nlisten = \"{listen}\"\n[admin]\nlisten = \"{admin}\"\n[journal]\nurl = \"{journal}\"\n\
         [observers]\nmax_attempts = 1000\nbackoff = \"50ms..500ms\"\n[api]\ntimeout = \"1s\"\nlimit_pause = \"100ms\"\n\
         [log]\nlevel = \"error\"\n{accounts}"
    )
}

/// Customers write; the platform announces it, three times if need be. At the end each desk is announced until it is
/// answered, as the next customer would.
async fn write(
    api: Arc<FakeApi>,
    config: Config,
    addresses: Vec<SocketAddr>,
    arguments: KfArguments,
    seed: u64,
    answered: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut random = StdRng::seed_from_u64(!seed);
    let endpoints = config.accounts.iter().map(|account| Endpoint::new(account.clone(), &Metrics::new()));
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
    let callback = catalog::entries(Platform::WeCom)?.into_iter().find(|it| it.id == "wecom.event.kf_msg_or_event");
    let callback = callback.ok_or("the catalogue has no callback of customer service")?;
    for number in 0..arguments.messages {
        let account = random.random_range(0..arguments.accounts);
        api.customer_writes(&desk(account), &format!("wm{}", number % CUSTOMERS), &text(number));
        if number % 7 == 0 || number + u64::from(arguments.accounts) >= arguments.messages {
            for _ in 0..MAX_ATTEMPTS {
                let address = addresses[random.random_range(0..addresses.len())];
                if announce(&api, &endpoints[usize::from(account)], address, account, &callback).await {
                    answered.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                time::sleep(Duration::from_millis(100)).await;
            }
        }
        if number % 20 == 0 {
            time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        }
    }
    for account in 0..arguments.accounts {
        let address = || addresses[usize::from(account) % addresses.len()];
        while !announce(&api, &endpoints[usize::from(account)], address(), account, &callback).await {
            time::sleep(Duration::from_millis(100)).await;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn announce(
    api: &FakeApi,
    endpoint: &Endpoint,
    address: SocketAddr,
    account: u16,
    callback: &catalog::Entry,
) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let set = [("Token".to_owned(), api.callback_token(&desk(account))), ("OpenKfId".to_owned(), desk(account))];
    let url = format!("http://{address}{}", endpoint.account.path);
    let (Ok(player), Ok(push)) = (Player::new(&endpoint.keys, url), Push::sample(callback, None, &set, now)) else {
        return false;
    };
    player.deliver(&push, now).await.is_ok_and(|answer| answer.status == 200)
}

/// Desks whose cursor in the journal is not behind the last entry.
async fn wrong_cursors(api: &FakeApi, config: &Config, accounts: u16) -> Result<usize, Failure> {
    let name = |account| format!("kf/wecom_kf/a{account}/{}", desk(account));
    let places = check::leases(&config.journal, (0..accounts).map(name).collect()).await?;
    let is_wrong = |(account, place): &(u16, Option<String>)| {
        let end = format!("CURSOR_{}_", api.entries(&desk(*account)));
        !place.as_deref().is_some_and(|place| place.contains(&end))
    };
    Ok((0..accounts).zip(places).filter(is_wrong).count())
}
