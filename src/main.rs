//! The `echostr` command, with the handlers of this fork.

// A fork writes there as it likes.
#[allow(missing_docs, unreachable_pub)]
mod handlers;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    echostr::run(handlers::hooks)
}
