//! The code of the pages, compiled as readers paste it, and registered.

#![cfg(test)]

use std::{future::Future, pin::Pin};

use echostr::{
    clock::Clock,
    config::Config,
    events::{mp, wecom},
    hooks::{HandlerError, Hooks},
    server::Server,
};
use echostr_testing::{TestServer, sample};

/// Sets up hooks for a configuration.
type SetUp = for<'c> fn(&'c Config) -> Pin<Box<dyn Future<Output = Result<Hooks, HandlerError>> + 'c>>;

/// What [`HOOKS`] and [`SET_UPS`] list, by page.
// Readers write as they like.
#[allow(clippy::all, dead_code, missing_docs, unreachable_pub)]
mod pages {
    use super::{Hooks, SetUp};

    include!(concat!(env!("OUT_DIR"), "/pages.rs"));
}

/// The program that a fork begins with.
#[path = "../../../fork/src/main.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod fork;

use pages::{HOOKS, SET_UPS};

fn config(text: &str) -> Config {
    Config::parse(text, "test", |name| std::env::var(name)).unwrap_or_else(|failure| panic!("{failure}"))
}

/// All accounts have handlers of the demo, and `[handlers.greeter]` is what a page reads.
const DEMO: &str =
    "[handlers.demo]\nwelcome = \"Hello.\"\n[handlers.greeter]\ngreeting = \"Hi.\"\napi_key = \"none\"\n";

#[tokio::test]
async fn every_file_can_be_registered_alone_and_before_the_demo() {
    let config = config(DEMO);
    let demo = || echostr::demo::hooks(&config).expect("the demo").expect("its table is there");
    for (file, hooks) in HOOKS {
        assert!(!format!("{:?}", hooks().with_defaults(demo())).is_empty(), "{file}");
    }
    for (file, set_up) in SET_UPS {
        let hooks = set_up(&config).await.unwrap_or_else(|failure| panic!("{file}: {failure}"));
        drop(hooks.with_defaults(demo()));
    }
    assert!(HOOKS.len() > 10 && SET_UPS.len() > 2, "{} and {}", HOOKS.len(), SET_UPS.len());
}

/// The handlers of the README, of all accounts or of one, before those of the demo.
async fn readme(config: &Config, of_account: bool) -> Result<Hooks, HandlerError> {
    let (_, readme) = HOOKS.iter().find(|(file, _)| file.starts_with("README.md")).ok_or("it has handlers")?;
    let hooks = match of_account {
        true => Hooks::default().account("mp/test", readme()),
        false => readme(),
    };
    Ok(hooks.with_defaults(echostr::demo::hooks(config)?.unwrap_or_default()))
}

/// The handlers of the README beside the demo, behind a server, also as those of one account.
#[tokio::test]
async fn the_handlers_of_the_readme_answer_before_the_demo_and_before_rules() {
    const DEMO: &str = "[handlers.demo]\nwelcome = 'Hello.'\n";
    const RULE: &str = "[[answer]]\nname = 'images'\nmatch = ['mp/test:mp.message.image', 'mp/test:mp.message.text']\ntext = 'A rule.'\n";
    for of_account in [false, true] {
        let server = TestServer::builder()
            .config(DEMO)
            .start_with(async |config: &Config| readme(config, of_account).await)
            .await;
        let mut message: mp::TextMessage = sample();
        message.content = "hi".to_owned();
        assert_eq!(server.send(&message).await.text().as_deref(), Some("You wrote: hi"));
        assert_eq!(server.send(&sample::<mp::Subscribe>()).await.text().as_deref(), Some("Hello."));
        let mut message: wecom::TextMessage = sample();
        message.content = "hi".to_owned();
        assert_eq!(server.send(&message).await.text().as_deref(), Some("echo: hi"));
    }
    // A rule for the demo's event only: the demo comes last.
    let only_images = RULE.replace(", 'mp/test:mp.message.text'", "");
    let server = TestServer::builder()
        .config(&format!("{DEMO}{only_images}"))
        .start_with(async |config: &Config| readme(config, false).await)
        .await;
    assert_eq!(server.send(&sample::<mp::ImageMessage>()).await.text().as_deref(), Some("A rule."));
    // And one for what a handler answers: both are named.
    let both = config(&format!(
        "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n[journal]\nurl = 'memory:'\n\
         [mp.test]\napp_id = 'wx0123456789abcdef'\ntoken = 'token'\nmode = 'plain'\n{DEMO}{RULE}"
    ));
    let hooks = readme(&both, false).await.expect("the hooks");
    let failure = Server::bind(&both, hooks, Clock::system()).await.expect_err("two would answer").to_string();
    assert!(failure.contains("[[answer]] `images`") && failure.contains("shop.rs"), "{failure}");
}
