//! `echostr demo`: serves an account per platform, and plays the platforms against itself over TCP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{Done, accounts, serve, table};
use crate::{
    catalog,
    clock::Clock,
    config::Config,
    delivery::Endpoint,
    demo,
    event::Platform,
    server::{Server, StartError},
    simulate::{Answer, Player, Push, SimulateError, api::FakeApi},
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Exit after printing the table instead of serving on
    #[arg(long)]
    once: bool,
    /// Address to listen on [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let mut config = accounts::demo()?;
    serve::start_log(&config.log)?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    } else if arguments.once {
        config.server.listen = ANY_PORT;
    }
    if arguments.once {
        config.admin.listen = ANY_PORT;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve_and_play(config, arguments))
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn serve_and_play(mut config: Config, arguments: &Arguments) -> Done {
    let api = FakeApi::start(rand::random()).await?;
    api.play_for(&mut config);
    let server = bind(&mut config, arguments.listen.is_some()).await?;
    let base = format!("http://{}", server.address()?);
    let admin = server.admin_address()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let scenes = play(&config, &base, &api).await?;
    let failures = print(&scenes);
    if !arguments.once {
        println!();
        println!("Serving on {base}, metrics on http://{admin}/metrics. Try it from another terminal:");
        println!("  echostr simulate mp/demo mp.message.text --set Content=hi --url {base}");
        println!("Ctrl-C ends it.");
        serve::stop()?.await;
    }
    let _ = stop.send(());
    serving.await??;
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes free ports when the usual ones are taken and nobody asked for them.
async fn bind(config: &mut Config, asked: bool) -> Result<Server, Box<dyn std::error::Error>> {
    let first = Server::bind(config, demo::hooks(config)?.unwrap_or_default(), Clock::system()).await;
    match first {
        Err(StartError::Listen { .. }) if !asked => {
            config.server.listen = ANY_PORT;
            config.admin.listen = ANY_PORT;
            Ok(Server::bind(config, demo::hooks(config)?.unwrap_or_default(), Clock::system()).await?)
        }
        other => Ok(other?),
    }
}

/// One line of the table.
struct Scene {
    account: &'static str,
    sent: String,
    answer: Answer,
    /// What the opened answer has to hold.
    expected: Vec<&'static str>,
    status: u16,
}

impl Scene {
    fn fault(&self) -> Option<String> {
        if self.answer.status != self.status {
            return Some(format!("status {} instead of {}", self.answer.status, self.status));
        }
        let missing = self.expected.iter().find(|part| !self.answer.body.contains(**part));
        let missing = missing.map(|part| format!("the answer lacks {part}"));
        missing.or_else(|| self.answer.fault.clone().filter(|_| self.status == 200))
    }
}

/// A push of the story: what is sent, and what the opened answer has to hold.
struct Chapter {
    account: &'static str,
    event: &'static str,
    /// Fields of the sample that are replaced.
    set: &'static [(&'static str, &'static str)],
    expected: &'static [&'static str],
}

