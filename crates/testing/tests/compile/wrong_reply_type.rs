//! A responder gives something that is no reply of its event.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
};

fn main() {
    let _ = Hooks::default().on(async |message: mp::TextMessage, _: Context| Ok(message.content));
}
