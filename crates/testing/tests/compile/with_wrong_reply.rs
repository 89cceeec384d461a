//! A responder with a state gives something that is no reply of its event.

use echostr::{events::mp, hooks::Hooks};

fn main() {
    let _ = Hooks::with(7).on(async |_, message: mp::TextMessage, _| Ok(message.content));
}