/// What the platforms do, in the order of the table.
const STORY: [Chapter; 13] = [
    Chapter {
        account: "mp/demo",
        event: "mp.message.text",
        set: &[("Content", "你好 echostr")],
        expected: &["<![CDATA[echo: 你好 echostr]]>"],
    },
    Chapter {
        account: "mp/plain",
        event: "mp.message.text",
        set: &[("Content", "in the clear")],
        expected: &["<![CDATA[echo: in the clear]]>"],
    },
    Chapter {
        account: "mp/demo",
        event: "mp.event.subscribe",
        set: &[("EventKey", "")],
        expected: &["<![CDATA[Welcome!"],
    },
    Chapter { account: "mp/demo", event: "mp.event.templatesendjobfinish", set: &[], expected: &["success"] },
    Chapter {
        account: "miniprogram/demo",
        event: "miniprogram.event.user_enter_tempsession",
        set: &[],
        expected: &["success"],
    },
    Chapter {
        account: "wecom/demo",
        event: "wecom.message.text",
        set: &[("Content", "hello")],
        expected: &["<![CDATA[echo: hello]]>"],
    },
    Chapter {
        account: "wecom_bot/demo",
        event: "wecom_bot.message.text",
        set: &[("text.content", "hello")],
        expected: &[r#""content":"echo: hello""#, r#""finish":true"#],
    },
    Chapter { account: "wecom_suite/demo", event: "wecom_suite.info.create_auth", set: &[], expected: &["success"] },
    Chapter { account: "openplatform/demo", event: "openplatform.info.authorized", set: &[], expected: &["success"] },
    Chapter {
        account: "im/demo",
        event: "im.command.sns.prev_friend_add",
        set: &[],
        expected: &[r#""To_Account":"u_3107","ResultCode":0"#, r#""To_Account":"u_3108","ResultCode":38000"#],
    },
    Chapter {
        account: "im/demo",
        event: "im.command.group.before_invite_join_group",
        set: &[("DestinationMembers.Member_Account", "u_3108")],
        expected: &[r#""RefusedMembers_Account":["u_3108"]"#],
    },
    Chapter {
        account: "im/demo",
        event: "im.command.c2c.before_send_msg",
        set: &[("MsgBody.MsgContent.Text", "no gambling here")],
        expected: &["no ******** here"],
    },
    Chapter { account: "im/demo", event: "im.command.sns.friend_add", set: &[], expected: &[r#""ActionStatus":"OK""#] },
];

async fn play(config: &Config, base: &str, api: &FakeApi) -> Result<Vec<Scene>, Box<dyn std::error::Error>> {
    let now = Clock::system().now();
    let mut scenes = Vec::new();
    for account in ["mp/demo", "wecom/demo"] {
        let endpoint = accounts::endpoint(config, account)?;
        let player = player(&endpoint, base)?;
        if let Some(answer) = player.check_url("1616140317555161061", now).await? {
            let sent = "GET, URL check (echostr 1616140317555161061)".to_owned();
            scenes.push(Scene { account, sent, answer, expected: vec!["1616140317555161061"], status: 200 });
        }
    }
    for Chapter { account, event, set, expected } in STORY {
        let endpoint = accounts::endpoint(config, account)?;
        let player = player(&endpoint, base)?;
        let push = sample(event, set, now)?;
        let answer = player.deliver(&push, now).await?;
        let sent = describe(&endpoint, event, set);
        scenes.push(Scene { account, sent, answer, expected: expected.to_vec(), status: 200 });
    }
    customer_service(config, base, api, now, &mut scenes).await?;
    repeat(config, base, now, &mut scenes).await?;
    Ok(scenes)
}

/// A customer enters and writes; the callback only announces it, and the answers are sent by API.
async fn customer_service(
    config: &Config,
    base: &str,
    api: &FakeApi,
    now: i64,
    scenes: &mut Vec<Scene>,
) -> Result<(), Box<dyn std::error::Error>> {
    const DESK: &str = "wkDemoDesk00000000000000000000000";
    const CUSTOMER: &str = "wmDemoCustomer00000000000000000";
    let account = "wecom_kf/demo";
    let endpoint = accounts::endpoint(config, account)?;
    let player = player(&endpoint, base)?;
    api.customer_enters(DESK, CUSTOMER);
    api.customer_writes(DESK, CUSTOMER, "你好");
    let token = api.callback_token(DESK);
    let began = Instant::now();
    let push = sample("wecom.event.kf_msg_or_event", &[("Token", &token), ("OpenKfId", DESK)], now)?;
    let answer = player.deliver(&push, now).await?;
    let sent = describe(&endpoint, "wecom.event.kf_msg_or_event", &[]);
    scenes.push(Scene { account, sent, answer, expected: Vec::new(), status: 200 });
    let sent = timeout(SEND_TIMEOUT, api.sent_at_least(2)).await.unwrap_or_default();
    let took = began.elapsed();
    for (what, path, expected) in [
        ("enters the session", "/cgi-bin/kf/send_msg_on_event", "Welcome!"),
        ("writes 你好", "/cgi-bin/kf/send_msg", "echo: 你好"),
    ] {
        let body = sent.iter().find(|one| one.path == path).map(|one| one.body.to_string());
        let body = body.map_or_else(|| "nothing was sent".to_owned(), |body| format!("POST {path} {body}"));
        let answer = Answer { status: 200, body, sealed: false, fault: None, took };
        let sent = format!("the customer {what}; pulled by kf/sync_msg");
        scenes.push(Scene { account, sent, answer, expected: vec![expected], status: 200 });
    }
    Ok(())
}

/// How long the answers may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// The platform retries, and somebody else forges a request.
async fn repeat(
    config: &Config,
    base: &str,
    now: i64,
    scenes: &mut Vec<Scene>,
) -> Result<(), Box<dyn std::error::Error>> {
    let account = "mp/demo";
    let endpoint = accounts::endpoint(config, account)?;
    let player = player(&endpoint, base)?;
    let push = sample("mp.message.text", &[("Content", "once")], now)?;
    player.deliver(&push, now).await?;
    let answer = player.deliver(&push, now).await?;
    let sent = "mp.message.text, delivered a second time".to_owned();
    scenes.push(Scene { account, sent, answer, expected: vec!["echo: once"], status: 200 });
    let answer = player.deliver_forged(&push, now).await?;
    let sent = "mp.message.text, one bit of the signature wrong".to_owned();
    scenes.push(Scene { account, sent, answer, expected: vec!["wrong_signature"], status: 403 });
    Ok(())
}

fn player<'k>(endpoint: &'k Endpoint, base: &str) -> Result<Player<'k>, SimulateError> {
    Player::new(&endpoint.keys, format!("{base}{}", endpoint.account.path))
}

fn sample(event: &str, set: &[(&str, &str)], now: i64) -> Result<Push, Box<dyn std::error::Error>> {
    let platform: Platform = event.split('.').next().unwrap_or_default().parse()?;
    let entry = catalog::entries(platform)?.into_iter().find(|entry| entry.id == event);
    let entry = entry.ok_or_else(|| format!("the catalogue has no `{event}`"))?;
    let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Ok(Push::sample(&entry, None, &set, now)?)
}

fn describe(endpoint: &Endpoint, event: &str, set: &[(&str, &str)]) -> String {
    let set: Vec<_> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let sealed = if endpoint.keys.aes_keys.is_empty() { "" } else { ", encrypted" };
    format!("{event} {}{sealed}", set.join(" ")).replace(" ,", ",").trim().to_owned()
}

/// Prints the table; returns how many scenes failed.
fn print(scenes: &[Scene]) -> usize {
    let bold = |text: &str| {
        if table::has_colour() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    };
    println!("{}", bold(&format!("{:<17} {:>8}  what was sent, and what came back", "account", "ms")));
    let mut failures = 0;
    for scene in scenes {
        let took = scene.answer.took.as_secs_f64() * 1000.0;
        let how = match (scene.answer.status, scene.answer.sealed) {
            (200, true) => "decrypted: ".to_owned(),
            (200, false) => String::new(),
            (status, _) => format!("{status} "),
        };
        let body = if scene.answer.body.is_empty() { "(empty)" } else { &scene.answer.body };
        println!("{}", table::fitted(&format!("{:<17} {took:>8.2}  → {}", scene.account, scene.sent)));
        println!("{}", table::fitted(&format!("{:<26}  ← {how}{body}", "")));
        if let Some(fault) = scene.fault() {
            failures += 1;
            println!("{:<26}  {} {fault}", "", table::mark(false));
        }
    }
    println!();
    println!("{} of {} as expected", scenes.len() - failures, scenes.len());
    failures
}
