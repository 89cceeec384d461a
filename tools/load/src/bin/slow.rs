//! A server whose responders take two seconds, to keep many deliveries in flight at one time. Takes its configuration file.

use std::{error::Error, future::pending, path::Path, time::Duration};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
    server::Server,
};

/// As the real server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: slow CONFIG")?;
    let config = Config::load(Path::new(&path))?;
    let hooks = Hooks::default().on(async |message: mp::TextMessage, _: Context| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Reply::text(format!("echo: {}", message.content)))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        Server::bind(&config, hooks, Clock::system()).await?.run(pending()).await?;
        Ok(())
    })
}
