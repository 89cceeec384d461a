//! Receives the callbacks of WeChat Official Accounts, Mini Programs, third-party platforms, WeCom and Tencent IM:
//! verifies and decrypts them, stores each event once, calls typed handlers and sends their replies.
//!
//! Most people need the `echostr` command; see the README. Your own program gets all of it - `serve`, `check`, `demo`,
//! `simulate`, `events`, logging, signals - with your handlers:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use echostr::{events::mp, hooks::{Context, Hooks}, replies::mp::Reply};
//!
//! fn main() -> ExitCode {
//!     echostr::run(async |_config| {
//!         Ok(Hooks::default()
//!             .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("You wrote: {}", message.content)))))
//!     })
//! }
//! ```
//!
//! To run the server inside another program:
//!
//! ```
//! use echostr::{
//!     clock::Clock,
//!     config::Config,
//!     events::mp,
//!     hooks::{Context, Hooks},
//!     replies::mp::Reply,
//!     server::Server,
//! };
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let config = r#"
//!     [server]
//!     listen = "127.0.0.1:0"
//!     [admin]
//!     listen = "127.0.0.1:0"
//!     [journal]
//!     url = "memory:"
//!     [mp.shop]
//!     app_id = "wx0123456789abcdef"
//!     token = "fakeToken"
//!     aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
//! "#;
//! let config = Config::parse(config, "example", |name| std::env::var(name))?;
//! let hooks = Hooks::default()
//!     .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("echo: {}", message.content))));
//! let server = Server::bind(&config, hooks, Clock::system()).await?;
//! println!("callbacks of mp/shop on http://{}/mp/shop", server.address()?);
//! server.run(async { /* until this is done: a signal, as a rule */ }).await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! | modules | what they do |
//! |---|---|
//! | [`run`] | the `echostr` command with your handlers |
//! | [`hooks`], [`event`], [`events`], [`replies`] | what handlers see: the registry, typed events, answers |
//! | [`server`], [`config`], [`secret`], [`clock`] | the server inside another program; the configuration; secrets that are never printed; the time of day |
//! | [`api`], [`media`], [`websocket`] | the platforms' API; media of messages to bots; bots that connect to the platform |
//! | [`crypto`], [`envelope`], [`payload`], [`platform`], [`wire`] | the protocol: an application can use the crate [`echostr_protocol`] alone |
//! | [`simulate`], [`catalog`], [`demo`] | playing the platform; the catalogue and its samples; the handlers of `[handlers.demo]` |
//!
//! Everything else is the server's own; ARCHITECTURE.md describes it.

use echostr_protocol::panics;
/// The protocol, which [`echostr_protocol`] documents: an application can use that crate alone.
pub use echostr_protocol::{crypto, envelope, event, events, payload, platform, replies, secret, wire};

pub use self::cli::run;

mod answers;
pub mod api;
mod background;
mod blocking;
mod bots;
pub mod catalog;
mod cli;
pub mod clock;
pub mod config;
mod delivery;
pub mod demo;
mod dispatch;
mod forward;
pub mod hooks;
mod http;
mod in_flight;
#[doc(hidden)]
pub mod internals;
mod journal;
mod kf;
mod late;
mod log;
pub mod media;
mod metrics;
mod next_message;
mod observers;
pub mod server;
pub mod simulate;
mod source;
mod stats;
mod streams;
mod supervisor;
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "only who exports looks into a span"))]
mod telemetry;
mod testing;
mod thirdparty;
mod throttle;
mod webhook;
pub mod websocket;

#[cfg(test)]
mod tests {
    use super::{config::Config, envelope::Refusal};

    #[test]
    fn every_reason_of_refusal_is_documented() {
        let page = include_str!("../docs/refusals.md");
        for reason in Refusal::REASONS {
            assert!(page.contains(&format!("\n| `{reason}` | 40")), "{reason}");
        }
    }

    #[test]
    fn the_configurations_of_the_documents_are_valid() {
        let documents = [
            include_str!("../README.md"),
            include_str!("../README.zh-CN.md"),
            include_str!("../docs/mp.md"),
            include_str!("../docs/miniprogram.md"),
            include_str!("../docs/wecom.md"),
            include_str!("../docs/wecom_kf.md"),
            include_str!("../docs/openplatform.md"),
            include_str!("../docs/wecom_suite.md"),
            include_str!("../docs/wecom_bot.md"),
            include_str!("../docs/wecom_bot.zh-CN.md"),
            include_str!("../docs/im.md"),
            include_str!("../docs/answer.md"),
            include_str!("../docs/answer.zh-CN.md"),
            concat!("```toml\n", include_str!("../docker/echostr.toml"), "```"),
        ];
        // What the pages about answers leave out.
        let account = "[mp.shop]\napp_id = \"wx0123456789abcdef\"\ntoken = \"token\"\n";
        for (at, document) in documents.into_iter().enumerate() {
            let lines = document.lines().map(str::trim_start);
            let mut blocks: Vec<Vec<&str>> = Vec::new();
            let mut is_toml = false;
            for line in lines {
                match line {
                    "```toml" => {
                        is_toml = true;
                        blocks.push(Vec::new());
                    }
                    "```" => is_toml = false,
                    line if is_toml => blocks.iter_mut().next_back().unwrap().push(line),
                    _ => {}
                }
            }
            assert!(!blocks.is_empty(), "document {at}");
            let is_of_answers = blocks.iter().all(|block| block.iter().any(|line| line.starts_with("[[answer]]")));
            // Other pages show a whole configuration first, and parts of one behind it.
            let blocks = if is_of_answers { blocks } else { blocks.into_iter().take(1).collect() };
            for block in blocks {
                let toml = block.join("\n").replace("{ file = \"/run/secrets/", "{ env = \"");
                let toml = if is_of_answers { format!("{account}{toml}") } else { toml };
                let secret = |name: &str| {
                    Ok(match name.to_lowercase() {
                        name if name.contains("aes_key") => "k".repeat(43),
                        name if name.starts_with("bot_secret") => {
                            "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=".to_owned()
                        }
                        _ => "token".to_owned(),
                    })
                };
                let config = Config::parse(&toml, "document", secret).unwrap();
                assert!(!config.accounts.is_empty(), "document {at}");
            }
        }
    }
}
