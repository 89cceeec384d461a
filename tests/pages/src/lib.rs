//! The code of the pages, compiled as readers paste it, and registered.

#![cfg(test)]

use std::{future::Future, pin::Pin};

use echostr::{
    config::Config,
    hooks::{HandlerError, Hooks},
};

/// Sets up hooks for a configuration.
type SetUp = for<'c> fn(&'c Config) -> Pin<Box<dyn Future<Output = Result<Hooks, HandlerError>> + 'c>>;

/// What [`HOOKS`] and [`SET_UPS`] list, by page.
// Readers write as they like.
#[allow(clippy::all, dead_code, missing_docs, unreachable_pub)]
mod pages {
    use super::{Hooks, SetUp};

    include!(concat!(env!("OUT_DIR"), "/pages.rs"));
}

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
