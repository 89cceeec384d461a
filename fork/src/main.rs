//! The `echostr` command, with the handlers of this fork.

mod handlers;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    echostr::run(handlers::hooks)
}
