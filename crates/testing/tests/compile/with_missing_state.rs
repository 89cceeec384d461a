//! A handler that is registered with a state does not take it.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};

fn main() {
    let _ = Hooks::with(7).on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(message.content)));
}
