//! A bot in a crate of its own: `serve`, `check`, `demo`, `simulate`, `events` and the rest come with it.

use echostr::{events::mp::TextMessage, hooks::Hooks, replies::mp::Reply};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    echostr::run(async |_config| {
        Ok(Hooks::default()
            .on(async |message: TextMessage, _| Ok(Reply::text(format!("You wrote: {}", message.content)))))
    })
}
