//! A responder gives a reply that is not wrapped in `Ok`.

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};

fn main() {
    let _ = Hooks::default().on(async |message: mp::TextMessage, _: Context| Reply::text(message.content));
}
