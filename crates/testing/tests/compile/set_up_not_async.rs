//! The set-up is not async.

use echostr::hooks::Hooks;

fn main() {
    echostr::run(|_config| Ok(Hooks::default()));
}
